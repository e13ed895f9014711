"""Print lines, tables and JSON on stdout and stderr, safe for every terminal."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from s3sync.text import printable

if TYPE_CHECKING:
    from rich.table import Table

_USUAL_COLUMNS = 80  # of a terminal that does not report its width
_FILE_COLUMNS = 100  # of output that does not go to a terminal


def show(args: argparse.Namespace, lines: Iterable[str], facts: dict[str, Any]) -> None:
    """Print `facts` as JSON if the user asked for --json, else the lines."""
    if args.json:
        print_json(facts)
    else:
        print_lines(lines)


def print_json(facts: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(facts, indent=1))


def print_text(text: str) -> None:
    """Print a text of ours on stdout as it is."""
    print(text, end="", flush=True)


def print_lines(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print each line as soon as it is known; control characters in names are escaped."""
    for line in lines:
        print(printable(line), file=stream, flush=True)


def wrapped(line: str) -> list[str]:
    """Fold a line for a terminal between words; not one with a command in backticks, which is copied as a whole."""
    if not sys.stdout.isatty() or "`" in line:
        return [line]
    return textwrap.wrap(line, width(), subsequent_indent=" " * 9, break_long_words=False, break_on_hyphens=False) or [
        line
    ]


def print_messages(messages: Iterable[str]) -> None:
    """Print messages on stderr, each with the name of the program in front."""
    print_lines((f"s3sync: {message}" for message in messages), sys.stderr)


def ask(question: str) -> str:
    """Ask a question on stderr, and return the answer from stdin without white space around it.

    Raises EOFError if there is no answer, and KeyboardInterrupt after Ctrl-C.
    """
    print(question, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        raise EOFError
    return answer.strip()


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables as wide as the terminal."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)
    for table in tables:
        console.print(table)


def width() -> int:
    """Return how many columns stdout has."""
    if not sys.stdout.isatty():
        return _FILE_COLUMNS
    return shutil.get_terminal_size().columns or _USUAL_COLUMNS  # before Python 3.11 some terminals report 0
