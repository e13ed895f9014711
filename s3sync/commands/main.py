"""The command line: words in, exit code out. The one place where errors become messages."""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table

from s3sync import __version__
from s3sync.aws import argv as aws_argv
from s3sync.aws import client, destination
from s3sync.commands import boundary, upload_text
from s3sync.commands import options as commands_options
from s3sync.errors import (
    EXIT_CONFIG,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_USAGE,
    ConfigError,
    InterruptedBySignal,
    RunError,
    StateError,
    UsageError,
)
from s3sync.resources import step_back, usable_cores
from s3sync.signals import Stop, stop_on_signals
from s3sync.slurm import Collector, coordinator
from s3sync.slurm import client as slurm_client
from s3sync.state import log_dir
from s3sync.text import printable
from s3sync.transfer import UploadRequest, UploadResult, bandwidth, progress, request, selection, upload

if TYPE_CHECKING:
    from s3sync.config import Config  # which takes long to import, and `upload` does without

_VERSION_SECONDS = 20.0  # for an `aws` that is asked for its version; the slowest take five
_USUAL_COLUMNS = 80  # of a terminal that does not say how many it has
_FILE_COLUMNS = 160  # of tables that do not go to a terminal


def entry_point() -> None:
    """For commands that were installed by an older version."""
    sys.exit(boundary.finish(lambda: main))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's own) asks for; returns its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that this terminal's encoding does not have
    parser = commands_options.parser()
    args = parser.parse_args(commands_options.underscored(sys.argv[1:] if argv is None else argv))
    try:
        if args.version or args.print_completion:
            return _show_itself(parser, args)
        if args.command is None:
            parser.print_help(sys.stderr)
            return EXIT_USAGE
        return _COMMANDS[args.command](args)
    except BrokenPipeError:  # nobody reads any more: there is nobody to tell
        raise
    except (Exception, KeyboardInterrupt) as error:
        text, code = boundary.explain(error, os.environ)
        if getattr(args, "json", False):
            _print_json({"error": text, "exit_code": code})
        for line in text.splitlines():
            print(f"s3sync: {printable(line)}", file=sys.stderr)
        return code


def _show_itself(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """What is asked for without a command."""
    if args.print_completion:
        from s3sync.commands import completion

        print(completion.completion(parser, args.print_completion), end="")
        return EXIT_DONE
    stop = Stop()
    with stop_on_signals(stop):
        aws = client.describe_installed(os.environ, stop, _VERSION_SECONDS)
    _print_lines([f"s3sync {__version__}", f"Python {platform.python_version()} ({printable(sys.executable)})", aws])
    return EXIT_DONE


def _run_upload(args: argparse.Namespace) -> int:
    place = _log_dir(args)
    job = UploadRequest(
        local_path=Path(args.local_path),
        destination=destination.parse_destination(args.bucket, args.remote_path),
        log_dir=place.path,
        cores=args.cores or usable_cores(),
        threads=args.threads,
        max_processes=args.max_processes,
        skip_check=args.skip_check,
        recheck=args.recheck,
        excludes=selection.compile_excludes(args.exclude_patterns),
        readback=args.readback,
        verify=args.verify,
        aws_command=args.aws_command,
        storage=_storage(args),
        bucket_owner=args.expected_bucket_owner,
        max_bandwidth=_bandwidth(args),
        stall_seconds=args.stall_minutes * 60,
        transfer_client=args.transfer_client,
        completion_object=args.completion_object,
        on_complete=args.on_complete,
    )
    _say_note(place)
    if args.dry_run:
        log_dir.require_readable(job.log_dir)
    else:
        log_dir.require_writable(job.log_dir)
    step_back(args.nice, args.io_priority)
    stop = Stop()
    with stop_on_signals(stop):
        return _preview(args, job, stop, place) if args.dry_run else _upload(args, job, stop, place)


def _log_dir(args: argparse.Namespace) -> log_dir.Place:
    """That of `upload` and `verify`."""
    if args.log_dir is not None:
        return log_dir.Place(Path(os.path.abspath(args.log_dir)), "")
    return log_dir.for_upload(os.environ)


def _say_note(place: log_dir.Place) -> None:
    if place.note:
        print(f"s3sync: note: {place.note}", file=sys.stderr, flush=True)


def _config_to_read(args: argparse.Namespace) -> Config:
    """The config of a command that only reads what is remembered; raises StateError if this user cannot."""
    from s3sync.config import load_config

    config = load_config(Path(args.config), os.environ)
    if "log_dir" not in config.model_fields_set:
        place = log_dir.for_reading(os.environ)
        _say_note(place)
        config = config.model_copy(update={"log_dir": place.path})
    log_dir.require_readable(config.log_dir)
    return config


def _config_to_write(args: argparse.Namespace) -> Config:
    """The config of a command that writes there, too; raises StateError if this user cannot."""
    from s3sync.config import load_config

    config = load_config(Path(args.config), os.environ)
    log_dir.require_writable(config.log_dir, Path(args.config))
    return config


def _upload(args: argparse.Namespace, job: UploadRequest, stop: Stop, place: log_dir.Place) -> int:
    cluster = _cluster(args)

    def one(job: UploadRequest) -> UploadResult:
        with progress.display_for(sys.stderr) as display:
            report = coordinator.run_upload(job, cluster, os.environ, stop, display)
        assert report is not None, "it is followed to its end"
        return report

    done = one(job)
    analyses, waiting = upload.and_its_analyses(job, done, one)
    is_whole = not waiting and all(each.ok for each in (done, *analyses))
    code = EXIT_DONE if is_whole else EXIT_FAILED
    lines = [line for each in (done, *analyses) for line in upload_text.summary(each)]
    also = [*map(upload_text.as_json, analyses), *map(upload_text.waiting_json, waiting)]
    facts = {**upload_text.as_json(done), "log_dir_note": place.note, "analyses": also, "exit_code": code}
    _show(args, [*lines, *_waits(waiting)], facts)
    return code


def _preview(args: argparse.Namespace, job: UploadRequest, stop: Stop, place: log_dir.Place) -> int:
    def one(job: UploadRequest) -> request.Preview:
        with progress.display_for(sys.stderr) as display:
            return upload.preview(job, os.environ, stop, display, Collector(os.environ))

    planned = one(job)
    analyses, waiting = upload.and_its_analyses(job, planned, one)
    is_whole = not waiting and not any(each.scope.unsendable for each in (planned, *analyses))
    code = EXIT_DONE if is_whole else EXIT_FAILED
    lines = [line for each in (planned, *analyses) for line in upload_text.preview_lines(each)]
    also = [*map(upload_text.preview_json, analyses), *map(upload_text.waiting_json, waiting)]
    facts = {**upload_text.preview_json(planned), "log_dir_note": place.note, "analyses": also, "exit_code": code}
    _show(args, [*lines, *_waits(waiting)], facts)
    return code


def _waits(waiting: Iterable[request.PendingAnalysis]) -> list[str]:
    return [line for each in waiting for line in upload_text.waiting_lines(each)]


def _storage(args: argparse.Namespace) -> aws_argv.Storage:
    if args.sse_kms_key_id and args.sse != "aws:kms":
        raise UsageError("--sse_kms_key_id means nothing without --sse aws:kms (add that)")
    return aws_argv.Storage(args.sse, args.sse_kms_key_id, args.storage_class, args.acl)


def _cluster(args: argparse.Namespace) -> slurm_client.SlurmOptions | None:
    given = {"--nodes": args.nodes, commands_options.SBATCH_OPTIONS: args.sbatch_options}
    if args.executor == "slurm":
        options = slurm_client.parse_options(args.sbatch_options or "")
        return slurm_client.SlurmOptions(args.nodes or slurm_client.DEFAULT_NODES, options=options, cores=args.cores)
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} means nothing without --executor slurm (add that)")
    return None


def _bandwidth(args: argparse.Namespace) -> bandwidth.BandwidthSchedule | None:
    if args.max_bandwidth and args.transfer_client == "crt":
        raise UsageError("--transfer_client crt keeps to no --max_bandwidth (leave out one of them)")
    limit: bandwidth.BandwidthSchedule | None = args.max_bandwidth
    return limit


def _show(args: argparse.Namespace, lines: Sequence[str], facts: dict[str, Any]) -> None:
    if args.json:
        _print_json(facts)
    else:
        _print_lines(lines)


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts, indent=1))


def _run_verify(args: argparse.Namespace) -> int:
    from s3sync.transfer import verify

    job = UploadRequest(
        local_path=Path(args.run),
        destination=destination.parse_destination(args.bucket, args.remote_path),
        log_dir=Path(os.devnull),  # no log is written
        cores=args.cores or usable_cores(),
        skip_check=args.skip_check,
        excludes=selection.compile_excludes(args.exclude_patterns),
        aws_command=args.aws_command,
        bucket_owner=args.expected_bucket_owner,
    )
    manifest = Path(os.path.abspath(args.manifest)) if args.manifest is not None else None
    stop = Stop()
    with stop_on_signals(stop), progress.display_for(sys.stderr) as display:
        found = verify.verify(job, os.environ, stop, display, manifest)
    if found.is_absent:
        own = log_dir.own_folder(os.environ)
        log_dirs = [args.log_dir] if args.log_dir else [log_dir.DEFAULT, *([own] if own else [])]
        found.elsewhere = verify.find_elsewhere(found, map(Path, log_dirs))
    code = EXIT_DONE if found.ok else EXIT_FAILED
    advised = verify.next_step(found, job, _log_dir_to_name(args))
    _show(args, [*verify.lines(found), *advised], {**verify.as_json(found), "exit_code": code})
    return code


def _log_dir_to_name(args: argparse.Namespace) -> str | None:
    """What an advised `upload` has to have as --log_dir; None if it finds the same one without."""
    if args.log_dir is not None:
        return str(_log_dir(args).path)
    try:
        log_dir.for_upload(os.environ)
    except StateError:
        return "DIR"  # only this user knows where there is room
    return None


def _run_monitor(args: argparse.Namespace) -> int:
    from s3sync import logs
    from s3sync.commands import status
    from s3sync.config import load_config
    from s3sync.monitor import config_failure, scan

    os.umask(0o077)  # what a scan writes is for its user alone
    try:
        config = _config_to_read(args) if args.dry_run else load_config(Path(args.config), os.environ)
    except ConfigError as error:
        if not args.dry_run:
            config_failure.report(Path(args.config), error)
        raise
    step_back(config.nice, config.io_priority)
    on_terminal = sys.stderr.isatty()
    stop = Stop()
    with stop_on_signals(stop):
        if args.dry_run:
            result = scan.dry_run(config, os.environ, stop, lambda: progress.display_for(sys.stderr))
        else:
            try:
                log_dir.require_writable(config.log_dir, Path(args.config))
                logs.set_up(config.log_dir, config.log_level)
            except StateError as error:
                scan.report_no_start(config, error)
                raise
            show = (
                (lambda: progress.LiveDisplay(sys.stderr))
                if on_terminal
                else (lambda: progress.Lines(logs.LogStream(scan.LOG)))
            )
            result = scan.run_scan(config, os.environ, stop, show)
    code = EXIT_CONFIG if result.misconfigured else EXIT_DONE if result.ok else EXIT_FAILED
    if args.json:
        _print_json({**status.result_json(result), "exit_code": code})
    elif args.dry_run:
        _print_tables(status.dry_tables(result))
        _print_lines(f"s3sync: {p.key}: {p.text}" for p in result.problems if p.kind in ("other", "aws"))
    elif on_terminal:
        _print_lines(status.result_lines(result))
    return code


def _run_status(args: argparse.Namespace) -> int:
    from s3sync.commands import status

    config = _config_to_read(args)
    found = status.look(config, args.run)
    rows = found.rows
    code = EXIT_DONE if found.verdict.ok and not found.unknown else EXIT_FAILED
    if args.json:
        _print_json({**status.as_json(found, config, detailed=bool(args.run)), "exit_code": code})
    elif args.run:
        _print_lines(line for row in rows for line in status.details(row, config))
    else:
        _print_tables([status.table(rows)] if rows else [])
        _print_lines([status.totals(rows), status.scan_line(found)])
    for line in status.problem_lines(found):
        print(printable(f"s3sync: {line}"), file=sys.stderr)
    for name in found.unknown:
        print(f"s3sync: no run {printable(name)} in the monitored directories", file=sys.stderr)
    return code


def _run_report(args: argparse.Namespace) -> int:
    from s3sync import files
    from s3sync.config import watched_by
    from s3sync.inventory import history
    from s3sync.monitor import activity, dashboard, publish
    from s3sync.runs import off_limits

    config = _config_to_read(args)
    output = Path(os.path.abspath(args.output))
    if around := off_limits.enclosing(output, watched_by(config)):
        where = f"{printable(str(output))} is inside {printable(around)}, whose files are uploaded"
        raise UsageError(f"--output {where} (give another folder)")
    known = history.look(config)
    of_scans = activity.look(config)
    view = dashboard.view_of(known, of_scans)
    written = publish.write_page(output, view)
    code = EXIT_FAILED if known.troubles else EXIT_DONE
    closed = files.closed_above(written)
    if args.json:
        _print_json(
            {**dashboard.as_json(view, known, of_scans, written), "closed": str(closed or ""), "exit_code": code}
        )
    else:
        _print_lines(dashboard.summary(view, written))
    for trouble in known.troubles:
        print(printable(f"s3sync: {trouble.key}: {trouble.text}"), file=sys.stderr)
    if closed:
        advice = "so a web server that runs as another cannot read the page (chmod o+x it, or choose another folder)"
        print(printable(f"s3sync: note: {closed} is closed to other users, {advice}"), file=sys.stderr)
    return code


def _run_check(args: argparse.Namespace) -> int:
    from s3sync.commands import check, cron_environment

    asker = None
    if args.cron:
        asker, environ = dict(os.environ), cron_environment.of_cron(os.environ, Path(os.path.abspath(args.config)))
        os.environ.clear()
        os.environ.update(environ)
    stop = Stop()
    found = []
    with stop_on_signals(stop):
        options = {"probe_write": args.write, "submit": args.submit}
        for finding in check.findings(Path(args.config), os.environ, stop, asker=asker, **options):
            found.append(finding)
            level = "PROBLEM" if not finding.ok else "warning" if finding.warning else "ok     "
            if not args.json:
                _print_lines([f"{level}  {finding.what}: {finding.text}"])
    if any(finding.what == "config" and not finding.ok for finding in found):
        code = EXIT_CONFIG
    else:
        code = EXIT_DONE if all(finding.ok for finding in found) else EXIT_FAILED
    if args.json:
        _print_json({"findings": [finding._asdict() for finding in found], "exit_code": code})
    return code


def _run_cleanup(args: argparse.Namespace) -> int:
    from s3sync import logs
    from s3sync.cleanup import candidates
    from s3sync.cleanup import worker as cleanup_worker
    from s3sync.commands import cleanup_text

    os.umask(0o077)
    may_ask = sys.stdin.isatty() and sys.stderr.isatty()
    if args.yes and not args.delete:
        raise UsageError("--yes means nothing without --delete (add that, or leave it out to list)")
    if args.delete and not args.yes and not may_ask:
        raise UsageError("--delete asks on a terminal, and here is none (add --yes if you are certain)")
    config = _config_to_write(args) if args.delete else _config_to_read(args)
    step_back(config.nice, config.io_priority)
    planned = candidates.survey_runs(config, args.run, args.older_than)
    print_errors = functools.partial(_print_lines, stream=sys.stderr)
    if args.delete and not args.yes and planned.to_verify:
        print_errors(cleanup_text.question(planned))
        _ask_for("delete")
    else:
        print_errors(cleanup_text.announcement(planned))
    if args.delete:
        logs.set_up(config.log_dir, config.log_level)
    stop = Stop()
    with stop_on_signals(stop):
        worker = cleanup_worker.Cleaner(
            config, args.older_than, os.environ, stop, lambda: progress.display_for(sys.stderr)
        )
        done = cleanup_worker.clean(worker, planned, args.run, delete=args.delete)
    code = EXIT_DONE if cleanup_worker.is_all_done(done, args.run, delete=args.delete) else EXIT_FAILED
    if args.json:
        _print_json({**cleanup_text.as_json(done), "exit_code": code})
    else:
        _print_lines(cleanup_text.lines(done, _width()))
        _print_lines(cleanup_text.totals(done, config.log_dir, delete=args.delete))
    print_errors(cleanup_text.complaints(done))
    return code


def _run_forget(args: argparse.Namespace) -> int:
    from s3sync.inventory import forget

    os.umask(0o077)
    done = forget.forget(_config_to_write(args), args.run)
    _show(args, forget.lines(done), {**forget.as_json(done), "exit_code": EXIT_DONE})
    return EXIT_DONE


def _run_task(args: argparse.Namespace) -> int:
    from s3sync.slurm import task, work_folder

    os.umask(0o077)
    folder, number = work_folder.WorkFolder(Path(args.folder)), os.environ.get("SLURM_ARRAY_TASK_ID")
    stop = Stop()
    with stop_on_signals(stop):
        if number is None:
            task.run_finalizer(folder, os.environ, stop)
            return EXIT_DONE
        return EXIT_DONE if task.run_task(folder, int(number), os.environ, stop) else EXIT_FAILED


def _ask_for(word: str) -> None:
    """Wait for this word on the terminal; raises RunError if it is another, InterruptedBySignal after Ctrl-C."""
    print(f"Type `{word}` to go on: ", end="", file=sys.stderr, flush=True)
    try:
        answer = sys.stdin.readline().strip()
    except KeyboardInterrupt:
        raise InterruptedBySignal(signal.SIGINT, f"interrupted; nothing was {word}d") from None
    if answer != word:
        raise RunError(f"nothing was {word}d: the answer was not `{word}`")


def _print_lines(lines: Iterable[str], stream: TextIO | None = None) -> None:
    for line in lines:
        print(printable(line), file=stream, flush=True)


def _width() -> int:
    if not sys.stdout.isatty():
        return _FILE_COLUMNS
    return shutil.get_terminal_size().columns or _USUAL_COLUMNS  # before Python 3.11 some terminals have none


def _print_tables(tables: Sequence[Table]) -> None:
    """As wide as the terminal; where there is none, wide enough for most names."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)
    for table in tables:
        console.print(table)


_COMMANDS = {
    "upload": _run_upload,
    "verify": _run_verify,
    "monitor": _run_monitor,
    "status": _run_status,
    "report": _run_report,
    "check": _run_check,
    "cleanup": _run_cleanup,
    "forget": _run_forget,
    "task": _run_task,
}
