"""`s3sync check`: find out whether everything is ready for the monitor."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from s3sync import invocation
from s3sync.aws import access
from s3sync.commands import cron_environment, locations, options, output
from s3sync.config import Config, MonitorEntry, config_warnings, load_config, watched_by
from s3sync.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, ConfigError, StateError
from s3sync.files import check_writable, first_untraversable_parent, make_public_folder
from s3sync.inventory import discovery
from s3sync.signals import StopRequest, stop_on_signals
from s3sync.slurm import check as slurm_check
from s3sync.state import log_dir
from s3sync.text import human_bytes, pluralize, printable
from s3sync.transfer import context

USAGE = "[--config FILE] [--write] [--submit] [--cron] [--json]"
DESCRIPTION = "Look whether all is right for the monitor, before cron does."
EXAMPLES = """\
examples:
  s3sync check --config /etc/s3sync.yaml
  s3sync check --config /etc/s3sync.yaml --write
  s3sync check --config /etc/s3sync.yaml --submit
  s3sync check --config /etc/s3sync.yaml --cron
"""
_LOW_SPACE = 1_000_000_000  # bytes: logs of the largest runs have some 100 MB


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    options.add_config(parser)
    add = parser.add_argument
    add("--write", action="store_true", help="also begin and abort a multipart upload at each destination")
    add(
        "--submit",
        action="store_true",
        help="also submit a job to each node of the Slurm cluster that looks around there",
    )
    add("--cron", action="store_true", help="look with the environment that cron gives to the monitor")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print each finding as soon as it is known, and return the exit code."""
    path, asker = locations.config_path(args), None
    if args.cron:
        asker, environ = dict(os.environ), cron_environment.of_cron(os.environ, Path(os.path.abspath(path)))
        os.environ.clear()
        os.environ.update(environ)
    return check_config(path, as_json=args.json, probe_write=args.write, submit=args.submit, asker=asker)


def check_config(
    path: Path,
    *,
    as_json: bool = False,
    probe_write: bool = False,
    submit: bool = False,
    asker: Mapping[str, str] | None = None,
) -> int:
    """Print all findings, and return the exit code; the parameters are those of `findings`."""
    stop = StopRequest()
    found = []
    with stop_on_signals(stop):
        for finding in findings(path, os.environ, stop, probe_write=probe_write, submit=submit, asker=asker):
            found.append(finding)
            level = "PROBLEM" if not finding.ok else "warning" if finding.warning else "ok     "
            if not as_json:
                name = f" [{finding.id}]" if finding.id else ""
                output.print_lines([f"{level}  {finding.what}: {finding.text}{name}"])
    if any(finding.what == "config" and not finding.ok for finding in found):
        code = EXIT_CONFIG
    else:
        code = EXIT_DONE if all(finding.ok for finding in found) else EXIT_FAILED
    if as_json:
        output.print_json({"findings": [_as_json(finding) for finding in found], "exit_code": code})
    return code


def findings(
    path: Path,
    environ: Mapping[str, str],
    stop: StopRequest,
    *,
    probe_write: bool = False,
    submit: bool = False,
    asker: Mapping[str, str] | None = None,
) -> Iterator[access.CheckResult]:
    """Everything, as it is found out. `probe_write` begins and aborts a multipart upload in each destination; `submit`
    has a job look around on a node of the cluster. If `environ` is that of cron, `asker` is that of the user who asks.
    Raises InterruptedBySignal.
    """
    try:
        config = load_config(path, environ)
    except ConfigError as error:
        lines = str(error).splitlines()  # several end with an id each
        id_ = error.id if len(lines) == 1 else ""
        yield from (access.CheckResult(ok=False, what="config", text=line, id=id_) for line in lines)
        return
    yield access.CheckResult(
        ok=True, what="config", text=f"{printable(str(path))}: {pluralize(len(config.monitor), 'destination')}"
    )
    for warning in config_warnings(config):
        text = f"{warning.path}: {warning.text}"
        yield access.CheckResult(ok=True, what="config", text=text, warning=True, id=warning.id)
    yield from _directories(config)
    yield from _log_dir(config, path)
    yield from _commands(config)
    yield from _published(config)
    yield _told(config, environ, asker)
    yield from _variables(path, environ, asker)
    try:
        with context.work_folder(environ, watched_by(config)) as (work, _):
            query = access.AccessQuery(
                aws_command=config.aws_command,
                threads=config.max_threads,
                targets=tuple(map(_target, config.monitor)),
                probes=tuple(access.WriteProbe(_target(e), e.storage) for e in config.monitor) if probe_write else (),
            )
            yield from access.check_access(query, environ, stop, work)
    except StateError as error:
        yield access.CheckResult.of_error("work folder", error)
    yield from slurm_check.check_cluster(slurm_uses(config), environ, stop, submit=submit)


def slurm_uses(config: Config) -> slurm_check.ClusterUse:
    """Return what the entries of a config ask of Slurm."""
    clusters = {}
    for cluster in dict.fromkeys(filter(None, map(config.cluster_of, config.monitor))):
        entries = [entry for entry in config.monitor if config.cluster_of(entry) == cluster]
        directories = dict.fromkeys(directory for entry in entries for directory in entry.monitored_directories)
        places = dict.fromkeys(map(_target, entries))
        clusters[cluster] = (tuple(directories), tuple(places))
    return slurm_check.ClusterUse(
        log_dir=config.log_dir, aws_command=config.aws_command, threads=config.max_threads, clusters=clusters
    )


def _directories(config: Config) -> Iterator[access.CheckResult]:
    """As a scan looks at them, and what it would say."""
    for directory in discovery.discover(config).directories:
        for problem in directory.problems:
            yield access.CheckResult(ok=False, what="directory", text=problem.text, id=problem.id)
        if not directory.problems:
            text = f"{printable(directory.path)}: readable, {pluralize(len(directory.runs), 'run')}"
            yield access.CheckResult(ok=True, what="directory", text=text)
        yield from (
            access.CheckResult(ok=False, what="run", text=run.unreadable) for run in directory.runs if run.unreadable
        )
        for note in directory.notes:
            yield access.CheckResult(ok=True, what="note", text=f"{note.key} {note.text}", id=note.id)


def _log_dir(config: Config, path: Path) -> Iterator[access.CheckResult]:
    """Nothing is made: under sudo it would be root's."""
    where = printable(str(config.log_dir))
    present = next(folder for folder in (config.log_dir, *config.log_dir.parents) if os.path.exists(folder))
    try:
        problem = log_dir.unwritable(config.log_dir, path)
        if not problem and present == config.log_dir:
            check_writable(config.log_dir / "probe")
        free = shutil.disk_usage(present).free
    except OSError as error:
        problem = f"{where}: {error.strerror} (make it writable, or mend the config)"
    if problem:
        yield access.CheckResult(ok=False, what="log_dir", text=problem)
        return
    if of_others := log_dir.entries_of_others(config.log_dir):
        yield access.CheckResult(ok=False, what="log_dir", text=of_others)
    else:
        made = "" if present == config.log_dir else "; it will be made"
        yield access.CheckResult(ok=True, what="log_dir", text=f"{where}: writable{made}")
    advice = "" if free >= _LOW_SPACE else f" (make room: less than {human_bytes(_LOW_SPACE)})"
    yield access.CheckResult(ok=not advice, what="disk space", text=f"{human_bytes(free)} free for logs{advice}")


def _commands(config: Config) -> Iterator[access.CheckResult]:
    for command in dict.fromkeys(entry.on_complete for entry in config.monitor if entry.on_complete):
        where = printable(command[0])
        if os.path.isfile(command[0]) and os.access(command[0], os.X_OK):
            yield access.CheckResult(ok=True, what="on_complete", text=f"{where}: there, and may be run")
        else:
            text = f"{where}: is no program that may be run (mend the path, or `chmod +x` it)"
            yield access.CheckResult(ok=False, what="on_complete", text=text)


def _told(config: Config, environ: Mapping[str, str], asker: Mapping[str, str] | None) -> access.CheckResult:
    """That nobody is told is no mistake, but should be meant."""
    keys = ("slack_log_webhook", "slack_alert_webhook", "webhook", "ping_url")
    given = [key for key in keys if getattr(config, key)]
    if not given:
        names = ", ".join(keys)
        if asker is not None and cron_environment.can_mail(environ, asker):
            to = printable(environ.get("MAILTO", environ["LOGNAME"]))
            return access.CheckResult(
                ok=True, what="notifications", text=f"only cron's mail to {to} tells of problems (set one of {names})"
            )
        if asker is None:
            text = f"nobody is told of problems (set one of {names})"
        else:
            text = f"nobody is told of problems, and cron sends no mail from this machine (set one of {names})"
    elif "ping_url" not in given:
        text = f"{', '.join(given)}; nobody is told if cron stops running (set ping_url)"
    else:
        text = ", ".join(given)
    return access.CheckResult(ok=True, what="notifications", text=text, warning=not given)


def _variables(path: Path, environ: Mapping[str, str], asker: Mapping[str, str] | None) -> Iterator[access.CheckResult]:
    """Credentials, endpoint, region, proxy and certificates that a scan by cron will not have."""
    set_here = cron_environment.relevant_names(environ if asker is None else asker)
    missing = [name for name in set_here if asker is None or environ.get(name) != asker[name]]
    if not missing:
        return
    names = ", ".join(map(printable, missing))
    if asker is None:
        again = printable(invocation.command_line("check", "--config", os.path.abspath(path), "--cron"))
        text = f"set in this shell, which cron is not: {names} (`{again}` looks as cron would)"
    else:
        text = f"cron does not have, or has another: {names} (set them at the top of the crontab, or in ~/.aws)"
    yield access.CheckResult(ok=True, what="environment", text=text, warning=True)


def _published(config: Config) -> Iterator[access.CheckResult]:
    """The page and the metrics, where they are wanted: whether they can be written, and read by other users."""
    wanted = {"report_dir": config.report_dir and config.report_dir / "index.html", "metrics_file": config.metrics_file}
    for key, path in wanted.items():
        if path is None:
            continue
        where = printable(str(path))
        try:
            make_public_folder(path.parent)
            check_writable(path)
        except OSError as error:
            yield access.CheckResult(
                ok=False, what=key, text=f"{where}: {error.strerror} (make it writable, or mend the config)"
            )
            continue
        closed = first_untraversable_parent(path)
        advice = f", but {printable(str(closed))} is closed to other users (chmod o+x it, or write elsewhere)"
        yield access.CheckResult(ok=not closed, what=key, text=f"{where}: writable{advice if closed else ''}")


def _target(entry: MonitorEntry) -> access.UploadTarget:
    return access.UploadTarget.of(entry.destination, entry.expected_bucket_owner)


def _as_json(finding: access.CheckResult) -> dict[str, object]:
    return {"ok": finding.ok, "what": finding.what, "text": finding.text, "warning": finding.warning}
