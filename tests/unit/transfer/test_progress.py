"""What a person sees while bytes move: plain lines in logs, and a live display on a real terminal."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from s3sync.transfer.displays import Lines, for_stream
from s3sync.transfer.live_board import BoardDisplay
from s3sync.transfer.progress import ProgressRate, Snapshot, counts, speed
from tests.helpers.terminal import Terminal

START = Snapshot(activity="comparing", files=0, files_total=4000, size=0, size_total=40_000_000, processes=0)
HALF = Snapshot(activity="uploading", files=2000, files_total=4000, size=20_000_000, size_total=40_000_000, processes=3)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# LeaseFiles


@pytest.mark.parametrize(
    ("files", "files_total", "size", "size_total", "fraction"),
    [
        (0, 0, 0, 0, 0),  # nothing is known yet
        (0, 10, 0, 1000, 0),
        (10, 10, 1000, 1000, 1),
        (5, 10, 500, 1000, 0.5),
        (11, 10, 1000, 1000, 1),  # the estimate runs ahead
        (0, 10, 0, 0, 0),
        (5, 10, 0, 0, 0.5),  # empty files
        (1, 1, 0, 10_000_000_000, 0.0001),  # a big file is its bytes,
        (999, 1000, 0, 1000, 0.999),  # small ones are their number
    ],
)
def test_fractions_are_of_the_work(files: int, files_total: int, size: int, size_total: int, fraction: float) -> None:
    snapshot = Snapshot(
        activity="uploading", files=files, files_total=files_total, size=size, size_total=size_total, processes=1
    )
    assert snapshot.fraction == pytest.approx(fraction, abs=0.0001)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    pace = ProgressRate(clock)
    assert pace.rate(0) == 0
    rates = []
    for second in range(1, 101):
        clock.now += 1
        rates.append(pace.rate(1000 * min(second, 50)))
    assert rates[:50] == [1000] * 50
    assert rates[59] == pytest.approx(500, abs=50), "half of the last seconds, nothing came"
    assert rates[-1] == 0
    clock.now += 100
    assert pace.rate(50_000 + 100_000) == pytest.approx(1000, abs=200), "a long silence has a rate, too"


def test_the_rate_is_never_negative_nor_endless() -> None:
    clock = Clock()
    pace = ProgressRate(clock)
    assert [pace.rate(1000), pace.rate(2000)] == [0, 0], "no time has passed"
    clock.now += 1
    assert pace.rate(500) == 0, "files that have to be sent again"


@pytest.mark.parametrize(
    ("seconds", "fraction", "left"),
    [(0, 0.5, None), (1, 0.5, None), (10, 0, None), (10, 0.005, None), (10, 0.5, 10), (30, 0.75, 10), (30, 1, 0)],
)
def test_the_time_left_is_by_the_time_passed(seconds: float, fraction: float, left: float | None) -> None:
    clock = Clock()
    pace = ProgressRate(clock)
    clock.now += seconds
    assert pace.elapsed() == seconds
    assert pace.seconds_left(fraction) == (None if left is None else pytest.approx(left))


def test_lines_of_numbers() -> None:
    clock = Clock()
    pace = ProgressRate(clock)
    pace.rate(0)
    clock.now += 10
    assert counts(HALF) == "uploading 50%: 2,000 of 4,000 files, 20.0 MB of 40.0 MB"
    assert speed(HALF, pace) == "2.0 MB/s, 10 s left, 3 aws processes"
    assert speed(replace(HALF, processes=1), pace).endswith(", 1 aws process")
    assert "left" not in speed(START, pace)
    assert speed(replace(HALF, activity="verifying", processes=None), pace).endswith("MB/s, 10 s left")


def test_no_time_is_left_to_tell_where_no_bytes_are_left() -> None:
    """Objects are still being requested, and nobody knows for how long."""
    clock = Clock()
    pace = ProgressRate(clock)
    clock.now += 10
    ending = replace(HALF, files=3999, size=HALF.size_total)
    assert speed(ending, pace) == "0 B/s, 3 aws processes"
    assert speed(replace(ending, processes=None), pace) == "0 B/s"


def test_lines_of_huge_runs_fit_a_terminal() -> None:
    clock = Clock()
    pace = ProgressRate(clock)
    pace.rate(0)
    clock.now += 359_999
    huge = Snapshot(
        activity="uploading",
        files=999_999,
        files_total=1_000_000,
        size=9_998 * 10**9,
        size_total=9_999 * 10**9,
        processes=128,
    )
    assert max(len(counts(huge)), len(speed(huge, pace))) < 80


# Lines


class Stream(io.StringIO):
    """Says when it has got a number of lines."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self._wanted = wanted
        self.has_enough = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().count("\n") >= self._wanted:
            self.has_enough.set()
        return written


def test_a_line_at_the_start_one_an_interval_and_one_at_the_end() -> None:
    stream = Stream(wanted=4)
    snapshots: Iterator[Snapshot] = iter([START])
    with Lines(stream, seconds=0.001) as lines:
        lines.follow("uploading RUN to s3://lab-runs/RUN/", lambda: next(snapshots, HALF))
        assert stream.has_enough.wait(120)
    first, *middle, last = stream.getvalue().splitlines()
    assert first == "uploading RUN to s3://lab-runs/RUN/: 4,000 files, 40.0 MB"
    assert len(middle) >= 3
    for line in middle:
        assert re.fullmatch(
            r"uploading 50%: 2,000 of 4,000 files, 20\.0 MB of 40\.0 MB, .+/s(, .+ left)?, 3 aws processes", line
        )
    assert re.fullmatch(r"done after \d\.\d s", last)
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_an_upload_shorter_than_an_interval_has_two_lines() -> None:
    stream = io.StringIO()
    with Lines(stream) as lines:
        lines.follow("uploading", lambda: START)
    assert len(stream.getvalue().splitlines()) == 2


def test_a_display_ends_with_another_word_after_an_error() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.follow("uploading", lambda: START)
    lines.__exit__(LookupError, LookupError(), None)
    assert stream.getvalue().splitlines()[-1].startswith("ended after ")


def test_messages_are_printed_at_once_and_nothing_else_without_an_upload() -> None:
    stream = io.StringIO()
    with Lines(stream) as lines:
        lines.print("warning: one")
        assert stream.getvalue() == "warning: one\n"
    assert stream.getvalue() == "warning: one\n"


def test_files_and_pipes_get_lines(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        assert isinstance(for_stream(stream), Lines)
    assert isinstance(for_stream(io.StringIO()), Lines)


# The live display, on a real terminal


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> None:
    """It cannot redraw; without lines it would show nothing for hours."""
    monkeypatch.setenv("TERM", "dumb")
    with os.fdopen(os.dup(terminal.slave), "w") as stream:
        assert isinstance(for_stream(stream), Lines)
        monkeypatch.setenv("TERM", "xterm")
        assert isinstance(for_stream(stream), BoardDisplay)


# The display of a comparison
