"""`s3sync restore`: download a run from S3, and verify it."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, TypeAlias

from s3sync.aws import thaw
from s3sync.commands import options, output, restore_text
from s3sync.commands.restore_request import find_request
from s3sync.errors import EXIT_DONE, EXIT_FAILED, UsageError
from s3sync.resources import lower_priority
from s3sync.signals import StopRequest, stop_on_signals
from s3sync.state import log_dir
from s3sync.transfer import displays, restore
from s3sync.transfer.context import Runtime
from s3sync.transfer.restore.request import RestoreRequest

USAGE = "RUN [--bucket B] [--local-path DIR] [options]"
DESCRIPTION = "Download a run from S3, verify every byte, and then move it into place."
EXAMPLES = """\
examples:
  s3sync restore RUN --bucket lab-runs --local-path /data/restored
  s3sync restore /data/RUN s3://lab-runs/2026 --dry-run
  s3sync restore RUN --bucket lab-runs --local-path /tmp --only interop
  s3sync restore RUN --config /etc/s3sync.yaml
"""

_Outcome: TypeAlias = tuple[list[str], dict[str, Any], int]  # lines for people, the JSON object, the exit code


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "run",
        nargs="*",
        type=options.path,
        metavar="RUN",
        help="the run's name, or the path where it was; s3://B/PATH may follow, instead of --bucket",
    )
    options.add_destination(parser)
    add = options.adder(parser)
    add(
        "--local-path",
        type=options.path,
        metavar="DIR",
        help="restore to DIR/RUN (default: to the path given as RUN, or with --config to where the run was)",
    )
    options.add_config(
        parser, "instead of --bucket: a run that the monitor uploaded, with bucket, path and settings as in this config"
    )
    add("--dry-run", action="store_true", help="show what would be restored, and write nothing")
    _add_selection(parser.add_argument_group("what is restored"))
    _add_proof(parser.add_argument_group("how it is verified"))
    _add_archives(parser.add_argument_group("frozen objects"))
    _add_speed(parser.add_argument_group("how fast"))
    options.add_program(parser.add_argument_group("logs and output"))


def _add_selection(group: options.Container) -> None:
    add = options.adder(group)
    add(
        "--only",
        action="append",
        type=restore.parts.parse_part,
        default=[],
        metavar="PART",
        help="metadata, interop, fastq, lane=1,2, analysis=1, or a regular expression that is searched in"
        " RUN/path/in/run; may be repeated. Completion markers are left out",
    )
    add(
        "--overwrite",
        action="store_true",
        help="replace files on disk that differ from S3 (default: keep and report them)",
    )


def _add_proof(group: options.Container) -> None:
    add = options.adder(group)
    add(
        "--verify",
        choices=("etag", "size"),
        default="etag",
        help="size: accept objects without an MD5 or a checksum if their size is right (default etag: refuse them)",
    )
    add(
        "--manifest",
        type=options.path,
        metavar="FILE",
        help="also compare with a manifest that `verify --manifest` wrote",
    )
    add(
        "--no-record",
        action="store_true",
        help="do not compare with the records of the upload (state log, s3sync.complete.json)",
    )


def _add_archives(group: options.Container) -> None:
    add = options.adder(group)
    add(
        "--tier",
        choices=thaw.TIERS,
        help="request once that frozen objects are thawed with this tier, which costs money (Bulk: the cheapest)",
    )
    add(
        "--days",
        type=options.positive,
        default=7,
        metavar="N",
        help="how long they stay thawed (default %(default)s)",
    )
    add("--wait", action="store_true", help="wait until all are thawed and restored, instead of reporting when")
    add(
        "--cancel",
        action="store_true",
        help="cancel the restore that the same command started: `monitor` does not continue it, and what it has"
        " downloaded is removed",
    )


def _add_speed(group: options.Container) -> None:
    options.add_cores(group)
    group.add_argument(
        "--threads", type=options.positive, metavar="N", help="requests at once in each process (default 10)"
    )
    options.add_max_bandwidth(group, "receive")
    options.add_stall_minutes(group)
    options.add_nice(group)


def run(args: argparse.Namespace) -> int:
    """Restore the run, preview the restore, or end it; return the exit code."""
    request = find_request(args)
    if args.cancel and (args.dry_run or args.wait):
        raise UsageError("--cancel is not supported with --dry-run or --wait (leave those out)", id="usage.conflict")
    if args.dry_run:
        log_dir.require_readable(request.log_dir)
    else:
        log_dir.require_writable(request.log_dir)
    lower_priority(args.nice, "normal")
    act = _cancel if args.cancel else _preview if args.dry_run else _restore
    stop = StopRequest()
    with stop_on_signals(stop), displays.for_stream(sys.stderr) as display:
        lines, facts, code = act(request, Runtime(os.environ, stop, display))
    return output.show(args, lines, facts, code)


def _restore(request: RestoreRequest, runtime: Runtime) -> _Outcome:
    result = restore.run.restore(request, runtime)
    code = EXIT_DONE if result.ok else EXIT_FAILED
    return restore_text.result_lines(result), restore_text.result_json(result), code


def _preview(request: RestoreRequest, runtime: Runtime) -> _Outcome:
    planned = restore.run.preview(request, runtime)
    code = EXIT_FAILED if planned.failed or not planned.has_room else EXIT_DONE
    return restore_text.preview_lines(planned), restore_text.preview_json(planned), code


def _cancel(request: RestoreRequest, runtime: Runtime) -> _Outcome:
    done = restore.cancel.cancel(request, runtime)
    return restore_text.cancel_lines(done), restore_text.cancel_json(done), EXIT_DONE
