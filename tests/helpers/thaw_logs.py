"""Change what a log says about a restore that waits for frozen objects."""

from __future__ import annotations

import json

from tests.helpers.lab import Lab


def date_back(lab: Lab) -> None:
    """Let the only log say that thawing was requested long ago: else a scan that finds objects frozen waits an hour."""
    (log,) = (lab.log_dir / "restores").glob("*.thaw.json")
    log.write_text(json.dumps({**json.loads(log.read_text()), "requested_at": "2026-01-01T00:00:00+00:00"}))
