"""The run folder is never written to, and no secret leaves with it: places that are refused, files that are ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3sync.commands import command_line
from s3sync.config import load_config
from s3sync.errors import ConfigError, StateError, UsageError
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
from tests.helpers.lab import BUCKET, FakeAws, Lab, tree
from tests.helpers.s3server import S3Server

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(tiny_run: Path) -> Path:
    """A run of a few files."""
    return tiny_run


@pytest.fixture(autouse=True)
def _own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tempfile` is told where to go; not beyond a test."""
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


def test_a_place_beside_a_run_is_none_in_it(run: Path) -> None:
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
    """As that of an instrument that is not mounted."""
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


REALLY_MOUNTED = """
import sys
from s3sync.runs.off_limits import find_enclosing_folder
run, whole, part = sys.argv[1:]
print(find_enclosing_folder(whole + "/log", [run]), find_enclosing_folder(part + "/log", [run]))
"""


def test_real_bind_mounts_are_recognized(run: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    part.mkdir()
    script = 'mount --bind "$1" "$2" && mount --bind "$1/Data" "$3" && shift 3 && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", *map(str, (run, whole, part))]
    code = [sys.executable, "-c", REALLY_MOUNTED, str(run), str(whole), str(part)]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root may mount")
    ended = subprocess.run([*argv, *code], cwd=ROOT, capture_output=True, text=True, check=False)
    if "mount" in ended.stderr and "denied" in ended.stderr:
        pytest.skip(ended.stderr)
    assert ended.stdout == f"{run} {run}\n", ended.stderr


# Temporary files


def test_tmpdir_is_taken_where_it_can_be_written(tmp_path: Path) -> None:
    assert choose_temp_dir({"TMPDIR": str(tmp_path)}) == tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tmpdir", ["", "/nowhere", "/dev/null"])
def test_another_usual_folder_is_taken_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmpdir: str) -> None:
    monkeypatch.setattr(off_limits, "_LAST_RESORTS", ("/not-there-either", str(tmp_path)))
    assert choose_temp_dir({"TMPDIR": tmpdir}) == tmp_path


def test_temporary_files_never_go_into_the_current_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's `tempfile` ends there."""
    before = tree(run)
    monkeypatch.chdir(run)
    monkeypatch.setattr(off_limits, "_LAST_RESORTS", ("/nowhere/tmp", "/dev/null"))
    with pytest.raises(StateError) as caught:
        choose_temp_dir({"TMPDIR": "/full"})
    assert str(caught.value) == (
        "no folder for temporary files can be used: /full: No such file or directory; "
        "/nowhere/tmp: No such file or directory; /dev/null: Not a directory (set TMPDIR)"
    )
    assert tree(run) == before


@pytest.mark.parametrize("tmpdir", ["{run}", "{run}/Data", "{run}/not-yet", ".", "Data/.."])
def test_a_tmpdir_in_the_run_is_refused_before_anything_is_written(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmpdir: str
) -> None:
    before = tree(run)
    monkeypatch.chdir(run)
    environ = {"TMPDIR": tmpdir.format(run=run)}
    with pytest.raises(StateError, match=r"inside .*, whose files are uploaded \(set TMPDIR"):
        choose_temp_dir(environ, [run])
    assert explain_misplaced_temp_dir(environ, [run.parent])
    assert tree(run) == before


# The program


@pytest.fixture
def unwritten(lab: Lab, run: Path) -> Iterator[None]:
    """Whatever is refused in a test, it leaves the run as it was, and writes nothing anywhere."""
    before = {path: path.lstat().st_mtime_ns for path in (run, *run.rglob("*"))}
    yield
    assert {path: path.lstat().st_mtime_ns for path in (run, *run.rglob("*"))} == before
    assert not lab.log_dir.exists()


COMMANDS = {
    "upload": ("upload", "--local_path", "{run}", "--bucket", BUCKET, "--log_dir", "{log}"),
    "dry run": ("upload", "--local_path", "{run}", "--bucket", BUCKET, "--log_dir", "{log}", "--dry_run"),
    "verify": ("verify", "{run}", "--bucket", BUCKET),
}


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize(
    ("command", "tmpdir"), [("upload", "{link}/Data"), ("dry run", "{run}"), ("verify", "."), ("upload", ".")]
)
def test_no_work_folder_is_made_inside_the_run(
    lab: Lab, run: Path, quick_aws: FakeAws, server: S3Server, command: str, tmpdir: str
) -> None:
    link = lab.root / "link"
    link.symlink_to(run)
    words = [word.format(run=run, log=lab.log_dir) for word in COMMANDS[command]]

    result = lab.run(*words, "--aws_command", quick_aws(""), env={"TMPDIR": tmpdir.format(run=run, link=link)}, cwd=run)

    assert result.code == 1
    assert "whose files are uploaded (set TMPDIR to a folder outside of it)" in result.err
    assert server.objects(BUCKET) == {}


FULL = """
import sys
from s3sync.runs import off_limits
off_limits._LAST_RESORTS = ("/dev/null", "/nowhere")
from s3sync.commands.main import main
sys.exit(main())
"""


@pytest.mark.usefixtures("unwritten")
def test_full_temporary_folders_do_not_lead_into_the_run(lab: Lab, run: Path, server: S3Server) -> None:
    argv = [sys.executable, "-c", FULL, *lab.words(run)]
    env = {**lab.env, "TMPDIR": "/full"}
    ended = subprocess.run(argv, cwd=run, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("s3sync: no folder for temporary files can be used: /full: ")
    assert server.objects(BUCKET) == {}


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize(("place", "more"), [("{run}", ()), ("{link}/log", ()), ("log", ("--dry_run",))])
def test_a_log_directory_inside_the_run_is_refused(lab: Lab, run: Path, place: str, more: tuple[str, ...]) -> None:
    (lab.root / "link").symlink_to(run)
    where = place.format(run=run, link=lab.root / "link")

    result = lab.run("upload", "--local_path", str(run), "--bucket", BUCKET, "--log_dir", where, *more, cwd=run)

    assert result.code == 2
    shown = where if where.startswith("/") else f"{run}/{where}"
    why = f"{shown} is inside {run}, whose files are uploaded (give another --log_dir)"
    assert result.err == f"s3sync: the log directory {why}\n"


def test_a_log_directory_inside_a_folder_that_is_no_run_is_refused_too(lab: Lab, run: Path) -> None:
    (run / "RunInfo.xml").unlink()
    words = ("upload", "--local_path", str(run), "--bucket", BUCKET, "--skip_check", "--log_dir", str(run / "log"))
    assert lab.run(*words).code == 2
    assert not (run / "log").exists()


@pytest.mark.parametrize("variable", ["HOME", "AWS_SHARED_CREDENTIALS_FILE"])
def test_files_with_keys_inside_the_run_are_not_uploaded(lab: Lab, run: Path, server: S3Server, variable: str) -> None:
    aws = run / ".aws"
    aws.mkdir()
    (aws / "config").write_text("[default]\naws_secret_access_key = precious\n")
    env = {variable: str(run if variable == "HOME" else aws / "config")}

    result = lab.upload(run, env=env)

    assert result.code == 1
    assert f"is inside the run {run}, so its secrets would be uploaded" in result.err
    assert server.objects(BUCKET) == {}


@pytest.mark.parametrize("key", ["log_dir", "report_dir", "metrics_file"])
@pytest.mark.parametrize("place", ["{watched}", "{watched}/log", "{run}/Data/log", "{link}/log"])
def test_the_monitor_writes_nothing_into_a_watched_folder(lab: Lab, run: Path, key: str, place: str) -> None:
    (lab.root / "link").symlink_to(run.parent)
    where = place.format(watched=run.parent, run=run, link=lab.root / "link")
    config = lab.config_for(run, None, **{key: where})
    with pytest.raises(ConfigError) as caught:
        load_config(Path(config), {"TMPDIR": str(lab.tmp)})
    line = str(caught.value)
    assert line.startswith(f"{config}:1:")
    assert f"{key}: {where} is inside " in line
    assert line.endswith(", whose files are uploaded (give a folder outside of it)")


def test_the_monitor_has_no_temporary_files_in_a_watched_folder(lab: Lab, run: Path) -> None:
    with pytest.raises(ConfigError, match=r"^environment: temporary files: .* \(set TMPDIR"):
        load_config(Path(lab.config_for(run)), {"TMPDIR": str(run.parent / "tmp")})


def test_a_config_inside_a_run_is_refused(lab: Lab, run: Path) -> None:
    inside = run / "s3sync.json"
    inside.write_text(Path(lab.config_for(run)).read_text())
    inside.chmod(0o600)
    with pytest.raises(ConfigError, match=f"is inside the run {run}, and would be uploaded with it"):
        load_config(inside, {"TMPDIR": str(lab.tmp)})


def test_a_report_is_not_written_into_a_watched_folder(lab: Lab, run: Path) -> None:
    before = tree(run.parent)
    result = lab.run("report", "--config", lab.config_for(run), "--output", str(run / "page"))
    assert result.code == 2
    assert "whose files are uploaded (give another folder)" in result.err
    assert tree(run.parent) == before


def test_a_manifest_is_not_written_into_any_run(lab: Lab, run: Path) -> None:
    other = run.with_name("261124_A01234_0008_BHFAULTDRX7")
    shutil.copytree(run, other)
    result = lab.run("verify", str(run), "--bucket", BUCKET, "--manifest", str(other / "Data" / "files.tsv"))
    assert result.code == 2
    assert "(give a place outside the run folder)" in result.err


# What an old version left in a run


def leave_our_files(run: Path) -> set[str]:
    """What was made in a run whose folder was TMPDIR and had the log directory."""
    work = run / "s3sync-work-0" / "tmpa1b2c3"
    (work / "batch-000001" / "Data").mkdir(parents=True)
    (work / "aws-config").write_text("[default]\naws_secret_access_key = precious\n")
    (work / "batch-000001" / "Data" / "first.cbcl").symlink_to(run / "Data" / "first.cbcl")
    log = run / "Logs"
    for path in ("locks/R.12345678.lock", "locks/monitor.lock", "leases/R.12345678/1", "uploads/R.upload.log.json"):
        (log / path).parent.mkdir(parents=True, exist_ok=True)
        (log / path).write_text("")
    for name in ("s3_upload.log", "s3_upload.log.2026-11-27", "notified.json", "noted.alerts.json", "last_tick.json"):
        (log / name).write_text("")
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_symlink() or path.is_file()}


def test_files_that_s3sync_made_are_no_files_of_a_run(run: Path) -> None:
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


def test_an_upload_leaves_them_out_and_says_where_to_read_about_it(
    lab: Lab, run: Path, quick_aws: FakeAws, server: S3Server
) -> None:
    expected = {f"{run.name}/{path}" for path in tree(run)}
    leave_our_files(run)

    result = lab.upload(run, "--aws_command", quick_aws(""))

    assert result.code == 0, result.err
    assert set(server.objects(BUCKET)) == expected
    (line,) = [line for line in result.err.splitlines() if "that s3sync made inside the run" in line]
    assert "Logs/last_tick.json" in line
    assert "docs/SECURITY.md" in line
    skipped = json.loads(lab.log_path(run).read_text())["skipped"]
    assert any(path.endswith("s3sync-work-0/tmpa1b2c3/aws-config") for path in skipped)


@pytest.mark.parametrize(
    "words",
    [
        ("upload", "--bucket", BUCKET, "--local_path", ""),
        ("upload", "--bucket", BUCKET, "--local_path", "RUN", "--log_dir", ""),
        ("verify", "--bucket", BUCKET, ""),
        ("verify", "--bucket", BUCKET, "RUN", "--manifest="),
        ("report", "--config", "FILE", "--output", ""),
    ],
)
def test_an_empty_path_is_not_the_current_folder(words: tuple[str, ...]) -> None:
    """A script gives one when its variable is not set."""
    with pytest.raises(UsageError, match="is empty") as refused:
        command_line.parse(words)
    assert refused.value.id == "usage.options"
