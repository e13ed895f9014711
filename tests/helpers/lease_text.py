"""Write what a lease says."""

from __future__ import annotations

import json
from typing import Any


def theirs(**more: Any) -> bytes:
    """What the lease of another host says."""
    record = {"host": "sequencer-2", "pid": 7, "since": "2026-11-23T01:02:03+00:00", "place": "there", "token": "t"}
    return json.dumps({**record, "beat": 3, "released": False, **more}).encode()
