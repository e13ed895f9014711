"""The words after `aws` for each thing that is asked of it: pure, so that they can be read and tested."""

from __future__ import annotations

import re
from typing import NamedTuple

LIST_PAGE = 50_000  # objects a listing process returns at most: bounds its memory

_CONNECT_TIMEOUT = "--cli-connect-timeout=10"  # seconds
_JSON = "--output=json"  # whatever the user's config says
_LIST_QUERY = "--query=Contents[].[Key,Size,ETag,LastModified]"
_HEAD_QUERY = (
    "--query=[ContentLength,ETag,ServerSideEncryption,SSECustomerAlgorithm,ChecksumCRC32,LastModified,"
    "ChecksumSHA256,ChecksumSHA1,ChecksumCRC32C,ChecksumCRC64NVME]"
)
_ENCRYPTION_QUERY = "--query=ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm"
_UPLOADS_QUERY = "--query=Uploads[].[Key,UploadId,Initiated]"
_CHECKSUMS_BY_DEFAULT = (2, 23)  # from here on version 2 sends a checksum with each object, CRC64NVME by default


STORAGE_CLASSES = (
    *("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "REDUCED_REDUNDANCY"),
    *("GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"),
)
SSE = ("AES256", "aws:kms")
ACLS = ("private", "bucket-owner-read", "bucket-owner-full-control")  # none that opens a run to the public
ACCOUNT = re.compile(r"[0-9]{12}")


class Storage(NamedTuple):
    """How S3 is to store the objects; what is empty is as the bucket has it."""

    sse: str = ""
    sse_kms_key_id: str = ""
    storage_class: str = ""
    acl: str = ""


BUCKET_DEFAULTS = Storage()


class BucketRef(NamedTuple):
    """A bucket, and the account that has to own it (12 digits; empty: any)."""

    name: str
    owner: str = ""

    def options(self) -> tuple[str, ...]:
        """What every `s3api` command is given: S3 itself refuses if another account owns the bucket."""
        return _given(("bucket", self.name), ("expected-bucket-owner", self.owner))


def version_argv() -> tuple[str, ...]:
    """Which version this is."""
    return ("--version",)


def checksum_options(version: str, *, few: bool = False) -> tuple[str, ...]:
    """Have the newer versions 2 send the CRC32 that version 1 sends, since it can be computed here.

    `version` is what `aws --version` says. Older versions 2 send none and know no such option. With `few` the user
    wants none.
    """
    if few:
        return ()
    number = re.match(r"aws-cli/(\d+)\.(\d+)", version)
    is_newer = number is not None and (int(number[1]), int(number[2])) >= _CHECKSUMS_BY_DEFAULT
    return ("--checksum-algorithm=CRC32",) if is_newer else ()


def supports_crt(version: str) -> bool:
    """Whether a CLI has the transfer client in C: version 2."""
    return version.startswith("aws-cli/2.")


def s3_cp_argv(
    folder: str, url: str, storage: Storage = BUCKET_DEFAULTS, more: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Send every file in a folder; `url` ends in a slash."""
    names = ("sse", "sse-kms-key-id", "storage-class", "acl")
    how = (*_given(*zip(names, storage, strict=True)), *more)
    return ("s3", "cp", folder, url, "--recursive", "--no-progress", *how, _CONNECT_TIMEOUT)


def head_object_argv(bucket: BucketRef, key: str) -> tuple[str, ...]:
    """Size, ETag, encryption and checksum of an object; `--key=` since a key may begin with a dash."""
    what = (*bucket.options(), f"--key={key}", "--checksum-mode=ENABLED")
    return ("s3api", "head-object", *what, _JSON, _HEAD_QUERY, _CONNECT_TIMEOUT)


def read_object_argv(bucket: BucketRef, key: str) -> tuple[str, ...]:
    """Print an object's bytes, all of them."""
    return ("s3", "cp", f"s3://{bucket.name}/{key}", "-", "--no-progress", _CONNECT_TIMEOUT)


def head_bucket_argv(bucket: BucketRef) -> tuple[str, ...]:
    """Whether there is such a bucket, and whether these credentials may see it."""
    return ("s3api", "head-bucket", *bucket.options(), _CONNECT_TIMEOUT)


def bucket_encryption_argv(bucket: BucketRef) -> tuple[str, ...]:
    """How the bucket encrypts what is uploaded without a word on that: `AES256`, `aws:kms`, ..."""
    return ("s3api", "get-bucket-encryption", *bucket.options(), _JSON, _ENCRYPTION_QUERY, _CONNECT_TIMEOUT)


def list_objects_argv(bucket: BucketRef, prefix: str, start_after: str, max_items: int) -> tuple[str, ...]:
    """Key, size and ETag of up to `max_items` objects under a prefix, after a key, in the order of their keys."""
    what = (*bucket.options(), f"--prefix={prefix}", f"--max-items={max_items}")
    after = (f"--start-after={start_after}",) if start_after else ()
    return ("s3api", "list-objects-v2", *what, *after, _JSON, _LIST_QUERY, _CONNECT_TIMEOUT)


def list_uploads_argv(bucket: BucketRef, prefix: str) -> tuple[str, ...]:
    """Key, id and time of the multipart uploads under a prefix that were begun and neither completed nor aborted."""
    what = (*bucket.options(), f"--prefix={prefix}")
    return ("s3api", "list-multipart-uploads", *what, _JSON, _UPLOADS_QUERY, _CONNECT_TIMEOUT)


def create_upload_argv(bucket: BucketRef, key: str, storage: Storage = BUCKET_DEFAULTS) -> tuple[str, ...]:
    """Begin a multipart upload; prints its id."""
    names = ("server-side-encryption", "ssekms-key-id", "storage-class", "acl")
    what = (*bucket.options(), f"--key={key}", *_given(*zip(names, storage, strict=True)))
    return ("s3api", "create-multipart-upload", *what, _JSON, "--query=UploadId", _CONNECT_TIMEOUT)


def abort_upload_argv(bucket: BucketRef, key: str, upload_id: str) -> tuple[str, ...]:
    """Abort a multipart upload, and so remove its parts."""
    what = (*bucket.options(), f"--key={key}", f"--upload-id={upload_id}")
    return ("s3api", "abort-multipart-upload", *what, _CONNECT_TIMEOUT)


def _given(*options: tuple[str, str]) -> tuple[str, ...]:
    """Those that have a value, as `--name=value`: a value may begin with a dash."""
    return tuple(f"--{name}={value}" for name, value in options if value)
