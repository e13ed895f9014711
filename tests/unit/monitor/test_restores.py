"""Restores that a scan continues, beside its uploads."""

from __future__ import annotations

import errno
from concurrent.futures import wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from s3sync.aws.destination import Destination
from s3sync.errors import RunError
from s3sync.monitor import restores
from s3sync.monitor.scan_result import ScanResult
from s3sync.signals import StopRequest
from s3sync.state import thaw_log


@pytest.mark.parametrize(
    ("error", "id_"),
    [
        (RunError("it is another run", id="restore.other-run"), "restore.other-run"),
        (OSError(errno.ENOSPC, "No space left on device", "/restored"), "internal.no-space"),
        (KeyError("a bug"), "internal.unexpected-error"),
    ],
)
def test_whatever_goes_wrong_with_a_restore_the_scan_reports_its_uploads(
    monkeypatch: pytest.MonkeyPatch, error: Exception, id_: str, tmp_path: Path
) -> None:
    to = Destination("lab-runs", "")
    pending = [
        thaw_log.ThawLog(
            run_id=name, run_path=f"/data/{name}", destination=to, tier="Bulk", days=7, requested=frozenset({"a"})
        )
        for name in ("A", "B")
    ]
    stores = [(thaw_log.ThawStore(tmp_path, restore.run_id), restore) for restore in pending]
    tried: list[str] = []

    def fail(_context: object, _key: str, restore: Any, _machine: object) -> None:
        tried.append(restore.run_id)
        raise error

    monkeypatch.setattr(thaw_log, "list_stores", lambda _log_dir: stores)
    monkeypatch.setattr(restores, "_problems_of_restore", fail)
    result = ScanResult()
    context = cast(Any, SimpleNamespace(config=SimpleNamespace(log_dir=tmp_path), stop=StopRequest()))
    pending_restores = restores.PendingRestores(context, result, cast(Any, None))
    pending_restores.begin_next()
    while pending_restores.at_work:
        wait(pending_restores.at_work)
        pending_restores.handle_ended()
    pending_restores.close()
    assert tried == ["A", "B"]
    assert [(problem.key, problem.id) for problem in result.problems] == [
        ("restore of A to /data/A", id_),
        ("restore of B to /data/B", id_),
    ]
