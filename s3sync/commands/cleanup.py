"""`s3sync cleanup`: list the local runs that S3 verifiably has, and delete them."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from s3sync import logs
from s3sync.cleanup import (
    CleanupCandidate,
    CleanupContext,
    CleanupPlan,
    CleanupResult,
    RunResult,
    clean,
    describe_kept,
    plan_cleanup,
)
from s3sync.commands import locations, options, output, run_argument
from s3sync.commands.verify import as_json as verify_json
from s3sync.config import Config
from s3sync.errors import EXIT_DONE, EXIT_FAILED, InterruptedBySignal, RunError, UsageError
from s3sync.invocation import command_line
from s3sync.resources import lower_priority
from s3sync.signals import StopRequest, stop_on_signals
from s3sync.text import human_bytes, human_seconds, pluralize, printable
from s3sync.transfer import displays
from s3sync.transfer.request import as_options

USAGE = "[RUN ...] [--older-than AGE] [--delete [--yes]] [options]"
DESCRIPTION = "List the local runs that S3 verifiably has, and delete them with --delete."
EXAMPLES = """\
examples:
  s3sync cleanup --config /etc/s3sync.yaml                  (only lists)
  s3sync cleanup --config /etc/s3sync.yaml --older-than 90d --delete
  s3sync cleanup --config /etc/s3sync.yaml RUN --delete --yes
"""


_RESTORABLE = ("may be deleted", "deleted", "partly deleted")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("run", nargs="*", metavar="RUN", help="only these runs")
    options.add_config(parser)
    add = options.adder(parser)
    add(
        "--older-than",
        type=options.age,
        default="30d",
        metavar="AGE",
        help="completed at least this long ago: 30d (default), 72h",
    )
    add("--delete", action="store_true", help="delete what is identical in S3; asks first")
    add("--yes", action="store_true", help="do not ask")
    add(
        "--skip-restore-check",
        action="store_true",
        help="do not ask S3 whether the run could be restored (as `require_restorable_runs: false`)",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Verify the runs that may be deleted; with --delete, delete them. Return the exit code."""
    os.umask(0o077)
    _require_consistent(args)
    config = locations.config_to_write(args) if args.delete else locations.config_to_read(args)
    lower_priority(config.nice, config.io_priority)
    planned = plan_cleanup(config, args.run, args.older_than)
    if args.delete and not args.yes and planned.to_verify:
        output.print_lines(question(planned), sys.stderr)
        _confirm("delete")
    else:
        output.print_lines(announcement(planned), sys.stderr)
    if args.delete:
        logs.configure(config.log_dir, config.log_level)
    stop = StopRequest()
    with stop_on_signals(stop):
        context = CleanupContext(
            config=config,
            older_than=args.older_than,
            require_restorable=config.require_restorable_runs and not args.skip_restore_check,
            environ=os.environ,
            stop=stop,
            make_display=lambda: displays.for_stream(sys.stderr),
        )
        done = clean(context, planned, args.run, delete=args.delete)
    code = EXIT_DONE if done.is_complete(args.run, delete=args.delete) else EXIT_FAILED
    lines = [*result_lines(done, output.width()), *totals(done, config, delete=args.delete)]
    output.show(args, lines, as_json(done, config), code)
    output.print_messages(problem_lines(done))
    return code


def _require_consistent(args: argparse.Namespace) -> None:
    if args.yes and not args.delete:
        raise UsageError("--yes requires --delete (add that, or leave --yes out to list)", id="usage.requires-other")
    if args.delete and not args.yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "--delete needs a terminal to confirm, and there is none (add --yes to skip the question)",
            id="cleanup.no-terminal",
        )


def _confirm(word: str) -> None:
    """Ask the user to type this word. Raises RunError for any other, InterruptedBySignal after Ctrl-C."""
    try:
        answer = output.ask(f"Type `{word}` to continue: ")
    except EOFError:
        answer = ""
    except KeyboardInterrupt:
        raise InterruptedBySignal(signal.SIGINT, f"interrupted: nothing was {word}d") from None
    if answer != word:
        raise RunError(f"nothing was {word}d: the answer was not `{word}`", id="cleanup.not-confirmed")


def announcement(planned: CleanupPlan) -> list[str]:
    """Announce the verification, which may take hours."""
    chosen, total = planned.to_verify, len(planned.candidates)
    if not chosen:
        return []
    return [f"verifying every byte of {_sum(chosen)} (of {pluralize(total, 'run')})", *_each(chosen)]


def question(planned: CleanupPlan) -> list[str]:
    """Return the question before the deletion."""
    return [
        "These runs are now compared with S3, byte for byte. Each one that is identical",
        "there is then DELETED HERE, without another question:",
        *_each(planned.to_verify),
        f"In total, by the logs: {_sum(planned.to_verify)}.",
    ]


def result_lines(done: CleanupResult, width: int) -> Iterator[str]:
    """Yield the lines of a table that is `width` columns wide; each run has two or more."""
    if done.runs:
        yield _row(width, "Run", "Uploaded", "Files", "Size")
    for result in done.runs:
        files, size = _amount(result)
        age = _age(result.candidate)
        numbers = (f"{files:,}", human_bytes(size)) if files else ("", "")
        yield _row(width, _name(result.candidate), age and f"{age} ago", *numbers)
        yield from textwrap.wrap(
            _verdict(result),
            width,
            initial_indent="  ",
            subsequent_indent="    ",
            break_on_hyphens=False,
            break_long_words=False,
        )


def _row(width: int, name: str, *columns: str) -> str:
    """Return a row of the table. A long name is not cut, since people copy it."""
    numbers = "".join(f"{column:>{wide}}" for column, wide in zip(columns, (16, 11, 10), strict=True))
    return f"{name:<{max(0, width - len(numbers))}}{numbers}".rstrip()


def totals(done: CleanupResult, config: Config, *, delete: bool) -> list[str]:
    """Return lines with the totals that can be deleted, or were deleted."""
    rests = [f"{printable(str(folder))}: removed empty folders of an interrupted cleanup" for folder in done.finished]
    if not delete:
        free = [result for result in done.runs if result.outcome == "may be deleted"]
        return [f"{_sum(free)} can be deleted (with --delete)" if free else "nothing can be deleted"]
    touched = [result for result in done.runs if result.outcome in ("deleted", "partly deleted")]
    if not touched:
        return [*rests, *([] if rests else ["nothing was deleted"])]
    return [
        *rests,
        f"{_sum(touched)} deleted; the records are in {printable(str(config.log_dir / 'cleanups'))}",
        *(f"to get it back: `{_restore_command(result, config)}`" for result in touched),
    ]


def _restore_command(result: RunResult, config: Config) -> str:
    """Return the command that restores a run to where it was."""
    entry = result.candidate.uploaded[0].entry
    place = as_options.place_options(entry.destination, entry.expected_bucket_owner, entry.aws_profile)
    program = as_options.program_options(config.aws_command, str(config.log_dir))
    return command_line("restore", str(result.candidate.folder), *place, *program)


def problem_lines(done: CleanupResult) -> list[str]:
    """Return messages about runs that could not be examined, or do not exist."""
    problems = [f"{problem.key}: {problem.text_with_id}" for problem in done.problems]
    return [*problems, *run_argument.unknown_lines(done.unknown)]


def as_json(done: CleanupResult, config: Config) -> dict[str, Any]:
    """Return the result as one JSON object."""
    return {
        "runs": [_run_json(result, config) for result in done.runs],
        "finished": [printable(str(folder)) for folder in done.finished],
        "troubles": [problem._asdict() for problem in done.problems],
        "unknown": [printable(name) for name in done.unknown],
    }


def _run_json(result: RunResult, config: Config) -> dict[str, Any]:
    candidate = result.candidate
    found = [verify_json(one) for one in result.found]
    return {
        "run_id": printable(candidate.folder.name),
        "run_path": printable(str(candidate.folder)),
        "verdict": result.outcome,
        "reason": result.reason,
        "reason_id": result.reason_id,
        "completed": candidate.completed,
        "age_seconds": None if candidate.age is None else round(candidate.age),
        "files": result.files,
        "bytes": result.size,
        "stays": [printable(path) for path in result.kept],
        "left": {printable(path): why for path, why in result.not_deleted.items()},
        "record": printable(str(result.record)) if result.record else None,
        "restore": _restore_command(result, config) if result.outcome in _RESTORABLE else None,
        "destinations": [
            {"url": printable(run.url), "state": run.state, "reason": run.reason, "log": printable(str(run.log_path))}
            for run in candidate.runs
        ],
        "verified": found,
    }


def _verdict(result: RunResult) -> str:
    kept = f"; {describe_kept(result.kept)}" if result.kept else ""
    reason = f"{result.reason} [{result.reason_id}]" if result.reason_id else result.reason
    if result.outcome in ("kept", "busy"):
        return f"kept: {reason}"
    if result.outcome == "partly deleted":
        return f"NOT all deleted, {pluralize(len(result.not_deleted), 'problem')}: {reason}{kept}"
    if result.reason:
        return f"{result.outcome}, but {reason}{kept}"
    where = " and ".join(printable(run.url) for run in result.candidate.uploaded)
    return f"{result.outcome}: identical in {where}{kept}"


def _each(chosen: list[CleanupCandidate]) -> Iterator[str]:
    for candidate in chosen:
        yield f"  {_name(candidate)}"
        files, size = pluralize(candidate.files, "file"), human_bytes(candidate.size)
        yield f"    {files}, {size}, completed {_age(candidate)} ago"


def _name(candidate: CleanupCandidate) -> str:
    """Return the name of a run, quoted for a shell if that is necessary."""
    return shlex.quote(printable(candidate.folder.name))


def _age(candidate: CleanupCandidate) -> str:
    return "" if candidate.age is None or candidate.age < 0 else human_seconds(candidate.age)


def _amount(result: RunResult) -> tuple[int, int]:
    """Return the files and bytes that were found or deleted, else the log's."""
    if result.found or result.outcome in ("deleted", "partly deleted"):
        return result.files, result.size
    return result.candidate.files, result.candidate.size


def _sum(runs: Sequence[CleanupCandidate] | Sequence[RunResult]) -> str:
    files, size = sum(run.files for run in runs), sum(run.size for run in runs)
    return f"{pluralize(len(runs), 'run')}, {pluralize(files, 'file')}, {human_bytes(size)}"
