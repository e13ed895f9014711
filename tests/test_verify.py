"""`verify`: disk against S3, whatever a log says."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

import pytest

from s3sync.etag import MIB, likely_part_sizes
from tests.conftest import BUCKET, Lab, Result, tree
from tests.s3server import Fault, S3Server


def verify(lab: Lab, run: Path, *words: str) -> Result:
    return lab.run("verify", str(run), "--bucket", BUCKET, *words)


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
    assert second.startswith(f"  in      s3://{BUCKET}/{stored.name}/, compared in ")
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
    words = verify(lab, stored)

    assert result.code == words.code == 1
    found = result.json
    assert found["identical"] is False
    assert found["only_in_s3"] == ["Data/extra.bin"]
    assert found["identical_files"] == len(tree(stored)) - 4
    assert set(found["differing"]) == {"RunInfo.xml", "RTAComplete.txt", "SampleSheet.csv", "out"}
    assert found["differing"]["RunInfo.xml"] == "not in S3"
    assert found["differing"]["RTAComplete.txt"].startswith("S3 has 1 bytes, the disk ")
    assert found["differing"]["SampleSheet.csv"].startswith("S3 has other bytes: ETag ")
    assert found["differing"]["out"].startswith("a link out of the run")
    assert "identical; NOT safe to delete the local copy" in words.out.splitlines()[0]
    assert "  1 file only in S3:\n    Data/extra.bin" in words.out


def test_the_log_is_not_believed(lab: Lab, server: S3Server, small_run: Path) -> None:
    assert lab.upload(small_run).code == 0
    assert verify(lab, small_run).code == 0
    server.delete(BUCKET, f"{small_run.name}/RunInfo.xml")

    assert lab.upload(small_run).out.startswith("nothing to send")
    result = verify(lab, small_run)

    assert result.code == 1
    assert "RunInfo.xml: not in S3" in result.out


@pytest.mark.parametrize("part_mib", [5, 8, 16, 7])
def test_parts_of_other_sizes_are_recognised(lab: Lab, server: S3Server, stored: Path, part_mib: int) -> None:
    content = os.urandom(20 * MIB + 5)
    (stored / "big.cbcl").write_bytes(content)
    parts = [content[i : i + part_mib * MIB] for i in range(0, len(content), part_mib * MIB)]
    etag = f"{hashlib.md5(b''.join(hashlib.md5(p).digest() for p in parts)).hexdigest()}-{len(parts)}"
    server.put(BUCKET, f"{stored.name}/big.cbcl", content).etag = etag

    assert verify(lab, stored).code == 0
    (stored / "big.cbcl").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert verify(lab, stored).code == 1


@pytest.mark.parametrize(
    ("size", "etag", "sizes"),
    [
        (20, "a" * 32, []),
        (20 * MIB, "a-3", [8, 7]),
        (20 * MIB, "a-x", []),
        (20 * MIB, "a-0", []),
        (20 * MIB, f"a-{'9' * 5000}", []),  # Python limits the digits of an int
        (20 * MIB, "a-٣", []),
        (6 * MIB, "a-1", None),
    ],
)
def test_likely_part_sizes(size: int, etag: str, sizes: list[int] | None) -> None:
    found = likely_part_sizes(size, etag)

    if sizes is None:
        assert {8 * MIB, 1024 * MIB} <= set(found)
    else:
        assert set(found) == {mib * MIB for mib in sizes}


def test_excludes_apply_to_both_sides(lab: Lab, server: S3Server, stored: Path) -> None:
    server.delete(BUCKET, f"{stored.name}/RunInfo.xml")
    server.put(BUCKET, f"{stored.name}/RunInfo.old", b"x")

    assert verify(lab, stored, "--exclude_patterns", "/RunInfo").code == 0


def test_without_permission_to_list_each_object_is_asked_for(lab: Lab, server: S3Server, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("a", "b"):
        (run / name).write_text(name)
        server.put(BUCKET, f"run/{name}", name.encode())
    denied = Fault("status", method=None, operation="ListObjectsV2", status=403, code="AccessDenied", count=None)
    server.add_fault(denied)

    assert verify(lab, run).code == 0
    assert server.counters["HeadObject"] == 2


def test_errors_are_one_line(lab: Lab, server: S3Server, stored: Path) -> None:
    missing = lab.run("verify", str(stored / "nowhere"), "--bucket", BUCKET)
    bucket = lab.run("verify", str(stored), "--bucket", "no-such-bucket")
    usage = lab.run("verify", str(stored))

    assert (missing.code, bucket.code, usage.code) == (1, 1, 2)
    assert missing.err.startswith("s3sync: no such folder: ")
    assert bucket.err.startswith("s3sync: no such bucket: s3://no-such-bucket")


def test_a_signal_ends_it(lab: Lab, server: S3Server, stored: Path) -> None:
    with server.hold(method="GET") as gate:
        process = lab.start("verify", str(stored), "--bucket", BUCKET)
        gate.wait_held(1)
        process.send_signal(signal.SIGTERM)
        gate.release()
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out) == (143, "")
    assert "Traceback" not in err
