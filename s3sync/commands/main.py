"""Run a command: arguments in, exit code out."""

from __future__ import annotations

import io
import os
import platform
import sys
from collections.abc import Sequence

from s3sync import __version__
from s3sync.aws import client
from s3sync.commands import boundary, command_line
from s3sync.commands.output import print_json, print_lines, print_messages, print_text
from s3sync.errors import EXIT_DONE, EXIT_USAGE
from s3sync.signals import StopRequest, stop_on_signals
from s3sync.text import printable

_VERSION_SECONDS = 20.0  # for `aws --version`; the slowest takes five


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default: `sys.argv`), and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that this terminal's encoding lacks
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = command_line.parse(argv)
        if args.print_completion:
            return _print_completion(args.print_completion)
        if args.version:
            return _print_version()
        if args.command is None:
            command_line.build_parser().print_help(sys.stderr)
            return EXIT_USAGE
        return command_line.command(args.command).run(args)
    except BrokenPipeError:  # the reader of the output has gone away
        raise
    except (Exception, KeyboardInterrupt) as error:
        return _report(error, as_json="--json" in argv)


def _report(error: BaseException, *, as_json: bool) -> int:
    explanation = boundary.explain(error, os.environ)
    if as_json:
        print_json({"error": explanation.message, "error_id": explanation.id, "exit_code": explanation.exit_code})
    print_messages(explanation.lines)
    return explanation.exit_code


def _print_completion(shell: str) -> int:
    from s3sync.commands import completion

    print_text(completion.completion(command_line.build_parser(), shell))
    return EXIT_DONE


def _print_version() -> int:
    stop = StopRequest()
    with stop_on_signals(stop):
        aws = client.describe_installed(os.environ, stop, _VERSION_SECONDS)
    print_lines([f"s3sync {__version__}", f"Python {platform.python_version()} ({printable(sys.executable)})", aws])
    return EXIT_DONE
