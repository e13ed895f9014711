"""Hold what a call of `upload`, `verify` or their like gets from the program around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from s3sync.signals import StopRequest
from s3sync.transfer.displays import Display
from s3sync.transfer.sharing import SharedMachine


@dataclass(frozen=True, slots=True)
class Runtime:
    """The environment variables, stop request and display of a call, and the machine if other uploads share it."""

    environ: Mapping[str, str]
    stop: StopRequest
    display: Display
    machine: SharedMachine | None = None
