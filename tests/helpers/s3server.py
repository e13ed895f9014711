"""A small S3 server on the loopback interface, for tests and benchmarks: path-style, in memory, with faults.

It is stricter than moto about bytes (a torn body, a wrong Content-MD5 or CRC32 is never stored) and
fast enough to load several CLI processes. Signatures are not checked. What it does not know it
answers with 501, so that no test passes by accident.

    with S3Server() as server:
        server.create_bucket("b")
        server.add_fault(Fault("status", status=503, code="SlowDown", count=2))
        ...  # run a client with AWS_ENDPOINT_URL=server.url
        server.wait_for("PutObject", 3)
        assert server.objects("b")["key"].body == b"..."

As a process, until SIGTERM or SIGINT: `python tests/helpers/s3server.py --port 0 --bucket b --keep hashes`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import bisect
import contextlib
import dataclasses
import email.utils
import hashlib
import http.client
import itertools
import re
import signal
import socket
import ssl
import struct
import threading
import time
import uuid
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import parse_qsl, quote, unquote_to_bytes
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Self

Keep = Literal["bytes", "hashes"]
FaultKind = Literal[
    "status", "reset", "hang", "lost_reply", "wrong_etag", "wrong_checksum", "drop", "truncate", "slow", "late"
]
MIB = 1024 * 1024
_PIECE_BYTES = 64 * 1024
_PAGE_KEYS = 1000
_NO_ANSWER = 0


def _table(rows: str) -> dict[str, str]:
    return dict(row.split() for row in rows.strip().splitlines())


# METHOD, or METHOD?QUERY_PARAMETER, and the operation that such a request is.
_BUCKET_OPERATIONS = _table("""
    HEAD            HeadBucket
    PUT             CreateBucket
    GET?list-type   ListObjectsV2
    GET?encryption  GetBucketEncryption
    GET?uploads     ListMultipartUploads
""")
_OBJECT_OPERATIONS = _table("""
    PUT             PutObject
    PUT?uploadId    UploadPart
    HEAD            HeadObject
    GET             GetObject
    DELETE          DeleteObject
    DELETE?uploadId AbortMultipartUpload
    POST?uploads    CreateMultipartUpload
    POST?uploadId   CompleteMultipartUpload
    POST?restore    RestoreObject
""")
# Without these, PUT ?tagging would overwrite the object with its tags, and a copy would empty it.
_UNSUPPORTED_PARAMETERS = {"acl", "attributes", "legal-hold", "policy", "retention", "tagging", "versioning"}
_UNSUPPORTED_HEADERS = {"if-match", "range", "x-amz-copy-source"}  # but for the first two of a GET
_RANGE = re.compile("bytes=([0-9]+)-([0-9]*)")
_ENCRYPTION = "x-amz-server-side-encryption"
_KMS_KEY = f"{_ENCRYPTION}-aws-kms-key-id"
_CUSTOMER, _CUSTOMER_KEY = f"{_ENCRYPTION}-customer-algorithm", f"{_ENCRYPTION}-customer-key-md5"
_ENCRYPTION_HEADERS = {_ENCRYPTION, _KMS_KEY, _CUSTOMER, _CUSTOMER_KEY}
_OBJECT_HEADERS = {"content-type", "x-amz-storage-class", *_ENCRYPTION_HEADERS}
_RESTORE = "x-amz-restore"
_FROZEN_CLASSES = ("GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING")
_CHUNK_HEAD = re.compile("[0-9a-fA-F]+(;|$)")
_XML_SPECIAL = re.compile("[&<>\"'\x00-\x1f\x7f]")


@dataclass
class Dialect:
    """Where a server differs from S3, as others that speak its language do; by default nowhere.

    - `opaque_etags`: of which objects the ETags are not MD5s. They look like MD5s, or with `random_etags` like
      nothing that is known
    - `uppercase_etags`: hex digits in capitals
    - `checksums`: kept and given back, ignored, or refused with 501 as any unknown header
    - `lists`: how ListObjectsV2 is answered: as S3 does; as version 1 (no token for the next page, no start-after); not
    - `start_after`, `url_encoding`: whether that parameter is known to the listing; if not, it is ignored
    - `uploads_by_key`: multipart uploads are listed for an exact key alone, as MinIO does
    - `part_numbers`: whether HEAD and GET know the parts of an object; if not, the parameter is ignored
    - `lists_restores`: whether a listing says which objects are thawed, if it is asked to
    - `required_acl`: what `x-amz-acl` has to be, as a policy of the bucket may demand
    """

    opaque_etags: Literal["", "multipart", "all"] = ""
    random_etags: bool = False
    uppercase_etags: bool = False
    checksums: Literal["kept", "ignored", "refused"] = "kept"
    lists: Literal["v2", "v1", "not"] = "v2"
    start_after: bool = True
    url_encoding: bool = True
    uploads_by_key: bool = False
    part_numbers: bool = True
    lists_restores: bool = True
    required_acl: str = ""

    def check(self, call: _Call) -> None:
        """Raises _S3Error for what such a server refuses."""
        about_checksums = [n for n in call.headers if n.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-"))]
        if (
            self.checksums == "refused"
            and call.method == "PUT"
            and (about_checksums or "x-amz-trailer" in call.headers)
        ):
            raise _S3Error(501, "NotImplemented", "A header you provided implies functionality that is not implemented")
        begins = call.operation in ("PutObject", "CreateMultipartUpload")
        if self.required_acl and begins and call.headers.get("x-amz-acl") != self.required_acl:
            raise _S3Error(403, "AccessDenied", "Access Denied")
        if self.lists == "not" and call.operation == "ListObjectsV2":
            raise _S3Error(501, "NotImplemented", "Not implemented")

    def etag(self, etag: str) -> str:
        """What the server makes of the ETag that S3 would give an object."""
        if self.opaque_etags == "all" or (self.opaque_etags and "-" in etag):
            etag = f"r.{hashlib.sha1(etag.encode()).hexdigest()[:9]}" if self.random_etags else _other_etag(etag)
        return etag.upper() if self.uppercase_etags else etag

    def sums(self, checksums: dict[str, str]) -> dict[str, str]:
        """Those of the client's checksums that are kept."""
        return checksums if self.checksums == "kept" else {}


@dataclass(slots=True)
class StoredObject:
    """An object, or a part of a multipart upload, as S3 has it.

    `body` is None where only hashes are kept, `etag` has no quotes, `checksums` maps header names
    (`x-amz-checksum-crc32`) to base64 values, `headers` are those that HEAD gives back (content type,
    metadata, storage class, encryption); `last_modified` is seconds since the epoch.
    """

    body: bytes | None
    size: int
    etag: str
    checksums: dict[str, str] = field(default_factory=dict)
    checksum_type: str = "FULL_OBJECT"
    headers: dict[str, str] = field(default_factory=dict)
    last_modified: float = field(default_factory=time.time)
    part_sizes: tuple[int, ...] = ()  # of a multipart upload


@dataclass(slots=True)
class Upload:
    """A multipart upload in progress; `parts` by part number, `initiated` in seconds since the epoch."""

    upload_id: str
    key: str
    headers: dict[str, str]
    checksum_type: str
    parts: dict[int, StoredObject] = field(default_factory=dict)
    initiated: float = field(default_factory=time.time)


class Request(NamedTuple):
    """A finished request. `status` 0: the client got no answer. `bytes`: of the decoded request body."""

    method: str
    bucket: str
    key: str
    operation: str
    status: int
    bytes: int
    fault: str = ""


@dataclass(kw_only=True, eq=False)
class Rule:
    """Which requests something happens to: those that match, without the first `skip`, `count` in all.

    `method`, `operation` and `key_contains` must all match; None matches everything, `count` None is forever.
    """

    method: str | None = "PUT"
    operation: str | None = None
    key_contains: str | None = None
    skip: int = 0
    count: int | None = 1

    def takes(self, call: _Call) -> bool:
        """Whether it is this request's turn; uses up a `skip` or a `count` if it matches."""
        if (
            self.method not in (None, call.method)
            or self.operation not in (None, call.operation)
            or (self.key_contains or "") not in call.key
        ):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.count is not None:
            if self.count == 0:
                return False
            self.count -= 1
        return True


@dataclass(eq=False)
class Fault(Rule):
    """What goes wrong with the requests it takes.

    - `status`: answers HTTP `status` with the S3 error `code`; nothing is stored
    - `reset`: connection reset once `after_bytes` of the body were read, or all of it
    - `hang`: reads the request and does not answer as long as the server runs
    - `lost_reply`: stores, then resets the connection
    - `wrong_etag`: stores the right bytes, gives and remembers an ETag of others
    - `wrong_checksum`: stores the right bytes and ETag, gives and remembers the checksums of others
    - `drop`: answers as if it had stored, ETag included, and stores nothing
    - `truncate`: stores only the first `after_bytes` of the object, with the ETag and checksums of all of it
    - `late`: waits `seconds` before it does anything
    - `slow`: reads the body with `rate` bytes/s. The kernels of both sides and the reader take up to
      about 3 MB at once, so only larger bodies make the client wait while it sends
    """

    kind: FaultKind
    status: int = 503
    code: str = "SlowDown"
    after_bytes: int = 0
    rate: int = 1000
    seconds: float = 1


@dataclass(eq=False)
class Gate(Rule):
    """Holds requests back after their body was read and before anything is stored.

    A held request whose client is gone when the gate opens stores nothing. Leaving a `with` block opens it.
    """

    server: S3Server
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    held: int = 0

    def wait_held(self, count: int = 1, timeout: float = 120) -> None:
        """Block until the gate has caught `count` requests. Raises TimeoutError after `timeout` seconds."""
        self.server.wait_until(lambda: self.held >= count, timeout, f"{count} held requests")

    def release(self) -> None:
        """Let the held requests go on, and all later ones pass."""
        self.server.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()


class _Reply(NamedTuple):
    """`length` is the Content-Length where it is not the body's: HEAD."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed; a tuple cannot have a factory
    length: int | None = None

    def encode(self, *, head_only: bool, close: bool) -> bytes:
        length = len(self.body) if self.length is None else self.length
        lines = [f"HTTP/1.1 {self.status} {http.client.responses.get(self.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if close:
            lines.append("connection: close")
        head = "\r\n".join([*lines, f"content-length: {length}", "", ""]).encode("latin-1")
        return head if head_only else head + self.body


class _S3Error(Exception):
    """An answer that is an error; `code` is S3's name for it."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.status, self.code, self.message = status, code, message or code

    def reply(self) -> _Reply:
        inner = _tag("Code", self.code) + _tag("Message", self.message)
        return _Reply(self.status, _document(f"<Error>{inner}</Error>"), {"content-type": "application/xml"})


class _CutError(Exception):
    """The connection is to be reset instead of answered."""


class _Payload:
    """The decoded body of a request, hashed while it comes in; the bytes are kept only where wanted."""

    def __init__(self, *, keep: bool, crc32: bool = False, limit: int | None = None) -> None:
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc32: int | None = 0 if crc32 else None
        self._pieces: list[bytes] | None = [] if keep else None
        self._limit = limit

    def update(self, data: bytes) -> None:
        """Raises _CutError when the limit of a `reset` fault is reached."""
        self.size += len(data)
        self._md5.update(data)
        if self._crc32 is not None:
            self._crc32 = zlib.crc32(data, self._crc32)
        if self._pieces is not None:
            self._pieces.append(data)
        if self._limit is not None and self.size >= self._limit:
            raise _CutError

    def body(self) -> bytes | None:
        return None if self._pieces is None else b"".join(self._pieces)

    def etag(self) -> str:
        return self._md5.hexdigest()

    def digests(self) -> dict[str, str]:
        """What a client may have sent to compare with, by header name, in base64."""
        found = {"content-md5": self._md5.digest()}
        if self._crc32 is not None:
            found["x-amz-checksum-crc32"] = self._crc32.to_bytes(4, "big")
        return {name: base64.b64encode(value).decode() for name, value in found.items()}


class _AwsChunks:
    """Decoder of `aws-chunked`: `SIZE[;chunk-signature=..]CRLF DATA CRLF`, a chunk of 0, trailers, CRLF."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self.trailers: dict[str, str] = {}
        self.done = False
        self._sink = sink
        self._pending = bytearray()
        self._left = 0  # bytes of the current chunk, its CRLF included
        self._in_trailers = False

    def feed(self, data: bytes) -> None:
        self._pending += data
        while self._pending and not self.done:
            if not (self._data() if self._left else self._line()):
                return

    # Both return whether they got on. What is malformed never gets on, so it is refused as incomplete.

    def _data(self) -> bool:
        piece = bytes(self._pending[: self._left - 2]) or bytes(self._pending[:2])
        if self._left > 2:
            self._sink(piece)
        elif piece != b"\r\n":
            return False
        del self._pending[: len(piece)]
        self._left -= len(piece)
        return True

    def _line(self) -> bool:
        text, end, _ = self._pending.partition(b"\r\n")
        line = text.decode("latin-1")
        if not end or not (self._in_trailers or _CHUNK_HEAD.match(line)):
            return False
        del self._pending[: len(text) + 2]
        if not self._in_trailers:
            size = int(line.partition(";")[0], 16)
            self._left, self._in_trailers = (size + 2, False) if size else (0, True)
        elif line:
            name, _, value = line.partition(":")
            self.trailers[name.strip().lower()] = value.strip()
        else:
            self.done = True
        return True


@dataclass(slots=True)
class _Call:
    """A request while it is being served."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    operation: str
    target: str = ""
    fault: Fault | None = None
    payload: _Payload = field(default_factory=lambda: _Payload(keep=False))
    chunks: _AwsChunks | None = None

    @property
    def kind(self) -> str:
        """The kind of the request's fault, or ""."""
        return self.fault.kind if self.fault else ""

    def checksums(self) -> dict[str, str]:
        """The checksums that the client gave, as header or trailer."""
        given = {**self.headers, **(self.chunks.trailers if self.chunks else {})}
        about = ("-algorithm", "-mode", "-type")
        return {n: v for n, v in given.items() if n.startswith("x-amz-checksum-") and not n.endswith(about)}

    def object_headers(self) -> dict[str, str]:
        """The headers that belong to the object."""
        return {n: v for n, v in self.headers.items() if n in _OBJECT_HEADERS or n.startswith("x-amz-meta-")}

    def check_key(self, headers: dict[str, str]) -> None:
        """Raises _S3Error unless the client names the customer key that an object's headers require."""
        if _CUSTOMER in headers.keys() ^ self.headers.keys():
            raise _S3Error(400, "InvalidRequest", "Encrypted with a key of the customer, or not: not as you say")
        if headers.get(_CUSTOMER_KEY) != self.headers.get(_CUSTOMER_KEY):
            raise _S3Error(403, "AccessDenied")

    def check(self, owner: str) -> None:
        """Raises _S3Error for a `status` fault, a request that S3 would refuse, and a wrong body."""
        if self.fault and self.fault.kind == "status":
            raise _S3Error(self.fault.status, self.fault.code)
        if self.operation == "Unsupported":
            raise _S3Error(501, "NotImplemented", f"{self.method} {self.bucket}/{self.key} {self.query}")
        try:
            size = len(self.key.encode())
        except UnicodeEncodeError:
            raise _S3Error(400, "InvalidURI", "The key is not UTF-8") from None
        if size > 1024:
            raise _S3Error(400, "KeyTooLongError")
        if self.headers.get("x-amz-expected-bucket-owner", owner) != owner:
            raise _S3Error(403, "AccessDenied")
        self._check_body()

    def _check_body(self) -> None:
        decoded = self.headers.get("x-amz-decoded-content-length")
        if self.chunks and not (self.chunks.done and decoded in (None, str(self.payload.size))):
            raise _S3Error(400, "IncompleteBody", f"{self.payload.size} bytes came instead of {decoded}")
        given = {**self.checksums(), "content-md5": self.headers.get("content-md5", "")}
        promised = self.headers.get("x-amz-trailer", "").lower()
        if promised and promised not in given:
            raise _S3Error(400, "MalformedTrailerError")
        for name, value in self.payload.digests().items():
            if given.get(name) and given[name] != value:
                raise _S3Error(400, "BadDigest", f"The {name} you specified did not match")


class _Bucket:
    """The objects and the multipart uploads of a bucket; knows its keys in UTF-8 binary order.

    `encryption` are the headers of an object whose client asks for none.
    """

    def __init__(self) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.uploads: dict[str, Upload] = {}
        self.encryption: dict[str, str] = {}
        self._sorted: list[str] | None = None

    def put(self, key: str, stored: StoredObject) -> None:
        if key not in self.objects:
            self._sorted = None
        self.objects[key] = stored

    def delete(self, key: str) -> None:
        if self.objects.pop(key, None):
            self._sorted = None

    def encrypted(self, headers: dict[str, str]) -> dict[str, str]:
        """An object's headers, with this bucket's encryption where they name none."""
        return headers if {_ENCRYPTION, _CUSTOMER} & headers.keys() else {**headers, **self.encryption}

    def keys_from(self, prefix: str, after: str) -> Iterator[str]:
        """The keys with `prefix` that come later than `after`."""
        if self._sorted is None:
            self._sorted = sorted(self.objects)  # code points sort like the bytes of their UTF-8
        start = bisect.bisect_left(self._sorted, prefix)
        if after:
            start = max(start, bisect.bisect_right(self._sorted, after))
        keys = itertools.islice(self._sorted, start, None)
        return itertools.takewhile(lambda key: key.startswith(prefix), keys)


class _Store:
    """What S3 knows, and what each operation answers; not thread-safe, and never waits."""

    def __init__(self, min_part_size: int, dialect: Dialect) -> None:
        self.buckets: dict[str, _Bucket] = {}
        self.dialect = dialect
        self.min_part_size = min_part_size
        self._handlers: dict[str, Callable[[_Call], _Reply]] = {
            "HeadBucket": self._head_bucket,
            "CreateBucket": self._create_bucket,
            "ListObjectsV2": self._list_objects,
            "GetBucketEncryption": self._get_encryption,
            "ListMultipartUploads": self._list_uploads,
            "PutObject": self._put_object,
            "HeadObject": self._get_object,
            "GetObject": self._get_object,
            "DeleteObject": self._delete_object,
            "CreateMultipartUpload": self._create_upload,
            "UploadPart": self._upload_part,
            "CompleteMultipartUpload": self._complete_upload,
            "AbortMultipartUpload": self._abort_upload,
            "RestoreObject": self._restore_object,
        }

    def answer(self, call: _Call) -> _Reply:
        """Do what the request wants. Raises _S3Error."""
        return self._handlers[call.operation](call)

    def _bucket(self, call: _Call) -> _Bucket:
        try:
            return self.buckets[call.bucket]
        except KeyError:
            raise _S3Error(404, "NoSuchBucket", "The specified bucket does not exist") from None

    def _head_bucket(self, call: _Call) -> _Reply:
        self._bucket(call)
        return _Reply(headers={"x-amz-bucket-region": "us-east-1"})

    def _get_encryption(self, call: _Call) -> _Reply:
        algorithm = self._bucket(call).encryption.get(_ENCRYPTION, "AES256")
        name = "ApplyServerSideEncryptionByDefault"
        rule = f"<Rule><{name}>{_tag('SSEAlgorithm', algorithm)}</{name}></Rule>"
        return _xml_reply("ServerSideEncryptionConfiguration", rule)

    def _create_bucket(self, call: _Call) -> _Reply:
        self.buckets.setdefault(call.bucket, _Bucket())
        return _Reply(headers={"location": f"/{call.bucket}"})

    def _put_object(self, call: _Call) -> _Reply:
        bucket = self._bucket(call)
        if call.headers.get("if-none-match") == "*" and call.key in bucket.objects:
            raise _S3Error(412, "PreconditionFailed")
        headers = bucket.encrypted(call.object_headers())
        sums = self.dialect.sums(call.checksums())
        stored = _stored(call.payload, headers, sums, wrong=call.kind == "wrong_etag")
        stored.etag = self.dialect.etag(stored.etag)
        if call.kind == "wrong_checksum":
            stored.checksums = _other_checksums(stored.checksums)
        _publish(call, bucket, stored)
        return _stored_reply(stored)

    def _get_object(self, call: _Call) -> _Reply:
        try:
            stored = self._bucket(call).objects[call.key]
        except KeyError:
            raise _S3Error(404, "NoSuchKey", "The specified key does not exist.") from None
        call.check_key(stored.headers)
        headers = {"etag": f'"{stored.etag}"', **stored.headers, "accept-ranges": "bytes"}
        headers["last-modified"] = email.utils.formatdate(stored.last_modified, usegmt=True)
        if call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and stored.checksums:
            headers.update(stored.checksums, **{"x-amz-checksum-type": stored.checksum_type})
        part = _part_range(stored, call.query) if self.dialect.part_numbers else None
        if part is not None:  # a part may be empty
            headers |= {"x-amz-mp-parts-count": str(len(stored.part_sizes))} if stored.part_sizes else {}
        if call.method == "HEAD":
            return _Reply(headers=headers, length=stored.size) if part is None else _range_reply(stored, headers, part)
        if _is_frozen(stored):
            raise _S3Error(403, "InvalidObjectState", "The operation is not valid for the object's storage class")
        if stored.body is None:
            raise _S3Error(501, "NotImplemented", "This server keeps only hashes")
        if call.headers.get("if-match", headers["etag"]).strip('"') != stored.etag:
            raise _S3Error(412, "PreconditionFailed")
        wanted = _byte_range(stored, call.headers.get("range", "")) if part is None else part
        return _Reply(body=stored.body, headers=headers) if wanted is None else _range_reply(stored, headers, wanted)

    def _restore_object(self, call: _Call) -> _Reply:
        """Begin to thaw an object; `S3Server.thaw` ends that."""
        stored = self._bucket(call).objects.get(call.key)
        if stored is None:
            raise _S3Error(404, "NoSuchKey", "The specified key does not exist.")
        storage_class = stored.headers.get("x-amz-storage-class", "STANDARD")
        wants_days = b"<Days>" in (call.payload.body() or b"")
        if storage_class not in _FROZEN_CLASSES:
            raise _S3Error(403, "InvalidObjectState", "Restore is not allowed for the object's current storage class")
        if wants_days and storage_class == "INTELLIGENT_TIERING":
            raise _S3Error(400, "InvalidArgument", "INTELLIGENT_TIERING objects are not subject to restore expiry.")
        if not wants_days and storage_class != "INTELLIGENT_TIERING":
            raise _S3Error(400, "MalformedXML", "The XML you provided was not well-formed")
        if storage_class == "DEEP_ARCHIVE" and b"Expedited" in (call.payload.body() or b""):
            raise _S3Error(400, "InvalidArgument", "Retrieval option is not supported by this storage class")
        state = stored.headers.get(_RESTORE, "")
        if "true" in state:
            raise _S3Error(409, "RestoreAlreadyInProgress", "Object restore is already in progress")
        if not state:
            stored.headers[_RESTORE] = 'ongoing-request="true"'
        return _Reply(200 if state else 202)

    def _delete_object(self, call: _Call) -> _Reply:
        self._bucket(call).delete(call.key)
        return _Reply(204)

    def _list_objects(self, call: _Call) -> _Reply:
        query, bucket, encode = call.query, self._bucket(call), _encoder(call.query)
        if not self.dialect.url_encoding:
            encode = str
        known = self.dialect.start_after and self.dialect.lists == "v2"
        after = query.get("start-after", "") if known else ""
        if token := query.get("continuation-token"):
            after = base64.urlsafe_b64decode(token).decode()
        limit = min(int(query.get("max-keys", _PAGE_KEYS)), _PAGE_KEYS)
        found = list(itertools.islice(bucket.keys_from(query.get("prefix", ""), after), limit + 1))
        page, truncated = found[:limit], 0 < limit < len(found)
        inner = _tag("MaxKeys", str(limit)) + _tag("KeyCount", str(len(page)))
        if truncated and self.dialect.lists == "v2":
            inner += _tag("NextContinuationToken", base64.urlsafe_b64encode(page[-1].encode()).decode())
        with_restores = "RestoreStatus" in call.headers.get("x-amz-optional-object-attributes", "")
        with_restores = with_restores and self.dialect.lists_restores
        inner += "".join(_list_entry(encode(key), bucket.objects[key], with_restores) for key in page)
        return _listing("ListBucketResult", call, inner, truncated=truncated)

    def _list_uploads(self, call: _Call) -> _Reply:
        prefix, encode = call.query.get("prefix", ""), _encoder(call.query)
        uploads = [u for u in self._bucket(call).uploads.values() if u.key.startswith(prefix)]
        if self.dialect.uploads_by_key:
            uploads = [u for u in uploads if u.key == prefix]
        inner = ""
        for upload in sorted(uploads, key=lambda u: (u.key, u.initiated)):
            fields = _tag("Key", encode(upload.key)) + _tag("UploadId", upload.upload_id)
            inner += f"<Upload>{fields}{_tag('Initiated', _iso(upload.initiated))}</Upload>"
        return _listing("ListMultipartUploadsResult", call, inner, truncated=False)

    def _create_upload(self, call: _Call) -> _Reply:
        kind, bucket = call.headers.get("x-amz-checksum-type", "COMPOSITE"), self._bucket(call)
        upload = Upload(uuid.uuid4().hex, call.key, bucket.encrypted(call.object_headers()), kind)
        bucket.uploads[upload.upload_id] = upload
        inner = _tag("Bucket", call.bucket) + _tag("Key", call.key) + _tag("UploadId", upload.upload_id)
        return _xml_reply("InitiateMultipartUploadResult", inner, _encryption_of(upload.headers))

    def _upload(self, call: _Call) -> Upload:
        upload = self._bucket(call).uploads.get(call.query["uploadId"])
        if upload is None or upload.key != call.key:
            raise _S3Error(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        return upload

    def _upload_part(self, call: _Call) -> _Reply:
        upload, number = self._upload(call), call.query.get("partNumber", "")
        if not number.isdecimal() or not 1 <= int(number) <= 10_000:
            raise _S3Error(400, "InvalidArgument", "Part number must be between 1 and 10000")
        call.check_key(upload.headers)
        encryption = _encryption_of(upload.headers)
        sums = self.dialect.sums(call.checksums())
        part = _stored(call.payload, encryption, sums, wrong=call.kind == "wrong_etag")
        if self.dialect.uppercase_etags:
            part.etag = part.etag.upper()
        if call.kind != "drop":
            upload.parts[int(number)] = part
        return _stored_reply(part)

    def _complete_upload(self, call: _Call) -> _Reply:
        upload = self._upload(call)
        stored = _joined(upload, _wanted_parts(upload, call.payload.body() or b"", self.min_part_size))
        if call.kind == "wrong_etag":
            stored.etag = _other_etag(stored.etag)
        stored.etag = self.dialect.etag(stored.etag)
        if given := self.dialect.sums(call.checksums()):
            stored.checksums = given
        if call.kind == "wrong_checksum":
            stored.checksums = _other_checksums(stored.checksums)
        bucket = self._bucket(call)
        del bucket.uploads[upload.upload_id]
        _publish(call, bucket, stored)
        inner = _tag("Location", f"/{call.bucket}/{quote(call.key)}") + _tag("Bucket", call.bucket)
        inner += _tag("Key", call.key) + _tag("ETag", f'"{stored.etag}"') + _checksum_tags(stored)
        return _xml_reply("CompleteMultipartUploadResult", inner, _encryption_of(upload.headers))

    def _abort_upload(self, call: _Call) -> _Reply:
        del self._bucket(call).uploads[self._upload(call).upload_id]
        return _Reply(204)


def _range_reply(stored: StoredObject, headers: dict[str, str], wanted: range) -> _Reply:
    """A part of the object; without its bytes for HEAD, or where only hashes are kept."""
    headers = {**headers, "content-range": f"bytes {wanted.start}-{wanted.stop - 1}/{stored.size}"}
    if len(wanted) < stored.size:  # those of the whole object would not fit
        headers = {name: value for name, value in headers.items() if not name.startswith("x-amz-checksum-")}
    return _Reply(206, (stored.body or b"")[wanted.start : wanted.stop], headers, len(wanted))


def _byte_range(stored: StoredObject, text: str) -> range | None:
    """The bytes that a Range header names; None if there is none. Raises _S3Error."""
    if not (wanted := _RANGE.fullmatch(text)):
        return None
    first, last = int(wanted[1]), min(int(wanted[2] or stored.size), stored.size - 1)
    if first > last:
        raise _S3Error(416, "InvalidRange")
    return range(first, last + 1)


def _part_range(stored: StoredObject, query: Mapping[str, str]) -> range | None:
    """The bytes of the part that a request names; None if it names none. Raises _S3Error."""
    if "partNumber" not in query:
        return None
    number, sizes = int(query["partNumber"]), stored.part_sizes or (stored.size,)
    if not 0 < number <= len(sizes):
        raise _S3Error(416, "InvalidPartNumber", "The requested partnumber is not satisfiable")
    start = sum(sizes[: number - 1])
    return range(start, start + sizes[number - 1])


def _is_frozen(stored: StoredObject) -> bool:
    storage_class = stored.headers.get("x-amz-storage-class", "STANDARD")
    is_archived = storage_class in ("GLACIER", "DEEP_ARCHIVE") or "x-amz-archive-status" in stored.headers
    return is_archived and "false" not in stored.headers.get(_RESTORE, "")


class S3Server:
    """The server on its own thread; every public method may be called from any thread.

    `latency` is what every request waits, in seconds; `rate` (bytes a second) what the line to it takes of all bodies
    together, first come, first served; `owner` the account that `x-amz-expected-bucket-owner` must name;
    `min_part_size` (bytes) what all parts but the last must have. After `stop()`, another `start()` listens on the
    same port and has the same objects: a server that was away. `dialect` may be changed at any time.
    """

    def __init__(
        self,
        keep: Keep = "bytes",
        *,
        port: int = 0,
        latency: float = 0,
        rate: float | None = None,
        ssl_context: ssl.SSLContext | None = None,
        owner: str = "123456789012",
        min_part_size: int = 5 * MIB,
        dialect: Dialect | None = None,
    ) -> None:
        self.dialect = dialect or Dialect()
        self.keep = keep
        self.port = port
        self.latency = latency
        self.rate = rate
        self.owner = owner
        self._ssl = ssl_context
        self._store = _Store(min_part_size, self.dialect)
        # Guards everything below and the store; is notified of each request that is finished or held, and of
        # each connection that ends.
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._headers: list[dict[str, str]] | None = None
        self._counters: Counter[str] = Counter()
        self._faults: list[Fault] = []
        self._gates: list[Gate] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listener: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._bugs: list[BaseException] = []
        self._line_free = 0.0  # when all that was sent so far is through the line, by the loop's clock

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The endpoint URL, without a trailing slash."""
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen. Raises OSError if the port is taken."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="s3server", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        except OSError:
            self.stop()
            raise

    def stop(self) -> None:
        """Cut all connections, forget the gates, end the thread. Raises the first error that was the server's own."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None
        self._gates.clear()  # their events belong to the loop
        if self._bugs:
            raise self._bugs.pop(0)

    def create_bucket(self, bucket: str) -> None:
        """Create `bucket`, unless it exists."""
        with self._changed:
            self._store.buckets.setdefault(bucket, _Bucket())

    def encrypt_by_default(self, bucket: str, algorithm: str, key_id: str = "") -> None:
        """Encrypt what is stored in `bucket` from now on, unless its client asks for something else.

        `algorithm` is `AES256`, `aws:kms` or `aws:kms:dsse`; `key_id` that of a KMS key. Raises KeyError if
        there is no such bucket.
        """
        headers = {_ENCRYPTION: algorithm, **({_KMS_KEY: key_id} if key_id else {})}
        with self._changed:
            self._store.buckets[bucket].encryption = headers

    def put(self, bucket: str, key: str, body: bytes) -> StoredObject:
        """Store an object past HTTP, faults and the log. Raises KeyError if there is no such bucket."""
        payload = _Payload(keep=self.keep == "bytes")
        payload.update(body)
        with self._changed:
            kept_in = self._store.buckets[bucket]
            stored = _stored(payload, kept_in.encrypted({}), {})
            kept_in.put(key, stored)
        return stored

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object past HTTP, faults and the log. Raises KeyError if there is no such bucket."""
        with self._changed:
            self._store.buckets[bucket].delete(key)

    def objects(self, bucket: str) -> dict[str, StoredObject]:
        """The objects now, by key. Raises KeyError if there is no such bucket."""
        with self._changed:
            return dict(self._store.buckets[bucket].objects)

    def uploads(self, bucket: str) -> list[Upload]:
        """The multipart uploads in progress. Raises KeyError if there is no such bucket."""
        with self._changed:
            uploads = self._store.buckets[bucket].uploads.values()
            return [dataclasses.replace(upload, parts=dict(upload.parts)) for upload in uploads]

    def thaw(self, bucket: str, *keys: str) -> None:
        """End the thawing of these objects, or of all that were requested."""
        with self._changed:
            for key, stored in self._store.buckets[bucket].objects.items():
                if (not keys or key in keys) and "true" in stored.headers.get(_RESTORE, ""):
                    stored.headers[_RESTORE] = 'ongoing-request="false", expiry-date="Fri, 21 Dec 2029 00:00:00 GMT"'

    def freeze(self, bucket: str) -> None:
        """End the time for which objects were thawed."""
        with self._changed:
            for stored in self._store.buckets[bucket].objects.values():
                stored.headers.pop(_RESTORE, None)

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in the order in which they were finished."""
        with self._changed:
            return self._requests.copy()

    @contextlib.contextmanager
    def recording_headers(self) -> Iterator[list[dict[str, str]]]:
        """Collect the headers of each request meanwhile, with small letters; `:path` is what it asked for."""
        with self._changed:
            collected: list[dict[str, str]] = []
            self._headers = collected
        try:
            yield collected
        finally:
            self._headers = None

    @property
    def counters(self) -> Counter[str]:
        """The number of finished requests by operation, answered or not."""
        with self._changed:
            return self._counters.copy()

    def add_fault(self, fault: Fault) -> Fault:
        """Add a rule; of those that match a request the first has it."""
        with self._changed:
            self._faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        """Forget all rules; requests that hang already continue to hang."""
        with self._changed:
            self._faults.clear()

    def hold(
        self,
        after: int = 0,
        *,
        method: str | None = "PUT",
        operation: str | None = None,
        key_contains: str | None = None,
    ) -> Gate:
        """Hold all matching requests but the first `after`, until the gate is released."""
        gate = Gate(self, method=method, operation=operation, key_contains=key_contains, skip=after, count=None)
        with self._changed:
            self._gates.append(gate)
        return gate

    def release(self, gate: Gate) -> None:
        """Open a gate, and forget it."""
        with self._changed:
            if gate in self._gates:
                self._gates.remove(gate)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(gate.opened.set)

    def wait_for(self, what: str | Callable[[Request], bool], count: int = 1, timeout: float = 120) -> None:
        """Block until `count` requests of an operation, or that a predicate is true of, are finished.

        A PUT is finished when its object is in `objects()`; requests from before the call count too.
        Raises TimeoutError after `timeout` seconds.
        """
        matches = what if callable(what) else lambda request: request.operation == what
        seen, found = 0, 0

        def enough() -> bool:
            nonlocal seen, found
            found += sum(1 for request in itertools.islice(self._requests, seen, None) if matches(request))
            seen = len(self._requests)
            return found >= count

        self.wait_until(enough, timeout, f"{count} x {what}")

    def wait_disconnected(self, timeout: float = 120) -> None:
        """Block until no client is connected: what killed ones left is stored or dropped. Raises TimeoutError."""
        self.wait_until(lambda: not self._connections, timeout, "end of all connections")

    def wait_until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Block until `condition`, asked after each request or connection, is true. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"no {what} within {timeout} s; finished: {dict(self._counters)}")

    async def _open(self) -> None:
        self._listener = await asyncio.start_server(self._connect, "127.0.0.1", self.port, ssl=self._ssl, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        # asyncio leaks a connection whose acceptance has begun when its listener is closed, or has not begun
        # when it is cancelled. So: accept no more, let all begin, cut everything, and close the listener last.
        listeners = self._listener.sockets if self._listener else ()
        for listener in listeners:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        await asyncio.sleep(0)
        for writer in self._connections.values():
            _reset(writer)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._connections:  # accepted meanwhile, and closed already
            await asyncio.sleep(0)
        if self._listener:
            self._listener.close()
        await asyncio.sleep(0)  # the transports say goodbye in the loop's next round

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own, not asyncio's: its writer must be known even before it runs for the first time.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        with self._changed:
            self._connections[task] = writer
            self._changed.notify_all()
        task.add_done_callback(self._disconnected)

    def _disconnected(self, task: asyncio.Task[None]) -> None:
        with self._changed:
            self._connections.pop(task).close()
            self._changed.notify_all()
        if not task.cancelled() and (error := task.exception()):
            self._bugs.append(error)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            try:
                while await self._exchange(reader, writer):
                    pass
            except _CutError:
                _reset(writer)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether the connection can take another."""
        call = _parse(await reader.readuntil(b"\r\n\r\n"))
        with self._changed:
            call.fault = next((fault for fault in self._faults if fault.takes(call)), None)
        # Like S3, refuse a client that asks first before it sends its body.
        refused = call.kind == "status" and "expect" in call.headers
        try:
            if not refused:
                await self._receive(call, reader, writer)
            if self.latency:
                await asyncio.sleep(self.latency)
            if self.rate:
                await self._pass_line(call.payload.size, self.rate)
            await self._pass_gates(call, reader, writer)
        except (asyncio.IncompleteReadError, OSError, _CutError):
            self._record(call, _NO_ANSWER)
            raise
        if call.kind == "hang":
            self._record(call, _NO_ANSWER)
            while await reader.read(_PIECE_BYTES):  # until the client leaves
                pass
            return False
        reply = self._answer(call)
        close = refused or call.headers.get("connection", "").lower() == "close"
        writer.write(reply.encode(head_only=call.method == "HEAD", close=close))
        if len(reply.body) > _PIECE_BYTES:
            await writer.drain()
        return not close

    async def _receive(self, call: _Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers, fault = call.headers, call.fault
        keep = self.keep == "bytes" or call.method == "POST"  # POST: the list of parts
        crc32 = "x-amz-checksum-crc32" in (*headers, headers.get("x-amz-trailer", "").lower())
        limit = fault.after_bytes if fault and fault.kind == "reset" else None
        rate = fault.rate if fault and fault.kind == "slow" else None
        if limit == 0:
            raise _CutError
        if call.kind == "late" and fault:
            await asyncio.sleep(fault.seconds)
        if rate is not None:  # keep the kernel from taking megabytes in advance
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        if "expect" in headers:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        call.payload = _Payload(keep=keep, crc32=crc32, limit=limit)
        sink = call.payload.update
        if "aws-chunked" in headers.get("content-encoding", ""):
            call.chunks = _AwsChunks(sink)
            sink = call.chunks.feed
        if "chunked" in headers.get("transfer-encoding", ""):
            await _read_http_chunks(reader, sink, rate)
        else:
            await _read_sized(reader, int(headers.get("content-length") or 0), sink, rate)
        if limit is not None:
            raise _CutError

    async def _pass_line(self, size: int, rate: float) -> None:
        """Wait as long as these bytes, and those that came before them, take."""
        now = asyncio.get_running_loop().time()
        self._line_free = max(now, self._line_free) + size / rate
        await asyncio.sleep(self._line_free - now)

    async def _pass_gates(self, call: _Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._changed:
            gate = next((gate for gate in self._gates if gate.takes(call)), None)
            if gate is None:
                return
            gate.held += 1
            self._changed.notify_all()
        await gate.opened.wait()
        if reader.at_eof() or writer.is_closing():
            raise _CutError

    def _answer(self, call: _Call) -> _Reply:
        """Store and record in one step, so that nobody sees one without the other. Raises _CutError."""
        with self._changed:
            try:
                call.check(self.owner)
                self.dialect.check(call)
                reply = self._store.answer(call)
            except _S3Error as error:
                reply = error.reply()
            lost = call.kind == "lost_reply"
            self._record(call, _NO_ANSWER if lost else reply.status)
        if lost:
            raise _CutError
        return reply

    def _record(self, call: _Call, status: int) -> None:
        request = Request(call.method, call.bucket, call.key, call.operation, status, call.payload.size, call.kind)
        with self._changed:
            self._requests.append(request)
            self._counters[call.operation] += 1
            if self._headers is not None:
                self._headers.append({":path": call.target, **call.headers})
            self._changed.notify_all()


def _parse(head: bytes) -> _Call:
    """The request that `head` (request line and headers) begins. Raises ValueError if it is no HTTP."""
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, _version = first.split(" ")
    path, _, query_text = target.partition("?")
    bucket, _, key = path[1:].partition("/")
    if "%" in key:
        key = unquote_to_bytes(key).decode("utf-8", "surrogateescape")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    query = dict(parse_qsl(query_text, keep_blank_values=True)) if query_text else {}
    return _Call(method, bucket, key, query, headers, _operation(method, bucket, key, query, headers), target=target)


def _operation(method: str, bucket: str, key: str, query: dict[str, str], headers: dict[str, str]) -> str:
    unsupported = _UNSUPPORTED_HEADERS & headers.keys()
    if method == "GET" and key:
        unsupported -= {"if-match", "range"}
    if not bucket or _UNSUPPORTED_PARAMETERS & query.keys() or unsupported:
        return "Unsupported"
    table = _OBJECT_OPERATIONS if key else _BUCKET_OPERATIONS
    names = (table.get(f"{method}?{parameter}") for parameter in query)
    return next(filter(None, names), table.get(method, "Unsupported"))


async def _read_sized(reader: asyncio.StreamReader, size: int, sink: Callable[[bytes], None], rate: int | None) -> None:
    piece = _PIECE_BYTES if rate is None else min(_PIECE_BYTES, max(1, rate // 10))
    while size > 0:
        data = await reader.read(min(size, piece))
        if not data:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(data)
        sink(data)
        if rate is not None:
            await asyncio.sleep(len(data) / rate)


async def _read_http_chunks(reader: asyncio.StreamReader, sink: Callable[[bytes], None], rate: int | None) -> None:
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        await _read_sized(reader, size, sink, rate)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST instead of a FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None:  # None: TLS, and closed already
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _publish(call: _Call, bucket: _Bucket, stored: StoredObject) -> None:
    """Make an object visible, as far as the request's fault lets it."""
    if call.kind == "truncate" and call.fault:
        body, size = stored.body, min(stored.size, call.fault.after_bytes)
        stored = dataclasses.replace(stored, body=None if body is None else body[:size], size=size)
    if call.kind != "drop":
        bucket.put(call.key, stored)


def _stored(
    payload: _Payload, headers: dict[str, str], checksums: dict[str, str], *, wrong: bool = False
) -> StoredObject:
    etag = payload.etag()
    if wrong or _is_opaque(headers):
        etag = _other_etag(etag)
    return StoredObject(payload.body(), payload.size, etag, checksums, headers=headers)


def _stored_reply(stored: StoredObject) -> _Reply:
    return _Reply(headers={"etag": f'"{stored.etag}"', **stored.checksums, **_encryption_of(stored.headers)})


def _encryption_of(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name in _ENCRYPTION_HEADERS}


def _other_etag(etag: str) -> str:
    """An ETag that looks right and is not."""
    digest, dash, parts = etag.partition("-")
    return hashlib.md5(digest.encode(), usedforsecurity=False).hexdigest() + dash + parts


def _other_checksums(checksums: dict[str, str]) -> dict[str, str]:
    """Checksums that look right and are not."""
    others = {}
    for name, value in checksums.items():
        digest, dash, parts = value.partition("-")
        other = bytes(byte ^ 0xFF for byte in base64.b64decode(digest))
        others[name] = base64.b64encode(other).decode() + dash + parts
    return others


def _checksum_tags(stored: StoredObject) -> str:
    """The checksums of an object, as the answer to CompleteMultipartUpload has them."""
    tags = [_tag(f"Checksum{n.removeprefix('x-amz-checksum-').upper()}", v) for n, v in stored.checksums.items()]
    return "".join([*tags, _tag("ChecksumType", stored.checksum_type)]) if tags else ""


def _is_opaque(headers: dict[str, str]) -> bool:
    """Whether an object is encrypted so that its ETag is no MD5."""
    return headers.get(_ENCRYPTION, "").startswith("aws:kms") or _CUSTOMER in headers


def _wanted_parts(upload: Upload, body: bytes, min_part_size: int) -> list[StoredObject]:
    """The parts that a CompleteMultipartUpload names. Raises _S3Error."""
    try:
        named = [
            (int(part.findtext("{*}PartNumber", "")), part.findtext("{*}ETag", "").strip('"'))
            for part in ElementTree.fromstring(body).iterfind("{*}Part")
        ]
    except (ElementTree.ParseError, ValueError):
        raise _S3Error(400, "MalformedXML") from None
    numbers = [number for number, _ in named]
    if not named or any(number not in upload.parts or upload.parts[number].etag != etag for number, etag in named):
        raise _S3Error(400, "InvalidPart", "One or more of the specified parts could not be found.")
    if any(later <= number for number, later in itertools.pairwise(numbers)):
        raise _S3Error(400, "InvalidPartOrder")
    parts = [upload.parts[number] for number in numbers]
    if any(part.size < min_part_size for part in parts[:-1]):
        raise _S3Error(400, "EntityTooSmall")
    return parts


def _joined(upload: Upload, parts: list[StoredObject]) -> StoredObject:
    """The object of these parts; with a CRC32 composed of theirs, if that is what the upload asked for."""
    digest = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
    etag = f"{digest.hexdigest()}-{len(parts)}"
    if _is_opaque(upload.headers):
        etag = _other_etag(etag)
    bodies = [part.body for part in parts if part.body is not None]
    body = b"".join(bodies) if len(bodies) == len(parts) else None
    checksums = {}
    sums = [part.checksums.get("x-amz-checksum-crc32") for part in parts]
    if upload.checksum_type == "COMPOSITE" and None not in sums:
        crc32 = zlib.crc32(b"".join(base64.b64decode(value or "") for value in sums))
        checksums["x-amz-checksum-crc32"] = f"{base64.b64encode(crc32.to_bytes(4, 'big')).decode()}-{len(parts)}"
    if upload.checksum_type == "FULL_OBJECT" and None not in sums and body is not None:
        checksums["x-amz-checksum-crc32"] = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    size = sum(part.size for part in parts)
    part_sizes = tuple(part.size for part in parts)
    return StoredObject(body, size, etag, checksums, upload.checksum_type, upload.headers, part_sizes=part_sizes)


def _tag(name: str, text: str) -> str:
    """An XML element. Control characters become references, because a parser would change a bare CR."""
    return f"<{name}>{_XML_SPECIAL.sub(lambda found: f'&#{ord(found[0])};', text)}</{name}>"


def _document(root: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{root}'.encode()


def _xml_reply(root: str, inner: str, headers: dict[str, str] | None = None) -> _Reply:
    body = _document(f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</{root}>')
    return _Reply(body=body, headers={"content-type": "application/xml", **(headers or {})})


def _listing(root: str, call: _Call, inner: str, *, truncated: bool) -> _Reply:
    """A listing of the whole bucket. Raises _S3Error where the client wants it in folders."""
    if call.query.get("delimiter"):
        raise _S3Error(501, "NotImplemented", "No delimiters here")
    about = _tag("Name", call.bucket) + _tag("IsTruncated", str(truncated).lower())
    if "encoding-type" in call.query:
        about += _tag("EncodingType", call.query["encoding-type"])
    return _xml_reply(root, about + inner)


def _list_entry(key: str, stored: StoredObject, with_restores: bool) -> str:
    storage_class = stored.headers.get("x-amz-storage-class", "STANDARD")
    fields = _tag("Key", key) + _tag("LastModified", _iso(stored.last_modified)) + _tag("ETag", f'"{stored.etag}"')
    fields += _tag("Size", str(stored.size)) + _tag("StorageClass", storage_class)
    return f"<Contents>{fields}{_restore_status(stored) if with_restores else ''}</Contents>"


def _restore_status(stored: StoredObject) -> str:
    state = stored.headers.get(_RESTORE, "")
    if not state:
        return ""
    inner = _tag("IsRestoreInProgress", "true" if '"true"' in state else "false")
    if expiry := re.search(r'expiry-date="([^"]+)"', state):
        inner += _tag("RestoreExpiryDate", _iso(email.utils.parsedate_to_datetime(expiry[1]).timestamp()))
    return f"<RestoreStatus>{inner}</RestoreStatus>"


def _encoder(query: dict[str, str]) -> Callable[[str], str]:
    """How the client wants keys in a listing."""
    return quote if query.get("encoding-type") == "url" else str


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; then say how many requests of each operation there were."""
    parser = argparse.ArgumentParser(description="A small S3 server for benchmarks, on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bucket", action="append", default=[])
    parser.add_argument("--keep", choices=("bytes", "hashes"), default="bytes")
    parser.add_argument("--latency", type=float, default=0, help="seconds that every request waits")
    parser.add_argument("--tls_cert")
    parser.add_argument("--tls_key")
    options = parser.parse_args(argv)
    context = None
    if options.tls_cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls_cert, options.tls_key)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before the thread starts, which inherits it
    with S3Server(options.keep, port=options.port, latency=options.latency, ssl_context=context) as server:
        for bucket in options.bucket:
            server.create_bucket(bucket)
        print(f"listening {server.url}", flush=True)
        signal.sigwait(ends)
        print(f"answered {dict(server.counters)}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
