"""The quick double of the AWS CLI against the real ones: the same commands, the same requests' effects, complaints and
exit codes, as far as s3sync looks at them. What most tests rest on is true as long as these pass."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from s3sync.aws import argv as aws_argv
from s3sync.aws import diagnosis
from s3sync.aws.destination import BUCKET_DEFAULTS, BucketRef, Storage
from s3sync.aws.etag import Multipart
from s3sync.aws.settings import CliSettings, child_environment, write_config
from tests.helpers.lab import BUCKET, FakeAws
from tests.helpers.s3server import Fault, S3Server

MIB = 1024 * 1024
SMALL_PARTS = Multipart(5 * MIB, 5 * MIB)
BUCKET_REF = BucketRef(BUCKET)
PREFIX = "RUN/"
_THEIR_OWN = ("x-amz-storage-class", "x-amz-server-side-encryption", "x-amz-acl")  # headers that no CLI adds by itself
_ANSWERS = ("list-objects-v2", "head-object", "list-multipart-uploads", "create-multipart-upload")  # those looked at


class Did(NamedTuple):
    """What a command did, without what differs from one CLI to the other by right."""

    succeeded: bool
    answer: Any
    uploaded: list[str]
    failed: dict[str, str]  # by file: the error's code, or what kind of failure it was
    warned: int
    cause: str
    stored: dict[str, tuple[int, str, dict[str, str]]]
    left_uploads: int


class Side:
    """One CLI with its own server."""

    def __init__(self, aws: str, server: S3Server, folder: Path) -> None:
        self.aws = aws
        self.server = server
        self.folder = folder
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }
        config = folder / "aws-config"
        write_config(environ, CliSettings(4, SMALL_PARTS), config)
        self.environ = child_environment(environ, config)
        server.create_bucket(BUCKET)

    def do(self, arguments: tuple[str, ...]) -> Did:
        argv = (self.aws, f"--endpoint-url={self.server.url}", *arguments)
        ended = subprocess.run(argv, env=self.environ, capture_output=True, timeout=120, check=False)
        out, err = (os.fsdecode(stream) for stream in (ended.stdout, ended.stderr))
        lines = [line for line in [*out.splitlines(), *err.splitlines()] if line.strip()]
        failed = (re.match(rf"upload failed: .* to s3://{BUCKET}/{PREFIX}(\S+) (.*)", line) for line in lines)
        cause = diagnosis.fatal_cause(lines) if ended.returncode else None
        stored = {
            key: (len(item.body or b""), item.etag, {n: v for n, v in item.headers.items() if n in _THEIR_OWN})
            for key, item in self.server.objects(BUCKET).items()
        }
        return Did(
            ended.returncode == 0,
            _without_moments(json.loads(out)) if arguments[1] in _ANSWERS and out.strip() else None,
            sorted(re.findall(rf"^upload: .* to s3://{BUCKET}/{PREFIX}(\S+)$", out, re.MULTILINE)),
            {match[1]: _kind(match[2]) for match in failed if match},
            sum("warning: Skipping file" in line for line in lines),
            cause.what if cause else "",
            stored,
            len(self.server.uploads(BUCKET)),
        )


def _without_moments(answer: Any) -> Any:
    """The answer with every time replaced: version 1 prints it as it came, version 2 as ISO 8601."""
    if isinstance(answer, list):
        return [_without_moments(item) for item in answer]
    is_moment = isinstance(answer, str) and re.search(r"^\d{4}-\d\d-\d\dT|\d\d:\d\d:\d\d GMT$", answer)
    return "a moment" if is_moment else answer


def _kind(reason: str) -> str:
    """The error's code, or the first words of what happened to the connection."""
    code = re.search(r"An error occurred \((\w+)\) when calling the (\w+) operation", reason)
    return f"{code[1]} of {code[2]}" if code else " ".join(reason.split()[:3])


@pytest.fixture
def sides(tmp_path: Path, quick_aws: FakeAws, each_real_aws: str) -> Iterator[tuple[Side, Side]]:
    """The double and a real CLI."""
    with S3Server() as one, S3Server() as other:
        folders = tmp_path / "double", tmp_path / "real"
        for folder in folders:
            folder.mkdir()
        yield Side(quick_aws(""), one, folders[0]), Side(each_real_aws, other, folders[1])


def agree(sides: tuple[Side, Side], argv: tuple[str, ...]) -> Did:
    """Have both do the same; returns what both did."""
    double, real = (side.do(argv) for side in sides)
    assert double == real
    return real


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with an empty, a small, a nested and a large file, as links, like a staging folder."""
    source, folder = tmp_path / "source", tmp_path / "staged"
    contents = {"empty": b"", "small.txt": b"small", "Data/L001/a+b.bcl": b"nested", "large.cbcl": b"x" * (11 * MIB)}
    for path, content in contents.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(source / path)
    return folder


def cp(folder: Path, storage: Storage = BUCKET_DEFAULTS) -> tuple[str, ...]:
    return aws_argv.s3_cp_argv(str(folder), f"s3://{BUCKET}/{PREFIX}", storage)


def test_cp_stores_the_same_objects(sides: tuple[Side, Side], files: Path) -> None:
    did = agree(sides, cp(files, Storage(sse="AES256", storage_class="STANDARD_IA")))
    assert (did.succeeded, did.left_uploads, len(did.uploaded)) == (True, 0, 4)
    assert did.stored[f"{PREFIX}large.cbcl"][1].endswith("-3"), "in parts of the size that was asked for"
    double, real = ({key: item.checksums for key, item in side.server.objects(BUCKET).items()} for side in sides)
    assert double == real or not any(real.values()), "version 2 sends none before 2.23"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=403, code="AccessDenied", key_contains="small"),
        Fault("status", status=503, code="SlowDown", key_contains="small", count=None),
        Fault("status", status=400, code="ExpiredToken", key_contains="small"),
        Fault("status", status=404, code="NoSuchBucket", key_contains="small"),
        Fault("reset", key_contains="small", count=None),
        Fault("status", status=500, code="InternalError", key_contains="large", operation="UploadPart", count=None),
    ],
    ids=lambda fault: f"{fault.kind} {fault.code} {fault.key_contains}",
)
def test_cp_fails_alike(sides: tuple[Side, Side], files: Path, fault: Fault) -> None:
    for side in sides:
        side.server.add_fault(dataclasses.replace(fault))
    did = agree(sides, cp(files))
    assert (did.succeeded, len(did.failed), did.left_uploads) == (False, 1, 0)


def test_cp_warns_of_what_is_not_a_file(sides: tuple[Side, Side], files: Path) -> None:
    (files / "gone").symlink_to(files / "nowhere")
    os.mkfifo(files / "pipe")
    did = agree(sides, cp(files))
    assert (did.succeeded, did.warned, len(did.uploaded)) == (False, 2, 4)


@pytest.mark.parametrize("argv", [
    aws_argv.list_objects_argv(BUCKET_REF, PREFIX, "", 1000),
    aws_argv.list_objects_argv(BUCKET_REF, PREFIX, f"{PREFIX}empty", 2),
    aws_argv.list_objects_argv(BUCKET_REF, "nothing/", "", 10),
    aws_argv.list_objects_argv(BucketRef("no-such-bucket"), PREFIX, "", 10),
    aws_argv.head_object_argv(BUCKET_REF, f"{PREFIX}large.cbcl"),
    aws_argv.head_object_argv(BUCKET_REF, f"{PREFIX}small.txt"),
    aws_argv.head_object_argv(BUCKET_REF, f"{PREFIX}nothing"),
    aws_argv.head_object_argv(BucketRef(BUCKET, "123456789012"), f"{PREFIX}small.txt"),
    aws_argv.head_bucket_argv(BUCKET_REF),
    aws_argv.head_bucket_argv(BucketRef("no-such-bucket")),
    aws_argv.list_uploads_argv(BUCKET_REF, PREFIX),
    aws_argv.abort_upload_argv(BUCKET_REF, f"{PREFIX}small.txt", "no-such-upload"),
    aws_argv.read_byte_argv(BUCKET_REF, f"{PREFIX}small.txt"),
    aws_argv.read_byte_argv(BUCKET_REF, f"{PREFIX}empty"),
    aws_argv.read_byte_argv(BUCKET_REF, f"{PREFIX}nothing"),
    aws_argv.thaw_object_argv(BUCKET_REF, f"{PREFIX}small.txt", "Bulk", None),
], ids=lambda argv: " ".join(argv[1:4]))  # fmt: skip
def test_queries_answer_alike(sides: tuple[Side, Side], argv: tuple[str, ...]) -> None:
    for side in sides:
        for key, content in {"empty": b"", "small.txt": b"small", "large.cbcl": b"x" * 1000, "ü b.txt": b"2"}.items():
            side.server.put(BUCKET, PREFIX + key, content)
    agree(sides, argv)


def test_what_is_thawed_is_listed_alike(sides: tuple[Side, Side]) -> None:
    for side in sides:
        for name in ("frozen", "thawing", "thawed"):
            headers = side.server.put(BUCKET, PREFIX + name, b"x").headers
            headers["x-amz-storage-class"] = "GLACIER"
            if name != "frozen":
                headers["x-amz-restore"] = 'ongoing-request="true"'
        side.server.thaw(BUCKET, f"{PREFIX}thawed")
    double, real = (side.do(aws_argv.list_thawed_argv(BUCKET_REF, PREFIX, "")) for side in sides)
    assert double.succeeded
    if real.succeeded:  # version 2.9 does not know the option
        assert [row[:2] for row in double.answer] == [row[:2] for row in real.answer]
        assert [str(row[2])[:10] for row in double.answer] == [str(row[2])[:10] for row in real.answer]


def test_a_multipart_upload_is_begun_listed_and_aborted_alike(sides: tuple[Side, Side]) -> None:
    key = f"{PREFIX}probe"
    for side in sides:
        begun = side.do(aws_argv.create_upload_argv(BUCKET_REF, key))
        (listed,) = side.do(aws_argv.list_uploads_argv(BUCKET_REF, PREFIX)).answer
        assert (listed[0], listed[1]) == (key, begun.answer)
        aborted = side.do(aws_argv.abort_upload_argv(BUCKET_REF, key, begun.answer))
        assert (aborted.succeeded, aborted.left_uploads) == (True, 0)


@pytest.mark.parametrize("fault", [
    Fault("status", status=403, code="AccessDenied", method=None, count=None),
    Fault("status", status=503, code="SlowDown", method=None, count=None),
    Fault("reset", method=None, count=None),
], ids=lambda fault: f"{fault.kind} {fault.code}")  # fmt: skip
@pytest.mark.parametrize("argv", [
    aws_argv.list_objects_argv(BUCKET_REF, PREFIX, "", 10),
    aws_argv.head_object_argv(BUCKET_REF, f"{PREFIX}small.txt"),
], ids=["list", "head"])  # fmt: skip
def test_queries_fail_alike(sides: tuple[Side, Side], argv: tuple[str, ...], fault: Fault) -> None:
    for side in sides:
        side.server.add_fault(dataclasses.replace(fault))
    assert not agree(sides, argv).succeeded


def test_a_refused_connection_fails_alike(sides: tuple[Side, Side], files: Path) -> None:
    for side in sides:
        side.server.stop()
    for argv in (cp(files), aws_argv.head_object_argv(BUCKET_REF, "x")):
        double, real = (side.do(argv) for side in sides)
        assert (double.succeeded, double.failed, double.cause) == (real.succeeded, real.failed, real.cause)
