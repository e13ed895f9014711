"""`restore`: the run comes back as it was, verified, and never half."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from s3sync.commands import command_line
from s3sync.commands.restore_request import find_request
from s3sync.state import lock
from s3sync.state.lease_files import LeaseFiles
from tests.helpers.hostile_names import HOSTILE_NAMES
from tests.helpers.lab import BUCKET, Lab, Result, tree
from tests.helpers.leases import taken_over
from tests.helpers.s3server import Fault, S3Server

MARKERS = ("CopyComplete.txt", "RTAComplete.txt")


def restore(lab: Lab, run: Path | str, *argv: str, **options: Any) -> Result:
    """Restore the run to the path where it was, unless --local-path follows."""
    return lab.run("restore", str(run), "--bucket", BUCKET, "--log_dir", str(lab.log_dir), *argv, **options)


def times(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def left_beside(run: Path) -> list[str]:
    return [name for name in os.listdir(run.parent) if name.startswith(".s3sync-restore-")]


@pytest.fixture
def gone(lab: Lab, small_run: Path) -> Path:
    """An uploaded run that was moved away: `saved` beside the directory of the runs."""
    assert lab.upload(small_run).code == 0
    shutil.move(small_run, small_run.parent.parent / "saved")
    return small_run


def is_back(run: Path) -> None:
    """Bytes and times are those of the run that was moved away, and nothing else was left."""
    saved = run.parent.parent / "saved"
    same = subprocess.run(["diff", "-r", str(saved), str(run)], capture_output=True, text=True, check=False)
    assert same.stdout == ""
    assert tree(run) == tree(saved)
    assert times(run) == times(saved)
    assert left_beside(run) == []


def test_a_run_comes_back_as_it_was(lab: Lab, server: S3Server, gone: Path) -> None:
    result = restore(lab, gone, "--json")
    assert result.code == 0, result.out + result.err
    is_back(gone)
    files = len(tree(gone))
    assert result.json["restored"] is result.json["whole"] is True
    assert result.json["proven_by"] == {"etag": files}
    assert result.json["failed"] == {}
    again = restore(lab, gone, "--json")
    assert (again.code, again.json["kept_files"], again.json["restored_bytes"]) == (0, files, 0)
    assert server.counters["GetObject"] == files, "none was fetched twice"


def test_it_is_not_uploaded_again(lab: Lab, server: S3Server, gone: Path) -> None:
    assert restore(lab, gone).code == 0
    before = server.counters["PutObject"]
    scan = lab.watch(gone)
    assert scan.code == 0, scan.out + scan.err
    assert server.counters["PutObject"] == before


def test_a_monitor_does_not_take_the_private_folder_for_a_run(lab: Lab, server: S3Server, gone: Path) -> None:
    with server.hold(3, method="GET", operation="GetObject") as gate:
        process = lab.start("restore", str(gone), "--bucket", BUCKET, "--log_dir", str(lab.log_dir))
        gate.wait_held()
        scan = lab.run("status", "--config", lab.config_for(gone), "--json")
        assert not gone.exists()
        assert len(left_beside(gone)) == 1
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert [row["state"] for row in scan.json["runs"]] == [] or "s3sync-restore" not in scan.out
    is_back(gone)


def test_parts_of_a_run(lab: Lab, gone: Path, tmp_path: Path) -> None:
    saved = gone.parent.parent / "saved"
    result = restore(lab, gone.name, "--local-path", str(tmp_path), "--only", "interop", "--only", r"RunInfo\.xml$")
    assert result.code == 0, result.out + result.err
    expected = {path for path in tree(saved) if path.startswith("InterOp/") or path == "RunInfo.xml"}
    assert tree(tmp_path / gone.name).keys() == expected
    whole = restore(lab, gone.name, "--local-path", str(tmp_path))
    assert whole.code == 0, whole.out + whole.err
    assert tree(tmp_path / gone.name) == tree(saved)


def test_a_preview_writes_nothing(lab: Lab, server: S3Server, gone: Path) -> None:
    planned = restore(lab, gone, "--dry-run", "--json")
    assert planned.code == 0, planned.out + planned.err
    files = tree(gone.parent.parent / "saved")
    assert planned.json["total_files"] == len(files)
    assert planned.json["storage_classes"] == {
        "STANDARD": {"files": len(files), "bytes": sum(map(len, files.values()))}
    }
    assert not gone.exists()
    assert left_beside(gone) == []
    assert server.counters["GetObject"] == 0


def test_a_tampered_object_is_not_left_under_its_name(lab: Lab, server: S3Server, gone: Path) -> None:
    """It has the right size, and an ETag that fits its bytes: only the state log knows better."""
    key = next(key for key, item in server.objects(BUCKET).items() if item.size > 100)
    body = server.objects(BUCKET)[key].body
    assert body is not None
    server.put(BUCKET, key, body[:-1] + bytes([body[-1] ^ 1]))
    result = restore(lab, gone, "--json")
    assert result.code == 1
    assert list(result.json["failed"]) == [key.partition("/")[2]]
    assert not gone.exists()
    server.put(BUCKET, key, body)
    fetched = server.counters["GetObject"]
    assert restore(lab, gone).code == 0
    assert server.counters["GetObject"] == fetched + 1
    is_back(gone)


def test_bytes_that_are_not_those_of_the_etag_are_found(lab: Lab, server: S3Server, gone: Path) -> None:
    key = next(key for key, item in server.objects(BUCKET).items() if item.size > 100)
    stored = server.objects(BUCKET)[key]
    assert stored.body is not None
    body, stored.body, stored.checksums = stored.body, b"x" * stored.size, {}
    result = restore(lab, gone, "--no-record", "--json")
    assert (result.code, list(result.json["failed"])) == (1, [key.partition("/")[2]])
    stored.body = body
    assert restore(lab, gone).code == 0
    is_back(gone)


def test_an_object_that_is_missing_is_reported(lab: Lab, server: S3Server, gone: Path) -> None:
    key = f"{gone.name}/RunInfo.xml"
    server.delete(BUCKET, key)
    result = restore(lab, gone, "--json")
    assert (result.code, list(result.json["failed"])) == (1, ["RunInfo.xml"])
    assert not gone.exists()


def test_another_file_on_disk_is_kept_without_overwrite(lab: Lab, gone: Path) -> None:
    gone.mkdir()
    (gone / "RunInfo.xml").write_text("mine")
    result = restore(lab, gone, "--json")
    assert (result.code, list(result.json["failed"])) == (1, ["RunInfo.xml"])
    assert (gone / "RunInfo.xml").read_text() == "mine"
    assert not any((gone / marker).exists() for marker in MARKERS)
    assert restore(lab, gone, "--overwrite").code == 0
    is_back(gone)


def test_the_same_command_continues_after_a_failure(lab: Lab, server: S3Server, gone: Path) -> None:
    server.add_fault(
        Fault("status", method="GET", operation="GetObject", status=403, code="AccessDenied", skip=40, count=9)
    )
    first = restore(lab, gone, "--json")
    assert first.code in (0, 1), first.err
    second = restore(lab, gone, "--json")
    assert second.code == 0, second.out + second.err
    is_back(gone)
    assert server.counters["GetObject"] == len(tree(gone)) + 9


def test_an_object_whose_kms_key_is_disabled_does_not_stop_the_others(lab: Lab, server: S3Server, gone: Path) -> None:
    disabled = Fault("status", status=400, code="KMS.DisabledException", key_contains="RunInfo.xml", count=None)
    disabled.method, disabled.operation = "GET", "GetObject"
    server.add_fault(disabled)
    result = restore(lab, gone, "--json")
    assert (result.code, list(result.json["failed"])) == (1, ["RunInfo.xml"]), result.out + result.err


def test_a_completion_object_is_compared_and_has_the_times(lab: Lab, server: S3Server, small_run: Path) -> None:
    assert lab.upload(small_run, "--completion-object").code == 0
    saved = small_run.parent.parent / "saved"
    shutil.move(small_run, saved)
    shutil.rmtree(lab.log_dir)
    result = restore(lab, small_run, "--json")
    assert result.code == 0, result.out + result.err
    assert [source.rpartition("/")[2] for source in result.json["records"]] == ["s3sync.complete.json"]
    is_back(small_run)
    shutil.rmtree(small_run)
    shutil.rmtree(lab.log_dir)
    key = f"{small_run.name}/s3sync.complete.json"
    facts = json.loads(server.objects(BUCKET)[key].body or b"")
    facts["files"][3]["etag"] = "0" * 32
    server.put(BUCKET, key, json.dumps(facts).encode())
    other = restore(lab, small_run, "--json")
    assert (other.code, list(other.json["failed"])) == (1, [facts["files"][3]["path"]])
    del facts["files"][3]
    server.put(BUCKET, key, json.dumps(facts).encode())
    torn = restore(lab, small_run)
    assert torn.code == 1
    assert "[restore.damaged-record]" in torn.err
    assert not small_run.exists()


def test_hostile_names_come_back_exactly(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    for name in HOSTILE_NAMES:
        (tiny_run / "Data" / name).write_bytes(name.encode())
    (tiny_run / "Data" / "empty_$folder$").touch()
    (tiny_run / "-p [x]*" / "new\nline").mkdir(parents=True)
    (tiny_run / "-p [x]*" / "new\nline" / "?").write_text("deep")
    assert lab.upload(tiny_run).code == 0
    saved = tiny_run.parent.parent / "saved"
    shutil.move(tiny_run, saved)
    result = restore(lab, tiny_run)
    assert result.code == 0, result.out + result.err
    is_back(tiny_run)


@pytest.mark.parametrize(
    "name",
    [
        *("../outside", "Data/../../outside", "/etc/outside", "a//b", "./a", "b/.", "x" * 256, "RunInfo.xml/inner"),
        *("a\0b", "Analysis/a\0b/c", "odd/", "Data/odd/"),
    ],
)
def test_keys_that_are_not_paths_never_lead_out_of_the_folder(
    lab: Lab, server: S3Server, tiny_run: Path, name: str
) -> None:
    assert lab.upload(tiny_run).code == 0
    shutil.rmtree(tiny_run)
    server.put(BUCKET, f"{tiny_run.name}/{name}", b"hostile")
    around = tiny_run.parent.parent
    before = set(around.rglob("*outside*"))
    result = restore(lab, tiny_run, "--json")
    assert result.code == 1, result.out
    assert len(result.json["failed"]) == 1
    assert set(around.rglob("*outside*")) == before
    assert not Path("/etc/outside").exists()


def test_what_other_tools_uploaded_is_verified_by_s3_alone(lab: Lab, server: S3Server, tmp_path: Path) -> None:
    for name, body in {"a": b"1", "b/c": b"2" * 1000, "b/": b"", "_$folder$": b"", "d_$folder$": b"3"}.items():
        server.put(BUCKET, f"2026/run/{name}", body)
    result = restore(lab, "run", "--remote-path", "2026", "--local-path", str(tmp_path), "--json")
    assert result.code == 0, result.out + result.err
    assert tree(tmp_path / "run") == {"a": b"1", "b/c": b"2" * 1000, "d_$folder$": b"3"}
    assert result.json["records"] == []
    assert result.json["files_without_time"] == 3


def test_a_link_in_the_target_is_not_followed(lab: Lab, gone: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    gone.mkdir()
    (gone / "InterOp").symlink_to(elsewhere)
    result = restore(lab, gone, "--json")
    assert result.code == 1
    assert all(path.startswith("InterOp/") for path in result.json["failed"])
    assert list(elsewhere.iterdir()) == []


def test_a_target_on_another_disk_is_refused_before_anything_is_fetched(lab: Lab, server: S3Server, gone: Path) -> None:
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(gone.parent).st_dev:
        pytest.skip("needs two file systems")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        gone.symlink_to(elsewhere)
        result = restore(lab, gone)
    assert (result.code, "[usage.restore-across-disks]" in result.err) == (2, True), result.err
    assert server.counters["GetObject"] == 0
    assert left_beside(gone) == []


def test_one_at_a_time(lab: Lab, server: S3Server, gone: Path) -> None:
    with server.hold(3, method="GET", operation="GetObject") as gate:
        process = lab.start("restore", str(gone), "--bucket", BUCKET, "--log_dir", str(lab.log_dir))
        gate.wait_held()
        assert restore(lab, gone).code == 75
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_nothing_is_moved_into_place_without_the_lock(lab: Lab, server: S3Server, gone: Path) -> None:
    with server.hold(3, method="GET", operation="GetObject") as gate:
        process = lab.start("restore", str(gone), "--bucket", BUCKET, "--log_dir", str(lab.log_dir))
        gate.wait_held()
        (held,) = (lab.log_dir / "locks").glob("*.lock")
        taken_over(LeaseFiles(lock.lease_folder(held)))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert not gone.exists()
    assert len(left_beside(gone)) == 1


def test_a_restore_with_another_log_directory_does_not_take_files_away(
    lab: Lab, server: S3Server, gone: Path, tmp_path: Path
) -> None:
    """It has another lock of the run, and the same private folder."""
    with server.hold(3, method="GET", operation="GetObject") as gate:
        process = lab.start("restore", str(gone), "--bucket", BUCKET, "--log_dir", str(lab.log_dir))
        gate.wait_held()
        other = ("restore", str(gone), "--bucket", BUCKET, "--log_dir", str(tmp_path / "other"), "--only", "interop")
        assert lab.run(*other).code == 75
    process.communicate(timeout=120)
    assert process.returncode == 0
    is_back(gone)


@pytest.mark.parametrize(
    ("argv", "code", "error"),
    [
        (("no-such-run", "--local-path", "."), 1, "restore.not-in-s3"),
        (("name",), 2, "usage.no-restore-target"),
        ((), 2, "usage.no-run"),
        (("/", "--local-path", "."), 2, "usage.no-run"),
        (("name", "--local-path", ".", "--only", ""), 2, "usage.bad-part"),
        (("RUN/Analysis/1",), 2, "usage.restore-into-run"),
        (("name", "--local-path", "/no/such/folder"), 2, "usage.no-restore-folder"),
        (("name", "--local-path", ".", "--only", "lane=x"), 2, "usage.bad-part"),
        (("name", "--local-path", ".", "--only", "("), 2, "usage.bad-part"),
    ],
)
def test_mistakes(lab: Lab, server: S3Server, tmp_path: Path, argv: tuple[str, ...], code: int, error: str) -> None:
    result = lab.run("restore", *argv, "--bucket", BUCKET, "--log_dir", str(lab.log_dir), cwd=tmp_path)
    assert (result.code, f"[{error}]" in result.err) == (code, True), result.err


def test_each_generation_of_the_cli(tmp_path: Path, server: S3Server, tiny_run: Path, each_aws: str) -> None:
    """Hostile names, a file of several parts, a part of the run, and an object that is refused."""
    lab = Lab(tmp_path, server.url, each_aws)
    for name in HOSTILE_NAMES:
        (tiny_run / "Data" / name).write_bytes(name.encode())
    (tiny_run / "Data" / "big.cbcl").write_bytes(os.urandom(20_000_000))
    assert lab.upload(tiny_run).code == 0
    shutil.move(tiny_run, tiny_run.parent.parent / "saved")
    server.add_fault(
        Fault(
            "status", method="GET", operation="GetObject", status=403, code="AccessDenied", key_contains="/a+b", count=3
        )
    )
    refused = restore(lab, tiny_run, "--json")
    assert (refused.code, list(refused.json["failed"])) == (1, ["Data/a+b"]), refused.out + refused.err
    assert "AccessDenied" in refused.out
    assert restore(lab, tiny_run).code == 0
    is_back(tiny_run)


def test_a_config_knows_where_a_run_went_and_where_it_was(lab: Lab, gone: Path) -> None:
    result = lab.run("restore", gone.name, "--config", lab.config_for(gone), "--json")
    assert result.code == 0, result.out + result.err
    is_back(gone)


def test_a_config_says_when_a_process_stalls(lab: Lab, gone: Path) -> None:
    argv = ["restore", gone.name, "--config", lab.config_for(gone, stall_minutes=7)]
    assert find_request(command_line.parse(argv)).stall_seconds == 7 * 60
    assert find_request(command_line.parse([*argv, "--stall-minutes", "3"])).stall_seconds == 3 * 60


def test_a_config_without_a_log_of_the_run(lab: Lab, gone: Path) -> None:
    result = lab.run("restore", "another", "--config", lab.config_for(gone))
    assert (result.code, "[usage.no-state-log]" in result.err) == (2, True), result.err


def test_cleanup_names_the_credentials_of_the_destination(lab: Lab, small_run: Path) -> None:
    (lab.home / ".aws").mkdir()
    keys = "aws_access_key_id = testing\naws_secret_access_key = testing-secret-key\n"
    (lab.home / ".aws" / "credentials").write_text(f"[lab]\n{keys}")
    config = lab.config_for(small_run, entry={"profile": "lab", "region": "eu-west-2"})
    assert lab.run("monitor", "--config", config).code == 0
    options = ("--config", config, "--older-than", "0h", "--delete", "--yes", "--json")
    cleaned = lab.run("cleanup", small_run.name, *options)
    assert cleaned.code == 0, cleaned.out + cleaned.err
    (command,) = [row["restore"] for row in cleaned.json["runs"]]
    assert "--profile lab --region eu-west-2" in command


def test_cleanup_leaves_a_restored_run_for_as_long_as_a_new_one(lab: Lab, gone: Path) -> None:
    (log,) = (lab.log_dir / "uploads").glob("*.json")
    facts = json.loads(log.read_text())
    log.write_text(json.dumps({**facts, "finished": "2026-01-01T00:00:00+00:00"}))
    assert restore(lab, gone).code == 0
    argv = ("cleanup", gone.name, "--config", lab.config_for(gone), "--json", "--delete", "--yes", "--older-than")
    young = lab.run(*argv, "30d").json["runs"]
    assert [row["reason_id"] for row in young] == ["cleanup.too-young"]
    assert "restored" in young[0]["reason"]
    (lab.log_dir / "restores").rename(lab.root / "restores")
    assert restore(lab, gone, "--local-path", str(lab.root)).code == 0, "elsewhere, which does not matter"
    old = lab.run(*(word for word in argv if word not in ("--delete", "--yes")), "30d").json["runs"]
    assert [row["verdict"] for row in old] == ["may be deleted"]
    assert lab.run(*argv, "0h").code == 0
    assert not gone.exists()


def test_a_tampered_manifest_is_found(lab: Lab, server: S3Server, small_run: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "run.tsv"
    assert lab.upload(small_run).code == 0
    assert lab.run("verify", str(small_run), "--bucket", BUCKET, "--manifest", str(manifest)).code == 0
    shutil.move(small_run, tmp_path / "saved")
    right = manifest.read_text()
    lines = right.split("\n")
    path, size, _, etag, key = lines[5].split("\t")
    lines[5] = "\t".join((path, size, "0" * 32, etag, key))
    manifest.write_text("\n".join(lines))
    other = restore(lab, small_run, "--manifest", str(manifest), "--json")
    assert (other.code, list(other.json["failed"])) == (1, [path])
    manifest.write_text(right.replace("\t", " ", 1))
    torn = restore(lab, small_run, "--manifest", str(manifest))
    assert (torn.code, "[restore.bad-manifest]" in torn.err) == (1, True)
    manifest.write_text(right)
    assert restore(lab, small_run, "--manifest", str(manifest)).code == 0
    is_back(small_run)


def test_a_completion_object_that_the_upload_did_not_write(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    assert lab.upload(tiny_run, "--completion-object").code == 0
    shutil.rmtree(tiny_run)
    key = f"{tiny_run.name}/s3sync.complete.json"
    server.put(BUCKET, key, (server.objects(BUCKET)[key].body or b"") + b"\n")
    result = restore(lab, tiny_run)
    assert (result.code, "[restore.replaced-record]" in result.err) == (1, True)
    assert restore(lab, tiny_run, "--no-record").code == 0


def test_numbers_of_a_completion_object_that_cannot_be(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    assert lab.upload(tiny_run, "--completion-object").code == 0
    shutil.rmtree(tiny_run)
    shutil.rmtree(lab.log_dir)
    key = f"{tiny_run.name}/s3sync.complete.json"
    facts = json.loads(server.objects(BUCKET)[key].body or b"")
    for mtime_ns in (10**40, float("inf")):
        facts["files"][0]["mtime_ns"] = mtime_ns
        server.put(BUCKET, key, json.dumps(facts).encode())
        result = restore(lab, tiny_run)
        assert (result.code, "[restore.damaged-record]" in result.err) == (1, True), result.err


def test_what_was_encrypted_by_kms_is_verified_by_its_checksums(lab: Lab, server: S3Server, gone: Path) -> None:
    """The ETags of a copy that KMS has encrypted are not MD5s, and the state log names the old ones."""
    for stored in server.objects(BUCKET).values():
        stored.headers["x-amz-server-side-encryption"] = "aws:kms"
        stored.etag = stored.etag[::-1]
    result = restore(lab, gone, "--only", "metadata", "--json")
    assert result.code == 0, result.out
    assert result.json["proven_by"].keys() == {"checksum"}


def test_a_run_that_is_still_being_uploaded_is_not_called_uploaded(
    lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path
) -> None:
    """On another machine, whose log is not here: the markers come last, so there is none yet."""
    assert lab.upload(tiny_run).code == 0
    server.delete(BUCKET, f"{tiny_run.name}/CopyComplete.txt")
    elsewhere = str(tmp_path / "other log")
    options = ("--bucket", BUCKET, "--log_dir", elsewhere, "--local-path", str(tmp_path), "--json")
    result = lab.run("restore", tiny_run.name, *options)
    assert (result.code, result.error_ids) == (0, ["restore.no-marker"]), result.err
    assert tree(tmp_path / tiny_run.name).keys() == tree(tiny_run).keys() - {"CopyComplete.txt"}
    assert list(Path(elsewhere).glob("uploads/*")) == []
