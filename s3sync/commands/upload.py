"""`s3sync upload`: upload one run, and verify every file."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3sync.aws import destination as aws_destination
from s3sync.commands import locations, options, output, run_argument, upload_text
from s3sync.errors import EXIT_DONE, EXIT_FAILED, UsageError
from s3sync.resources import lower_priority, usable_cores
from s3sync.signals import StopRequest, stop_on_signals
from s3sync.slurm import Collector, coordinator
from s3sync.slurm import client as slurm_client
from s3sync.state import log_dir
from s3sync.transfer import displays, upload
from s3sync.transfer.context import Runtime
from s3sync.transfer.request import PendingAnalysis, Preview, UploadRequest, UploadResult, bandwidth, compile_excludes
from s3sync.transfer.upload import upload_analyses

USAGE = "RUN --bucket B [options]"
DESCRIPTION = "Upload one run, and verify every file."
EXAMPLES = """\
examples:
  s3sync upload /data/RUN --bucket lab-runs
  s3sync upload /data/RUN s3://lab-runs/2026
  s3sync upload /data/RUN --bucket lab-runs --dry-run
  s3sync upload /data/RUN --bucket lab-runs --exclude-patterns '\\.jpg$'
  s3sync upload /data/RUN --bucket lab-runs --cores 8 --max-bandwidth 50MB/s
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    run_argument.add_options(parser)
    options.add_destination(parser)
    options.adder(parser)("--dry-run", action="store_true", help="show what would be uploaded; write nothing")
    _add_selection(parser.add_argument_group("what is sent"))
    _add_proof(parser.add_argument_group("how it is verified"))
    _add_speed(parser.add_argument_group("how fast"))
    _add_storage(parser.add_argument_group("how S3 stores it"))
    _add_afterwards(parser.add_argument_group("at the end"))
    _add_slurm(parser.add_argument_group("on a Slurm cluster"))
    options.add_program(parser.add_argument_group("logs and output"))


def _add_selection(group: options.Container) -> None:
    options.add_exclude_patterns(group)
    add = options.adder(group)
    add("--skip-check", action="store_true", help="upload the folder even if it is not a complete run")
    add(
        "--recheck",
        action="store_true",
        help="compare with S3 even if the log says completed; what differs is sent again",
    )


def _add_proof(group: options.Container) -> None:
    add = options.adder(group)
    add(
        "--verify",
        choices=("auto", "etag", "checksum", "size"),
        default="auto",
        help="what proves a file: S3's ETag or its CRC32 against the bytes on disk (default auto: whichever takes less"
        " CPU time), or the size alone",
    )
    add(
        "--readback",
        choices=("auto", "head-object", "list-objects-v2"),
        default="auto",
        help="how objects in S3 are read back (default auto: the cheaper way)",
    )


def _add_storage(group: options.Container) -> None:
    add = options.adder(group)
    add("--sse", choices=aws_destination.SSE, default="", help="encryption (default: as the bucket does)")
    add("--sse-kms-key-id", default="", metavar="KEY", help="the KMS key for --sse aws:kms")
    add(
        "--storage-class",
        choices=aws_destination.STORAGE_CLASSES,
        default="",
        metavar="CLASS",
        help="STANDARD (default), STANDARD_IA, INTELLIGENT_TIERING, GLACIER_IR, DEEP_ARCHIVE, ...",
    )
    add(
        "--storage-class-for",
        action="append",
        type=options.class_rule,
        default=[],
        metavar="RE=CLASS",
        help="the class of files if this regular expression is found in their RUN/path/in/run, e.g."
        " '\\.cbcl$=DEEP_ARCHIVE'; may be repeated; the first match decides",
    )
    add(
        "--acl",
        choices=aws_destination.ACLS,
        default="",
        metavar="ACL",
        help=f"the canned ACL, where the bucket's policy requires one: {', '.join(aws_destination.ACLS)}",
    )


def _add_speed(group: options.Container) -> None:
    options.add_cores(group)
    add = options.adder(group)
    threads = "requests at once in each process (default: 4, or what the latency requires if small files go fast)"
    add("--threads", type=options.positive, metavar="N", help=threads)
    add(
        "--max-processes",
        type=options.positive,
        metavar="N",
        help="aws processes at once while that leaves the CPU idle (default four times --cores)",
    )
    options.add_max_bandwidth(group, "send")
    add(
        "--transfer-client",
        choices=("auto", "default", "crt"),
        default="auto",
        help="auto: send small files with a plugin in the AWS CLI, which saves CPU time, where that is safe; default:"
        " use only the AWS CLI; crt: use the C client of its version 2 (default: auto)",
    )
    options.add_stall_minutes(group)
    options.add_nice(group)
    add(
        "--io-priority",
        choices=("normal", "low", "idle"),
        default="normal",
        help="the disk priority (default normal)",
    )


def _add_afterwards(group: options.Container) -> None:
    add = options.adder(group)
    add(
        "--completion-object",
        action="store_true",
        help="write s3sync.complete.json into the run's prefix: files, sizes, ETags, verdict",
    )
    add(
        "--on-complete",
        type=options.command,
        metavar="COMMAND",
        help="run this without a shell: the run is in S3SYNC_RUN_ID and the like, the log is its stdin",
    )


def _add_slurm(group: options.Container) -> None:
    add = options.adder(group)
    add(
        "--executor",
        choices=("local", "slurm"),
        default="local",
        help="slurm: upload from the nodes of this machine's cluster (default local)",
    )
    add(
        "--nodes",
        type=options.positive,
        metavar="N",
        help=f"nodes at once for the run (default {slurm_client.DEFAULT_NODES})",
    )
    add(
        "--sbatch-options",
        metavar="OPTIONS",
        help="more options for sbatch, as one argument: '--partition=short --time=4:00:00'",
    )


def run(args: argparse.Namespace) -> int:
    """Upload the run, or preview the upload, and return the exit code."""
    place = locations.upload_log_dir(args)
    request = _request(args, place)
    locations.print_note(place)
    if args.dry_run:
        log_dir.require_readable(request.log_dir)
        output.print_messages(locations.warn_of_unwritable(request.log_dir))
    else:
        log_dir.require_writable(request.log_dir)
    lower_priority(args.nice, args.io_priority)
    stop = StopRequest()
    with stop_on_signals(stop):
        act = _preview if args.dry_run else _upload
        return act(args, request, stop, place)


def _request(args: argparse.Namespace, place: log_dir.LogDir) -> UploadRequest:
    path = run_argument.find_run(args)
    if not args.skip_check:
        run_argument.require_not_inside_run(path)
    elif warning := run_argument.warning_of_inner_runs(path):
        output.print_messages([warning.line])
    return UploadRequest(
        local_path=Path(path),
        destination=run_argument.find_destination(args, path),
        log_dir=place.path,
        cores=args.cores or usable_cores(),
        threads=args.threads,
        max_processes=args.max_processes,
        skip_check=args.skip_check,
        recheck=args.recheck,
        excludes=compile_excludes(args.exclude_patterns),
        readback=args.readback,
        verify=args.verify,
        aws_command=args.aws_command,
        storage=_storage(args),
        class_rules=tuple(args.storage_class_for),
        bucket_owner=args.expected_bucket_owner,
        profile=options.profile_of(args),
        max_bandwidth=_bandwidth(args),
        stall_seconds=args.stall_minutes * 60,
        transfer_client=args.transfer_client,
        completion_object=args.completion_object,
        on_complete=args.on_complete,
    )


def _storage(args: argparse.Namespace) -> aws_destination.Storage:
    if args.sse_kms_key_id and args.sse != "aws:kms":
        raise UsageError("--sse-kms-key-id requires --sse aws:kms (add that)", id="usage.requires-other")
    return aws_destination.Storage(
        sse=args.sse, sse_kms_key_id=args.sse_kms_key_id, storage_class=args.storage_class, acl=args.acl
    )


def _bandwidth(args: argparse.Namespace) -> bandwidth.BandwidthSchedule | None:
    if args.max_bandwidth and args.transfer_client == "crt":
        raise UsageError(
            "--max-bandwidth is not supported with --transfer-client crt (leave out one of them)", id="usage.conflict"
        )
    limit: bandwidth.BandwidthSchedule | None = args.max_bandwidth
    return limit


def _cluster(args: argparse.Namespace) -> slurm_client.SlurmOptions | None:
    if args.executor == "slurm":
        sbatch_options = slurm_client.parse_options(args.sbatch_options or "")
        return slurm_client.SlurmOptions(
            nodes=args.nodes or slurm_client.DEFAULT_NODES, options=sbatch_options, cores=args.cores
        )
    for option, value in {"--nodes": args.nodes, "--sbatch-options": args.sbatch_options}.items():
        if value is not None:
            raise UsageError(f"{option} requires --executor slurm (add that)", id="usage.requires-other")
    return None


def _upload(args: argparse.Namespace, request: UploadRequest, stop: StopRequest, place: log_dir.LogDir) -> int:
    cluster = _cluster(args)

    def upload_unit(unit: UploadRequest) -> UploadResult:
        with displays.for_stream(sys.stderr) as display:
            result = coordinator.run_upload(unit, cluster, Runtime(os.environ, stop, display))
        assert result is not None, "run_upload follows the jobs to their end"
        return result

    first = upload_unit(request)
    analyses, waiting = upload_analyses(request, first, upload_unit)
    results = [first, *analyses]
    lines = [line for result in results for line in upload_text.summary(result)]
    facts = list(map(upload_text.as_json, results))
    return _show(args, place, lines, facts, waiting, is_ok=all(result.ok for result in results))


def _preview(args: argparse.Namespace, request: UploadRequest, stop: StopRequest, place: log_dir.LogDir) -> int:
    def preview_unit(unit: UploadRequest) -> Preview:
        with displays.for_stream(sys.stderr) as display:
            return upload.preview(unit, Runtime(os.environ, stop, display), Collector(os.environ))

    first = preview_unit(request)
    analyses, waiting = upload_analyses(request, first, preview_unit)
    previews = [first, *analyses]
    lines = [line for preview in previews for line in upload_text.preview_lines(preview)]
    facts = list(map(upload_text.preview_json, previews))
    return _show(args, place, lines, facts, waiting, is_ok=not any(each.selection.rejected for each in previews))


def _show(
    args: argparse.Namespace,
    place: log_dir.LogDir,
    lines: Sequence[str],
    facts: Sequence[dict[str, Any]],
    waiting: Sequence[PendingAnalysis],
    *,
    is_ok: bool,
) -> int:
    """Print what was done for the run and its analyses, and return the exit code. The first `facts` are the run's."""
    lines = [*lines, *(line for each in waiting for line in upload_text.waiting_lines(each))]
    analyses = [*facts[1:], *map(upload_text.waiting_json, waiting)]
    code = EXIT_DONE if is_ok and not waiting else EXIT_FAILED
    return output.show(args, lines, {**facts[0], "log_dir_note": place.note, "analyses": analyses}, code)
