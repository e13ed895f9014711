"""Define the pauses and limits of the program as data, so that tests can shorten them by an environment variable."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from typing import Any

VARIABLE = "S3SYNC_RETRY_DELAYS"  # a JSON object with some fields of `Delays`, or `upload_retries` alone: 1,4


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """All of them, in seconds."""

    upload_retries: tuple[float, ...] = (1.0, 4.0)  # before the second and the third attempt at a file
    connection_retries: tuple[float, ...] = (1.0, 4.0)  # before another attempt to reach S3
    read_retries: tuple[float, ...] = (1.0, 5.0, 15.0)  # before the first request to S3 is repeated
    signal_grace: tuple[float, ...] = (10.0, 5.0, 5.0)  # for a child to end after SIGINT, SIGTERM, SIGKILL
    signal_grace_without_parts: float = 1.0  # the same after SIGINT, for a child that has no multipart upload to abort
    lock_polls: float = 1.0  # between two attempts to take a lock
    work_folder_polls: float = 2.0  # between two checks of the work folder of a run on a cluster
    slurm_polls: float = 10.0  # between two queries to Slurm
    scan_looks: float = 30.0  # between two searches for new runs while a scan uploads others
    scan_repeats: float = 600.0  # before such a scan retries a run
    thaw_polls: float = 900.0  # between two checks of objects that are being thawed
    pattern_searches: float = (
        5.0  # of CPU time, before searches with a pattern of the user are ended: most take microseconds
    )


def parse_delays(text: str) -> Delays:
    """Return the default delays with the changes in the text; unchanged if any of these is not valid."""
    usual = Delays()
    if not text.startswith("{"):
        text = f'{{"upload_retries": [{text}]}}' if text else "{}"
    try:
        changes: dict[str, Any] = {name: _from_json(value) for name, value in json.loads(text).items()}
        delays = replace(usual, **changes)
    except (ValueError, TypeError, AttributeError):
        return usual
    return delays if all(_is_valid(getattr(delays, f.name), getattr(usual, f.name)) for f in fields(Delays)) else usual


def _from_json(value: object) -> object:
    return tuple(float(seconds) for seconds in value) if isinstance(value, list) else value


def _is_valid(value: object, usual: object) -> bool:
    """Return whether a value has as many numbers as the default, all from 0 to 3600."""
    if isinstance(usual, tuple):
        return isinstance(value, tuple) and len(value) == len(usual) and all(0 <= each <= 3600 for each in value)
    return isinstance(value, float | int) and 0 <= value <= 3600


DELAYS = parse_delays(os.environ.get(VARIABLE, ""))
