"""Run folders that want one name at one destination: told apart, or found to be one folder under several paths."""

from __future__ import annotations

from collections.abc import Iterable

from s3sync.aws import Destination
from s3sync.config import Config
from s3sync.inventory.discovery import Candidate
from s3sync.state import identity


def told_apart(candidates: Iterable[Candidate], config: Config, *, aliases: bool) -> list[Candidate]:
    """The candidates, each with the others that want its name at its destination.

    A folder that is found under several paths is one candidate, unless all its `aliases` are asked for.
    """
    destinations = {id(entry): entry.destination for entry in config.monitor}
    prefixes = {(destination.bucket, f"{destination.prefix}/") for destination in destinations.values()}
    groups: dict[tuple[Destination, str], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((destinations[id(candidate.entry)], candidate.run.run_id), []).append(candidate)
    found = []
    for (destination, run_id), group in groups.items():
        ours = destination.run_prefix(run_id)
        inside = next((p for bucket, p in prefixes if bucket == destination.bucket and p.startswith(ours)), "")
        folders = identity.distinct(c.run.path for c in group) if len(group) > 1 else [[group[0].run.path]]
        for paths in folders:
            others = tuple(other[0] for other in folders if other is not paths)
            named = [c for c in group if c.run.path in (paths if aliases else paths[:1])]
            found += [c._replace(others=others, inside=inside) for c in named]
    return found
