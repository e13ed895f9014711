"""Hold the values that all steps of a scan need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from s3sync.config import Config
from s3sync.signals import StopRequest
from s3sync.transfer import displays

DisplayMaker: TypeAlias = Callable[[str], displays.Display]  # makes the display of a run with this name


@dataclass(slots=True, kw_only=True)
class ScanContext:
    """The values that all steps of a scan need. `config` is replaced after an edit, so each step reads it only once."""

    config: Config
    environ: Mapping[str, str]
    stop: StopRequest
    make_display: DisplayMaker
