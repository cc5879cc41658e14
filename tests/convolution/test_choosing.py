"""The estimates, and the choices made by them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiedexp.convolution import costs
from tiedexp.convolution.choosing import (
    EXPAND,
    FORWARD,
    INPUT_GRADIENT,
    MARGIN,
    NATIVE,
    PARTS,
    WEIGHT_GRADIENT,
    Choice,
    choose,
    compare_methods,
    estimate,
    estimate_step,
    find_factoring,
    find_rotated_factoring,
)
from tiedexp.convolution.costs import ConvSize
from tiedexp.errors import PatternError
from tiedexp.patterns.grid import Pattern

SIZE = ConvSize(batch=32, input_size=(28, 28), output_size=(28, 28), in_channels=32, filters=64)
ROW = Pattern.preset("row", 5)
ALL = Choice(NATIVE, NATIVE, NATIVE)


def test_multiplications_are_counted_by_hand() -> None:
    per_tap = 32 * 28 * 28 * 32 * 64
    for part in PARTS:
        assert estimate(ROW, SIZE, part, EXPAND).multiplications == 25 * per_tap
        assert estimate(ROW, SIZE, part, NATIVE).multiplications == 5 * per_tap
    assert estimate_step(ROW, SIZE, Choice(NATIVE, EXPAND, NATIVE)).multiplications == 35 * per_tap


def test_compiled_code_is_chosen_where_it_can_run() -> None:
    for name in ("block", "row", "point", "d4", "mirror_h"):
        assert choose(Pattern.preset(name, 5), SIZE, native=True) == ALL
        assert choose(Pattern.preset(name, 5), SIZE).is_expanded
        assert choose(Pattern.preset(name, 5), SIZE, "factored").is_expanded
    assert choose(Pattern.preset("full", 5), SIZE, "factored", native=True).is_expanded
    assert choose(ROW, SIZE, "expand", native=True).is_expanded


def test_the_estimate_decides_each_part() -> None:
    for pattern in (ROW, Pattern.preset("point", 5), Pattern.preset("mirror_h", 3)):
        for size in (SIZE, replace(SIZE, batch=1), replace(SIZE, in_channels=2), replace(SIZE, filters=3)):
            chosen = choose(pattern, size, native=True).as_dict()
            for part in PARTS:
                ratio = compare_methods(pattern, size, part)
                assert chosen[part] == (NATIVE if ratio is not None and ratio <= MARGIN else EXPAND)


def test_compiled_code_counts_taps_and_sums() -> None:
    per_tap = 32 * 28 * 28 * 32 * 64
    work = estimate(ROW, SIZE, FORWARD, NATIVE)
    assert work.multiplications == 5 * per_tap
    assert work.additions == 6 * 32 * 32 * 32 * 32  # three sums of two terms, of the padded input


def test_many_sums_leave_room_for_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the sums of neighbouring rows are made again for each of them."""
    many = Pattern.of({"preset": "hashed", "groups": 60}, 11)
    work = estimate(many, SIZE, FORWARD, NATIVE)
    monkeypatch.setattr(costs, "NATIVE_BUFFER", 10**9)
    roomy = estimate(many, SIZE, FORWARD, NATIVE)
    assert work.multiplications == roomy.multiplications
    assert 1.1 * roomy.additions < work.additions < 2 * roomy.additions
    assert 1.5 * roomy.elements_moved < work.elements_moved < 5 * roomy.elements_moved
    assert work.cost > roomy.cost


def test_a_gradient_is_copied_where_channels_are_too_few_for_the_threads() -> None:
    """Threads without channels of their own have copies of the gradient, which are added up."""
    small = ConvSize(batch=64, input_size=(8, 8), output_size=(8, 8), in_channels=16, filters=16)
    for channels, threads, low, high in ((16, 1, 1.0, 1.01), (16, 64, 1.1, 2.0), (512, 64, 1.0, 1.05)):
        size = replace(small, in_channels=channels, filters=channels, threads=threads)
        gradient = estimate(ROW, size, WEIGHT_GRADIENT, NATIVE).cost
        assert low < gradient / estimate(ROW, size, FORWARD, NATIVE).cost < high


def test_idle_threads_cost_their_time() -> None:
    tiny = ConvSize(batch=1, input_size=(4, 4), output_size=(4, 4), in_channels=16, filters=16)
    assert estimate(ROW, replace(tiny, threads=64), FORWARD, NATIVE).cost > estimate(ROW, tiny, FORWARD, NATIVE).cost
    assert estimate(ROW, replace(SIZE, threads=64), FORWARD, NATIVE) == estimate(ROW, SIZE, FORWARD, NATIVE)


def test_few_channels_are_expanded() -> None:
    """The sums of a channel cost the same for any number of filters, but save less for few."""
    block = Pattern.preset("block", 5)
    assert choose(block, SIZE, native=True) == ALL
    assert choose(block, replace(SIZE, in_channels=1, filters=1), native=True).is_expanded


def test_small_layers_are_expanded() -> None:
    """Starting the compiled code always costs the same."""
    small = ConvSize(batch=1, input_size=(4, 4), output_size=(4, 4), in_channels=16, filters=16)
    assert choose(ROW, small, native=True).is_expanded
    assert choose(ROW, replace(small, batch=1024), native=True) == ALL


def test_factored_is_compiled_wherever_it_can_be() -> None:
    small = ConvSize(batch=1, input_size=(4, 4), output_size=(4, 4), in_channels=2, filters=2)
    assert choose(Pattern.preset("point", 5), small, "factored", native=True) == ALL


def test_with_strides_the_input_gradient_is_dense() -> None:
    size = replace(SIZE, output_size=(14, 14), strides=(2, 2))
    assert choose(ROW, size, native=True) == Choice(NATIVE, EXPAND, NATIVE)
    assert choose(ROW, size, "factored", native=True) == Choice(NATIVE, EXPAND, NATIVE)
    assert compare_methods(ROW, size, INPUT_GRADIENT) is None


def test_channel_groups_can_be_compiled() -> None:
    size = replace(SIZE, channel_groups=2)
    assert choose(ROW, size, "factored").is_expanded
    assert choose(ROW, size, native=True) == ALL
    assert choose(ROW, replace(size, strides=(2, 2)), native=True).input_gradient == EXPAND


DEPTHWISE = ConvSize(batch=32, input_size=(28, 28), output_size=(28, 28), in_channels=64, filters=64, channel_groups=64)


def test_depthwise_reads_what_is_less() -> None:
    """Sums are used if they need fewer reads than the cells; with strides they rarely do."""
    block, rings = Pattern.preset("block", 5), Pattern.preset("rings", 5)
    assert find_factoring(block, depthwise=True).sums
    assert not find_factoring(block, depthwise=True, strides=(2, 2)).sums
    assert not find_factoring(rings, depthwise=True).sums
    assert find_factoring(rings).sums
    assert find_rotated_factoring(block, depthwise=True).sums
    assert not find_rotated_factoring(rings, depthwise=True).sums


def test_depthwise_choices() -> None:
    block = Pattern.preset("block", 5)
    assert choose(block, DEPTHWISE, native=True) == Choice(EXPAND, EXPAND, NATIVE)
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
    assert not replace(DEPTHWISE, in_channels=1, filters=1, channel_groups=1).is_depthwise
    for part in PARTS:
        assert estimate(ROW, DEPTHWISE, part, EXPAND).multiplications == 25 * outputs
        assert estimate(ROW, DEPTHWISE, part, NATIVE).multiplications == 5 * outputs


def test_a_choice_fits_a_size() -> None:
    assert ALL.fit(SIZE) == ALL.fit(replace(SIZE, channel_groups=2)) == ALL
    assert ALL.fit(replace(SIZE, strides=(2, 1))) == Choice(NATIVE, EXPAND, NATIVE)


def test_a_group_has_its_own_channels_alone() -> None:
    for name in ("expand", NATIVE):
        whole, half = (estimate(ROW, replace(SIZE, channel_groups=groups), FORWARD, name) for groups in (1, 2))
        assert half.multiplications == whole.multiplications / 2
        assert 0.5 * whole.cost < half.cost < whole.cost


def test_many_groups_of_channels_are_expanded() -> None:
    """Then vectors are nearly empty, and every group has a cost for each pixel."""
    assert not choose(ROW, replace(SIZE, channel_groups=4), native=True).is_expanded
    assert choose(Pattern.preset("block", 5), replace(SIZE, channel_groups=32), native=True).is_expanded


def test_a_mapping_is_a_choice() -> None:
    assert Choice.of({"forward": NATIVE}, ROW) == Choice(NATIVE)
    assert Choice.of(Choice(EXPAND, NATIVE).as_dict(), ROW) == Choice(EXPAND, NATIVE)


def test_a_mapping_of_version_0_1_0_is_read() -> None:
    """Its methods with TensorFlow's operations are read as compiled code."""
    former = {
        "forward": "boxes",
        "input_gradient": "row boxes",
        "weight_gradient": "sums",
        "weight_gradient_of": "output",
    }
    assert Choice.of(former, ROW) == ALL


@pytest.mark.parametrize(
    ("value", "pattern", "message"),
    [
        (
            {"forwards": NATIVE},
            ROW,
            r"unknown keys \['forwards'\] in `implementation`; the keys are forward, input_gradient",
        ),
        ({"forward": "fast"}, ROW, "forward is 'fast', but for this pattern it can be expand, native"),
        ({"forward": NATIVE}, Pattern.preset("full", 3), "forward is 'native', but for this pattern it can be expand$"),
    ],
)
def test_bad_mappings(value: dict[str, str], pattern: Pattern, message: str) -> None:
    with pytest.raises(PatternError, match=message):
        Choice.of(value, pattern)


def test_text() -> None:
    assert str(Choice()) == "expand"
    assert str(Choice(NATIVE, EXPAND, NATIVE)) == "native | expand | native"
