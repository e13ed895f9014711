"""Find the run and the place in S3 that the arguments of `upload`, `verify` and `restore` name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from s3sync.aws import destination
from s3sync.aws.destination import Destination
from s3sync.commands.options import adder, path
from s3sync.errors import Notice, RunError, UsageError
from s3sync.runs import local_files, run_folder
from s3sync.text import pluralize, printable

_SCHEME = "s3://"
_WILDCARDS = set("*?[")  # characters that shells expand to file names


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add RUN, the place in S3, and --local-path, the older way to name the run."""
    parser.add_argument(
        "run",
        nargs="*",
        type=path,
        metavar="RUN",
        help="the run folder, or an analysis in it (RUN/Analysis/1); s3://B/PATH may follow, instead of --bucket",
    )
    adder(parser)("--local-path", type=path, metavar="RUN", help="the same as RUN")


def has_url(args: argparse.Namespace) -> bool:
    """Return whether an s3:// URL was given."""
    return any(each.startswith(_SCHEME) for each in args.run)


def is_from_config(args: argparse.Namespace) -> bool:
    """Return whether a config decides the place in S3: the one in --config, or a default one."""
    if args.config is not None:
        return True
    if args.bucket is not None or has_url(args):
        return False
    from s3sync.config import default_path

    return default_path(os.environ) is not None


def find_run(args: argparse.Namespace) -> str:
    """Return the path of the one run that the user named.

    Raises UsageError if that is not exactly one, and RunError if the path cannot be that of a run.
    """
    run = name_of_run(args)
    _require_folder(run, args.command)
    return run


def name_of_run(args: argparse.Namespace, *, also_local_path: bool = True) -> str:
    """Return the one run that the user named, by a path or a name; raises UsageError if that is not exactly one.

    With `also_local_path` that option names it, too.
    """
    runs = [each for each in args.run if not each.startswith(_SCHEME)]
    runs += [args.local_path] if also_local_path and args.local_path is not None else []
    if not runs:
        raise UsageError(f"no run given{_missing_run_advice(args)}", id="usage.no-run")
    if len(runs) > 1:
        raise _several_runs(args.command, runs)
    return str(runs[0])


def find_destination(args: argparse.Namespace, run: str) -> Destination:
    """Return the place in S3 that the user named: --bucket and --remote-path, or a URL. Raises UsageError."""
    urls = [each for each in args.run if each.startswith(_SCHEME)]
    if not urls and args.bucket is None:
        raise UsageError("no bucket given (add --bucket B, or s3://B/PATH behind the run)", id="usage.no-bucket")
    if not urls:
        return destination.parse_destination(args.bucket, args.remote_path)
    if len(urls) > 1 or args.bucket is not None or args.remote_path != "/":
        given = "two URLs" if len(urls) > 1 else "a URL and --bucket or --remote-path"
        raise UsageError(f"{given} name the place in S3 (leave out one of them)", id="usage.several-destinations")
    bucket, _, prefix = urls[0].removeprefix(_SCHEME).partition("/")
    found = destination.parse_destination(bucket, prefix or "/")
    if found.prefix.rpartition("/")[2] == os.path.basename(os.path.abspath(run)):
        raise UsageError(
            f"{printable(urls[0])} ends with the name of the run, which s3sync adds by itself (leave it out there)",
            id="usage.run-in-url",
        )
    return found


def unknown_lines(names: Iterable[str]) -> list[str]:
    """Return a message for each name for which there is no run in the monitored directories."""
    texts = [f"no run {printable(name)} in the monitored directories" for name in names]
    return [str(Notice(text, id="run.unknown")) for text in texts]


def warning_of_inner_runs(run: str) -> Notice | None:
    """Return a warning if a folder is not a run but contains runs; None otherwise."""
    inner = sorted(Path(run).glob(f"*/{run_folder.RUN_INFO}"))
    if not inner or os.path.lexists(os.path.join(run, run_folder.RUN_INFO)):
        return None
    where, first = printable(os.path.abspath(run)), printable(inner[0].parent.name)
    text = f"{where} is not a run, and has {pluralize(len(inner), 'run')} in it, such as {first}"
    return Notice(text, id="upload.runs-inside")


def _missing_run_advice(args: argparse.Namespace) -> str:
    """Return how to give the run. --exclude-patterns may have taken it as a pattern."""
    if getattr(args, "exclude_patterns", None) and os.path.isdir(args.exclude_patterns[-1]):
        return f": --exclude-patterns took {printable(args.exclude_patterns[-1])} as a pattern (put the run before it)"
    if has_url(args):
        return f" (put it before the URL, without its name at the end: s3sync {args.command} RUN s3://B/PATH)"
    return f" (s3sync {args.command} RUN --bucket B)"


def _several_runs(command: str, runs: list[str]) -> UsageError:
    missing = next((run for run in runs if not os.path.lexists(run) and "/" not in run), None)
    if missing is not None:
        advice = f"if {printable(missing)} is the bucket, write --bucket {printable(missing)}"
    elif command == "upload":
        advice = "for many use `s3sync monitor`"
    else:
        advice = "for many use a loop of the shell"
    return UsageError(f"{len(runs)} runs given, but {command} takes one at a time ({advice})", id="usage.several-runs")


def _require_folder(run: str, command: str) -> None:
    """Raise RunError if the path cannot be a run folder; the message suggests what may be meant."""
    if os.path.isdir(run):
        return
    if _WILDCARDS & set(run) and not os.path.lexists(run):
        advice = f"the shell expands patterns only outside quotes, and {command} takes one run at a time"
        raise RunError(f"no such folder: {printable(run)} ({advice})", id="usage.quoted-pattern")
    if os.path.isfile(run):
        folder = printable(os.path.dirname(os.path.abspath(run)))
        raise RunError(f"{printable(run)} is a file, not a run folder (did you mean {folder}?)", id="usage.file-as-run")


def require_not_inside_run(run: str) -> None:
    """Raise RunError for a folder inside a run that is not an analysis of it, and name the run."""
    folder = Path(os.path.abspath(run))
    if not folder.is_dir() or os.path.lexists(folder / run_folder.RUN_INFO):
        return
    if local_files.is_analysis(f"{folder.parent.name}/{folder.name}"):
        return
    around = next((each for each in folder.parents if os.path.lexists(each / run_folder.RUN_INFO)), None)
    if around:
        raise RunError(
            f"{printable(str(folder))} is only a part of the run {printable(str(around))} (give the run)",
            id="usage.part-of-run",
        )
