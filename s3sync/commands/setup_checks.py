"""Check the parts of the monitor's setup that are on this machine: folders, logs, programs, channels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from s3sync import invocation
from s3sync.aws.access import CheckResult
from s3sync.commands import cron_environment
from s3sync.config import Config
from s3sync.files import check_writable, first_untraversable_parent, make_public_folder
from s3sync.inventory import discovery
from s3sync.monitor import notify
from s3sync.state import log_dir
from s3sync.text import human_bytes, pluralize, printable

_LOW_SPACE = 1_000_000_000  # bytes: logs of the largest runs have some 100 MB
_CHANNELS = ("slack_log_webhook", "slack_alert_webhook", "webhook", "ping_url")  # keys of the config


def check_directories(config: Config) -> Iterator[CheckResult]:
    """Check the monitored directories as a scan does."""
    for directory in discovery.discover(config).directories:
        for problem in directory.problems:
            yield CheckResult(ok=False, what="directory", text=problem.text, id=problem.id)
        if not directory.problems:
            text = f"{printable(directory.path)}: readable, {pluralize(len(directory.runs), 'run')}"
            yield CheckResult(ok=True, what="directory", text=text)
        for run in directory.runs:
            if run.unreadable:
                yield CheckResult(ok=False, what="run", text=run.unreadable, id="run.unreadable")
        for note in directory.notes:
            yield CheckResult(ok=True, what="note", text=f"{note.key} {note.text}", id=note.id)


def check_log_dir(config: Config, path: Path) -> Iterator[CheckResult]:
    """Check whether this user can write to the log directory. Do not create it: under sudo, root would own it."""
    where = printable(str(config.log_dir))
    present = next(folder for folder in (config.log_dir, *config.log_dir.parents) if os.path.exists(folder))
    try:
        problem = log_dir.unwritable(config.log_dir, path)
        if not problem and present == config.log_dir:
            check_writable(config.log_dir / "probe")
        free = shutil.disk_usage(present).free
    except OSError as error:
        problem = f"{where}: {error.strerror} (make it writable, or change the config)"
    if problem:
        yield CheckResult(ok=False, what="log_dir", text=problem, id="monitor.log-dir-not-writable")
        return
    if of_others := log_dir.entries_of_others(config.log_dir):
        yield CheckResult(ok=False, what="log_dir", text=of_others, id="monitor.log-dir-of-others")
    else:
        made = "" if present == config.log_dir else "; it will be created"
        yield CheckResult(ok=True, what="log_dir", text=f"{where}: writable{made}")
    if free >= _LOW_SPACE:
        yield CheckResult(ok=True, what="disk space", text=f"{human_bytes(free)} free for logs")
    else:
        text = f"{human_bytes(free)} free for logs (make room: less than {human_bytes(_LOW_SPACE)})"
        yield CheckResult(ok=False, what="disk space", text=text, id="monitor.low-disk-space")


def check_programs(config: Config) -> Iterator[CheckResult]:
    """Check whether the programs of `on_complete` can be run."""
    for command in dict.fromkeys(entry.on_complete for entry in config.monitor if entry.on_complete):
        where = printable(command[0])
        if os.path.isfile(command[0]) and os.access(command[0], os.X_OK):
            yield CheckResult(ok=True, what="on_complete", text=f"{where}: executable")
        else:
            text = f"{where}: is not an executable file (correct the path, or `chmod +x` it)"
            yield CheckResult(ok=False, what="on_complete", text=text, id="monitor.on-complete-not-executable")


def check_channels(config: Config, environ: Mapping[str, str], asker: Mapping[str, str] | None) -> CheckResult:
    """Check whether problems are reported to anybody. If not, that may be intended, so the result is only a warning."""
    given = [key for key in _CHANNELS if getattr(config, key)]
    if given:
        no_ping = "" if "ping_url" in given else "; nobody would notice if cron stopped (set ping_url)"
        return CheckResult(ok=True, what="notifications", text=f"{', '.join(given)}{no_ping}")
    advice = f"(set one of {', '.join(_CHANNELS)})"
    if asker is not None and cron_environment.can_mail(environ, asker):
        to = printable(environ.get("MAILTO", environ["LOGNAME"]))
        return CheckResult(
            ok=True, what="notifications", text=f"problems are reported only in cron's mail to {to} {advice}"
        )
    no_mail = "" if asker is None else ", and cron sends no mail from this machine"
    text = f"nobody is notified of problems{no_mail} {advice}"
    return CheckResult(ok=True, what="notifications", text=text, warning=True, id="notify.no-channel")


def try_channels(config: Config) -> Iterator[CheckResult]:
    """Send a trial message through each channel."""
    for trial in notify.send_trial(config):
        if trial.error:
            text = f"{trial.channel}: {trial.error} (check its URL)"
            yield CheckResult(ok=False, what="trial message", text=text, id="notify.trial-failed")
        else:
            yield CheckResult(ok=True, what="trial message", text=f"{trial.channel}: accepted")


def check_environment(path: Path, environ: Mapping[str, str], asker: Mapping[str, str] | None) -> Iterator[CheckResult]:
    """Warn about environment variables (credentials, region, proxy and so on) that are set here but not for cron."""
    set_here = cron_environment.relevant_names(environ if asker is None else asker)
    missing = [name for name in set_here if asker is None or environ.get(name) != asker[name]]
    if not missing:
        return
    names = ", ".join(map(printable, missing))
    if asker is None:
        again = printable(invocation.command_line("check", "--config", os.path.abspath(path), "--cron"))
        text = f"set only in this shell, not for cron: {names} (`{again}` checks as cron would)"
    else:
        text = f"missing or different in cron: {names} (set them at the top of the crontab, or in ~/.aws)"
    yield CheckResult(ok=True, what="environment", text=text, warning=True, id="monitor.not-in-cron")


def check_published(config: Config) -> Iterator[CheckResult]:
    """Check whether the dashboard and the metrics can be written, and be read by other users."""
    wanted = {"report_dir": config.report_dir and config.report_dir / "index.html", "metrics_file": config.metrics_file}
    for key, path in wanted.items():
        if path is not None:
            yield _check_published(key, path)


def _check_published(key: str, path: Path) -> CheckResult:
    where = printable(str(path))
    try:
        make_public_folder(path.parent)
        check_writable(path)
    except OSError as error:
        text = f"{where}: {error.strerror} (make it writable, or change the config)"
        return CheckResult(ok=False, what=key, text=text, id="monitor.page-not-writable")
    if closed := first_untraversable_parent(path):
        advice = f"but {printable(str(closed))} is closed to other users (chmod o+x it, or write elsewhere)"
        return CheckResult(ok=False, what=key, text=f"{where}: writable, {advice}", id="monitor.page-not-readable")
    return CheckResult(ok=True, what=key, text=f"{where}: writable")
