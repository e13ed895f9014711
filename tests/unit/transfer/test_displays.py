"""Several uploads on one terminal, and in one log."""

from __future__ import annotations

import io

from s3sync.transfer.displays import Lines, name_line
from s3sync.transfer.live_board import LiveBoard
from s3sync.transfer.progress import Snapshot


def snapshot() -> Snapshot:
    return Snapshot(activity="uploading", files=1, files_total=4, size=10, size_total=40, processes=2)


def test_each_running_upload_has_its_lines() -> None:
    stream = io.StringIO()
    board = LiveBoard(stream)
    with board.display("RUN_A") as first:
        first.follow("uploading RUN_A", snapshot)
        with board.display("RUN_B") as second:
            second.print("warning: a part is left")
        first.print("retrying 2 files")
    shown = stream.getvalue()
    assert "warning: RUN_B: a part is left" in shown
    assert "RUN_A: retrying 2 files" in shown
    with board.display("RUN_C"):  # the board can be shown again
        pass


def test_lines_above_the_board_are_safe_for_a_terminal() -> None:
    stream = io.StringIO()
    LiveBoard(stream).display("RUN_A").print("retrying a\x1b[2Jb")
    assert stream.getvalue() == "RUN_A: retrying a\\x1b[2Jb\n"


def test_lines_of_a_log_name_their_run_once() -> None:
    stream = io.StringIO()
    with Lines(stream, name="RUN_A") as lines:
        lines.print("retrying 2 files")
        lines.print("uploading RUN_A to s3://lab-runs/RUN_A/")
        lines.print("warning: it is slow")
    assert stream.getvalue().splitlines() == [
        "RUN_A: retrying 2 files",
        "uploading RUN_A to s3://lab-runs/RUN_A/",
        "warning: RUN_A: it is slow",
    ]
    assert name_line("", "as it is") == "as it is"
