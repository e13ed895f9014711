"""Follow a running `aws s3 cp`: its output line by line, and its receipts as they come."""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator
from typing import IO, Protocol

from s3sync.aws.receipts import LineSplitter, Receipt, ReceiptPipe

MAX_LINE = 10_000  # bytes of a line of output that are kept; two paths and an error of S3 take half of that
_READ_BYTES = 64 * 1024


class CopyObserver(Protocol):
    """Gets the events of a process. An exception that it raises ends the process."""

    def started(self, pid: int) -> None:
        """Take the process id, before all other events."""

    def printed(self, line: str) -> None:
        """Take a line of output or errors, without its line feed."""

    def received(self, receipt: Receipt) -> None:
        """Take a receipt, before the line of output about the same file."""


def follow_events(stdout: IO[bytes], pipe: ReceiptPipe) -> Iterator[bytes | Receipt]:
    """Yield receipts and lines of output, without line feeds, until the output ends."""
    lines = LineSplitter(MAX_LINE)
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        selector.register(pipe.reader, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            # Before the receipts: they are written before the lines that name their files.
            chunk = os.read(stdout.fileno(), _READ_BYTES) if stdout.fileno() in ready else None
            while (receipts := pipe.read()) is not None and (found := list(receipts)):
                yield from found
            if receipts is None and pipe.reader in selector.get_map():
                selector.unregister(pipe.reader)
            if chunk is None:
                continue
            yield from lines.feed(chunk)
            if not chunk:
                break
    yield from lines.flush()
    while rest := list(pipe.read() or ()):  # events written before the end of the output
        yield from rest
