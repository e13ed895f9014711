"""`s3sync verify`: compare a run on disk with S3."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from s3sync import invocation
from s3sync.aws import destination
from s3sync.commands import locations, options, output, run_argument
from s3sync.commands.frozen_text import archived_json, frozen_lines, named_log_dir, thaw_command, tiers_json
from s3sync.errors import EXIT_DONE, EXIT_FAILED, Notice, StateError, UsageError
from s3sync.resources import usable_cores
from s3sync.signals import StopRequest, stop_on_signals
from s3sync.state import Proof, log_dir
from s3sync.text import human_bytes, human_seconds, indented_list, pluralize, printable
from s3sync.transfer import displays, verify
from s3sync.transfer import request as transfer_request
from s3sync.transfer.context import Runtime
from s3sync.transfer.request import as_options
from s3sync.transfer.verify import Verification, find_other_uploads

USAGE = "RUN --bucket B [options]"
DESCRIPTION = "Compare a run on disk with S3 now, without relying on the log."
EXAMPLES = """\
examples:
  s3sync verify /data/RUN --bucket lab-runs
  s3sync verify /data/RUN s3://lab-runs/2026 --json
  s3sync verify /data/RUN --bucket lab-runs --manifest /archive/RUN.tsv
  s3sync verify RUN --config /etc/s3sync.yaml
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    run_argument.add_options(parser)
    options.add_destination(parser)
    options.add_exclude_patterns(parser)
    options.add_config(
        parser, "instead of --bucket: a run that the monitor watches, with bucket, path and patterns as in this config"
    )
    options.add_cores(parser)
    options.adder(parser)("--skip-check", action="store_true", help="compare the folder even if it is not a run")
    parser.add_argument(
        "--manifest",
        type=options.path,
        metavar="FILE",
        help="write path, size, MD5, ETag and key of what is verified; FILE.md5 is for md5sum -c",
    )
    options.add_program(parser)


def run(args: argparse.Namespace) -> int:
    """Compare every file with S3, and return the exit code."""
    request = _request_from_config(args) if run_argument.is_from_config(args) else _request(args)
    manifest = Path(os.path.abspath(args.manifest)) if args.manifest is not None else None
    stop = StopRequest()
    with stop_on_signals(stop), displays.for_stream(sys.stderr) as display:
        found = verify.verify(request, Runtime(os.environ, stop, display), manifest)
    if found.is_absent:
        own = log_dir.own_folder(os.environ)
        log_dirs = [args.log_dir] if args.log_dir else [log_dir.DEFAULT, *([own] if own else [])]
        found.other_uploads = find_other_uploads(found, map(Path, log_dirs))
    code = EXIT_DONE if found.ok else EXIT_FAILED
    lines = [*result_lines(found), *next_step(found, named_log_dir(request) or _log_dir_to_name(args))]
    return output.show(args, lines, as_json(found), code)


def _request(args: argparse.Namespace) -> transfer_request.UploadRequest:
    path = run_argument.find_run(args)
    return transfer_request.UploadRequest(
        local_path=Path(path),
        destination=run_argument.find_destination(args, path),
        log_dir=Path(os.devnull),  # no log is written
        cores=args.cores or usable_cores(),
        skip_check=args.skip_check,
        excludes=transfer_request.compile_excludes(args.exclude_patterns),
        aws_command=args.aws_command,
        bucket_owner=args.expected_bucket_owner,
        profile=options.profile_of(args),
    )


def _request_from_config(args: argparse.Namespace) -> transfer_request.UploadRequest:
    """Return the request for a run that the config watches. Options on the command line override the config."""
    from s3sync.commands.overview import load_overview
    from s3sync.inventory import request_for

    config = locations.config_to_read(args)
    name = run_argument.name_of_run(args)
    rows = load_overview(config, [name]).rows
    rows = [row for row in rows if not row.run.run.parent_run] or rows  # a run, rather than its analyses
    if args.bucket is not None:
        wanted = destination.parse_destination(args.bucket, args.remote_path)
        rows = [row for row in rows if row.run.entry.destination == wanted]
    if not rows:
        where = f" that goes to s3://{args.bucket}" if args.bucket is not None else ""
        raise UsageError(
            f"no run {printable(name)}{where} in the monitored directories (without --config, add --bucket)",
            id="usage.not-monitored",
        )
    if len(rows) > 1:
        urls = ", ".join(printable(row.run.url) for row in rows)
        raise UsageError(
            f"{printable(name)} goes to {len(rows)} places: {urls} (choose one with --bucket and --remote-path)",
            id="usage.several-destinations",
        )
    request = request_for(rows[0].run, config)
    return replace(
        request,
        cores=args.cores or request.cores,
        skip_check=args.skip_check,
        excludes=(*request.excludes, *transfer_request.compile_excludes(args.exclude_patterns)),
        aws_command=args.aws_command or request.aws_command,
        bucket_owner=args.expected_bucket_owner or request.bucket_owner,
        profile=options.profile_of(args, request.profile),
    )


def _log_dir_to_name(args: argparse.Namespace) -> str:
    """Return the --log-dir that an advised `upload` needs; empty if it finds the same one without."""
    if args.log_dir is not None:
        return str(locations.upload_log_dir(args).path)
    try:
        log_dir.for_upload(os.environ)
    except StateError:
        return "DIR"  # only this user knows where there is room
    return ""


def result_lines(found: Verification) -> list[str]:
    """Return a line with the verdict, and lines with the facts behind it."""
    share = f"{len(found.verified):,} of {pluralize(found.selection.total, 'file')}"
    size = human_bytes(_size(found.verified))
    url = printable(found.destination.url(found.run.run_id))
    if found.identical and found.selection.excluded:
        excluded = pluralize(found.selection.excluded, "excluded file")
        text = f"{share}, {size}: identical, but {excluded} not compared; NOT safe to delete the local copy"
        verdict = str(Notice(text, id="verify.not-compared"))
    elif found.identical:
        verdict = f"{share}, {size}: identical; safe to delete the local copy"
    else:
        text = f"{share}, {size} identical; NOT safe to delete the local copy"
        verdict = str(Notice(text, id="verify.differs"))
    facts = [f"  against {url}, in {human_seconds(found.seconds)}"]
    if found.manifest:
        facts.append(f"  manifest {printable(str(found.manifest))}: {share}")
    elif found.manifest_error:
        facts.append(f"  manifest {found.manifest_error}")
    if found.only_in_s3 is None:
        facts.append(f"  files that only S3 has are unknown: {printable(found.why_unlisted)}")
    differing = [f"{printable(path)}: {why}" for path, why in found.differing.items()]
    return [
        verdict,
        *facts,
        *(_absent(found) if found.is_absent else _named("not identical", differing)),
        *frozen_lines(found),
        *_named("only in S3", [printable(path) for path in found.only_in_s3 or ()]),
        *_named("without bytes, so not in S3", [f"{printable(p)}: {why}" for p, why in found.selection.skipped]),
        *_named("of the same size, and no ETag or checksum to compare", [printable(p.path) for p in found.size_only]),
    ]


def _absent(found: Verification) -> list[str]:
    """Return one line instead of a list of all files, and where the run was uploaded to instead."""
    lines = ["  S3 has nothing of this run: are --bucket and --remote-path right?"]
    for log in found.other_uploads:
        assert log.destination is not None
        when = f", completed {log.head.finished}" if log.head.completed else ", not completed"
        lines.append(f"  its state log names {printable(log.destination.url(log.run_id))}{when}")
    return lines


def next_step(found: Verification, log_dir: str) -> list[str]:
    """Return a line with the command that uploads what differs, regardless of the log.

    Return none if everything is missing, since the place may be wrong. `log_dir` is named in the command unless it is
    empty.
    """
    if not found.differing or found.is_absent:
        return []
    classes = (item.storage_class for item in (found.remote or {}).values())
    how = as_options.upload_options(found.request, log_dir, classes)
    command = printable(invocation.command_line("upload", str(found.run.path), *how))
    return [f"  next    `{command}` compares with S3 again and uploads what differs"]


def as_json(found: Verification) -> dict[str, Any]:
    """Return the verification as one JSON object."""
    return {
        "run_id": found.run.run_id,
        "run_path": str(found.run.path),
        "url": found.destination.url(found.run.run_id),
        "identical": found.identical,
        "total_local_files": found.selection.total,
        "identical_files": len(found.verified),
        "identical_bytes": _size(found.verified),
        "differing": {printable(path): why for path, why in found.differing.items()},
        "only_in_s3": None if found.only_in_s3 is None else [printable(path) for path in found.only_in_s3],
        "by_size_only": [printable(proof.path) for proof in found.size_only],
        "archived": archived_json(found),
        "archive_tiers": tiers_json(found.tiers),
        "thaw": thaw_command(found) if found.is_frozen else None,
        "excluded_files": found.selection.excluded,
        "skipped": {printable(item.path): item.reason for item in found.selection.skipped},
        "manifest": str(found.manifest) if found.manifest else None,
        "manifest_error": found.manifest_error or None,
        "elsewhere": [log.destination.url(log.run_id) for log in found.other_uploads if log.destination],
        "seconds": round(found.seconds, 3),
    }


def _size(proofs: Iterable[Proof]) -> int:
    return sum(proof.size for proof in proofs)


def _named(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    return [f"  {pluralize(len(items), 'file')} {what}:", *indented_list(items, " (--json names them all)")]
