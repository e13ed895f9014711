"""Whether all is well: `status`, the page, the metrics, the exit code and the ping give one answer at any moment."""

from __future__ import annotations

import errno
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from s3sync import logs
from s3sync.commands import status
from s3sync.commands.main import main
from s3sync.commands.overview import Overview, load_overview
from s3sync.config.model import Config
from s3sync.errors import StateError
from s3sync.inventory.history import History, HistoryRow
from s3sync.inventory.problems import Problem as Known
from s3sync.monitor import alerts, dashboard, health, last_scan, metrics, notifications, reporting, scan_status
from s3sync.monitor import scan as monitor_scan
from s3sync.monitor.last_scan import LastScan
from s3sync.monitor.notify import Notifier
from s3sync.monitor.problems import Problem
from s3sync.monitor.scan_result import ScanResult
from s3sync.monitor.scan_status import ScanStatus, read_status
from s3sync.signals import StopRequest
from s3sync.state import lock
from s3sync.transfer.displays import Lines
from tests.helpers.errors import raises_error
from tests.helpers.page import DONE, NOW

HOUR = 3600.0
FAILED = replace(DONE, state="failed", reason="88 of 90 files verified, 2 failed", verified=None)
OF_THE_RUN = Problem(DONE.key, "not completed", "run")

RUNS: dict[str, tuple[HistoryRow, ...]] = {
    "no runs": (),
    "an uploaded run": (DONE,),
    "a failed run": (FAILED,),
    "a failed run that is being tried again": (replace(FAILED, is_uploading=True),),
    "a failed upload that nobody watches": (replace(FAILED, is_watched=False),),
    "an unreadable run": (replace(DONE, state="unreadable", reason="cannot read it: Input/output error"),),
    "an incomplete run": (replace(DONE, state="sequencing", reason="waits for CopyComplete.txt", verified=None),),
}
TROUBLES: dict[str, tuple[Known, ...]] = {
    "readable": (),
    "an unreadable directory": (Known("directory /data", "cannot read /data: Stale file handle"),),
}


def last(*problems: Problem, ended: float = NOW - 60) -> LastScan:
    return LastScan(ended=ended, seconds=3, succeeded=ended, problems=problems)


def of_scans(text: str) -> Problem:
    return Problem("scans", text, "other")


AWS = Problem("s3://lab-runs", "no AWS credentials", "aws")
ALERT = Problem("disk of /log", "only 1 % left", "alert")
NOTE = Problem("an old run", "will not be uploaded: too old", "note")
KNOWN: dict[str, ScanStatus] = {
    "no scan yet": ScanStatus(),
    "a good scan": ScanStatus(last=last()),
    "a scan with a note": ScanStatus(last=last(NOTE)),
    "a scan with an alert": ScanStatus(last=last(ALERT)),
    "a scan without credentials": ScanStatus(last=last(AWS)),
    "a scan in which the run failed": ScanStatus(last=last(OF_THE_RUN)),
    "a scan that ended early": ScanStatus(
        last=last(Problem("monitor", "the scan ended early: interrupted by SIGTERM", "other"))
    ),
    "a good scan long ago": ScanStatus(last=last(ended=NOW - 5 * HOUR)),
    "a good scan that is dated tomorrow": ScanStatus(last=last(ended=NOW + 24 * HOUR)),
    "a running scan after a good one long ago": ScanStatus(
        last=last(ended=NOW - 5 * HOUR), running_since=NOW - 4 * HOUR
    ),
    "a running scan after a failed one": ScanStatus(last=last(AWS), running_since=NOW - 60),
    "the first scan is running": ScanStatus(running_since=NOW - 60),
    "a scan that seems to be stuck": ScanStatus(
        last=last(), problem=of_scans("the scan has been running for more than 24 h"), running_since=NOW - 30 * HOUR
    ),
    "a scan that was killed": ScanStatus(last=last(), problem=of_scans("the last scan did not finish")),
    "a memory that cannot be read": ScanStatus(problem=of_scans("cannot read what the last scan found")),
}
FAILING = {"a failed run", "an unreadable run"}
BAD = {
    "a scan without credentials",
    "a scan in which the run failed",
    "a scan that ended early",
    "a good scan long ago",
    "a good scan that is dated tomorrow",
    "a running scan after a failed one",
    "a scan that seems to be stuck",
    "a scan that was killed",
    "a memory that cannot be read",
}
ATTENTION = {"no scan yet", "a scan with an alert"}


@pytest.mark.parametrize("known", KNOWN)
def test_status_page_metrics_exit_code_and_ping_agree(known: str) -> None:
    of_scans = KNOWN[known]
    for runs, directory in itertools.product(RUNS, TROUBLES):
        history = History(NOW, RUNS[runs], TROUBLES[directory])

        found = health.verdict_of(history, of_scans)
        view = dashboard.build_view(history, of_scans)
        metric = metric_of(history, of_scans)
        overview = Overview(
            rows=[],
            problems=list(history.problems),
            notes=[],
            scans=of_scans,
            verdict=found,
            restores=(),
            unknown=[],
        )

        is_bad = known in BAD or runs in FAILING or bool(TROUBLES[directory])
        level = "bad" if is_bad else "attention" if known in ATTENTION else "well"
        case = f"{known}, {runs}, {directory}"
        assert found.level == level, case
        assert (view.verdict in ("All is well", "No runs yet")) == (level == "well"), case
        assert view.tone == {"bad": "bad", "attention": "warn", "well": "good"}[level], case
        assert metric == health.LEVELS.index(found.level), case
        assert bool(view.issues) == (level != "well"), case
        shown = [*status.problem_lines(overview), *(p.text_with_id for p in found.failing), status.scan_line(overview)]
        for trouble in view.issues:
            assert any(trouble.text in line for line in shown), case
        if of_scans.last and not ScanResult(problems=list(of_scans.last.problems)).ok:
            assert not found.ok, f"{case}: its exit code and ping said so"


def metric_of(history: History, of_scans: ScanStatus) -> float:
    families = parse(metrics.render(history, of_scans, {}).decode())
    return next(sample.value for family in families for sample in family.samples if sample.name == "s3sync_verdict")


def config_of(tmp_path: Path, **keys: Any) -> Config:
    runs = tmp_path / "runs"
    runs.mkdir(exist_ok=True)
    entry = {"monitored_directories": [str(runs)], "bucket": "lab-runs", "remote_path": "/"}
    return Config.model_validate({"log_dir": str(tmp_path / "log"), "monitor": [entry], **keys})


def test_the_health_of_one_run_ignores_problems_of_others() -> None:
    history = History(NOW, (DONE,), ())
    other = Problem("another run to s3://lab-runs/another run/", "not completed", "run")
    of_scans = ScanStatus(last=last(other))

    assert not health.verdict_of(history, of_scans).ok
    assert health.verdict_of(history, of_scans.without_other_runs({DONE.key})).ok
    assert not health.verdict_of(history, ScanStatus(last=last(other, AWS)).without_other_runs({DONE.key})).ok


def test_a_running_scan_and_a_killed_one_are_both_seen(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert read_status(config) == ScanStatus()
    path = scan_status.lock_path(config.log_dir)
    with lock.hold(path, "busy"):
        now = path.stat().st_mtime + 5
        assert (read_status(config, now).running_since, read_status(config, now).problem) == (now - 5, None)
        later = now + (config.alert_after_busy_hours + 1) * HOUR
        assert id_of_problem(config, later) == "monitor.running-too-long"
        last_scan.write(config.log_dir, last())

    assert read_status(config) == ScanStatus(last=last())
    began = last_scan.path_of(config.log_dir).stat().st_mtime + 10
    os.utime(path, (began, began))
    assert id_of_problem(config) == "monitor.killed"


def id_of_problem(config: Config, now: float | None = None) -> str:
    problem = read_status(config, now).problem
    assert problem
    return problem.id


def test_a_last_scan_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    path = last_scan.path_of(config.log_dir)
    path.parent.mkdir()
    path.symlink_to(path.name)
    assert id_of_problem(config) == "monitor.last-scan-unreadable"
    path.unlink()
    path.write_text("{")
    assert id_of_problem(config) == "monitor.last-scan-corrupt"


def show(_name: str) -> Lines:
    raise AssertionError("nothing is uploaded")


class Pings:
    """What notifiers said to the ping URL."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[tuple[bool, str]] = []
        monkeypatch.setattr(Notifier, "ping_end", lambda _self, ok, summary: self.said.append((ok, summary)))


def test_a_scan_that_ends_in_a_bug_is_reported_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web = tmp_path / "web"
    config = config_of(tmp_path, report_dir=str(web))
    pings = Pings(monkeypatch)

    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(monitor_scan, "_scan", bug)

    with pytest.raises(RuntimeError):
        monitor_scan.run_scan(config, {}, StopRequest(), show)

    assert pings.said == [(False, "a bug")]
    assert "the scan ended early: a bug" in (web / "index.html").read_text()
    assert not load_overview(config).verdict.ok


def test_a_scan_that_cannot_begin_is_reported_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web, prom = tmp_path / "web", tmp_path / "s3sync.prom"
    config = config_of(tmp_path, report_dir=str(web), metrics_file=str(prom))
    assert monitor_scan.run_scan(config, {}, StopRequest(), show).ok
    assert "No runs yet" in (web / "index.html").read_text()
    assert "s3sync_verdict 0.0" in prom.read_text()
    locks = scan_status.lock_path(config.log_dir).parent
    locks.rename(tmp_path / "locks")
    locks.write_text("in the way")
    pings = Pings(monkeypatch)

    with pytest.raises(StateError):
        monitor_scan.run_scan(config, {}, StopRequest(), show)

    [(ok, summary)] = pings.said
    assert (ok, "the scan could not start: cannot lock" in summary) == (False, True)
    assert "the scan could not start: cannot lock" in (web / "index.html").read_text()
    assert "s3sync_verdict 2.0" in prom.read_text()
    *_, seen = load_overview(config).verdict.problems
    assert seen.id == "monitor.cannot-start"


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_scan_that_the_disk_of_the_logs_prevents_is_reported_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    web, prom = tmp_path / "web", tmp_path / "s3sync.prom"
    config = config_of(tmp_path, report_dir=str(web), metrics_file=str(prom))
    assert monitor_scan.run_scan(config, {}, StopRequest(), show).ok
    config = config_of(tmp_path, report_dir=str(web), metrics_file=str(prom), alert_free_percent=100)
    assert load_overview(config).verdict.level == "well"
    before = sorted(config.log_dir.rglob("*"))
    fail_writes_below(config.log_dir, reason, monkeypatch)
    pings = Pings(monkeypatch)

    with raises_error(StateError, "lock.cannot-lock", os.strerror(reason)):
        monitor_scan.run_scan(config, {}, StopRequest(), show)

    assert [ok for ok, _ in pings.said] == [False]
    found = load_overview(config).verdict
    assert [problem.id for problem in found.problems] == ["monitor.cannot-start"]
    assert os.strerror(reason) in found.problems[0].text
    assert {alert.id for alert in found.alerts} == {"monitor.disk-full"}
    page = (web / "index.html").read_text()
    assert os.strerror(reason) in page
    assert page.count("make room: `s3sync cleanup`") == len(found.alerts)
    assert "s3sync_verdict 2.0" in prom.read_text()
    assert "monitor.log-dir-not-writable" in [
        p.id for p in monitor_scan.dry_run(config, {}, StopRequest(), show).problems
    ]
    assert sorted(config.log_dir.rglob("*")) == before, "each scan would use up an inode"

    monkeypatch.undo()
    assert load_overview(config).verdict.level == "well"


def fail_writes_below(folder: Path, reason: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all writes to new files below this folder fail."""
    write = os.write

    def fail(descriptor: int, content: bytes) -> int:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_relative_to(folder):
            raise OSError(reason, os.strerror(reason))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", fail)


def test_a_main_log_or_a_lock_that_cannot_be_opened_is_a_problem(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert monitor_scan.run_scan(config, {}, StopRequest(), show).ok
    for path in (config.log_dir / logs.MAIN_LOG, scan_status.lock_path(config.log_dir)):
        path.unlink(missing_ok=True)
        path.mkdir()
        assert id_of_problem(config) == "monitor.cannot-start"
        path.rmdir()
        assert read_status(config).problem is None


@pytest.mark.parametrize("fact", [{"f_bavail": 0, "f_bfree": 0}, {"f_ffree": 0}, {"f_flag": os.ST_RDONLY}], ids=str)
def test_users_who_do_not_run_the_scans_see_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fact: dict[str, int]
) -> None:
    config = config_of(tmp_path)
    assert monitor_scan.run_scan(config, {}, StopRequest(), show).ok
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(scan_status, "is_scanning_user", lambda _config: False)
    assert read_status(config).problem is None
    disk = os.statvfs(tmp_path)
    names = [name for name in dir(disk) if name.startswith("f_")]
    values = {name: getattr(disk, name) for name in names} | {"f_files": 1000} | fact

    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(**values))

    assert id_of_problem(config) == "monitor.cannot-start"


def test_alerts_are_reported_by_one_process_at_a_time(tmp_path: Path) -> None:
    config = config_of(tmp_path, alert_free_percent=100)
    found = alerts.find([], config)
    with lock.hold(notifications.lock_path(config.log_dir), "busy"):
        reporting.report_alerts(config, found, wait=False)
        assert not notifications.path_of(config.log_dir).exists(), "the other process writes it"

    reporting.report_alerts(config, found, wait=False)
    memory = notifications.read(config.log_dir)
    assert memory
    assert memory.logged == {"alerts": {alert.key for alert in found}}


@pytest.mark.parametrize("style", ["json", "yaml", "no yaml at all"])
def test_a_scan_whose_config_cannot_be_used_is_reported(tmp_path: Path, capsys: Any, style: str) -> None:
    web, prom = tmp_path / "web", tmp_path / "s3sync.prom"
    config = config_of(tmp_path, report_dir=str(web), metrics_file=str(prom))
    assert monitor_scan.run_scan(config, {}, StopRequest(), show).ok
    keys = {"log_dir": str(config.log_dir), "report_dir": str(web), "metrics_file": str(prom)}
    path = tmp_path / ("config.json" if style == "json" else "config.yaml")
    lines = "".join(f"{key}: {value}  # here\n" for key, value in keys.items())
    path.write_text(json.dumps(keys) if style == "json" else lines + ("]" if style == "no yaml at all" else ""))

    code = main(["monitor", "--config", str(path)])

    assert code == 78
    assert "the config cannot be used" in (web / "index.html").read_text()
    assert "s3sync_verdict 2.0" in prom.read_text()
    assert not load_overview(config).verdict.ok
    assert capsys.readouterr().err.startswith("s3sync: ")


def test_nothing_is_made_where_a_wrong_config_says_so(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"report_dir: {tmp_path}/web\nlog_dir: {tmp_path}/log\nmetrics_file: {tmp_path}/x.prom\n")

    assert main(["monitor", "--config", str(path)]) == 78

    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]
