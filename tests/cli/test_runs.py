"""`tiedexp runs` and `tiedexp diff`."""

from __future__ import annotations

import json
import os
import shlex

import pytest

from tiedexp.runs.directory import RunDirectory


@pytest.fixture
def runs(make_run, tmp_path):
    """Two finished, one that failed, one that was cut off."""
    for seed in (0, 1):
        make_run("block", seed, test=0.8 + 0.1 * seed)
    failed, unfinished = make_run("rings", 0), make_run("rings", 1)
    for run in (failed, unfinished):
        (run / "result.json").unlink()
    RunDirectory(failed).write_failure("the loss became NaN")
    return tmp_path / "runs"


def names(answer):
    assert answer.code == 0, answer.err
    return ["/".join(run["directory"].split("/")[-2:]) for run in json.loads(answer.out)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["block-abc/seed-0", "block-abc/seed-1", "rings-abc/seed-0", "rings-abc/seed-1"]),
        (["--state", "failed"], ["rings-abc/seed-0"]),
        (["--state", "failed", "--state", "unfinished"], ["rings-abc/seed-0", "rings-abc/seed-1"]),
        (["--name", "bl*"], ["block-abc/seed-0", "block-abc/seed-1"]),
        (["--where", "test/accuracy > 0.85"], ["block-abc/seed-1"]),
        (["--where", "seed == 1", "--state", "unfinished"], ["rings-abc/seed-1"]),
        (["--tag", "keep"], []),
    ],
)
def test_list(tiedexp_cli, runs, arguments, expected):
    assert names(tiedexp_cli("runs", "list", runs, *arguments, "--json")) == expected
    assert names(tiedexp_cli("runs", "list", "--runs", runs, *arguments, "--json")) == expected


def test_list_for_people(tiedexp_cli, runs):
    (runs / "block-abc" / "seed-0" / "manifest.json").write_text("{}")
    answer = tiedexp_cli("runs", "list", runs)
    assert "4 runs" in answer.out
    assert "the loss became NaN" in answer.out
    assert "not as tiedexp writes it" in answer.out  # of the damaged one, which does not hide the others


@pytest.fixture
def list_at(monkeypatch, tiedexp_cli):
    """The lines that `runs list` prints in a window of so many characters; None is none, as in a pipe."""

    def lines_at(width, *arguments):
        if width is None:
            monkeypatch.delenv("COLUMNS")
        else:
            monkeypatch.setenv("COLUMNS", str(width))
        answer = tiedexp_cli("runs", "list", *arguments)
        assert answer.code == 0, answer.err
        return answer.out.splitlines()

    return lines_at


@pytest.mark.parametrize("width", [60, 80, 140, 200, None])
@pytest.mark.parametrize("given", ["relative", "absolute", "default"])
def test_every_directory_can_be_copied_from_the_list(list_at, make_run, tmp_path, width, given):
    """In one piece, and as a shell in the working directory takes it."""
    root = tmp_path / "runs" / "a long name (with spaces)"
    made = [make_run("random_like(of=block)", seed, root=root, model__width=12345678) for seed in (0, 1)]
    arguments = {"relative": ["runs"], "absolute": [tmp_path / "runs"], "default": []}[given]
    lines = list_at(width, *arguments)
    copied = [line[line.index("'runs/") :] for line in lines if "seed-" in line]
    assert [tmp_path / path for line in copied for path in shlex.split(line)] == made
    assert all(shlex.split(line)[0].startswith("runs/a long name") for line in copied)
    assert lines[-1] == "2 runs"


def test_a_directory_outside_is_listed_whole(list_at, make_run, tmp_path, monkeypatch):
    run = make_run()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert list_at(80, tmp_path / "runs")[2] == f"  {run}"
    assert list_at(80, "../runs")[1].endswith("  ../runs/block-abc/seed-0")


def test_a_list_in_a_narrow_window_has_the_directories_on_lines_of_their_own(list_at, make_run):
    for pattern in ("hashed(groups=9)", "a pattern that is a grid written out"):
        make_run(pattern, test=0.75, name="my-experiment", model__width=12345678, training__batch_size=len(pattern))
    lines = list_at(64, "runs")
    assert lines[0].split() == ["state", "name", "seed", "pattern", "accuracy"]
    assert [line.split() for line in lines[1:-2]] == [
        ["finished", "my-experiment", "0", "hashed(groups=9)", "0.7500"],
        ["runs/my-experiment-my-experiment-12345678-16/seed-0"],
        ["finished", "my-experiment", "0", "a", "pattern", "that", "is", "a…", "0.7500"],
        ["runs/my-experiment-my-experiment-12345678-36/seed-0"],
    ]
    assert max(map(len, lines)) <= 64


def test_a_list_in_a_wide_window_has_one_line_per_run(list_at, tiedexp_cli, runs):
    lines = list_at(120, "runs")
    (row,) = [line.split() for line in lines if "block-abc/seed-1" in line]
    assert row == ["finished", "block", "1", "block", "0.9000", "runs/block-abc/seed-1"]
    assert "4 runs" in lines
    tiedexp_cli("runs", "tag", runs / "block-abc" / "seed-1", "--add", "keep")
    (row,) = [line.split() for line in list_at(120, "runs") if "block-abc/seed-1" in line]
    assert row == ["finished", "block", "1", "block", "0.9000", "keep", "runs/block-abc/seed-1"]


def test_no_run(list_at, runs):
    assert list_at(80, "runs", "--name", "absent")[-1] == "0 runs"


def test_runs_done_again_are_listed_only_if_they_are_named(tiedexp_cli, make_run, tmp_path):
    make_run("block")
    again = [make_run("block", root=tmp_path / "runs" / where / "reproduced") for where in ("", "study")]
    assert names(tiedexp_cli("runs", "list", "--json")) == ["block-abc/seed-0"]
    for run in again:
        answer = tiedexp_cli("runs", "list", run.parent.parent, "--json")
        assert [tmp_path / listed["directory"] for listed in json.loads(answer.out)] == [run]
    assert names(tiedexp_cli("runs", "list", again[0], "--json")) == ["block-abc/seed-0"]


def test_tags(tiedexp_cli, runs):
    run = runs / "block-abc" / "seed-0"
    assert tiedexp_cli("runs", "tag", run, "--add", "keep", "--add", "paper").code == 0
    assert names(tiedexp_cli("runs", "list", runs, "--tag", "keep", "--json")) == ["block-abc/seed-0"]
    assert tiedexp_cli("runs", "tag", run, "--remove", "keep").out.strip().endswith("paper")
    for wrong in (["--add", "two words"], []):
        answer = tiedexp_cli("runs", "tag", run, *wrong)
        assert (answer.code, answer.out) == (2, "")


def test_show(tiedexp_cli, runs):
    answer = tiedexp_cli("runs", "show", runs / "rings-abc" / "seed-0")
    assert "failed" in answer.out
    assert "the loss became NaN" in answer.out
    content = json.loads(tiedexp_cli("runs", "show", runs / "block-abc" / "seed-1", "--json").out)
    assert content["facts"]["test/accuracy"] == 0.9
    assert tiedexp_cli("runs", "show", runs).code == 1


def test_show_breaks_no_line(tiedexp_cli, make_run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    run = make_run(dataset__name="x" * 60)
    lines = tiedexp_cli("runs", "show", run).out.splitlines()
    assert lines[0].split() == ["directory", f"runs/block-{'x' * 60}/seed-0"]
    assert ["dataset.name", "x" * 60] in [line.split() for line in lines]


class TestDelete:
    def test_what_is_meant_is_deleted(self, tiedexp_cli, runs):
        (runs / "rings-abc" / "seed-1" / "mine.txt").write_text("a note")
        answer = tiedexp_cli("runs", "delete", runs, "--name", "rings", "--yes")
        stays = f"{runs / 'rings-abc' / 'seed-1'} is kept: tiedexp did not write mine.txt"
        assert (answer.code, answer.out) == (0, f"{stays}\n2 runs deleted\n")
        left = sorted(path.relative_to(runs).as_posix() for path in runs.rglob("*") if "rings" in str(path))
        assert left == ["rings-abc", "rings-abc/seed-1", "rings-abc/seed-1/mine.txt"]
        assert len(names(tiedexp_cli("runs", "list", runs, "--json"))) == 2

    def test_it_asks(self, tiedexp_cli, runs, monkeypatch):
        monkeypatch.setattr("typer.confirm", lambda question, abort: (_ for _ in ()).throw(KeyboardInterrupt))
        answer = tiedexp_cli("runs", "delete", runs, "--state", "failed")
        assert answer.code == 130
        assert "rings-abc/seed-0" in answer.out
        assert len(names(tiedexp_cli("runs", "list", runs, "--json"))) == 4

    def test_not_everything_by_mistake(self, tiedexp_cli, runs):
        answer = tiedexp_cli("runs", "delete", "--runs", runs, "--yes")
        assert answer.code == 2
        assert "select them with" in answer.err

    def test_a_run_in_use(self, tiedexp_cli, runs):
        with RunDirectory(runs / "rings-abc" / "seed-1").lock():
            answer = tiedexp_cli("runs", "delete", runs, "--yes")
        assert answer.code == 1
        assert "nothing is deleted, because another process is using" in answer.err
        assert len(names(tiedexp_cli("runs", "list", runs, "--json"))) == 4

    def test_links_are_not_followed(self, tiedexp_cli, runs, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "file").write_text("")
        (runs / "block-abc" / "seed-0" / "checkpoints").symlink_to(outside)
        tiedexp_cli("runs", "delete", runs / "block-abc" / "seed-0", "--yes")
        assert (outside / "file").exists()

    def test_foreign_projects_stay(self, tiedexp_cli, runs):
        """One beside the runs, and one around them."""
        before = {}
        for project in (runs / "web app", runs):
            project.mkdir(exist_ok=True)
            (project / "manifest.json").write_text('{"name": "app", "icons": [], "version": "1"}')
            (project / "spec.yaml").write_text("openapi: 3.1.0\n")
            (project / "checkpoints").mkdir()
            (project / "checkpoints" / "epoch-0001.json").write_text("theirs")
            before |= {
                path: path.read_text() for path in project.glob("**/*") if path.is_file() and "-abc" not in str(path)
            }
        states = ("--state", "unfinished", "--state", "failed", "--state", "finished")
        assert len(names(tiedexp_cli("runs", "list", runs, *states, "--json"))) == 4
        answer = tiedexp_cli("runs", "delete", runs, *states, "-y")
        assert (answer.code, answer.out) == (0, "4 runs deleted\n")
        assert {path: path.read_text() for path in runs.rglob("*") if path.is_file()} == before
        assert tiedexp_cli("runs", "delete", runs / "web app", "-y").out == "no run matches; nothing is deleted\n"

    def test_a_lock_that_is_a_strangers_file(self, tiedexp_cli, runs, tmp_path):
        (tmp_path / "thesis").write_text("three years")
        (runs / "rings-abc" / "seed-0" / ".lock").hardlink_to(tmp_path / "thesis")
        answer = tiedexp_cli("runs", "delete", runs, "--name", "rings", "-y")
        assert answer.code == 1
        assert ".lock is a hard link to a file that has another name too" in answer.err
        assert (tmp_path / "thesis").read_text() == "three years"
        assert (runs / "rings-abc" / "seed-0" / "manifest.json").exists()

    def test_a_run_with_very_many_directories_in_each_other(self, tiedexp_cli, runs):
        run = runs / "block-abc" / "seed-0"
        nest(run / "checkpoints")
        for command in (["runs", "show"], ["eval"], ["diff", runs / "block-abc" / "seed-1"]):
            answer = tiedexp_cli(*command, run)
            assert (answer.code, answer.out) == (1, "")
            assert "checkpoints has directories that are nested deeper than 8 levels" in answer.err
        answer = tiedexp_cli("runs", "delete", run, "-y")
        assert (answer.code, answer.out) == (0, f"{run} is kept: tiedexp did not write checkpoints\n1 run deleted\n")
        os.system(f"rm -r {run}")


def nest(path, count=1500):
    """Directories in each other, more than a name of a path may have."""
    path.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY)
    for _ in range(count):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


def test_diff(tiedexp_cli, runs):
    left, right = (runs / "block-abc" / f"seed-{seed}" for seed in (0, 1))
    answer = tiedexp_cli("diff", left, right)
    assert answer.code == 0
    assert "test/accuracy" in answer.out
    assert "+0.1" in answer.out
    assert "manifest: the same" in answer.out
    content = json.loads(tiedexp_cli("diff", left, right, "--json").out)
    assert content["spec"] == [{"key": "seed", "left": 0, "right": 1}]
    assert tiedexp_cli("diff", left, runs).code == 1


STEERING = "\x1b[2J\x9b\u202e[bold]\n"


@pytest.mark.parametrize(
    "change",
    [
        {"versions": {f"{STEERING}package": "1", "python": f"3{STEERING}"}},
        {"versions": {STEERING: 1}},  # which is wrong, and the message says where
        {"spec": {"name": "a", "seed": 0, STEERING: STEERING}},
        {"pattern": STEERING},
        {STEERING: 3},
    ],
)
@pytest.mark.parametrize(
    "command", [["runs", "list"], ["runs", "show"], ["runs", "show", "--json"], ["compare"], ["diff"]]
)
def test_what_a_manifest_says_does_not_steer_the_terminal(tiedexp_cli, make_run, command, change):
    left, right = make_run("block", 0), make_run("block", 1)
    content = json.loads((left / "manifest.json").read_text())
    (left / "manifest.json").write_text(json.dumps({**content, **change}))
    answer = tiedexp_cli(*command, left, *([right] if command == ["diff"] else []))
    assert answer.out + answer.err
    assert all(line.isprintable() for line in (answer.out + answer.err).split("\n"))


@pytest.mark.parametrize(
    "name", ["\x1b[1A\x1b[2Kunfinished  runs/other", "a\nunfinished  runs/other", "\u202e", "[red]", "\udcff"]
)
def test_a_run_that_is_deleted_does_not_look_like_another(tiedexp_cli, make_run, tmp_path, monkeypatch, name):
    make_run("block", root=tmp_path / "runs" / name)
    monkeypatch.setattr("typer.confirm", lambda question, abort: (_ for _ in ()).throw(KeyboardInterrupt))
    answer = tiedexp_cli("runs", "delete", tmp_path / "runs")
    (line,) = answer.out.splitlines()
    assert line.isprintable()
    assert line.startswith(f"finished    {tmp_path / 'runs'}/")
    assert line.endswith("block-abc/seed-0")
    assert len(tiedexp_cli("runs", "list", tmp_path / "runs").out.splitlines()) > 2


def test_what_reproduce_says_of_versions_is_one_line(make_run):
    from tiedexp.runs.manifest import find_differences

    runs = [RunDirectory(make_run("block", seed)) for seed in (0, 1)]
    manifest = runs[0].read_manifest()
    (text,) = find_differences(manifest, manifest.model_copy(update={"versions": {"python": f"3.11{STEERING}"}}))
    assert text.isprintable()
    assert text.startswith("python 3.11")
