"""`verify`: disk against S3, whatever a log says."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from s3sync.aws.etag import MIB
from tests.helpers.hostile_names import HOSTILE_NAMES
from tests.helpers.lab import BUCKET, FakeAws, Lab, Result, tree
from tests.helpers.s3server import Fault, S3Server, StoredObject
from tests.helpers.tables import read_table


def verify(lab: Lab, run: Path, *argv: str, **options: Any) -> Result:
    """Of any folder, which need not be a run."""
    if not (run / "RunInfo.xml").exists():
        argv = (*argv, "--skip_check")
    return lab.run("verify", str(run), "--bucket", BUCKET, *argv, **options)


def put_in_parts(server: S3Server, run: Path, name: str, content: bytes, part_size: int) -> StoredObject:
    """A file on disk, and what S3 has of it after somebody's multipart upload."""
    (run / name).write_bytes(content)
    parts = [content[i : i + part_size] for i in range(0, len(content), part_size)] or [b""]
    stored = server.put(BUCKET, f"{run.name}/{name}", content)
    stored.etag = f"{hashlib.md5(b''.join(hashlib.md5(p).digest() for p in parts)).hexdigest()}-{len(parts)}"
    return stored


@pytest.fixture
def few(tmp_path: Path, server: S3Server) -> Path:
    """Six files that are in S3."""
    run = tmp_path / "run"
    run.mkdir()
    for name in "abcdef":
        (run / name).write_text(name)
        server.put(BUCKET, f"run/{name}", name.encode())
    return run


@pytest.fixture
def stored(small_run: Path, server: S3Server) -> Path:
    """A run that is in S3, though nobody here uploaded it."""
    for path, content in tree(small_run).items():
        server.put(BUCKET, f"{small_run.name}/{path}", content)
    return small_run


def test_identical(lab: Lab, server: S3Server, stored: Path, each_aws: str) -> None:
    number = len(tree(stored))

    result = verify(lab, stored, "--aws_command", each_aws)

    assert result.code == 0, result.out
    first, second = result.out.splitlines()
    assert first.startswith(f"{number} of {number} files, ")
    assert first.endswith(": identical; safe to delete the local copy")
    assert second.startswith(f"  against s3://{BUCKET}/{stored.name}/, in ")
    assert server.counters["PutObject"] == server.counters["HeadObject"] == 0
    assert list(lab.tmp.iterdir()) == []
    assert not lab.log_dir.exists()


def test_every_difference_is_named(lab: Lab, server: S3Server, stored: Path) -> None:
    prefix = f"{stored.name}/"
    server.delete(BUCKET, prefix + "RunInfo.xml")
    server.put(BUCKET, prefix + "RTAComplete.txt", b"x")
    server.put(BUCKET, prefix + "SampleSheet.csv", b"x" * (stored / "SampleSheet.csv").stat().st_size)
    server.put(BUCKET, prefix + "Data/extra.bin", b"x")
    os.mkfifo(stored / "pipe")
    (stored / "out").symlink_to("/etc/hostname")

    result = verify(lab, stored, "--json")
    plain = verify(lab, stored)

    assert result.code == plain.code == 1
    found = result.json
    assert found["identical"] is False
    assert found["only_in_s3"] == ["Data/extra.bin"]
    assert found["identical_files"] == len(tree(stored)) - 4
    assert set(found["differing"]) == {"RunInfo.xml", "RTAComplete.txt", "SampleSheet.csv", "out"}
    assert found["differing"]["RunInfo.xml"] == "not in S3"
    assert found["differing"]["RTAComplete.txt"].startswith("S3 has 1 bytes, the disk ")
    assert found["differing"]["SampleSheet.csv"].startswith("S3 has other bytes: ETag ")
    assert found["differing"]["out"].startswith("a link out of the run")
    assert "identical; NOT safe to delete the local copy" in plain.out.splitlines()[0]
    assert "  4 files not identical:\n" in plain.out
    assert "  1 file only in S3:\n    Data/extra.bin" in plain.out


def test_excluded_files_keep_a_run_from_being_called_safe_to_delete(lab: Lab, stored: Path, quick_aws: FakeAws) -> None:
    result = verify(lab, stored, "--exclude_patterns", r"InterOp/", r"\.jpg$", "--aws_command", quick_aws(""))

    excluded = sum("InterOp/" in path or path.endswith(".jpg") for path in tree(stored))
    assert result.code == 0, "what was to be compared is identical"
    assert excluded > 1
    verdict = f": identical, but {excluded} excluded files not compared; NOT safe to delete the local copy"
    assert result.out.splitlines()[0].endswith(f"{verdict} [verify.not-compared]")


def test_entries_without_bytes_are_named_and_do_not_prevent_deletion(
    lab: Lab, stored: Path, quick_aws: FakeAws
) -> None:
    os.mkfifo(stored / "pipe")

    result = verify(lab, stored, "--aws_command", quick_aws(""))

    assert (result.code, "safe to delete" in result.out) == (0, True)
    assert "  1 file without bytes, so not in S3:\n    pipe: not a file but a named pipe" in result.out


def test_the_log_is_not_believed(lab: Lab, server: S3Server, small_run: Path) -> None:
    assert lab.upload(small_run).code == 0
    assert verify(lab, small_run).code == 0
    server.delete(BUCKET, f"{small_run.name}/RunInfo.xml")

    assert lab.upload(small_run).out.startswith("nothing to send")
    result = verify(lab, small_run)

    assert result.code == 1
    assert "RunInfo.xml: not in S3" in result.out


def test_what_others_uploaded_with_other_settings_is_recognised(lab: Lab, server: S3Server, few: Path) -> None:
    content = os.urandom(20 * MIB + 5)
    for part_mib in (5, 7, 8, 16):  # 7 makes as many parts as 8 does
        put_in_parts(server, few, f"parts of {part_mib}", content, part_mib * MIB)
    put_in_parts(server, few, "small, in one part", b"small", 8 * MIB)
    put_in_parts(server, few, "empty, in one part", b"", 8 * MIB)
    put_in_parts(server, few, "large, in one PUT", content, MIB).etag = hashlib.md5(content).hexdigest()

    assert verify(lab, few).code == 0
    assert server.counters["HeadObject"] == 1, "of the one in 7 MiB: the rest are settled by their number of parts"
    large = {path for path in tree(few) if path.startswith(("parts", "large"))}
    for path in large:
        (few / path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    other = verify(lab, few, "--json")

    assert (other.code, set(other.json["differing"])) == (1, large)
    assert all(why.startswith("S3 has other bytes: ETag ") for why in other.json["differing"].values())


def test_excludes_apply_to_both_sides(lab: Lab, server: S3Server, stored: Path) -> None:
    server.delete(BUCKET, f"{stored.name}/RunInfo.xml")
    server.put(BUCKET, f"{stored.name}/RunInfo.old", b"x")

    assert verify(lab, stored, "--exclude_patterns", "/RunInfo").code == 0


def test_without_permission_to_list_each_object_is_requested(lab: Lab, server: S3Server, few: Path) -> None:
    denied = Fault("status", method=None, operation="ListObjectsV2", status=403, code="AccessDenied", count=None)
    server.add_fault(denied)

    result = verify(lab, few, "--exclude_patterns", "/[c-f]$", "--json")

    assert (result.code, result.json["identical"], result.json["only_in_s3"]) == (0, True, None)
    assert server.counters["HeadObject"] == 2


def test_encrypted_objects_are_named_as_such(lab: Lab, server: S3Server, few: Path) -> None:
    """ETags of objects under KMS are not MD5s; one under a customer's own key is not even shown without the key."""
    for name in "bcde":
        kms = server.put(BUCKET, f"run/{name}", name.encode())
        kms.etag = "0" * 32
        kms.headers = {"x-amz-server-side-encryption": "aws:kms"}
        kms.checksums = {
            "x-amz-checksum-crc32": base64.b64encode(zlib.crc32(name.encode()).to_bytes(4, "big")).decode()
        }
    server.objects(BUCKET)["run/d"].checksums = {}
    server.objects(BUCKET)["run/e"].checksums = {"x-amz-checksum-crc32": "AAAAAA=="}
    server.put(BUCKET, "run/f", b"f").etag = "0" * 32
    server.add_fault(Fault("status", method="HEAD", key_contains="run/f", status=400, code="BadRequest", count=None))

    result = verify(lab, few, "--manifest", str(lab.root / "m"), "--json")

    assert result.code == 1
    found = result.json
    assert (found["identical_files"], found["by_size_only"]) == (3, ["d"])
    assert set(found["differing"]) == {"e", "f"}
    assert found["differing"]["e"] == "S3 has other bytes: its CRC32 is AAAAAA=="
    assert found["differing"]["f"].startswith("could not be read back from S3: ")
    assert "encrypted with a customer's own key?" in found["differing"]["f"]
    rows = {row[0]: row for row in read_table((lab.root / "m").read_bytes())[1:]}
    assert set(rows) == {"a", "b", "c"}
    assert rows["b"] == ["b", "1", hashlib.md5(b"b").hexdigest(), "0" * 32, "run/b"]


def test_each_object_with_a_customer_key_is_named(lab: Lab, server: S3Server, few: Path) -> None:
    for name in "abcdef":
        server.put(BUCKET, f"run/{name}", name.encode()).etag = "0" * 32
    server.add_fault(Fault("status", method="HEAD", status=400, code="BadRequest", count=None))

    result = verify(lab, few)

    first, *rest = result.out.splitlines()
    assert (result.code, first) == (
        1,
        "0 of 6 files, 0 B identical; NOT safe to delete the local copy [verify.differs]",
    )
    assert [line.split(": ")[:2] for line in rest[2:-1]] == [
        [f"    {name}", "could not be read back from S3"] for name in "abcdef"
    ]


def test_errors_are_one_line(lab: Lab, server: S3Server, stored: Path) -> None:
    missing = lab.run("verify", str(stored / "nowhere"), "--bucket", BUCKET)
    bucket = lab.run("verify", str(stored), "--bucket", "no-such-bucket")
    usage = lab.run("verify", str(stored))

    assert (missing.code, bucket.code, usage.code) == (1, 1, 2)
    assert missing.error_ids == ["run.not-found"]
    assert bucket.error_ids == ["s3.no-bucket"]
    assert usage.error_ids == ["usage.no-bucket"]
    assert f" {stored}/nowhere " in missing.err
    assert " s3://no-such-bucket " in bucket.err


def test_a_signal_ends_it(lab: Lab, server: S3Server, stored: Path) -> None:
    with server.hold(method="GET") as gate:
        process = lab.start("verify", str(stored), "--bucket", BUCKET)
        gate.wait_held(1)
        process.send_signal(signal.SIGTERM)
        gate.release()
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out) == (143, "")
    assert "Traceback" not in err


def test_what_happens_on_the_disk_meanwhile(lab: Lab, server: S3Server, few: Path) -> None:
    """Safe to delete is what is there at the end, not what was there at the beginning."""
    with server.hold(method="GET") as gate:
        process = lab.start("verify", str(few), "--skip_check", "--bucket", BUCKET, "--json")
        gate.wait_held(1)
        (few / "a").unlink()
        os.utime(few / "b", (1, 1))
        (few / "late").write_text("late")
        gate.release()
        out, _ = process.communicate(timeout=120)

    result = Result(process.returncode, out, "")
    assert result.code == 1
    assert result.json["differing"] == {
        "a": "gone from the disk while it was compared",
        "b": "changed while it was compared",
        "late": "appeared on disk while the others were compared",
    }
    assert result.json["identical_files"] == 4


# The manifest


def test_the_manifest_has_every_file_and_md5sum_accepts_it(lab: Lab, server: S3Server, few: Path) -> None:
    folder = few / "[dir] *"
    folder.mkdir()
    for name in HOSTILE_NAMES:
        (folder / name).write_text(name)
        server.put(BUCKET, f"run/[dir] */{name}", name.encode())
    large = os.urandom(20 * MIB + 5)
    put_in_parts(server, few, "large", large, 8 * MIB)
    put_in_parts(server, few, "large and somebody else's", large, 16 * MIB)
    archive = lab.root / "archive"
    archive.mkdir()

    result = verify(lab, few, "--manifest", "archive/run.tsv", cwd=lab.root)

    assert result.code == 0, result.out
    files, objects = tree(few), server.objects(BUCKET)
    assert f"  manifest {archive}/run.tsv: {len(files)} of {len(files)} files\n" in result.out
    assert {p.name: p.stat().st_mode & 0o777 for p in archive.iterdir()} == {"run.tsv": 0o600, "run.tsv.md5": 0o600}
    head, *rows = read_table((archive / "run.tsv").read_bytes())
    assert head == ["path", "size", "md5", "etag", "key"]
    assert rows == [
        [path, str(len(content)), hashlib.md5(content).hexdigest(), objects[f"run/{path}"].etag, f"run/{path}"]
        for path, content in sorted(files.items())
    ]
    assert md5sum_check(archive / "run.tsv.md5", few) == 0
    (few / "large").write_bytes(large[:-1])
    assert md5sum_check(archive / "run.tsv.md5", few) == 1


def md5sum_check(listed: Path, folder: Path) -> int:
    return subprocess.run(("md5sum", "--check", "--strict", "--quiet", str(listed)), cwd=folder, check=False).returncode


def test_the_manifest_of_a_run_that_is_not_identical_has_what_is_verified(
    lab: Lab, server: S3Server, few: Path
) -> None:
    server.delete(BUCKET, "run/a")
    server.put(BUCKET, "run/b", b"x")
    manifest = lab.root / "m.tsv"
    manifest.write_text("of before")

    plain = verify(lab, few, "--manifest", str(manifest))

    assert plain.code == 1
    assert plain.out.splitlines()[2] == f"  manifest {manifest}: 4 of 6 files"
    assert [row[0] for row in read_table(manifest.read_bytes())] == ["path", *"cdef"]


def test_a_manifest_that_cannot_be_written_in_the_end_does_not_cost_the_verdict(
    lab: Lab, server: S3Server, few: Path
) -> None:
    archive = lab.root / "archive"
    archive.mkdir()
    with server.hold(method="GET") as gate:
        process = lab.start("verify", str(few), "--skip_check", "--bucket", BUCKET, "--manifest", str(archive / "m"))
        gate.wait_held(1)
        shutil.rmtree(archive)
        gate.release()
        out, _ = process.communicate(timeout=120)

    assert process.returncode == 1
    assert out.splitlines()[0].endswith(": identical; safe to delete the local copy")
    assert out.splitlines()[2] == f"  manifest {archive}/m is not written: No such file or directory"


def test_an_impossible_place_for_the_manifest_is_reported_before_the_work(
    lab: Lab, server: S3Server, few: Path
) -> None:
    inside = verify(lab, few, "--manifest", str(few / "m.tsv"))
    nowhere = verify(lab, few, "--manifest", str(lab.root / "nowhere" / "m.tsv"), "--json")
    too_long = verify(lab, few, "--manifest", str(lab.root / ("m" * 253)))

    assert (inside.code, nowhere.code, too_long.code) == (2, 2, 1)
    assert (inside.error_ids, f" {few}/m.tsv (" in inside.err) == (["usage.manifest-inside-run"], True), inside.err
    assert nowhere.json["error_id"] == "usage.no-manifest-folder"
    assert too_long.error_ids == ["state.manifest-unwritable"]
    assert server.requests == []
    assert sorted(tree(few)) == [*"abcdef"]


def test_differences_from_a_completed_log_are_sent_again_with_recheck(
    lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    assert lab.upload(tiny_run).code == 0
    key = f"{tiny_run.name}/Data/first.cbcl"
    server.put(BUCKET, key, b"the FIRST file of data\n")

    found = lab.run("verify", str(tiny_run), "--bucket", BUCKET)
    assert found.code == 1
    program = f"{sys.executable} -m s3sync"
    again = (
        f"`{program} upload {tiny_run} --bucket {BUCKET} --aws-command {lab.aws} --recheck` compares with S3 again"
        " and uploads what differs"
    )
    assert found.out.splitlines()[-1] == f"  next    {again}"
    assert lab.upload(tiny_run).out.startswith("nothing to send"), "a completed log is believed"

    assert lab.upload(tiny_run, "--recheck").code == 0
    assert server.objects(BUCKET)[key].body == (tiny_run / "Data" / "first.cbcl").read_bytes()
    assert lab.run("verify", str(tiny_run), "--bucket", BUCKET).code == 0


def test_the_command_that_verify_advises_can_be_pasted(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    run, aws = tiny_run.rename(tiny_run.with_name("it's a run")), quick_aws("")
    options = ("--remote_path", "/a b", "--aws_command", aws, "--log_dir", str(lab.root / "a log"))
    excluded = ("--exclude_patterns", r"first\.cbcl$")
    assert lab.run("upload", "--local_path", str(run), "--bucket", BUCKET, *options, *excluded).code == 0
    server.delete(BUCKET, f"a b/{run.name}/RunInfo.xml")

    found = verify(lab, run, *options, *excluded)

    (command,) = re.findall(r"`(.*)` compares with S3 again", found.out.splitlines()[-1])
    again = subprocess.run(["sh", "-c", command], env=lab.env, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stderr.startswith(
        "warning: 1 file in the log is missing or different in S3, and uploaded again [upload.lost-in-s3]\n"
    )
    assert (lab.root / "a log").is_dir()
    assert set(server.objects(BUCKET)) == {f"a b/{run.name}/{p}" for p in tree(run) if not p.endswith("first.cbcl")}
    assert shlex.split(command)[-1] == "--recheck"


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("{run.parent}", "it has 1 run in it, such as {run}"),
        ("{run}/Data", "it is inside one: {run}"),
        ("{run.parent.parent}/tmp", "give the run's own folder"),
    ],
)
def test_a_folder_that_is_not_a_run_is_refused_before_it_is_read(
    place: str, advice: str, lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    folder = place.format(run=tiny_run)

    result = lab.run("verify", folder, "--bucket", BUCKET)

    assert (result.code, result.out, result.error_ids) == (1, "", ["verify.not-a-run"])
    for fact in (f" {folder}: ", advice.format(run=tiny_run), "--skip-check"):
        assert fact in result.err
    assert result.err.count("\n") == 1
    assert server.requests == []


def test_with_nothing_in_s3_no_byte_is_read_and_the_place_is_doubted(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    aws = quick_aws("")
    assert lab.upload(tiny_run, "--remote_path", "/2026", "--aws_command", aws).code == 0
    (tiny_run / "Data" / "first.cbcl").unlink()
    os.mkfifo(tiny_run / "Data" / "pipe")
    manifest = lab.root / "manifest"
    manifest.write_text("an older one")
    argv = (str(tiny_run), "--bucket", BUCKET, "--aws_command", aws, "--manifest", str(manifest))

    plain = lab.run("verify", *argv, "--log_dir", str(lab.log_dir))
    unknown = lab.run("verify", *argv, "--json")

    number = len(tree(tiny_run))
    first, place, not_written, doubt, elsewhere, *rest = plain.out.splitlines()
    assert (plain.code, first) == (
        1,
        f"0 of {number} files, 0 B identical; NOT safe to delete the local copy [verify.differs]",
    )
    assert place.startswith(f"  against s3://{BUCKET}/{tiny_run.name}/, in ")
    assert not_written == f"  manifest {manifest} is not written: nothing is verified"
    assert doubt == "  S3 has nothing of this run: are --bucket and --remote-path right?"
    assert elsewhere.startswith(f"  its state log names s3://{BUCKET}/2026/{tiny_run.name}/, completed 20")
    assert "upload" not in "".join(rest)
    assert (unknown.code, unknown.json["elsewhere"]) == (1, [])
    assert set(unknown.json["differing"].values()) == {"not in S3"}
    assert manifest.read_text() == "an older one"
