"""What a person sees while bytes move: plain lines in logs, and a live display on a real terminal."""

from __future__ import annotations

import codecs
import io
import os
import pty
import re
import select
import signal
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3sync.transfer.progress import Lines, LiveDisplay, Pace, Snapshot, counts, display_for, speed
from tests.helpers.lab import BUCKET, Lab, tree
from tests.helpers.s3server import S3Server

START = Snapshot("comparing", 0, 4000, 0, 40_000_000, 0)
HALF = Snapshot("uploading", 2000, 4000, 20_000_000, 40_000_000, 3)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# Numbers


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
    snapshot = Snapshot("uploading", files, files_total, size, size_total, 1)
    assert snapshot.fraction == pytest.approx(fraction, abs=0.0001)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    pace = Pace(clock)
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
    pace = Pace(clock)
    assert [pace.rate(1000), pace.rate(2000)] == [0, 0], "no time has passed"
    clock.now += 1
    assert pace.rate(500) == 0, "files that have to be sent again"


@pytest.mark.parametrize(
    ("seconds", "fraction", "left"),
    [(0, 0.5, None), (1, 0.5, None), (10, 0, None), (10, 0.005, None), (10, 0.5, 10), (30, 0.75, 10), (30, 1, 0)],
)
def test_the_time_left_is_by_the_time_passed(seconds: float, fraction: float, left: float | None) -> None:
    clock = Clock()
    pace = Pace(clock)
    clock.now += seconds
    assert pace.elapsed() == seconds
    assert pace.seconds_left(fraction) == (None if left is None else pytest.approx(left))


def test_lines_of_numbers() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.rate(0)
    clock.now += 10
    assert counts(HALF) == "uploading 50%: 2,000 of 4,000 files, 20.0 MB of 40.0 MB"
    assert speed(HALF, pace) == "2.0 MB/s, 10 s left, 3 aws processes"
    assert speed(HALF._replace(processes=1), pace).endswith(", 1 aws process")
    assert "left" not in speed(START, pace)
    assert speed(HALF._replace(activity="verifying", processes=None), pace).endswith("MB/s, 10 s left")


def test_no_time_is_left_to_tell_where_no_bytes_are_left() -> None:
    """Objects are still asked for, which nobody can know the end of."""
    clock = Clock()
    pace = Pace(clock)
    clock.now += 10
    ending = HALF._replace(files=3999, size=HALF.size_total)
    assert speed(ending, pace) == "0 B/s, 3 aws processes"
    assert speed(ending._replace(processes=None), pace) == "0 B/s"


def test_lines_of_huge_runs_fit_a_terminal() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.rate(0)
    clock.now += 359_999
    huge = Snapshot("uploading", 999_999, 1_000_000, 9_998 * 10**9, 9_999 * 10**9, 128)
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
        assert stream.has_enough.wait(30)
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


def test_an_error_ends_it_with_another_word() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.follow("uploading", lambda: START)
    lines.__exit__(LookupError, LookupError(), None)
    assert stream.getvalue().splitlines()[-1].startswith("ended after ")


def test_what_is_said_is_said_at_once_and_nothing_else_without_an_upload() -> None:
    stream = io.StringIO()
    with Lines(stream) as lines:
        lines.say("warning: one")
        assert stream.getvalue() == "warning: one\n"
    assert stream.getvalue() == "warning: one\n"


def test_files_and_pipes_get_lines(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        assert isinstance(display_for(stream), Lines)
    assert isinstance(display_for(io.StringIO()), Lines)


# The live display, on a real terminal

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
CONTROL = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[@-_])")
COLUMNS = 80


class Terminal:
    """A pseudo-terminal of 80 columns, and what was written to it."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, COLUMNS)) if hasattr(termios, "tcsetwinsize") else self._set_size()
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode  # a read may end within a character

    def _set_size(self) -> None:  # Python 3.10
        subprocess.run(("stty", "rows", "24", "columns", str(COLUMNS)), stdin=self.slave, check=True)

    def read_until(self, pattern: str) -> None:
        """Read until the whole text has it; a display draws a few times a second."""
        for _ in range(500):
            if re.search(pattern, self.text):
                return
            assert select.select([self._master], [], [], 30)[0], f"no {pattern} in {self.text!r}"
            self.text += self._decode(os.read(self._master, 65536))
        raise AssertionError(f"no {pattern} in {self.text!r}")

    def wait(self, process: subprocess.Popen[str]) -> str:
        """Read until the process has ended, and give its stdout."""
        for _ in range(2000):
            if select.select([self._master], [], [], 0.05)[0]:
                self.text += self._decode(os.read(self._master, 65536))
            elif process.poll() is not None:
                return process.communicate()[0]
        raise AssertionError(f"it does not end: {self.text!r}")

    def close(self) -> None:
        os.close(self._master)
        os.close(self.slave)

    def screen(self) -> list[str]:
        """What stands there in the end: an 80-column terminal that knows `\\r`, cursor up, and erase line."""
        rows, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[0-9;?]*[@-~]|\n|\r|[^\x1b\n\r]+", self.text):
            if part == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif part == "\r":
                column = 0
            elif part.startswith("\x1b["):
                count = int(part[2:-1]) if part[2:-1].isdigit() else 1
                row -= count if part[-1] == "A" else 0
                rows[row] = "" if part == "\x1b[2K" else rows[row]
            else:
                rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
                column += len(part)
        return [line.rstrip() for line in rows]

    def drawn(self) -> list[str]:
        """Every line that was ever drawn, without its colours."""
        return [CONTROL.sub("", line) for line in re.split(r"[\r\n]+", self.text)]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def upload_on(terminal: Terminal, lab: Lab, run: Path, **env: str) -> subprocess.Popen[str]:
    environ = {"TERM": "xterm-256color", **env}
    return lab.start(*lab.words(run, "--cores", "2"), env=environ, stderr=terminal.slave)


def check_terminal_is_as_before(terminal: Terminal) -> None:
    assert terminal.text.count(HIDE_CURSOR) == terminal.text.count(SHOW_CURSOR)
    assert terminal.text.rfind(SHOW_CURSOR) >= terminal.text.rfind(HIDE_CURSOR)
    assert termios.tcgetattr(terminal.slave) == terminal.before
    drawn = [line for line in terminal.drawn() if not line.startswith("s3sync: ")]  # the last word may be long
    assert all(len(line) <= COLUMNS for line in drawn)


def test_the_display_lives_while_bytes_move_and_is_gone_at_the_end(
    lab: Lab, server: S3Server, small_run: Path, terminal: Terminal
) -> None:
    with server.hold(after=10) as gate:
        process = upload_on(terminal, lab, small_run)
        gate.wait_held(1)
        terminal.read_until(r"(?s)uploading \d+%: .* [1-9]\d* aws process")
        gate.release()
        out = terminal.wait(process)

    assert process.returncode == 0
    text = "\n".join(terminal.drawn())
    assert f"uploading {small_run.name} to s3" in text
    assert re.search(rf"uploading \d+%: \d+ of {len(tree(small_run))} files, [\d.]+ k?B of [\d.]+ [kM]B", text)
    assert re.search(r"/s(, .* left)?, [12] aws process", text)
    assert "━" in text, "a bar"
    assert HIDE_CURSOR in terminal.text
    check_terminal_is_as_before(terminal)
    assert "".join(terminal.screen()) == "", "nothing of it is left"
    assert out.startswith(f"uploaded: {small_run.name}\n")
    assert "\x1b" not in out


def test_a_warning_stays_above_it(lab: Lab, server: S3Server, small_run: Path, terminal: Terminal) -> None:
    words = lab.words(small_run, "--exclude_patterns", "no such thing")
    process = lab.start(*words, env={"TERM": "xterm"}, stderr=terminal.slave)
    terminal.wait(process)
    assert "".join(terminal.screen()) == "warning: exclude pattern 'no such thing' matches nothing"
    check_terminal_is_as_before(terminal)


def test_an_interrupted_display_gives_the_terminal_back(
    lab: Lab, server: S3Server, small_run: Path, terminal: Terminal
) -> None:
    with server.hold(after=10) as gate:
        process = upload_on(terminal, lab, small_run)
        gate.wait_held(1)
        terminal.read_until(r"uploading \d+%: ")
        process.send_signal(signal.SIGINT)
        gate.release()
        out = terminal.wait(process)

    assert (process.returncode, out) == (130, "")
    check_terminal_is_as_before(terminal)
    rows = [line for line in terminal.screen() if line]
    assert rows[0].startswith("s3sync: interrupted by SIGINT: ")
    assert "uploading" not in "".join(rows)


def test_without_colours_there_are_none(lab: Lab, server: S3Server, small_run: Path, terminal: Terminal) -> None:
    with server.hold(after=10) as gate:
        process = upload_on(terminal, lab, small_run, NO_COLOR="1")
        gate.wait_held(1)
        terminal.read_until(r"uploading \d+%: ")
        gate.release()
        terminal.wait(process)
    assert process.returncode == 0
    assert not re.search(r"\x1b\[[0-9;]*(3|4|9|10)[0-8][;m]", terminal.text)
    check_terminal_is_as_before(terminal)


def test_a_dumb_terminal_gets_no_control_characters(
    lab: Lab, server: S3Server, small_run: Path, terminal: Terminal
) -> None:
    process = upload_on(terminal, lab, small_run, TERM="dumb")
    out = terminal.wait(process)
    assert (process.returncode, out.splitlines()[0]) == (0, f"uploaded: {small_run.name}")
    assert re.sub(r"\r?\n", "", terminal.text).isprintable()


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> None:
    """It cannot draw anew; without lines it would show nothing at all for hours."""
    monkeypatch.setenv("TERM", "dumb")
    with os.fdopen(os.dup(terminal.slave), "w") as stream:
        assert isinstance(display_for(stream), Lines)
        monkeypatch.setenv("TERM", "xterm")
        assert isinstance(display_for(stream), LiveDisplay)


# The display of a comparison


def verify_on(terminal: Terminal, lab: Lab, run: Path, *words: str) -> subprocess.Popen[str]:
    words = ("verify", str(run), "--bucket", BUCKET, "--skip_check", "--cores", "2", *words)
    return lab.start(*words, env={"TERM": "xterm-256color"}, stderr=terminal.slave)


def test_while_s3_is_asked_about_some_files_the_next_are_hashed(
    lab: Lab, server: S3Server, tmp_path: Path, terminal: Terminal
) -> None:
    """1,000 files are compared at a time; of the first of them the listing does not say enough."""
    run = tmp_path / "run"
    run.mkdir()
    for number in range(1100):
        (run / f"{number:04}").write_text("x")
        server.put(BUCKET, f"run/{number:04}", b"x")
    server.put(BUCKET, "run/0000", b"y")

    with server.hold(method="HEAD") as gate:
        process = verify_on(terminal, lab, run)
        gate.wait_held(1)
        terminal.read_until(r"asking S3 \d+%: 1,099 of 1,100 files, 1.1 kB of 1.1 kB")
        gate.release()
        out = terminal.wait(process)

    assert process.returncode == 1
    assert out.startswith("1,099 of 1,100 files, 1.1 kB identical; NOT safe")
    assert f"verifying run in s3://{BUCKET}/run/" in terminal.text
    assert "aws process" not in terminal.text
    check_terminal_is_as_before(terminal)
    assert "".join(terminal.screen()) == "", "nothing of it is left"


def test_the_bytes_of_a_large_file_are_counted_as_they_are_hashed_and_a_signal_ends_it(
    lab: Lab, server: S3Server, tmp_path: Path, terminal: Terminal
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with (run / "large.cbcl").open("wb") as stream:
        stream.truncate(100 * 10**9)  # takes minutes to hash
    (stored := server.put(BUCKET, "run/large.cbcl", b"")).size = 100 * 10**9
    stored.etag = f"{'0' * 32}-5961"  # as the CLI cuts it: one part size to try

    process = verify_on(terminal, lab, run, "--manifest", str(tmp_path / "m.tsv"))
    terminal.read_until(r"verifying \d+%: 0 of 1 files, [1-9][\d.]* [MG]B of 100.0 GB")
    process.send_signal(signal.SIGTERM)
    out = terminal.wait(process)

    assert (process.returncode, out) == (143, "")
    check_terminal_is_as_before(terminal)
    assert [line for line in terminal.screen() if line] == ["s3sync: interrupted by SIGTERM"]
    assert not list(tmp_path.glob("*m.tsv*"))
    assert list(lab.tmp.iterdir()) == []
