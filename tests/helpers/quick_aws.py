"""A double of the AWS CLI that starts in a tenth of its time, for tests of what is not the CLI's own matter.

It knows the commands that this program gives, and answers as version 1 does: the same requests, complaints and exit
codes, as far as this program looks at them (`tests/test_quick_aws.py` compares them with the real ones). It sends one
request after the other, signs nothing, and takes any credentials.
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import http.client
import importlib
import json
import os
import re
import signal
import sys
import types
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.message import Message
from typing import NoReturn
from urllib.parse import quote, unquote, urlencode, urlsplit
from xml.etree import ElementTree

_NS = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_RETRIED = (500, 502, 503, 504)
_CODE_WITHOUT_BODY = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 301: "Moved Permanently"}
_HEADERS = {
    "expected-bucket-owner": "x-amz-expected-bucket-owner",
    "checksum-mode": "x-amz-checksum-mode",
    "sse": "x-amz-server-side-encryption",
    "server-side-encryption": "x-amz-server-side-encryption",
    "sse-kms-key-id": "x-amz-server-side-encryption-aws-kms-key-id",
    "ssekms-key-id": "x-amz-server-side-encryption-aws-kms-key-id",
    "storage-class": "x-amz-storage-class",
    "acl": "x-amz-acl",
}
_OF_OBJECTS = ("sse", "sse-kms-key-id", "storage-class", "acl", "server-side-encryption", "ssekms-key-id")


class Failed(Exception):
    """What the CLI says of a request that failed."""


class _Response:
    def __init__(self, status: int, headers: Message, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.operation = ""

    def xml(self) -> ElementTree.Element:
        """Parse the body; raises Failed as version 1 does, which takes what it cannot parse for an error 500."""
        try:
            return ElementTree.fromstring(self.body)
        except ElementTree.ParseError:
            text = f"An error occurred (500) when calling the {self.operation} operation: Internal Server Error"
            raise Failed(text) from None


class _S3:
    def __init__(self, endpoint: str, options: Mapping[str, str]) -> None:
        self._endpoint = endpoint
        self._given = {_HEADERS[n]: v for n, v in options.items() if n in _HEADERS and n not in _OF_OBJECTS}
        self._attempts = int(os.environ.get("AWS_MAX_ATTEMPTS", "4"))
        self._connection: http.client.HTTPConnection | None = None

    def ask(
        self,
        operation: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Response:
        """Ask until there is an answer other than one that may pass; raises Failed."""
        target = quote(path, safe="/~") + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        for attempt in range(self._attempts):
            last = attempt == self._attempts - 1
            try:
                response = self._once(method, target, body, {**self._given, **(headers or {})})
            except ConnectionRefusedError:
                problem = f'Could not connect to the endpoint URL: "{self._endpoint}{target}"'
            except (OSError, http.client.HTTPException):
                problem = "Connection was closed before we received a valid response from endpoint URL: "
                problem += f'"{self._endpoint}{target}".'
            else:
                if response.status < 300:
                    response.operation = operation
                    return response
                if response.status in _RETRIED and not last:
                    continue
                retried = f" (reached max retries: {attempt})" if response.status in _RETRIED and attempt else ""
                raise Failed(_complaint(operation, response, retried))
            self._connection = None
            if last:
                raise Failed(problem)
        raise AssertionError("it has ended before")

    def _once(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> _Response:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(urlsplit(self._endpoint).netloc)
        self._connection.request(method, target, body, dict(headers))
        response = self._connection.getresponse()
        return _Response(response.status, response.headers, response.read())


def _complaint(operation: str, response: _Response, retried: str) -> str:
    code, message = str(response.status), _CODE_WITHOUT_BODY.get(response.status, "")
    if response.body:
        with contextlib.suppress(Failed):
            error = response.xml()
            code, message = error.findtext("Code", code), error.findtext("Message", message)
    return f"An error occurred ({code}) when calling the {operation} operation{retried}: {message}"


def main(argv: Sequence[str]) -> int:
    """Do what this argv requests; return the exit code."""
    if argv[-1] == "--version":
        print("aws-cli/1.46.0 quick double")
        return 0
    options = dict(word[2:].split("=", 1) for word in argv if word.startswith("--") and "=" in word)
    positional = [word for word in argv if not word.startswith("--")]
    s3 = _S3(options.get("endpoint-url") or os.environ["AWS_ENDPOINT_URL"], options)
    try:
        if positional[:2] == ["s3", "cp"]:
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, _interrupted)
            if positional[3] == "-":
                return _read(s3, positional[2])
            if positional[2].startswith("s3://"):
                return _fetch(s3, positional[2], positional[3], argv)
            return _cp(s3, positional[2], positional[3], options)
        command: Callable[[_S3, Mapping[str, str]], object] = _COMMANDS[positional[1]]
        answer = command(s3, options)
    except Failed as failed:
        print(f"\n{failed}", file=sys.stderr)
        return 254 if str(failed).startswith("An error occurred") else 255
    except _Interrupted:
        print("cancelled: ctrl-c received", file=sys.stderr)
        return 1
    if answer is not _NOTHING:
        print(json.dumps(answer))
    return 0


def fork_if_asked() -> None:
    """Serve as the real CLI does with the plugin `fork_server`, if the program asks for it; then never return."""
    if not os.environ.get("S3SYNC_FORK_SERVER_FD"):
        return
    package, driver = types.ModuleType("awscli"), types.ModuleType("awscli.clidriver")
    package.__version__ = "1.46.0"  # type: ignore[attr-defined]
    driver.main = lambda: main(sys.argv[1:])  # type: ignore[attr-defined]
    sys.modules.update({"awscli": package, "awscli.clidriver": driver})
    sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
    importlib.import_module("s3sync_fork_server").awscli_initialize(None)


_NOTHING = object()


class _Interrupted(BaseException):
    """Ctrl-C; what was begun is aborted on the way out."""


def _interrupted(_signum: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise _Interrupted


# s3 cp


def _cp(s3: _S3, folder: str, url: str, options: Mapping[str, str]) -> int:
    code = 0
    threshold, part_size = _multipart()
    _write_receipt("hello", version="aws-cli/1.46.0", fast=True, reason="")
    headers = {_HEADERS[name]: value for name, value in options.items() if name in _OF_OBJECTS}
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    for path in _files(folder):
        key = os.path.relpath(path, folder)
        shown = f"{os.path.relpath(path)} to {url}{key}"
        if not (os.path.isfile(path) and os.access(path, os.R_OK)):
            why = "File does not exist." if not os.path.exists(path) else "File/Directory is not readable."
            if os.path.exists(path) and not os.path.isfile(path):
                why = "File is character special device, block special device, FIFO, or socket."
            print(f"warning: Skipping file {path}. {why}", file=sys.stderr, flush=True)
            code = code or 2
            continue
        try:
            size = os.stat(path).st_size
            target = f"/{bucket}/{prefix}{key}"
            receipt: dict[str, object] = {"key": f"{prefix}{key}"}
            with open(path, "rb") as stream:
                if size < threshold:
                    content = stream.read(size)
                    sent = s3.ask("PutObject", "PUT", target, None, content, {**headers, **_checksum(content)})
                    _write_receipt("put", **receipt, size=len(content), **_answer(sent.headers), fast=True)
                else:
                    done = _send_in_parts(s3, target, stream.read, _part_size(size, part_size), size, headers)
                    _write_receipt("object", **receipt, **done)
        except (Failed, OSError) as failed:
            print(f"upload failed: {shown} {failed}", file=sys.stderr, flush=True)
            code = 1
        else:
            print(f"upload: {shown}", flush=True)
    return code


def _read(s3: _S3, url: str) -> int:
    try:
        content = s3.ask("GetObject", "GET", f"/{url.removeprefix('s3://')}").body
    except Failed as failed:
        print(f"download failed: {url} to - {failed}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(content)
    return 0


def _fetch(s3: _S3, url: str, target: str, argv: Sequence[str]) -> int:
    """Download an object into a file, or those below a prefix that no --exclude or a later --include names."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    wanted = [(prefix, target)]
    if "--recursive" in argv:
        listed = _list(s3, {"bucket": bucket, "prefix": prefix, "max-items": "1000000", "query": "[Key,Size]"}) or []
        rules = [word[2:].split("=", 1) for word in argv if word.startswith(("--include=", "--exclude="))]
        keys = [str(key) for key, size in listed if not (str(key).endswith("/") and not size)]  # type: ignore[attr-defined]
        wanted = [(key, os.path.join(target, key[len(prefix) :])) for key in keys if _is_included(key, prefix, rules)]
    return max((_fetch_one(s3, bucket, key, path) for key, path in wanted), default=0)


def _is_included(key: str, prefix: str, rules: Sequence[Sequence[str]]) -> bool:
    if ".." in key.split("/"):
        return False
    matching = [kind for kind, pattern in rules if fnmatch.fnmatchcase(key, prefix + pattern)]
    return not matching or matching[-1] == "include"


def _fetch_one(s3: _S3, bucket: str, key: str, path: str) -> int:
    shown = f"s3://{bucket}/{key} to {os.path.relpath(path)}"
    part = f"{path}.{os.urandom(4).hex()}"
    try:
        response = s3.ask("GetObject", "GET", f"/{bucket}/{key}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(part, "wb") as stream:
            stream.write(response.body)
        os.rename(part, path)
    except (Failed, OSError) as failed:
        with contextlib.suppress(OSError):
            os.unlink(part)
        print(f"download failed: {shown} {failed}", file=sys.stderr, flush=True)
        return 1
    print(f"download: {shown}", flush=True)
    return 0


def _send_in_parts(
    s3: _S3, target: str, read: Callable[[int], bytes], part_size: int, size: int, headers: Mapping[str, str]
) -> dict[str, object]:
    """Returns what the receipt says of the object."""
    with_checksums = {"x-amz-checksum-algorithm": "CRC32"} if _checksum(b"") else {}
    begun = s3.ask("CreateMultipartUpload", "POST", target, {"uploads": ""}, None, {**headers, **with_checksums}).xml()
    upload = {"uploadId": begun.findtext(f"{_NS}UploadId", "")}
    try:
        parts = []
        for number in range(1, -(-size // part_size) + 1):
            content = read(part_size)
            crc32 = _checksum(content)
            sent = s3.ask("UploadPart", "PUT", target, {"partNumber": str(number), **upload}, content, crc32)
            _write_receipt("part", key=target.split("/", 2)[2], size=len(content))
            parts.append((number, sent.headers["etag"], "".join(crc32.values())))
        said = "".join(
            f"<Part><ETag>{etag.replace(chr(34), '&quot;')}</ETag><PartNumber>{number}</PartNumber>"
            f"{f'<ChecksumCRC32>{crc}</ChecksumCRC32>' if crc else ''}</Part>"
            for number, etag, crc in parts
        )
        body = f'<CompleteMultipartUpload xmlns="{_NS[1:-1]}">{said}</CompleteMultipartUpload>'.encode()
        done = s3.ask("CompleteMultipartUpload", "POST", target, upload, body)
        return {"etag": done.xml().findtext(f"{_NS}ETag", "").strip('"'), "checksums": {}, **_opaqueness(done.headers)}
    except BaseException:
        s3.ask("AbortMultipartUpload", "DELETE", target, upload)
        raise


def _part_size(size: int, part_size: int) -> int:
    while size / part_size > 10_000:
        part_size *= 2
    return part_size


def _multipart() -> tuple[int, int]:
    """The threshold and the part size that the config has for the profile in use, which every profile has alike."""
    found = {n: int(v) for n, v in re.findall(r"^\s+(multipart_\w+)\s*=\s*(\d+)\s*$", _config(), re.MULTILINE)}
    usual = 8 * 1024 * 1024
    return found.get("multipart_threshold", usual), found.get("multipart_chunksize", usual)


def _config() -> str:
    try:
        with open(os.environ.get("AWS_CONFIG_FILE", ""), encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return ""


def _write_receipt(event: str, **values: object) -> None:
    """Report as `s3sync/aws/cli_plugin.py` does, if the config names it."""
    descriptor = os.environ.get("S3SYNC_RECEIPTS_FD")
    if descriptor and "\n[plugins]\n" in _config():
        with contextlib.suppress(OSError):
            os.write(int(descriptor), json.dumps({"event": event, **values}).encode() + b"\n")


def _answer(headers: Message) -> dict[str, object]:
    names = {name.lower() for name in headers if name.lower().startswith("x-amz-checksum-")} - {"x-amz-checksum-type"}
    checksums = {name.rpartition("-")[2]: headers[name] for name in names}
    return {"etag": headers.get("etag", "").strip('"'), "checksums": checksums, **_opaqueness(headers)}


def _opaqueness(headers: Message) -> dict[str, object]:
    return {"opaque": True} if headers.get("x-amz-server-side-encryption", "").startswith("aws:kms") else {}


def _checksum(content: bytes) -> dict[str, str]:
    if os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION") == "when_required":
        return {}
    crc32 = base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
    return {"x-amz-checksum-crc32": crc32}


def _files(folder: str) -> Iterator[str]:
    for top, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(top, name) for name in sorted(names))


# s3api


def _list(s3: _S3, options: Mapping[str, str]) -> object:
    query = {"list-type": "2", "prefix": options["prefix"], "encoding-type": "url"}
    most = int(options["max-items"])
    wanted = options.get("optional-object-attributes")
    more = {"x-amz-optional-object-attributes": wanted} if wanted else {}
    if after := options.get("start-after"):
        query["start-after"] = after
    found: list[list[object]] = []
    names = _names(options)
    while True:
        page = s3.ask("ListObjectsV2", "GET", f"/{options['bucket']}", query, None, more).xml()
        for item in page.iterfind(f"{_NS}Contents"):
            found.append([_listed(item, name) for name in names])
            if len(found) == most:
                return found
        token = page.findtext(f"{_NS}NextContinuationToken")
        if not token:
            return found or None
        query["continuation-token"] = token


def _listed(item: ElementTree.Element, name: str) -> object:
    if "." in name:
        found = item.findtext("/".join(_NS + part for part in name.split(".")))
        return found == "true" if name.endswith("InProgress") and found else found
    text = item.findtext(_NS + name, "")
    return int(text) if name == "Size" else unquote(text) if name == "Key" else text


def _head(s3: _S3, options: Mapping[str, str]) -> object:
    part = {"partNumber": options["part-number"]} if "part-number" in options else None
    headers = s3.ask("HeadObject", "HEAD", _target(options), part).headers
    names = _names(options)
    values: dict[str, object] = {
        "ContentLength": int(headers["content-length"]),
        "ETag": headers.get("etag"),
        "ServerSideEncryption": headers.get("x-amz-server-side-encryption"),
        "SSECustomerAlgorithm": headers.get("x-amz-server-side-encryption-customer-algorithm"),
        "LastModified": headers.get("last-modified"),
        "StorageClass": headers.get("x-amz-storage-class"),
        "ChecksumType": headers.get("x-amz-checksum-type"),
        "Restore": headers.get("x-amz-restore"),
        "PartsCount": int(headers["x-amz-mp-parts-count"]) if "x-amz-mp-parts-count" in headers else None,
        "ArchiveStatus": headers.get("x-amz-archive-status"),
    }
    for name in names:
        if name.startswith("Checksum") and name not in values:
            values[name] = headers.get(f"x-amz-checksum-{name.removeprefix('Checksum').lower()}")
    return [values.get(name) for name in names]


def _get(s3: _S3, options: Mapping[str, str]) -> object:
    """Read a range of an object; what it is to be written to is /dev/null."""
    wanted = {"range": options["range"]} if "range" in options else {}
    s3.ask("GetObject", "GET", _target(options), None, None, wanted)
    return _NOTHING


def _names(options: Mapping[str, str]) -> list[str]:
    """The fields of a query such as `Contents[].[Key,Size]`."""
    return options["query"].rpartition("[")[2].rstrip("]").split(",")


def _head_bucket(s3: _S3, options: Mapping[str, str]) -> object:
    headers = s3.ask("HeadBucket", "HEAD", f"/{options['bucket']}").headers
    return {"BucketRegion": headers.get("x-amz-bucket-region")}


def _encryption(s3: _S3, options: Mapping[str, str]) -> object:
    found = s3.ask("GetBucketEncryption", "GET", f"/{options['bucket']}", {"encryption": ""}).xml()
    return found.findtext(f".//{_NS}SSEAlgorithm")


def _list_uploads(s3: _S3, options: Mapping[str, str]) -> object:
    query = {"uploads": "", "prefix": options["prefix"], "encoding-type": "url"}
    page = s3.ask("ListMultipartUploads", "GET", f"/{options['bucket']}", query).xml()
    found = [
        [unquote(item.findtext(f"{_NS}Key", "")), item.findtext(f"{_NS}UploadId"), item.findtext(f"{_NS}Initiated")]
        for item in page.iterfind(f"{_NS}Upload")
    ]
    return found or None


def _create_upload(s3: _S3, options: Mapping[str, str]) -> object:
    headers = {_HEADERS[name]: value for name, value in options.items() if name in _OF_OBJECTS}
    begun = s3.ask("CreateMultipartUpload", "POST", _target(options), {"uploads": ""}, None, headers)
    return begun.xml().findtext(f"{_NS}UploadId")


def _abort_upload(s3: _S3, options: Mapping[str, str]) -> object:
    s3.ask("AbortMultipartUpload", "DELETE", _target(options), {"uploadId": options["upload-id"]})
    return _NOTHING


def _restore(s3: _S3, options: Mapping[str, str]) -> object:
    wanted = json.loads(options["restore-request"])
    days = f"<Days>{wanted['Days']}</Days>" if "Days" in wanted else ""
    tier = f"<GlacierJobParameters><Tier>{wanted['GlacierJobParameters']['Tier']}</Tier></GlacierJobParameters>"
    body = f'<RestoreRequest xmlns="{_NS[1:-1]}">{days}{tier}</RestoreRequest>'.encode()
    s3.ask("RestoreObject", "POST", _target(options), {"restore": ""}, body)
    return _NOTHING


def _target(options: Mapping[str, str]) -> str:
    return f"/{options['bucket']}/{options['key']}"


_COMMANDS: dict[str, Callable[[_S3, Mapping[str, str]], object]] = {
    "list-objects-v2": _list,
    "head-object": _head,
    "get-object": _get,
    "head-bucket": _head_bucket,
    "restore-object": _restore,
    "get-bucket-encryption": _encryption,
    "list-multipart-uploads": _list_uploads,
    "create-multipart-upload": _create_upload,
    "abort-multipart-upload": _abort_upload,
}
