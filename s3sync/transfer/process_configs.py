"""Write AWS configs for processes whose limits differ from the usual ones."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from s3sync.aws import settings
from s3sync.aws.settings import CliSettings


class ProcessConfigs:
    """The configs of one upload, each written once. Any thread may call its methods, which raise AwsError."""

    def __init__(self, environ: Mapping[str, str], usual: CliSettings, folder: Path) -> None:
        self._environ = environ
        self._usual = usual
        self._folder = folder
        self._lock = threading.Lock()

    def with_bandwidth(self, rate: int) -> Path:
        """Return the path of a config that limits a process to this rate, in bytes a second."""
        return self._config_for(replace(self._usual, max_bandwidth=rate), f"aws-config-{rate}")

    def with_threads(self, threads: int) -> Path:
        """Return the path of a config for this number of requests at once."""
        return self._config_for(replace(self._usual, threads=threads), f"aws-config-threads-{threads}")

    def _config_for(self, wanted: CliSettings, name: str) -> Path:
        path = self._folder / name
        with self._lock:
            if not path.exists():  # the sender of the completion object uses the same folder
                partial = self._folder / f"{name}.{uuid.uuid4().hex}"  # a full disk may leave one that lacks settings
                settings.write_config(self._environ, wanted, partial)
                partial.rename(path)
        return path
