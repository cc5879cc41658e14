"""`tiedexp eval` of a run directory that somebody else made: one sentence, nothing outside it read, little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

TIEDEXP = [sys.executable, "-c", "from tiedexp.cli import main; main()"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run on the embedded digits; only to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(
        "name: small\n"
        "dataset: {name: digits, limit: 200}\n"
        "model: {depth: 2, width: 4, kernel_size: 3, tying: {pattern: point}}\n"
        "training: {epochs: 1, batch_size: 32}\n"
    )
    subprocess.run([*TIEDEXP, "train", "small.yaml", "--quiet"], cwd=folder, check=True, capture_output=True)
    (run,) = folder.glob("runs/*/seed-0")
    return run


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of it, to be changed."""
    copy = tmp_path / "from elsewhere"
    for path in finished.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(finished)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return copy


def change(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def refused(tiedexp_cli, run, message, *arguments, code=1) -> None:
    """`eval` says this in one line, perhaps after a warning of a damaged checkpoint."""
    answer = tiedexp_cli("eval", run, *arguments)
    assert (answer.code, answer.out) == (code, ""), answer.err
    *warnings, error = answer.err.splitlines()
    assert all(line.startswith("warning: the checkpoint") for line in warnings), answer.err
    assert error.startswith("error: ")
    assert message in error


def test_a_copy_is_as_good_as_the_run(tiedexp_cli, run):
    answer = tiedexp_cli("eval", run, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["accuracy"] == json.loads((run / "result.json").read_text())["test"]["accuracy"]


@pytest.mark.parametrize("name", ["spec.yaml", "manifest.json", "checkpoints", "tensorboard/train"])
def test_a_link_out_of_the_run(tiedexp_cli, run, tmp_path, name):
    (run / name).rename(tmp_path / "outside")
    (run / name).symlink_to(tmp_path / "outside")
    refused(tiedexp_cli, run, f"{run / name} leads out of the run directory")


@pytest.mark.parametrize("base", ["../outside.yaml", "/etc/passwd"])
def test_a_spec_that_extends_another(tiedexp_cli, run, tmp_path, base):
    (tmp_path / "outside.yaml").write_text("seed: not read\n")
    change(run / "spec.yaml", "name: small", f"extends: {base}\nname: small")
    refused(tiedexp_cli, run, "extends: this spec must be self-contained, so it cannot extend another", code=2)


@pytest.mark.parametrize("name", ["npz", "folder"])
@pytest.mark.parametrize("path", ["/etc/passwd", "../outside.npz", "inside.npz"])
def test_a_spec_that_names_images(tiedexp_cli, run, name, path):
    change(run / "spec.yaml", "name: digits", f"name: {name}\n  path: {path}")
    refused(tiedexp_cli, run, "so they are read only if you name them too: --data ")


def test_a_dataset_whose_name_is_a_path(tiedexp_cli, run):
    change(run / "spec.yaml", "name: digits", "name: ../../secret")
    refused(tiedexp_cli, run, "'../../secret' is not the name of a dataset")


def test_a_checkpoint_elsewhere(tiedexp_cli, run, tmp_path):
    (run / "checkpoints").rename(tmp_path / "outside")
    (run / "checkpoints").mkdir()
    change(tmp_path / "outside" / "epoch-0001.json", '"epoch": 1', '"epoch": "../../outside/epoch-0001"')
    (run / "checkpoints" / "epoch-0001.json").write_bytes((tmp_path / "outside" / "epoch-0001.json").read_bytes())
    refused(tiedexp_cli, run, "there is no checkpoint in")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width: 4", "width: 4096", "but the weights of the model in the run's spec take"),
        ("depth: 2", "depth: 1202", "but the weights of the model in the run's spec take"),
        ("limit: 200", "image_size: 1024", "GiB of memory; there are 4.0"),
    ],
)
def test_a_model_that_the_weights_are_not_of(tiedexp_cli, run, monkeypatch, old, new, message):
    monkeypatch.setattr("tiedexp.experiment.limits.find_memory", lambda: 4 * 2**30)
    change(run / "spec.yaml", old, new)
    refused(tiedexp_cli, run, message)


def test_a_tied_kernel_that_expands_to_very_many_weights(tiedexp_cli, run, monkeypatch):
    monkeypatch.setattr("tiedexp.experiment.limits.find_memory", lambda: 4 * 2**30)
    change(run / "spec.yaml", "width: 4", "width: 600")
    change(run / "spec.yaml", "kernel_size: 3", "kernel_size: 127")
    change(run / "spec.yaml", "pattern: point", "pattern: checkerboard")
    with next((run / "checkpoints").glob("*.h5")).open("r+b") as file:
        file.truncate(6 * 2**20)
    about = run / "checkpoints" / "epoch-0001.json"
    rewrite_digest(about)
    refused(tiedexp_cli, run, "GiB of memory; there are 4.0")


def rewrite_digest(about: Path) -> None:
    """Make the JSON of a checkpoint fit its weights again, as anybody can."""
    from tiedexp.training import checkpoint

    content = json.loads(about.read_text())
    content["sha256"] = checkpoint._hash(about.with_suffix(".weights.h5"))
    del content["checksum"]
    content["checksum"] = checkpoint._checksum(content)
    about.write_text(json.dumps(content))


@pytest.mark.parametrize("content", [b"\x80\x04.", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"])
def test_weights_that_are_none(tiedexp_cli, run, content):
    weights = next((run / "checkpoints").glob("*.h5"))
    weights.write_bytes(content.ljust(10_000, b"\0"))
    rewrite_digest(run / "checkpoints" / "epoch-0001.json")
    refused(tiedexp_cli, run, "is not loaded: it is not a readable HDF5 file")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", "[]"),
        ("manifest.json", "[" * 10_000_000),
        ("manifest.json", "{}" + " " * (16 * 2**20)),
        ("manifest.json", '{"format": 99}'),
    ],
)
def test_a_mangled_manifest(tiedexp_cli, run, name, content):
    (run / name).write_text(content)
    refused(tiedexp_cli, run, "manifest.json" if "99" not in content else "was written by a newer tiedexp")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", []),
        ("std", [0.0]),
        ("std", [float("nan")]),
        ("mean", [1e39, 1.0]),
        ("image_shape", [0, 8, 1]),
        ("class_names", 3),
        ("data_dir", 3),
    ],
)
def test_a_manifest_that_cannot_be_meant(tiedexp_cli, run, key, value):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["data"][key] = value
    (run / "manifest.json").write_text(json.dumps(manifest))
    refused(tiedexp_cli, run, "manifest.json is not as tiedexp writes it: data")


def test_a_yaml_bomb(tiedexp_cli, run):
    levels = "\n".join(f"b{level}: &b{level} [{f'*b{level - 1}, ' * 9}1]" for level in range(1, 9))
    (run / "spec.yaml").write_text(f"b0: &b0 [1]\n{levels}\nname: small\n")
    refused(tiedexp_cli, run, "specs do not allow anchors and aliases (& and *)", code=2)


def measure(run: Path) -> tuple[int, str, int]:
    """(exit code, stderr, largest memory in bytes) of `eval` in a process of its own."""
    with subprocess.Popen(
        [*TIEDEXP, "eval", run], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        err = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, err, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_memory_stays_small(run):
    """Weights and metrics that claim terabytes take no more than an honest run."""
    code, err, honest = measure(run)
    assert (code, err) == (0, "")
    with h5py.File(next((run / "checkpoints").glob("*.h5")), "r+") as file:
        del file["layers/dense/vars/0"]
        file.create_dataset("layers/dense/vars/0", (2**20, 2**20), "f4", chunks=(1, 2**20), compression="gzip")
    rewrite_digest(run / "checkpoints" / "epoch-0001.json")
    with (run / "metrics.jsonl").open("r+b") as file:
        file.truncate(2**40)
    code, err, bombed = measure(run)
    assert code == 1
    assert "has shape (1048576, 1048576), which no weight of the model has" in err
    assert bombed < honest + 50 * 2**20
