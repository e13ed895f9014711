"""What has to be right before cron does it: looked at one by one, each ok or a problem with the next step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from s3sync import clustercheck, discovery, s3check
from s3sync.awswords import OwnedBucket
from s3sync.config import Config, load_config, watched_by
from s3sync.errors import ConfigError, StateError
from s3sync.files import closed_above, make_private_folder, make_public_folder, try_replace
from s3sync.interrupt import Stop
from s3sync.s3check import PROBE_KEY, Finding, Probe
from s3sync.staging import work_folder
from s3sync.text import count_of, human_bytes, printable

_LOW_SPACE = 1_000_000_000  # bytes: logs of the largest runs have some 100 MB


def findings(
    path: Path, environ: Mapping[str, str], stop: Stop, *, probe_write: bool = False, submit: bool = False
) -> Iterator[Finding]:
    """Everything, as it is found out. `probe_write` begins and aborts a multipart upload in each destination; `submit`
    has a job look around on a node of the cluster. Raises InterruptedBySignal.
    """
    try:
        config = load_config(path, environ)
    except ConfigError as error:
        yield from (Finding(ok=False, what="config", text=line) for line in str(error).splitlines())
        return
    yield Finding(
        ok=True, what="config", text=f"{printable(str(path))}: {count_of(len(config.monitor), 'destination')}"
    )
    yield from _directories(config)
    yield from _log_dir(config)
    yield from _commands(config)
    yield from _published(config)
    yield _told(config)
    try:
        with work_folder(environ, watched_by(config)) as (work, _):
            owned = (OwnedBucket(entry.bucket, entry.expected_bucket_owner) for entry in config.monitor)
            probes = _probes(config) if probe_write else ()
            yield from s3check.look(config.aws_command, config.max_threads, owned, environ, stop, work, probes)
    except StateError as error:
        yield Finding(ok=False, what="work folder", text=str(error))
    yield from clustercheck.findings(config, environ, stop, submit=submit)


def _directories(config: Config) -> Iterator[Finding]:
    """As a scan looks at them, and what it would say."""
    for directory in discovery.look(config).directories:
        yield from (Finding(ok=False, what="directory", text=trouble.text) for trouble in directory.troubles)
        if not directory.troubles:
            text = f"{printable(directory.path)}: readable, {count_of(len(directory.found), 'run')}"
            yield Finding(ok=True, what="directory", text=text)
        yield from (Finding(ok=False, what="run", text=run.unreadable) for run in directory.found if run.unreadable)
        yield from (Finding(ok=True, what="note", text=f"{note.key} {note.text}") for note in directory.notes)


def _log_dir(config: Config) -> Iterator[Finding]:
    where = printable(str(config.log_dir))
    try:
        make_private_folder(config.log_dir)
        try_replace(config.log_dir / "probe")
        free = shutil.disk_usage(config.log_dir).free
    except OSError as error:
        yield Finding(
            ok=False, what="log_dir", text=f"{where}: {error.strerror} (make it writable, or mend the config)"
        )
        return
    yield Finding(ok=True, what="log_dir", text=f"{where}: writable")
    advice = "" if free >= _LOW_SPACE else f" (make room: less than {human_bytes(_LOW_SPACE)})"
    yield Finding(ok=not advice, what="disk space", text=f"{human_bytes(free)} free for logs{advice}")


def _commands(config: Config) -> Iterator[Finding]:
    for command in dict.fromkeys(entry.on_complete for entry in config.monitor if entry.on_complete):
        where = printable(command[0])
        if os.path.isfile(command[0]) and os.access(command[0], os.X_OK):
            yield Finding(ok=True, what="on_complete", text=f"{where}: there, and may be run")
        else:
            text = f"{where}: is no program that may be run (mend the path, or `chmod +x` it)"
            yield Finding(ok=False, what="on_complete", text=text)


def _told(config: Config) -> Finding:
    """That nobody is told is no mistake, but should be meant."""
    keys = ("slack_log_webhook", "slack_alert_webhook", "webhook", "ping_url")
    given = [key for key in keys if getattr(config, key)]
    if not given:
        text = f"nobody is told of problems (set one of {', '.join(keys)})"
    elif "ping_url" not in given:
        text = f"{', '.join(given)}; nobody is told if cron stops running (set ping_url)"
    else:
        text = ", ".join(given)
    return Finding(ok=True, what="notifications", text=text)


def _published(config: Config) -> Iterator[Finding]:
    """The page and the metrics, where they are wanted: whether they can be written, and read by other users."""
    wanted = {"report_dir": config.report_dir and config.report_dir / "index.html", "metrics_file": config.metrics_file}
    for key, path in wanted.items():
        if path is None:
            continue
        where = printable(str(path))
        try:
            make_public_folder(path.parent)
            try_replace(path)
        except OSError as error:
            yield Finding(ok=False, what=key, text=f"{where}: {error.strerror} (make it writable, or mend the config)")
            continue
        closed = closed_above(path)
        advice = f", but {printable(str(closed))} is closed to other users (chmod o+x it, or write elsewhere)"
        yield Finding(ok=not closed, what=key, text=f"{where}: writable{advice if closed else ''}")


def _probes(config: Config) -> Iterator[Probe]:
    for entry in config.monitor:
        prefix = entry.destination.prefix
        key = f"{prefix}/{PROBE_KEY}" if prefix else PROBE_KEY
        yield Probe(OwnedBucket(entry.bucket, entry.expected_bucket_owner), key, entry.storage)
