"""`s3sync check`: check whether everything is ready for the monitor."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from s3sync.aws import access, settings
from s3sync.commands import cron_environment, locations, options, output, setup_checks
from s3sync.config import Config, MonitorEntry, config_warnings, load_config
from s3sync.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, ConfigError, StateError
from s3sync.signals import StopRequest, stop_on_signals
from s3sync.slurm import check as slurm_check
from s3sync.text import pluralize, printable
from s3sync.transfer import context

USAGE = "[--config FILE] [--write] [--notify] [--cron] [options]"
DESCRIPTION = "Check whether everything is ready for the monitor, before cron runs it."
EXAMPLES = """\
examples:
  s3sync check
  s3sync check --config /etc/s3sync.yaml --write
  s3sync check --config /etc/s3sync.yaml --notify
  s3sync check --config /etc/s3sync.yaml --cron
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """The optional checks that do more than read."""

    write: bool = False  # start and abort a multipart upload at each destination
    submit: bool = False  # run a job on each node of the Slurm cluster
    notify: bool = False  # send a trial message through each channel


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    options.add_config(parser)
    add = parser.add_argument
    add("--write", action="store_true", help="also start and abort a multipart upload at each destination")
    add("--notify", action="store_true", help="also send a trial message through each channel of the config")
    add("--submit", action="store_true", help="also run a job on each node of the Slurm cluster")
    add("--cron", action="store_true", help="check with the environment that cron gives to the monitor")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print each result as soon as it is known, and return the exit code."""
    path, asker = locations.config_path(args), None
    if args.cron:
        asker, environ = dict(os.environ), cron_environment.of_cron(os.environ, Path(os.path.abspath(path)))
        os.environ.clear()
        os.environ.update(environ)
    trials = Trials(write=args.write, submit=args.submit, notify=args.notify)
    return check_config(path, trials, as_json=args.json, asker=asker)


def check_config(path: Path, trials: Trials, *, as_json: bool = False, asker: Mapping[str, str] | None = None) -> int:
    """Print all results, and return the exit code. The parameters are as for `findings`."""
    stop = StopRequest()
    found = []
    with stop_on_signals(stop):
        for finding in findings(path, os.environ, stop, trials, asker=asker):
            found.append(finding)
            if not as_json:
                output.print_lines(output.wrapped(_line(finding)))
    if any(finding.what == "config" and not finding.ok for finding in found):
        code = EXIT_CONFIG
    else:
        code = EXIT_DONE if all(finding.ok for finding in found) else EXIT_FAILED
    if as_json:
        output.print_json({"findings": [asdict(finding) for finding in found], "exit_code": code})
    return code


def findings(
    path: Path,
    environ: Mapping[str, str],
    stop: StopRequest,
    trials: Trials,
    *,
    asker: Mapping[str, str] | None = None,
) -> Iterator[access.CheckResult]:
    """Yield the result of each check, as soon as it is known. Raises StoppedError.

    With the environment of cron in `environ`, `asker` is that of the user who runs `check`.
    """
    try:
        config = load_config(path, environ)
    except ConfigError as error:
        lines = str(error).splitlines()  # if there are several, each ends with an id
        id_ = error.id if len(lines) == 1 else ""
        yield from (access.CheckResult(ok=False, what="config", text=line, id=id_) for line in lines)
        return
    text = f"{printable(str(path))}: {pluralize(len(config.monitor), 'destination')}"
    yield access.CheckResult(ok=True, what="config", text=text)
    for warning in config_warnings(config):
        text = f"{warning.path}: {warning.text}"
        yield access.CheckResult(ok=True, what="config", text=text, warning=True, id=warning.id)
    yield from setup_checks.check_directories(config)
    yield from setup_checks.check_log_dir(config, path)
    yield from setup_checks.check_programs(config)
    yield from setup_checks.check_published(config)
    yield setup_checks.check_channels(config, environ, asker)
    if trials.notify:
        yield from setup_checks.try_channels(config)
    yield from setup_checks.check_environment(path, environ, asker)
    yield from _check_access(config, environ, stop, trials)
    yield from slurm_check.check_cluster(slurm_uses(config), environ, stop, submit=trials.submit)


def _check_access(
    config: Config, environ: Mapping[str, str], stop: StopRequest, trials: Trials
) -> Iterator[access.CheckResult]:
    try:
        with context.temporary_folder(environ, config.monitored_directories) as (folder, _):
            query = access.AccessQuery(
                aws_command=config.aws_command,
                threads=config.max_threads or settings.DEFAULT_THREADS,
                targets=tuple(map(_target, config.monitor)),
                probes=tuple(_write_probes(config)) if trials.write else (),
            )
            yield from access.check_access(query, environ, stop, folder)
    except StateError as error:
        yield access.CheckResult.of_error("temporary files", error)


def _line(finding: access.CheckResult) -> str:
    level = "PROBLEM" if not finding.ok else "warning" if finding.warning else "ok     "
    name = f" [{finding.id}]" if finding.id else ""
    return f"{level}  {finding.what}: {finding.text}{name}"


def slurm_uses(config: Config) -> slurm_check.ClusterUse:
    """Return how the entries of a config use Slurm."""
    clusters = {}
    for cluster in dict.fromkeys(filter(None, map(config.cluster_of, config.monitor))):
        entries = [entry for entry in config.monitor if config.cluster_of(entry) == cluster]
        directories = dict.fromkeys(directory for entry in entries for directory in entry.monitored_directories)
        places = dict.fromkeys(map(_target, entries))
        clusters[cluster] = (tuple(directories), tuple(places))
    return slurm_check.ClusterUse(
        log_dir=config.log_dir,
        aws_command=config.aws_command,
        threads=config.max_threads or settings.DEFAULT_THREADS,
        clusters=clusters,
    )


def _write_probes(config: Config) -> Iterator[access.WriteProbe]:
    """Yield a probe for each storage class of each entry: a server may not have all of them."""
    for entry in config.monitor:
        yield from (access.WriteProbe(_target(entry), storage) for storage in entry.storages)


def _target(entry: MonitorEntry) -> access.UploadTarget:
    return access.UploadTarget.of(entry.destination, entry.expected_bucket_owner, entry.aws_profile)
