"""A state log belongs to one folder: two folders of one name never share it, and a moved one continues."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from s3sync.runs.local_files import list_files, read_folder_numbers
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.state import identity
from s3sync.state.run_state import Proof, RunState
from tests.helpers.lab import BUCKET, FakeAws, Lab, Result, tree
from tests.helpers.s3server import S3Server

NAME = "261123_A01234_0007_AHFAULTDRX7"


class Place(Lab):
    """A machine whose config watches the folders `a` and `b`, both for one destination."""

    def __init__(self, root: Path, endpoint: str, aws: str) -> None:
        super().__init__(root, endpoint)
        self.aws = aws
        for name in ("a", "b"):
            (root / name).mkdir()

    def scan(self, *argv: str, command: str = "monitor", dirs: Sequence[str] = ("a", "b"), **keys: Any) -> Result:
        entry = {"monitored_directories": [str(self.root / name) for name in dirs]}
        config = self.config_for(self.root / "a" / NAME, entry, aws_command=self.aws, **keys)
        return self.run(command, "--config", config, *argv)

    def states(self, **keys: Any) -> dict[str, str]:
        """The states by run folder."""
        runs = self.scan("--json", command="status", **keys).json["runs"]
        return {os.path.relpath(run["run_path"], self.root): run["state"] for run in runs}


@pytest.fixture
def place(tmp_path: Path, server: S3Server, quick_aws: FakeAws) -> Place:
    return Place(tmp_path, server.url, quick_aws(""))


@pytest.fixture
def first(place: Place, tiny_run: Path) -> Path:
    """The run in `a`."""
    return Path(shutil.move(tiny_run, place.root / "a" / NAME))


def other_run(first: Path, to: Path) -> Path:
    """Another run of the same name, with the same sizes."""
    second = Path(shutil.copytree(first, to))
    for file in second.glob("Data/*.cbcl"):
        file.write_bytes(file.read_bytes().upper())
    return second


def stored(server: S3Server) -> dict[str, bytes | None]:
    return {key.removeprefix(f"{NAME}/"): item.body for key, item in server.objects(BUCKET).items()}


def log_of(lab: Lab) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((lab.log_dir / "uploads" / f"{NAME}.upload.log.json").read_text())
    return loaded


# Two folders of one name


def test_two_new_folders_of_one_name_are_both_held(place: Place, server: S3Server, first: Path) -> None:
    other_run(first, place.root / "b" / NAME)

    result = place.scan()

    assert (result.code, result.error_ids) == (1, ["run.duplicate-name"] * 2)
    assert str(first) in result.err
    assert str(place.root / "b" / NAME) in result.err
    assert "rename" in result.err
    assert stored(server) == {}
    assert place.states() == {f"a/{NAME}": "duplicate name", f"b/{NAME}": "duplicate name"}
    report = place.scan("--output", str(place.root / "page.html"), "--json", command="report")
    assert report.json["runs"] == {"duplicate name": 2}


def test_the_folder_that_was_uploaded_first_keeps_its_name(place: Place, server: S3Server, first: Path) -> None:
    assert place.scan().code == 0
    other_run(first, place.root / "b" / NAME)

    for _ in range(2):
        result = place.scan()
        assert (result.code, result.error_ids) == (1, ["run.duplicate-name"])
        assert f" {first}, which still exists" in result.err
    assert stored(server) == tree(first)
    assert place.states() == {f"a/{NAME}": "uploaded", f"b/{NAME}": "duplicate name"}

    shutil.rmtree(place.root / "b" / NAME)
    assert place.scan().code == 0


@pytest.mark.parametrize("how", ["symlink", "symlinked directory", "another spelling"])
def test_one_folder_under_two_paths_is_one_run(place: Place, server: S3Server, first: Path, how: str) -> None:
    dirs = ["a", "b"]
    if how == "symlink":
        (place.root / "b" / NAME).symlink_to(first)
    elif how == "symlinked directory":
        (place.root / "b").rmdir()
        (place.root / "b").symlink_to("a")
        dirs = ["b"]
    assert place.scan(dirs=["a"]).code == 0

    result = place.scan(dirs=dirs)

    assert (result.code, result.err) == (0, "")
    assert list(place.states(dirs=dirs).values()) == ["uploaded"]
    assert stored(server) == tree(first)


def test_folders_of_one_name_with_destinations_of_their_own_are_two_runs(
    place: Place, server: S3Server, first: Path
) -> None:
    second = other_run(first, place.root / "b" / NAME)
    entries = [
        {"monitored_directories": [str(run.parent)], "bucket": BUCKET, "remote_path": f"/{run.parent.name}"}
        for run in (first, second)
    ]
    assert place.scan(monitor=entries).code == 0
    assert stored(server) == {
        f"{run.parent.name}/{NAME}/{path}": body for run in (first, second) for path, body in tree(run).items()
    }


def test_a_run_whose_prefix_holds_the_remote_path_of_another_entry_is_held(
    place: Place, server: S3Server, first: Path
) -> None:
    entries = [
        {"monitored_directories": [str(first.parent)], "bucket": BUCKET, "remote_path": "/"},
        {"monitored_directories": [str(place.root / "b")], "bucket": BUCKET, "remote_path": f"/{NAME}/more"},
    ]
    result = place.scan(monitor=entries)
    assert result.code == 1
    assert f"the remote_path {NAME}/more/ of the config is inside its prefix in S3" in result.err
    assert stored(server) == {}


def test_cleanup_keeps_a_duplicate(place: Place, server: S3Server, first: Path) -> None:
    assert place.scan().code == 0
    second = other_run(first, place.root / "b" / NAME)

    result = place.scan("--older_than", "0h", "--delete", "--yes", "--json", command="cleanup")

    reasons = {run["run_path"]: (run["verdict"], run["reason"]) for run in result.json["runs"]}
    assert reasons[str(second)][0] == "kept"
    assert reasons[str(second)][1].startswith("duplicate name at ")
    assert reasons[str(first)][0] == "deleted"
    assert (second / "Data/first.cbcl").exists()


# By hand


def test_an_upload_by_hand_never_takes_another_folders_log(place: Place, server: S3Server, first: Path) -> None:
    assert place.upload(first, "--aws_command", place.aws).code == 0
    second = other_run(first, place.root / "b" / NAME)
    before, log = stored(server), log_of(place)

    for options in ((), ("--dry_run",), ("--recheck",), ("--skip_check",)):
        result = place.upload(second, "--aws_command", place.aws, *options)
        assert result.code == 1
        assert len(result.err.splitlines()) == 1
        assert result.error_ids == ["run.duplicate-name"]
        assert str(first) in result.err
        assert "another --remote-path" in result.err
    assert (stored(server), log_of(place)) == (before, log)

    assert place.upload(second, "--aws_command", place.aws, "--remote_path", "/again").code == 0


def test_another_hosts_run_of_that_name_in_s3_is_not_replaced(place: Place, server: S3Server, first: Path) -> None:
    server.put(BUCKET, f"{NAME}/RunInfo.xml", b"<another run/>")
    for _ in range(2):
        result = place.upload(first, "--aws_command", place.aws)
        assert (result.code, result.error_ids) == (1, ["upload.other-run-in-s3"])
        assert "RunInfo.xml has 14 bytes there" in result.err
    assert place.scan().code == 1
    assert stored(server) == {"RunInfo.xml": b"<another run/>"}

    assert place.upload(first, "--aws_command", place.aws, "--recheck").code == 0
    assert stored(server) == tree(first)


# Moved


@pytest.mark.parametrize("how", ["rename", "copy", "copy without times"])
def test_a_moved_run_continues_where_it_was(place: Place, server: S3Server, first: Path, how: str) -> None:
    assert place.scan().code == 0
    puts = server.counters["PutObject"]
    second = place.root / "b" / NAME
    if how == "rename":
        shutil.move(first, second)
    else:
        shutil.copytree(first, second, copy_function=shutil.copy2 if how == "copy" else shutil.copyfile)
        shutil.rmtree(first)
    assert place.states() == {f"b/{NAME}": "partial"}

    result = place.scan()

    assert result.code == 0, result.err
    assert server.counters["PutObject"] == puts
    assert log_of(place)["run_path"] == str(second)
    assert log_of(place)["completed"] is True
    assert place.states() == {f"b/{NAME}": "uploaded"}
    requests = len(server.requests)
    assert place.scan().code == 0
    assert len(server.requests) == requests


def test_a_moved_run_may_have_lost_files_and_need_not_be_complete(place: Place, server: S3Server, first: Path) -> None:
    assert place.scan().code == 0
    second = Path(shutil.move(first, place.root / "b" / NAME))
    (second / "CopyComplete.txt").unlink()
    (second / "Data/first.cbcl").unlink()
    assert place.scan().code == 0
    assert place.states() == {f"b/{NAME}": "uploaded"}


def test_another_run_in_the_place_of_one_that_is_gone_is_held(place: Place, server: S3Server, first: Path) -> None:
    assert place.scan().code == 0
    before = stored(server)
    second = other_run(first, place.root / "b" / NAME)
    shutil.rmtree(first)

    result = place.scan()

    assert result.code == 1
    assert "this is another run: it has other bytes in Data/first.cbcl" in result.err
    by_hand = place.upload(second, "--aws_command", place.aws)
    assert by_hand.code == 1
    assert "this is another run" in by_hand.err
    assert stored(server) == before
    assert place.states() == {f"b/{NAME}": "duplicate name"}


def test_a_half_uploaded_run_continues_in_its_new_folder(place: Place, server: S3Server, first: Path) -> None:
    assert place.scan().code == 0
    log = log_of(place)
    lost = str(first / "Data/second.cbcl")
    uploaded = {path: etag for path, etag in log["uploaded_files"].items() if path != lost}
    path = place.log_dir / "uploads" / f"{NAME}.upload.log.json"
    path.write_text(json.dumps({**log, "completed": False, "first_completed": "", "uploaded_files": uploaded}))
    server.delete(BUCKET, f"{NAME}/Data/second.cbcl")
    puts = server.counters["PutObject"]
    second = Path(shutil.move(first, place.root / "b" / NAME))

    assert place.scan().code == 0
    assert server.counters["PutObject"] == puts + 1
    assert stored(server) == tree(second)


def test_a_log_of_the_predecessor_continues_only_in_a_folder_with_the_same_bytes(
    place: Place, server: S3Server, first: Path
) -> None:
    files = tree(first)
    etags = {f"/in/a/container/{NAME}/{path}": hashlib.md5(body).hexdigest() for path, body in files.items()}
    log = {
        "run_id": NAME,
        "run_path": f"/in/a/container/{NAME}",
        "completed": True,
        "total_local_files": len(files),
        "total_uploaded_files": len(files),
        "total_failed_upload": 0,
        "failed_upload_files": [],
        "uploaded_files": etags,
    }
    path = place.log_dir / "uploads" / f"{NAME}.upload.log.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**log, "uploaded_files": {**etags, f"/in/a/container/{NAME}/RunInfo.xml": "0" * 32}}))
    assert place.scan().code == 1
    assert place.states() == {f"a/{NAME}": "duplicate name"}

    path.write_text(json.dumps(log))
    assert place.scan().code == 0
    assert place.states() == {f"a/{NAME}": "uploaded"}
    assert stored(server) == {}


# What is gone


def test_only_what_is_seen_to_be_missing_is_gone(tmp_path: Path) -> None:
    run = tmp_path / "runs" / NAME
    run.mkdir(parents=True)
    (run / "RunInfo.xml").touch()
    numbers = read_folder_numbers(run)
    elsewhere = (numbers[0] + 1, numbers[1], numbers[2] + 1)
    assert identity.find_presence(str(run), numbers).state == "here"
    (run / "RunInfo.xml").unlink()
    assert identity.find_presence(str(run), numbers).state == "gone", "an empty shell on the same file system"
    assert identity.find_presence(str(run), elsewhere).state == "unknown", "a mount point"
    run.rmdir()
    assert identity.find_presence(str(run), numbers).state == "gone"
    assert identity.find_presence(str(run), elsewhere).state == "unknown"
    (run.parent / "NOT_MOUNTED").touch()
    assert identity.find_presence(str(run), elsewhere).state == "unknown"
    (run.parent / "another run").mkdir()
    assert identity.find_presence(str(run), elsewhere).state == "gone", "mounted again, with another number"
    shutil.rmtree(run.parent)
    assert identity.find_presence(str(run), numbers).state == "gone"
    assert identity.find_presence(str(run), elsewhere).state == "unknown"
    run.parent.symlink_to(tmp_path / "nothing")
    assert identity.find_presence(str(run), elsewhere).state == "unknown"


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        OSError(5, "Input/output error"),
        OSError(116, "Stale file handle"),
        OSError(40, "Too many links"),
    ],
)
def test_a_folder_that_cannot_be_examined_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    old, real = str(tmp_path / "old"), os.stat

    def stat(path: object, *args: object, **options: object) -> os.stat_result:
        if str(path) == old:
            raise error
        return real(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", stat)
    seen = identity.find_presence(old)
    assert seen.state == "unknown"
    assert str(error.strerror) in seen.why


def test_an_unmounted_place_keeps_the_name_of_its_run(place: Place, server: S3Server, first: Path) -> None:
    assert place.scan().code == 0
    shutil.copytree(first, place.root / "b" / NAME)
    script = 'mount -t tmpfs none "$1" || exit 77; shift; exec "$@"'
    config = place.root / "scan.json"
    argv = (sys.executable, "-m", "s3sync", "status", "--config", str(config), "--json")
    ended = subprocess.run(
        ("unshare", "--mount", "sh", "-c", script, "sh", str(first.parent), *argv),
        env=place.env,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == 77 or not ended.stdout:
        pytest.skip(f"may not mount here: {ended.stderr}")
    (run,) = json.loads(ended.stdout)["runs"]
    assert run["state"] == "duplicate name"
    assert f"{first.parent} is empty: is it mounted?" in run["reason"]


@pytest.mark.parametrize("is_another", [False, True])
def test_a_run_continues_after_its_file_system_was_mounted_elsewhere(
    place: Place, server: S3Server, first: Path, is_another: bool
) -> None:
    assert place.scan().code == 0
    uploaded = tree(first)
    moved = Path(shutil.move(first, place.root / "b" / NAME))
    log = place.log_dir / "uploads" / f"{NAME}.upload.log.json"
    logged = log_of(place)
    logged["folder"][2] += 1  # as if `a` had been the mount point
    log.write_text(json.dumps(logged))
    if is_another:  # whose folder happens to have that inode
        (moved / "Data" / "first.cbcl").write_bytes((moved / "Data" / "first.cbcl").read_bytes().upper())

    result = place.scan()

    assert result.code == is_another
    assert ("this is another run: it has other bytes in Data/first.cbcl" in result.err) == is_another
    assert stored(server) == uploaded
    assert place.states() == {f"b/{NAME}": "duplicate name" if is_another else "uploaded"}


# What is the same run


def made(tmp_path: Path, files: dict[str, bytes]) -> Run:
    run = tmp_path / NAME
    for path, body in files.items():
        (run / path).parent.mkdir(parents=True, exist_ok=True)
        (run / path).write_bytes(body)
    return Run(path=run, run_id=NAME, info=RunInfo())


def proofs(files: dict[str, bytes], how: str = "etag") -> dict[str, Proof]:
    return {
        path: Proof(path=path, size=len(body), mtime_ns=1, etag=hashlib.md5(body).hexdigest(), verified_by=how)
        for path, body in files.items()
    }


FILES = {
    "RunInfo.xml": b"<info>",
    "Data/1.cbcl": b"one",
    "InterOp/Q.bin": b"q",
    "SampleSheet.csv": b"s",
    "Logs/x.txt": b"",
}


@pytest.mark.parametrize(
    ("changed", "is_same"),
    [
        ({}, True),
        ({"InterOp/Q.bin": b"more", "SampleSheet.csv": b"corrected", "Logs/x.txt": b"x", "new": b""}, True),
        ({"Data/1.cbcl": b"oneone"}, False),
        ({"Data/1.cbcl": b"two"}, False),
        ({"RunInfo.xml": b"<other>"}, False),
    ],
)
def test_what_tools_write_later_makes_no_other_run_but_data_do(
    tmp_path: Path, changed: dict[str, bytes], is_same: bool
) -> None:
    run = made(tmp_path, {**FILES, **changed})
    assert (identity.explain_difference(run, list_files(run), proofs(FILES)) == "") is is_same


def test_a_folder_with_none_of_the_files_is_another_run(tmp_path: Path) -> None:
    run = made(tmp_path, {"RunInfo.xml": b"<info>"})
    assert identity.explain_difference(run, list_files(run), proofs({"else": b""}))
    assert identity.explain_difference(run, list_files(run), {}) == ""


def test_objects_whose_etag_is_not_an_md5_are_compared_by_size_alone(tmp_path: Path) -> None:
    run = made(tmp_path, {**FILES, "Data/1.cbcl": b"two"})
    assert identity.explain_difference(run, list_files(run), proofs(FILES, "checksum")) == ""


def test_a_log_without_a_folder_belongs_to_any_folder(tmp_path: Path) -> None:
    run = made(tmp_path, FILES)
    state = RunState(run_id=NAME, run_path=f"runs/{NAME}", verified=proofs(FILES))
    for recorded in (
        f"runs/{NAME}",
        "",
        "/a\0b",
        "/\ud800",
        f"{run.path}/",
        f"{run.path.parent}/../{tmp_path.name}/{NAME}",
    ):
        assert identity.check_claim(run, recorded, (), (), lambda: (list_files(run), state)).kind == "own"


# Begun, and gone


def begin(place: Place, first: Path) -> None:
    """The run as a killed call left it."""
    assert place.scan().code == 0
    log = {**log_of(place), "completed": False, "first_completed": ""}
    (place.log_dir / "uploads" / f"{NAME}.upload.log.json").write_text(json.dumps(log))


def test_a_run_whose_folder_is_gone_is_reported_until_it_is_back(place: Place, server: S3Server, first: Path) -> None:
    begin(place, first)
    away = shutil.move(first, place.root / "away")

    for _ in range(2):
        result = place.scan()
        assert (result.code, result.error_ids) == (1, ["run.folder-gone"])
        assert ("4 of 4 files" in result.err, f" {first}" in result.err) == (True, True), result.err
        assert "s3sync forget" in result.err
    shown = place.scan(NAME, command="status")
    assert shown.code == 1
    assert "state       gone: " in shown.out
    assert f"folder      {first}" in shown.out
    page = place.scan("--output", str(place.root / "page"), "--json", command="report")
    assert page.json["runs"] == {"gone": 1}

    shutil.move(away, first)
    assert place.scan().code == 0
    assert place.states() == {f"a/{NAME}": "uploaded"}


def test_a_moved_run_is_reported_until_it_is_uploaded_from_its_new_place(
    place: Place, server: S3Server, first: Path
) -> None:
    begin(place, first)
    (place.root / "away").mkdir()
    away = shutil.move(first, place.root / "away" / NAME)
    assert place.scan().code == 1

    assert place.upload(away, "--aws_command", place.aws).code == 0

    assert place.scan().code == 0
    assert place.states() == {}


def test_a_run_that_is_gone_can_be_forgotten_and_no_other(place: Place, server: S3Server, first: Path) -> None:
    new = place.scan(NAME, command="forget")
    begin(place, first)
    begun = place.scan(NAME, command="forget")
    for refused in (new, begun):
        assert (refused.code, refused.error_ids) == (1, ["run.not-gone"])
    shutil.move(first, place.root / "away")

    result = place.scan(NAME, "--json", command="forget")

    assert result.code == 0
    (one,) = result.json["forgotten"]
    assert Path(one["kept_as"]).exists()
    assert not Path(one["log"]).exists()
    assert place.scan().code == 0
    assert place.states() == {}
    assert stored(server) == tree(place.root / "away")


def test_a_completed_run_or_one_of_another_user_may_vanish(place: Place, server: S3Server, first: Path) -> None:
    assert place.scan().code == 0
    log = {**log_of(place), "completed": False, "run_path": str(place.root / "c" / NAME), "bucket": "elsewhere"}
    (place.log_dir / "uploads" / "OTHER.upload.log.json").write_text(json.dumps({**log, "run_id": "OTHER"}))
    shutil.rmtree(first)
    assert place.scan().code == 0


def test_an_unmounted_directory_is_not_a_run_that_is_gone(place: Place, server: S3Server, first: Path) -> None:
    begin(place, first)
    log = log_of(place)
    device, inode, above = log["folder"]
    path = place.log_dir / "uploads" / f"{NAME}.upload.log.json"
    path.write_text(json.dumps({**log, "folder": [device + 1, inode, above + 1]}))
    shutil.rmtree(first)
    assert "gone" not in place.states().values()


@pytest.mark.parametrize("what", ["a dangling link", "an empty mount point", "a directory that nobody can judge"])
def test_a_started_run_that_may_be_gone_is_unreadable(place: Place, server: S3Server, first: Path, what: str) -> None:
    begin(place, first)
    device, inode, above = log_of(place)["folder"]
    away = shutil.move(first, place.root / "away")
    if what == "a dangling link":
        first.symlink_to(place.root / "nowhere")
    elif what == "an empty mount point":
        first.mkdir()
    other = [device + 1, inode, above + (what == "a directory that nobody can judge")]
    path = place.log_dir / "uploads" / f"{NAME}.upload.log.json"
    path.write_text(json.dumps({**log_of(place), "folder": other}))

    result = place.scan()

    assert (result.code, result.error_ids) == (1, ["run.folder-not-visible"])
    assert "4 of 4 files" in result.err
    assert list(place.states().values()) == ["unreadable"]
    assert place.scan(command="status").code == 1
    assert place.scan(NAME, command="forget").code == 0
    assert place.states() == {}
    assert stored(server) == tree(Path(away))


def test_a_missing_directory_is_one_problem_for_all_its_runs(place: Place, server: S3Server, first: Path) -> None:
    begin(place, first)
    device, inode, above = log_of(place)["folder"]
    path = place.log_dir / "uploads" / f"{NAME}.upload.log.json"
    path.write_text(json.dumps({**log_of(place), "folder": [device + 1, inode, above + 1]}))
    shutil.rmtree(first.parent)
    result = place.scan()
    assert (result.code, result.error_ids) == (1, ["monitor.directory-missing"])
    assert result.err.count("\n") == 1


def test_a_run_whose_run_info_is_gone_is_reported(place: Place, server: S3Server, first: Path) -> None:
    begin(place, first)
    (first / "RunInfo.xml").unlink()
    result = place.scan()
    assert result.code == 1
    assert "its RunInfo.xml is gone" in result.err
