"""What is written for TensorBoard is read back by TensorBoard: by its server, and by its reader of event files."""

from __future__ import annotations

import html
import json
import math
import os
import re
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata

from tiedexp.drawing.confusion import draw_confusion
from tiedexp.drawing.kernels import draw_kernels
from tiedexp.experiment.run import run_experiment
from tiedexp.patterns.grid import Pattern
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.tensorboard import HPARAMS_METRICS, SPLITS, TAGS, TensorBoardLog
from tiedexp.spec.schema import ExperimentSpec

HPARAMS = {"pattern": "block", "groups": 9, "seed": 0, "rate": 1e-3, "jit": True, "width": 16, "area": math.inf}
LOSSES = {"train": [1.5, math.nan, 0.5], "validation": [2.0, 1.0, math.inf], "test": [0.75]}


def png_of(width: int, height: int) -> bytes:
    """A black picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(height * (width + 1)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write_run(directory: Path, seed: int) -> None:
    """A run with everything that can be written."""
    with TensorBoardLog(directory) as log:
        log.layout()
        log.text("spec", 0, "```yaml\nname: tiny\n```")
        log.hparams({**HPARAMS, "seed": seed})
        log.image("train", "kernels/conv_1", 1, png_of(7, 5))
        log.histogram("train", "weights/conv_1", 1, np.r_[np.arange(30.0), np.nan, np.inf].reshape(4, 8))
        for split, losses in LOSSES.items():
            for step, loss in enumerate(losses, start=1):
                log.scalars(split, step, {"loss": loss, "accuracy": 0.5, "learning_rate": 0.1, "images_per_second": 9})
        log.hparams_metrics(3, {"validation accuracy": 0.5})
        log.hparams_metrics(3, {"test accuracy": 0.75 + seed / 100})


class Server:
    """A running TensorBoard."""

    def __init__(self, url: str):
        self.url = url

    def get(self, path: str, **query: object) -> bytes:
        with urllib.request.urlopen(
            f"{self.url}data/{path}{'?' * bool(query)}{urllib.parse.urlencode(query)}", timeout=20
        ) as answer:
            return bytes(answer.read())

    def json(self, path: str, **query: object):
        return json.loads(self.get(path, **query))

    def post(self, path: str, content: object):
        data, kind = json.dumps(content).encode(), {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}data/{path}", data, kind), timeout=20) as answer:
            return json.loads(answer.read())

    def sessions(self) -> list[dict]:
        """The rows of the HParams tab."""
        statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
        query = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": statuses, "colParams": []}
        return sorted(
            self.post("plugin/hparams/session_groups", query)["sessionGroups"], key=lambda group: group["name"]
        )


def wait_for(is_true: Callable[[], object]) -> None:
    """Ask until it is true: TensorBoard reads in the background, and nothing else says when it is done."""
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline, "TensorBoard does not show what was written"
        time.sleep(0.05)


@contextmanager
def serve(directory: Path, runs: int) -> Iterator[Server]:
    """A TensorBoard that has read all of `runs` runs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", directory, "--port", "0", "--reload_interval", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        server = Server(url)
        tags = runs * (len(SPLITS) * len(TAGS) + len(HPARAMS_METRICS))
        wait_for(lambda: sum(map(len, server.json("plugin/scalars/tags").values())) == tags)
        yield server
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """TensorBoard on two runs."""
    runs = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        write_run(runs / f"tiny-1a2b/seed-{seed}", seed)
    with serve(runs, runs=2) as server:
        yield server


def test_all_splits_have_the_same_tags(server):
    tags = server.json("plugin/scalars/tags")
    for seed in (0, 1):
        for split in SPLITS:
            assert sorted(tags[f"tiny-1a2b/seed-{seed}/{split}"]) == sorted(TAGS)


@pytest.mark.parametrize("split", SPLITS)
def test_scalars_are_shown(server, split):
    points = server.json("plugin/scalars/scalars", run=f"tiny-1a2b/seed-1/{split}", tag="loss")
    assert [step for _, step, _ in points] == list(range(1, len(LOSSES[split]) + 1))
    # TensorBoard writes NaN and infinity as text, because JSON has no numbers for them.
    np.testing.assert_array_equal([float(value) for _, _, value in points], LOSSES[split])


def test_a_picture_is_shown_to_the_byte(server):
    run = "tiny-1a2b/seed-0/train"
    (image,) = server.json("plugin/images/images", run=run, tag="kernels/conv_1", sample=0)
    assert image["step"] == 1
    assert server.get(f"plugin/images/individualImage?{image['query']}") == png_of(7, 5)


def test_a_histogram_counts_the_finite_values(server):
    run = "tiny-1a2b/seed-0/train"
    ((_, step, buckets),) = server.json("plugin/histograms/histograms", run=run, tag="weights/conv_1")
    assert step == 1
    assert sum(count for _, _, count in buckets) == 30
    assert (buckets[0][0], buckets[-1][1]) == (0, 29)


def test_the_spec_is_a_text(server):
    (text,) = server.json("plugin/text/text", run="tiny-1a2b/seed-0", tag="spec")
    assert "name: tiny" in text["text"]
    assert "<code" in text["text"]


def test_the_layout_overlays_the_splits_of_each_tag(server):
    (category,) = server.json("plugin/custom_scalars/layout")["category"]
    assert [chart["title"] for chart in category["chart"]] == list(TAGS)
    for chart in category["chart"]:
        (pattern,) = chart["multiline"]["tag"]
        found = server.json("plugin/custom_scalars/scalars", run="tiny-1a2b/seed-0/test", tag=pattern)
        assert list(found["tag_to_events"]) == [chart["title"]]


def test_the_hparams_tab_lists_two_metrics_and_all_hyperparameters(server):
    experiment = server.post("plugin/hparams/experiment", {"include_metrics": True})
    infos = {info["name"]: info["type"] for info in experiment["hparamInfos"]}
    assert infos == {
        "pattern": "DATA_TYPE_STRING",
        "groups": "DATA_TYPE_FLOAT64",
        "seed": "DATA_TYPE_FLOAT64",
        "rate": "DATA_TYPE_FLOAT64",
        "jit": "DATA_TYPE_BOOL",
        "width": "DATA_TYPE_FLOAT64",
        "area": "DATA_TYPE_STRING",  # infinity, as text
    }
    assert [metric["name"]["tag"] for metric in experiment["metricInfos"]] == list(HPARAMS_METRICS)


def test_the_columns_shown_to_begin_with_are_the_first_five(server):
    experiment = server.post("plugin/hparams/experiment", {"include_metrics": True})
    assert {info["name"] for info in experiment["hparamInfos"][:5]} == set(list(HPARAMS)[:5])


def test_the_hparams_tab_has_one_row_per_run(server):
    rows = server.sessions()
    assert [row["name"] for row in rows] == ["tiny-1a2b/seed-0", "tiny-1a2b/seed-1"]
    for seed, row in enumerate(rows):
        assert row["hparams"] == {**HPARAMS, "seed": seed, "area": "inf"}
        values = {value["name"]["tag"]: value["value"] for value in row["metricValues"]}
        assert values == pytest.approx({"test accuracy": 0.75 + seed / 100, "validation accuracy": 0.5})
        assert [session["status"] for session in row["sessions"]] == ["STATUS_SUCCESS"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Iterator[tuple[Server, RunDirectory]]:
    """TensorBoard on a single run that was really trained: two of three convs are tied, two epochs."""
    spec = ExperimentSpec.model_validate(
        {
            "name": "real",
            "dataset": {"name": "digits", "limit": 120, "validation": 0.25},
            "model": {"depth": 3, "width": 4, "kernel_size": 3, "tying": {"pattern": "point", "layers": [1, 3]}},
            # The rate is so high that the first epoch is the best one, not the last.
            "training": {
                "epochs": 2,
                "batch_size": 32,
                "optimizer": {"name": "adam", "learning_rate": 0.3},
                "schedule": {"name": "constant"},
            },
            "tensorboard": {"histograms": True},
            "seed": 7,
        }
    )
    root = tmp_path_factory.mktemp("trained")
    run = run_experiment(spec, root=root)
    with serve(run.tensorboard, runs=1) as server:
        yield server, run


def read_free_kernel(run: RunDirectory, epoch: int, shape: tuple[int, ...]) -> np.ndarray:
    """The only weight of the model with this shape, from a checkpoint."""
    found = []

    def collect(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.shape == shape and not name.startswith("optimizer"):
            found.append(item[()])

    with h5py.File(run.checkpoints / f"epoch-{epoch:04d}.weights.h5") as file:
        file.visititems(collect)
    (kernel,) = found
    return kernel


def test_a_trained_run_has_the_same_tags_in_each_split(trained):
    server, run = trained
    expected = {split: sorted(TAGS) for split in SPLITS} | {".": sorted(HPARAMS_METRICS)}
    assert {name: sorted(tags) for name, tags in server.json("plugin/scalars/tags").items()} == expected
    for split in ("train", "validation"):
        for tag in ("loss", "accuracy", "images_per_second"):
            points = server.json("plugin/scalars/scalars", run=split, tag=tag)
            lines = [(line.epoch, getattr(line, split)) for line in run.read_metrics()]
            epochs = [(epoch, pytest.approx(getattr(measured, tag), rel=1e-6)) for epoch, measured in lines]
            assert [(step, value) for _, step, value in points] == epochs
    result = run.read_result()
    ((_, step, accuracy),) = server.json("plugin/scalars/scalars", run="test", tag="accuracy")
    assert (step, accuracy) == (result.best_epoch, pytest.approx(result.test.accuracy))


def test_a_trained_run_shows_its_kernels_in_each_epoch(trained):
    server, run = trained
    assert sorted(server.json("plugin/images/tags")["train"]) == ["kernels/conv_1", "kernels/conv_3"]
    images = server.json("plugin/images/images", run="train", tag="kernels/conv_1", sample=0)
    assert [image["step"] for image in images] == [1, 2]
    served = [server.get(f"plugin/images/individualImage?{image['query']}") for image in images]
    point = Pattern.preset("point", 3)
    weights = [read_free_kernel(run, epoch, (point.num_groups, 1, 4)) for epoch in (1, 2)]
    drawn = [draw_kernels(point, point.expand(free), "conv_1") for free in weights]
    assert len(set(served)) == 2
    assert served == drawn


def test_a_trained_run_shows_its_confusion(trained):
    server, run = trained
    result = run.read_result()
    (image,) = server.json("plugin/images/images", run="test", tag="confusion", sample=0)
    assert image["step"] == result.best_epoch
    drawn = draw_confusion(np.array(result.test.confusion), [str(digit) for digit in range(10)])
    assert server.get(f"plugin/images/individualImage?{image['query']}") == drawn


def test_a_trained_run_is_a_row_of_the_hparams_tab(trained):
    server, run = trained
    manifest, result = run.read_manifest(), run.read_result()
    (row,) = server.sessions()
    expected = {
        "pattern": "point",
        "pattern_digest": Pattern.preset("point", 3).digest,
        "pattern_groups": 5,
        "tied_convs": 2,
        "depth": 3,
        "width": 4,
        "kernel_size": "3x3",
        "dataset": "digits",
        "seed": 7,
        **{name: getattr(manifest, name) for name in ("unique_weights", "expanded_weights", "macs_dense", "macs_tied")},
    }
    assert expected.items() <= row["hparams"].items()
    values = {value["name"]["tag"]: value["value"] for value in row["metricValues"]}
    assert values == pytest.approx(
        {"test accuracy": result.test.accuracy, "validation accuracy": result.validation.accuracy}
    )


def test_a_trained_run_has_its_spec_and_histograms(trained):
    server, run = trained
    (text,) = server.json("plugin/text/text", run=".", tag="spec")
    for line in run.spec.read_text().splitlines():
        assert line.strip() in html.unescape(text["text"])
    tags = set(server.json("plugin/histograms/tags")["train"])
    for series in ("weights", "gradient_norms"):
        assert {f"{series}/conv_1/free_kernel", f"{series}/conv_2/kernel"} <= tags


def test_a_picture_is_stored_with_its_size(tmp_path):
    with TensorBoardLog(tmp_path) as log:
        log.image("test", "confusion", 1, png_of(7, 5))
    reader = EventAccumulator(str(tmp_path / "test"))
    reader.Reload()
    (event,) = reader.Tensors("confusion")
    assert list(event.tensor_proto.string_val) == [b"7", b"5", png_of(7, 5)]


# Resuming a run

ALL = dict.fromkeys(("scalars", "images", "histograms", "text"), 0)


def read_steps(directory: Path, tag: str = "loss") -> list[int]:
    """The steps of a tag, as TensorBoard's own reader finds them."""
    reader = EventAccumulator(str(directory), tensor_size_guidance=ALL)
    reader.Reload()
    return [event.step for event in reader.Tensors(tag)]


def write_epochs(log: TensorBoardLog, steps: range) -> None:
    for step in steps:
        log.scalars("train", step, {"loss": 1 / step})
        log.image("train", "kernels", step, png_of(step, 1))
        log.scalars("validation", step, {"loss": 2 / step})


def test_resuming_drops_what_will_be_written_again(tmp_path):
    with TensorBoardLog(tmp_path) as log:
        write_epochs(log, range(1, 6))
    with TensorBoardLog(tmp_path, resume_step=4) as log:
        assert read_steps(tmp_path / "train") == read_steps(tmp_path / "train", "kernels") == [1, 2, 3]
        write_epochs(log, range(4, 7))
    with TensorBoardLog(tmp_path, resume_step=3) as log:
        write_epochs(log, range(3, 5))
    for split in ("train", "validation"):
        assert read_steps(tmp_path / split) == [1, 2, 3, 4]
    assert read_steps(tmp_path / "train", "kernels") == [1, 2, 3, 4]


def test_a_reader_that_stays_open_sees_no_step_twice(tmp_path):
    with TensorBoardLog(tmp_path) as log:
        write_epochs(log, range(1, 6))
    reader = EventAccumulator(str(tmp_path / "train"), tensor_size_guidance=ALL)
    reader.Reload()
    with TensorBoardLog(tmp_path, resume_step=4) as log:
        write_epochs(log, range(4, 7))
    reader.Reload()
    assert [event.step for event in reader.Tensors("loss")] == [1, 2, 3, 4, 5, 6]


def test_files_are_read_in_the_order_of_writing_even_if_the_clock_goes_back(tmp_path, monkeypatch):
    for resume, now in ((None, 2000), (3, 1000)):
        monkeypatch.setattr(time, "time_ns", lambda now=now: now)
        with TensorBoardLog(tmp_path, resume_step=resume) as log:
            write_epochs(log, range(1, 3) if resume is None else range(3, 5))
    assert read_steps(tmp_path / "train") == [1, 2, 3, 4]


def test_starting_over_keeps_nothing(tmp_path):
    with TensorBoardLog(tmp_path) as log:
        write_epochs(log, range(1, 6))
        log.text("old", 0, "text")
    with TensorBoardLog(tmp_path) as log:
        log.scalars("train", 1, {"loss": 1.0})
    assert read_steps(tmp_path / "train") == [1]
    assert [path.name for path in tmp_path.rglob("*tfevents*") if path.parent.name != "train"] == []


def test_the_test_split_is_written_again_at_any_step(tmp_path):
    """The best epoch, which is tested, can come before the last checkpoint."""
    for _ in range(2):
        with TensorBoardLog(tmp_path, resume_step=6) as log:
            log.scalars("test", 3, {"loss": 0.5})
    assert read_steps(tmp_path / "test") == [3]


def test_the_run_as_a_whole_is_described_once(tmp_path):
    for pattern in ("block", "full"):
        with TensorBoardLog(tmp_path, resume_step=2) as log:
            log.text("spec", 0, pattern)
            log.hparams_metrics(1, {"validation accuracy": 0.5})
    assert read_steps(tmp_path, "spec") == [0]
    assert read_steps(tmp_path, "validation accuracy") == [1]


@pytest.mark.parametrize("lost", [1, 5, 13, 40])
def test_a_record_cut_off_by_a_crash_is_dropped(tmp_path, lost):
    with TensorBoardLog(tmp_path) as log:
        write_epochs(log, range(1, 4))
    (file,) = (tmp_path / "validation").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-lost])
    with TensorBoardLog(tmp_path, resume_step=9) as log:
        log.scalars("validation", 9, {"loss": 0.0})
    assert content.startswith(file.read_bytes())
    assert file.stat().st_size < len(content) - 40  # nothing is left of the record
    assert read_steps(tmp_path / "validation") == [1, 2, 9]


def test_what_follows_damage_is_dropped(tmp_path):
    with TensorBoardLog(tmp_path) as log:
        write_epochs(log, range(1, 4))
    (file,) = (tmp_path / "validation").iterdir()
    whole = file.read_bytes()
    record = len(whole) - whole.rindex(b"loss")  # a little less than the last record
    file.write_bytes(whole[: -record - 40] + b"\xff" * (record + 40))
    with TensorBoardLog(tmp_path, resume_step=9) as log:
        log.scalars("validation", 9, {"loss": 0.0})
    assert read_steps(tmp_path / "validation")[-1] == 9


def test_what_was_flushed_is_on_disk_while_the_log_is_open(tmp_path):
    log = TensorBoardLog(tmp_path)
    log.scalars("train", 1, {"loss": 1.0})
    log.flush()
    assert read_steps(tmp_path / "train") == [1]
    log.close()
    log.close()


def test_what_was_flushed_survives_a_power_cut(tmp_path, monkeypatch):
    """All bytes of each file, the names of the files and the names of their directories are synced."""
    synced, fsync = {}, os.fsync

    def note(descriptor):
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced[path] = {entry.name for entry in path.iterdir()} if path.is_dir() else path.stat().st_size

    monkeypatch.setattr(os, "fsync", note)
    log = TensorBoardLog(tmp_path / "run" / "tensorboard")
    log.layout()
    write_epochs(log, range(1, 3))
    log.flush()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {path: synced[path] for path in files} == {path: path.stat().st_size for path in files}
    for path in (*files, *(path.parent for path in files)):
        assert path.name in synced[path.parent]
    log.close()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
@pytest.mark.parametrize("name", ["x", "", "000001", "1690000000.host.7.0", "9" * 200, "999999.é", "-00001.1"])
def test_files_of_others_are_left_alone(tmp_path, name, kind):
    stray = tmp_path / "train" / f"events.out.tfevents.{name}"
    stray.parent.mkdir()
    (tmp_path / "other").write_text("theirs")
    if kind == "directory":
        stray.mkdir()
    else:
        stray.symlink_to(tmp_path / "other") if kind == "link" else stray.write_text("theirs")
    for resume_step in (None, 3):
        with TensorBoardLog(tmp_path, resume_step=resume_step) as log:
            write_epochs(log, range(resume_step or 1, 4))
    assert stray.is_dir() or stray.read_text() == "theirs"
    stray.rmdir() if stray.is_dir() else stray.unlink()  # TensorBoard's reader may fail on it
    assert read_steps(tmp_path / "train") == [1, 2, 3]


def test_links_and_directories_with_our_names_are_left_alone(tmp_path):
    (tmp_path / "train" / "events.out.tfevents.000005.7").mkdir(parents=True)
    (tmp_path / "validation").mkdir()
    (tmp_path / "other").write_text("theirs")
    (tmp_path / "validation" / "events.out.tfevents.000005.7").symlink_to("../other")
    for resume_step in (None, 2):
        with TensorBoardLog(tmp_path, resume_step=resume_step) as log:
            write_epochs(log, range(resume_step or 1, 3))
    assert (tmp_path / "other").read_text() == "theirs"


# How a session ends, and what is refused


def status_of(directory: Path) -> int | None:
    reader = EventAccumulator(str(directory))
    reader.Reload()
    if metadata.SESSION_END_INFO_TAG not in reader.Tags()["tensors"]:
        return None
    content = reader.SummaryMetadata(metadata.SESSION_END_INFO_TAG).plugin_data.content
    return int(metadata.parse_session_end_info_plugin_data(content).status)


def test_a_failed_run_is_marked_as_failed_until_it_is_resumed(tmp_path):
    log = TensorBoardLog(tmp_path)
    log.hparams(HPARAMS)
    with pytest.raises(ZeroDivisionError), log:
        _ = 1 / 0
    assert status_of(tmp_path) == api_pb2.STATUS_FAILURE
    with TensorBoardLog(tmp_path, resume_step=1) as log:
        log.hparams(HPARAMS)
        log.flush()
        assert status_of(tmp_path) is None
    assert status_of(tmp_path) == api_pb2.STATUS_SUCCESS


@pytest.mark.parametrize("value", [None, [1], (1, 2), np.arange(2)])
def test_a_hyperparameter_is_a_plain_value(tmp_path, value):
    with pytest.raises(TypeError, match=r"int, float or str. Received: depth="), TensorBoardLog(tmp_path) as log:
        log.hparams({"width": 1, "depth": value})


def test_misuse_is_refused(tmp_path):
    with TensorBoardLog(tmp_path, resume_step=3) as log:
        with pytest.raises(ValueError, match=r"train was at 3. Received: step=2"):
            log.scalars("train", 2, {"loss": 1.0})
        log.scalars("train", 5, {"loss": 1.0})
        with pytest.raises(ValueError, match=r"train was at 5. Received: step=4"):
            log.image("train", "a", 4, png_of(1, 1))
        with pytest.raises(ValueError, match=r"a split is one of .* Received: 'eval'"):
            log.scalars("eval", 5, {"loss": 1.0})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="'a' is not an encoded PNG"):
            log.image("train", "a", 5, b"GIF89a")
        with pytest.raises(ValueError, match="Received: 'loss'"):
            log.hparams_metrics(5, {"loss": 1.0})


@pytest.mark.parametrize("values", [[], [3.0, 3.0], [math.nan], 1.0])
def test_any_array_has_a_histogram(tmp_path, values):
    with TensorBoardLog(tmp_path) as log:
        log.histogram("train", "weights", 1, values)
    assert read_steps(tmp_path / "train", "weights") == [1]


def test_writing_needs_no_tensorflow(tmp_path):
    code = (
        "import sys, pathlib; from tiedexp.runs.tensorboard import TensorBoardLog\n"
        "with TensorBoardLog(pathlib.Path(sys.argv[1])) as log:\n"
        "    log.hparams({'a': 1}); log.layout(); log.text('a', 0, 'b'); log.scalars('train', 1, {'loss': 1.0})\n"
        "    log.histogram('train', 'w', 1, [1.0])\n"
        "assert not {'tensorflow', 'keras'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, timeout=60)
