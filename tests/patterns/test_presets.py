"""The presets: every grid written out, even and rectangular sizes, options and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from tiedexp.errors import PatternError
from tiedexp.patterns.grid import TRANSFORMS, Pattern
from tiedexp.patterns.presets import PRESETS

# Name: the 3x3 and the 5x5 grid, written out from the definitions.
GRIDS = {
    "full": ("ABC/DEF/GHI", "ABCDE/FGHIJ/KLMNO/PQRST/UVWXY"),
    "block": ("ABC/DEF/GHI", "AABCC/AABCC/DDEFF/GGHII/GGHII"),
    "tile": ("ABA/CDC/ABA", "ABABA/CDCDC/ABABA/CDCDC/ABABA"),
    "mirror_h": ("ABA/CDC/EFE", "ABCBA/DEFED/GHIHG/JKLKJ/MNONM"),
    "mirror_v": ("ABC/DEF/ABC", "ABCDE/FGHIJ/KLMNO/FGHIJ/ABCDE"),
    "mirror_hv": ("ABA/CDC/ABA", "ABCBA/DEFED/GHIHG/DEFED/ABCBA"),
    "point": ("ABC/DED/CBA", "ABCDE/FGHIJ/KLMLK/JIHGF/EDCBA"),
    "transpose": ("ABC/BDE/CEF", "ABCDE/BFGHI/CGJKL/DHKMN/EILNO"),
    "rot90": ("ABA/BCB/ABA", "ABCDA/DEFEB/CFGFC/BEFED/ADCBA"),
    "d4": ("ABA/BCB/ABA", "ABCBA/BDEDB/CEFEC/BDEDB/ABCBA"),
    "rings": ("AAA/ABA/AAA", "AAAAA/ABBBA/ABCBA/ABBBA/AAAAA"),
    "rings_circular": ("AAA/ABA/AAA", ".AAA./ABBBA/ABCBA/ABBBA/.AAA."),
    "row": ("AAA/BBB/CCC", "AAAAA/BBBBB/CCCCC/DDDDD/EEEEE"),
    "column": ("ABC/ABC/ABC", "ABCDE/ABCDE/ABCDE/ABCDE/ABCDE"),
    "toeplitz": ("ABC/DAB/EDA", "ABCDE/FABCD/GFABC/HGFAB/IHGFA"),
    "hankel": ("ABC/BCD/CDE", "ABCDE/BCDEF/CDEFG/DEFGH/EFGHI"),
    "circulant": ("ABC/CAB/BCA", "ABCDE/EABCD/DEABC/CDEAB/BCDEA"),
    "centre_surround": ("AAA/ABA/AAA", "AAAAA/ABBBA/ABBBA/ABBBA/AAAAA"),
    "checkerboard": ("ABA/BAB/ABA", "ABABA/BABAB/ABABA/BABAB/ABABA"),
    "anti_point": ("ABC/D.-D/-C-B-A", "ABCDE/FGHIJ/KL.-L-K/-J-I-H-G-F/-E-D-C-B-A"),
    "anti_h": ("A.-A/B.-B/C.-C", "AB.-B-A/CD.-D-C/EF.-F-E/GH.-H-G/IJ.-J-I"),
    "anti_v": ("ABC/.../-A-B-C", "ABCDE/FGHIJ/...../-F-G-H-I-J/-A-B-C-D-E"),
    "cross": (".A./BCD/.E.", "..A../..B../CDEFG/..H../..I.."),
    "atrous": ("A.B/.../C.D", "A.B.C/...../D.E.F/...../G.H.I"),
    "causal": ("ABC/DE./...", "ABCDE/FGHIJ/KLM../...../....."),
}
RANDOM = ("hashed", "random_like")

# Name, size, options: the grid.
OTHERS = [
    ("full", (2, 3), {}, "ABC/DEF"),
    ("block", 1, {}, "A"),
    ("block", 2, {}, "AB/CD"),
    ("block", 4, {}, "ABBC/DEEF/DEEF/GHHI"),
    ("block", 6, {}, "AABBCC/AABBCC/DDEEFF/DDEEFF/GGHHII/GGHHII"),
    ("block", 7, {}, "AABBBCC/AABBBCC/DDEEEFF/DDEEEFF/DDEEEFF/GGHHHII/GGHHHII"),
    ("block", (3, 5), {}, "AABCC/DDEFF/GGHII"),
    ("block", (2, 6), {}, "AABBCC/DDEEFF"),
    ("block", (1, 4), {}, "ABBC"),
    ("block", 4, {"blocks": 1}, "AAAA/AAAA/AAAA/AAAA"),
    ("block", 4, {"blocks": 2}, "AABB/AABB/CCDD/CCDD"),
    ("block", 3, {"blocks": 3}, "ABC/DEF/GHI"),
    ("tile", (4, 2), {}, "AB/CD/AB/CD"),
    ("tile", 5, {"tile": 3}, "ABCAB/DEFDE/GHIGH/ABCAB/DEFDE"),
    ("tile", 3, {"tile": (1, 3)}, "ABC/ABC/ABC"),
    ("tile", (2, 4), {"tile": [2, 1]}, "AAAA/BBBB"),
    ("tile", 1, {}, "A"),
    ("mirror_h", (2, 4), {}, "ABBA/CDDC"),
    ("mirror_v", (4, 2), {}, "AB/CD/CD/AB"),
    ("mirror_hv", 4, {}, "ABBA/CDDC/CDDC/ABBA"),
    ("mirror_hv", (3, 4), {}, "ABBA/CDDC/ABBA"),
    ("point", 2, {}, "AB/BA"),
    ("point", (2, 3), {}, "ABC/CBA"),
    ("transpose", 2, {}, "AB/BC"),
    ("rot90", 2, {}, "AA/AA"),
    ("rot90", 4, {}, "ABCA/CDDB/BDDC/ACBA"),
    ("d4", 4, {}, "ABBA/BCCB/BCCB/ABBA"),
    ("rings", 4, {}, "AAAA/ABBA/ABBA/AAAA"),
    ("rings", (3, 5), {}, "ABBBA/ABCBA/ABBBA"),
    ("rings_circular", 4, {}, "AAAA/ABBA/ABBA/AAAA"),
    ("rings_circular", 6, {}, ".AAAA./ABBBBA/ABCCBA/ABCCBA/ABBBBA/.AAAA."),
    ("rings_circular", 7, {}, "..AAA../.ABBBA./ABCCCBA/ABCDCBA/ABCCCBA/.ABBBA./..AAA.."),
    ("rings_circular", (3, 5), {}, "ABBBA/ABCBA/ABBBA"),
    ("row", (2, 3), {}, "AAA/BBB"),
    ("column", (2, 3), {}, "ABC/ABC"),
    ("toeplitz", (2, 3), {}, "ABC/DAB"),
    ("toeplitz", (3, 2), {}, "AB/CA/DC"),
    ("hankel", (2, 4), {}, "ABCD/BCDE"),
    ("circulant", (4, 3), {}, "ABC/CAB/BCA/ABC"),
    ("circulant", (2, 3), {}, "ABC/CAB"),
    ("centre_surround", 4, {}, "AAAA/ABBA/ABBA/AAAA"),
    ("centre_surround", (1, 3), {}, "ABA"),
    ("centre_surround", 5, {"radius": 0}, "AAAAA/AAAAA/AABAA/AAAAA/AAAAA"),
    ("centre_surround", 6, {"radius": 1}, "AAAAAA/ABBBBA/ABBBBA/ABBBBA/ABBBBA/AAAAAA"),
    ("checkerboard", (2, 3), {}, "ABA/BAB"),
    ("anti_point", 2, {}, "AB/-B-A"),
    ("anti_point", (2, 3), {}, "ABC/-C-B-A"),
    ("anti_point", (1, 3), {}, "A.-A"),
    ("anti_h", (2, 4), {}, "AB-B-A/CD-D-C"),
    ("anti_v", (2, 3), {}, "ABC/-A-B-C"),
    ("cross", 4, {}, ".AB./CDEF/GHIJ/.KL."),
    ("cross", (3, 4), {}, ".AB./CDEF/.GH."),
    ("cross", (1, 3), {}, "ABC"),
    ("atrous", 4, {"rate": 3}, "A..B/..../..../C..D"),
    ("atrous", (1, 5), {}, "A.B.C"),
    ("atrous", 2, {"rate": 1}, "AB/CD"),
    ("causal", 3, {"centre": False}, "ABC/D../..."),
    ("causal", (1, 3), {}, "AB."),
    # Even sides: "same" padding puts the output pixel on the first of the two middle lines.
    ("causal", 4, {}, "ABCD/EF../..../...."),
    ("causal", 2, {}, "A./.."),
]


def test_every_preset_has_its_grids() -> None:
    assert set(GRIDS) | set(RANDOM) == set(PRESETS)


@pytest.mark.parametrize("name", GRIDS)
def test_3x3_and_5x5(name: str) -> None:
    small, large = GRIDS[name]
    assert str(Pattern.preset(name, 3)) == small
    assert str(Pattern.preset(name, 5)) == large


@pytest.mark.parametrize(("name", "size", "options", "expected"), OTHERS)
def test_other_sizes_and_options(name: str, size: int, options: dict[str, int], expected: str) -> None:
    assert str(Pattern.preset(name, size, **options)) == expected


SYMMETRIES = {
    "mirror_h": {"flip_h"},
    "mirror_v": {"flip_v"},
    "mirror_hv": {"flip_h", "flip_v", "rot180"},
    "point": {"rot180"},
    "transpose": {"transpose"},
    "rot90": {"rot90", "rot180", "rot270"},
    "d4": set(TRANSFORMS),
    "rings": set(TRANSFORMS),
    "rings_circular": set(TRANSFORMS),
    "centre_surround": set(TRANSFORMS),
    "row": {"flip_h"},
    "column": {"flip_v"},
    "toeplitz": {"anti_transpose"},
    "hankel": {"transpose"},
    "full": set(),
    "block": set(),
    "circulant": {"anti_transpose"},
    "cross": set(),
    "causal": set(),
    "atrous": set(),
    "anti_h": set(),
}


@pytest.mark.parametrize("name", SYMMETRIES)
@pytest.mark.parametrize("side", [5, 6, 11])
def test_symmetries(name: str, side: int) -> None:
    options = {"rate": side - 1} if name == "atrous" else {}
    assert Pattern.preset(name, side, **options).symmetries == SYMMETRIES[name]


@pytest.mark.parametrize(("name", "transform"), [("anti_point", "rot180"), ("anti_h", "flip_h"), ("anti_v", "flip_v")])
@pytest.mark.parametrize("size", [4, 5, (2, 3), (3, 2), (4, 7)])
def test_antisymmetries(name: str, transform: str, size: int) -> None:
    assert transform in Pattern.preset(name, size).antisymmetries


@pytest.mark.parametrize(
    ("size", "blocks"),
    [
        *[(size, None) for size in [(1, 1), (1, 2), (2, 2), (5, 5), (8, 8), (2, 7), (13, 4), (1, 127), (127, 127)]],
        *[(size, blocks) for size in [(5, 5), (8, 8), (2, 7), (13, 4), (31, 31), (1, 127)] for blocks in (1, 2, 4, 5)],
    ],
)
def test_blocks_are_as_even_as_possible(size: tuple[int, int], blocks: int | None) -> None:
    pattern = Pattern.preset("block", size, **({} if blocks is None else {"blocks": blocks}))
    down = [int((pattern.index[:, 0] == group).sum()) for group in dict.fromkeys(pattern.index[:, 0].tolist())]
    across = [int((pattern.index[0] == group).sum()) for group in dict.fromkeys(pattern.index[0].tolist())]
    for parts, side in ((down, size[0]), (across, size[1])):
        assert len(parts) == min(blocks or 3, side)
        assert max(parts) - min(parts) <= 1
        assert parts == parts[::-1] or side % 2 == 0 or len(parts) % 2 == 0
    assert pattern.num_groups == len(down) * len(across)


@pytest.mark.parametrize("name", PRESETS)
def test_large_kernels(name: str) -> None:
    pattern = Pattern.preset(name, 31)
    assert pattern.shape == (31, 31)
    assert Pattern.parse(str(pattern)) == pattern


class TestRandom:
    @pytest.mark.parametrize("groups", [1, 2, 9, 24, 25])
    def test_hashed_uses_every_group(self, groups: int) -> None:
        for seed in range(20):
            pattern = Pattern.preset("hashed", 5, groups=groups, seed=seed)
            assert pattern.num_groups == groups
            assert pattern.is_dense

    def test_hashed_groups_by_default(self) -> None:
        assert Pattern.preset("hashed", 5).num_groups == 9
        assert Pattern.preset("hashed", (1, 5)).num_groups == 3
        assert Pattern.preset("hashed", (2, 2)).num_groups == 4

    @pytest.mark.parametrize("name", RANDOM)
    def test_seeds(self, name: str) -> None:
        assert Pattern.preset(name, 5, seed=3) == Pattern.preset(name, 5, seed=3)
        assert Pattern.preset(name, 5) == Pattern.preset(name, 5, seed=0)
        assert len({Pattern.preset(name, 5, seed=seed) for seed in range(50)}) == 50

    def test_golden(self) -> None:
        # A seed must always give the same pattern: results refer to it, and NumPy's generators can change.
        assert Pattern.preset("hashed", 3, groups=3, seed=1).digest == "05d19a21f2dd"
        assert Pattern.preset("random_like", 5, seed=1).digest == "c72f3b8cd6d6"

    def test_hashed_is_spread_evenly(self) -> None:
        counts = np.zeros((5, 5))
        for seed in range(400):
            counts += Pattern.preset("hashed", 5, groups=2, seed=seed).index == 0
        # Cell (0, 0) is always in group A; any other is in half of the draws, within 5 sigma.
        assert counts[0, 0] == 400
        np.testing.assert_allclose(counts.ravel()[1:], 200, atol=50)

    @pytest.mark.parametrize(
        "of", ["AABCC/AABCC/DDEFF/GGHII/GGHII", "d4", "anti_point", "rings_circular", {"preset": "hashed", "groups": 4}]
    )
    def test_random_like_keeps_sizes_and_zeros(self, of: str) -> None:
        model = Pattern.of(of, 5)
        shuffled = Pattern.preset("random_like", 5, of=of, seed=4)
        assert sorted(shuffled.group_sizes) == sorted(model.group_sizes)
        assert shuffled.num_cells == model.num_cells
        assert shuffled != model
        # The groups have the same number of negative cells, up to the sign of the whole group.
        assert minorities(shuffled) == minorities(model)

    def test_random_like_shuffles_every_cell(self) -> None:
        places = {
            tuple(np.argwhere(Pattern.preset("random_like", 3, of="A../.../...", seed=seed).index == 0)[0].tolist())
            for seed in range(200)
        }
        assert len(places) == 9

    def test_random_like_is_like_block_by_default(self) -> None:
        sizes = sorted(Pattern.preset("random_like", 5, seed=9).group_sizes)
        assert sizes == [1, 2, 2, 2, 2, 4, 4, 4, 4]
        assert str(Pattern.preset("random_like", 1)) == "A"


def minorities(pattern: Pattern) -> list[tuple[int, int]]:
    """(cells, cells of the rarer sign) of each group, sorted."""
    signed = [pattern.sign[pattern.index == group] for group in range(pattern.num_groups)]
    return sorted((signs.size, min(int((signs > 0).sum()), int((signs < 0).sum()))) for signs in signed)


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "size", "options", "message"),
        [
            ("blok", 5, {}, r"unknown pattern 'blok'; did you mean block\?"),
            ("mirror", 5, {}, "did you mean mirror_"),
            ("ROT90", 5, {}, "unknown pattern 'ROT90'; did you mean rot90?"),
            ("", 5, {}, "unknown pattern ''; the presets are full, block, tile"),
            ("block", 5, {"block": 3}, "the preset 'block' has no option 'block'; it takes blocks"),
            ("full", 5, {"seed": 3}, "the preset 'full' has no option 'seed'; it takes none"),
            ("hashed", 5, {"of": "block"}, "the preset 'hashed' has no option 'of'; it takes groups, seed"),
            ("block", 5, {"blocks": 0}, "`blocks` must be from 1 to 5, the longer side. Received: 0"),
            ("block", 5, {"blocks": 6}, "`blocks` must be from 1 to 5, the longer side. Received: 6"),
            ("block", 5, {"blocks": 2.0}, "`blocks` must be a whole number. Received: 2.0"),
            ("block", 5, {"blocks": True}, "`blocks` must be a whole number. Received: True"),
            ("block", 5, {"blocks": (2, 2)}, "`blocks` must be a whole number"),
            ("tile", 5, {"tile": 6}, "`tile` must fit into the 5x5 kernel. Received: 6"),
            ("tile", 5, {"tile": (0, 2)}, "`tile` must fit into the 5x5 kernel"),
            ("tile", 5, {"tile": (2, 2, 2)}, "`tile` must be a whole number or two of them"),
            ("tile", 5, {"tile": "2"}, "`tile` must be a whole number or two of them"),
            ("tile", 5, {"tile": (2, True)}, "`tile` must be a whole number or two of them"),
            ("transpose", (3, 5), {}, "transpose: the kernel must be square. Received: 3x5"),
            ("rot90", (3, 5), {}, "rot90: the kernel must be square"),
            ("d4", (3, 5), {}, "d4: the kernel must be square"),
            ("centre_surround", 1, {}, "centre_surround: a centre of radius 0 leaves no surround in a 1x1 kernel"),
            ("centre_surround", 2, {}, "leaves no surround in a 2x2 kernel"),
            ("centre_surround", 5, {"radius": 2}, "a centre of radius 2 leaves no surround in a 5x5 kernel"),
            ("centre_surround", 5, {"radius": -1}, "centre_surround: "),
            ("anti_point", 1, {}, "anti_point: no free weight is left in a 1x1 kernel"),
            ("anti_h", (5, 1), {}, "anti_h: no free weight is left in a 5x1 kernel"),
            ("anti_v", (1, 5), {}, "anti_v: no free weight is left in a 1x5 kernel"),
            (
                "atrous",
                4,
                {},
                r"atrous: with rate=2, each side must be a multiple of 2 plus 1 \(3, 5, 7, ...\). Rec.*: 4x4",
            ),
            ("atrous", (5, 4), {}, "Received: 5x4"),
            ("atrous", 5, {"rate": 0}, "atrous: "),
            ("atrous", 5, {"rate": -2}, "atrous: "),
            ("causal", 1, {"centre": False}, "no free weight"),
            ("causal", 5, {"centre": 1}, "`centre` must be true or false. Received: 1"),
            ("hashed", 5, {"groups": 0}, "`groups` must be from 1 to 25, the number of cells. Received: 0"),
            ("hashed", 5, {"groups": 26}, "`groups` must be from 1 to 25, the number of cells. Received: 26"),
            ("hashed", 5, {"seed": "x"}, "`seed` must be a whole number. Received: 'x'"),
            ("random_like", 5, {"of": "AB/CD"}, "the pattern is 2x2, but the kernel size is 5x5"),
            ("random_like", 5, {"of": "blok"}, "did you mean block"),
            ("random_like", 5, {"of": 3}, "a pattern is a Pattern, a preset's name, a mapping or a grid"),
        ],
    )
    def test_says_what_is_wrong(self, name: str, size: int, options: dict[str, object], message: str) -> None:
        with pytest.raises(PatternError, match=message):
            Pattern.preset(name, size, **options)


def test_meanings_and_sources() -> None:
    for name, preset in PRESETS.items():
        assert preset.build.__name__ == name
        for text in (preset.meaning, preset.source):
            assert text
            assert "\n" not in text
            assert not text.endswith(".")
    meanings = [preset.meaning for preset in PRESETS.values()]
    assert len(set(meanings)) == len(meanings)
