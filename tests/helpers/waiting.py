"""Wait for what nothing announces."""

from __future__ import annotations

import time
from collections.abc import Callable

_SECONDS = 120.0  # only bounds a failure: a busy machine takes its time


def wait_until(
    condition: Callable[[], object], describe: Callable[[], object] = lambda: "", seconds: float = _SECONDS
) -> None:
    """Ask again and again; raises TimeoutError, with what `describe` returns."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(describe())
        time.sleep(0.02)
