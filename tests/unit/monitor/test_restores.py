"""Restores that a scan continues, beside its uploads."""

from __future__ import annotations

import contextlib
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
from s3sync.transfer.restore import run


@pytest.mark.parametrize(
    ("error", "id_"),
    [
        (RunError("it is another run", id="restore.other-run"), "restore.other-run"),
        (OSError(errno.ENOSPC, "No space left on device", "/restored"), "internal.no-space"),
        (KeyError("a bug"), "internal.unexpected-error"),
    ],
)
def test_a_scan_reports_its_uploads_even_if_a_restore_fails(
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

    def fail(_context: object, _store: object, restore: Any, _machine: object) -> None:
        tried.append(restore.run_id)
        raise error

    monkeypatch.setattr(thaw_log, "list_stores", lambda _log_dir: stores)
    monkeypatch.setattr(restores, "_problems_of_restore", fail)
    result = ScanResult()
    context = cast(Any, SimpleNamespace(config=SimpleNamespace(log_dir=tmp_path), stop=StopRequest()))
    pending_restores = restores.PendingRestores(context, result, cast(Any, None))
    pending_restores.start_next()
    while pending_restores.running:
        wait(pending_restores.running)
        pending_restores.handle_ended()
    pending_restores.close()
    assert tried == ["A", "B"]
    assert [(problem.key, problem.id) for problem in result.problems] == [
        ("restore of A to /data/A", id_),
        ("restore of B to /data/B", id_),
    ]


def test_a_restore_that_is_cancelled_while_a_scan_begins_with_it_stays_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The scan has read its log, and `restore --cancel` has the lock first."""
    pending = thaw_log.ThawLog(
        run_id="A",
        run_path=str(tmp_path / "A"),
        destination=Destination("lab-runs", ""),
        tier="Bulk",
        days=7,
        requested=frozenset({"a"}),
    )
    monkeypatch.setattr(thaw_log, "list_stores", lambda _log_dir: [(thaw_log.ThawStore(tmp_path, "A"), pending)])
    monkeypatch.setattr(run, "_restore_until_thawed", lambda *_arguments: pytest.fail("it goes on"))
    config = SimpleNamespace(
        log_dir=tmp_path,
        monitor=[],
        max_cores=1,
        max_threads=1,
        aws_command="/bin/false",
        max_processes=None,
        max_bandwidth=None,
        stall_minutes=1,
    )
    display = contextlib.nullcontext(SimpleNamespace(print=print))
    context = SimpleNamespace(config=config, stop=StopRequest(), environ={}, make_display=lambda _name: display)
    result = ScanResult()
    begun = restores.PendingRestores(cast(Any, context), result, cast(Any, None))
    begun.start_next()
    (future,) = begun.running
    assert future.result() == []
    begun.close()


def test_a_restore_that_waits_does_not_hide_another_one_of_the_same_run_that_failed(tmp_path: Path) -> None:
    for name, parts in (("A.1", ["metadata"]), ("A.2", [])):
        store = thaw_log.ThawStore(tmp_path, name)
        store.save(
            thaw_log.ThawLog(
                run_id="A",
                run_path="/data/A",
                destination=Destination("lab-runs", ""),
                tier="Bulk",
                days=7,
                requested_at="2200-01-01T00:00:00+00:00",
                ready_at=f"2200-01-0{name[-1]}T00:00:00+00:00",
                requested=frozenset({"a"}),
                options={"only": parts},
            )
        )
        if parts:
            store.record_attempt({"id": "restore.failed", "text": "not restored: 1 file failed"})
    result = ScanResult()
    context = cast(Any, SimpleNamespace(config=SimpleNamespace(log_dir=tmp_path), stop=StopRequest()))
    waiting = restores.PendingRestores(context, result, cast(Any, None))
    waiting.start_next()
    assert not waiting.running
    assert [(problem.key, problem.id) for problem in result.problems] == [
        ("restore of A to /data/A --only metadata", "restore.failed"),
        ("restore of A to /data/A", "restore.pending"),
    ]
    assert not result.ok
    thaw_log.ThawStore(tmp_path, "A.1").forget()  # cancelled, or finished by another call
    waiting.start_next()
    waiting.close()
    assert [problem.id for problem in result.problems] == ["restore.pending"]
