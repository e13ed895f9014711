"""Check from this host that the AWS CLI, its credentials and the buckets work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from s3sync.aws import argv, causes, client, diagnosis
from s3sync.aws.client import AwsCli
from s3sync.aws.destination import FROM_ENVIRONMENT, BucketRef, Destination, Profile, Storage
from s3sync.aws.listing import is_listing_unsupported
from s3sync.aws.result import AwsResult
from s3sync.aws.settings import CliSettings
from s3sync.errors import S3SyncError, StoppedError
from s3sync.signals import StopRequest
from s3sync.text import printable

PROBE_KEY = "s3sync-check"  # for a multipart upload that is never completed, so no object ever has this name
_NO_KEY = {"404", "NoSuchKey"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check. If it is a problem, `text` says what to do, and `id` names its kind.

    A `warning` is ok if it is intended.
    """

    ok: bool
    what: str
    text: str
    warning: bool = False
    id: str = ""

    @classmethod
    def of_error(cls, what: str, error: S3SyncError) -> CheckResult:
        """Return the problem that an error describes."""
        return cls(ok=False, what=what, text=str(error), id=error.id)


class UploadTarget(NamedTuple):
    """A destination of runs, and its profile: a bucket, the account that must own it (empty: any), and a path in it.

    An empty path is the root of the bucket.
    """

    name: str
    owner: str = ""
    prefix: str = ""
    profile: str = ""
    region: str = ""

    @classmethod
    def of(cls, destination: Destination, owner: str, profile: Profile = FROM_ENVIRONMENT) -> UploadTarget:
        """Return the target for a destination, and the account that must own its bucket."""
        return cls(destination.bucket, owner, destination.prefix, profile.name, profile.region)

    @property
    def aws_profile(self) -> Profile:
        """Return the AWS profile to use."""
        return Profile(self.profile, self.region)

    @property
    def bucket(self) -> BucketRef:
        """Return the bucket."""
        return BucketRef(self.name, self.owner)

    @property
    def probe_key(self) -> str:
        """Return a key in this path at which no object is ever created."""
        return f"{self.prefix}/{PROBE_KEY}" if self.prefix else PROBE_KEY

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}".rstrip("/")


class WriteProbe(NamedTuple):
    """A target for a test write, with the storage settings of its uploads."""

    target: UploadTarget
    storage: Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessQuery:
    """What to check: a CLI (None: the default one), the targets that it must reach, and those for a test write."""

    aws_command: str | None
    threads: int
    targets: tuple[UploadTarget, ...]
    probes: tuple[WriteProbe, ...] = ()


def check_access(
    query: AccessQuery, environ: Mapping[str, str], stop: StopRequest, temp_folder: Path
) -> Iterator[CheckResult]:
    """Yield a result for the CLI and, if that works, for each target and probe. Raises StoppedError."""
    probes = tuple(dict.fromkeys(query.probes))
    probed = {probe.target for probe in probes}
    by_profile: dict[Profile, AwsCli] = {}
    try:
        profiles = dict.fromkeys(target.aws_profile for target in (*query.targets, *probed)) or (Profile(),)
        for number, profile in enumerate(profiles):
            (folder := temp_folder / f"profile-{number}").mkdir(mode=0o700)
            settings, child = CliSettings(query.threads, command=query.aws_command), profile.applied_to(environ)
            by_profile[profile] = client.connect(settings, child, stop, folder)
        aws = next(iter(by_profile.values()))
        yield CheckResult(ok=True, what="aws", text=f"{printable(aws.path)}: {aws.check_usable()}")
    except StoppedError:
        raise
    except S3SyncError as error:
        yield CheckResult.of_error("aws", error)
        return
    for target in dict.fromkeys(query.targets):
        yield _check_reachable(by_profile[target.aws_profile], target, is_probed=target in probed)
    yield from (_check_writable(by_profile[probe.target.aws_profile], probe) for probe in probes)


def _check_reachable(aws: AwsCli, target: UploadTarget, *, is_probed: bool) -> CheckResult:
    """Make the first request of an upload, for a run that does not exist: credentials may be limited to a prefix."""
    result = aws.run(argv.list_objects_argv(target.bucket, f"{target.probe_key}/", "", 1))
    if diagnosis.has_empty_error_body(result.errors):
        result = aws.run(argv.head_bucket_argv(target.bucket))
    if _is_other_than_s3(aws, target, result):
        return CheckResult.of_error("bucket", causes.NOT_S3.to_error(str(target), "an object that nobody has sent"))
    if result.returncode == 0:
        whose = f", account {target.owner}'s" if target.owner else ""
        return CheckResult(ok=True, what="bucket", text=f"{target}: reachable with {target.aws_profile}{whose}")
    if text := _explain_without_listing(aws, target, result, is_probed=is_probed):
        return CheckResult(ok=True, what="bucket", text=f"{target}: {text}")
    where = f"{target}, expected to be account {target.owner}'s" if target.owner else str(target)
    cause = diagnosis.unreachable_cause(result.errors) or diagnosis.transient_cause(result.errors)
    return CheckResult.of_error("bucket", result.to_error(where, cause))


def _is_other_than_s3(aws: AwsCli, target: UploadTarget, listed: AwsResult) -> bool:
    """Return whether a page answers, such as the login of a network: it is there under any name."""
    may_be = listed.succeeded or diagnosis.may_be_page(listed.errors) or is_listing_unsupported(listed.errors)
    return may_be and aws.run(argv.head_object_argv(target.bucket, target.probe_key)).succeeded


def _explain_without_listing(aws: AwsCli, target: UploadTarget, listed: AwsResult, *, is_probed: bool) -> str:
    """Return what it means that a bucket can be used but not listed; empty if it cannot be used.

    With `is_probed`, another result says whether files can be sent there.
    """
    cause = diagnosis.fatal_cause(listed.errors)
    is_unsupported = not cause and is_listing_unsupported(listed.errors)
    is_denied = cause is not None and cause.id == causes.DENIED.id and not target.owner
    if not is_unsupported and not is_denied:
        return ""
    head = aws.run(argv.head_object_argv(target.bucket, target.probe_key))
    if not is_probed and not diagnosis.error_codes(head.errors) & _NO_KEY:
        return ""
    slower = "so each object is requested separately, which takes longer"
    if is_unsupported:
        return f"reachable, but this server does not list it, {slower}"
    return f"reachable, but these credentials may not list it, {slower} (give them s3:ListBucket there)"


def _check_writable(aws: AwsCli, probe: WriteProbe) -> CheckResult:
    """Start and abort a multipart upload, which leaves nothing."""
    bucket, key = probe.target.bucket, probe.target.probe_key
    where = f"s3://{bucket.name}/{key.removesuffix(PROBE_KEY)}"
    where += f" in {probe.storage.storage_class}" if probe.storage.storage_class else ""
    started = aws.run(argv.create_upload_argv(bucket, key, probe.storage))
    if started.returncode != 0:
        error = started.to_error(where)
        hint = f" (does this server have {probe.storage.storage_class}?)" if probe.storage.storage_class else ""
        return CheckResult(ok=False, what="writable", text=f"{error}{hint}", id=error.id)
    aborted = aws.run(argv.abort_upload_argv(bucket, key, str(started.json())))
    if aborted.returncode != 0:
        error = aborted.to_error(where)
        return CheckResult(ok=False, what="writable", text=f"{error} (s3:AbortMultipartUpload)", id=error.id)
    return CheckResult(ok=True, what="writable", text=f"{where}: writable with {probe.target.aws_profile}")
