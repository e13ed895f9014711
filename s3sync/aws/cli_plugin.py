"""Speed up small files in the AWS CLI's own process, and report what S3 answered.

This file is copied into a private folder, and the CLI loads it as a plugin (`[plugins]` in its config). It uses nothing
but the standard library and what the CLI has imported, and runs on any Python that the CLI runs on (3.8 and later).

The fast path: the CLI's own first `put_object` is the template. The others are copies of the request that S3 accepted,
with another key, body, length, content type, checksum, date and signature, on a connection of the CLI's own HTTP
session. Uncertain cases, and any answer other than a plain 200, are left to the CLI's own `put_object`.

`S3SYNC_RECEIPTS_FD` is the number of an inherited pipe, which gets one JSON object a line:

    {"event": "hello", "version": "aws-cli/1.46.3", "fast": true, "reason": "", "lists": true}
    {"event": "put", "key": "RUN/a", "size": 0, "etag": "d4…", "checksums": {"crc32": "AAAAAA=="}, "fast": true,
     "seconds": 0.03}
    {"event": "part", "key": "RUN/Data/1.cbcl", "size": 8388608}
    {"event": "object", "key": "RUN/Data/1.cbcl", "etag": "d41d…-2", "checksums": {}}
    {"event": "slow", "reason": "…"}

With `"opaque": true` in a `put` or an `object`, the object is encrypted so that its ETag is no MD5.
"""

# ruff: noqa: SLF001 -- a plugin of the CLI works with what the CLI has, and leaves all to it where that is different

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import gc
import hashlib
import hmac
import importlib
import json
import os
import re
import select
import socket
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

RECEIPTS_VARIABLE = "S3SYNC_RECEIPTS_FD"

_KNOWN_VERSIONS = re.compile(r"aws-cli/[12]\.")
_UPLOADS, _LISTING = "s3sync_cli_uploads", "s3sync_cli_listing"  # beside this file
_OWN_PLUGINS = ("s3sync_cli_plugin", "__builtin__", "cli_legacy_plugin_path")
_MAX_FAILURES = 8  # in a row; each costs one request more than without this plugin
_MAX_LESSONS = 40  # files that the CLI may send before there is a template
_BLOCK = 256 * 1024  # bytes that are read at once; the bandwidth limiter counts them
_SMALL = 1024 * 1024  # a body up to this size is read once, and sent together with its headers
_MAX_UNSENT = 1024 * 1024  # bytes of receipts that wait for a slow reader
_MAX_WAITING = 32  # receipts of small files that are written together,
_WAITING_SECONDS = 0.05  # unless the last ones were written longer ago
_MAX_HEAD = 64 * 1024  # bytes of an answer
_PLAIN_TEXT = re.compile(r"[!-~]([ -~]*[!-~])?")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/ ,]+/\d{8}/([a-z0-9-]+)/s3/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature="
)
# Headers that are the same in all requests of a process.
_CONSTANT = re.compile(
    r"user-agent|cache-control|content-(disposition|encoding|language)|expires|transfer-encoding|x-amz-trailer"
    r"|x-amz-(acl|grant-[a-z-]+|expected-bucket-owner|request-payer|storage-class|tagging|sdk-checksum-algorithm)"
    r"|x-amz-(meta-[!-~]+|website-redirect-location|object-lock-[a-z-]+)"
    r"|x-amz-server-side-encryption(-aws-kms-key-id|-bucket-key-enabled|-context)?"
)
_DROPPED = ("expect",)  # with small bodies, waiting for "100 Continue" costs more than it saves
_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_CHECKSUM_HEADER = "x-amz-checksum-"


class UncertainError(Exception):
    """The reason why the CLI's own method must send a file, or all files."""


class Receipts:
    """The pipe to the program that started this process. Without one, or once it is closed, nothing is written."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._unsent = b""
        self._waiting: list[bytes] = []
        self._written = 0.0  # when, of the monotonic clock
        try:
            self._descriptor: int | None = int(environ.get(RECEIPTS_VARIABLE, ""))
        except ValueError:
            self._descriptor = None

    def write(self, event: str, *, may_wait: bool = False, **values: object) -> None:
        """Write one line; with `may_wait` it may wait for others, which are written together. Never raises."""
        if self._descriptor is None:
            return
        try:
            line = json.dumps({"event": event, **values}).encode("ascii") + b"\n"
        except (ValueError, TypeError):
            self._descriptor = None
            return
        with self._lock:
            self._waiting.append(line)
            now = time.monotonic()
            if may_wait and len(self._waiting) < _MAX_WAITING and now < self._written + _WAITING_SECONDS:
                return
            self._written = now
        self.flush()

    def flush(self) -> None:
        """Write the lines that wait. Never raises."""
        try:
            with self._lock:
                if len(self._unsent) < _MAX_UNSENT:
                    self._unsent += b"".join(self._waiting)
                self._waiting.clear()
                while self._unsent and self._descriptor is not None:
                    self._unsent = self._unsent[os.write(self._descriptor, self._unsent) :]
        except BlockingIOError:
            pass  # the next line is sent together with it
        except OSError:
            self._descriptor = None  # the reader has gone


class Digest:
    """A running checksum of the kind that a header names: `content-md5`, or `x-amz-checksum-` and an algorithm."""

    def __init__(self, header: str) -> None:
        name = header[len(_CHECKSUM_HEADER) :] if header.startswith(_CHECKSUM_HEADER) else "md5"
        self._crc = _crc_function(name)
        self._bytes = 8 if name == "crc64nvme" else 4
        self._value = 0
        if self._crc is None and name not in ("md5", "sha1", "sha256"):
            raise UncertainError("unknown checksum " + name)
        self._hash = None if self._crc else hashlib.new(name)

    def update(self, data: bytes) -> None:
        """Add bytes."""
        if self._crc:
            self._value = self._crc(data, self._value)
        elif self._hash:
            self._hash.update(data)

    def text(self) -> str:
        """Return the checksum in base64."""
        raw = self._hash.digest() if self._hash else self._value.to_bytes(self._bytes, "big")
        return base64.b64encode(raw).decode("ascii")


def _crc_function(name: str) -> Callable[[bytes, int], int] | None:
    """Return a function that uses the CPU's instructions: the CLI's own, or that of `isal`. Else CRC-32 is zlib's."""
    found: Callable[[bytes, int], int] | None = None
    if name in ("crc32", "crc32c", "crc64nvme"):
        found = getattr(sys.modules.get("awscrt.checksums"), name, None)
    return _isal_crc32() or zlib.crc32 if name == "crc32" and not found else found


def _isal_crc32() -> Callable[[bytes, int], int] | None:
    """Return the CRC-32 of `isal`, if the CLI's Python has that package, as where s3sync is installed with its CLI."""
    with contextlib.suppress(Exception):
        crc32: Callable[[bytes, int], int] = importlib.import_module("isal.isal_zlib").crc32
        if crc32(b"a test", 7) == zlib.crc32(b"a test", 7):
            return crc32
    return None


class Signer:
    """Signature version 4 for one region. The key of the day is derived once."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._key = b""
        self._key_of: tuple[str, str] = ("", "")

    def authorization(self, path: str, headers: Mapping[str, str], payload: str, keys: Any) -> str:
        """Return the header of a PUT. `headers` are those to sign, by their lower-case names."""
        date = headers["x-amz-date"]
        scope = f"{date[:8]}/{self._region}/s3/aws4_request"
        names = sorted(headers)
        signed = ";".join(names)
        lines = ["PUT", path, ""]
        lines += [name + ":" + headers[name] for name in names]
        lines += ["", signed, payload]
        digest = hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"
        signature = hmac.digest(self._day_key(keys.secret_key, date[:8]), text.encode("ascii"), "sha256").hex()
        return f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"

    def _day_key(self, secret: str, day: str) -> bytes:
        if self._key_of != (secret, day):
            key = ("AWS4" + secret).encode("utf-8")
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.new(key, part.encode("ascii"), "sha256").digest()
            self._key, self._key_of = key, (secret, day)
            return key
        return self._key


class Upload(NamedTuple):
    """What differs in the request for each file. `payload` is the value of X-Amz-Content-SHA256."""

    key: str
    size: int  # bytes
    content_type: str | None
    checksum: str
    payload: str


class Template:
    """A request of the CLI that S3 has accepted. Its copies differ in key, body, content type, date and signature."""

    def __init__(self, request: Any, params: Mapping[str, Any]) -> None:
        """Take a request apart. Raises UncertainError, or any other exception, if it is not as expected."""
        self.url = str(request.url)
        url = urlsplit(self.url)
        path = quote(params["Key"], safe="/~")
        if request.method != "PUT" or url.query or url.fragment or not url.path.endswith(path):
            raise UncertainError("an unexpected URL")
        self._prefix = url.path[: len(url.path) - len(path)]
        self.host = _host_header(url)
        self.others = _others(params)
        self.key = params["Key"]
        headers = _headers_of(request)
        match = _AUTHORIZATION.match(headers.pop("authorization", ""))
        if not match:
            raise UncertainError("the signature is of another kind than version 4 for S3")
        self.signer = Signer(match.group(1))
        self._payload = headers.pop("x-amz-content-sha256")
        self.is_payload_signed = bool(re.match(r"[0-9a-f]{64}\Z", self._payload))
        self.has_trailer = self._payload == _TRAILER
        if not (self.is_payload_signed or self.has_trailer or self._payload == _UNSIGNED):
            raise UncertainError("the payload is signed in another way")
        self.checksum = _checksum_header(headers, has_trailer=self.has_trailer)
        Digest(self.checksum or "content-md5")
        self.crc32 = _crc_function("crc32") if self.checksum == _CHECKSUM_HEADER + "crc32" else None
        self._attempt = re.sub(r"^attempt=\d+", "attempt=1", headers.pop("amz-sdk-request", ""))
        self._has_invocation = bool(headers.pop("amz-sdk-invocation-id", ""))
        for name in ("content-type", "x-amz-date", "x-amz-security-token", "content-length", *_DROPPED):
            headers.pop(name, None)
        self._has_length = headers.pop("x-amz-decoded-content-length", None) is not None
        strange = [name for name in headers if not _CONSTANT.fullmatch(name)]
        if strange:
            raise UncertainError("an unexpected header: " + strange[0])
        self._constant = headers
        signed = set(match.group(2).split(";"))
        self._constant_signed = {name: " ".join(headers[name].split()) for name in headers if name in signed}

    def copy(self, upload: Upload, keys: Any, date: str) -> tuple[str, dict[str, str]]:
        """Return path and headers, all but `Host`, of the request for another file. `date` is as in X-Amz-Date."""
        path = self._prefix + quote(upload.key, safe="/~")
        varying = {"x-amz-date": date, "x-amz-content-sha256": upload.payload}
        if upload.content_type is not None:
            varying["content-type"] = upload.content_type
        if self.checksum and not self.has_trailer:
            varying[self.checksum] = upload.checksum
        if self.has_trailer and self._has_length:
            varying["x-amz-decoded-content-length"] = str(upload.size)
        if keys.token:
            varying["x-amz-security-token"] = keys.token
        signed = {"host": self.host, **self._constant_signed, **varying}
        headers = {**self._constant, **varying}
        headers["authorization"] = self.signer.authorization(path, signed, upload.payload, keys)
        if self._has_invocation:
            headers["amz-sdk-invocation-id"] = str(uuid.UUID(bytes=os.urandom(16), version=4))
        if self._attempt:
            headers["amz-sdk-request"] = self._attempt
        if not self.has_trailer:
            headers["content-length"] = str(upload.size)
        return path, headers

    def payload(self, sha256: str) -> str:
        """Return the X-Amz-Content-SHA256 of a body with this SHA-256."""
        return sha256 if self.is_payload_signed else self._payload

    def encode(self, path: str, headers: Mapping[str, str]) -> bytes:
        """Return the head of a request as bytes."""
        lines = ["PUT " + path + " HTTP/1.1", "Host: " + self.host, "Accept-Encoding: identity"]
        lines += [name + ": " + value for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def rehearse(self, request: Any, params: Mapping[str, Any], keys: Any) -> None:
        """Raise UncertainError unless the copy for the same file is what the CLI has sent."""
        sent = _headers_of(request)
        checksum, payload = sent.get(self.checksum, ""), sent["x-amz-content-sha256"]
        upload = Upload(params["Key"], len(params["Body"]), params.get("ContentType"), checksum, payload)
        path, headers = self.copy(upload, keys, sent["x-amz-date"])
        for name in ("user-agent", "amz-sdk-invocation-id", "amz-sdk-request", *_DROPPED):
            sent.pop(name, None)
            headers.pop(name, None)
        if headers != sent or path != urlsplit(request.url).path:
            different = sorted(name for name in {*headers, *sent} if headers.get(name) != sent.get(name))
            raise UncertainError("requests differ in: " + (", ".join(different) or "URL"))


def _headers_of(request: Any) -> dict[str, str]:
    """Return the headers of a request by their lower-case names. Raises UncertainError for unusual characters."""
    found = {}
    for name, value in request.headers.items():
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        if text and not _PLAIN_TEXT.fullmatch(text):
            raise UncertainError("a header with unusual characters: " + name)
        found[name.lower()] = text
    return found


def _host_header(url: Any) -> str:
    default = {"http": ":80", "https": ":443"}[url.scheme]
    host = str(url.netloc)
    if "@" in host:
        raise UncertainError("credentials in the URL")
    return host[: -len(default)] if host.endswith(default) else host


def _checksum_header(headers: dict[str, str], *, has_trailer: bool) -> str:
    """Remove the checksum from the headers, and return its name; empty if there is none."""
    names = [name for name in headers if name == "content-md5" or name.startswith(_CHECKSUM_HEADER)]
    if has_trailer:
        names.append(headers["x-amz-trailer"])
    if len(names) > 1:
        raise UncertainError("several checksums")
    for name in names:
        headers.pop(name, None)
    return names[0] if names else ""


def _others(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that all files of a process have in common."""
    return {name: value for name, value in params.items() if name not in ("Key", "Body", "ContentType")}


class Connection:
    """A connection of the CLI's HTTP session, with its TLS settings and timeouts, for one thread."""

    def __init__(self, session: Any, url: str) -> None:
        pool = session._manager.connection_from_url(url)
        session._setup_ssl_cert(pool, url, session._verify)
        self._connection = pool._new_conn()
        self._connection.timeout = pool.timeout.connect_timeout
        self._connection.connect()
        self._socket = self._connection.sock
        if not isinstance(self._socket, socket.socket):
            raise UncertainError("an unexpected kind of connection")
        self._socket.settimeout(pool.timeout.read_timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll = select.poll()
        self._poll.register(self._socket.fileno(), select.POLLIN)
        self.send = self._socket.sendall

    def is_stale(self) -> bool:
        """Return whether the server has closed it, or has sent something without a request."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def receive(self) -> tuple[dict[str, str], bool]:
        """Return the headers of a plain 200, and whether the connection can be reused. Raises UncertainError."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = self._socket.recv(_MAX_HEAD)
            data += more
            if not more or len(data) > _MAX_HEAD:
                raise UncertainError("no answer")
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        if not lines[0].startswith("HTTP/1.1 200"):
            raise UncertainError("S3 answered " + lines[0])
        pairs = (line.partition(":") for line in lines[1:])
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if not headers.get("etag"):
            raise UncertainError("S3 sent no ETag")
        is_empty = headers.get("content-length") == "0" and not body and "transfer-encoding" not in headers
        return headers, is_empty and headers.get("connection", "").lower() != "close"


class FastPath:
    """The CLI's `put_object` in a few lines, once a request of the CLI itself can be copied."""

    def __init__(self, client: Any, receipts: Receipts) -> None:
        self._session = client._endpoint.http_session
        self._signer = client._request_signer
        self._receipts = receipts
        self._template: Template | None = None
        self._local = threading.local()
        self._lock = threading.Lock()
        self._failures = 0
        self._lessons = 0
        self.is_on = True
        if self._session._proxy_config.proxy_url_for(client.meta.endpoint_url):
            raise UncertainError("a proxy is in use")
        if self._signer._credentials is None:
            raise UncertainError("requests are not signed")
        client.meta.events.register("before-send.s3.PutObject", self._note)

    def _note(self, request: Any = None, **_more: Any) -> None:
        self._local.request = request

    def forget(self) -> None:
        """Forget the last request of this thread."""
        self._local.request = None

    def learn(self, params: Mapping[str, Any]) -> None:
        """Make the last request of this thread, with which the CLI has succeeded, the template, or compare them."""
        self._lessons += 1
        try:
            template = self._template_from(getattr(self._local, "request", None), params)
        except UncertainError as error:
            self.give_up(str(error))
        except Exception as error:
            self.give_up(f"{type(error).__name__}: {error}")
        else:
            self._template = template or self._template
            if self._lessons > _MAX_LESSONS and not self._template:
                self.give_up("the requests of the AWS CLI cannot be reproduced")

    def _template_from(self, request: Any, params: Mapping[str, Any]) -> Template | None:
        """Return the template that this request makes; None if it was signed with older keys, or the file changed.

        Raises UncertainError if its copies are not what the CLI sends.
        """
        if request is None or self._session._proxy_config.proxy_url_for(request.url):
            raise UncertainError("requests do not go the expected way")
        template = Template(request, params)
        keys = self._signer._credentials.get_frozen_credentials()
        if f" Credential={keys.access_key}/" not in _headers_of(request)["authorization"]:
            return None
        for known in (template, self._template):
            if known and (known.host, known.others) == (template.host, template.others):
                known.rehearse(request, params, keys)
        return template if self._is_checksum_right(template, request, params["Body"]) else None

    def _is_checksum_right(self, template: Template, request: Any, body: Any) -> bool:
        """Return whether the checksums computed here are the CLI's; False also if the file has changed."""
        body.signal_not_transferring()
        try:
            body.seek(0)
            checksum, payload = _digests(template, body)
        finally:
            body.signal_transferring()  # as before: closing the body reports the rest of the progress
        sent = _headers_of(request)
        is_right = not template.checksum or template.has_trailer or sent.get(template.checksum) == checksum
        return is_right and sent["x-amz-content-sha256"] == payload

    def give_up(self, reason: str) -> None:
        """Leave all other files to the CLI, and report that once."""
        with self._lock:
            if self.is_on:
                self.is_on = False
                self._receipts.write("slow", reason=reason[:500])

    def put(self, params: Mapping[str, Any]) -> dict[str, str] | None:
        """Send a file; return the headers of S3's answer, or None if the CLI must send it."""
        template = self._template
        if template is None or not self.is_on or template.others != _others(params):
            return None
        body = params["Body"]
        headers = self._try(lambda: self._send(template, params["Key"], body, params.get("ContentType")))
        if headers is None:
            with contextlib.suppress(Exception):  # the CLI has its own error for a file that is gone
                body.seek(0)  # also takes back the progress
        return headers

    def put_bytes(self, key: str, data: bytes, content_type: str | None) -> dict[str, str] | None:
        """Send a small file with the parameters of the template, in the same way."""
        template = self._template
        if template is None or not self.is_on:
            return None
        return self._try(lambda: self._send_bytes(template, key, data, content_type))

    def has_learned_from(self, key: str) -> bool:
        """Return whether the template is the request for this file."""
        return self._template is not None and self._template.key == key

    def _try(self, send: Callable[[], dict[str, str]]) -> dict[str, str] | None:
        try:
            headers = send()
        except Exception as error:
            self._close()
            self._failures += 1
            if self._failures >= _MAX_FAILURES:
                self.give_up(f"{_MAX_FAILURES} requests in a row failed: {error or type(error).__name__}")
            return None
        except BaseException:
            self._close()
            raise
        self._failures = 0
        return headers

    def _send(self, template: Template, key: str, body: Any, content_type: str | None) -> dict[str, str]:
        size = len(body)
        if size <= _SMALL:
            body.signal_transferring()
            return self._send_bytes(template, key, _read(body, size), content_type)
        if template.has_trailer:
            body.signal_transferring()
        checksum, payload = ("", template.payload("")) if template.has_trailer else _digests(template, body)
        head = self._head(template, Upload(key, size, content_type, checksum, payload))
        connection = self._connection(template.url)
        connection.send(head)
        _send_large(connection, template, body, size)
        return self._receive(connection)

    def _send_bytes(self, template: Template, key: str, data: bytes, content_type: str | None) -> dict[str, str]:
        checksum, payload = _digests_of(template, data)
        head = self._head(template, Upload(key, len(data), content_type, checksum, payload))
        connection = self._connection(template.url)
        if template.has_trailer:
            connection.send(head + _chunk(data) + _last_chunk(template.checksum, checksum))
        else:
            connection.send(head + data)
        return self._receive(connection)

    def _head(self, template: Template, upload: Upload) -> bytes:
        if upload.content_type is not None and not _PLAIN_TEXT.fullmatch(upload.content_type):
            raise UncertainError("an unusual content type")
        keys = self._signer._credentials.get_frozen_credentials()
        path, headers = template.copy(upload, keys, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
        return template.encode(path, headers)

    def _receive(self, connection: Connection) -> dict[str, str]:
        answer, is_reusable = connection.receive()
        if not is_reusable:
            self._close()
        return answer

    def _connection(self, url: str) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None or connection.is_stale():
            self._close()
            connection = self._local.connection = Connection(self._session, url)
        return connection

    def _close(self) -> None:
        connection: Connection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()


def _read(body: Any, size: int) -> bytes:
    """Read all of a small body. Raises UncertainError if its file has become shorter."""
    blocks = []
    left = size
    while left:
        block = body.read(min(left, _BLOCK))
        if not block:
            raise UncertainError("the file has become shorter")
        blocks.append(block)
        left -= len(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _digests_of(template: Template, data: bytes) -> tuple[str, str]:
    """Return the checksum and X-Amz-Content-SHA256 of the request for these bytes."""
    checksum = ""
    if template.crc32:
        checksum = base64.b64encode(template.crc32(data, 0).to_bytes(4, "big")).decode("ascii")
    elif template.checksum:
        digest = Digest(template.checksum)
        digest.update(data)
        checksum = digest.text()
    return checksum, template.payload(hashlib.sha256(data).hexdigest() if template.is_payload_signed else "")


def _digests(template: Template, body: Any) -> tuple[str, str]:
    """Return the checksum and X-Amz-Content-SHA256 of the request for a body, and rewind it."""
    digest = Digest(template.checksum) if template.checksum else None
    payload = hashlib.sha256()
    if digest or template.is_payload_signed:
        for block in iter(lambda: body.read(_BLOCK), b""):
            if digest:
                digest.update(block)
            if template.is_payload_signed:
                payload.update(block)
        body.seek(0)
    return digest.text() if digest else "", template.payload(payload.hexdigest())


def _send_large(connection: Connection, template: Template, body: Any, size: int) -> None:
    """Send a body in blocks, with a checksum after it if the template has one there."""
    body.signal_transferring()
    digest = Digest(template.checksum) if template.has_trailer else None
    left = size
    while left:
        block = body.read(min(left, _BLOCK))
        if not block:
            raise UncertainError("the file has become shorter")
        left -= len(block)
        if digest:
            digest.update(block)
            block = _chunk(block)
        connection.send(block)
    if digest:
        connection.send(_last_chunk(template.checksum, digest.text()))


def _chunk(data: bytes) -> bytes:
    """Return bytes as a chunk of `aws-chunked`, in a chunk of HTTP; empty if there are none."""
    inner = b"%x\r\n%b\r\n" % (len(data), data)
    return b"%x\r\n%b\r\n" % (len(inner), inner) if data else b""


def _last_chunk(name: str, checksum: str) -> bytes:
    inner = b"0\r\n%b:%b\r\n\r\n" % (name.encode("ascii"), checksum.encode("ascii"))
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)


class Client:
    """The CLI's S3 client, with receipts, and with the fast path if that is possible."""

    def __init__(self, client: Any, receipts: Receipts, fast: FastPath | None) -> None:
        self._client = client
        self._receipts = receipts
        self._fast = fast
        self._left_to_cli: set[str | None] = set()  # keys that the fast path could not send
        self._requests: Any = contextlib.nullcontext()  # entered by each that sends a file or a part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @property
    def is_fast(self) -> bool:
        """Return whether the fast path is in use."""
        return self._fast is not None and self._fast.is_on

    def limit(self, requests: int) -> None:
        """Limit how many files and parts are sent at once, on the fast path and by the CLI."""
        self._requests = threading.Semaphore(requests)

    def has_learned_from(self, key: str) -> bool:
        """Return whether the CLI's request for this file is the template."""
        return self._fast is not None and self._fast.has_learned_from(key)

    def leave_to_cli(self, key: str) -> None:
        """Let the CLI's own method send this file, so that its request becomes the template."""
        self._left_to_cli.add(key)

    def send(self, key: str, data: bytes, content_type: str | None) -> bool:
        """Send a small file with the parameters of the template; return False if the CLI must do that."""
        with self._requests:
            began = time.monotonic()
            headers = self._fast.put_bytes(key, data, content_type) if self._fast else None
        if headers is None:
            self.leave_to_cli(key)
            return False
        self._write_put(key, len(data), _answer_of(headers), began, fast=True, may_wait=True)
        return True

    def flush(self) -> None:
        """Write the receipts that still wait."""
        self._receipts.flush()

    def put_object(self, **params: Any) -> Any:
        """Send a file in one request."""
        with self._requests:
            return self._put_object(params)

    def _put_object(self, params: Mapping[str, Any]) -> Any:
        key = params.get("Key")
        size = _size(params.get("Body"))
        is_file = size is not None and hasattr(params.get("Body"), "signal_transferring")
        fast = self._fast if self._fast and self._fast.is_on and is_file else None
        began = time.monotonic()
        headers = fast.put(params) if fast and key not in self._left_to_cli else None
        if headers is not None:
            answer: Any = _answer_of(headers)
            self._write_put(key, size, answer, began, fast=True)
            return {**answer, "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": headers}}
        self._left_to_cli.discard(key)
        if fast:
            fast.forget()
            began = time.monotonic()
        answer = self._client.put_object(**params)
        self._write_put(key, size, answer, began, fast=False)
        if fast:
            fast.learn(params)
        return answer

    def _write_put(
        self,
        key: str | None,
        size: int | None,
        answer: Mapping[str, Any],
        began: float,
        *,
        fast: bool,
        may_wait: bool = False,
    ) -> None:
        """Report an object. Only `SmallUploads` writes what waits at its end, so only what it sends may wait."""
        self._receipts.write(
            "put",
            may_wait=may_wait,
            key=key,
            size=size,
            fast=fast,
            seconds=round(time.monotonic() - began, 4),
            **_identity_of(answer),
        )

    def upload_part(self, **params: Any) -> Any:
        """Send a part of a file."""
        size = _size(params.get("Body"))
        with self._requests:
            answer = self._client.upload_part(**params)
        self._receipts.write("part", key=params.get("Key"), size=size)
        return answer

    def complete_multipart_upload(self, **params: Any) -> Any:
        """Make an object of the parts."""
        answer = self._client.complete_multipart_upload(**params)
        self._receipts.write("object", key=params.get("Key"), **_identity_of(answer))
        return answer


def _answer_of(headers: Mapping[str, str]) -> dict[str, str | None]:
    """Return these headers as the CLI's client does: `ETag`, `ServerSideEncryption`, `ChecksumCRC32`, ..."""
    checksums = (name for name in headers if name.startswith(_CHECKSUM_HEADER))
    return {
        "ETag": headers["etag"],
        "ServerSideEncryption": headers.get("x-amz-server-side-encryption"),
        **{"Checksum" + name[len(_CHECKSUM_HEADER) :].upper(): headers[name] for name in checksums},
    }


def _size(body: Any) -> int | None:
    try:
        return len(body)
    except TypeError:
        return None


def _identity_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a receipt has of an answer: `etag`, `checksums` such as `{"crc32": "AAAAAA=="}`, and `opaque`."""
    checksums = {
        name[len("Checksum") :].lower(): value
        for name, value in answer.items()
        if name.startswith("Checksum") and name.lower() != "checksumtype" and isinstance(value, str)
    }
    is_by_kms = str(answer.get("ServerSideEncryption") or "").startswith("aws:kms")
    is_opaque = is_by_kms or answer.get("SSECustomerAlgorithm")
    etag = str(answer.get("ETag") or "").strip('"')
    return {"etag": etag, "checksums": checksums, **({"opaque": True} if is_opaque else {})}


def _make_client(session: Any, client: Any, receipts: Receipts, *, lists: bool = False) -> Client:
    """Return the client for the CLI's transfer manager, and say hello."""
    version, reason, fast = "", "", None
    try:
        version = session.user_agent().split(" ")[0]
        _require_known(session, version)
        fast = FastPath(client, receipts)
    except UncertainError as error:
        reason = str(error)
    except Exception as error:
        reason = f"unknown version of the AWS CLI ({type(error).__name__}: {error})"
    receipts.write("hello", version=version, fast=fast is not None, reason=reason[:500], lists=lists)
    return Client(client, receipts, fast)


def _require_known(session: Any, version: str) -> None:
    """Raise UncertainError if this CLI is unknown, or does more with each request than this file can know."""
    if not _KNOWN_VERSIONS.match(version):
        raise UncertainError("unknown version of the AWS CLI")
    others = [name for name in session.full_config.get("plugins", {}) if name not in _OWN_PLUGINS]
    if others:
        raise UncertainError("the AWS CLI has another plugin: " + others[0])
    if session.get_scoped_config().get("cli_history") == "enabled":
        raise UncertainError("the AWS CLI records its requests (cli_history)")


def _install(session: Any, receipts: Receipts) -> None:
    """Give the CLI's transfer manager a client with receipts."""
    module = _module_with_transfer_manager()
    manager = module.TransferManager
    lists = False
    with contextlib.suppress(Exception):
        importlib.import_module(_LISTING).install(os.environ)
        lists = True

    def make(client: Any, *args: Any, **more: Any) -> Any:
        ours = _make_client(session, client, receipts, lists=lists)
        made = manager(ours, *args, **more)
        if ours.is_fast:
            with contextlib.suppress(Exception):  # else only the requests are faster
                return importlib.import_module(_UPLOADS).SmallUploads(made, ours)
        return made

    module.TransferManager = make
    with contextlib.suppress(Exception):
        _use_fast_crc32()
    with contextlib.suppress(Exception):
        _check_subscribers_once()
    with contextlib.suppress(Exception):
        _name_folders_once()
    gc.freeze()  # loaded modules never become garbage, so no collection need visit them
    gc.set_threshold(20_000)


def _use_fast_crc32() -> None:
    """Let the CLI compute the CRC-32 of parts with the CPU's instructions, if it would not."""
    name = next(name for name in ("awscli.botocore", "botocore") if name in sys.modules)
    checksums: Any = importlib.import_module(name + ".httpchecksum")
    fast = _isal_crc32()
    if fast and getattr(checksums, "crc32", None) is binascii.crc32:
        checksums.crc32 = fast


def _check_subscribers_once() -> None:
    """Let s3transfer check the methods of each class once, as version 1 does, instead of for each file (0.2 ms)."""
    base: Any = importlib.import_module("s3transfer.subscribers").BaseSubscriber
    check: Any = base.__dict__["_validate_subscriber_methods"].__func__
    if not hasattr(check, "cache_info"):
        once: Any = functools.lru_cache(maxsize=None)(check)
        base._validate_subscriber_methods = classmethod(once)


def _name_folders_once() -> None:
    """Let the CLI compute the relative path of each folder once, instead of for each of its files (0.05 ms)."""
    results: Any = importlib.import_module("awscli.customizations.s3.results")
    handler: Any = importlib.import_module("awscli.customizations.s3.s3handler")
    usual = results.relative_path if hasattr(results, "relative_path") else handler.relative_path
    name_folder = functools.lru_cache(maxsize=1000)(usual)

    def relative_path(filename: Any, *start: Any) -> Any:
        folder, _, name = filename.rpartition("/") if isinstance(filename, str) else ("", "", "")
        return name_folder(folder + "/x")[:-1] + name if folder and name and not start else usual(filename, *start)

    for module in (results, handler):
        if getattr(module, "relative_path", None) is usual:
            module.relative_path = relative_path


def _module_with_transfer_manager() -> Any:
    """Return the module of the CLI that makes the transfer manager, in version 2 or 1."""
    try:
        return importlib.import_module("awscli.customizations.s3.factory")
    except ImportError:
        return importlib.import_module("awscli.customizations.s3.s3handler")


def awscli_initialize(event_hooks: Any) -> None:
    """Wait for `aws s3`; called by the CLI when it loads its plugins. It never raises."""

    def on_s3(session: Any = None, **_more: Any) -> None:
        receipts = Receipts(os.environ)
        try:
            _install(session, receipts)
        except Exception as error:  # the CLI works without it
            receipts.write("hello", version="", fast=False, reason=type(error).__name__)

    with contextlib.suppress(Exception):
        event_hooks.register("building-command-table.s3", on_s3)
