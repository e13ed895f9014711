"""Bound what one process sends, so that it gives its place to another upload soon."""

from __future__ import annotations

import math

_SECONDS = 15.0  # that a batch should take at most; a start of a process costs a twentieth of that
_FIRST_BYTES = 64_000_000  # of a batch, as long as nothing was measured
_MEASURED_BYTES = 8_000_000  # smaller batches say little about the line


class BatchPace:
    """Bounds batches by the pace of those before; an upload that shares the machine with none needs no bound."""

    def __init__(self, *, is_bounded: bool) -> None:
        self.most_bytes = _FIRST_BYTES if is_bounded else math.inf
        self._is_bounded = is_bounded

    def note(self, size: int, seconds: float) -> None:
        """Note that a process took this long for a batch of that size in bytes."""
        if self._is_bounded and size >= _MEASURED_BYTES and seconds > 0:
            self.most_bytes = max(_FIRST_BYTES, size / seconds * _SECONDS)
