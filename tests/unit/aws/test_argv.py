"""The arguments of the AWS CLI."""

from __future__ import annotations

import pytest

from s3sync.aws import argv
from s3sync.aws.destination import BucketRef, Storage

URL = "s3://lab-runs/2026/RUN/"
HOSTILE = [
    "-x",
    "--recursive",
    "--endpoint-url=http://evil",
    "-",
    "--",
    "a b",
    "'",
    '"',
    "*",
    "[a]",
    "$(id)",
    "a\nb",
    "é",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_the_users_can_become_an_option(text: str) -> None:
    """It follows a name and an equals sign, in one argument."""
    bucket = BucketRef("lab-runs", "123456789012")
    head = argv.head_object_argv(bucket, text)
    assert f"--key={text}" in head
    listing = argv.list_objects_argv(bucket, f"{text}/RUN/", f"{text}/RUN/a", 7)
    assert {f"--prefix={text}/RUN/", f"--start-after={text}/RUN/a", "--max-items=7"} <= set(listing)
    begun = argv.create_upload_argv(bucket, text, Storage(sse="aws:kms", sse_kms_key_id=text, storage_class=text))
    assert {f"--ssekms-key-id={text}", f"--storage-class={text}"} <= set(begun)
    uploads = argv.list_uploads_argv(bucket, text)
    aborted = argv.abort_upload_argv(bucket, text, text)
    for arguments in (head, listing, begun, uploads, aborted):
        assert arguments[:1] == ("s3api",)
        assert {"--bucket=lab-runs", "--expected-bucket-owner=123456789012"} <= set(arguments)
        assert "--output=json" in arguments or arguments is aborted  # which prints nothing
        assert all(word.startswith("--") and "=" in word for word in arguments[2:])
        assert arguments.count(text) == 0


def test_arguments_of_a_listing() -> None:
    assert not any(
        word.startswith("--start-after") for word in argv.list_objects_argv(BucketRef("lab-runs"), "RUN/", "", 7)
    )


def test_arguments_of_a_copy() -> None:
    arguments = argv.s3_cp_argv("/tmp/work/batch-000001", URL)
    assert arguments[:4] == ("s3", "cp", "/tmp/work/batch-000001", URL)
    assert {"--recursive", "--no-progress"} <= set(arguments)
    storage = Storage(sse="aws:kms", sse_kms_key_id="--key", storage_class="GLACIER_IR")
    more = set(argv.s3_cp_argv("/tmp/work/batch-000001", URL, storage, ("--checksum-algorithm=CRC32",))) - set(
        arguments
    )
    assert more == {
        *("--sse=aws:kms", "--sse-kms-key-id=--key", "--storage-class=GLACIER_IR", "--checksum-algorithm=CRC32")
    }


@pytest.mark.parametrize(
    ("version", "pinned"),
    [
        ("aws-cli/1.46.3 Python/3.11.7 Linux/6.1 botocore/1.44.3", False),
        ("aws-cli/2.9.19 Python/3.11.2 Linux/6.1 source/x86_64.debian.12", False),
        ("aws-cli/2.22.35 Python/3.12.6", False),
        ("aws-cli/2.23.0 Python/3.12.6", True),
        ("aws-cli/2.36.7 Python/3.13.1 Linux/6.1 exe/x86_64.debian.12", True),
        ("aws-cli/2.100.0 Python/3.13.1", True),
        ("", False),
        ("something else", False),
    ],
)
def test_versions_with_another_default_are_asked_for_a_checksum_that_can_be_computed(
    version: str, pinned: bool
) -> None:
    assert argv.checksum_options(version) == (("--checksum-algorithm=CRC32",) if pinned else ())
