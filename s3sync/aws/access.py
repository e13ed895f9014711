"""The AWS CLI, its credentials and the buckets, looked at from the host that this runs on: a finding for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from s3sync.aws import argv, causes, client, diagnosis
from s3sync.aws.argv import BucketRef, Storage
from s3sync.aws.destination import Destination
from s3sync.aws.objects import has_no_listings
from s3sync.aws.settings import S3Settings
from s3sync.errors import S3SyncError, StoppedError
from s3sync.signals import StopRequest
from s3sync.text import printable

PROBE_KEY = "s3sync-check"  # of a multipart upload that is never completed: no object ever has this name


class CheckResult(NamedTuple):
    """One thing that was looked at. `text` says what is so, and if that is a problem, what to do.

    A `warning` is ok if it is meant so.
    """

    ok: bool
    what: str
    text: str
    warning: bool = False


class UploadTarget(NamedTuple):
    """Where runs go: a bucket, the account that has to own it (empty: any), and the path in it (empty: its root)."""

    name: str
    owner: str = ""
    prefix: str = ""

    @classmethod
    def of(cls, destination: Destination, owner: str) -> UploadTarget:
        """Of a destination, and the account that has to own its bucket."""
        return cls(destination.bucket, owner, destination.prefix)

    @property
    def bucket(self) -> BucketRef:
        """Its bucket."""
        return BucketRef(self.name, self.owner)

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}".rstrip("/")


class WriteProbe(NamedTuple):
    """A place in a bucket that is tried to be written to, as the uploads will."""

    bucket: BucketRef
    key: str
    storage: Storage


def check_access(
    command: str | None,
    threads: int,
    places: Iterable[UploadTarget],
    environ: Mapping[str, str],
    stop: StopRequest,
    work: Path,
    probes: Iterable[WriteProbe] = (),
) -> Iterator[CheckResult]:
    """The CLI first; without it nothing else can be asked. `command` is its path, or it is found."""
    try:
        aws = client.connect(command, S3Settings(threads), environ, stop, work)
        yield CheckResult(ok=True, what="aws", text=f"{printable(aws.path)}: {aws.check_usable()}")
    except StoppedError:
        raise
    except S3SyncError as error:
        yield CheckResult(ok=False, what="aws", text=str(error))
        return
    probes = tuple(dict.fromkeys(probes))
    written = {(probe.bucket, probe.key) for probe in probes}
    for place in dict.fromkeys(places):
        prefix = f"{place.prefix}/" if place.prefix else ""
        yield _reach(aws, place, prefix, is_written=(place.bucket, prefix + PROBE_KEY) in written)
    yield from (_write(aws, probe) for probe in probes)


def _reach(aws: client.AwsCli, place: UploadTarget, prefix: str, *, is_written: bool) -> CheckResult:
    """Ask what an upload asks first, of a run that nobody has: credentials may be limited to a part of a bucket.

    Where `is_written`, another finding says whether files can be sent there.
    """
    asked = aws.run(argv.list_objects_argv(place.bucket, f"{prefix}{PROBE_KEY}/", "", 1))
    if diagnosis.has_empty_error_body(asked.errors):
        asked = aws.run(argv.head_bucket_argv(place.bucket))
    if asked.returncode == 0:
        whose = f", account {place.owner}'s" if place.owner else ""
        return CheckResult(ok=True, what="bucket", text=f"{place}: reachable with these credentials{whose}")
    cause = diagnosis.fatal_cause(asked.errors)
    no_listings = not cause and has_no_listings(asked.errors)
    if no_listings or (cause and cause.id == causes.DENIED.id and not place.owner):
        head = aws.run(argv.head_object_argv(place.bucket, f"{prefix}{PROBE_KEY}"))
        if is_written or diagnosis.error_codes(head.errors) & {"404", "NoSuchKey"}:
            longer = "so each object is asked for, which takes longer"
            text = (
                f"{place}: reachable, but these credentials may not list it, {longer} (give them s3:ListBucket there)"
            )
            if no_listings:
                text = f"{place}: reachable, but this server does not list it, {longer}"
            return CheckResult(ok=True, what="bucket", text=text)
    where = f"{place}, expected to be account {place.owner}'s" if place.owner else str(place)
    why = diagnosis.unreachable_cause(asked.errors) or diagnosis.transient_cause(asked.errors)
    return CheckResult(ok=False, what="bucket", text=str(client.to_error(asked, where, why)))


def _write(aws: client.AwsCli, probe: WriteProbe) -> CheckResult:
    """Whether these credentials may write there: a multipart upload begun and aborted leaves nothing."""
    where = f"s3://{probe.bucket.name}/{probe.key.removesuffix(PROBE_KEY)}"
    begun = aws.run(argv.create_upload_argv(*probe))
    if begun.returncode != 0:
        return CheckResult(ok=False, what="writable", text=str(client.to_error(begun, where)))
    upload_id = str(client.parse_json(begun))
    aborted = aws.run(argv.abort_upload_argv(probe.bucket, probe.key, upload_id))
    if aborted.returncode != 0:
        return CheckResult(
            ok=False, what="writable", text=f"{client.to_error(aborted, where)} (s3:AbortMultipartUpload)"
        )
    return CheckResult(ok=True, what="writable", text=f"{where}: writable with these credentials")
