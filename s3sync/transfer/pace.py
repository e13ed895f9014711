"""Bound the size of a batch, so that its process soon makes room for another upload."""

from __future__ import annotations

import math

_SECONDS = 15.0  # the longest that a batch should take; starting a process costs a twentieth of that
_FIRST_BYTES = 64_000_000  # size of a batch before anything was measured
_MEASURED_BYTES = 8_000_000  # smaller batches reveal little about the network


class BatchPace:
    """Bounds batches by the speed of earlier ones. An upload that does not share the machine needs no bound."""

    def __init__(self, *, is_bounded: bool) -> None:
        self.most_bytes = _FIRST_BYTES if is_bounded else math.inf
        self._is_bounded = is_bounded

    def note(self, size: int, seconds: float) -> None:
        """Note how many seconds a process took for a batch of this size in bytes."""
        if self._is_bounded and size >= _MEASURED_BYTES and seconds > 0:
            self.most_bytes = max(_FIRST_BYTES, size / seconds * _SECONDS)
