"""Build the options of each `aws` command. All functions are pure."""

from __future__ import annotations

import json
import re

from s3sync.aws.destination import BUCKET_DEFAULTS, BucketRef, Storage

LIST_PAGE = 50_000  # objects that one process lists at most: bounds its memory

_CONNECT_TIMEOUT = "--cli-connect-timeout=10"  # seconds
_JSON = "--output=json"  # regardless of the user's config
_LIST_QUERY = "--query=Contents[].[Key,Size,ETag,LastModified,StorageClass]"
_THAW_QUERY = "--query=Contents[].[Key,RestoreStatus.IsRestoreInProgress,RestoreStatus.RestoreExpiryDate]"
_HEAD_QUERY = (
    "--query=[ContentLength,ETag,ServerSideEncryption,SSECustomerAlgorithm,ChecksumCRC32,LastModified,"
    "ChecksumSHA256,ChecksumSHA1,ChecksumCRC32C,ChecksumCRC64NVME]"
)
_DOWNLOAD = ("--no-progress", "--force-glacier-transfer")
_ENCRYPTION_QUERY = "--query=ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm"
_UPLOADS_QUERY = "--query=Uploads[].[Key,UploadId,Initiated]"
_CHECKSUMS_BY_DEFAULT = (2, 23)  # from this version on, a CRC64NVME is sent with each object


def version_argv() -> tuple[str, ...]:
    """Print the version."""
    return ("--version",)


def checksum_options(version: str, *, few: bool = False) -> tuple[str, ...]:
    """Return the options that make all versions send a CRC-32, which can be computed fast here.

    `version` is as `aws --version` prints it. Versions before 2.23 send a CRC-32, or none, without an option. `few`:
    the user wants no checksums.
    """
    if few:
        return ()
    number = re.match(r"aws-cli/(\d+)\.(\d+)", version)
    is_newer = number is not None and (int(number[1]), int(number[2])) >= _CHECKSUMS_BY_DEFAULT
    return ("--checksum-algorithm=CRC32",) if is_newer else ()


def supports_crt(version: str) -> bool:
    """Return whether this version of the CLI has the CRT transfer client."""
    return version.startswith("aws-cli/2.")


def s3_cp_argv(
    folder: str, url: str, storage: Storage = BUCKET_DEFAULTS, more: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Upload every file in a folder; `url` ends in a slash."""
    how = _options(
        ("sse", storage.sse),
        ("sse-kms-key-id", storage.sse_kms_key_id),
        ("storage-class", storage.storage_class),
        ("acl", storage.acl),
    )
    return ("s3", "cp", folder, url, "--recursive", "--no-progress", *how, *more, _CONNECT_TIMEOUT)


def download_folder_argv(url: str, folder: str, includes: tuple[str, ...]) -> tuple[str, ...]:
    """Download the objects below a URL that ends in a slash into a folder; without `includes`, all of them.

    `includes` are patterns as `fnmatch` reads them. S3 refuses frozen objects, which is reported.
    """
    which = ("--exclude=*", *(f"--include={pattern}" for pattern in includes)) if includes else ()
    return ("s3", "cp", url, folder, "--recursive", *_DOWNLOAD, *which, _CONNECT_TIMEOUT)


def download_object_argv(url: str, file: str) -> tuple[str, ...]:
    """Download one object into a file."""
    return ("s3", "cp", url, file, *_DOWNLOAD, _CONNECT_TIMEOUT)


def head_object_argv(bucket: BucketRef, key: str) -> tuple[str, ...]:
    """Print size, ETag, encryption and checksums of an object."""
    what = (*_bucket_options(bucket), f"--key={key}", "--checksum-mode=ENABLED")
    return ("s3api", "head-object", *what, _JSON, _HEAD_QUERY, _CONNECT_TIMEOUT)


def part_size_argv(bucket: BucketRef, key: str, number: int) -> tuple[str, ...]:
    """Print the size of a part of an object, by its number from 1, and how many parts the object has."""
    what = (*_bucket_options(bucket), f"--key={key}", f"--part-number={number}", "--query=[ContentLength,PartsCount]")
    return ("s3api", "head-object", *what, _JSON, _CONNECT_TIMEOUT)


def thaw_state_argv(bucket: BucketRef, key: str) -> tuple[str, ...]:
    """Print the storage class of an object, whether it is being thawed, and its archive tier."""
    what = (*_bucket_options(bucket), f"--key={key}", "--query=[StorageClass,Restore,ArchiveStatus]")
    return ("s3api", "head-object", *what, _JSON, _CONNECT_TIMEOUT)


def thaw_object_argv(bucket: BucketRef, key: str, tier: str, days: int | None) -> tuple[str, ...]:
    """Request that an object is thawed, for this number of days; None for the archive tiers of INTELLIGENT_TIERING.

    S3 rejects days there, and a request for another class without them.
    """
    parameters = {**({"Days": days} if days else {}), "GlacierJobParameters": {"Tier": tier}}
    what = (*_bucket_options(bucket), f"--key={key}", f"--restore-request={json.dumps(parameters)}")
    return ("s3api", "restore-object", *what, _CONNECT_TIMEOUT)


def read_object_argv(bucket: BucketRef, key: str) -> tuple[str, ...]:
    """Print all bytes of an object."""
    return ("s3", "cp", f"s3://{bucket.name}/{key}", "-", "--no-progress", _CONNECT_TIMEOUT)


def read_byte_argv(bucket: BucketRef, key: str) -> tuple[str, ...]:
    """Read the first byte of an object, and throw it away."""
    what = (*_bucket_options(bucket), f"--key={key}", "--range=bytes=0-0", "/dev/null")
    return ("s3api", "get-object", *what, _JSON, _CONNECT_TIMEOUT)


def head_bucket_argv(bucket: BucketRef) -> tuple[str, ...]:
    """Fail unless the bucket exists and these credentials may see it."""
    return ("s3api", "head-bucket", *_bucket_options(bucket), _CONNECT_TIMEOUT)


def bucket_encryption_argv(bucket: BucketRef) -> tuple[str, ...]:
    """Print the default encryption of the bucket: `AES256`, `aws:kms`, ..."""
    return ("s3api", "get-bucket-encryption", *_bucket_options(bucket), _JSON, _ENCRYPTION_QUERY, _CONNECT_TIMEOUT)


def list_objects_argv(bucket: BucketRef, prefix: str, start_after: str, max_items: int) -> tuple[str, ...]:
    """Print key, size, ETag, time and class of up to `max_items` objects under a prefix, after a key, in order."""
    what = (*_bucket_options(bucket), f"--prefix={prefix}", f"--max-items={max_items}")
    after = (f"--start-after={start_after}",) if start_after else ()
    return ("s3api", "list-objects-v2", *what, *after, _JSON, _LIST_QUERY, _CONNECT_TIMEOUT)


def list_thawed_argv(bucket: BucketRef, prefix: str, start_after: str) -> tuple[str, ...]:
    """Print key, whether it is being thawed, and until when it is thawed, of up to LIST_PAGE objects.

    Older versions of the CLI do not know the option.
    """
    what = (*_bucket_options(bucket), f"--prefix={prefix}", f"--max-items={LIST_PAGE}")
    after = (f"--start-after={start_after}",) if start_after else ()
    attributes = "--optional-object-attributes=RestoreStatus"
    return ("s3api", "list-objects-v2", *what, *after, attributes, _JSON, _THAW_QUERY, _CONNECT_TIMEOUT)


def list_uploads_argv(bucket: BucketRef, prefix: str) -> tuple[str, ...]:
    """Print key, id and start time of the incomplete multipart uploads under a prefix."""
    what = (*_bucket_options(bucket), f"--prefix={prefix}")
    return ("s3api", "list-multipart-uploads", *what, _JSON, _UPLOADS_QUERY, _CONNECT_TIMEOUT)


def create_upload_argv(bucket: BucketRef, key: str, storage: Storage = BUCKET_DEFAULTS) -> tuple[str, ...]:
    """Start a multipart upload, and print its id."""
    how = _options(
        ("server-side-encryption", storage.sse),
        ("ssekms-key-id", storage.sse_kms_key_id),
        ("storage-class", storage.storage_class),
        ("acl", storage.acl),
    )
    what = (*_bucket_options(bucket), f"--key={key}", *how)
    return ("s3api", "create-multipart-upload", *what, _JSON, "--query=UploadId", _CONNECT_TIMEOUT)


def abort_upload_argv(bucket: BucketRef, key: str, upload_id: str) -> tuple[str, ...]:
    """Abort a multipart upload, which removes its parts."""
    what = (*_bucket_options(bucket), f"--key={key}", f"--upload-id={upload_id}")
    return ("s3api", "abort-multipart-upload", *what, _CONNECT_TIMEOUT)


def _bucket_options(bucket: BucketRef) -> tuple[str, ...]:
    return _options(("bucket", bucket.name), ("expected-bucket-owner", bucket.owner))


def _options(*options: tuple[str, str]) -> tuple[str, ...]:
    """Return the options that have a value, as `--name=value`, since a value may begin with a dash."""
    return tuple(f"--{name}={value}" for name, value in options if value)
