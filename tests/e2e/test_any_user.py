"""Any user can run it: which log directory that user gets, what root leaves behind, and what others see."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s3sync import files, invocation
from s3sync.aws.destination import Destination
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.state import lock, log_dir
from s3sync.state.store import StateStore
from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, QUICK_AWS, FakeAws, Lab
from tests.helpers.s3server import S3Server
from tests.helpers.unprivileged import OTHER_USER, needs_root, python_as_other_user, run_as_other_user

PYTHON = {"PYTHONPATH": str(Path(__file__).parents[2])}
NOBODY = pwd.getpwuid(OTHER_USER).pw_name


@pytest.fixture
def open_lab(server: S3Server) -> Iterator[Lab]:
    """A machine whose folders another user can reach, with a log directory of that user's."""
    needs_root()
    with tempfile.TemporaryDirectory(prefix="s3sync-users-") as name:
        Path(name).chmod(0o755)
        lab = Lab(Path(name), server.url)
        lab.log_dir.mkdir(mode=0o700)
        os.chown(lab.log_dir, OTHER_USER, OTHER_USER)
        os.chown(lab.tmp, OTHER_USER, OTHER_USER)
        yield lab


def owners(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


def config_for(lab: Lab, run: Path, **keys: Any) -> str:
    path = Path(lab.config_for(run, **keys))
    path.chmod(0o644)
    return str(path)


def run_in(lab: Lab, tiny_run: Path) -> Path:
    """The run where another user can read it."""
    return tiny_run.rename(lab.root / tiny_run.name)


def lines_of(text: str) -> list[str]:
    assert "Traceback" not in text
    return text.splitlines()


def test_what_root_uploads_and_scans_belongs_to_the_owner_of_the_log_directory(
    open_lab: Lab, tiny_run: Path, quick_aws: FakeAws
) -> None:
    (open_lab.root / "runs").mkdir()
    run = tiny_run.rename(open_lab.root / "runs" / tiny_run.name)
    aws = quick_aws("")

    by_hand = open_lab.upload(run, "--aws_command", aws)
    config = config_for(open_lab, run, aws_command=aws, report_dir=str(open_lab.log_dir / "page"))
    scanned = open_lab.run("monitor", "--config", config)

    assert (by_hand.code, scanned.code) == (0, 0), by_hand.err + scanned.err
    found = owners(open_lab.log_dir)
    assert {"locks/monitor.lock", "s3_upload.log", "page/index.html", "uploads", "leases"} <= set(found)
    assert set(found.values()) == {OTHER_USER}, found
    assert all(path.lstat().st_mode & 0o077 == 0 for path in open_lab.log_dir.iterdir() if path.name != "page")


def test_the_monitors_user_continues_after_root(open_lab: Lab, tiny_run: Path, quick_aws: FakeAws) -> None:
    (open_lab.root / "runs").mkdir()
    run = tiny_run.rename(open_lab.root / "runs" / tiny_run.name)
    aws = quick_aws("")
    config = config_for(open_lab, run, aws_command=aws)
    assert open_lab.upload(run, "--aws_command", aws).code == 0

    scan = run_as_other_user("monitor", "--config", config, env=open_lab.env)
    status = run_as_other_user("status", "--config", config, "--json", env=open_lab.env)

    assert (scan.returncode, scan.stderr) == (0, "")
    assert [row["state"] for row in json.loads(status.stdout)["runs"]] == ["uploaded"]


@pytest.fixture
def system_aws(open_lab: Lab) -> str:
    """The quick double of the CLI, by a Python that every user can start."""
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip(f"no {python}, and the Python of the tests may be root's alone")
    shutil.copy(QUICK_AWS, open_lab.root / "quick_aws.py")
    script = open_lab.root / "aws"
    start = f"sys.path.insert(0, {str(open_lab.root)!r})\nimport quick_aws\nsys.exit(quick_aws.main(sys.argv[1:]))"
    script.write_text(f"#!{python} -IS\nimport sys\n{start}\n")
    script.chmod(0o755)
    return str(script)


READERS = [
    ("status",),
    ("status", "--json"),
    ("monitor", "--dry_run"),
    ("report", "--output", "/nonexistent/page"),
    ("cleanup",),
    ("monitor",),
    ("cleanup", "--delete", "--yes"),
]


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_user_without_permission_gets_one_line(open_lab: Lab, tiny_run: Path, command: tuple[str, ...]) -> None:
    os.chown(open_lab.log_dir, 0, 0)
    (open_lab.log_dir / "uploads").mkdir()
    config = config_for(open_lab, tiny_run)
    name, *options = command

    result = run_as_other_user(name, "--config", config, *options, env=open_lab.env)

    again = shlex.join([sys.executable, "-m", "s3sync", name, "--config", config, *options])
    (line,) = lines_of(result.stderr)
    writes = command in (("monitor",), ("cleanup", "--delete", "--yes"))
    assert error_ids(line) == ["state.log-dir-unwritable" if writes else "state.log-dir-unreadable"]
    assert result.returncode == 1
    for fact in (f" {open_lab.log_dir}: Permission denied: ", "belongs to root", f"`sudo {again}`"):
        assert fact in line
    if "--json" in options:
        answer = json.loads(result.stdout)
        assert line == f"s3sync: {answer['error']} [{answer['error_id']}]"


@pytest.mark.parametrize("inner", ["uploads", "slurm", "locks"])
def test_a_closed_folder_inside_the_log_directory_is_one_line_too(open_lab: Lab, tiny_run: Path, inner: str) -> None:
    (open_lab.log_dir / inner).mkdir(mode=0o700)
    config = config_for(open_lab, tiny_run)

    results = [
        run_as_other_user(*argv, "--config", config, env=open_lab.env)
        for argv in (("status",), ("monitor", "--dry_run"), ("monitor",))
    ]

    facts = (f"{open_lab.log_dir}/{inner} belongs to root", f"`sudo chown -R {NOBODY}: {open_lab.log_dir}`")
    lines = [line for each in results for line in lines_of(each.stderr)]
    assert [each.returncode for each in results] == [1, 1, 1]
    assert [error_ids(line) for line in lines] == [
        ["state.log-dir-unreadable"],
        ["state.log-dir-unreadable"],
        ["state.log-dir-unwritable"],
    ]
    assert all(fact in line for line in lines for fact in facts), lines


def test_a_scan_names_the_files_that_belong_to_another_user(open_lab: Lab, tiny_run: Path) -> None:
    (open_lab.root / "runs").mkdir()
    (open_lab.log_dir / "locks").mkdir()
    os.chown(open_lab.log_dir / "locks", OTHER_USER, OTHER_USER)
    (open_lab.log_dir / "locks" / "RUN.12345678.lock").write_text("")
    (open_lab.log_dir / "locks" / "RUN.12345678.lock").chmod(0o600)
    config = config_for(open_lab, open_lab.root / "runs" / "none")

    result = run_as_other_user("monitor", "--config", config, env=open_lab.env)

    (line,) = lines_of(result.stderr)
    assert (result.returncode, error_ids(line)) == (1, ["monitor.log-dir-of-others"])
    for fact in (" locks/RUN.12345678.lock, ", "root", f"`sudo chown -R {NOBODY}: {open_lab.log_dir}`"):
        assert fact in line


def test_upload_goes_to_the_users_own_state_folder_where_the_default_cannot_be_made(
    open_lab: Lab, tiny_run: Path, system_aws: str
) -> None:
    run = run_in(open_lab, tiny_run)
    os.chown(open_lab.home, OTHER_USER, OTHER_USER)
    env = {**open_lab.env, "TEST_DEFAULT_LOG_DIR": str(open_lab.root / "var" / "log")}
    argv = ("upload", "--local_path", str(run), "--bucket", BUCKET, "--aws_command", system_aws)

    planned = run_as_other_user(*argv, "--dry_run", "--json", env=env)
    done = run_as_other_user(*argv, env=env)
    again = run_as_other_user(*argv, "--json", env=env)

    own = open_lab.home / ".local" / "state" / "s3sync"
    note = f"this user cannot make {open_lab.root}/var/log, so the state logs are in {own}"
    assert [each.returncode for each in (planned, done, again)] == [0, 0, 0], done.stderr
    for each in (planned, done, again):
        assert f"s3sync: note: {note}" in lines_of(each.stderr)
    assert json.loads(planned.stdout)["log_dir_note"] == json.loads(again.stdout)["log_dir_note"] == note
    assert (own / "uploads" / f"{run.name}.upload.log.json").exists()


def resolved(lab: Lab, **env: str) -> log_dir.LogDir | str:
    """The log directory of another user's upload, or the error that the user gets instead."""
    code = (
        "try:\n    print(*log_dir.for_upload(os.environ), sep='|')\n"
        "except errors.StateError as error:\n    print(error)"
    )
    ended = python_as_other_user(code, env={"TEST_DEFAULT_LOG_DIR": str(lab.root / "var"), **PYTHON, **env})
    assert ended.returncode == 0, ended.stderr
    path, bar, note = ended.stdout.rstrip("\n").partition("|")
    return log_dir.LogDir(Path(path), note) if bar else path


def test_the_users_state_folder_follows_the_xdg_specification(open_lab: Lab) -> None:
    root = open_lab.root
    for name in ("home", "state", "theirs"):
        (root / name).mkdir(exist_ok=True)
        os.chown(root / name, OTHER_USER, OTHER_USER)
    (root / "theirs" / "s3sync").mkdir()  # root's
    home, note = str(root / "home"), f"this user cannot make {root}/var, so the state logs are in "
    usual = log_dir.LogDir(root / "home/.local/state/s3sync", f"{note}{root}/home/.local/state/s3sync")

    assert resolved(open_lab, HOME=home) == usual
    assert resolved(open_lab, HOME=home, XDG_STATE_HOME="") == usual
    assert resolved(open_lab, HOME=home, XDG_STATE_HOME="state") == usual, "a relative path is invalid"
    assert resolved(open_lab, HOME=home, XDG_STATE_HOME="/proc/none") == usual, "cannot be made"
    assert resolved(open_lab, HOME=home, XDG_STATE_HOME=str(root / "theirs")) == usual, "another user made it first"
    named = resolved(open_lab, HOME=home, XDG_STATE_HOME=str(root / "state"))
    assert named == log_dir.LogDir(root / "state/s3sync", f"{note}{root}/state/s3sync")


@pytest.mark.parametrize(
    "env", [{}, {"HOME": ""}, {"HOME": "/nonexistent"}, {"HOME": "home"}, {"HOME": "/root"}], ids=str
)
def test_a_user_without_a_home_gets_an_error_with_what_to_do(open_lab: Lab, env: dict[str, str]) -> None:
    found = resolved(open_lab, **env)

    assert found == (
        f"no folder to keep the state logs in: this user cannot make {open_lab.root}/var, nor in its home"
        " (give a folder with --log-dir, or set this one up once:"
        f" `sudo install -d -m 700 -o {NOBODY} {open_lab.root}/var`)"
    )


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_a_default_that_belongs_to_another_user_is_mentioned(open_lab: Lab, mode: int) -> None:
    (open_lab.root / "var").mkdir(mode=mode)
    os.chown(open_lab.home, OTHER_USER, OTHER_USER)

    place = resolved(open_lab, HOME=str(open_lab.home))

    own = open_lab.home / ".local/state/s3sync"
    note = f"this user cannot write {open_lab.root}/var, so the state logs are in {own}"
    assert place == log_dir.LogDir(own, f"{note}; uploads by root do not see uploads by this user, nor wait for them")


def test_a_default_that_this_user_can_make_or_write_is_used(open_lab: Lab) -> None:
    os.chown(open_lab.root, OTHER_USER, OTHER_USER)
    assert resolved(open_lab) == log_dir.LogDir(open_lab.root / "var", "")
    (open_lab.root / "var").mkdir(mode=0o700)
    os.chown(open_lab.root / "var", OTHER_USER, OTHER_USER)
    assert resolved(open_lab) == log_dir.LogDir(open_lab.root / "var", "")


def test_the_monitor_says_what_sets_it_up(open_lab: Lab, tiny_run: Path) -> None:
    os.chown(open_lab.home, OTHER_USER, OTHER_USER)
    config = config_for(open_lab, tiny_run, log_dir=str(open_lab.root / "not there" / "log"))

    result = run_as_other_user("monitor", "--config", config, env=open_lab.env)

    own = open_lab.home / ".local/state/s3sync"
    (line,) = lines_of(result.stderr)
    assert (result.returncode, error_ids(line)) == (1, ["state.log-dir-unwritable"])
    for fact in (
        f" {open_lab.root}/not there/log: Permission denied: {open_lab.root} belongs to root",
        f"`sudo install -d -m 700 -o {NOBODY} '{open_lab.root}/not there/log'`",
        f' {config}: `"log_dir": "{own}",`',
    ):
        assert fact in line


def test_status_without_a_log_dir_in_its_config_reads_what_upload_wrote(
    open_lab: Lab, tiny_run: Path, system_aws: str
) -> None:
    (open_lab.root / "runs").mkdir()
    run = tiny_run.rename(open_lab.root / "runs" / tiny_run.name)
    os.chown(open_lab.home, OTHER_USER, OTHER_USER)
    env = {**open_lab.env, "TEST_DEFAULT_LOG_DIR": str(open_lab.root / "var")}
    argv = ("upload", "--local_path", str(run), "--bucket", BUCKET, "--aws_command", system_aws)
    assert run_as_other_user(*argv, env=env).returncode == 0
    config = Path(config_for(open_lab, run))
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "log_dir"}))

    status = run_as_other_user("status", "--config", str(config), "--json", env=env)

    assert [row["state"] for row in json.loads(status.stdout)["runs"]] == ["uploaded"]
    own = open_lab.home / ".local/state/s3sync"
    assert status.stderr == f"s3sync: note: there is no {open_lab.root}/var: this user's state logs are in {own}\n"


def test_a_dry_run_says_what_an_upload_would_fail_from(open_lab: Lab, tiny_run: Path, system_aws: str) -> None:
    run = run_in(open_lab, tiny_run)
    os.chown(open_lab.log_dir, 0, 0)
    open_lab.log_dir.chmod(0o755)
    argv = open_lab.upload_argv(run, "--dry_run", "--json", "--aws_command", system_aws)

    planned = run_as_other_user(*argv, env=open_lab.env)

    said = f"cannot write {open_lab.log_dir}: Permission denied: it belongs to root (run this as root: `sudo "
    assert any(line.startswith(f"warning: {said}") for line in lines_of(planned.stderr)), planned.stderr
    assert [each[: len(said)] for each in json.loads(planned.stdout)["obstacles"]] == [said]
    assert list(open_lab.log_dir.iterdir()) == []


def test_a_dry_run_says_that_the_run_is_being_uploaded_and_that_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(path=tmp_path / "run", run_id="run", info=RunInfo())
    store = StateStore(tmp_path / "log", run, Destination("lab-runs", ""))
    assert store.obstacles(1000) == []

    with lock.hold(store.lock_path, "run"):
        assert store.obstacles(1) == [("it is already being uploaded, so an upload would end at once", "lock.busy")]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    (shortage,) = store.obstacles(1000)

    assert shortage.text.startswith(
        f"no room for the state log: {tmp_path}/log/uploads: No space left on device: 1.0 kB left,"
    )


# What root may give away, and what not: the other user tries to get a file of root's.


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of another user."""
    needs_root()
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, OTHER_USER, OTHER_USER)
    return folder


def test_folders_and_files_that_root_makes_get_the_owner_of_their_folder(theirs: Path) -> None:
    files.make_private_folder(theirs / "a" / "b")
    files.make_public_folder(theirs / "c" / "d")
    files.atomic_write(theirs / "a" / "b" / "file", b"content")
    files.atomic_write(theirs / "c" / "page", b"content", mode=0o644)
    os.close(files.open_private(theirs / "log", os.O_WRONLY | os.O_APPEND))

    assert set(owners(theirs).values()) == {OTHER_USER}
    assert {path.lstat().st_gid for path in theirs.rglob("*")} == {OTHER_USER}


def test_where_anybody_may_write_the_owner_of_the_folder_gets_nothing(theirs: Path) -> None:
    theirs.chmod(0o1777)

    files.make_private_folder(theirs / "a")
    files.atomic_write(theirs / "file", b"content")

    assert (owners(theirs)["a"], owners(theirs)["file"]) == (0, 0)


def test_neither_a_link_nor_a_moved_file_gives_away_a_file_of_root(theirs: Path, tmp_path: Path) -> None:
    roots = tmp_path / "roots"
    (roots / "folder").mkdir(parents=True)
    for name in ("empty", "linked", "moved", "full"):
        (roots / name).write_text("secret" if name == "full" else "")
    (theirs / "link").symlink_to(roots / "empty")
    (theirs / "new").symlink_to(roots / "new")
    os.link(roots / "linked", theirs / "linked")
    (roots / "full").rename(theirs / "full")
    (theirs / "folder").symlink_to(roots / "folder")

    for name in ("link", "new", "linked", "full"):
        os.close(files.open_private(theirs / name, os.O_RDWR))
    files.make_private_folder(theirs / "folder" / "inner")
    files.atomic_write(theirs / "folder" / "file", b"content")

    assert set(owners(roots).values()) == {0}
    assert owners(theirs)["full"] == 0


def test_a_file_system_that_knows_no_such_owner_does_not_stop_root(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    files.make_private_folder(theirs / "a")
    files.atomic_write(theirs / "a" / "file", b"content")

    assert (theirs / "a" / "file").read_bytes() == b"content"


# The commands in messages.


@pytest.mark.parametrize(
    ("argv0", "on_path", "shown"),
    [
        ("{bin}/s3sync", True, "s3sync"),
        ("s3sync", True, "s3sync"),
        ("{bin}/s3sync", False, "'{bin}/s3sync'"),
        ("/opt/s3sync/s3sync/__main__.py", True, f"{sys.executable} -m s3sync"),
        ("-c", True, f"{sys.executable} -m s3sync"),
    ],
)
def test_a_command_in_a_message_starts_the_same_program(
    argv0: str, on_path: bool, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_folder = tmp_path / "a folder" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "s3sync").write_text("#!/bin/sh\n")
    (bin_folder / "s3sync").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin" if on_path else "/usr/bin:/bin")
    monkeypatch.setattr(sys, "argv", [argv0.format(bin=bin_folder), "status", "--config", "a b.yaml"])

    assert invocation.command_line("verify", "a run") == f"{shown.format(bin=bin_folder)} verify 'a run'"
    absolute = shown.format(bin=bin_folder) if "-m" in shown else f"'{bin_folder}/s3sync'"
    assert invocation.command_line_as("lab") == f"sudo -u lab {absolute} status --config 'a b.yaml'"
    assert invocation.command_line_as("root") == f"sudo {absolute} status --config 'a b.yaml'"
    assert invocation.command_line_as("4711") == f"sudo -u '#4711' {absolute} status --config 'a b.yaml'"


def test_files_that_cannot_be_used_need_chmod_or_chown_unless_their_disk_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(log_dir, "_may", lambda _path, mode: not mode & os.W_OK)
    assert f"`chmod -R u+rwX {tmp_path}`" in log_dir.entries_of_others(tmp_path)
    uid = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert "chown" in log_dir.entries_of_others(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert log_dir.entries_of_others(tmp_path) == ""
