"""`s3sync init`: ask for the values that every config needs, write the config, and check it."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from s3sync import invocation
from s3sync.aws import destination
from s3sync.aws.destination import Destination
from s3sync.commands import check, options, output
from s3sync.config import search_paths
from s3sync.errors import InterruptedBySignal, StateError, UsageError
from s3sync.runs import off_limits, run_folder
from s3sync.state import log_dir
from s3sync.text import printable

USAGE = "[--config FILE] [--directory DIR ...] [--bucket B] [options]"
DESCRIPTION = "Write a config for the monitor, and check it. Asks for missing values."
EXAMPLES = """\
examples:
  s3sync init
  s3sync init --config /etc/s3sync.yaml
  s3sync init --directory /data/runs --bucket lab-runs --yes
"""
_HEADER = "# Written by `s3sync init`. All other keys are optional: see conf/s3sync.sample.yaml.\n"
_PLAIN = re.compile(r"/[A-Za-z0-9._/-]*|[a-z][a-z0-9.-]*")  # texts that YAML needs no quotes for


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The values that every config needs."""

    directories: tuple[str, ...]
    destination: Destination
    log_dir: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add = options.adder(parser)
    options.add_config(
        parser,
        "the file to write (default: /etc/s3sync.yaml for root, ~/.config/s3sync.yaml for other users, where all "
        "commands look for it)",
    )
    add("--directory", type=options.path, nargs="+", metavar="DIR", help="the folders that contain the run folders")
    add("--bucket", metavar="B", help="the bucket's name, or s3://B/PATH")
    add("--remote-path", metavar="PATH", help="where in the bucket (default /): PATH/RUN/...")
    add(
        "--log-dir",
        type=options.path,
        metavar="DIR",
        help="logs and the state of each run (default: the first of /var/log/s3_upload and ~/.local/state/s3sync that "
        "this user can write to)",
    )
    add("--yes", action="store_true", help="do not ask: use defaults for missing values")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the config, check it, print the next steps, and return the exit code of the check."""
    path = _new_config(args)
    may_ask = not args.yes and sys.stdin.isatty() and sys.stderr.isatty()
    try:
        answers = _answers(args, may_ask=may_ask)
    except KeyboardInterrupt:
        raise InterruptedBySignal(signal.SIGINT, "interrupted: no config was written") from None
    except EOFError:
        raise UsageError("the input ended: no config was written", id="usage.no-answer") from None
    _write(path, config_text(answers))
    if not args.json:
        output.print_lines([f"written: {path}"])
    code = check.check_config(path, check.Trials(), as_json=args.json)
    if not args.json:
        output.print_lines(_next_steps(path, is_ready=code == 0))
    return code


def config_text(answers: Answers) -> str:
    """Return the config as YAML."""
    directories = "".join(f"      - {_yaml(directory)}\n" for directory in answers.directories)
    return (
        f"{_HEADER}\n"
        f"log_dir: {_yaml(answers.log_dir)}\n"
        "monitor:\n"
        f"  - monitored_directories:\n{directories}"
        f"    bucket: {_yaml(answers.destination.bucket)}\n"
        f"    remote_path: {_yaml(answers.destination.remote_path)}\n"
    )


def _yaml(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _new_config(args: argparse.Namespace) -> Path:
    """Return the path of the new config. Raises UsageError if something is there."""
    if args.config is not None:
        path = Path(os.path.abspath(args.config))
    else:
        places = search_paths(os.environ)
        path = Path(os.path.abspath(places[-1] if os.geteuid() == 0 else places[0]))
    if os.path.lexists(path):
        raise UsageError(
            f"{printable(str(path))} exists already (edit it, or write another one with --config FILE)",
            id="usage.config-exists",
        )
    return path


def _answers(args: argparse.Namespace, *, may_ask: bool) -> Answers:
    """Return the values that were given as options, and ask for the others."""
    directories = _value(
        given=args.directory and "\n".join(args.directory),
        option="--directory",
        question="Folder that contains the run folders",
        parse=_parse_directories,
        may_ask=may_ask,
    )
    place = _value(
        given=_given_place(args),
        option="--bucket",
        question="Bucket (or s3://BUCKET/PATH)",
        parse=_parse_place,
        may_ask=may_ask,
    )
    folder = _value(
        given=args.log_dir,
        option="--log-dir",
        question="Folder for logs",
        parse=lambda text: _parse_log_dir(text, directories),
        may_ask=may_ask,
        default=_default_log_dir(),
    )
    return Answers(directories=directories, destination=place, log_dir=folder)


def _given_place(args: argparse.Namespace) -> str | None:
    if args.bucket is None:
        if args.remote_path is not None:
            raise UsageError("--remote-path requires --bucket (add that)", id="usage.requires-other")
        return None
    if args.remote_path is None:
        return str(args.bucket)
    return destination.parse_destination(args.bucket, args.remote_path).label


def _value(
    *,
    given: str | None,
    option: str,
    question: str,
    parse: Callable[[str], _T],
    may_ask: bool,
    default: str = "",
) -> _T:
    """Return the value that was given as an option, or ask for it until the answer is valid.

    Raises UsageError, or EOFError if the input ends.
    """
    if given is not None:
        return parse(given)
    if not may_ask:
        if default:
            return parse(default)
        why = "" if sys.stdin.isatty() else ", and there is no terminal to ask on"
        raise UsageError(f"{option} is not given{why} (add it)", id="usage.missing-argument")
    shown = f"{question} [{default}]: " if default else f"{question}: "
    while True:
        try:
            return parse(output.ask(shown) or default)
        except UsageError as error:
            output.print_lines([f"  {error}"], sys.stderr)


def _parse_directories(text: str) -> tuple[str, ...]:
    return tuple(_parse_directory(line) for line in text.split("\n"))


def _parse_directory(text: str) -> str:
    """Return the absolute path of a folder that contains runs; raises UsageError."""
    if not text:
        raise UsageError("give a folder, such as /data/runs", id="usage.no-directory")
    path = Path(os.path.abspath(os.path.expanduser(text)))
    where = printable(str(path))
    if not path.is_dir():
        raise UsageError(f"there is no folder {where} (give one that exists)", id="usage.no-directory")
    if os.path.lexists(path / run_folder.RUN_INFO):
        advice = f"give the folder that contains it: {printable(str(path.parent))}"
        raise UsageError(f"{where} is itself a run folder ({advice})", id="usage.directory-is-run")
    return str(path)


def _parse_place(text: str) -> Destination:
    """Return the destination that a bucket's name or an s3:// URL names; raises UsageError."""
    if not text.startswith("s3://"):
        return destination.parse_destination(text)
    bucket, _, path = text.removeprefix("s3://").partition("/")
    return destination.parse_destination(bucket, path or "/")


def _parse_log_dir(text: str, directories: tuple[str, ...]) -> str:
    """Return the absolute path of a folder where this user can write; raises UsageError."""
    if not text:
        raise UsageError("give a folder where this user can write", id="usage.log-dir-unusable")
    path = Path(os.path.abspath(os.path.expanduser(text)))
    if around := off_limits.find_enclosing_folder(path, directories):
        raise UsageError(
            f"{printable(str(path))} is inside {printable(around)}, whose files are uploaded (give another folder)",
            id="usage.log-dir-unusable",
        )
    if problem := log_dir.unwritable(path):
        raise UsageError(problem, id="usage.log-dir-unusable")
    return str(path)


def _default_log_dir() -> str:
    """Return the log directory that `upload` uses; empty if this user can write to none."""
    try:
        return str(log_dir.for_upload(os.environ).path)
    except StateError:
        return ""


def _write(path: Path, text: str) -> None:
    """Create the config, and never overwrite one. Raises UsageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise UsageError(
            f"cannot write {printable(str(path))}: {error.strerror} (write it elsewhere with --config FILE)",
            id="usage.config-unwritable",
        ) from error


def _next_steps(path: Path, *, is_ready: bool) -> list[str]:
    named = [] if path in search_paths(os.environ) else ["--config", str(path)]
    if not is_ready:
        return ["", f"next: fix the problems above, then `{invocation.command_line('check', *named)}`"]
    return [
        "",
        f"next: `{invocation.command_line('monitor', *named, '--dry-run')}` shows what would be uploaded",
        f"then: `make install-cron CONFIG={path}` in the checkout of s3sync uploads new runs every ten minutes",
    ]
