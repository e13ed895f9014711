"""The AWS CLI, its credentials and the buckets, looked at from the host that this runs on: a finding for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from s3sync import awscli, awserrors, awswords
from s3sync.awsconfig import S3Settings
from s3sync.awswords import OwnedBucket, Storage
from s3sync.errors import S3SyncError
from s3sync.interrupt import Stop
from s3sync.text import printable

PROBE_KEY = "s3sync-check"  # of a multipart upload that is never completed: no object ever has this name


class Finding(NamedTuple):
    """One thing that was looked at. `text` says what is so, and if that is a problem, what to do.

    A `warning` is ok if it is meant so.
    """

    ok: bool
    what: str
    text: str
    warning: bool = False


class Probe(NamedTuple):
    """A place in a bucket that is tried to be written to, as the uploads will."""

    bucket: OwnedBucket
    key: str
    storage: Storage


def look(
    command: str | None,
    threads: int,
    buckets: Iterable[OwnedBucket],
    environ: Mapping[str, str],
    stop: Stop,
    work: Path,
    probes: Iterable[Probe] = (),
) -> Iterator[Finding]:
    """The CLI first; without it nothing else can be asked. `command` is its path, or it is found."""
    try:
        aws = awscli.connect(command, S3Settings(threads), environ, stop, work)
        yield Finding(ok=True, what="aws", text=f"{printable(aws.path)}: {aws.version()}")
    except S3SyncError as error:
        yield Finding(ok=False, what="aws", text=str(error))
        return
    yield from (_reach(aws, bucket) for bucket in dict.fromkeys(buckets))
    yield from (_write(aws, probe) for probe in dict.fromkeys(probes))


def _reach(aws: awscli.Aws, bucket: OwnedBucket) -> Finding:
    asked = aws.query(awswords.head_bucket_words(bucket))
    where = f"s3://{bucket.name}"
    if asked.returncode == 0:
        whose = f", account {bucket.owner}'s" if bucket.owner else ""
        return Finding(ok=True, what="bucket", text=f"{where}: reachable with these credentials{whose}")
    if bucket.owner:
        where += f", expected to be account {bucket.owner}'s"
    return Finding(ok=False, what="bucket", text=str(awscli.failure(asked, where, awserrors.unreachable(asked.errors))))


def _write(aws: awscli.Aws, probe: Probe) -> Finding:
    """Whether these credentials may write there: a multipart upload begun and aborted leaves nothing."""
    where = f"s3://{probe.bucket.name}/{probe.key.removesuffix(PROBE_KEY)}"
    begun = aws.query(awswords.create_upload_words(*probe))
    if begun.returncode != 0:
        return Finding(ok=False, what="writable", text=str(awscli.failure(begun, where)))
    upload_id = str(awscli.parse_json(begun))
    aborted = aws.query(awswords.abort_upload_words(probe.bucket, probe.key, upload_id))
    if aborted.returncode != 0:
        return Finding(ok=False, what="writable", text=f"{awscli.failure(aborted, where)} (s3:AbortMultipartUpload)")
    return Finding(ok=True, what="writable", text=f"{where}: writable with these credentials")
