"""A run folder that an entry of the config watches, and other folders with its name and destination."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from s3sync.aws.destination import Destination
from s3sync.config import Config, MonitorEntry
from s3sync.runs import Run
from s3sync.state import identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A folder with a RunInfo.xml in a monitored directory, for one entry of the config."""

    run: Run  # without the content of RunInfo.xml, which is not parsed yet
    entry: MonitorEntry
    run_info_mtime: float  # seconds since the epoch
    unreadable: str = ""  # why RunInfo.xml or the folder cannot be read
    rivals: tuple[Path, ...] = ()  # other folders with this name and destination
    nested_path: str = ""  # a remote_path of the config inside the prefix of this run
    is_alias: bool = False  # another candidate is the same folder by another path


def compare(candidates: Iterable[Candidate], config: Config) -> list[Candidate]:
    """Return the candidates with their `rivals`, `nested_path` and `is_alias` filled in."""
    destinations = {id(entry): entry.destination for entry in config.monitor}
    groups: dict[tuple[Destination, str], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((destinations[id(candidate.entry)], candidate.run.run_id), []).append(candidate)
    compared = []
    for (destination, run_id), group in groups.items():
        nested = _nested_path(destination, run_id, destinations.values())
        folders = identity.group_by_folder(c.run.path for c in group) if len(group) > 1 else [[group[0].run.path]]
        for paths in folders:
            rivals = tuple(other[0] for other in folders if other is not paths)
            compared += [
                replace(c, rivals=rivals, nested_path=nested, is_alias=c.run.path != paths[0])
                for c in group
                if c.run.path in paths
            ]
    return compared


def _nested_path(destination: Destination, run_id: str, others: Iterable[Destination]) -> str:
    prefix = destination.run_prefix(run_id)
    in_this_bucket = (f"{other.prefix}/" for other in others if other.bucket == destination.bucket)
    return next((path for path in in_this_bucket if path.startswith(prefix)), "")


def resolve_names(given: Iterable[str], candidates: Sequence[Candidate]) -> list[str]:
    """Return the names of runs (`RUN`) or analyses (`RUN/Analysis/1`) that people name by their names or folders.

    An unknown name is returned as it is, without trailing slashes.
    """
    return [_resolve_name(name, candidates) for name in given]


def _resolve_name(name: str, candidates: Sequence[Candidate]) -> str:
    trimmed = name.rstrip("/") or name
    known = {candidate.run.run_id for candidate in candidates}
    if trimmed.partition("/")[0] in known:
        return trimmed
    path = os.path.abspath(name)
    for real in (False, True):  # links are resolved last, since that takes system calls for each candidate
        for candidate in candidates:
            folder = os.path.realpath(candidate.run.path) if real else str(candidate.run.path)
            wanted = os.path.realpath(path) if real else path
            if wanted == folder or wanted.startswith(folder.rstrip("/") + "/"):
                rest = wanted[len(folder) :].strip("/")
                return f"{candidate.run.run_id}/{rest}" if rest else candidate.run.run_id
    return trimmed
