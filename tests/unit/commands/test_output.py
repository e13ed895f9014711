"""What is printed for people: folded on a terminal, whole elsewhere."""

from __future__ import annotations

import io

import pytest

from s3sync.commands import output

LONG = "s3sync: cannot do what was asked for (run `s3sync check --config /etc/s3sync.yaml`) [usage.no-config]"


class TerminalStream(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_messages_are_folded_between_words_on_a_terminal_but_never_inside_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert output.wrapped(LONG, TerminalStream()) == [
        "s3sync: cannot do what was asked for (run",
        "  `s3sync check --config /etc/s3sync.yaml`)",
        "  [usage.no-config]",
    ]


def test_messages_are_whole_lines_elsewhere() -> None:
    assert output.wrapped(LONG, io.StringIO()) == [LONG]
