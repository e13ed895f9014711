"""Build the parser of the whole command line from the modules of the commands."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn, Protocol, cast

from s3sync.errors import UsageError
from s3sync.text import printable

COMMANDS = ("upload", "verify", "restore", "init", "check", "monitor", "status", "report", "cleanup", "forget", "task")
SHELLS = ("bash", "zsh", "tcsh")  # for which --print-completion has a script

_DESCRIPTION = """\
Uploads Illumina sequencing runs to Amazon S3 and verifies every file.
"""
_EXIT_CODES = """\
exit codes:
  0    done, or nothing to do
  1    a run or file failed, or was not verified
  2    wrong usage
  75   that run is already being uploaded
  78   a mistake in the config
  130  interrupted by Ctrl-C (143 by SIGTERM, 129 by SIGHUP)
"""
_SPELLINGS = "Options can be written with underscores, too: --dry_run is --dry-run.\n"
_HIDDEN = ("task",)  # commands that only other programs run
_SYNONYMS = {  # other names of commands, and what people mean by them
    "list": "status",
    "ls": "status",
    "sync": "upload",
    "download": "restore",
    "version": "--version",
    "delete": "cleanup",
}
_VERBATIM = ("--sbatch_options", "--sbatch-options")


class Command(Protocol):
    """A module of this package: one command, with its options, its output and its exit code."""

    USAGE: str
    DESCRIPTION: str
    EXAMPLES: str

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Add the options of this command to its parser."""

    @staticmethod
    def run(args: argparse.Namespace) -> int:
        """Run the command, and return its exit code; raises S3SyncError."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, in plain language, instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError for a message of argparse."""
        raise _in_plain_words(message, self.prog)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows only the spelling with hyphens of each option, and never breaks a value at a hyphen: people copy it."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)

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
    """Return the parser for these commands. It stores the name of the chosen one as `command`."""
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
            usage=f"%(prog)s {module.USAGE}",
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
    if argv and argv[0] == "help":  # as in `s3sync help upload`
        argv = [*argv[1:2], "--help"]
    name = argv[0] if argv else ""
    if name and not name.startswith("-") and name not in COMMANDS:
        raise _unknown_command(name)
    parser = build_parser([name] if name in COMMANDS else COMMANDS)
    argv = with_verbatim_values(argv)
    if "--help" not in argv and "-h" not in argv:
        _require_known_options(parser, argv)
    args, extra = parser.parse_known_args(argv)
    _take_extra_arguments(args, extra)
    return args


def _require_known_options(parser: Parser, argv: Sequence[str]) -> None:
    """Raise UsageError for an option that does not exist: argparse would first report that others are missing."""
    command_parser = subparsers(parser).get(argv[0]) if argv else None
    known = (command_parser or parser)._option_string_actions  # noqa: SLF001 - argparse has no public list of them
    for argument in argv:
        if argument == "--":
            return
        name = argument.partition("=")[0]
        if len(name) > 2 and name.startswith("--") and name not in known and " " not in name:
            raise _unknown_option(name, known, command_parser or parser)


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command by its name."""
    actions = parser._actions  # noqa: SLF001 - argparse has no public list of them
    found = next(action for action in actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001
    return dict(found.choices)


def _take_extra_arguments(args: argparse.Namespace, extra: Sequence[str]) -> None:
    """Add the runs that argparse left over because they follow an option. Raises UsageError for anything else."""
    extra = [argument for argument in extra if argument != "--"]
    if not extra:
        return
    if isinstance(getattr(args, "run", None), list) and not any(argument.startswith("-") for argument in extra):
        args.run += extra
        return
    advice = f"see `s3sync {args.command} --help`" if args.command else "see `s3sync --help`"
    if os.path.isfile(extra[0]) and hasattr(args, "config"):
        advice = f"for a config write --config {extra[0]}"
    raise UsageError(f"unexpected argument: {printable(extra[0])} ({advice})", id="usage.unexpected-argument")


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


def _unknown_command(name: str) -> UsageError:
    meant = _SYNONYMS.get(name) or next(iter(difflib.get_close_matches(name, COMMANDS, 1)), "")
    advice = f"did you mean `s3sync {meant}`?" if meant else "`s3sync --help` lists them"
    return UsageError(f"there is no command {printable(name)} ({advice})", id="usage.unknown-command")


def _unknown_option(name: str, known: Collection[str], parser: argparse.ArgumentParser) -> UsageError:
    hyphened = [option for option in known if option.startswith("--") and "_" not in option]
    close = difflib.get_close_matches(name.replace("_", "-"), hyphened, 1)
    advice = f"did you mean {close[0]}?" if close else f"see `{parser.prog} --help`"
    return UsageError(f"{parser.prog} has no option {printable(name)} ({advice})", id="usage.unknown-option")


def _in_plain_words(message: str, program: str) -> UsageError:
    """Return the error for a message of argparse."""
    message = re.sub(r"(--[\w-]+)/--\w+", r"\1", message)  # both spellings of an option
    if match := re.fullmatch(r"argument (\S+): expected (one|at least one) argument", message):
        return UsageError(f"{match[1]} needs a value (see `{program} --help`)", id="usage.missing-value")
    if match := re.fullmatch(r"the following arguments are required: (.+)", message):
        return UsageError(f"missing: {match[1]} (see `{program} --help`)", id="usage.missing-argument")
    if match := re.fullmatch(r"argument (\S+): invalid choice: (.+) \(choose from (.+)\)", message, re.DOTALL):
        choices = match[3].replace("'", "")
        return UsageError(f"{match[1]}: {printable(match[2])} is not one of {choices}", id="usage.invalid-choice")
    if match := re.fullmatch(r"argument (\S+): ignored explicit argument (.+)", message, re.DOTALL):
        return UsageError(f"{match[1]} takes no value, and has {printable(match[2])}", id="usage.unexpected-value")
    return UsageError(printable(message.removeprefix("argument ")), id="usage.invalid-value")
