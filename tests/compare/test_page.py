"""The page and its pictures: complete, without foreign content, and in agreement with the table."""

from __future__ import annotations

import io
import json
import os
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import h5py
import numpy as np
import pytest
from PIL import Image

from tiedexp.compare import plots
from tiedexp.compare.columns import choose_columns
from tiedexp.compare.gallery import draw_pictures
from tiedexp.compare.kernels import draw_first_kernels
from tiedexp.compare.page import build_page
from tiedexp.compare.reading import read_runs
from tiedexp.compare.table import build_comparison
from tiedexp.drawing.figures import page_style
from tiedexp.drawing.kernels import draw_kernels
from tiedexp.errors import RunError
from tiedexp.patterns.grid import Pattern
from tiedexp.runs.directory import RunDirectory
from tiedexp.training.weights_file import write_array

NASTY = "<script>alert(1)</script>"


def write_weights(run, pattern, shape=None, before=None):
    """Write the weights of the best epoch, and, if given, those before training, which older versions did not save."""
    tied = Pattern.preset(pattern, 5)
    manifest = RunDirectory(run).read_manifest()
    RunDirectory(run).write_manifest(manifest.model_copy(update={"patterns": {"conv_1": tied.digest}}))
    (run / "checkpoints").mkdir()
    with h5py.File(run / "checkpoints" / "epoch-0003.weights.h5", "w") as file:
        file["layers/tied_conv2d/vars/0"] = np.ones(shape or (tied.num_groups, 1, 4), dtype="f4")
    if before is not None:
        write_array(run / "initial_kernel.h5", "layers/tied_conv2d/vars/0", before.astype("f4"))
    return run


@pytest.fixture
def comparison(make_run, tmp_path):
    for number, pattern in enumerate(("full", "block", "rings")):
        for seed in (0, 1, 2):
            accuracy = 0.9 - 0.02 * number + 0.003 * seed**2 * number
            write_weights(
                make_run(pattern, seed, test=accuracy, validation=0.8 - 0.1 * number, weights=1000 // (number + 1)),
                pattern,
            )
    found = read_runs([tmp_path / "runs"])
    return build_comparison(found, found.runs)


class Reader(HTMLParser):
    """Collects the tags of a page, and every address in it."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]


def test_a_page_is_whole(comparison):
    page = build_page(comparison, choose_columns(comparison, []), draw_pictures(comparison), "a study")
    reader = Reader()
    reader.feed(page)
    assert reader.tags.count("svg") == 5
    assert reader.tags.count("img") == 3  # kernels
    assert reader.tags.count("tr") == 4
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in reader.addresses)
    assert not re.search(r"url\((?!#)", page)
    assert "Not drawn" not in page
    assert "#010203" not in page  # the ink is always the page's
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        ET.fromstring(svg)


def test_kernels_are_of_a_seed_that_all_have(make_run, tmp_path):
    for pattern, seeds in (("full", (0, 1, 2)), ("block", (1, 2)), ("rings", (2, 1))):
        for seed in seeds:
            write_weights(make_run(pattern, seed), pattern)
    found = read_runs([tmp_path / "runs"])
    pictures = draw_pictures(build_comparison(found, found.runs))
    titles = {picture.title for picture in pictures if picture.name.startswith("kernels")}
    assert titles == {"full, seed 1", "block, seed 1", "rings, seed 1"}


def test_the_policy_lets_only_our_script_run(comparison):
    import base64
    import hashlib

    page = build_page(comparison, choose_columns(comparison, []), [], "a study")
    script = re.search(r"<script>(.*?)</script>", page, flags=re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{digest}&#x27;" in page
    assert "default-src &#x27;none&#x27;" in page


def test_labels_are_text(make_run, tmp_path):
    for name in (NASTY, "_$x^2$", "none"):
        for seed in (0, 1):
            make_run(seed=seed, dataset__name=name, test=0.9 + seed * 0.01)
    found = read_runs([tmp_path / "runs"])
    comparison = build_comparison(found, found.runs, baseline=NASTY)
    page = build_page(comparison, choose_columns(comparison, []), draw_pictures(comparison), NASTY)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "$x^2$" in page


def test_pictures_that_cannot_be_drawn_say_why(comparison, tmp_path):
    (run, *_) = comparison.rows[0].variant.runs.values()
    (run.run.path / "metrics.jsonl").write_text("[]\n")
    result = json.loads((run.run.path / "result.json").read_text())
    result["test"]["confusion"] = [[1, 2], [3]]
    (run.run.path / "result.json").write_text(json.dumps(result))
    (run.run.path / "checkpoints" / "epoch-0003.weights.h5").write_bytes(b"PK\3\4")
    captions = {picture.name: picture.caption for picture in draw_pictures(comparison)}
    assert "line 1, is not as tiedexp writes it" in captions["curves"]
    assert "has no confusion matrix for test" in captions["confusion"]
    assert "is not loaded" in captions["kernels-1"]
    assert "Not drawn" not in captions["weights"]


def test_png_pictures_are_on_white(comparison):
    for picture in draw_pictures(comparison):
        image = Image.open(io.BytesIO(picture.png)).convert("RGB")
        assert image.getpixel((0, 0)) == (255, 255, 255), picture.name
        assert len(image.getcolors(2**20)) > 10, picture.name


def test_curves_are_means_with_intervals(comparison):
    with page_style():
        (axes,) = plots.draw_curves(comparison).axes
    assert len(axes.lines) == 3
    line = axes.lines[0]  # the baseline, whose validation is 0.8 minus a tenth of 1, 1/2, 1/3
    assert line.get_ydata() == pytest.approx([0.7, 0.75, 0.8 - 0.1 / 3])


def test_the_front_of_the_trade_off(make_run, tmp_path):
    for pattern, validation, weights in (("full", 0.9, 1000), ("block", 0.8, 1200), ("rings", 0.7, 10)):
        make_run(pattern, validation=validation, weights=weights)
    found = read_runs([tmp_path / "runs"])
    with page_style():
        (axes,) = plots.draw_trade_off(build_comparison(found, found.runs), "unique_weights", "weights").axes
    assert axes.lines[0].get_xydata().tolist() == [[10, 0.7], [1000, 0.9]]
    assert {text.get_text() for text in axes.texts} == {"full", "block", "rings"}


@pytest.mark.parametrize(("times", "drawn"), [((None, None), False), ((None, 2.0), True)])
def test_variants_without_a_time_are_not_in_the_picture_of_times(make_run, tmp_path, times, drawn):
    for pattern, seconds in zip(("full", "block"), times, strict=True):
        path = make_run(pattern) / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "epoch_seconds": seconds}))
    found = read_runs([tmp_path / "runs"])
    with page_style():
        figure = plots.draw_trade_off(build_comparison(found, found.runs), "epoch_seconds", "seconds")
    assert (figure is not None) == drawn
    assert figure is None or [text.get_text() for text in figure.axes[0].texts] == ["block"]


def test_the_difference_of_confusion(comparison):
    """By hand: both variants have [[45, 5], [10 - s, 40 + s]] for each seed s, but the second [[50, 0], [10, 40]] for
    seed 0. So it is right of the first class in 100, 90 and 90 of a hundred, against 90 each time.
    """
    changed = comparison.rows[1].variant.runs[(0,)].run.path / "result.json"
    result = json.loads(changed.read_text())
    result["test"]["confusion"] = [[50, 0], [10, 40]]
    changed.write_text(json.dumps(result))
    with page_style():
        figure = plots.draw_confusion_difference(comparison)
    assert [row.label for row in plots.choose_confused(comparison)] == ["block", "full"]
    points = np.asarray(figure.axes[0].collections[0].get_array())
    assert points == pytest.approx(np.array([[10 / 3, -10 / 3], [0, 0]]))


class TestKernels:
    def test_of_a_tied_and_of_an_untied_run(self, make_run):
        run = write_weights(make_run("block"), "block")
        picture, note = draw_first_kernels(RunDirectory(run), "block")
        assert picture.startswith(b"\x89PNG")
        assert note == "The kernels before training were not saved."
        untied = make_run("none")
        (untied / "checkpoints").mkdir()
        with h5py.File(untied / "checkpoints" / "epoch-0003.weights.h5", "w") as file:
            file["layers/conv2d/vars/0"] = np.ones((5, 5, 1, 4), dtype="f4")
        assert draw_first_kernels(RunDirectory(untied), "untied")[0].startswith(b"\x89PNG")
        write_array(untied / "initial_kernel.h5", "layers/conv2d/vars/0", np.zeros((5, 5, 1, 4), dtype="f4"))
        assert draw_first_kernels(RunDirectory(untied), "untied")[1] == ""

    def test_before_and_after_are_those_of_the_run_and_its_pattern(self, make_run, monkeypatch):
        before = np.arange(36.0).reshape(9, 1, 4)
        run, drawn = write_weights(make_run("block"), "block", before=before), []
        monkeypatch.setattr("tiedexp.compare.kernels.draw_kernel_change", lambda *given: drawn.append(given) or b"PNG")
        assert draw_first_kernels(RunDirectory(run), "block, seed 0") == (b"PNG", "")
        ((pattern, first, last, title, names),) = drawn
        block = Pattern.preset("block", 5)
        assert (pattern, title) == (block, "block, seed 0")
        assert names == ("before training", "after epoch 3, the best")
        np.testing.assert_array_equal(first, block.expand(before))
        np.testing.assert_array_equal(last, np.ones((5, 5, 1, 4)))

    @pytest.mark.parametrize("damage", ["torn", "shape", "name", "pipe", "outside", "nowhere"])
    def test_a_damaged_start_leaves_the_trained_kernels(self, make_run, tmp_path, damage):
        run = write_weights(make_run("block"), "block", before=np.zeros((9, 1, 4)))
        path = run / "initial_kernel.h5"
        if damage == "torn":
            path.write_bytes(path.read_bytes()[:99])
        elif damage == "shape":
            write_array(path, "layers/tied_conv2d/vars/0", np.zeros((9, 1, 3), dtype="f4"))
        elif damage == "name":
            write_array(path, "layers/conv2d/vars/0", np.zeros((9, 1, 4), dtype="f4"))
        else:
            path.unlink()
            if damage == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to("/etc/passwd" if damage == "outside" else tmp_path / "nowhere")
        picture, note = draw_first_kernels(RunDirectory(run), "block")
        assert picture == draw_kernels(Pattern.preset("block", 5), np.ones((5, 5, 1, 4)), "block")
        assert note.startswith(f"The kernels before training are not drawn: {path}")

    def test_weights_of_another_pattern(self, make_run):
        run = write_weights(make_run("block"), "block", shape=(4, 1, 4))
        with pytest.raises(RunError, match=r"has shape \(4, 1, 4\), which does not fit its pattern"):
            draw_first_kernels(RunDirectory(run), "block")

    @pytest.mark.parametrize("pattern", ["rings", "nonsense", None, 3, {"preset": "hashed", "groups": -1}])
    def test_a_pattern_that_is_not_the_one(self, make_run, pattern):
        run = write_weights(make_run("block"), "block")
        manifest = json.loads((run / "manifest.json").read_text())
        manifest["spec"]["model"]["tying"]["pattern"] = pattern
        (run / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(RunError, match="does not say what the kernels are"):
            draw_first_kernels(RunDirectory(run), "block")

    def test_weights_outside(self, make_run, tmp_path):
        run = write_weights(make_run("block"), "block")
        weights = run / "checkpoints" / "epoch-0003.weights.h5"
        weights.rename(tmp_path / "outside.h5")
        weights.symlink_to(tmp_path / "outside.h5")
        with pytest.raises(RunError, match="leads out of the run directory"):
            draw_first_kernels(RunDirectory(run), "block")
        weights.unlink()
        with h5py.File(weights, "w") as file:
            file["layers/tied_conv2d/vars/0"] = h5py.ExternalLink(str(tmp_path / "outside.h5"), "/layers")
        with pytest.raises(RunError, match=r"is a link \(ExternalLink\)"):
            draw_first_kernels(RunDirectory(run), "block")
