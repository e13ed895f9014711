"""Print lines, tables and JSON on stdout and stderr, safe for any terminal."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from s3sync.text import printable

if TYPE_CHECKING:
    from rich.table import Table

_USUAL_COLUMNS = 80  # if a terminal does not report its width
_FILE_COLUMNS = 100  # if the output is not a terminal
_COMMAND = re.compile(r"`[^`]+`")
_GLUE = "\0"  # stands for a space at which a line must not be folded


def show(args: argparse.Namespace, lines: Iterable[str], facts: dict[str, Any], code: int) -> int:
    """Print the result of a command: with --json the facts and the exit code, else the lines. Return the exit code."""
    if args.json:
        print_json({**facts, "exit_code": code})
    else:
        print_lines(lines)
    return code


def print_json(facts: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(facts, indent=1))


def print_text(text: str) -> None:
    """Print a text of this program on stdout, unchanged."""
    print(text, end="", flush=True)


def print_lines(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Print each line as soon as it is available, with control characters escaped."""
    for line in lines:
        print(printable(line), file=stream, flush=True)


def wrapped(line: str, stream: TextIO | None = None) -> list[str]:
    """Fold a line for a terminal at spaces, but never inside a command in backticks, which people copy."""
    if not (stream or sys.stdout).isatty():
        return [line]
    whole = _COMMAND.sub(lambda found: found[0].replace(" ", _GLUE), line)
    indent = "  " if line.startswith("s3sync: ") else " " * 9  # below the text of a result of `check`
    columns = shutil.get_terminal_size().columns or _USUAL_COLUMNS
    folded = textwrap.wrap(whole, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [part.replace(_GLUE, " ") for part in folded] or [line]


def print_messages(messages: Iterable[str]) -> None:
    """Print messages on stderr, each with the name of the program in front."""
    lines = (wrapped(f"s3sync: {printable(message)}", sys.stderr) for message in messages)
    print_lines(itertools.chain.from_iterable(lines), sys.stderr)


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
