"""Receipts of the plugin: what counts as one, and what a process that writes anything else cannot do."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3sync.aws.client import AwsCli
from s3sync.aws.copy_events import follow_events
from s3sync.aws.launcher import Launcher
from s3sync.aws.receipts import (
    FellBack,
    Hello,
    LineSplitter,
    ObjectStored,
    PartStored,
    Receipt,
    ReceiptPipe,
    parse_receipt,
)
from s3sync.signals import StopRequest

PUT: dict[str, Any] = {"event": "put", "key": "R/a", "size": 3, "etag": "ab", "checksums": {"crc32": "AAAAAA=="}}


@pytest.mark.parametrize(
    ("fields", "receipt"),
    [
        ({"event": "hello", "version": "aws-cli/1.46.3", "fast": True, "reason": ""}, Hello("aws-cli/1.46.3", True)),
        ({"event": "hello", "version": "aws-cli/3", "fast": False, "reason": "new"}, Hello("aws-cli/3", False, "new")),
        ({"event": "slow", "reason": "a proxy"}, FellBack("a proxy")),
        ({"event": "part", "key": "R/ä", "size": 8}, PartStored("R/ä", 8)),
        (PUT, ObjectStored(key="R/a", size=3, etag="ab", crc32="AAAAAA==")),
        (PUT | {"seconds": 0.25}, ObjectStored(key="R/a", size=3, etag="ab", crc32="AAAAAA==", seconds=0.25)),
        (
            PUT | {"opaque": True},
            ObjectStored(key="R/a", size=3, etag="ab", crc32="AAAAAA==", opaque_etag=True),
        ),
        (
            {"event": "object", "key": "R/a", "etag": "ab-2", "checksums": {}},
            ObjectStored(key="R/a", size=None, etag="ab-2"),
        ),
    ],
)
def test_the_events_of_the_protocol(fields: dict[str, object], receipt: Receipt) -> None:
    assert parse_receipt(json.dumps(fields).encode()) == receipt


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"upload: a to b",
        b"\xff\xfe",
        b"[" * 8000,
        b"{}",
        b"[]",
        b"null",
        b'"put"',
        b'{"event": ["put"]}',
        b'{"event": "put"}',
        b'{"event": "delete", "key": "R/a"}',
        json.dumps(PUT | {"size": -1}).encode(),
        json.dumps(PUT | {"size": True}).encode(),
        json.dumps(PUT | {"size": 1.5}).encode(),
        json.dumps(PUT | {"size": "3"}).encode(),
        json.dumps(PUT | {"key": 5}).encode(),
        json.dumps(PUT | {"etag": None}).encode(),
        json.dumps(PUT | {"checksums": {"crc32": 5}}).encode(),
        b'{"event": "part", "key": "R/a", "size": ' + b"9" * 6000 + b"}",
        json.dumps(PUT).encode()[:-1],
    ],
)
def test_anything_else_is_not_a_receipt(line: bytes) -> None:
    assert parse_receipt(line) is None


def test_words_that_may_be_shown_are_bounded_and_printable() -> None:
    hello = parse_receipt(json.dumps({"event": "hello", "version": "x" * 9999, "reason": "\x1b[31m"}).encode())
    assert hello == Hello("x" * 512, False, r"\x1b[31m")


def test_lines_come_whole_and_long_ones_in_pieces() -> None:
    splitter = LineSplitter(10)
    assert splitter.feed(b"one\n\ntw") == [b"one", b""]
    assert splitter.feed(b"o\n" + b"x" * 25) == [b"two", b"x" * 10, b"x" * 10]
    assert splitter.feed(b"y\nend") == [b"xxxxxy"]
    assert (splitter.flush(), splitter.flush()) == ([b"end"], [])


@pytest.fixture
def pipe() -> Iterator[ReceiptPipe]:
    with contextlib.closing(ReceiptPipe()) as pipe:
        yield pipe


def test_a_pipe_that_nobody_reads_never_blocks_its_writer(pipe: ReceiptPipe) -> None:
    line = json.dumps(PUT).encode() + b"\n"
    with contextlib.suppress(BlockingIOError):
        while os.write(pipe.writer, line):
            pass
    assert len(list(pipe.read() or ())) > 100
    assert os.write(pipe.writer, line) == len(line)


def test_the_end_of_a_pipe_is_not_the_lack_of_receipts(pipe: ReceiptPipe) -> None:
    receipts = pipe.read()
    assert receipts is not None
    assert list(receipts) == []
    pipe.close_writer()
    assert pipe.read() is None


class Events(list[object]):
    """Keeps all events in their order."""

    def started(self, pid: int) -> None: ...

    def printed(self, line: str) -> None:
        self.append(line)

    def received(self, receipt: Receipt) -> None:
        self.append(receipt)


def events_of(folder: Path, code: str) -> Events:
    program = folder / "aws"
    program.write_text(f"#!{sys.executable} -S\nimport os, sys\nfd = int(os.environ['S3SYNC_RECEIPTS_FD'])\n{code}\n")
    program.chmod(0o755)
    events = Events()
    assert (
        AwsCli(Launcher(str(program), {"PATH": "/usr/bin:/bin"}), StopRequest())
        .run_streaming(("s3", "cp"), events)
        .succeeded
    )
    return events


def test_receipts_come_before_the_line_about_their_file(tmp_path: Path) -> None:
    line = json.dumps(PUT).encode() + b"\n"
    code = f"for n in range(500):\n    os.write(fd, {line!r})\n    print('upload: a', flush=True)"
    events = events_of(tmp_path, code)
    assert (events.count(parse_receipt(json.dumps(PUT).encode())), events.count("upload: a")) == (500, 500)
    lines = receipts = 0
    for event in events:
        lines, receipts = lines + (event == "upload: a"), receipts + (event != "upload: a")
        assert lines <= receipts


class LatePipe(ReceiptPipe):
    """A file is sent right after the receipts were read for the first time."""

    def __init__(self, output: int) -> None:
        super().__init__()
        self._output = output

    def read(self) -> Iterator[Receipt] | None:
        found = super().read()
        if self._output >= 0:
            os.write(self.writer, json.dumps(PUT).encode() + b"\n")
            os.write(self._output, b"upload: a\n")
            os.close(self._output)
            self._output = -1
        return found


def test_a_receipt_comes_first_though_its_file_is_sent_while_receipts_are_read() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"upload: before\n")
    with os.fdopen(reader, "rb") as stdout, contextlib.closing(LatePipe(writer)) as pipe:
        events = list(follow_events(stdout, pipe))
    assert events == [b"upload: before", parse_receipt(json.dumps(PUT).encode()), b"upload: a"]


@pytest.mark.parametrize("rest", ["", "os.close(fd)", "os.write(fd, b'x' * 100_000)", "os.write(fd, b'{')"])
def test_a_process_ends_as_usual_no_matter_how_it_uses_the_pipe(tmp_path: Path, rest: str) -> None:
    assert events_of(tmp_path, f"{rest}\nprint('end')") == ["end"]
