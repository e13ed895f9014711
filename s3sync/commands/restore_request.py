"""Find out which run to restore, where it is in S3, and where it goes."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from s3sync.aws import settings
from s3sync.aws.destination import FROM_ENVIRONMENT, Destination, parse_destination
from s3sync.commands import locations, options, run_argument
from s3sync.errors import StateError, UsageError
from s3sync.resources import usable_cores
from s3sync.state import summary
from s3sync.text import printable
from s3sync.transfer import restore

if TYPE_CHECKING:
    from s3sync.config import Config  # importing pydantic takes long


def find_request(args: argparse.Namespace) -> restore.request.RestoreRequest:
    """Return the request for these arguments. Raises S3SyncError."""
    name = run_argument.name_of_run(args, also_local_path=False)
    if run_argument.is_from_config(args):
        return _from_config(args, name)
    place = locations.upload_log_dir(args)
    locations.print_note(place)
    target = _target(args, name)
    return _request(args, target, run_argument.find_destination(args, str(target)), place.path)


def _from_config(args: argparse.Namespace, name: str) -> restore.request.RestoreRequest:
    """Return the request for a run of this config. Options on the command line override it."""
    config = locations.config_to_read(args)
    destination, recorded = _find_place(args, config, name)
    entries = [entry for entry in config.monitor if entry.destination == destination]
    request = _request(args, _target(args, name, recorded), destination, config.log_dir)
    _require_mounted(config, request.target.parent)
    is_usual_stall = request.stall_seconds == settings.STALL_SECONDS
    return replace(
        request,
        stall_seconds=config.stall_minutes * 60 if is_usual_stall else request.stall_seconds,
        cores=args.cores or config.max_cores or usable_cores(),
        threads=args.threads or config.max_threads or request.threads,
        max_processes=config.max_processes,
        max_bandwidth=args.max_bandwidth or config.max_bandwidth,
        aws_command=args.aws_command or config.aws_command,
        bucket_owner=args.expected_bucket_owner or (entries[0].expected_bucket_owner if entries else ""),
        profile=options.profile_of(args, entries[0].aws_profile if entries else FROM_ENVIRONMENT),
        prices=config.prices.for_restore if config.prices else None,
    )


def _require_mounted(config: Config, folder: Path) -> None:
    """Raise StateError for a monitored directory that seems not to be mounted: the run would fill the disk below."""
    from s3sync.inventory import discovery

    if str(folder) not in map(str, config.monitored_directories):
        return
    if why := discovery.why_unmounted(str(folder), config.log_dir):
        raise StateError(why, id="monitor.directory-not-mounted")


def _request(
    args: argparse.Namespace, target: Path, destination: Destination, log_dir: Path
) -> restore.request.RestoreRequest:
    return restore.request.RestoreRequest(
        run_id=target.name,
        destination=destination,
        target=target,
        log_dir=log_dir,
        cores=args.cores or usable_cores(),
        threads=args.threads or restore.request.DEFAULT_THREADS,
        parts=tuple(args.only),
        umask=_umask(),
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


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _target(args: argparse.Namespace, name: str, recorded: str = "") -> Path:
    """Return where the run folder will be: in --local-path, at the path given as RUN, or at the recorded path.

    Raises UsageError.
    """
    run_id = os.path.basename(os.path.abspath(name))
    if not run_id:
        raise UsageError(f"{printable(name)} is not a run (give its name)", id="usage.no-run")
    if args.local_path is not None:
        return Path(os.path.abspath(args.local_path)) / run_id
    if "/" not in name and not recorded:
        raise UsageError(
            f"no target: {printable(name)} is only a name (add --local-path DIR, or give the path where the run was)",
            id="usage.no-restore-target",
        )
    return Path(os.path.abspath(name)) if "/" in name else Path(recorded)


def _find_place(args: argparse.Namespace, config: Config, name: str) -> tuple[Destination, str]:
    """Return where the run is in S3, and where its state log says that it was on disk.

    Without a log, which another machine may have, the destination is that of the command line or of the config, and the
    path is empty. Raises UsageError.
    """
    run_id = os.path.basename(os.path.abspath(name))
    wanted = parse_destination(args.bucket, args.remote_path) if args.bucket is not None else None
    logged = [
        (log.destination, log.run_path)
        for log in summary.list_other_logs(config.log_dir, ())
        if log.run_id == run_id and log.destination and wanted in (None, log.destination)
    ]
    known = [wanted] if wanted else list(dict.fromkeys(entry.destination for entry in config.monitor))
    has_target = args.local_path is not None or "/" in name
    if not logged and len(known) == 1 and has_target:
        return known[0], ""
    if not logged:
        raise UsageError(
            f"no state log of {printable(run_id)} in {printable(str(config.log_dir))} (give --bucket B and"
            " --local-path DIR)",
            id="usage.no-state-log",
        )
    if len(logged) > 1:
        urls = ", ".join(printable(destination.url(run_id)) for destination, _ in logged)
        raise UsageError(
            f"{printable(run_id)} went to {len(logged)} places: {urls} (choose one with --bucket and --remote-path)",
            id="usage.several-destinations",
        )
    return logged[0]
