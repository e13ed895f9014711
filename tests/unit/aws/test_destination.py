"""Buckets, prefixes, keys and tags of destinations."""

from __future__ import annotations

import os

import pytest

from s3sync.aws.destination import Destination, parse_destination
from s3sync.errors import UsageError
from tests.helpers.errors import raises_error


@pytest.mark.parametrize(
    ("remote_path", "prefix"),
    [
        ("/", ""),
        ("", ""),
        ("//", ""),
        ("runs", "runs"),
        ("/runs/2026/", "runs/2026"),
        ("//runs///2026//", "runs/2026"),
        ("/Zoë/a b+c[x]", "Zoë/a b+c[x]"),
        ("/...", "..."),
        ("/.hidden", ".hidden"),
        ("/" + "x" * 512, "x" * 512),
    ],
)
def test_keys_and_urls(remote_path: str, prefix: str) -> None:
    destination = parse_destination("lab-runs", remote_path)
    stem = f"{prefix}/" if prefix else ""
    assert destination == Destination("lab-runs", prefix)
    assert destination.run_prefix("RUN") == f"{stem}RUN/"
    assert destination.url("RUN") == f"s3://lab-runs/{stem}RUN/"
    assert destination.remote_path == f"/{prefix}"
    assert parse_destination("lab-runs", destination.remote_path) == destination


def test_the_bucket_alone_is_its_root() -> None:
    assert parse_destination("lab-runs") == Destination("lab-runs", "")


@pytest.mark.parametrize("bucket", ["abc", "a.b-c_d", "Old_Bucket", "1bucket2", "x" * 255])
def test_good_buckets(bucket: str) -> None:
    assert parse_destination(bucket).bucket == bucket


@pytest.mark.parametrize(
    "bucket",
    [
        *("", "ab", "x" * 256, "lab runs", "lab-runs/", "lab/runs", "-lab", "lab-", ".lab", "lab\n", "lab-runs\n"),
        *("läb", "s3://lab-runs", "s3://lab-runs/2026", "--recursive", "lab\x1b[31m", "lab?x=1", "lab%2f"),
    ],
)
def test_bad_buckets(bucket: str) -> None:
    error_id = "usage.bucket-is-url" if bucket.startswith("s3://") else "usage.bad-bucket"
    with raises_error(UsageError, error_id) as caught:
        parse_destination(bucket)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "remote_path",
    [
        *("/..", "/../other", "runs/./2026", "runs/..", "/a\nb", "/a\x1b[31m", "/a\0", "/bidi\u202e"),
        *("/" + "x" * 513, "/" + "ü" * 257, os.fsdecode(b"/r\xff")),
    ],
)
def test_bad_remote_paths(remote_path: str) -> None:
    error_id = "usage.long-remote-path" if len(remote_path) > 200 else "usage.bad-remote-path"
    with raises_error(UsageError, error_id, "--remote-path") as caught:
        parse_destination("lab-runs", remote_path)
    assert str(caught.value).isprintable()


def test_tags_of_destinations_differ() -> None:
    tags = [Destination(bucket, prefix).tag for bucket in ("lab", "lab-runs") for prefix in ("", "runs", "runs/2026")]
    assert len(set(tags)) == len(tags)
    assert all(len(tag) == 8 and int(tag, 16) >= 0 for tag in tags)
