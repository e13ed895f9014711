"""A double of the AWS CLI that starts in a tenth of its time, for tests of what is not the CLI's own matter.

It speaks with the same server, one request after the other, and knows three commands as this program
says them: `s3 cp --recursive`, `s3api list-objects-v2`, `s3api head-object`. It sends no file in parts.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Iterator, Sequence
from urllib.parse import quote, unquote, urlencode, urlsplit
from xml.etree import ElementTree

_PAGE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class _S3:
    def __init__(self, endpoint: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(endpoint).netloc)

    def ask(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self._connection.request(method, quote(path) + (f"?{urlencode(query)}" if query else ""), body)
        response = self._connection.getresponse()
        return response, response.read()


def main(argv: Sequence[str]) -> int:
    """Do what these words, the endpoint first, ask for; returns the exit code."""
    if argv[-1] == "--version":
        print("aws-cli/1.0 quick double")
        return 0
    options = dict(word[2:].split("=", 1) for word in argv if word.startswith("--") and "=" in word)
    words = [word for word in argv if not word.startswith("--")]
    s3 = _S3(options["endpoint-url"])
    if words[:2] == ["s3", "cp"]:
        return _cp(s3, words[2], words[3])
    if words == ["s3api", "list-objects-v2"]:
        return _list(s3, options)
    if words == ["s3api", "head-object"]:
        return _head(s3, options)
    raise NotImplementedError(words)


def _cp(s3: _S3, folder: str, url: str) -> int:
    code = 0
    for path in _files(folder):
        key = os.path.relpath(path, folder)
        if not (os.path.isfile(path) and os.access(path, os.R_OK)):
            print(f"warning: Skipping file {path}. File is special, not there, or not readable.", file=sys.stderr)
            code = code or 2
            continue
        with open(path, "rb") as stream:
            content = stream.read()
        response, said = s3.ask("PUT", f"/{url.removeprefix('s3://')}{key}", body=content)
        if response.status == 200:
            print(f"upload: {path} to {url}{key}")
        else:
            print(f"upload failed: {path} to {url}{key} {said.decode()}", file=sys.stderr)
            code = 1
    return code


def _files(folder: str) -> Iterator[str]:
    for top, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(top, name) for name in sorted(names))


def _list(s3: _S3, options: dict[str, str]) -> int:
    found = []
    for item in _listed(s3, options):
        key, size, etag = (item.findtext(_PAGE + name, "") for name in ("Key", "Size", "ETag"))
        found.append([unquote(key), int(size), etag])
        if len(found) == int(options["max-items"]):
            break
    print(json.dumps(found or None))
    return 0


def _listed(s3: _S3, options: dict[str, str]) -> Iterator[ElementTree.Element]:
    query = {"list-type": "2", "prefix": options["prefix"], "encoding-type": "url"}
    if after := options.get("start-after"):
        query["start-after"] = after
    while True:
        response, page = s3.ask("GET", f"/{options['bucket']}", query=query)
        assert response.status == 200, page
        tree = ElementTree.fromstring(page)
        yield from tree.iterfind(f"{_PAGE}Contents")
        token = tree.findtext(f"{_PAGE}NextContinuationToken")
        if not token:
            return
        query["continuation-token"] = token


def _head(s3: _S3, options: dict[str, str]) -> int:
    response, _ = s3.ask("HEAD", f"/{options['bucket']}/{options['key']}")
    if response.status != 200:
        print(f"An error occurred ({response.status}) when calling the HeadObject operation", file=sys.stderr)
        return 254
    print(json.dumps([int(response.headers["content-length"]), response.headers["etag"], None, None, None]))
    return 0
