"""No file of this program is written into a run, or uploaded with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3sync.config import load_config
from s3sync.errors import ConfigError
from tests.helpers.errors import error_ids, raises_error
from tests.helpers.lab import BUCKET, FakeAws, Lab, tree
from tests.helpers.own_files import leave_our_files
from tests.helpers.s3server import S3Server
from tests.helpers.unprivileged import REPOSITORY

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
    argv = [word.format(run=run, log=lab.log_dir) for word in COMMANDS[command]]

    result = lab.run(*argv, "--aws_command", quick_aws(""), env={"TMPDIR": tmpdir.format(run=run, link=link)}, cwd=run)

    assert (result.code, result.error_ids) == (1, ["state.temp-dir-in-run"])
    assert "TMPDIR" in result.err
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
    argv = [sys.executable, "-c", FULL, *lab.upload_argv(run)]
    env = {**lab.env, "TMPDIR": "/full"}
    ended = subprocess.run(argv, cwd=run, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, error_ids(ended.stderr)) == (1, ["state.no-temp-dir"])
    assert " /full: " in ended.stderr
    assert server.objects(BUCKET) == {}


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize(("place", "more"), [("{run}", ()), ("{link}/log", ()), ("log", ("--dry_run",))])
def test_a_log_directory_inside_the_run_is_refused(lab: Lab, run: Path, place: str, more: tuple[str, ...]) -> None:
    (lab.root / "link").symlink_to(run)
    where = place.format(run=run, link=lab.root / "link")

    result = lab.run("upload", "--local_path", str(run), "--bucket", BUCKET, "--log_dir", where, *more, cwd=run)

    assert (result.code, result.error_ids, result.err.count("\n")) == (2, ["usage.log-dir-inside-run"], 1)
    shown = where if where.startswith("/") else f"{run}/{where}"
    for fact in (f" {shown} ", f" {run}, ", "--log-dir"):
        assert fact in result.err


def test_a_log_directory_inside_a_folder_that_is_not_a_run_is_refused_too(lab: Lab, run: Path) -> None:
    (run / "RunInfo.xml").unlink()
    argv = ("upload", "--local_path", str(run), "--bucket", BUCKET, "--skip_check", "--log_dir", str(run / "log"))
    refused = lab.run(*argv)
    assert (refused.code, refused.error_ids) == (2, ["usage.log-dir-inside-run"])
    assert not (run / "log").exists()


@pytest.mark.parametrize("variable", ["HOME", "AWS_SHARED_CREDENTIALS_FILE"])
def test_files_with_keys_inside_the_run_are_not_uploaded(lab: Lab, run: Path, server: S3Server, variable: str) -> None:
    aws = run / ".aws"
    aws.mkdir()
    (aws / "config").write_text("[default]\naws_secret_access_key = precious\n")
    env = {variable: str(run if variable == "HOME" else aws / "config")}

    result = lab.upload(run, env=env)

    assert (result.code, result.error_ids) == (1, ["run.secrets-inside"])
    assert f" {run}, " in result.err
    assert server.objects(BUCKET) == {}


@pytest.mark.parametrize("key", ["log_dir", "report_dir", "metrics_file"])
@pytest.mark.parametrize("place", ["{watched}", "{watched}/log", "{run}/Data/log", "{link}/log"])
def test_the_monitor_writes_nothing_into_a_watched_folder(lab: Lab, run: Path, key: str, place: str) -> None:
    (lab.root / "link").symlink_to(run.parent)
    where = place.format(watched=run.parent, run=run, link=lab.root / "link")
    config = lab.config_for(run, None, **{key: where})
    with raises_error(ConfigError, "config.folder-in-run", f"{config}:1:", f" {key}: {where} "):
        load_config(Path(config), {"TMPDIR": str(lab.tmp)})


def test_the_monitor_has_no_temporary_files_in_a_watched_folder(lab: Lab, run: Path) -> None:
    with raises_error(ConfigError, "config.temporary-folder-in-run", "environment: ", "TMPDIR"):
        load_config(Path(lab.config_for(run)), {"TMPDIR": str(run.parent / "tmp")})


def test_a_config_inside_a_run_is_refused(lab: Lab, run: Path) -> None:
    inside = run / "s3sync.json"
    inside.write_text(Path(lab.config_for(run)).read_text())
    inside.chmod(0o600)
    with raises_error(ConfigError, "config.file-in-run", f" {run}, "):
        load_config(inside, {"TMPDIR": str(lab.tmp)})


def test_a_report_is_not_written_into_a_watched_folder(lab: Lab, run: Path) -> None:
    before = tree(run.parent)
    result = lab.run("report", "--config", lab.config_for(run), "--output", str(run / "page"))
    assert (result.code, result.error_ids) == (2, ["usage.output-in-run"])
    assert tree(run.parent) == before


def test_a_manifest_is_not_written_into_any_run(lab: Lab, run: Path) -> None:
    other = run.with_name("261124_A01234_0008_BHFAULTDRX7")
    shutil.copytree(run, other)
    result = lab.run("verify", str(run), "--bucket", BUCKET, "--manifest", str(other / "Data" / "files.tsv"))
    assert (result.code, result.error_ids) == (2, ["usage.manifest-inside-run"])


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


@pytest.fixture
def run(tiny_run: Path) -> Path:
    """A run of a few files."""
    return tiny_run


@pytest.fixture
def unwritten(lab: Lab, run: Path) -> Iterator[None]:
    """A refused command leaves the run unchanged, and writes nothing."""
    before = {path: path.lstat().st_mtime_ns for path in (run, *run.rglob("*"))}
    yield
    assert {path: path.lstat().st_mtime_ns for path in (run, *run.rglob("*"))} == before
    assert not lab.log_dir.exists()


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
    ended = subprocess.run([*argv, *code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if "mount" in ended.stderr and "denied" in ended.stderr:
        pytest.skip(ended.stderr)
    assert ended.stdout == f"{run} {run}\n", ended.stderr
