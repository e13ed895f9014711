"""Speed up small files in the AWS CLI's own process, and report what S3 answered.

This file is copied into a private folder, and the CLI loads it as a plugin (`[plugins]` in its config). It uses nothing
but the standard library and what the CLI has imported, and runs on any Python that the CLI runs on. Whatever it cannot
do, the CLI does in its usual way.

`S3SYNC_RECEIPTS_FD` is the number of an inherited pipe, which gets one JSON object a line:

    {"event": "hello", "version": "aws-cli/1.46.3", "fast": true, "reason": ""}
    {"event": "put", "key": "RUN/a.xml", "size": 0, "etag": "d41d…", "checksums": {"crc32": "AAAAAA=="}, "fast": true}
    {"event": "part", "key": "RUN/Data/1.cbcl", "size": 8388608}
    {"event": "object", "key": "RUN/Data/1.cbcl", "etag": "d41d…-2", "checksums": {}}
    {"event": "slow", "reason": "…"}
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import threading
from collections.abc import Mapping
from typing import Any

RECEIPTS_VARIABLE = "S3SYNC_RECEIPTS_FD"
_CHECKSUM = "Checksum"


class Receipts:
    """The pipe to the program that started this process. Without one, or once it is closed, nothing is written."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        try:
            self._descriptor: int | None = int(environ.get(RECEIPTS_VARIABLE, ""))
        except ValueError:
            self._descriptor = None

    def write(self, event: str, **values: object) -> None:
        """Write one line. It never raises."""
        if self._descriptor is None:
            return
        try:
            line = json.dumps({"event": event, **values}).encode("ascii") + b"\n"
            with self._lock:
                while line:
                    line = line[os.write(self._descriptor, line) :]
        except (OSError, ValueError, TypeError):
            self._descriptor = None  # nobody reads any more


class Client:
    """The CLI's S3 client, with receipts."""

    def __init__(self, client: Any, receipts: Receipts) -> None:
        self._client = client
        self._receipts = receipts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_object(self, **params: Any) -> Any:
        """Send a file in one request."""
        answer = self._client.put_object(**params)
        self._receipts.write(
            "put",
            key=params.get("Key"),
            size=_size(params.get("Body")),
            etag=_etag(answer),
            checksums=_checksums(answer),
            fast=False,
        )
        return answer

    def upload_part(self, **params: Any) -> Any:
        """Send a part of a file."""
        answer = self._client.upload_part(**params)
        self._receipts.write("part", key=params.get("Key"), size=_size(params.get("Body")))
        return answer

    def complete_multipart_upload(self, **params: Any) -> Any:
        """Make an object of the parts."""
        answer = self._client.complete_multipart_upload(**params)
        self._receipts.write("object", key=params.get("Key"), etag=_etag(answer), checksums=_checksums(answer))
        return answer


def _size(body: Any) -> int | None:
    try:
        return len(body)
    except TypeError:
        return None


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("ETag") or "").strip('"')


def _checksums(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksums of an answer by name, e.g. `{"crc32": "AAAAAA=="}`."""
    return {
        name[len(_CHECKSUM) :].lower(): value
        for name, value in answer.items()
        if name.startswith(_CHECKSUM) and name != "ChecksumType" and isinstance(value, str)
    }


def _install(session: Any, receipts: Receipts) -> None:
    """Give the CLI's transfer manager a client with receipts."""
    version = session.user_agent().split(" ")[0]
    module = _module_with_transfer_manager()
    manager = module.TransferManager

    def make(client: Any, *args: Any, **more: Any) -> Any:
        receipts.write("hello", version=version, fast=False, reason="not implemented")
        return manager(Client(client, receipts), *args, **more)

    module.TransferManager = make


def _module_with_transfer_manager() -> Any:
    """Return the CLI's module that makes the transfer manager: that of version 2, or that of version 1."""
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
