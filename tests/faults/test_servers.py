"""Servers that speak S3's language in their own way: each with a mode of the test server (`Dialect`)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import http.server
import json
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from s3sync.aws import argv, diagnosis
from s3sync.aws.client import AwsCli, AwsResult, RemoteFolder
from s3sync.aws.destination import BucketRef, Destination, parse_destination
from s3sync.aws.digests import expected_checksum
from s3sync.aws.objects import ObjectReader, ObjectState, RemoteObject
from s3sync.aws.remote_object import parse_head, parse_listing
from s3sync.aws.settings import TransferClient, child_environment
from s3sync.config import load_config
from s3sync.errors import ConfigError, UsageError
from s3sync.runs.local_files import LocalFile
from s3sync.transfer.request import UploadRequest
from tests.helpers import s3server
from tests.helpers.errors import raises_error
from tests.helpers.lab import BUCKET, Lab, tree
from tests.helpers.s3server import MIB, Dialect, Fault, S3Server

BIG, BIGGER = "Data/big.cbcl", "Data/bigger.cbcl"
NO_MD5S = "warning: this server's ETags are not MD5s"


@pytest.fixture
def run(tiny_run: Path) -> Path:
    """With two files that go up in parts."""
    (tiny_run / BIG).write_bytes(b"big " * (8 * MIB // 4) + b"x")
    (tiny_run / BIGGER).write_bytes(b"more" * (8 * MIB // 4) + b"xyz")
    return tiny_run


@pytest.fixture
def aws(quick_aws: Callable[..., str]) -> tuple[str, str]:
    """Options: the quick double of the CLI, which sends no checksums."""
    return "--aws_command", quick_aws()


def speak(server: S3Server, **dialect: Any) -> Dialect:
    for name, value in dialect.items():
        setattr(server.dialect, name, value)
    return server.dialect


def ways(lab: Lab, run: Path) -> dict[str, str]:
    """What verified each file, by path in the run, as the log has it."""
    log = lab.log(run)
    usual: dict[str, str] = dict.fromkeys(log["local_files"], log["verified_by"])
    return {**usual, **log["verified_by_exceptions"]}


def puts(server: S3Server) -> int:
    return server.counters["PutObject"] + server.counters["CompleteMultipartUpload"]


# ETags that are not MD5s


@pytest.mark.parametrize("random_etags", [False, True])
@pytest.mark.parametrize("opaque", ["multipart", "all"])
def test_where_etags_are_not_md5s_files_are_sent_once_and_verified_by_size(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str], opaque: str, random_etags: bool
) -> None:
    speak(server, opaque_etags=opaque, random_etags=random_etags, checksums="ignored")

    result = lab.upload(run, *aws)

    assert result.code == 0, result.out + result.err
    assert puts(server) == len(tree(run)), "nothing is sent again and again"
    assert result.err.count(NO_MD5S) == 1, "said once"
    verified = ways(lab, run)
    assert [verified[BIG], verified[BIGGER]] == ["content", "size"], "one was read back, to find out"
    if opaque == "multipart":
        assert {how for path, how in verified.items() if path not in (BIG, BIGGER)} == {"etag"}
    log = lab.log(run)
    assert log["completed"]
    assert log["opaque_etags"]
    again = lab.upload(run, *aws, "--recheck", "--json")
    assert (again.code, again.json["sent_files"]) == (0, 0), "remembered"


def test_what_is_known_of_etags_is_remembered_by_later_calls(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str]
) -> None:
    speak(server, opaque_etags="multipart", checksums="ignored")
    refused = server.add_fault(Fault("status", key_contains="bigger", method=None, count=None))
    assert lab.upload(run, *aws).code == 1
    refused.count = 0
    gets = server.counters["GetObject"]

    result = lab.upload(run, *aws)

    assert result.code == 0
    assert server.counters["GetObject"] == gets, "nothing more is read back"
    assert ways(lab, run)[BIGGER] == "size"


def test_where_neither_etags_nor_checksums_say_anything_few_objects_are_requested(
    lab: Lab, server: S3Server, tiny_run: Path, aws: tuple[str, str]
) -> None:
    speak(server, opaque_etags="all", checksums="ignored")
    for number in range(60):
        (tiny_run / "Data" / f"{number}.cbcl").write_text(f"the file {number}")

    result = lab.upload(tiny_run, *aws)

    assert result.code == 0, result.out + result.err
    assert puts(server) == len(tree(tiny_run))
    assert server.counters["HeadObject"] <= 12, "four of each phase"
    assert server.counters["GetObject"] == 1
    assert sorted(set(ways(lab, tiny_run).values())) == ["content", "size"]


def test_verify_decides_where_etags_are_not_md5s(lab: Lab, server: S3Server, run: Path, aws: tuple[str, str]) -> None:
    speak(server, opaque_etags="multipart", checksums="ignored")
    assert lab.upload(run, *aws).code == 0

    result = lab.run("verify", str(run), "--bucket", BUCKET, *aws)
    verified = lab.run("verify", str(run), "--bucket", BUCKET, *aws, "--json")

    assert result.code == 1, "what only its size speaks for is not identical"
    assert "  1 file of the same size, and no ETag or checksum to compare:" in result.out
    assert (verified.json["differing"], verified.json["by_size_only"]) == ({}, [BIGGER])


def test_other_bytes_are_found_on_a_server_whose_etags_are_not_md5s(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str]
) -> None:
    """The object that is read back has other bytes than the disk: that is no proof of anything."""
    speak(server, opaque_etags="multipart", checksums="ignored")
    with server.hold(operation="HeadObject", method="HEAD") as gate:
        process = lab.start(*lab.upload_argv(run, *aws))
        gate.wait_held()
        stored = server.objects(BUCKET)[f"{run.name}/{BIG}"]
        assert stored.body
        stored.body = stored.body.swapcase()
        gate.release()
        out, err = process.communicate(timeout=240)

    assert process.returncode == 0, out + err
    assert server.counters["CompleteMultipartUpload"] == 4, "both again"
    assert server.objects(BUCKET)[f"{run.name}/{BIG}"].body == (run / BIG).read_bytes()


def test_a_stale_object_is_no_proof_where_etags_are_not_md5s(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str]
) -> None:
    """The CLI reports success, but the object was there before."""
    speak(server, opaque_etags="multipart", checksums="ignored")
    old = server.put(BUCKET, f"{run.name}/{BIGGER}", (run / BIGGER).read_bytes().swapcase())
    old.etag, old.last_modified = f"{'0' * 32}-2", old.last_modified - 3600
    server.add_fault(Fault("drop", method=None, operation="CompleteMultipartUpload", key_contains=BIGGER, count=None))

    result = lab.upload(run, *aws)

    assert result.code == 1
    assert f"{BIGGER}: S3 has other bytes: ETag" in result.out
    assert ways(lab, run)[BIG] == "content"


def test_where_other_etags_are_md5s_a_wrong_one_is_a_mismatch(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str]
) -> None:
    wrong = Fault("wrong_etag", method=None, operation="CompleteMultipartUpload", key_contains=BIGGER, count=None)
    server.add_fault(wrong)

    result = lab.upload(run, *aws)

    assert result.code == 1
    assert f"{BIGGER}: S3 has other bytes: ETag" in result.out
    assert NO_MD5S not in result.err


def test_objects_under_kms_are_verified_though_others_before_them_are_wrong(
    lab: Lab, server: S3Server, tiny_run: Path, aws: tuple[str, str]
) -> None:
    """The first that are asked for have no checksum, but that says nothing of the others."""
    for number in range(12):
        (tiny_run / "Data" / f"{number:02}.cbcl").write_text(f"the file {number:02}")
    assert lab.upload(tiny_run, *aws).code == 0
    for number in range(12):
        stored = server.put(BUCKET, f"{tiny_run.name}/Data/{number:02}.cbcl", f"THE FILE {number:02}".encode())
        if number >= 6:
            crc32 = zlib.crc32(f"the file {number:02}".encode()).to_bytes(4, "big")
            stored.headers["x-amz-server-side-encryption"] = "aws:kms"
            stored.checksums["x-amz-checksum-crc32"] = base64.b64encode(crc32).decode()

    result = lab.run("verify", str(tiny_run), "--bucket", BUCKET, *aws, "--json")

    assert (result.code, result.json["by_size_only"]) == (1, [])
    assert sorted(result.json["differing"]) == [f"Data/{number:02}.cbcl" for number in range(6)]


def test_an_object_that_cannot_be_read_back_is_no_proof(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str]
) -> None:
    speak(server, opaque_etags="multipart", checksums="ignored")
    server.add_fault(Fault("status", method="GET", operation="GetObject", status=403, code="AccessDenied", count=None))

    result = lab.upload(run, *aws)

    assert result.code == 1
    assert "S3 has other bytes, or ETags that are not MD5s: it could not be read back" in result.out


@pytest.mark.parametrize("ending", ["", "-1"])
def test_multipart_etags_that_do_not_say_how_many_parts_there_are(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str], ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some servers give objects of several parts 32 hexadecimal digits, as any other."""
    speak(server, checksums="ignored")
    other = hashlib.md5(b"something else").hexdigest()
    monkeypatch.setattr(Dialect, "etag", lambda _self, etag: f"{other}{ending}" if "-" in etag else etag)

    result = lab.upload(run, *aws)

    assert result.code == 0, result.out + result.err
    assert puts(server) == len(tree(run)), "nothing is sent again and again"
    assert [ways(lab, run)[BIG], ways(lab, run)[BIGGER]] == ["content", "size"]


def test_objects_of_another_uploaders_parts_are_read_back_in_those_parts(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str]
) -> None:
    for name in (BIG, BIGGER):
        with (run / name).open("ab") as stream:
            stream.write(b"z" * 3 * MIB)
    for path, content in tree(run).items():
        stored = server.put(BUCKET, f"{run.name}/{path}", content)
        if path in (BIG, BIGGER):
            stored.etag = f"{'1' * 32}-3"  # of 5 MiB

    result = lab.run("verify", str(run), "--bucket", BUCKET, *aws, "--json")

    assert (result.json["differing"], result.json["by_size_only"]) == ({}, [BIGGER])


@pytest.mark.parametrize("path", [BIG, "Data/first.cbcl"])
def test_under_kms_an_object_that_was_there_is_no_proof_of_a_file_that_was_refused(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str], path: str
) -> None:
    """It has the size of the file, an ETag that says nothing, and no checksum."""
    old = server.put(BUCKET, f"{run.name}/{path}", (run / path).read_bytes().swapcase())
    old.headers["x-amz-server-side-encryption"] = "aws:kms"
    old.etag, old.last_modified = "1" * 32 + "-2" * (path == BIG), old.last_modified - 3600
    operation = "CreateMultipartUpload" if path == BIG else "PutObject"
    refused = Fault("status", method=None, operation=operation, key_contains=path, status=403, code="AccessDenied")
    refused.count = None
    server.add_fault(refused)

    result = lab.upload(run, *aws)

    assert result.code == 1, result.out
    assert f"{path}: S3 has an object of this size, and neither an MD5 nor a checksum to compare" in result.out
    log = lab.log(run)
    assert not log["completed"]
    assert str(run / path) not in log["uploaded_files"]


def test_a_server_that_gives_no_etags_gives_sizes() -> None:
    """The CLI prints `null` then."""
    listed = AwsResult((), 0, b'[["RUN/a", 5, null, null]]', ())
    seen = AwsResult((), 0, b'[5, null, null, null, "abc="]', ())

    assert parse_listing(listed) == [("RUN/a", RemoteObject(5, "", listed=True))]
    assert parse_head(seen) == RemoteObject(5, "", "abc=")


def test_a_listing_with_sizes_that_are_not_the_objects_is_not_relied_on(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of gateways that compress or encrypt, and list what they store."""
    for number in range(12):
        (run / "Data" / f"{number:02}.cbcl").write_text(f"the file {number:02}")
    entry = s3server._list_entry
    monkeypatch.setattr(s3server, "_list_entry", lambda *of: entry(*of).replace("<Size>", "<Size>9"))

    result = lab.upload(run, *aws)

    assert result.code == 0, result.out + result.err
    assert puts(server) == len(tree(run)), "nothing is sent again"
    assert result.err.count("cannot be listed reliably") == 1


def test_check_finds_no_problem_with_a_server_that_does_not_list(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    speak(server, lists="not")

    result = lab.run("check", "--config", lab.config_for(tiny_run))

    assert result.code == 0, result.out
    assert f"ok       bucket: s3://{BUCKET}: reachable, but this server does not list it" in result.out


def test_an_empty_object_does_not_show_what_etags_are_worth(
    lab: Lab, server: S3Server, tiny_run: Path, aws: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stores other bytes under ETags that are not MD5s; an empty file comes back as it was all the same."""
    (tiny_run / "Data" / "empty.cbcl").write_bytes(b"")
    speak(server, opaque_etags="all", checksums="ignored")
    monkeypatch.setattr(s3server._Payload, "body", lambda payload: b"?" * payload.size)

    result = lab.upload(tiny_run, *aws)

    assert result.code == 1
    assert "they were read back and differ" in result.out
    assert set(lab.log(tiny_run)["uploaded_files"]) <= {str(tiny_run / "Data" / "empty.cbcl")}


def test_where_sizes_alone_are_compared_an_older_object_is_no_proof_of_a_file_that_was_refused(
    lab: Lab, server: S3Server, tiny_run: Path, aws: tuple[str, str]
) -> None:
    server.put(BUCKET, f"{tiny_run.name}/Data/first.cbcl", b"THE FIRST FILE OF DATA\n").last_modified -= 3600
    refused = Fault("status", key_contains="first", status=403, code="AccessDenied", count=None)
    server.add_fault(refused)

    result = lab.upload(tiny_run, *aws, "--verify", "size")

    assert result.code == 1, result.out
    assert "Data/first.cbcl: S3 has an object of this size, which was there before; An error occurred" in result.out
    assert str(tiny_run / "Data/first.cbcl") not in lab.log(tiny_run)["uploaded_files"]
    refused.count = 0
    assert lab.upload(tiny_run, *aws, "--verify", "size").code == 0
    assert server.objects(BUCKET)[f"{tiny_run.name}/Data/first.cbcl"].body == b"the first file of data\n"


def test_what_is_known_of_etags_is_doubted_where_objects_are_not_as_logged(
    lab: Lab, server: S3Server, tiny_run: Path, aws: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint is another server's now, whose ETags are MD5s, and it stores other bytes."""
    speak(server, opaque_etags="all", checksums="ignored")
    assert lab.upload(tiny_run, *aws).code == 0
    for path in tree(tiny_run):
        server.delete(BUCKET, f"{tiny_run.name}/{path}")
    speak(server, opaque_etags="")
    monkeypatch.setattr(s3server._Payload, "body", lambda payload: b"?" * payload.size)
    monkeypatch.setattr(
        s3server._Payload, "etag", lambda payload: hashlib.md5(b"?" * payload.size, usedforsecurity=False).hexdigest()
    )

    result = lab.upload(tiny_run, *aws, "--recheck")

    assert result.code == 1
    assert lab.log(tiny_run)["uploaded_files"].keys() <= {str(tiny_run / "CopyComplete.txt")}


def test_objects_of_another_number_of_parts_are_not_ours(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str]
) -> None:
    speak(server, opaque_etags="multipart", checksums="ignored")
    with server.hold(operation="HeadObject", method="HEAD") as gate:
        process = lab.start(*lab.upload_argv(run, *aws))
        gate.wait_held()
        server.objects(BUCKET)[f"{run.name}/{BIGGER}"].etag = f"{'1' * 32}-3"
        gate.release()
        process.communicate(timeout=240)

    assert process.returncode == 0
    completed = [r.key for r in server.requests if r.operation == "CompleteMultipartUpload"]
    assert completed.count(f"{run.name}/{BIGGER}") == 2


def test_a_checksum_proves_files_whose_etags_are_not_md5s(
    lab: Lab, server: S3Server, run: Path, each_real_aws: str
) -> None:
    speak(server, opaque_etags="all")

    result = lab.upload(run, "--aws_command", each_real_aws)

    assert result.code == 0, result.out + result.err
    sends_checksums = "x-amz-checksum-crc32" in server.objects(BUCKET)[f"{run.name}/RunInfo.xml"].checksums
    assert sends_checksums or each_real_aws == "/usr/bin/aws", "but for Debian's version 2, which is too old for that"
    assert set(ways(lab, run).values()) == ({"checksum"} if sends_checksums else {"content", "size"})
    assert puts(server) == len(tree(run))
    if sends_checksums:
        assert lab.run("verify", str(run), "--bucket", BUCKET, "--aws_command", each_real_aws).code == 0


def test_checksums_are_computed_as_s3_gives_them(tmp_path: Path) -> None:
    """Of `123456789`: the check values of the catalogues of CRCs, and hashlib's."""
    path = tmp_path / "file"
    path.write_bytes(b"123456789")
    reads: list[int] = []

    def of(name: str, part_size: int | None) -> tuple[str, str]:
        return expected_checksum(path, name, part_size, reads.append)

    crc32c, crc64 = (0xE3069283).to_bytes(4, "big"), (0xAE8B14860A799888).to_bytes(8, "big")
    assert of("crc32c", None)[0] == base64.b64encode(crc32c).decode()
    assert of("crc64nvme", None)[0] == base64.b64encode(crc64).decode()
    digests = [hashlib.sha256(part).digest() for part in (b"12345", b"6789")]
    composed = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
    whole = base64.b64encode(hashlib.sha256(b"123456789").digest()).decode()
    assert of("sha256", 5) == (whole, f"{composed}-2")
    assert of("sha1", 9)[1].endswith("-1")
    assert sum(reads) == 4 * 9


# ETags in capitals


def test_etags_in_capitals_are_the_same_etags(lab: Lab, server: S3Server, run: Path, each_real_aws: str) -> None:
    speak(server, uppercase_etags=True)

    result = lab.upload(run, "--aws_command", each_real_aws, "--completion_object")

    assert result.code == 0, result.out + result.err
    log = lab.log(run)
    assert (log["verified_by"], log["verified_by_exceptions"]) == ("etag", {})
    assert all(etag == etag.lower() for etag in log["uploaded_files"].values())
    assert lab.run("verify", str(run), "--bucket", BUCKET).code == 0
    again = lab.upload(run, "--recheck", "--json")
    assert (again.code, again.json["sent_files"]) == (0, 0)


def test_logs_with_etags_in_capitals_are_the_same_logs(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str]
) -> None:
    """Written by a version that kept them as the server gave them, or by the predecessor."""
    speak(server, uppercase_etags=True)
    assert lab.upload(run, *aws).code == 0
    path = lab.log_path(run)
    log = lab.log(run)
    log["uploaded_files"] = {name: f'"{etag.upper()}"' for name, etag in log["uploaded_files"].items()}
    path.write_text(json.dumps(log))

    again = lab.upload(run, *aws, "--recheck", "--json")

    assert (again.code, again.json["sent_files"]) == (0, 0)
    assert "not in S3 any more" not in again.err


# Servers that take no checksums


WHEN_REQUIRED = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}


@pytest.mark.parametrize("where", ["environment", "profile"])
def test_a_limit_of_checksums_in_the_aws_config_is_respected(
    lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str, where: str
) -> None:
    speak(server, checksums="refused")
    env = WHEN_REQUIRED
    if where == "profile":
        config = lab.root / "aws-config"
        config.write_text("[profile lab]\nrequest_checksum_calculation = when_required\n")
        env = {"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "lab"}

    result = lab.upload(tiny_run, "--aws_command", each_real_aws, env=env)

    assert result.code == 0, result.out + result.err
    assert lab.log(tiny_run)["verified_by"] == "etag"


@pytest.mark.parametrize(
    ("version", "few", "options"),
    [
        ("aws-cli/2.36.7 Python/3.13", False, ("--checksum-algorithm=CRC32",)),
        ("aws-cli/2.36.7 Python/3.13", True, ()),
        ("aws-cli/2.9.19", False, ()),
        ("aws-cli/1.46.3", False, ()),
    ],
)
def test_no_version_is_made_to_send_checksums_against_the_users_will(
    version: str, few: bool, options: tuple[str, ...]
) -> None:
    assert argv.checksum_options(version, few=few) == options


def test_a_server_that_refuses_checksums_is_named_with_the_setting(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """The newer versions of the CLI send them by themselves."""
    speak(server, checksums="refused")

    result = lab.upload(tiny_run)

    assert (result.code, result.error_ids) == (1, ["s3.unsupported-checksums"])
    assert "AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in result.err
    assert puts(server) <= 3, "nothing more is tried"


REFUSALS = [
    (
        "An error occurred (NotImplemented) when calling the PutObject operation: A header you provided implies"
        " functionality that is not implemented"
    ),
    (
        "An error occurred (MissingContentLength) when calling the PutObject operation: You must provide"
        " the Content-Length HTTP header."
    ),
    (
        "An error occurred (InvalidArgument) when calling the PutObject operation: x-amz-content-sha256 must be"
        " UNSIGNED-PAYLOAD, or STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    ),
    (
        "An error occurred (XAmzContentSHA256Mismatch) when calling the PutObject operation (reached max retries: 2):"
        " invalid header: x-amz-content-sha256"
    ),
    (
        "An error occurred (InvalidRequest) when calling the PutObject operation: The value specified in the"
        " x-amz-trailer header is not supported"
    ),
    (
        "An error occurred (InvalidArgument) when calling the UploadPart operation: Unsupported header"
        " 'x-amz-sdk-checksum-algorithm' received for this API call."
    ),
]


@pytest.mark.parametrize("said", REFUSALS)
def test_answers_of_servers_about_checksums_are_understood(said: str) -> None:
    cause = diagnosis.fatal_cause([f"upload failed: ./a to s3://b/a {said}"])
    assert cause
    assert "AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in cause.advice


@pytest.mark.parametrize(
    "said",
    [
        "An error occurred (BadDigest) when calling the PutObject operation: The CRC32 you specified did not match",
        (
            "An error occurred (XAmzContentSHA256Mismatch) when calling the PutObject operation: The provided"
            " 'x-amz-content-sha256' header does not match what was computed."
        ),
    ],
)
def test_bytes_that_differ_on_their_way_are_no_reason_to_send_no_checksums(said: str) -> None:
    assert diagnosis.fatal_cause([f"upload failed: ./a to s3://b/a {said}"]) is None


# What is not S3

PAGE = b"<html><head><title>Welcome</title></head><body><p>Please log in</p></body></html>"
BROKEN_PAGE = b"<!doctype html><html><head><meta charset=utf-8></head><body>Please log in<br></body></html>"
LIKE_AN_OBJECT = {"ETag": '"5bd7"', "Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT"}


@contextlib.contextmanager
def portal(status: int, page: bytes = PAGE, headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of a server that answers everything with the same page, as a proxy or the login of a network does."""

    class Portal(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else page)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 - the standard library's names

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Portal) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


@pytest.mark.parametrize(
    ("status", "error_id"), [(200, "s3.unreachable"), (407, "s3.proxy-authentication"), (511, "s3.unreachable")]
)
def test_a_page_instead_of_s3_ends_the_call_at_once(lab: Lab, tiny_run: Path, status: int, error_id: str) -> None:
    with portal(status) as url:
        result = lab.upload(tiny_run, env={"AWS_ENDPOINT_URL": url})

    assert (result.code, result.error_ids[-1]) == (1, error_id), result.err
    assert "retrying" not in result.err
    log = lab.log(tiny_run)
    assert (log["completed"], log["total_uploaded_files"]) == (False, 0)


@pytest.mark.parametrize("page", [PAGE, BROKEN_PAGE, b"", b"Please log in"])
@pytest.mark.parametrize("headers", [{}, LIKE_AN_OBJECT], ids=["bare", "like an object"])
@pytest.mark.parametrize("command", ["upload", "verify", "restore"])
def test_a_page_is_never_taken_for_an_empty_bucket_or_an_object(
    lab: Lab, tiny_run: Path, page: bytes, headers: Mapping[str, str], command: str
) -> None:
    with portal(200, page, headers) as url:
        where = ("--bucket", BUCKET, "--log_dir", str(lab.log_dir))
        result = lab.run(command, str(tiny_run), *where, env={"AWS_ENDPOINT_URL": url})
    assert (result.code, result.error_ids) == (1, ["s3.unreachable"]), result.out + result.err
    assert "warning" not in result.err


@pytest.mark.parametrize("page", [PAGE, BROKEN_PAGE])
@pytest.mark.parametrize("headers", [{}, LIKE_AN_OBJECT], ids=["bare", "like an object"])
def test_a_page_is_not_called_reachable(lab: Lab, tiny_run: Path, page: bytes, headers: Mapping[str, str]) -> None:
    with portal(200, page, headers) as url:
        checked = lab.run("check", "--config", lab.config_for(tiny_run), env={"AWS_ENDPOINT_URL": url})
        preview = lab.upload(tiny_run, "--dry-run", env={"AWS_ENDPOINT_URL": url})
    assert (checked.code, "[s3.unreachable]" in checked.out) == (1, True), checked.out
    assert (preview.code, preview.error_ids) == (1, ["s3.unreachable"]), preview.out + preview.err


def test_a_page_does_not_undo_proofs(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """An empty listing would say that nothing of what was verified is in S3 any more."""
    assert lab.upload(tiny_run).code == 0
    (tiny_run / "Data" / "late.cbcl").write_bytes(b"late")
    with portal(200) as url:
        result = lab.upload(tiny_run, env={"AWS_ENDPOINT_URL": url})
    assert result.error_ids == ["s3.unreachable"], result.err
    before = server.counters["PutObject"]
    assert lab.upload(tiny_run).code == 0
    assert server.counters["PutObject"] == before + 1


# Credentials that are not there for a moment

BLIP = "Unable to locate credentials. You can configure credentials by running aws configure."


def test_credentials_that_are_missing_once_end_nothing(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: Callable[..., str], tmp_path: Path
) -> None:
    """The metadata service of a virtual machine does not answer each of many processes."""
    code = f"""
kind = argv[1] if argv[1] != "s3api" else argv[2]
mark = {str(tmp_path)!r} + "/" + kind
if kind in ("s3", "head-object") or (kind == "list-objects-v2" and os.path.exists(mark + ".first")):
    if not os.path.exists(mark):
        open(mark, "w").close()
        print("upload failed: . to s3 {BLIP}" if kind == "s3" else "{BLIP}", file=sys.stderr)
        sys.exit(1)
open(mark + ".first", "w").close()
"""

    result = lab.upload(tiny_run, "--aws_command", quick_aws(code), "--readback", "head-object")

    assert result.code == 0, result.out + result.err
    assert (tmp_path / "s3").exists()
    assert (tmp_path / "head-object").exists()


def test_credentials_that_were_never_there_end_it_at_once(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: Callable[..., str], tmp_path: Path
) -> None:
    code = f"""
if argv[-1] != "--version":
    with open({str(tmp_path / "calls")!r}, "a") as stream:
        stream.write("call ")
    print("{BLIP}", file=sys.stderr)
    sys.exit(253)
"""
    result = lab.upload(tiny_run, "--aws_command", quick_aws(code))

    assert (result.code, result.error_ids) == (1, ["aws.no-credentials"])
    assert "s3://lab-runs" in result.err
    assert (tmp_path / "calls").read_text() == "call "


@pytest.mark.parametrize(
    ("said", "may_pass"),
    [
        (BLIP, True),
        ("Error when retrieving credentials from iam-role: Credential refresh failed, response did not contain", True),
        ("Error when retrieving credentials from custom-process: timed out", True),
        ("Error when retrieving credentials from Sso: The SSO session has expired", False),
        ("Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY", False),
        ("An error occurred (AccessDenied) when calling the AssumeRole operation: not authorized", False),
    ],
)
def test_which_credential_errors_are_retried(said: str, may_pass: bool) -> None:
    assert diagnosis.are_credentials_missing([said]) is may_pass


def test_the_metadata_service_is_given_time_unless_the_user_says_how_much(tmp_path: Path) -> None:
    names = ("AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS")

    def given(text: str, **environ: str) -> list[str | None]:
        config = tmp_path / "config"
        config.write_text(text)
        user = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), **environ}
        child = child_environment(user, Path("/private"))
        return [child.get(name) for name in names]

    assert given("") == ["2", "4"]
    assert given("", AWS_METADATA_SERVICE_TIMEOUT="7") == ["7", "4"]
    assert given("[default]\nmetadata_service_timeout = 9\n") == [None, "4"], "the environment would be stronger"
    ours = "[profile a]\nmetadata_service_num_attempts = 3\n"
    assert given(ours, AWS_PROFILE="a") == ["2", None]
    assert given(ours, AWS_PROFILE="b") == ["2", "4"]


# Parts of the client in C


def test_the_client_that_sends_decides_on_the_parts_of_the_largest_files() -> None:
    def of(client: TransferClient) -> int | None:
        job = UploadRequest(
            local_path=Path("RUN"),
            destination=Destination("lab-runs", ""),
            log_dir=Path("log"),
            cores=1,
            transfer_client=client,
        )
        return job.multipart.part_size_for(100 * 10**9)

    assert (of("default"), of("crt")) == (16 * MIB, 10_000_000)


# Empty objects for folders


def test_empty_objects_for_folders_are_not_files(
    lab: Lab, server: S3Server, tiny_run: Path, aws: tuple[str, str]
) -> None:
    """The console, and gateways to file systems, put them there."""
    for key in ("", "Data/", "Empty/", "Data_$folder$"):
        server.put(BUCKET, f"{tiny_run.name}/{key}", b"")

    result = lab.upload(tiny_run, *aws, "--json")
    verified = lab.run("verify", str(tiny_run), "--bucket", BUCKET, *aws, "--json")

    assert (result.code, result.json["found_in_s3"]) == (0, 0)
    assert (verified.code, verified.json["only_in_s3"]) == (0, [])


def test_an_object_with_bytes_is_not_a_folder(lab: Lab, server: S3Server, tiny_run: Path, aws: tuple[str, str]) -> None:
    assert lab.upload(tiny_run, *aws).code == 0
    server.put(BUCKET, f"{tiny_run.name}/Data/", b"somebody's")

    verified = lab.run("verify", str(tiny_run), "--bucket", BUCKET, *aws, "--json")

    assert (verified.code, verified.json["only_in_s3"]) == (1, ["Data/"])


# Servers that list in their own way


@pytest.mark.parametrize("dialect", [{"lists": "not"}, {"lists": "v1"}, {"start_after": False}], ids=str)
def test_each_object_is_requested_if_a_server_lists_in_its_own_way(
    lab: Lab, server: S3Server, tiny_run: Path, aws: tuple[str, str], dialect: dict[str, Any]
) -> None:
    if "lists" not in dialect or dialect["lists"] == "v1":
        for number in range(1000):  # a page of S3's, that come first
            server.put(BUCKET, f"{tiny_run.name}/Aside/{number:04}", b"")
    speak(server, **dialect)

    result = lab.upload(tiny_run, *aws)

    assert result.code == 0, result.out + result.err
    assert puts(server) == len(tree(tiny_run)), "nothing is sent again"
    assert result.err.count("cannot be listed reliably: ") == 1, "said once"
    assert server.counters["HeadObject"] >= len(tree(tiny_run)) - 1
    if dialect == {"start_after": False}:
        return  # a listing of all that there is needs none
    verified = lab.run("verify", str(tiny_run), "--bucket", BUCKET, *aws, "--json")
    assert (verified.code, verified.json["only_in_s3"]) == (0, None)
    plain = lab.run("verify", str(tiny_run), "--bucket", BUCKET, *aws)
    assert "files that only S3 has are unknown: s3://lab-runs cannot be listed reliably: " in plain.out


def test_names_that_a_listing_spoils_are_requested(
    lab: Lab, server: S3Server, tiny_run: Path, aws: tuple[str, str]
) -> None:
    """The server ignores that names are to be encoded, and the CLI decodes them all the same."""
    speak(server, url_encoding=False)
    (tiny_run / "Data" / "100%25.cbcl").write_text("data")

    result = lab.upload(tiny_run, *aws)

    assert result.code == 0, result.out + result.err
    assert puts(server) == len(tree(tiny_run))
    assert lab.run("verify", str(tiny_run), "--bucket", BUCKET, *aws).code == 0


@pytest.mark.parametrize("dialect", [{"lists": "not"}, {"uppercase_etags": True}], ids=str)
def test_both_clis_understand_such_a_server(
    lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str, dialect: dict[str, Any]
) -> None:
    speak(server, **dialect)

    result = lab.upload(tiny_run, "--aws_command", each_real_aws)

    assert result.code == 0, result.out + result.err
    assert puts(server) == len(tree(tiny_run))


# Unfinished multipart uploads


def begin(server: S3Server, key: str) -> None:
    """An upload that nobody continues."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", f"/{BUCKET}/{key}?uploads")
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize("by_key", [False, True])
def test_parts_of_a_killed_call_are_removed_no_matter_what_the_server_lists(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str], by_key: bool
) -> None:
    speak(server, uploads_by_key=by_key)
    refused = server.add_fault(Fault("status", key_contains="RunInfo", count=None))
    assert lab.upload(run, *aws).code == 1
    refused.count = 0
    log = lab.log(run)
    log["parts_since"] = "2026-01-01T00:00:00+00:00"
    lab.log_path(run).write_text(json.dumps(log))
    server.delete(BUCKET, f"{run.name}/{BIG}")
    begin(server, f"{run.name}/{BIG}")
    begin(server, f"{run.name}/Data/other.bam")

    result = lab.upload(run, *aws)

    assert result.code == 0, result.out + result.err
    assert [upload.key for upload in server.uploads(BUCKET)] == [f"{run.name}/Data/other.bam"], "nobody else's"
    assert "1 multipart upload of an interrupted call aborted" in result.err
    assert lab.log(run)["parts_since"] == ""


# Names of buckets


@pytest.mark.parametrize(
    ("bucket", "alternative"),
    [
        ("runs--euw1-az1--x-s3", "a directory bucket is not supported"),
        ("runs--euw1-az1--xa-s3", "give a bucket of another kind"),
        ("arn:aws:s3:eu-west-1:123456789012:accesspoint/runs", "which ends in -s3alias"),
        ("arn:aws:s3:eu-west-1:123456789012:accesspoint:runs", "which ends in -s3alias"),
        ("arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/runs", "which ends in -s3alias"),
        ("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", "a multi-region access point"),
        ("mfzwi23gnjvgw.mrap", "a multi-region access point"),
        ("arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/accesspoint/runs", "ends in --op-s3"),
        ("arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/runs", "does not accept uploads"),
        ("runs-abcdef--ol-s3", "does not accept uploads"),
        ("abc--table-s3", "a table bucket does not store files"),
        ("arn:aws:s3:::lab-runs", "give only the bucket's name"),
        ("lab-runs.s3.eu-central-1.amazonaws.com", "give only the bucket's name"),
        ("lab-runs.s3.dualstack.eu-central-1.amazonaws.com", "give only the bucket's name"),
    ],
)
def test_special_kinds_of_buckets_are_refused_with_an_alternative(
    lab: Lab, tiny_run: Path, tmp_path: Path, bucket: str, alternative: str
) -> None:
    with raises_error(UsageError, "usage.unsupported-bucket", alternative):
        parse_destination(bucket)
    config = tmp_path / "config.json"
    entry = {"monitored_directories": [str(tmp_path)], "bucket": bucket, "remote_path": "/"}
    config.write_text(json.dumps({"monitor": [entry]}))
    with raises_error(ConfigError, "config.bad-destination", alternative):
        load_config(config, {})


@pytest.mark.parametrize("bucket", ["runs-k3xjc7h2nb4ud5ee8rz6mfa1-s3alias", "runs-o01ac5d2--op-s3", "lab-runs"])
def test_aliases_of_access_points_are_buckets_like_any_other(
    lab: Lab, server: S3Server, tiny_run: Path, aws: tuple[str, str], bucket: str
) -> None:
    server.create_bucket(bucket)

    upload = lab.upload_argv(tiny_run, *aws, bucket=bucket)

    assert lab.run(*upload).code == 0
    assert len(server.objects(bucket)) == len(tree(tiny_run))


# Policies that require an ACL

FULL_CONTROL = "bucket-owner-full-control"


def test_the_acl_that_a_policy_requires_goes_with_every_object(
    lab: Lab, server: S3Server, run: Path, each_real_aws: str
) -> None:
    speak(server, required_acl=FULL_CONTROL)
    options = ("--aws_command", each_real_aws, "--completion_object")

    without = lab.upload(run, *options)
    result = lab.upload(run, *options, "--acl", FULL_CONTROL)

    assert (without.code, without.error_ids) == (1, ["s3.access-denied"])
    assert "--acl" in without.err
    assert result.code == 0, result.out + result.err
    assert len(server.objects(BUCKET)) == len(tree(run)) + 1


def test_the_monitor_and_check_use_the_acl_of_the_config(
    lab: Lab, server: S3Server, run: Path, quick_aws: Callable[..., str]
) -> None:
    speak(server, required_acl=FULL_CONTROL)
    keys: dict[str, Any] = {"aws_command": quick_aws()}

    checked = lab.run("check", "--write", "--config", lab.config_for(run, {"acl": FULL_CONTROL}, **keys))
    watched = lab.run("monitor", "--config", lab.config_for(run, {"acl": FULL_CONTROL}, **keys))

    assert "writable with these credentials" in checked.out
    assert watched.code == 0, watched.out + watched.err
    assert lab.log(run)["completed"]


@pytest.mark.parametrize("acl", ["public-read", "full"])
def test_an_acl_that_would_open_a_run_to_others_is_refused(lab: Lab, tiny_run: Path, acl: str) -> None:
    assert lab.upload(tiny_run, "--acl", acl).code == 2
    config = lab.config_for(tiny_run, {"acl": acl})
    refused = lab.run("monitor", "--config", config)
    assert (refused.code, refused.error_ids) == (78, ["config.unknown-value"])
    assert "private, bucket-owner-read, bucket-owner-full-control" in refused.err


# Buckets that encrypt by KMS


def test_a_dry_run_says_how_long_checksums_will_be_asked_for(
    lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str
) -> None:
    server.encrypt_by_default(BUCKET, "aws:kms")
    options = ("--aws_command", each_real_aws, "--dry_run", "--cores", "1", "--transfer_client", "default")

    planned = lab.upload(tiny_run, *options)
    by_size = lab.upload(tiny_run, *options, "--verify", "size", "--json")
    otherwise = lab.upload(tiny_run, *options, "--sse", "AES256", "--json")
    by_receipts = lab.upload(tiny_run, *options, "--transfer_client", "auto", "--json")

    assert (
        "  proof   ETags that are not MD5s, as with KMS: the checksums of 4 objects are requested one by one"
        in planned.out
    )
    assert "--verify size compares only the sizes" in planned.out
    assert [each.json["checksum_seconds"] for each in (by_size, otherwise, by_receipts)] == [0, 0, 0]


def test_a_bucket_that_does_not_say_how_it_encrypts_is_not_a_problem(
    lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    server.encrypt_by_default(BUCKET, "aws:kms")
    denied = Fault("status", method="GET", operation="GetBucketEncryption", status=403, code="AccessDenied", count=None)
    server.add_fault(denied)

    planned = lab.upload(tiny_run, "--dry_run", "--json")
    asked = lab.upload(tiny_run, "--dry_run", "--json", "--sse", "aws:kms", "--transfer_client", "default")

    assert (planned.code, planned.json["checksum_seconds"]) == (0, 0)
    assert asked.json["checksum_seconds"] > 0


def test_long_asking_is_announced_once_by_the_upload() -> None:
    class Slow:
        """Answers at once, but would not in real life."""

        process_cost = 0.7

        def run(self, arguments: Sequence[str]) -> AwsResult:
            return AwsResult(tuple(arguments), 0, json.dumps([1, "r.1", "aws:kms", None, None]).encode(), ())

    said: list[str] = []
    reader = ObjectReader(
        RemoteFolder(cast("AwsCli", Slow()), BucketRef("lab-runs"), "RUN/"), "auto", 1, show=said.append
    )
    files = [LocalFile(f"f{number:03}", 1, 1) for number in range(200)]
    listed: dict[str, ObjectState] = {file.path: RemoteObject(1, "r.1", listed=True) for file in files}

    for _ in range(2):
        assert len(reader.head_unsettled(files, listed)) == 200

    [note] = said
    assert note.startswith("note: ETags that are not MD5s, as with KMS: the checksums of 196 objects are requested")
