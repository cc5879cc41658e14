"""`board` shows the right runs, and follows no link out of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiedexp.board.links import link_runs
from tiedexp.errors import RunError
from tiedexp.runs.directory import RunDirectory


def names_of(folder: Path, *paths: Path) -> set[str]:
    """The names under which `board` would show these paths."""
    folder.mkdir()
    linked: dict[Path, str] = {}
    for path in paths:
        link_runs(path, folder, linked)
    for run, name in linked.items():
        assert (folder / name).resolve() == run / "tensorboard"
    return set(linked.values())


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["tiny-1a2b/seed-1"], {"tiny-1a2b/seed-1"}),
        (["tiny-1a2b"], {"tiny-1a2b/seed-0", "tiny-1a2b/seed-1"}),
        (["other-3c4d", "tiny-1a2b/seed-0"], {"other-3c4d/seed-0", "tiny-1a2b/seed-0"}),
        (["."], {"other-3c4d/seed-0", "tiny-1a2b/seed-0", "tiny-1a2b/seed-1"}),
        (["tiny-1a2b", ".", "tiny-1a2b/seed-0"], {"other-3c4d/seed-0", "tiny-1a2b/seed-0", "tiny-1a2b/seed-1"}),
    ],
)
def test_runs_and_directories_of_runs(logged_runs, tmp_path, given, shown):
    assert names_of(tmp_path / "links", *(logged_runs / name for name in given)) == shown


def test_two_runs_of_one_name_are_both_shown(logged_runs, tmp_path, make_logged_run):
    elsewhere = make_logged_run(tmp_path / "elsewhere" / "tiny-1a2b" / "seed-0")
    shown = names_of(tmp_path / "links", logged_runs / "tiny-1a2b" / "seed-0", elsewhere)
    assert shown == {"tiny-1a2b/seed-0", "tiny-1a2b/seed-0 (1)"}


def test_what_lies_inside_a_run_is_no_run(logged_runs, tmp_path, make_logged_run):
    make_logged_run(logged_runs / "tiny-1a2b" / "seed-0" / "backup")
    assert names_of(tmp_path / "links", logged_runs / "tiny-1a2b" / "seed-0") == {"tiny-1a2b/seed-0"}


def test_runs_done_again_are_shown_only_if_they_are_named(logged_runs, tmp_path, make_logged_run):
    make_logged_run(logged_runs / "reproduced" / "again-5e6f" / "seed-0")
    assert "again-5e6f/seed-0" not in names_of(tmp_path / "links", logged_runs)
    assert names_of(tmp_path / "named", logged_runs / "reproduced") == {"again-5e6f/seed-0"}


def test_a_run_that_starts_later_is_added(logged_runs, tmp_path, make_logged_run):
    folder, linked = tmp_path / "links", {}
    folder.mkdir()
    link_runs(logged_runs, folder, linked)
    make_logged_run(logged_runs / "tiny-1a2b" / "seed-2")
    link_runs(logged_runs, folder, linked)
    assert (folder / "tiny-1a2b" / "seed-2" / "train").is_dir()


@pytest.mark.parametrize("link", ["tiny-1a2b/seed-0/tensorboard/train/events.out.tfevents.9", "tiny-1a2b/seed-9"])
def test_a_link_that_leads_out_is_refused(logged_runs, tmp_path, link):
    (tmp_path / "secret").mkdir()
    (logged_runs / link).symlink_to(tmp_path / "secret")
    with pytest.raises(RunError, match=r"leads out of .*; it is not (followed|read)"):
        names_of(tmp_path / "links", logged_runs)


def test_a_log_that_is_a_link_out_of_its_run_is_refused(logged_runs, tmp_path):
    run = logged_runs / "tiny-1a2b" / "seed-5"
    RunDirectory(run).path.mkdir()
    RunDirectory(run).write_failure("none")
    (run / "tensorboard").symlink_to(logged_runs / "other-3c4d" / "seed-0" / "tensorboard")
    with pytest.raises(RunError, match="leads out of the run directory"):
        names_of(tmp_path / "links", logged_runs)
