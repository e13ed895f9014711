"""The state of waiting restores: their progress, and their problems until these are resolved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from s3sync.aws.destination import Destination
from s3sync.inventory import History, restores
from s3sync.inventory.restores import PendingRestore
from s3sync.monitor import dashboard, health
from s3sync.monitor.last_scan import LastScan
from s3sync.monitor.messages import Update
from s3sync.monitor.notifications import Sent
from s3sync.monitor.problems import Problem
from s3sync.monitor.scan_status import ScanStatus
from s3sync.state.thaw_log import ThawLog, ThawStore

NOW = 1_796_000_000.0  # 2026-11-30
LOG = ThawLog(
    run_id="RUN",
    run_path="/data/RUN",
    destination=Destination("lab-runs", ""),
    tier="Bulk",
    days=7,
    requested_at="2026-11-29T10:00:00+00:00",
    ready_at="2026-12-01T10:00:00+00:00",
    frozen_files=2,
    frozen_bytes=2000,
    thawed_files=1,
    requested=frozenset({"a", "b", "c"}),
)


def described(tmp_path: Path, log: ThawLog, *, tried: dict[str, str] | None = None) -> PendingRestore:
    store = ThawStore(tmp_path, "RUN")
    store.save(log)
    if tried is not None:
        store.record_attempt(tried)
    (known,) = restores.load(tmp_path, NOW)
    return known


def test_the_progress_says_since_when_how_far_and_until_when(tmp_path: Path) -> None:
    known = described(tmp_path, replace(LOG, expires_at="2026-12-08T10:00:00+00:00"))
    assert known.problem is None
    for fact in ("2 objects, 2.0 kB", "since 2026-11-29", "until about 2026-12-01", "1 of 3 thawed, until 2026-12-08"):
        assert fact in known.progress


def test_a_log_of_an_earlier_version_is_understood(tmp_path: Path) -> None:
    store = ThawStore(tmp_path, "RUN")
    store.save(LOG)
    text = "\n".join(line for line in store.path.read_text().splitlines() if "thawed_f" not in line)
    store.path.write_text(text.replace('"expires_at": "",', "").replace('"thawed_files": 1,', ""))
    (known,) = restores.load(tmp_path, NOW)
    assert (known.thawed, known.expires_at, known.requested) == (0, "", 3)


PROBLEMS = {
    "a try that failed": (LOG, {"id": "restore.failed", "text": "not restored"}, "restore.failed"),
    "copies that expired": (replace(LOG, expires_at="2026-11-01T00:00:00+00:00"), None, "restore.expired"),
    "all have frozen again": (replace(LOG, requested=frozenset()), None, "restore.expired"),
    "a try that came to nothing": (LOG, {}, ""),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_restore_that_failed_or_expired_is_a_problem_until_it_is_resolved(tmp_path: Path, case: str) -> None:
    log, tried, expected = PROBLEMS[case]
    known = described(tmp_path, log, tried=tried)
    assert (known.problem.id if known.problem else "") == expected
    verdict = health.verdict_of(History(NOW, (), (), (known,)), ScanStatus(last=LastScan(ended=NOW, succeeded=NOW)))
    assert [problem.id for problem in verdict.problems] == ([expected] if expected else [])
    ThawStore(tmp_path, "RUN").save(LOG)  # a new request
    assert [each.problem for each in restores.load(tmp_path, NOW)] == [None]


def test_problems_of_a_finished_restore_are_over() -> None:
    said = Problem("restore of RUN to /data/RUN", "not restored", "other", id="restore.failed")
    scans = ScanStatus(last=LastScan(ended=NOW, succeeded=NOW, problems=(said,)))
    assert "restore.failed" not in [each.id for each in health.verdict_of(History(NOW, (), ()), scans).problems]


def test_the_dashboard_shows_what_comes_back_and_what_does_not(tmp_path: Path) -> None:
    scans = ScanStatus(last=LastScan(ended=NOW, succeeded=NOW))
    known = described(tmp_path, LOG)
    page = dashboard.render(dashboard.build_view(History(NOW, (), (), (known,)), scans)).decode()
    assert "Being restored from archives" in page
    assert known.progress in page
    failed = described(tmp_path, LOG, tried={"id": "restore.failed", "text": "<not> restored"})
    page = dashboard.render(dashboard.build_view(History(NOW, (), (), (failed,)), scans)).decode()
    assert "Being restored from archives" not in page
    assert "&lt;not&gt; restored [restore.failed]" in page


def test_recipients_are_notified_when_a_restore_has_ended(tmp_path: Path) -> None:
    known = described(tmp_path, LOG)
    sent = {known.key: Sent(known.progress, "note", NOW), "other": Sent("too old", "note", NOW)}
    assert Update(checked_keys=frozenset()).resolved(sent) == [known.key]
