"""What a terminal shows while a run is uploaded or verified."""

from __future__ import annotations

import re
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.lab import BUCKET, Lab, tree
from tests.helpers.s3server import S3Server
from tests.helpers.terminal import COLUMNS, Terminal

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def upload_on(terminal: Terminal, lab: Lab, run: Path, **env: str) -> subprocess.Popen[str]:
    environ = {"TERM": "xterm-256color", **env}
    return lab.start(*lab.upload_argv(run, "--cores", "2"), env=environ, stderr=terminal.slave)


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
    argv = lab.upload_argv(small_run, "--exclude_patterns", "no such thing")
    process = lab.start(*argv, env={"TERM": "xterm"}, stderr=terminal.slave)
    terminal.wait(process)
    assert (
        "".join(terminal.screen()) == "warning: exclude pattern 'no such thing' matches nothing [upload.unused-pattern]"
    )
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


def verify_on(terminal: Terminal, lab: Lab, run: Path, *argv: str) -> subprocess.Popen[str]:
    argv = ("verify", str(run), "--bucket", BUCKET, "--skip_check", "--cores", "2", *argv)
    return lab.start(*argv, env={"TERM": "xterm-256color"}, stderr=terminal.slave)


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
    assert [line for line in terminal.screen() if line] == ["s3sync: interrupted by SIGTERM [run.interrupted]"]
    assert not list(tmp_path.glob("*m.tsv*"))
    assert list(lab.tmp.iterdir()) == []


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()
