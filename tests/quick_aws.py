"""A double of the AWS CLI that starts in a tenth of its time, for tests of what is not the CLI's own matter.

It speaks with the same server, one request after the other, and knows three commands as this program
says them: `s3 cp --recursive`, `s3api list-objects-v2`, `s3api head-object`; and what few tests need: an object
read by `s3 cp`, and multipart uploads listed and aborted.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from urllib.parse import quote, unquote, urlencode, urlsplit
from xml.etree import ElementTree

_PART_BYTES = 8 * 1024 * 1024
_PAGE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class _Unreachable(Exception):
    pass


class _Refused(Exception):
    pass


class _S3:
    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._connection = http.client.HTTPConnection(urlsplit(endpoint).netloc)

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Raises _Unreachable as the CLI would complain."""
        url = quote(path) + (f"?{urlencode(query)}" if query else "")
        try:
            self._connection.request(method, url, body, headers or {})
            response = self._connection.getresponse()
            return response, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise _Unreachable(f'Could not connect to the endpoint URL: "{self._endpoint}{quote(path)}"') from None


def main(argv: Sequence[str]) -> int:
    """Do what these words, the endpoint first, ask for; returns the exit code."""
    if argv[-1] == "--version":
        print("aws-cli/1.0 quick double")
        return 0
    options = dict(word[2:].split("=", 1) for word in argv if word.startswith("--") and "=" in word)
    words = [word for word in argv if not word.startswith("--")]
    s3 = _S3(options["endpoint-url"])
    try:
        return _do(s3, words, options)
    except _Unreachable as error:
        print(f"\n{error}", file=sys.stderr)
        return 255


def _do(s3: _S3, words: Sequence[str], options: dict[str, str]) -> int:
    if words[:2] == ["s3", "cp"]:
        if words[3] == "-":
            return _read(s3, words[2])
        return _cp(s3, words[2], words[3], _headers(options))
    if words[0] != "s3api" or words[1] not in _API:
        raise NotImplementedError(words)
    return _API[words[1]](s3, options)


def _headers(options: dict[str, str]) -> dict[str, str]:
    given = {"x-amz-acl": options.get("acl"), "x-amz-server-side-encryption": options.get("sse")}
    return {name: value for name, value in given.items() if value}


def _read(s3: _S3, url: str) -> int:
    response, content = s3.ask("GET", f"/{url.removeprefix('s3://')}")
    if response.status != 200:
        print(f"download failed: {url} to - An error occurred ({response.status})", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(content)
    return 0


def _begin(s3: _S3, path: str, headers: dict[str, str]) -> str:
    _, begun = s3.ask("POST", path, query={"uploads": ""}, headers=headers)
    return ElementTree.fromstring(begun).findtext(f"{_PAGE}UploadId", "")


def _put(s3: _S3, path: str, content: bytes, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
    if len(content) < _PART_BYTES:
        return s3.ask("PUT", path, body=content, headers=headers)
    upload, named = _begin(s3, path, headers), ""
    for number, start in enumerate(range(0, len(content), _PART_BYTES), 1):
        query = {"uploadId": upload, "partNumber": str(number)}
        part, _ = s3.ask("PUT", path, query=query, body=content[start : start + _PART_BYTES])
        named += f"<Part><PartNumber>{number}</PartNumber><ETag>{part.headers['etag']}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{named}</CompleteMultipartUpload>".encode()
    return s3.ask("POST", path, query={"uploadId": upload}, body=body)


def _encryption(s3: _S3, options: dict[str, str]) -> int:
    _, said = s3.ask("GET", f"/{options['bucket']}", query={"encryption": ""})
    print(json.dumps(ElementTree.fromstring(said).findtext(f".//{_PAGE}SSEAlgorithm")))
    return 0


def _create_upload(s3: _S3, options: dict[str, str]) -> int:
    print(json.dumps(_begin(s3, f"/{options['bucket']}/{options['key']}", _headers(options))))
    return 0


def _abort_upload(s3: _S3, options: dict[str, str]) -> int:
    s3.ask("DELETE", f"/{options['bucket']}/{options['key']}", query={"uploadId": options["upload-id"]})
    return 0


def _list_uploads(s3: _S3, options: dict[str, str]) -> int:
    _, page = s3.ask("GET", f"/{options['bucket']}", query={"uploads": "", "prefix": options["prefix"]})
    found = [
        [upload.findtext(_PAGE + name, "") for name in ("Key", "UploadId", "Initiated")]
        for upload in ElementTree.fromstring(page).iterfind(f"{_PAGE}Upload")
    ]
    print(json.dumps(found or None))
    return 0


def _cp(s3: _S3, folder: str, url: str, headers: dict[str, str]) -> int:
    code = 0
    for path in _files(folder):
        key = os.path.relpath(path, folder)
        if not (os.path.isfile(path) and os.access(path, os.R_OK)):
            print(f"warning: Skipping file {path}. File is special, not there, or not readable.", file=sys.stderr)
            code = code or 2
            continue
        with open(path, "rb") as stream:
            content = stream.read()
        try:
            response, said = _put(s3, f"/{url.removeprefix('s3://')}{key}", content, headers)
            why = "" if response.status == 200 else _error(said, "PutObject")
        except _Unreachable as error:
            why = str(error)
        if not why:
            print(f"upload: {path} to {url}{key}", flush=True)
        else:
            print(f"upload failed: {path} to {url}{key} {why}", file=sys.stderr, flush=True)
            code = 1
    return code


def _error(body: bytes, operation: str) -> str:
    error = ElementTree.fromstring(body)
    code, message = error.findtext("Code"), error.findtext("Message")
    return f"An error occurred ({code}) when calling the {operation} operation: {message}"


def _files(folder: str) -> Iterator[str]:
    for top, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(top, name) for name in sorted(names))


def _list(s3: _S3, options: dict[str, str]) -> int:
    found = []
    try:
        items = list(itertools.islice(_listed(s3, options), int(options["max-items"])))
    except _Refused as error:
        print(f"\n{error}", file=sys.stderr)
        return 254
    for item in items:
        key, size, etag, moment = (item.findtext(_PAGE + name, "") for name in ("Key", "Size", "ETag", "LastModified"))
        found.append([unquote(key), int(size), etag, moment])
    print(json.dumps(found or None))
    return 0


def _listed(s3: _S3, options: dict[str, str]) -> Iterator[ElementTree.Element]:
    query = {"list-type": "2", "prefix": options["prefix"], "encoding-type": "url"}
    if after := options.get("start-after"):
        query["start-after"] = after
    while True:
        response, page = s3.ask("GET", f"/{options['bucket']}", query=query)
        if response.status != 200:
            raise _Refused(_error(page, "ListObjectsV2"))
        tree = ElementTree.fromstring(page)
        yield from tree.iterfind(f"{_PAGE}Contents")
        token = tree.findtext(f"{_PAGE}NextContinuationToken")
        if not token:
            return
        query["continuation-token"] = token


def _head(s3: _S3, options: dict[str, str]) -> int:
    headers = {"x-amz-checksum-mode": "ENABLED"}
    response, _ = s3.ask("HEAD", f"/{options['bucket']}/{options['key']}", headers=headers)
    if response.status != 200:
        print(f"An error occurred ({response.status}) when calling the HeadObject operation", file=sys.stderr)
        return 254
    names = ("x-amz-server-side-encryption", "", "x-amz-checksum-crc32", "last-modified", "x-amz-checksum-sha256")
    size, etag = int(response.headers["content-length"]), response.headers["etag"]
    print(json.dumps([size, etag, *(response.headers.get(name) for name in names), None, None, None]))
    return 0


_API = {
    "list-objects-v2": _list,
    "head-object": _head,
    "head-bucket": lambda _s3, _options: 0,
    "get-bucket-encryption": _encryption,
    "list-multipart-uploads": _list_uploads,
    "create-multipart-upload": _create_upload,
    "abort-multipart-upload": _abort_upload,
}
