"""`tiedexp train` and `tiedexp eval`, from the outside."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

TIEDEXP = [sys.executable, "-c", "from tiedexp.cli import main; main()"]


@pytest.fixture
def trained(tiedexp_cli, small_spec):
    """A finished run of the small spec, its directory and result."""
    answer = tiedexp_cli("train", small_spec, "--json")
    assert answer.code == 0, answer.err
    result = json.loads(answer.out)
    return Path(result["run"]), result


def test_train_tells_the_whole_story(tiedexp_cli, small_spec):
    answer = tiedexp_cli("train", small_spec, "training.epochs=3", "seed=5")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    (run,) = Path("runs").glob("small-*/seed-5")
    for text in (
        "small, seed 5",
        "plain, 2 convs 3x3, width 4; 2 tied: point",
        "294 free of 438",
        "digits, 8x8x1, 10 classes: 180 train, 20 validation, 200 test",
        "test accuracy 0.",
        "best epoch",
        f"tiedexp eval {run}",
        f"tiedexp board {run}",
    ):
        assert text in answer.out
    rows = [line.split() for line in answer.out.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["1", "2", "3"]


def test_a_finished_run_is_shown_and_not_trained_again(tiedexp_cli, small_spec, trained):
    run, result = trained
    before = (run / "result.json").stat().st_mtime_ns
    answer = tiedexp_cli("train", small_spec)
    assert answer.code == 0
    assert "this run is already finished; --fresh starts it over" in answer.out
    assert f"test accuracy {result['test']['accuracy']:.4f}" in answer.out
    assert (run / "result.json").stat().st_mtime_ns == before
    assert "already finished" not in tiedexp_cli("train", small_spec, "--fresh", "--quiet").out
    assert (run / "result.json").stat().st_mtime_ns > before


def test_the_resolved_spec_is_the_same_run(tiedexp_cli, trained):
    run, _ = trained
    assert "already finished" in tiedexp_cli("train", run / "spec.yaml").out


def test_eval_repeats_the_test(tiedexp_cli, trained):
    run, result = trained
    answer = tiedexp_cli("eval", run, "--json")
    assert (answer.code, answer.err) == (0, "")
    again = json.loads(answer.out)
    assert again["epoch"] == result["best_epoch"]
    for key, value in result["test"].items():
        assert again[key] == value, key


def test_eval_shows_tables(tiedexp_cli, trained):
    run, result = trained
    answer = tiedexp_cli("eval", run, "--confusion", "confusion.png")
    assert answer.code == 0, answer.err
    for text in ("images             200", f"accuracy           {result['test']['accuracy']:.4f}", "Wilson", "top-5"):
        assert text in answer.out
    assert Path("confusion.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split() for line in answer.out.splitlines() if line.split()[:1] == ["3"]]
    precision, recall = (f"{result['test']['classes'][3][key]:.4f}" for key in ("precision", "recall"))
    assert rows[0][2:4] == [precision, recall]
    diagonal = str(result["test"]["confusion"][3][3])
    assert diagonal in rows[1]


def test_eval_of_other_splits_checkpoints_and_transforms(tiedexp_cli, trained):
    run, result = trained

    def evaluate(*arguments):
        answer = tiedexp_cli("eval", run, "--json", *arguments)
        assert answer.code == 0, answer.err
        return json.loads(answer.out)

    assert evaluate("--split", "validation")["accuracy"] == result["validation"]["accuracy"]
    assert evaluate("--split", "train")["images"] == 180
    assert evaluate("--checkpoint", "last")["epoch"] == result["epochs"]
    turned = evaluate("--transform", "rot180")
    assert turned["loss"] != result["test"]["loss"]
    assert evaluate("--transform", "translate=0")["loss"] == result["test"]["loss"]


def test_eval_on_other_data(tiedexp_cli, trained):
    digits = load_digits()
    images = (digits.images / 16).astype("float32")
    np.savez(
        "mine.npz",
        x_train=images[:100],
        y_train=digits.target[:100],
        x_test=images[100:150],
        y_test=digits.target[100:150],
    )
    np.savez(
        "large.npz",
        x_train=np.zeros((10, 9, 9)),
        y_train=np.arange(10),
        x_test=np.zeros((10, 9, 9)),
        y_test=np.arange(10),
    )
    run, _ = trained
    answer = tiedexp_cli("eval", run, "--data", "mine.npz", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["images"] == 50
    answer = tiedexp_cli("eval", run, "--data", "large.npz")
    assert answer.code == 1
    assert "trained on images (8, 8, 1) of 10 classes, but npz has images (9, 9, 1) of 10 classes" in answer.err


def test_eval_on_other_data_takes_all_of_it(tiedexp_cli, trained):
    """The rules of the run, 10% for validation and at most 200 images, are for its own images."""
    run, result = trained
    digits = load_digits()
    np.savez("few.npz", x_train=digits.images[:300].astype("uint8") * 15, y_train=digits.target[:300])
    one_each = [list(digits.target).index(label) for label in range(10)]
    tested = {"x_test": digits.images[:250].astype("uint8") * 15, "y_test": digits.target[:250]}
    np.savez("one_each.npz", x_train=digits.images[one_each].astype("uint8"), y_train=np.arange(10), **tested)

    def count(*arguments):
        answer = tiedexp_cli("eval", run, "--json", *arguments)
        assert answer.code == 0, answer.err
        return json.loads(answer.out)["images"]

    assert count("--data", "few.npz") == 300
    assert count("--data", "one_each.npz") == 250
    assert count() == count("--data", "digits") == result["test"]["images"]
    assert "images  " in tiedexp_cli("eval", run, "--data", "few.npz").out


def test_eval_notices_that_the_data_has_changed(tiedexp_cli, small_spec):
    digits = load_digits()
    images = digits.images[:300].astype("uint8") * 15
    np.savez("mine.npz", x_train=images, y_train=digits.target[:300])
    small_spec.write_text(small_spec.read_text().replace("name: digits", "name: npz, path: mine.npz"))
    run = json.loads(tiedexp_cli("train", small_spec, "--json").out)["run"]
    assert tiedexp_cli("eval", run).code == 0
    np.savez("mine.npz", x_train=255 - images, y_train=digits.target[:300])
    answer = tiedexp_cli("eval", run)
    assert answer.code == 1
    assert "the data has changed since the run was trained" in answer.err
    Path("mine.npz").rename("other.npz")
    assert tiedexp_cli("eval", run, "--data", "other.npz").code == 0


def test_eval_knows_ones_own_images_as_long_as_the_run_stays_where_it_is(tiedexp_cli, small_spec):
    digits = load_digits()
    np.savez("mine.npz", x_train=digits.images[:300].astype("uint8") * 15, y_train=digits.target[:300])
    small_spec.write_text(small_spec.read_text().replace("name: digits", "name: npz, path: mine.npz"))
    answer = tiedexp_cli("train", small_spec, "training.epochs=1")
    (next_step,) = re.findall(r"^details    tiedexp (.*)$", answer.out, re.MULTILINE)
    answer = tiedexp_cli(*next_step.split())
    assert (answer.code, answer.err) == (0, "")
    shutil.copytree(next_step.split()[1], "copy")
    answer = tiedexp_cli("eval", "copy")
    assert answer.code == 1
    assert f"so they are read only if you name them too: --data {Path('mine.npz').resolve()}" in answer.err
    (extended,) = re.findall(
        r"^details    tiedexp eval (.*)$",
        tiedexp_cli(*next_step.replace("eval", "extend").split(), "--epochs", 2).out,
        re.M,
    )
    assert extended != next_step.split()[1]
    assert tiedexp_cli("eval", extended).code == 0


def test_a_finished_run_of_other_data_is_not_shown_as_if_it_were_of_this(tiedexp_cli, small_spec):
    digits = load_digits()
    images = digits.images[:300].astype("uint8") * 15
    np.savez("mine.npz", x_train=images, y_train=digits.target[:300])
    small_spec.write_text(small_spec.read_text().replace("name: digits", "name: npz, path: mine.npz"))
    assert tiedexp_cli("train", small_spec, "-q").code == 0
    assert "already finished" in tiedexp_cli("train", small_spec).out
    np.savez("mine.npz", x_train=255 - images, y_train=digits.target[:300])
    answer = tiedexp_cli("train", small_spec)
    assert (answer.code, answer.out) == (1, "")
    assert "the data has changed since" in answer.err
    assert "--fresh trains it again" in answer.err
    Path("mine.npz").unlink()
    answer = tiedexp_cli("train", small_spec)
    assert answer.code == 0
    assert "test accuracy" in answer.out
    assert answer.err.startswith("warning: the data that ")


def test_why_a_run_failed_is_listed_until_it_goes_on(tiedexp_cli, small_spec):
    changes = "training.optimizer={name: sgd, learning_rate: 1e30}"
    answer = tiedexp_cli("train", small_spec, changes)
    assert answer.code == 1
    reason = answer.err.removeprefix("error: ").strip()
    assert reason.startswith("epoch 1: the loss became")
    (listed,) = json.loads(tiedexp_cli("runs", "list", "--json").out)
    assert (listed["state"], listed["problem"]) == ("failed", reason)
    shown = json.loads(tiedexp_cli("runs", "show", listed["directory"], "--json").out)
    assert (shown["state"], shown["problem"]) == ("failed", reason)
    assert "failed" in tiedexp_cli("runs", "list").out


def test_names_and_paths_are_printed_as_they_are(tiedexp_cli, small_spec, tmp_path):
    digits = load_digits()
    for name, label in (("[red]zero", 0), ("[one]", 1)):
        for part in ("train", "test"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for at, image in enumerate(digits.images[digits.target == label][:20]):
                Image.fromarray(image.astype("uint8") * 15).save(tmp_path / "images" / part / name / f"{at}.png")
    small_spec.write_text(small_spec.read_text().replace("name: digits", "name: folder, path: images"))
    answer = tiedexp_cli("train", small_spec, "--runs", "[bold]runs", "training.epochs=1")
    assert answer.code == 0, answer.err
    (run,) = Path("[bold]runs").glob("*/seed-0")
    assert f"run        '{run}'" in answer.out
    out = tiedexp_cli("eval", run).out
    assert out.startswith(f"{run}, epoch 1, test")
    for text in ("[red]zero", "[one]", "[red]z"):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["eval", "nowhere"], 1, "nowhere is not a directory"),
        (["eval", "RUN", "--transform", "flip"], 2, "flip"),
        (["eval", "RUN", "--data", "mnistt"], 1, "mnistt"),
        (["eval", "RUN", "--confusion", "no/such/folder.png"], 2, "cannot be written"),
        (["train", "missing.yaml"], 2, "missing.yaml"),
        (["train", "small.yaml", "training.epochs=none"], 2, "training.epochs"),
        (["train", "small.yaml", "dataset.name=mnist", "--data-dir", "empty"], 1, "tiedexp data prepare mnist"),
    ],
)
def test_one_clear_message_and_no_traceback(tiedexp_cli, trained, arguments, code, message):
    run, _ = trained
    before = sorted(Path("runs").rglob("*"))
    answer = tiedexp_cli(*[str(run) if argument == "RUN" else argument for argument in arguments])
    assert answer.code == code
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert sorted(Path("runs").rglob("*")) == before


def test_debug_shows_the_traceback(tiedexp_cli):
    import tiedexp

    with pytest.raises(tiedexp.SpecError):
        tiedexp_cli("--debug", "train", "missing.yaml")


def test_a_damaged_checkpoint_is_told(tiedexp_cli, trained):
    run, _ = trained
    for path in (run / "checkpoints").glob("*.h5"):
        path.write_bytes(b"no")
    answer = tiedexp_cli("eval", run)
    assert answer.code == 1
    assert "there is no checkpoint" in answer.err
    assert f"to train the run: tiedexp train {run}/spec.yaml --fresh" in answer.err
    assert f"warning: the checkpoint {run}/checkpoints/epoch-0002.json is damaged and is not used" in answer.err


def test_eval_of_a_run_that_was_stopped_in_its_first_epoch(tiedexp_cli, small_spec, monkeypatch):
    asked = iter([False] * 5)
    monkeypatch.setattr("tiedexp.signals.stop_on_signals", lambda: nullcontext(lambda: next(asked, True)))
    assert tiedexp_cli("train", small_spec, "training.steps_per_execution=1").code == 130
    (run,) = Path("runs").glob("*/seed-0")
    answer = tiedexp_cli("eval", run)
    assert answer.code == 1
    assert "no epoch of the run is complete yet, so there is no best one; --checkpoint last uses step" in answer.err
    assert tiedexp_cli("eval", run, "--checkpoint", "last").code == 0


@contextmanager
def training(small_spec, tmp_path, *changes):
    """A process that trains, and has written its first checkpoint."""
    command = [*TIEDEXP, "train", small_spec, "tensorboard.kernels=false", *changes]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
    ) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/*/seed-0/checkpoints/epoch-*.json")) and process.poll() is None:
            assert time.monotonic() < deadline, process.kill()
            time.sleep(0.1)
        yield process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_130_after_its_step_with_a_checkpoint(small_spec, tmp_path, number):
    with training(small_spec, tmp_path, "training.epochs=100000") as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.startswith(("error: interrupted in epoch ", "error: interrupted after epoch "))
    assert "the same command resumes the run" in err
    assert "Traceback" not in err
    (run,) = tmp_path.glob("runs/*/seed-0")
    assert not (run / "result.json").exists()
    newest = max((run / "checkpoints").glob("epoch-*.json"), key=lambda path: path.stat().st_mtime_ns)
    step = re.search(r"step (\d+) of 5 of epoch (\d+) is kept", err)
    assert newest.name == (f"epoch-{int(step[2]) - 1:04d}-step-{int(step[1]):06d}.json" if step else newest.name)


def test_a_second_signal_ends_it_at_once(small_spec, tmp_path):
    with training(small_spec, tmp_path, "training.epochs=100000") as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip() == "error: interrupted immediately; the same command resumes from the last checkpoint"


def test_two_processes_do_not_train_one_run(tiedexp_cli, small_spec, tmp_path):
    with training(small_spec, tmp_path, "training.epochs=100000") as process:
        answer = tiedexp_cli("train", small_spec, "tensorboard.kernels=false", "training.epochs=100000")
        process.kill()
    assert answer.code == 1
    assert f"is in use by another process (pid {process.pid} on {os.uname().nodename} since 2" in answer.err


def test_nothing_but_the_story_is_printed_by_a_real_process(small_spec, tmp_path):
    """TensorFlow's notices come from C++ and only in a process of their own."""
    env = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [*TIEDEXP, "train", small_spec, "--json"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["epochs"] == 2


def test_a_file_size_limit_ends_the_run_with_one_message_and_it_goes_on_later(small_spec, tmp_path):
    """What HDF5 writes itself to such a disk ends the process with a segmentation fault."""

    code = (
        "import resource; from tiedexp.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY)); main()"
    )

    def train(limit):
        command = [
            sys.executable,
            "-c",
            code.format(limit=limit),
            "train",
            small_spec,
            "--quiet",
            "tensorboard.kernels=false",
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    for limit, message in (
        (8_000, "File too large; no epoch was complete"),
        (20_000, "cannot be written: File too large"),
    ):
        done = train(limit)
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("error: epoch 1: ")
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert train("resource.RLIM_INFINITY").returncode == 0


def test_a_disk_that_refuses_is_one_message(tiedexp_cli, small_spec):
    Path("runs").write_text("a file in the way")
    answer = tiedexp_cli("train", small_spec)
    assert answer.code == 1
    assert answer.err.startswith("error: the run directory")
    assert "Traceback" not in answer.err


def test_an_error_of_the_system_is_one_message(tiedexp_cli, small_spec, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device", "runs/metrics.jsonl")

    monkeypatch.setattr("tiedexp.runs.directory.RunDirectory.append_metrics", fail)
    answer = tiedexp_cli("train", small_spec)
    assert answer.code == 1
    assert answer.err.startswith(
        "error: epoch 1: No space left on device: runs/metrics.jsonl; the checkpoint of epoch 1"
    )
