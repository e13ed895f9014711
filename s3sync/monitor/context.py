"""Hold what all steps of a scan need, and follow the config file while a long scan runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from s3sync.config import Config
from s3sync.errors import Notice, S3SyncError
from s3sync.signals import StopRequest
from s3sync.text import printable
from s3sync.transfer import displays

LOG = logging.getLogger(__name__)
DisplayMaker: TypeAlias = Callable[[str], displays.Display]  # for a run with this name
_HOW = "the next scan uses it, and continues all uploads; SIGTERM ends this one"
_OF_PROCESS = ("log_level", "nice", "io_priority")
_OF_MACHINE = ("max_cores", "max_processes", "max_runs_at_once", "max_bandwidth", "transfer_client")


@dataclass(slots=True, kw_only=True)
class ScanContext:
    """What all steps of a scan need. `config` is replaced when its file was edited, so each step reads it once."""

    config: Config
    environ: Mapping[str, str]
    stop: StopRequest
    make_display: DisplayMaker


class ConfigFollower:
    """Finds out what of an edited config a scan that is running can use: all but what it has shared out already."""

    def __init__(self, config: Config, load: Callable[[], Config]) -> None:
        self._read = config
        self._used = config
        self._load = load
        self._said = ""

    def latest(self) -> Config:
        """Return the config to use from now on. What cannot be used is logged, once."""
        try:
            read = self._load()
        except S3SyncError as error:
            first = printable(str(error).partition("\n")[0])
            text = f"the config was edited, but cannot be used: {first} (this scan continues with the config as it was)"
            self._say(Notice(text, id="monitor.edit-unusable"))
            return self._used
        if read == self._read:
            return self._used
        self._read, self._said = read, ""
        if read.log_dir != self._used.log_dir:
            text = f"the config was edited, and waits because log_dir has changed ({_HOW})"
            self._say(Notice(text, id="monitor.edit-waits"))
            return self._used
        waiting = {key: getattr(self._used, key) for key in (*_OF_PROCESS, *_OF_MACHINE)}
        waiting = {key: value for key, value in waiting.items() if getattr(read, key) != value}
        LOG.info("the config was edited: what begins from now on uses it")
        if waiting:
            text = f"the config was edited, and part of it waits: {', '.join(sorted(waiting))} ({_HOW})"
            self._say(Notice(text, id="monitor.edit-waits"))
        self._used = read.model_copy(update=waiting)
        return self._used

    def _say(self, notice: Notice) -> None:
        if notice.text != self._said:
            self._said = notice.text
            LOG.warning("%s", notice)
