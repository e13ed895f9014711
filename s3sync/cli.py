"""The command line: words in, exit code out. The one place where errors become messages."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from s3sync import __version__, report
from s3sync.destination import parse_destination
from s3sync.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, S3SyncError
from s3sync.interrupt import Stop, stop_on_signals
from s3sync.job import Job
from s3sync.plan import compile_excludes
from s3sync.progress import Lines, LiveDisplay, display_for
from s3sync.resources import usable_cores
from s3sync.text import printable
from s3sync.upload import preview, upload

DEFAULT_LOG_DIR = "/var/log/s3_upload"

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
_UPLOAD_EXAMPLES = """\
examples:
  s3sync upload --local_path /data/RUN --bucket lab-runs
  s3sync upload --local_path RUN --bucket lab-runs --remote_path /2026 --cores 8
  s3sync upload --local_path RUN --bucket lab-runs --exclude_patterns '\\.jpg$'
  s3sync upload --local_path RUN --bucket lab-runs --dry_run
"""
_VERIFY_EXAMPLES = """\
examples:
  s3sync verify /data/RUN --bucket lab-runs
  s3sync verify /data/RUN --bucket lab-runs --remote_path /2026 --json
"""
_MONITOR_EXAMPLES = """\
examples:
  s3sync monitor --config /etc/s3sync.yaml
  s3sync monitor --config /etc/s3sync.yaml --dry_run
"""
_STATUS_EXAMPLES = """\
examples:
  s3sync status --config /etc/s3sync.yaml
  s3sync status --config /etc/s3sync.yaml RUN
  s3sync status --config /etc/s3sync.yaml --json
"""
_CHECK_EXAMPLES = """\
examples:
  s3sync check --config /etc/s3sync.yaml
  s3sync check --config /etc/s3sync.yaml --write
"""
_FILE_COLUMNS = 160  # of tables that do not go to a terminal

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no other name


def entry_point() -> None:
    """For the installed command."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's own) asks for; returns its exit code."""
    parser = _parser()
    args = parser.parse_args(_underscored(sys.argv[1:] if argv is None else argv))
    try:
        code: int = args.run_command(args)
    except S3SyncError as error:
        if args.json:
            _print_json({"error": str(error), "exit_code": error.exit_code})
        for line in str(error).splitlines():
            print(f"s3sync: {line}", file=sys.stderr)
        return error.exit_code
    return code


def _run_upload(args: argparse.Namespace) -> int:
    job = Job(
        local_path=Path(args.local_path),
        destination=parse_destination(args.bucket, args.remote_path),
        log_dir=Path(os.path.abspath(args.log_dir)),
        cores=args.cores or usable_cores(),
        threads=args.threads,
        skip_check=args.skip_check,
        excludes=compile_excludes(args.exclude_patterns),
        readback=args.readback,
        verify=args.verify,
        aws_command=args.aws_command,
    )
    stop = Stop()
    with stop_on_signals(stop), display_for(sys.stderr) as display:
        if args.dry_run:
            planned = preview(job, os.environ, stop, display)
        else:
            done = upload(job, os.environ, stop, display)
    if args.dry_run:
        _show(args, report.preview_lines(planned), report.preview_json(planned))
        return EXIT_FAILED if planned.scope.unsendable else EXIT_DONE
    code = EXIT_DONE if done.state.completed else EXIT_FAILED
    _show(args, report.summary(done), {**report.as_json(done), "exit_code": code})
    return code


def _show(args: argparse.Namespace, lines: Sequence[str], facts: dict[str, Any]) -> None:
    if args.json:
        _print_json(facts)
    else:
        print("\n".join(lines))


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts, indent=1))


def _run_verify(args: argparse.Namespace) -> int:
    from s3sync import verify

    job = Job(
        local_path=Path(args.run),
        destination=parse_destination(args.bucket, args.remote_path),
        log_dir=Path(os.devnull),  # no log is read or written
        cores=args.cores or usable_cores(),
        excludes=compile_excludes(args.exclude_patterns),
        aws_command=args.aws_command,
    )
    stop = Stop()
    with stop_on_signals(stop), display_for(sys.stderr) as display:
        found = verify.verify(job, os.environ, stop, display)
    code = EXIT_DONE if found.identical else EXIT_FAILED
    _show(args, verify.lines(found), {**verify.as_json(found), "exit_code": code})
    return code


def _run_monitor(args: argparse.Namespace) -> int:
    from s3sync import logs, monitor, status
    from s3sync.config import load_config

    os.umask(0o077)  # what a tick writes is for its user alone
    config = load_config(Path(args.config), os.environ)
    on_terminal = sys.stderr.isatty()
    stop = Stop()
    with stop_on_signals(stop):
        if args.dry_run:
            tick = monitor.dry_tick(config, os.environ, stop, lambda: display_for(sys.stderr))
        else:
            logs.set_up(config.log_dir, config.log_level)
            show = (lambda: LiveDisplay(sys.stderr)) if on_terminal else (lambda: Lines(logs.LogStream(monitor.LOG)))
            tick = monitor.run_tick(config, os.environ, stop, show)
    code = EXIT_DONE if tick.ok else EXIT_FAILED
    if args.json:
        _print_json({**status.tick_json(tick), "exit_code": code})
    elif args.dry_run:
        _print_tables(status.dry_tables(tick))
        _print_lines(f"s3sync: {p.key}: {p.text}" for p in tick.problems if p.kind in ("other", "aws"))
    elif on_terminal:
        _print_lines(status.tick_lines(tick))
    return code


def _run_status(args: argparse.Namespace) -> int:
    from s3sync import status
    from s3sync.config import load_config

    config = load_config(Path(args.config), os.environ)
    rows, troubles = status.look(config, args.run)
    unknown = sorted(set(args.run) - {row.run.run.run_id for row in rows})
    if args.json:
        _print_json(status.as_json(rows, troubles, config, detailed=bool(args.run)))
    elif args.run:
        _print_lines(line for row in rows for line in status.details(row, config))
    else:
        _print_tables([status.table(rows)] if rows else [])
        _print_lines([status.totals(rows)])
    for trouble in troubles:
        print(f"s3sync: {trouble.key}: {trouble.text}", file=sys.stderr)
    for name in unknown:
        print(f"s3sync: no run {printable(name)} in the monitored directories", file=sys.stderr)
    return EXIT_FAILED if unknown or troubles else EXIT_DONE


def _run_check(args: argparse.Namespace) -> int:
    from s3sync import check

    stop = Stop()
    found = []
    with stop_on_signals(stop):
        for finding in check.findings(Path(args.config), os.environ, stop, probe_write=args.write):
            found.append(finding)
            if not args.json:
                _print_lines([f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.what}: {finding.text}"])
    if any(finding.what == "config" and not finding.ok for finding in found):
        code = EXIT_CONFIG
    else:
        code = EXIT_DONE if all(finding.ok for finding in found) else EXIT_FAILED
    if args.json:
        _print_json({"findings": [finding._asdict() for finding in found], "exit_code": code})
    return code


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _print_tables(tables: Sequence[Table]) -> None:
    """As wide as the terminal; where there is none, wide enough for most names."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)
    for table in tables:
        console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="s3sync",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"s3sync {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_upload(commands)
    _add_verify(commands)
    _add_monitor(commands)
    _add_status(commands)
    _add_check(commands)
    return parser


def _add_command(commands: Commands, name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=description[0].lower() + description[1:].split(".")[0],
        description=description,
        epilog=f"{epilog}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_monitor(commands: Commands) -> None:
    parser = _add_command(
        commands, "monitor", "Upload every new run that is complete. This is what cron runs.", _MONITOR_EXAMPLES
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="JSON or YAML; see conf/s3sync.sample.yaml")
    parser.add_argument("--dry_run", action="store_true", help="say what would be uploaded, and why not the rest")
    parser.add_argument("--json", action="store_true", help="what came of it as one JSON object on stdout")
    parser.set_defaults(run_command=_run_monitor)


def _add_status(commands: Commands) -> None:
    parser = _add_command(commands, "status", "Show all runs: their state and the reason.", _STATUS_EXAMPLES)
    parser.add_argument("run", nargs="*", metavar="RUN", help="all there is to know of these runs")
    parser.add_argument("--config", required=True, metavar="FILE", help="the monitor's config")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run_command=_run_status)


def _add_check(commands: Commands) -> None:
    parser = _add_command(
        commands, "check", "Look whether all is right for the monitor, before cron does.", _CHECK_EXAMPLES
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the monitor's config")
    parser.add_argument(
        "--write", action="store_true", help="also begin and abort a multipart upload at each destination"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run_command=_run_check)


def _add_upload(commands: Commands) -> None:
    parser = _add_command(
        commands, "upload", "Put one run into a bucket, and prove that every file arrived.", _UPLOAD_EXAMPLES
    )
    add = parser.add_argument
    add("--local_path", required=True, metavar="RUN", help="the run folder")
    _add_common(parser)
    add("--threads", type=_positive, default=4, metavar="N", help="requests at once in each process (default 4)")
    add("--skip_check", action="store_true", help="upload the folder even if it is no complete run")
    add("--log_dir", default=DEFAULT_LOG_DIR, metavar="DIR", help=f"state logs (default {DEFAULT_LOG_DIR})")
    add(
        "--verify",
        choices=("etag", "size"),
        default="etag",
        help="what proves a file: S3's ETag against the bytes on disk (default), or the size alone",
    )
    add(
        "--readback",
        choices=("auto", "head-object", "list-objects-v2"),
        default="auto",
        help="how S3 is asked what it has (default auto: the cheaper)",
    )
    add("--dry_run", action="store_true", help="say what would be sent; write nothing")
    parser.set_defaults(run_command=_run_upload)


def _add_verify(commands: Commands) -> None:
    parser = _add_command(
        commands, "verify", "Compare a run on disk with S3, now, whatever the log says.", _VERIFY_EXAMPLES
    )
    parser.add_argument("run", metavar="RUN", help="the run folder")
    _add_common(parser)
    parser.set_defaults(run_command=_run_verify)


def _add_common(parser: argparse.ArgumentParser) -> None:
    """What `upload` and `verify` share."""
    add = parser.add_argument
    add("--bucket", required=True, metavar="B", help="the bucket's name")
    add("--remote_path", default="/", metavar="PATH", help="where in the bucket (default /): PATH/RUN/...")
    add("--cores", type=_cores, metavar="N", help="aws processes at once (default ALL that may be used)")
    add(
        "--exclude_patterns",
        nargs="+",
        action="extend",
        default=[],
        metavar="RE",
        help="leave out files whose RUN/path/in/run one of these regular expressions is found in",
    )
    add("--aws_command", metavar="FILE", help="the AWS CLI (default: beside this Python, else on PATH)")
    add("--json", action="store_true", help="the result as one JSON object on stdout")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _cores(text: str) -> int | None:
    return None if text.upper() == "ALL" else _positive(text)


_positive.__name__ = _cores.__name__ = "number of 1 or more"  # argparse names the type in its complaint


def _underscored(argv: Sequence[str]) -> list[str]:
    """`--local-path` is as good as `--local_path`: hyphens in the names of options become underscores."""
    words = []
    for word in argv:
        name, equals, value = word.partition("=")
        is_option = name.startswith("--") and len(name) > 2
        words.append("--" + name[2:].replace("-", "_") + equals + value if is_option else word)
    return words
