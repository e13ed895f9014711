"""The run folder is never written to, and no secret leaves with it: places that are refused, files that are ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3sync.commands import command_line
from s3sync.errors import StateError, UsageError
from s3sync.runs import off_limits
from s3sync.runs.local_files import list_files
from s3sync.runs.off_limits import (
    Mount,
    choose_temp_dir,
    explain_misplaced_temp_dir,
    find_enclosing_folder,
    parse_mount,
)
from s3sync.runs.run_folder import open_run
from tests.helpers.errors import raises_error
from tests.helpers.lab import BUCKET, tree
from tests.helpers.own_files import leave_our_files


@pytest.fixture
def run(tiny_run: Path) -> Path:
    """A run of a few files."""
    return tiny_run


@pytest.fixture(autouse=True)
def _own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the folder that a test gives to `tempfile`."""
    monkeypatch.setattr("tempfile.tempdir", None)


# Inside or not


@pytest.mark.parametrize("below", ["", "log", "log/of/lab", "Data", "Data/first.cbcl"])
def test_a_place_in_a_run_is_recognized(run: Path, below: str) -> None:
    assert find_enclosing_folder(run / below, [run]) == str(run)
    assert find_enclosing_folder(run / below) == str(run), "any run, without being named"


def test_a_place_in_a_watched_folder_is_recognized(run: Path) -> None:
    assert find_enclosing_folder(run.parent / "log", [run.parent]) == str(run.parent)
    assert find_enclosing_folder(run.parent, [run.parent]) == str(run.parent)
    assert find_enclosing_folder(run.parent / "not-there-yet", ["/nowhere"]) == ""


def test_a_place_beside_a_run_is_not_inside_it(run: Path) -> None:
    for name in (f"{run.name}2", f"{run.name}.log", "log"):
        assert find_enclosing_folder(run.parent / name, [run]) == ""
    assert find_enclosing_folder(run / ".." / "log", [run]) == ""
    assert find_enclosing_folder(run.parent.parent, [run, run.parent]) == "", "that the runs are in it is usual"


def test_links_do_not_hide_where_a_place_is(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run / "Data")
    (tmp_path / "runs").symlink_to(run.parent)
    assert find_enclosing_folder(tmp_path / "link" / "log", [run]) == str(run)
    assert find_enclosing_folder(run.parent / "log", [tmp_path / "runs"]) == str(tmp_path / "runs")
    (run / "out").symlink_to(tmp_path)
    assert find_enclosing_folder(run / "out" / "log", [run]) == "", "a link out of the run leads out of it"


def test_a_folder_that_is_not_there_encloses_by_its_name(tmp_path: Path) -> None:
    """As for an instrument that is not mounted."""
    assert find_enclosing_folder(tmp_path / "mnt" / "log", [tmp_path / "mnt"]) == str(tmp_path / "mnt")


@pytest.mark.parametrize(
    ("place", "folder", "is_inside"),
    [
        ("/here/log", "/data/RUN", True),  # a part of the run is mounted there
        ("/here", "/data/RUN", True),
        ("/data/RUN/Data/log", "/here", True),
        ("/there/log", "/data/RUN", False),  # the same path on another disk
        ("/beside/log", "/data/RUN", False),
        ("/with space/log", "/data/RUN", True),
        ("/data/log", "/data/RUN", False),
    ],
)
def test_a_bind_mount_of_a_part_of_a_run_is_recognized(place: str, folder: str, is_inside: bool) -> None:
    table = [
        r"22 1 8:1 / / rw - ext4 /dev/sda1 rw",
        r"23 22 8:2 / /data rw - ext4 /dev/sdb1 rw",
        r"24 22 8:2 /RUN/Data /here rw shared:1 - ext4 /dev/sdb1 rw",
        r"25 22 8:3 /RUN/Data /there rw - ext4 /dev/sdc1 rw",
        r"26 22 8:2 /RUN2 /beside rw - ext4 /dev/sdb1 rw",
        r"27 22 8:2 /RUN /with\040space rw - ext4 /dev/sdb1 rw",
        r"",
    ]
    mounts = [mount for line in table if (mount := parse_mount(line))]
    assert len(mounts) == 6
    assert (find_enclosing_folder(place, [folder], mounts) == folder) is is_inside


def test_a_line_of_the_table_of_mounts() -> None:
    line = r"36 35 98:0 /a\134b /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    assert parse_mount(line) == Mount("98:0", r"/a\b", "/mnt 2")


# Temporary files


def test_tmpdir_is_used_if_it_is_writable(tmp_path: Path) -> None:
    assert choose_temp_dir({"TMPDIR": str(tmp_path)}) == tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tmpdir", ["", "/nowhere", "/dev/null"])
def test_another_usual_folder_is_taken_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmpdir: str) -> None:
    monkeypatch.setattr(off_limits, "_LAST_RESORTS", ("/not-there-either", str(tmp_path)))
    assert choose_temp_dir({"TMPDIR": tmpdir}) == tmp_path


def test_temporary_files_never_go_into_the_current_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's `tempfile` falls back to it."""
    before = tree(run)
    monkeypatch.chdir(run)
    monkeypatch.setattr(off_limits, "_LAST_RESORTS", ("/nowhere/tmp", "/dev/null"))
    tried = "/full: No such file or directory; /nowhere/tmp: No such file or directory; /dev/null: Not a directory "
    with raises_error(StateError, "state.no-temp-dir", f" {tried}", "TMPDIR"):
        choose_temp_dir({"TMPDIR": "/full"})
    assert tree(run) == before


@pytest.mark.parametrize("tmpdir", ["{run}", "{run}/Data", "{run}/not-yet", ".", "Data/.."])
def test_a_tmpdir_in_the_run_is_refused_before_anything_is_written(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmpdir: str
) -> None:
    before = tree(run)
    monkeypatch.chdir(run)
    environ = {"TMPDIR": tmpdir.format(run=run)}
    with raises_error(StateError, "state.temp-dir-in-run", str(run), "TMPDIR"):
        choose_temp_dir(environ, [run])
    assert explain_misplaced_temp_dir(environ, [run.parent])
    assert tree(run) == before


# The program


# What an old version left in a run


def test_files_that_s3sync_made_do_not_belong_to_a_run(run: Path) -> None:
    before = list_files(open_run(run))
    everything = leave_our_files(run)
    listing = list_files(open_run(run))
    assert listing.files == before.files
    assert listing.rejected == ()
    assert {item.path for item in listing.skipped} == everything - {file.path for file in before.files}


@pytest.mark.parametrize(
    "path",
    [
        "Logs/s3_upload.log",
        "uploads/R.upload.log.json",
        "locks/a.lock",
        "s3sync-work/aws-config",
        "Data/s3sync-work-x/a",
    ],
)
def test_a_name_alone_makes_no_file_ours(run: Path, path: str) -> None:
    """Nothing of the instrument's is left out because it is called like something of ours."""
    (run / path).parent.mkdir(parents=True, exist_ok=True)
    (run / path).write_text("")
    assert path in {file.path for file in list_files(open_run(run)).files}


@pytest.mark.parametrize(
    "argv",
    [
        ("upload", "--bucket", BUCKET, "--local_path", ""),
        ("upload", "--bucket", BUCKET, "--local_path", "RUN", "--log_dir", ""),
        ("verify", "--bucket", BUCKET, ""),
        ("verify", "--bucket", BUCKET, "RUN", "--manifest="),
        ("report", "--config", "FILE", "--output", ""),
    ],
)
def test_an_empty_path_is_not_the_current_folder(argv: tuple[str, ...]) -> None:
    """A script gives one when its variable is not set."""
    with raises_error(UsageError, "usage.invalid-value", "is empty"):
        command_line.parse(argv)
