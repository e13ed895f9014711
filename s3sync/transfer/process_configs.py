"""Write AWS configs for processes that make another number of requests at once than usual."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from s3sync.aws import settings
from s3sync.transfer.context import UploadContext


class ProcessConfigs:
    """The configs of one upload, each written once. Any thread may call its method."""

    def __init__(self, context: UploadContext) -> None:
        self._context = context
        self._lock = threading.Lock()

    def with_threads(self, threads: int | None) -> Path | None:
        """Return the path of a config for this number of requests at once; None for the usual. Raises AwsError."""
        if threads is None:
            return None
        context = self._context
        path = context.work / f"aws-config-threads-{threads}"
        with self._lock:
            if not path.exists():
                settings.write_config(context.environ, replace(context.request.settings, threads=threads), path)
        return path
