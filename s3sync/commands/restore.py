"""`s3sync restore`: bring a run back from S3."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from s3sync.aws import client, thaw
from s3sync.commands import locations, options, output, run_argument
from s3sync.errors import EXIT_DONE, EXIT_FAILED, UsageError
from s3sync.resources import lower_priority, usable_cores
from s3sync.signals import StopRequest, stop_on_signals
from s3sync.state import log_dir
from s3sync.text import human_bytes, human_seconds, list_by_reason, pluralize, printable
from s3sync.transfer import progress, restore
from s3sync.transfer.restore import request as restore_request

USAGE = "RUN --bucket B --local-path DIR [options]"
DESCRIPTION = "Bring a run back from S3, prove every byte, and show it when it is whole."
EXAMPLES = """\
examples:
  s3sync restore RUN --bucket lab-runs --local-path /data/restored
  s3sync restore /data/RUN s3://lab-runs/2026 --dry-run
  s3sync restore RUN --bucket lab-runs --local-path /tmp --only interop
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add = parser.add_argument
    add(
        "run",
        nargs="*",
        type=options.path,
        metavar="RUN",
        help="the run's name, or the path where it was; s3://B/PATH may follow, instead of --bucket",
    )
    options.add_destination(parser)
    add(
        "--local-path",
        "--local_path",
        type=options.path,
        metavar="DIR",
        help="restore to DIR/RUN (default: to the path given as RUN)",
    )
    add(
        "--only",
        action="append",
        type=restore.parts.parse_part,
        default=[],
        metavar="PART",
        help="metadata, interop, fastq, lane=1,2, analysis=1, or a regular expression that is searched in"
        " RUN/path/in/run; may be repeated. Completion markers are left out",
    )
    add("--dry-run", "--dry_run", action="store_true", help="show what would be restored, and write nothing")
    add(
        "--overwrite",
        action="store_true",
        help="replace files on disk that differ from S3 (default: keep and report them)",
    )
    _add_proof(parser)
    _add_archives(parser)
    _add_speed(parser)
    options.add_program(parser)


def _add_proof(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--verify",
        choices=("etag", "size"),
        default="etag",
        help="size: accept objects that have neither an MD5 nor a checksum by their size (default etag: refuse them)",
    )
    add("--manifest", type=options.path, metavar="FILE", help="compare with what `verify --manifest` wrote, too")
    add(
        "--no-record",
        "--no_record",
        action="store_true",
        help="do not compare with what the upload recorded (its state log, s3sync.complete.json)",
    )


def _add_archives(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--tier",
        choices=thaw.TIERS,
        help="request, once, that frozen objects are thawed in this way, which costs money (Bulk: the least)",
    )
    add(
        "--days",
        type=options.positive,
        default=7,
        metavar="N",
        help="how long they stay thawed (default %(default)s)",
    )
    add("--wait", action="store_true", help="wait until all are thawed and restored, instead of saying when")


def _add_speed(parser: argparse.ArgumentParser) -> None:
    options.add_cores(parser)
    add = parser.add_argument
    add("--threads", type=options.positive, default=4, metavar="N", help="requests at once in each process (default 4)")
    add(
        "--max-bandwidth",
        "--max_bandwidth",
        type=options.rate,
        metavar="RATE",
        help="what all processes together may receive, e.g. 50MB/s (default: no limit)",
    )
    add(
        "--stall-minutes",
        "--stall_minutes",
        type=options.minutes,
        default=client.STALL_SECONDS / 60,
        metavar="N",
        help="end an aws process that moves no bytes for this long (default %(default)g)",
    )
    add(
        "--nice",
        type=options.niceness,
        choices=range(20),
        default=0,
        metavar="N",
        help="lower the CPU priority: 0 to 19 (default 0)",
    )


def run(args: argparse.Namespace) -> int:
    """Restore the run, or preview that, and return the exit code."""
    place = locations.upload_log_dir(args)
    request = _request(args, place)
    locations.print_note(place)
    if args.dry_run:
        log_dir.require_readable(request.log_dir)
    else:
        log_dir.require_writable(request.log_dir)
    lower_priority(args.nice, "normal")
    stop = StopRequest()
    with stop_on_signals(stop), progress.display_for(sys.stderr) as display:
        if args.dry_run:
            planned = restore.run.preview(request, os.environ, stop, display)
        else:
            result = restore.run.restore(request, os.environ, stop, display)
    if args.dry_run:
        code = EXIT_FAILED if planned.failed or planned.free < planned.needed else EXIT_DONE
        output.show(args, preview_lines(planned), {**preview_json(planned), "exit_code": code})
        return code
    code = EXIT_DONE if result.ok else EXIT_FAILED
    output.show(args, result_lines(result), {**result_json(result), "exit_code": code})
    return code


def _request(args: argparse.Namespace, place: log_dir.Place) -> restore_request.RestoreRequest:
    name = run_argument.name_of_run(args, also_local_path=False)
    target = _target(args, name)
    return restore_request.RestoreRequest(
        run_id=target.name,
        destination=run_argument.find_destination(args, str(target)),
        target=target,
        log_dir=place.path,
        cores=args.cores or usable_cores(),
        threads=args.threads,
        parts=tuple(args.only),
        overwrite=args.overwrite,
        use_record=not args.no_record,
        verify=args.verify,
        manifest=Path(os.path.abspath(args.manifest)) if args.manifest is not None else None,
        aws_command=args.aws_command,
        bucket_owner=args.expected_bucket_owner,
        profile=options.profile_of(args),
        max_bandwidth=args.max_bandwidth,
        stall_seconds=args.stall_minutes * 60,
        tier=args.tier,
        days=args.days,
        wait=args.wait,
    )


def _target(args: argparse.Namespace, name: str) -> Path:
    """Return the run folder to be: the path given as RUN, or its name in --local-path. Raises UsageError."""
    run_id = os.path.basename(os.path.abspath(name))
    if args.local_path is not None:
        return Path(os.path.abspath(args.local_path)) / run_id
    if "/" not in name:
        raise UsageError(
            f"where to? {printable(name)} is a name without a folder (add --local-path DIR, or give the path where the"
            " run was)",
            id="usage.no-restore-target",
        )
    return Path(os.path.abspath(name))


def result_lines(result: restore_request.RestoreResult) -> list[str]:
    """Return a verdict in one line, and the facts behind it."""
    where, request = printable(str(result.request.target)), result.request
    count, size = len(result.proven_by), human_bytes(result.total_size)
    if result.ok:
        part = "" if result.whole else "part of "
        verdict = f"restored {part}{printable(request.run_id)}: {pluralize(count, 'file')}, {size}, all proven"
    elif result.frozen and not result.failed:
        verdict = f"restored {count:,} of {pluralize(result.total_files, 'file')}: the others are frozen in an archive"
    elif result.is_in_place:
        verdict = f"restored {printable(request.run_id)} but for {pluralize(len(result.failed), 'file')}"
    else:
        verdict = (
            f"NOT restored: {count:,} of {pluralize(result.total_files, 'file')} are proven, and kept beside {where}"
            " for the next call"
        )
    proofs = ", ".join(f"{number:,} by {how}" for how, number in sorted(result.proofs.items()))
    facts = [f"  in {where}, from {printable(request.url)}, in {human_seconds(result.seconds)}"]
    facts += [f"  proven {proofs}; compared with {_records(result)}"] if result.proven_by else []
    if result.kept:
        facts.append(f"  {pluralize(len(result.kept), 'file')} on disk already, with the same bytes")
    facts += _frozen_lines(result)
    if result.without_time:
        facts.append(
            f"  {pluralize(result.without_time, 'file')} with the time of the object: no record has that of the file"
        )
    if result.unrecorded:
        facts.append(
            f"  {pluralize(len(result.unrecorded), 'file')} that no record names, such as"
            f" {printable(result.unrecorded[0])}"
        )
    failed = list_by_reason(dict(result.failed), " (--json names them all)")
    return [verdict, *facts, *([f"  {pluralize(len(result.failed), 'file')} failed:", *failed] if failed else [])]


def _frozen_lines(result: restore_request.RestoreResult) -> list[str]:
    """Return how to get the frozen objects, or when they come."""
    count = pluralize(len(result.frozen), "object")
    if not result.frozen:
        return []
    if not result.requested:
        size = human_bytes(result.frozen_size)
        return [f"  {count}, {size}, must be thawed first, which costs money: add --tier Bulk, Standard or Expedited"]
    return [f"  {count} being thawed until about {result.ready_at}: run the same command again then, or with --wait"]


def _records(result: restore_request.RestoreResult) -> str:
    return ", ".join(("S3", *result.records)) if result.records else "S3 alone, since no record of the upload was found"


def result_json(result: restore_request.RestoreResult) -> dict[str, Any]:
    """Return the result as one JSON object."""
    return {
        "run_id": result.request.run_id,
        "run_path": str(result.request.target),
        "url": result.request.url,
        "restored": result.ok,
        "whole": result.whole,
        "total_files": result.total_files,
        "total_bytes": result.total_size,
        "proven_files": len(result.proven_by),
        "proven_by": dict(sorted(result.proofs.items())),
        "restored_bytes": result.restored_size,
        "kept_files": len(result.kept),
        "failed": _printable(result.failed.items()),
        "frozen_files": len(result.frozen),
        "frozen_bytes": result.frozen_size,
        "thawing_files": result.requested,
        "ready_at": result.ready_at,
        "records": list(result.records),
        "unrecorded": [printable(path) for path in result.unrecorded],
        "files_without_time": result.without_time,
        "aws_processes": result.aws_processes,
        "seconds": round(result.seconds, 3),
    }


def preview_lines(planned: restore_request.RestorePreview) -> list[str]:
    """Return what would be restored, and whether there is room for it."""
    request, where = planned.request, printable(str(planned.request.target))
    lines = [
        f"would restore {printable(request.run_id)}: {pluralize(planned.files, 'file')}, {human_bytes(planned.size)}",
        f"  from {printable(request.url)} to {where}",
    ]
    lines += [
        f"  {name}: {pluralize(files, 'file')}, {human_bytes(size)}"
        for name, (files, size) in sorted(planned.classes.items())
    ]
    if planned.frozen:
        hours = human_seconds(planned.hours * 3600)
        lines.append(
            f"  {pluralize(planned.frozen, 'file')} in archives: thawing takes up to {hours}, with --tier"
            f" {request.tier or 'Bulk'}"
        )
    if planned.present:
        lines.append(f"  {pluralize(planned.present, 'file')} on disk of the same size, to be compared")
    is_short = planned.free < planned.needed
    room = f"  needs {human_bytes(planned.needed)} of disk; {human_bytes(planned.free)} are free"
    lines.append(f"{room}: NOT enough room" if is_short else room)
    lines.append(f"  would be compared with {', '.join(('S3', *planned.records))}")
    failed = list_by_reason(dict(planned.failed), " (--json names them all)")
    return [*lines, *([f"  {pluralize(len(planned.failed), 'file')} cannot be restored:", *failed] if failed else [])]


def preview_json(planned: restore_request.RestorePreview) -> dict[str, Any]:
    """Return the preview as one JSON object."""
    classes = {name: {"files": files, "bytes": size} for name, (files, size) in sorted(planned.classes.items())}
    return {
        "run_id": planned.request.run_id,
        "run_path": str(planned.request.target),
        "url": planned.request.url,
        "dry_run": True,
        "total_files": planned.files,
        "total_bytes": planned.size,
        "storage_classes": classes,
        "archived_files": planned.frozen,
        "thaw_hours": planned.hours,
        "present_files": planned.present,
        "needed_bytes": planned.needed,
        "free_bytes": planned.free,
        "failed": _printable(planned.failed.items()),
        "records": list(planned.records),
    }


def _printable(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {printable(path): why for path, why in items}
