"""Check the config as a whole: its folders, its secrets, and values that are valid but probably mistakes."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from s3sync.aws.destination import Destination
from s3sync.aws.settings import max_useful_threads
from s3sync.config.entry import MonitorEntry
from s3sync.config.model import SECRETS, Config
from s3sync.config.parsed import ParsedConfig
from s3sync.config.problem import KeyPath, Problem, format_path
from s3sync.resources import MAX_USEFUL_CORES
from s3sync.runs import off_limits
from s3sync.text import printable

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # AWS accepts no others since 2018


def config_warnings(config: Config) -> list[Problem]:
    """Return warnings about values that are valid but probably mistakes."""
    return list(_warnings(config))


def _warnings(config: Config) -> Iterator[Problem]:
    useful = max_useful_threads(config.transfer_client)
    if config.max_threads and config.max_threads > useful:
        text = f"{config.max_threads} threads per process: more than {useful} do not help"
        yield Problem(position=None, keys=("max_threads",), text=text, id="config.many-threads")
    if config.max_cores and config.max_cores > MAX_USEFUL_CORES:
        text = f"{config.max_cores:,} aws processes at once: is that the number of cores?"
        yield Problem(position=None, keys=("max_cores",), text=text, id="config.many-cores")
    for number, entry in enumerate(config.monitor):
        if not _BUCKET_NAME.fullmatch(entry.bucket):
            rule = "on AWS a name has 3 to 63 lower case letters, digits, `-` and `.`"
            text = f"{printable(entry.bucket)} is unusual for a bucket: {rule}"
            yield Problem(position=None, keys=("monitor", number, "bucket"), text=text, id="config.unusual-bucket")


def overlapping_folders(parsed: ParsedConfig) -> Iterator[Problem]:
    """Find folders that two entries would upload to the same keys in S3."""
    watched: dict[tuple[Destination, Path], KeyPath] = {}
    above: dict[tuple[Destination, Path], KeyPath] = {}
    for keys, destination, folder in _folders(parsed.value):
        real = Path(os.path.realpath(folder))
        here, *parents = [(destination, path) for path in (real, *real.parents)]
        overlaps = [("is the same folder as", watched[here])] if here in watched else []
        overlaps += [("is inside", watched[parent]) for parent in parents if parent in watched]
        overlaps += [("contains", above[here])] if here in above else []
        if overlaps:
            how, other = overlaps[0]
            text = f"{how} {format_path(other)}, and both go to {printable(destination.label)} (remove one)"
            yield parsed.problem(keys, text, id="config.overlapping-folders")
        watched.setdefault(here, keys)
        above = {**dict.fromkeys(parents, keys), **above}


def _folders(value: Any) -> Iterator[tuple[KeyPath, Destination, Path]]:
    """Yield the monitored directories of all entries without errors."""
    for number, raw in _entries(value):
        try:
            entry = MonitorEntry.model_validate(raw)
        except ValidationError:
            continue
        for index, folder in enumerate(entry.monitored_directories):
            yield ("monitor", number, "monitored_directories", index), entry.destination, folder


def _entries(value: Any) -> Iterator[tuple[int, Any]]:
    entries = value.get("monitor") if isinstance(value, dict) else None
    yield from enumerate(entries if isinstance(entries, list) else [])


def misplaced_files(parsed: ParsedConfig, config: Config, file: Path, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Find files of this program in a run or a monitored directory, where they would be uploaded."""
    if why := off_limits.explain_misplaced_temp_dir(environ, config.monitored_directories):
        yield Problem(position=None, text=why, id="config.temporary-folder-in-run")
    if around := off_limits.find_enclosing_folder(file):
        text = f"is inside the run {printable(around)}, and would be uploaded with it (move it)"
        yield Problem(position=(1, 1), text=text, id="config.file-in-run")
    folders = {"log_dir": config.log_dir, "report_dir": config.report_dir}
    for key, path in {**folders, "metrics_file": config.metrics_file}.items():
        if path is None:
            continue
        where = printable(str(path))
        if around := off_limits.find_enclosing_folder(path, config.monitored_directories):
            text = f"{where} is inside {printable(around)}, whose files are uploaded (give a folder outside of it)"
            yield parsed.problem((key,), text, id="config.folder-in-run")
        elif key in folders and os.path.exists(path) and not os.path.isdir(path):
            text = f"{where} is a file, and must be a folder (give another path)"
            yield parsed.problem((key,), text, id="config.not-a-folder")


def insecure_secrets(parsed: ParsedConfig, file: str) -> Iterator[Problem]:
    """Find secrets in a file that others can read."""
    for key, name in SECRETS.items():
        if isinstance(parsed.value, dict) and parsed.value.get(key):
            advice = f"chmod 600 {shlex.quote(file)}, or set {name} instead"
            text = f"holds a secret and is readable by others ({advice})"
            yield parsed.problem((key,), text, id="config.secret-readable")


def insecure_commands(parsed: ParsedConfig, file: str) -> Iterator[Problem]:
    """Find commands in a file that others can write: they could make this program run anything."""
    for number, entry in _entries(parsed.value):
        if isinstance(entry, dict) and entry.get("on_complete"):
            text = f"is a command, and others may write this file (chmod go-w {shlex.quote(file)})"
            yield parsed.problem(("monitor", number, "on_complete"), text, id="config.command-writable")
