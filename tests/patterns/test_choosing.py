"""The estimate, and what it chooses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiedexp.errors import PatternError
from tiedexp.patterns import costs
from tiedexp.patterns.choosing import (
    NATIVE,
    Choice,
    choose,
    estimate_backward,
    estimate_forward,
    estimate_step,
    find_factoring,
    find_rotated_factoring,
    list_backward,
    list_forward,
)
from tiedexp.patterns.costs import ConvSize, count_parts
from tiedexp.patterns.grid import Pattern

SIZE = ConvSize(batch=32, input_size=(28, 28), output_size=(28, 28), in_channels=32, filters=64)
ROW = Pattern.preset("row", 5)


def test_multiplications_are_counted_by_hand() -> None:
    per_tap = 32 * 28 * 28 * 32 * 64
    assert estimate_forward(ROW, SIZE, "expand").multiplications == 25 * per_tap
    assert estimate_forward(ROW, SIZE, "boxes").multiplications == 5 * per_tap
    assert estimate_backward(ROW, SIZE, Choice()).multiplications == 50 * per_tap
    shared = Choice("expand", "boxes", "boxes", "output")
    assert estimate_backward(ROW, SIZE, shared).multiplications == 10 * per_tap
    assert estimate_step(ROW, SIZE, replace(shared, forward="boxes")).multiplications == 15 * per_tap


def test_sharing_saves_the_images() -> None:
    shared = estimate_backward(ROW, SIZE, Choice("expand", "boxes", "boxes", "output"))
    apart = estimate_backward(ROW, SIZE, Choice("expand", "boxes", "boxes", "input"))
    assert shared.elements_moved < apart.elements_moved
    assert shared.additions < apart.additions


def test_bytes_follow_the_elements() -> None:
    work = estimate_forward(ROW, SIZE, "boxes")
    assert work.bytes_moved(8) == 2 * work.bytes_moved(4) == 8 * work.elements_moved


def test_few_groups_are_factored_and_many_are_not() -> None:
    assert choose(ROW, SIZE) == Choice("boxes", "boxes", "boxes", "output")
    assert choose(Pattern.preset("tile", 5), SIZE).forward == "sums"
    assert choose(Pattern.preset("point", 5), SIZE).is_expanded
    assert choose(Pattern.preset("full", 5), SIZE, "factored").is_expanded


def test_compiled_code_is_chosen_where_it_can_run() -> None:
    for name in ("block", "row", "point", "d4", "mirror_h"):
        choice = choose(Pattern.preset(name, 5), SIZE, native=True)
        assert choice == Choice(NATIVE, NATIVE, NATIVE)
        assert NATIVE not in choose(Pattern.preset(name, 5), SIZE).as_dict().values()
    assert choose(Pattern.preset("full", 5), SIZE, native=True).is_expanded
    assert choose(ROW, SIZE, "factored", native=True).forward == NATIVE
    assert choose(ROW, replace(SIZE, strides=(2, 2)), native=True).input_gradient == "expand"


def test_compiled_code_counts_taps_and_sums() -> None:
    per_tap = 32 * 28 * 28 * 32 * 64
    work = estimate_forward(ROW, SIZE, NATIVE)
    assert work.multiplications == 5 * per_tap
    assert work.additions == 6 * 32 * 32 * 32 * 32  # three images of two terms, of the padded input
    both = estimate_backward(ROW, SIZE, Choice(input_gradient=NATIVE, weight_gradient=NATIVE))
    assert both.multiplications == 10 * per_tap


def test_many_sums_leave_room_for_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the rows around are then made again and again."""
    many = Pattern.of({"preset": "hashed", "groups": 60}, 11)
    work = estimate_forward(many, SIZE, NATIVE)
    monkeypatch.setattr(costs, "NATIVE_BUFFER", 10**9)
    roomy = estimate_forward(many, SIZE, NATIVE)
    assert work.multiplications == roomy.multiplications
    assert 1.1 * roomy.additions < work.additions < 2 * roomy.additions
    assert 1.5 * roomy.elements_moved < work.elements_moved < 5 * roomy.elements_moved
    assert work.cost > roomy.cost


def test_a_gradient_of_many_weights_costs_more() -> None:
    """They leave the cache, which weights that are only read do not mind."""
    for channels, low, high in ((32, 1.0, 1.1), (512, 2.0, 4.0)):
        size = replace(SIZE, in_channels=channels, filters=channels)
        dense = estimate_backward(ROW, size, Choice()).cost / 2
        gradient = estimate_backward(ROW, size, Choice(weight_gradient=NATIVE)).cost - dense
        assert low < gradient / estimate_forward(ROW, size, NATIVE).cost < high


def test_few_channels_are_expanded() -> None:
    """The sums cost the same for a channel whatever the filters; the multiplications they save do not."""
    block = Pattern.preset("block", 5)
    assert not choose(block, SIZE).is_expanded
    assert choose(block, replace(SIZE, in_channels=2, filters=2)).is_expanded


def test_small_images_are_expanded() -> None:
    """Starting an operation costs the same whatever it computes, and there are many."""
    block = Pattern.preset("block", 5)
    small = ConvSize(batch=64, input_size=(7, 7), output_size=(7, 7), in_channels=32, filters=64)
    assert choose(block, small).is_expanded
    assert not choose(ROW, small).is_expanded


@pytest.mark.parametrize(
    ("batch", "elements", "parts"),
    [(64, 64 * 16 * 16 * 64, 4), (64, 700_000, 2), (64, 100_000, 1), (3, 10**7, 1), (5, 10**7, 2)],
)
def test_parts_of_a_batch(batch: int, elements: int, parts: int) -> None:
    assert count_parts(batch, elements) == parts


def test_factored_is_factored_wherever_it_can_be() -> None:
    choice = choose(Pattern.preset("point", 5), SIZE, "factored")
    assert (choice.forward, choice.input_gradient, choice.weight_gradient) == ("sums", "sums", "sums")
    assert choose(ROW, SIZE, "expand").is_expanded


def test_with_strides_the_input_gradient_is_dense() -> None:
    size = replace(SIZE, output_size=(14, 14), strides=(2, 2))
    choice = choose(ROW, size, "factored")
    assert choice.forward == "boxes"
    assert choice.input_gradient == "expand"
    assert (choice.weight_gradient, choice.weight_gradient_of) == ("boxes", "input")


def test_groups_of_channels_are_expanded_or_compiled() -> None:
    size = replace(SIZE, groups=2)
    assert list_forward(ROW, size) == ["expand"]
    assert list_backward(ROW, size) == [Choice()]
    assert choose(ROW, size, "factored").is_expanded
    assert list_forward(ROW, size, native=True) == [NATIVE, "expand"]
    assert choose(ROW, size, native=True) == Choice(NATIVE, NATIVE, NATIVE)
    assert choose(ROW, replace(size, strides=(2, 2)), native=True).input_gradient == "expand"


DEPTHWISE = ConvSize(batch=32, input_size=(28, 28), output_size=(28, 28), in_channels=64, filters=64, groups=64)


def test_depthwise_reads_what_is_less() -> None:
    """Sums where they need fewer reads than the cells, which with strides they seldom do."""
    block, rings = Pattern.preset("block", 5), Pattern.preset("rings", 5)
    assert find_factoring(block, NATIVE, depthwise=True).name == "sums"
    assert find_factoring(block, NATIVE, depthwise=True, strides=(2, 2)).name == "cells"
    assert find_factoring(rings, NATIVE, depthwise=True).name == "cells"
    assert find_factoring(rings, NATIVE).name == "sums"
    assert find_rotated_factoring(block, NATIVE, depthwise=True).name == "sums"
    assert find_rotated_factoring(rings, NATIVE, depthwise=True).name == "cells"
    assert find_factoring(rings, "boxes", depthwise=True).name == "boxes"


def test_depthwise_choices() -> None:
    block = Pattern.preset("block", 5)
    assert choose(block, DEPTHWISE, native=True) == Choice("expand", NATIVE, NATIVE)
    assert choose(block, DEPTHWISE).is_expanded
    assert choose(block, DEPTHWISE, "factored", native=True) == Choice(NATIVE, NATIVE, NATIVE)
    assert choose(Pattern.preset("row", 11), DEPTHWISE, native=True) == Choice(NATIVE, NATIVE, NATIVE)
    assert choose(Pattern.preset("row", 3), DEPTHWISE, native=True).is_expanded  # TensorFlow is as fast
    dilated = replace(DEPTHWISE, dilation=(2, 2))
    assert choose(Pattern.preset("row", 3), dilated, native=True) == Choice(NATIVE, NATIVE, NATIVE)
    assert choose(block, replace(DEPTHWISE, batch=1, input_size=(2, 2), output_size=(2, 2)), native=True).is_expanded


def test_depthwise_multiplications_are_counted_by_hand() -> None:
    outputs = 32 * 28 * 28 * 64
    assert DEPTHWISE.is_depthwise
    assert not replace(DEPTHWISE, filters=128).is_depthwise
    assert not replace(DEPTHWISE, in_channels=1, filters=1, groups=1).is_depthwise
    assert estimate_forward(ROW, DEPTHWISE, "expand").multiplications == 25 * outputs
    assert estimate_forward(ROW, DEPTHWISE, NATIVE).multiplications == 5 * outputs
    assert estimate_backward(ROW, DEPTHWISE, Choice()).multiplications == 50 * outputs


def test_a_choice_fits_a_size() -> None:
    shared = Choice("boxes", "sums", "sums", "output")
    assert shared.fit(SIZE) == shared
    assert Choice("boxes", "sums", NATIVE).fit(replace(SIZE, groups=2)) == Choice("expand", "expand", NATIVE)
    strides = replace(SIZE, strides=(2, 1))  # what spreads out the output's gradient
    assert shared.fit(strides) == Choice("boxes", "expand", "expand")
    assert Choice(NATIVE, NATIVE, NATIVE).fit(strides) == Choice(NATIVE, "expand", NATIVE)


def test_a_group_has_its_own_channels_alone() -> None:
    for name in ("expand", NATIVE):
        whole, half = (estimate_forward(ROW, replace(SIZE, groups=groups), name) for groups in (1, 2))
        assert half.multiplications == whole.multiplications / 2
        assert 0.5 * whole.cost < half.cost < whole.cost


def test_many_groups_of_channels_are_expanded() -> None:
    """Vectors are nearly empty, and each group is started for every pixel."""
    assert not choose(ROW, replace(SIZE, groups=4), native=True).is_expanded
    assert choose(Pattern.preset("block", 5), replace(SIZE, groups=32), native=True).is_expanded


def test_lists_are_sorted() -> None:
    pattern = Pattern.preset("mirror_hv", 5)
    costs = [estimate_backward(pattern, SIZE, choice).cost for choice in list_backward(pattern, SIZE)]
    assert costs == sorted(costs)
    assert len(set(list_backward(pattern, SIZE))) == len(costs)


def test_a_mapping_is_a_choice() -> None:
    assert Choice.of({"forward": "boxes"}, ROW) == Choice("boxes")
    assert Choice.of(Choice("boxes", "sums").as_dict(), ROW) == Choice("boxes", "sums")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"forwards": "boxes"}, "unknown keys \\['forwards'\\] in `implementation`; there are forward, input_gradient"),
        ({"forward": "row boxes"}, "forward is 'row boxes', but this pattern has expand, boxes, sums"),
        ({"weight_gradient_of": "both"}, "weight_gradient_of is 'both'"),
    ],
)
def test_bad_mappings(value: dict[str, str], message: str) -> None:
    with pytest.raises(PatternError, match=message):
        Choice.of(value, ROW)


def test_text() -> None:
    assert str(Choice()) == "expand"
    assert str(Choice("boxes", "expand", "sums")) == "boxes | expand | sums"
    assert find_factoring(ROW, "sums").name == "sums"
