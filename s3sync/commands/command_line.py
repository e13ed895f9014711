"""Build the parser of the whole command line from the modules of the commands."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, Protocol, cast

from s3sync.errors import UsageError
from s3sync.text import printable

COMMANDS = ("upload", "verify", "monitor", "status", "report", "check", "cleanup", "forget", "task")
SHELLS = ("bash", "zsh", "tcsh")  # that the options can be completed in

_DESCRIPTION = """\
Puts Illumina sequencing runs into AWS S3 with the AWS CLI, and proves that
every byte arrived.
"""
_EXIT_CODES = """\
exit codes:
  0    done, or nothing to do
  1    a run or file failed, or did not verify
  2    wrong usage
  75   that run is being uploaded already
  78   a mistake in the config
  130  interrupted by Ctrl-C (143 by SIGTERM, 129 by SIGHUP)
"""
_SPELLINGS = "Options can be written with underscores, too: --dry_run is --dry-run.\n"
_HIDDEN = ("task",)  # commands that only other programs run
_VERBATIM = ("--sbatch_options", "--sbatch-options")


class Command(Protocol):
    """A module of this package: one command, with its options, its output and its exit code."""

    DESCRIPTION: str
    EXAMPLES: str

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Add the options of this command to its parser."""

    @staticmethod
    def run(args: argparse.Namespace) -> int:
        """Run the command, and return its exit code; raises S3SyncError."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, in plain words, instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        text = _in_plain_words(message)
        raise UsageError(f"{text} (see `{self.prog} --help`)", id="usage.options")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows only the spelling with hyphens of each option."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(name for name in action.option_strings if "_" not in name)
        if action.nargs == 0:
            return names
        return f"{names} {self._format_args(action, self._get_default_metavar_for_optional(action))}"


def command(name: str) -> Command:
    """Return the module of a command."""
    return cast("Command", importlib.import_module(f"s3sync.commands.{name}"))


def build_parser(names: Iterable[str] = COMMANDS) -> Parser:
    """Return the parser for these commands; it leaves the name of the command in `command`."""
    parser = Parser(
        prog="s3sync", description=_DESCRIPTION, epilog=_EXIT_CODES, formatter_class=_HelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "-V", "--version", action="store_true", help="show the versions of s3sync, Python and the AWS CLI"
    )
    parser.add_argument(
        "--print-completion",
        "--print_completion",
        choices=SHELLS,
        help="print the script that completes options in a shell",
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name in names:
        module = command(name)
        listed: dict[str, Any] = {} if name in _HIDDEN else {"help": _summary(module)}
        below = commands.add_parser(
            name,
            **listed,
            description=module.DESCRIPTION,
            epilog=f"{module.EXAMPLES}\n{_SPELLINGS}\n{_EXIT_CODES}",
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        module.add_options(below)
    return parser


def _summary(module: Command) -> str:
    """Return the first sentence of a command's description as an item of a list."""
    return module.DESCRIPTION[0].lower() + module.DESCRIPTION[1:].split(".")[0]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of the program; raises UsageError. After `--help` argparse exits.

    Only the module of the command that is run is imported.
    """
    asked_for = argv[0] if argv else ""
    parser = build_parser([asked_for] if asked_for in COMMANDS else COMMANDS)
    args, extra = parser.parse_known_args(with_verbatim_values(argv))
    if extra:
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    return args


def with_verbatim_values(argv: Sequence[str]) -> list[str]:
    """Join the value of `--sbatch-options` to it with `=`: argparse would take `--time=1-0` for an option of ours."""
    joined: list[str] = []
    for position, argument in enumerate(argv):
        if argument == "--":
            return [*joined, *argv[position:]]
        if joined and joined[-1] in _VERBATIM:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _in_plain_words(message: str) -> str:
    return printable(re.sub(r"--([\w-]+)/--\w+", r"--\1", message))
