"""Follow the config file while a long scan runs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from s3sync.config import Config
from s3sync.errors import Notice, S3SyncError
from s3sync.text import printable

LOG = logging.getLogger(__name__)
_HOW = "the next scan uses it, and continues all uploads; SIGTERM ends this one"
_KEYS_OF_PROCESS = ("log_level", "nice", "io_priority")
_KEYS_OF_MACHINE = ("max_cores", "max_processes", "max_runs_at_once", "max_bandwidth", "transfer_client")


class ConfigFollower:
    """Rereads an edited config for the rest of the scan: all keys except the ones about process and machine."""

    def __init__(self, config: Config, load: Callable[[], Config]) -> None:
        self._read = config
        self._used = config
        self._load = load
        self._last_warning = ""

    def latest(self) -> Config:
        """Return the config to use from now on. Logs once, as a warning, what cannot be used."""
        try:
            read = self._load()
        except S3SyncError as error:
            first = printable(str(error).partition("\n")[0])
            text = f"the edited config cannot be used: {first} (this scan continues with the previous config)"
            self._warn_once(Notice(text, id="monitor.edit-unusable"))
            return self._used
        if read == self._read:
            return self._used
        self._read, self._last_warning = read, ""
        if read.log_dir != self._used.log_dir:
            text = f"the edited config is not used yet, since log_dir has changed ({_HOW})"
            self._warn_once(Notice(text, id="monitor.edit-waits"))
            return self._used
        waiting = {key: getattr(self._used, key) for key in (*_KEYS_OF_PROCESS, *_KEYS_OF_MACHINE)}
        waiting = {key: value for key, value in waiting.items() if getattr(read, key) != value}
        LOG.info("the edited config is used for everything that starts from now on")
        if waiting:
            text = f"the edited config is used, but not yet for {', '.join(sorted(waiting))} ({_HOW})"
            self._warn_once(Notice(text, id="monitor.edit-waits"))
        self._used = read.model_copy(update=waiting)
        return self._used

    def _warn_once(self, notice: Notice) -> None:
        if notice.text != self._last_warning:
            self._last_warning = notice.text
            LOG.warning("%s", notice)
