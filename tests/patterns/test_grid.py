"""Pattern: parsing, printing, immutability and every error, in hand-written cases."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from tiedexp.errors import PatternError, TiedexpError
from tiedexp.patterns.grid import MAX_SIDE, TRANSFORMS, Pattern

QUESTION = "AABCC/AABCC/DDEFF/GGHII/GGHII"


def test_question_grid() -> None:
    pattern = Pattern.parse(QUESTION)
    assert pattern.shape == (5, 5)
    assert pattern.num_groups == 9
    assert pattern.group_sizes == (4, 2, 4, 2, 1, 2, 4, 2, 4)
    assert pattern.index.tolist() == [
        [0, 0, 1, 2, 2],
        [0, 0, 1, 2, 2],
        [3, 3, 4, 5, 5],
        [6, 6, 7, 8, 8],
        [6, 6, 7, 8, 8],
    ]
    assert (pattern.sign == 1).all()
    assert pattern.is_dense
    assert pattern.num_cells == 25
    assert pattern.first_cells.tolist() == [0, 2, 3, 10, 12, 13, 15, 17, 18]
    assert str(pattern) == QUESTION
    assert repr(pattern) == f"Pattern.parse('{QUESTION}')"


def test_signs_and_zeros() -> None:
    pattern = Pattern.parse("-A.A/B-B./.AA")
    # The first cell of each group counts as positive, so A changes its sign throughout and B keeps it.
    assert str(pattern) == "A.-A/B-B./.-A-A"
    assert pattern.index.tolist() == [[0, -1, 0], [1, 1, -1], [-1, 0, 0]]
    assert pattern.sign.tolist() == [[1, 0, -1], [1, -1, 0], [0, -1, -1]]
    assert pattern.num_groups == 2
    assert pattern.num_cells == 6
    assert pattern.group_sizes == (4, 2)
    assert not pattern.is_dense
    assert pattern.matrix.tolist() == [[1, 0], [0, 0], [-1, 0], [0, 1], [0, -1], [0, 0], [0, 0], [-1, 0], [-1, 0]]
    assert pattern.first_cells.tolist() == [0, 3]
    assert pattern.index.dtype == np.int64
    assert pattern.sign.dtype == np.int8


@pytest.mark.parametrize(
    "text",
    [
        QUESTION,
        "\n  AABCC\n  AABCC\n  DDEFF\n  GGHII\n  GGHII\n",
        "AABCC\r\nAABCC\r\nDDEFF\r\nGGHII\r\nGGHII",
        "A A B C C / A A B C C / D D E F F / G G H I I / G G H I I",
        "nw nw n ne ne/nw nw n ne ne/w w mid e e/sw sw s se se/sw sw s se se",
        "-Z-Z-b-c-c/-Z-Z-b-c-c/ddEff/X1X1hA2A2/X1X1hA2A2",
    ],
)
def test_spellings_of_one_pattern(text: str) -> None:
    assert Pattern.parse(text) == Pattern.parse(QUESTION)
    assert Pattern.parse(text).digest == Pattern.parse(QUESTION).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("AAB/CCB", "AAB/CCA"),
        ("AB", "A/B"),
        ("AA", "A-A"),
        ("AA", "A."),
        (".A", "A."),
        ("ABCD", "AB/CD"),
    ],
)
def test_different_patterns(one: str, other: str) -> None:
    assert Pattern.parse(one) != Pattern.parse(other)
    assert Pattern.parse(one).digest != Pattern.parse(other).digest


def test_digest_is_stable() -> None:
    # Run directories are named by it, so it must not change between versions, processes or machines.
    assert Pattern.parse(QUESTION).digest == "acca0288236a"
    assert Pattern.parse("A.-A/B-B./.-A-A").digest == "63822aecc54e"


def test_is_not_equal_to_its_text() -> None:
    assert Pattern.parse("AB") != "AB"


def test_equality_and_hash() -> None:
    one, same, other = Pattern.parse("AB/BA"), Pattern.parse("x y/y x"), Pattern.parse("AB/AB")
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same, other}) == 2


@pytest.mark.parametrize("text", [QUESTION, "A.-A/B-B./.AA", "A"])
def test_copies_are_equal(text: str) -> None:
    pattern = Pattern.parse(text)
    _ = pattern.matrix, pattern.digest, pattern.symmetries  # fills the caches
    for twin in (pickle.loads(pickle.dumps(pattern)), copy.copy(pattern), copy.deepcopy(pattern)):
        assert twin == pattern
        assert hash(twin) == hash(pattern)
        assert twin.digest == pattern.digest
        assert not twin.index.flags.writeable


def test_is_immutable() -> None:
    source = np.array([[0, 1], [1, -1]])
    pattern = Pattern(source)
    source[0, 0] = 1
    assert str(pattern) == "AB/B."
    for array in (pattern.index, pattern.sign, pattern.matrix, pattern.first_cells):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError):
        pattern.index = source  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del pattern.sign  # type: ignore[misc]


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 7), (7, 1), (2, 2), (4, 6), (31, 31), (8, 9), (53, 1), (1, 53), (MAX_SIDE,) * 2]
)
def test_more_groups_than_letters(shape: tuple[int, int]) -> None:
    pattern = Pattern(np.arange(shape[0] * shape[1]).reshape(shape))
    assert pattern.num_groups == shape[0] * shape[1]
    text = str(pattern)
    assert Pattern.parse(text) == pattern
    assert len(set(text.replace("/", " ").split())) in (shape[0], pattern.num_groups)


def test_names_beyond_the_letters() -> None:
    text = str(Pattern(np.arange(106).reshape(2, 53)))
    assert text.startswith("A B C ")
    assert " Z a b " in text
    assert " z A1/B1 C1 " in text
    assert text.endswith(" z1 A2 B2")


def test_large_signed_pattern() -> None:
    rng = np.random.default_rng(0)
    index = rng.integers(-1, 200, (31, 31))
    pattern = Pattern(index, np.where(index < 0, 0, rng.choice([-1, 1], index.shape)))
    assert pattern.num_groups > 52
    assert Pattern.parse(str(pattern)) == pattern


def test_tile() -> None:
    assert str(Pattern.tile((1, 5), (5, 1))) == "ABCDE/ABCDE/ABCDE/ABCDE/ABCDE"
    assert str(Pattern.tile((2, 2), (2, 1))) == "AB/CD/AB/CD"
    assert str(Pattern.tile([1, 1], [2, 3])) == "AAA/AAA"
    assert Pattern.tile((1, 5), (5, 1)) == Pattern.preset("column", 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2, 0), (1, 1)), "a size is a whole number from 1 to 127"),
        (((2, 2), (64, 64)), "at most 127 rows and columns"),
        (((2,), (1, 1)), "a size is"),
    ],
)
def test_tile_refuses(arguments: tuple[tuple[int, ...], tuple[int, ...]], message: str) -> None:
    with pytest.raises(PatternError, match=message):
        Pattern.tile(*arguments)


class TestTransforms:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("flip_h", "CBA/FED"),
            ("flip_v", "DEF/ABC"),
            ("rot180", "FED/CBA"),
            ("rot90", "CF/BE/AD"),
            ("rot270", "DA/EB/FC"),
            ("transpose", "AD/BE/CF"),
            ("anti_transpose", "FC/EB/DA"),
        ],
    )
    def test_where_the_cells_go(self, name: str, expected: str) -> None:
        # Patterns whose transforms all differ.
        letters = {letter: index for index, letter in enumerate("ABCDEF")}
        grid = np.array([[0, 1, 2], [3, 4, 5]])
        moved = [[letters[letter] for letter in row] for row in expected.split("/")]
        for groups in (np.array([0, 0, 1, 2, -1, 3]), np.array([-1, 0, 0, 1, 1, 2])):
            assert Pattern(groups[grid]).transform(name) == Pattern(groups[np.array(moved)])

    def test_signs_move_along(self) -> None:
        assert str(Pattern.parse("A-A./B.-B").transform("flip_h")) == ".A-A/B.-B"
        assert str(Pattern.parse("A-A./B.-B").transform("transpose")) == "AB/-A./.-B"

    def test_unknown(self) -> None:
        with pytest.raises(PatternError, match="unknown transform 'rot45'; the transforms are flip_h, flip_v"):
            Pattern.parse("A").transform("rot45")


class TestSymmetries:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("ABC/DEF/GHI", set()),
            ("ABA/CDC/EFE", {"flip_h"}),
            ("ABC/DEF/ABC", {"flip_v"}),
            ("ABC/BDE/CEF", {"transpose"}),
            ("ABC/DEB/FDA", {"anti_transpose"}),
            ("ABC/DED/CBA", {"rot180"}),
            ("ABC/CBA", {"rot180"}),
            ("AA/AA/AA", {"flip_h", "flip_v", "rot180"}),
            ("AB/BA", {"transpose", "anti_transpose", "rot180"}),
            ("ABA/BCB/ABA", set(TRANSFORMS)),
            ("ABCA/CDDB/BDDC/ACBA", {"rot90", "rot180", "rot270"}),
            (".A./A.A/.A.", set(TRANSFORMS)),
        ],
    )
    def test_symmetries(self, text: str, expected: set[str]) -> None:
        assert Pattern.parse(text).symmetries == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("A.-A", {"flip_h", "rot180"}),
            ("A/-A", {"flip_v", "rot180"}),
            ("AB/-B-A", {"rot180"}),
            ("A-A/-AA", {"flip_h", "flip_v", "rot90", "rot270"}),
            (".A/-A.", {"transpose", "rot180"}),
            ("AA", set()),
            ("A.-B", set()),
        ],
    )
    def test_antisymmetries(self, text: str, expected: set[str]) -> None:
        assert Pattern.parse(text).antisymmetries == expected

    def test_a_group_of_its_own_is_no_symmetry(self) -> None:
        # The mirrored kernels have the same grid, but they are other kernels: A and B are swapped.
        pattern = Pattern.parse("AB")
        assert pattern.transform("flip_h") == pattern
        assert "flip_h" not in pattern.symmetries


class TestExpand:
    def test_by_hand(self) -> None:
        pattern = Pattern.parse("A-A/.B")
        assert pattern.expand([2.0, 3.0]).tolist() == [[2, -2], [0, 3]]
        assert pattern.collapse([[1.0, 10.0], [100.0, 1000.0]]).tolist() == [-9, 1000]

    def test_keeps_trailing_axes_and_dtype(self) -> None:
        pattern = Pattern.parse(QUESTION)
        free = np.arange(9 * 2 * 3, dtype=np.float32).reshape(9, 2, 3)
        kernel = pattern.expand(free)
        assert kernel.shape == (5, 5, 2, 3)
        assert kernel.dtype == np.float32
        assert (kernel[4, 3] == free[8]).all()
        assert pattern.collapse(kernel).shape == (9, 2, 3)

    @pytest.mark.parametrize("shape", [(8,), (10,), (10, 2), ()])
    def test_refuses_another_number_of_weights(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(PatternError, match=r"the pattern has 9 free weights\. Received: an array of shape"):
            Pattern.parse(QUESTION).expand(np.ones(shape))

    @pytest.mark.parametrize("shape", [(5,), (4, 5), (25, 1), (5, 5, 2)[::-1], ()])
    def test_collapse_refuses_another_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(PatternError, match=r"the pattern is 5x5\. Received: a kernel of shape"):
            Pattern.parse(QUESTION).collapse(np.ones(shape))


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "row 1 is empty"),
            ("   \n ", "row 1 is empty"),
            ("AB//CD", "row 2 is empty"),
            ("AB/CD/", "row 3 is empty"),
            ("AB/ABC", r"row 2 \('ABC'\) has 3 cells, but row 1 has 2"),
            ("AB/AB/A", r"row 3 \('A'\) has 1 cell, but row 1 has 2"),
            ("a b/c", r"row 2 \('c'\) has 1 cell, but row 1 has 2"),
            ("A1A2/A1", r"row 2 \('A1'\) has 1 cell, but row 1 has 2"),
            ("AB/A$B", r"row 2, cell 2: '\$' is not a cell"),
            ("AB/1A", "row 2, cell 1: '1' is not a cell"),
            ("AB/A-", "row 2, cell 2: '-' is not a cell"),
            ("--A", "row 1, cell 1: '-' is not a cell"),
            ("-.A", "row 1, cell 1: '-' is not a cell"),
            ("A1B22C_", "row 1, cell 4: '_' is not a cell"),
            ("AÄ", "row 1, cell 2: 'Ä' is not a cell"),
            ("a b/c 2d", "row 2, cell 2: '2d' is not a cell"),
            ("a b/c --d", "row 2, cell 2: '--d' is not a cell"),
            ("a - b", "row 1, cell 2: '-' is not a cell"),
            ("a b,c", "row 1, cell 2: 'b,c' is not a cell"),
            ("../..", "no free weight: every cell is fixed at zero"),
            ("A" * 128, "at most 127 rows and columns"),
        ],
    )
    def test_parse(self, text: str, message: str) -> None:
        with pytest.raises(PatternError, match=message) as caught:
            Pattern.parse(text)
        assert isinstance(caught.value, TiedexpError)
        assert isinstance(caught.value, ValueError)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("index", "sign", "message"),
        [
            ([], None, "two-dimensional grid of whole numbers"),
            ([[]], None, "with at least one cell"),
            ([0, 1], None, r"Received: shape \(2,\)"),
            ([[[0]]], None, r"Received: shape \(1, 1, 1\)"),
            ([[0.0, 1.0]], None, "whole numbers"),
            ([[True]], None, "whole numbers"),
            ([[-1, -2]], None, "no free weight"),
            ([[0, 1]], [[1]], "`sign` must have the shape of `index`"),
            ([[0, 1]], [[1, 2]], r"\+1 or -1 elsewhere"),
            ([[0, 1]], [[1, 0]], "0 at its fixed zeros"),
            ([[0, -1]], [[1, 1]], "0 at its fixed zeros"),
            (np.zeros((128, 1), int), None, "at most 127 rows and columns"),
        ],
    )
    def test_arrays(self, index: object, sign: object, message: str) -> None:
        with pytest.raises(PatternError, match=message):
            Pattern(index, sign)  # type: ignore[arg-type]


class TestOf:
    def test_what_a_user_may_write(self) -> None:
        block = Pattern.preset("block", 5)
        assert Pattern.of("block", 5) == block
        assert Pattern.of(QUESTION) == block
        assert Pattern.of(QUESTION, 5) == block
        assert Pattern.of(QUESTION, (5, 5)) == block
        assert Pattern.of(block) is block
        assert Pattern.of({"preset": "block"}, 5) == block
        assert Pattern.of({"preset": "block", "blocks": 2}, 4) == Pattern.parse("AABB/AABB/CCDD/CCDD")

    @pytest.mark.parametrize("text", ["row/col", "point/ABCDE", "t i l e", "rings/rungs"])
    def test_a_grid_that_resembles_a_name_is_a_grid(self, text: str) -> None:
        assert Pattern.of(text) == Pattern.parse(text)

    @pytest.mark.parametrize("text", ["ABA", "FOO", "Aab", "A1B1", "A", "a"])
    def test_a_grid_of_one_row(self, text: str) -> None:
        assert Pattern.of(text) == Pattern.parse(text)

    def test_a_lower_case_word_is_a_grid_where_the_kernel_is_a_row_of_as_many_cells(self) -> None:
        assert Pattern.of("aba", (1, 3)) == Pattern.parse("ABA")
        assert Pattern.of("a1b", (1, 2)) == Pattern.parse("AB")

    def test_leaves_the_mapping_alone(self) -> None:
        options = {"preset": "random_like", "of": {"preset": "hashed", "groups": 3}, "seed": 1}
        before = copy.deepcopy(options)
        assert Pattern.of(options, 5).num_groups == 3
        assert options == before

    @pytest.mark.parametrize(
        ("value", "size", "message"),
        [
            ("block", None, "the preset 'block' needs a kernel size"),
            ({"preset": "block"}, None, "the preset 'block' needs a kernel size"),
            ({"preset": "blok", "blocks": 3}, None, "unknown pattern 'blok'; did you mean block"),
            ({"blocks": 3}, 5, "needs the key 'preset'"),
            ("blok", 5, "unknown pattern 'blok'; did you mean block"),
            ("mirrorh", None, r"did you mean mirror_h or"),
            ("Block", 5, r"unknown pattern 'Block'; did you mean block"),
            ("D4", 5, r"unknown pattern 'D4'; did you mean d4"),
            ("foo", None, r"unknown pattern 'foo'; the presets are full, block,.* in capitals: FOO"),
            ("foo", 3, r"unknown pattern 'foo'; the presets are full"),
            ("foo", (1, 4), r"unknown pattern 'foo'; the presets are full"),
            ("my_pattern", None, r"unknown pattern 'my_pattern'; the presets are"),
            ({"preset": "random_like", "of": "foo"}, 3, r"unknown pattern 'foo'"),
            (QUESTION, 3, "the pattern is 5x5, but the kernel size is 3x3"),
            (QUESTION, (5, 3), "the pattern is 5x5, but the kernel size is 5x3"),
            (Pattern.parse("AB"), 2, "the pattern is 1x2, but the kernel size is 2x2"),
            (5, 5, "a pattern is a Pattern, a preset's name, a mapping or a grid. Received: 5"),
            (None, 5, "Received: None"),
            ({"preset": "block", "size": 5}, 5, "the preset 'block' has no option 'size'; it takes blocks"),
            ({"preset": "block", "name": "x"}, 5, "the preset 'block' has no option 'name'"),
            ({"preset": 5}, 5, "unknown pattern '5'"),
        ],
    )
    def test_errors(self, value: object, size: object, message: str) -> None:
        with pytest.raises(PatternError, match=message):
            Pattern.of(value, size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "size", [0, -3, 128, 2.0, "5", None, True, (3,), (3, 3, 3), (3, 0), (3, 2.5), (3, "3"), {3, 5}, ()]
)
def test_bad_sizes(size: object) -> None:
    with pytest.raises(PatternError, match=r"a size is a whole number from 1 to 127, or two of them\. Received: "):
        Pattern.preset("block", size)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [5, (5, 5), [5, 5], np.int64(5), np.array([5, 5])])
def test_good_sizes(size: object) -> None:
    assert Pattern.preset("block", size) == Pattern.parse(QUESTION)  # type: ignore[arg-type]
