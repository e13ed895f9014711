"""Objects whose ETags are not MD5s, and buckets that are not who they should be: nothing is guessed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.lab import BUCKET, FakeAws, Lab, tree
from tests.helpers.promise import is_verified
from tests.helpers.s3server import Fault, S3Server

MIB = 1024 * 1024
OWNER = "123456789012"  # of the server's buckets


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of four files, one of which goes up in parts."""
    folder = tmp_path / "instrument" / "RUN"
    (folder / "Data").mkdir(parents=True)
    (folder / "RunInfo.xml").write_text("<RunInfo/>")
    (folder / "Data" / "a.bcl").write_text("a")
    (folder / "Data" / "empty").touch()
    (folder / "Data" / "big.cbcl").write_bytes(os.urandom(9 * MIB))
    return folder


def ways(lab: Lab, run: Path) -> dict[str, str]:
    """What verified each file, by path in the run, as the log has it."""
    log = lab.log(run)
    usual: dict[str, str] = dict.fromkeys(log["local_files"], log["verified_by"])
    return {**usual, **log["verified_by_exceptions"]}


def stored_headers(server: S3Server, run: Path) -> dict[str, Any]:
    return {key.removeprefix(f"{run.name}/"): item.headers for key, item in server.objects(BUCKET).items()}


def test_kms_objects_are_verified_by_their_checksums(lab: Lab, server: S3Server, run: Path) -> None:
    result = lab.upload(run, "--skip_check", "--sse", "aws:kms", "--sse_kms_key_id", "alias/lab")

    assert result.code == 0, result.out + result.err
    assert ways(lab, run) == dict.fromkeys(tree(run), "checksum")
    for headers in stored_headers(server, run).values():
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
    etags = {item.etag for item in server.objects(BUCKET).values()}
    assert not etags & {hashlib.md5(content).hexdigest() for content in tree(run).values()}, "ETags that prove nothing"
    assert set(lab.log(run)["uploaded_files"].values()) == etags
    again = lab.upload(run, "--skip_check", "--json")
    assert again.json["sent_files"] == 0


def test_a_listing_suffices_where_receipts_have_the_checksums(lab: Lab, server: S3Server, run: Path) -> None:
    result = lab.upload(run, "--skip_check", "--sse", "aws:kms")

    assert result.code == 0, result.out + result.err
    assert ways(lab, run) == dict.fromkeys(tree(run), "checksum")
    asked = server.counters["HeadObject"]
    assert asked == 1, "the file of several parts, of which the double reports no checksum"
    without = lab.upload(run, "--skip_check", "--sse", "aws:kms", "--transfer_client", "default", "--remote_path", "b")
    assert without.code == 0, without.out + without.err
    assert server.counters["HeadObject"] == asked + len(tree(run)), "without receipts, each file"


@pytest.mark.parametrize("checksums", ["", "when_required"], ids=["checksums", "none"])
def test_kms_objects_beside_objects_whose_etags_are_md5s_are_verified(
    lab: Lab, server: S3Server, run: Path, checksums: str
) -> None:
    """Part of the run was there before the encryption was changed: its ETags are MD5s, those of the rest are not."""
    server.put(BUCKET, "RUN/RunInfo.xml", (run / "RunInfo.xml").read_bytes())
    environment = {"AWS_REQUEST_CHECKSUM_CALCULATION": checksums} if checksums else {}

    result = lab.upload(run, "--skip_check", "--sse", "aws:kms", env=environment)

    assert result.code == 0, result.out + result.err
    assert ways(lab, run)["Data/a.bcl"] == ("size" if checksums else "checksum")


def test_a_checksum_of_other_bytes_is_no_proof(lab: Lab, server: S3Server, run: Path) -> None:
    """The ETag is no evidence and the size is right; only the checksum differs."""
    assert lab.upload(run, "--skip_check", "--sse", "aws:kms").code == 0
    stored = server.objects(BUCKET)["RUN/RunInfo.xml"]
    stored.checksums["x-amz-checksum-crc32"] = "AAAAAA=="

    result = lab.run("verify", str(run), "--bucket", BUCKET)

    assert result.code == 1
    assert "RunInfo.xml: S3 has other bytes: its CRC32 is AAAAAA==" in result.out


def test_without_a_checksum_the_size_is_the_proof_and_the_log_says_so(lab: Lab, server: S3Server, run: Path) -> None:
    """As with older versions 2, which send none."""
    environment = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}

    result = lab.upload(run, "--skip_check", "--sse", "aws:kms", env=environment)

    assert result.code == 0, result.out + result.err
    assert ways(lab, run) == dict.fromkeys(tree(run), "size")
    assert "verified in S3 by size" in result.out
    verified = lab.run("verify", str(run), "--bucket", BUCKET)
    assert verified.code == 1, "what only its size speaks for is not identical"
    assert "of the same size, and no ETag or checksum to compare" in verified.out


def test_a_file_with_other_evidence_than_most_is_named_in_the_log(lab: Lab, server: S3Server, run: Path) -> None:
    """Somebody else puts one object there at the same time, under another key of KMS, and without a checksum."""
    content = (run / "Data" / "big.cbcl").read_bytes()
    server.add_fault(Fault("drop", key_contains="big.cbcl", method=None, operation="CompleteMultipartUpload"))
    with server.hold(method=None, operation="CompleteMultipartUpload") as gate:
        process = lab.start(*lab.upload_argv(run, "--skip_check"))
        gate.wait_held()
        stored = server.put(BUCKET, "RUN/Data/big.cbcl", content)
        stored.etag = "0" * 32
        stored.headers["x-amz-server-side-encryption"] = "aws:kms"
        gate.release()
        out, err = process.communicate(timeout=240)

    assert process.returncode == 0, out + err
    log = lab.log(run)
    assert (log["verified_by"], log["verified_by_exceptions"]) == ("etag", {"Data/big.cbcl": "size"})
    assert "verified in S3 by ETag, size" in out


@pytest.mark.parametrize("part_size", [5 * MIB, 9 * MIB])
def test_objects_that_others_sent_in_parts_of_another_size_are_recognised(
    lab: Lab, server: S3Server, run: Path, part_size: int
) -> None:
    content = (run / "Data" / "big.cbcl").read_bytes()
    parts = [content[start : start + part_size] for start in range(0, len(content), part_size)]
    etag = f"{hashlib.md5(b''.join(hashlib.md5(part).digest() for part in parts)).hexdigest()}-{len(parts)}"
    server.put(BUCKET, "RUN/Data/big.cbcl", content).etag = etag

    result = lab.upload(run, "--skip_check", "--json")

    assert result.code == 0
    assert (result.json["sent_files"], result.json["found_in_s3"]) == (3, 1)
    assert lab.log(run)["uploaded_files"][str(run / "Data" / "big.cbcl")] == etag
    assert set(ways(lab, run).values()) == {"etag"}


def test_the_newer_cli_sends_the_checksum_that_can_be_computed_here(
    lab: Lab, server: S3Server, run: Path, quick_aws: FakeAws
) -> None:
    """Its own default is another one. Older ones know no such option."""
    newer = "if '--version' in argv:\n    print('aws-cli/2.36.7 Python/3.13.1', flush=True)\n    os._exit(0)"
    record = f"open({str(lab.root / 'calls')!r}, 'a').write(' '.join(argv) + chr(10))"

    result = lab.upload(run, "--skip_check", "--sse", "aws:kms", "--aws_command", quick_aws(f"{newer}\n{record}"))

    assert result.code == 0, result.out + result.err
    copies = [line for line in (lab.root / "calls").read_text().splitlines() if line.split()[1:3] == ["s3", "cp"]]
    assert copies
    assert all("--checksum-algorithm=CRC32" in line for line in copies)
    assert ways(lab, run) == dict.fromkeys(tree(run), "checksum"), "composed of those of the parts, too"


@pytest.mark.parametrize("name", ["STANDARD_IA", "GLACIER_IR", "DEEP_ARCHIVE"])
def test_objects_of_any_storage_class_are_verified(lab: Lab, server: S3Server, run: Path, name: str) -> None:
    assert lab.upload(run, "--skip_check", "--storage_class", name).code == 0
    assert {headers["x-amz-storage-class"] for headers in stored_headers(server, run).values()} == {name}
    is_verified(lab, run, server)


def test_a_scan_stores_as_its_entry_says(lab: Lab, server: S3Server, small_run: Path) -> None:
    entry = {
        "monitored_directories": [str(small_run.parent)],
        "bucket": BUCKET,
        "remote_path": "/",
        "sse": "AES256",
        "storage_class": "STANDARD_IA",
        "expected_bucket_owner": OWNER,
    }

    result = lab.watch(small_run, monitor=[entry], max_bandwidth="1GB/s", stall_minutes=5)

    assert result.code == 0, result.out + result.err
    for headers in stored_headers(server, small_run).values():
        assert headers["x-amz-server-side-encryption"] == "AES256"
        assert headers["x-amz-storage-class"] == "STANDARD_IA"
    is_verified(lab, small_run, server)


def test_check_looks_at_the_owner_and_at_the_storage(lab: Lab, server: S3Server, small_run: Path) -> None:
    entry = {"monitored_directories": [str(small_run.parent)], "bucket": BUCKET, "remote_path": "/"}
    config = lab.root / "config.yaml"

    def check(owner: str) -> tuple[int, str]:
        more = {"expected_bucket_owner": owner, "sse": "aws:kms", "storage_class": "STANDARD_IA"}
        config.write_text(repr({"log_dir": str(lab.log_dir), "monitor": [{**entry, **more}]}).replace("'", '"'))
        result = lab.run("check", "--config", str(config), "--write")
        return result.code, result.out

    code, out = check("999999999999")
    assert code == 1
    assert "s3://lab-runs, expected to be account 999999999999's" in out
    code, out = check(OWNER)
    assert code == 0, out
    assert f"reachable with these credentials, account {OWNER}'s" in out
    assert server.uploads(BUCKET) == []


@pytest.mark.parametrize(
    ("options", "error_id", "fact"),
    [
        (("--sse", "aes"), "usage.invalid-choice", "--sse: 'aes'"),
        (("--sse_kms_key_id", "k"), "usage.requires-other", "--sse aws:kms"),
        (("--storage_class", "COLD"), "usage.invalid-choice", "--storage-class: 'COLD'"),
        (("--expected_bucket_owner", "lab"), "usage.invalid-value", "--expected-bucket-owner: 'lab'"),
        (("--max_bandwidth", "50"), "usage.invalid-value", "--max-bandwidth: '50'"),
        (("--stall_minutes", "0"), "usage.invalid-value", "--stall-minutes: '0'"),
    ],
)
def test_wrong_storage_options_are_usage_errors(
    lab: Lab, run: Path, options: tuple[str, ...], error_id: str, fact: str
) -> None:
    result = lab.upload(run, *options)

    assert (result.code, result.out, result.error_ids) == (2, "", [error_id])
    assert fact in result.err


def test_the_limit_of_bandwidth_is_shared_by_all_processes(
    lab: Lab, server: S3Server, run: Path, quick_aws: FakeAws
) -> None:
    """The CLI's own limit is for one process."""
    aws = quick_aws(f"open({str(lab.root / 'configs')!r}, 'a').write(open(os.environ['AWS_CONFIG_FILE']).read())")

    result = lab.upload(
        run, "--skip_check", "--cores", "4", "--max_bandwidth", "100MB/s", "--aws_command", aws, "--json"
    )

    assert result.code == 0, result.err
    lines = [line for line in (lab.root / "configs").read_text().splitlines() if "max_bandwidth" in line]
    shares = [int(line.partition("=")[2].strip().removesuffix("KB/s")) for line in lines]
    assert 0 < min(shares) < 100_000_000 // 1024, "no process has all of it while others run"
    assert max(shares) <= 100_000_000 // 1024
    is_verified(lab, run, server)
