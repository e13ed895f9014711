"""Name the place of a run in S3: bucket, path and keys, and how S3 stores its objects."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from s3sync.aws import profile
from s3sync.errors import UsageError
from s3sync.text import printable

MAX_KEY_BYTES = 1024  # S3's limit, in UTF-8
COMPLETION_OBJECT = "s3sync.complete.json"  # below the run's prefix, if requested: says that the run is complete
STORAGE_CLASSES = (
    *("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "REDUCED_REDUNDANCY"),
    *("GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"),
)
SSE = ("AES256", "aws:kms")
ACLS = ("private", "bucket-owner-read", "bucket-owner-full-control")  # none of them makes a run public
ACCOUNT = re.compile(r"[0-9]{12}")
REGION = re.compile(r"[a-z0-9][a-z0-9-]*")

# Looser than AWS's rule for new buckets: old ones in us-east-1 and other servers have capitals and `_`.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_ALIAS = "; give the alias of the access point, which ends in -s3alias, or the bucket's own name"

# Patterns of names that uploads cannot use, and what to give instead.
_UNSUPPORTED = (
    (r"arn:[^:]*:s3::[0-9]*:accesspoint/", f"a multi-region access point needs its own kind of signatures{_ALIAS}"),
    (r"arn:[^:]*:s3-object-lambda:", f"an access point of Object Lambda does not accept uploads{_ALIAS}"),
    (
        r"arn:[^:]*:s3-outposts:",
        "an ARN of S3 on Outposts is not supported; give the alias of its access point, which ends in --op-s3",
    ),
    (r"arn:[^:]*:s3:::", "it is an ARN; give only the bucket's name, which is its last part"),
    (r"arn:", f"it is an ARN, which not all commands of the AWS CLI accept{_ALIAS}"),
    (
        r".*--x-s3$",
        "a directory bucket is not supported, since it lists objects in no order; give a bucket of another kind",
    ),
    (r".*--xa-s3$", "an access point of a directory bucket is not supported; give a bucket of another kind"),
    (r".*--ol-s3$", f"an access point of Object Lambda does not accept uploads{_ALIAS}"),
    (r".*--table-s3$", "a table bucket does not store files; give a bucket of another kind"),
    (r".*\.mrap$", f"a multi-region access point needs its own kind of signatures{_ALIAS}"),
    (r".*\.amazonaws\.com(\.cn)?(/|$)", "it is the name of a host; give only the bucket's name"),
)

_COMPLETION_PATH = re.compile(rf"(Analysis/[0-9]+/)?{re.escape(COMPLETION_OBJECT)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How S3 stores the objects. Empty fields mean the default of the bucket."""

    sse: str = ""
    sse_kms_key_id: str = ""
    storage_class: str = ""
    acl: str = ""


BUCKET_DEFAULTS = Storage()


@dataclass(frozen=True, slots=True)
class Profile:
    """The profile and the region that an upload uses instead of the environment's (empty: the environment's)."""

    name: str = ""
    region: str = ""

    def applied_to(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment with this profile and region. Credentials in it would win, so they are left out."""
        applied = dict(environ)
        if self.name:
            for variable in (*profile.PROFILE_VARIABLES, *profile.CREDENTIAL_VARIABLES):
                applied.pop(variable, None)
            applied["AWS_PROFILE"] = self.name
        if self.region:
            applied |= dict.fromkeys(profile.REGION_VARIABLES, self.region)
        return applied

    def __str__(self) -> str:
        return f"profile {printable(self.name)}" if self.name else "these credentials"


FROM_ENVIRONMENT = Profile()


class BucketRef(NamedTuple):
    """A bucket, and the account that must own it (12 digits; empty: any)."""

    name: str
    owner: str = ""

    @property
    def url(self) -> str:
        """Return `s3://bucket`."""
        return f"s3://{self.name}"


class Destination(NamedTuple):
    """A bucket, and a prefix without a slash at either end; "" is the root of the bucket."""

    bucket: str
    prefix: str

    def run_prefix(self, run_id: str) -> str:
        """Return what every key of the run starts with; it ends in a slash."""
        return f"{self.prefix}/{run_id}/" if self.prefix else f"{run_id}/"

    def url(self, run_id: str) -> str:
        """Return `s3://bucket/prefix/run_id/`."""
        return f"s3://{self.bucket}/{self.run_prefix(run_id)}"

    @property
    def label(self) -> str:
        """Return the destination without a run, for people: `s3://bucket/path`."""
        return f"s3://{self.bucket}{self.remote_path}"

    @property
    def remote_path(self) -> str:
        """Return the path as the user's config has it: `/`, `/runs/2026`."""
        return f"/{self.prefix}"

    @property
    def tag(self) -> str:
        """Return eight hex digits that distinguish this destination from others in file names."""
        return hashlib.sha256(f"{self.bucket}/{self.prefix}".encode("utf-8", "surrogateescape")).hexdigest()[:8]


def is_completion_object(path: str) -> bool:
    """Return whether a path in a run is the path of the completion object, which does not belong to the run."""
    return _COMPLETION_PATH.fullmatch(path) is not None


def parse_destination(bucket: str, remote_path: str = "/") -> Destination:
    """Return the destination that the user's options describe. Raises UsageError.

    Doubled and outer slashes are removed: they would become part of the keys.
    """
    if bucket.startswith("s3://"):
        raise UsageError(
            f"--bucket takes only the bucket's name, not a URL: {printable(bucket)} (give the path as --remote-path)",
            id="usage.bucket-is-url",
        )
    for pattern, why in _UNSUPPORTED:
        if re.match(pattern, bucket):
            raise UsageError(f"--bucket cannot be {printable(bucket)}: {why}", id="usage.unsupported-bucket")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"not a bucket name: {printable(bucket)!r} (use 3 or more letters, digits, `.` or `-`)",
            id="usage.bad-bucket",
        )
    prefix = "/".join(part for part in remote_path.split("/") if part)
    if why := _reject_path(remote_path):
        raise UsageError(f"--remote-path {why}: {printable(remote_path)}", id="usage.bad-remote-path")
    if len(prefix.encode("utf-8", "surrogateescape")) > MAX_KEY_BYTES // 2:
        raise UsageError(
            f"--remote-path is longer than {MAX_KEY_BYTES // 2} bytes (shorten it)", id="usage.long-remote-path"
        )
    return Destination(bucket, prefix)


def _reject_path(remote_path: str) -> str:
    """Return why this cannot be a path in a bucket, and what to give instead; empty if it can."""
    if url := re.match(r"s3:/*([^/]*)/*(.*)", remote_path, re.IGNORECASE | re.DOTALL):
        path = printable(f"/{url[2]}")
        return f"takes only the path, not a URL (give {path} here, and {printable(url[1]) or 'the bucket'} as --bucket)"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|arn:", remote_path):
        return "takes only the path, not a URL or an ARN (give what follows the bucket's name, e.g. /runs/2026)"
    if "\\" in remote_path:
        return "cannot contain a backslash, which is no separator in S3 (use / instead)"
    if any(part in (".", "..") for part in remote_path.split("/")):
        return "cannot contain `.` or `..`, which are ordinary names in S3 (give the path from the root of the bucket)"
    if not remote_path.isprintable():
        return "cannot contain control characters, and must be UTF-8"
    return ""
