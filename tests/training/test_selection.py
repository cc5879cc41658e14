"""The best epoch and early stopping; both survive JSON."""

from __future__ import annotations

import json

from tiedexp.training.selection import BestEpoch, EarlyStopping


def test_the_best_epoch_has_the_highest_accuracy_then_the_lowest_loss_then_comes_first():
    best = BestEpoch()
    chosen = []
    for epoch, (accuracy, loss) in enumerate([(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8), (0.6, 0.1)], start=1):
        best = best.update(epoch, accuracy, loss)
        chosen.append(best.epoch)
    assert chosen == [1, 2, 3, 3, 3]


def test_without_validation_the_last_epoch_is_the_best():
    assert BestEpoch().update(1, None, None).update(2, None, None).epoch == 2


def test_early_stopping_waits_for_an_improvement_larger_than_min_delta():
    stopping = EarlyStopping("accuracy", patience=2, min_delta=0.01)
    waited = []
    for accuracy in (0.5, 0.6, 0.605, 0.62, 0.62, 0.625):
        stopping = stopping.update(accuracy, 0.0)
        waited.append((stopping.waited, stopping.stops))
    assert waited == [(0, False), (0, False), (1, False), (0, False), (1, False), (2, True)]


def test_early_stopping_on_the_loss_wants_it_lower():
    stopping = EarlyStopping("loss", patience=1).update(0.9, 1.0).update(0.1, 0.5)
    assert not stopping.stops
    assert stopping.update(0.99, 0.6).stops


def test_both_survive_json():
    best = BestEpoch().update(3, 0.1, 0.7)
    stopping = EarlyStopping("loss", 4, 0.5).update(0.1, 0.2)
    assert BestEpoch(**json.loads(json.dumps(best.as_dict()))) == best
    assert EarlyStopping(**json.loads(json.dumps(stopping.as_dict()))) == stopping
