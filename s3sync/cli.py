"""The command line: words in, exit code out. The one place where errors become messages."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s3sync import __version__, report
from s3sync.destination import parse_destination
from s3sync.errors import EXIT_DONE, EXIT_FAILED, S3SyncError
from s3sync.interrupt import Stop, stop_on_signals
from s3sync.plan import compile_excludes
from s3sync.progress import display_for
from s3sync.resources import usable_cores
from s3sync.upload import Job, preview, upload

DEFAULT_LOG_DIR = "/var/log/s3_upload"

_DESCRIPTION = "Puts Illumina sequencing runs into AWS S3 with the AWS CLI, and proves that every byte arrived."
_EXIT_CODES = """\
exit codes:
  0    done, or nothing to do
  1    a run or file failed, or did not verify
  2    wrong usage
  75   that run is being uploaded already
  130  interrupted by Ctrl-C (143 by SIGTERM, 129 by SIGHUP)
"""
_UPLOAD_EXAMPLES = """\
examples:
  s3sync upload --local_path /data/20261123_LH00130_0061_A22CC55LT4 --bucket lab-runs
  s3sync upload --local_path RUN --bucket lab-runs --remote_path /2026 --cores 8
  s3sync upload --local_path RUN --bucket lab-runs --exclude_patterns '/Thumbnail_Images/' '\\.jpg$'
  s3sync upload --local_path RUN --bucket lab-runs --dry_run
"""


def entry_point() -> None:
    """For the installed command."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's own) asks for; returns its exit code."""
    parser = _parser()
    args = parser.parse_args(_underscored(sys.argv[1:] if argv is None else argv))
    try:
        code: int = args.run(args)
    except S3SyncError as error:
        if args.json:
            _print_json({"error": str(error), "exit_code": error.exit_code})
        print(f"s3sync: {error}", file=sys.stderr)  # noqa: T201
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
        print("\n".join(lines))  # noqa: T201


def _print_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts, indent=1))  # noqa: T201


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
    return parser


def _add_upload(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "upload",
        help="put one run into a bucket",
        description="Put one run into a bucket, and prove that every file arrived.",
        epilog=_UPLOAD_EXAMPLES + "\n" + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--local_path", required=True, metavar="RUN", help="the run folder")
    add("--bucket", required=True, metavar="B", help="the bucket's name")
    add("--remote_path", default="/", metavar="PATH", help="where in the bucket (default /): PATH/RUN/...")
    add("--cores", type=_cores, metavar="N", help="aws processes at once (default ALL that may be used)")
    add("--threads", type=_positive, default=4, metavar="N", help="requests at once in each process (default 4)")
    add("--skip_check", action="store_true", help="upload the folder even if it is no complete run")
    add(
        "--exclude_patterns",
        nargs="+",
        action="extend",
        default=[],
        metavar="RE",
        help="leave out files whose RUN/path/in/run one of these regular expressions is found in",
    )
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
    add("--aws_command", metavar="FILE", help="the AWS CLI (default: beside this Python, else on PATH)")
    add("--dry_run", action="store_true", help="say what would be sent; write nothing")
    add("--json", action="store_true", help="the result as one JSON object on stdout")
    parser.set_defaults(run=_run_upload)


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
