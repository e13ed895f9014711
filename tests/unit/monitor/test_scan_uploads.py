"""A scan works on several runs at once, and looks for new ones meanwhile."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from s3sync import logs
from s3sync.config import Config
from s3sync.delays import DELAYS
from s3sync.errors import InterruptedBySignal, LeaseLostError, RunError, StateError
from s3sync.inventory import RunStatus, order, statuses
from s3sync.monitor import alerts, problem_log, publish, reporting, scan, uploads
from s3sync.monitor.config_follower import ConfigFollower
from s3sync.monitor.context import ScanContext
from s3sync.monitor.scan_result import ScanResult
from s3sync.monitor.uploads import ScanUploads
from s3sync.monitor.workers import Workers
from s3sync.runs import local_files
from s3sync.signals import StopRequest
from s3sync.slurm import coordinator, work_folder
from s3sync.transfer import batches
from s3sync.transfer.context import Runtime
from s3sync.transfer.slots import SlotPool

CONFIG = cast(
    Config,
    SimpleNamespace(
        max_cores=2, max_processes=None, max_bandwidth=None, max_runs_at_once=1, log_dir=Path("/nowhere"), cluster_of=id
    ),
)


@dataclass(frozen=True)
class Entry:
    bucket: str = "one"
    cluster: str = ""


@dataclass(frozen=True)
class FakeRun:
    key: str
    state: str = "new"
    entry: Entry = field(default_factory=Entry)
    run = SimpleNamespace(run_id="run")


def runs_of(names: str) -> list[RunStatus]:
    return [cast(RunStatus, FakeRun(name)) for name in names]


@contextlib.contextmanager
def no_display(_name: str) -> Iterator[Any]:
    yield None


def context_of(stop: StopRequest) -> ScanContext:
    return ScanContext(config=CONFIG, environ={}, stop=stop, make_display=cast(Any, no_display))


def two_at_once(stop: StopRequest | None = None) -> ScanContext:
    config = cast(Config, SimpleNamespace(**{**vars(CONFIG), "max_runs_at_once": 2}))
    return replace(context_of(stop or StopRequest()), config=config)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "DELAYS", replace(DELAYS, scan_looks=0.0))
    monkeypatch.setattr(uploads, "_FIND_COST", 0)
    monkeypatch.setattr(uploads, "request_for", lambda run, _config, **_more: run)


def upload_with(monkeypatch: pytest.MonkeyPatch, work: Callable[[str, StopRequest], None]) -> None:
    """Let `work`, with the key of a run, be its upload."""

    def run_upload(run: RunStatus, _cluster: Any, runtime: Runtime, **_more: Any) -> None:
        work(run.key, runtime.stop)

    monkeypatch.setattr(coordinator, "run_upload", run_upload)


def test_a_failed_search_loses_no_waiting_run(monkeypatch: pytest.MonkeyPatch) -> None:
    has_looked, done = threading.Event(), []

    def upload(key: str, _stop: StopRequest) -> None:
        assert has_looked.wait(120)
        done.append(key)

    def look() -> None:
        has_looked.set()

    upload_with(monkeypatch, upload)
    ScanUploads(context_of(StopRequest()), ScanResult(), find_more=look, log_problems=lambda: None).run(runs_of("AB"))
    assert done == ["A", "B"]


def test_a_scan_that_is_stopped_does_not_spin_until_its_uploads_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, may_end, waits = StopRequest(), threading.Event(), list[float | None]()
    wait = Workers.wait

    def noted(self: Workers, seconds: float | None) -> Any:
        if stop.is_requested:
            waits.append(seconds)
        if seconds is None or len(waits) > 2:
            may_end.set()
        return wait(self, seconds)

    def upload(_key: str, own: StopRequest) -> None:
        stop.request(signal.SIGTERM)
        assert may_end.wait(120)
        own.raise_if_requested()

    monkeypatch.setattr(Workers, "wait", noted)
    upload_with(monkeypatch, upload)
    with pytest.raises(InterruptedBySignal):
        ScanUploads(context_of(stop), ScanResult(), find_more=lambda: None, log_problems=lambda: None).run(runs_of("A"))
    assert waits[-1] is None


def test_a_scan_that_is_stopped_lists_no_more_runs_to_find_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, listed = StopRequest(), list[str]()

    def list_files(_run: Any) -> Any:
        listed.append("a run that waits")
        stop.request(signal.SIGTERM)
        raise RunError("the run is gone", id="run.gone")

    def upload(_key: str, own: StopRequest) -> None:
        assert own.wait(120)
        own.raise_if_requested()

    monkeypatch.setattr(local_files, "list_files", list_files)
    monkeypatch.setattr(SlotPool, "least_left", lambda _pool: 100.0)
    upload_with(monkeypatch, upload)
    with pytest.raises(InterruptedBySignal):
        ScanUploads(two_at_once(stop), ScanResult(), find_more=lambda: None, log_problems=lambda: None).run(
            runs_of("XABCD")
        )
    assert len(listed) == 1


def test_all_runs_that_wait_are_listed_to_find_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    is_small_done, done = threading.Event(), list[str]()

    def upload(key: str, _own: StopRequest) -> None:
        assert key == "D" or is_small_done.wait(120)
        done.append(key)
        is_small_done.set()

    costs = iter([80.0, 20.0])
    monkeypatch.setattr(uploads, "DELAYS", replace(DELAYS, scan_looks=3600.0))
    monkeypatch.setattr(local_files, "list_files", lambda _run: SimpleNamespace(files=()))
    monkeypatch.setattr(batches, "cost_of", lambda _files: next(costs))
    monkeypatch.setattr(SlotPool, "least_left", lambda _pool: 100.0)
    upload_with(monkeypatch, upload)
    scanning = ScanUploads(two_at_once(), ScanResult(), find_more=lambda: None, log_problems=lambda: None)
    scanning.run(runs_of("XABD"))
    assert done[0] == "D"


def test_a_signal_counts_although_an_upload_has_lost_its_lock_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()

    def upload(_key: str, _own: StopRequest) -> None:
        stop.request(signal.SIGTERM)
        raise LeaseLostError("another host uploads it", id="lock.taken-over")

    upload_with(monkeypatch, upload)
    with pytest.raises(InterruptedBySignal):
        ScanUploads(context_of(stop), ScanResult(), find_more=lambda: None, log_problems=lambda: None).run(runs_of("A"))


@pytest.mark.parametrize(("id_", "problems"), [("lock.taken-over", []), ("lock.not-renewed", ["lock.not-renewed"])])
def test_a_lost_lock_that_no_host_has_taken_over_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, id_: str, problems: list[str]
) -> None:
    def upload(_key: str, _own: StopRequest) -> None:
        raise LeaseLostError("lost", id=id_)

    upload_with(monkeypatch, upload)
    result = ScanResult()
    ScanUploads(context_of(StopRequest()), result, find_more=lambda: None, log_problems=lambda: None).run(runs_of("A"))
    assert [problem.id for problem in result.problems] == problems
    assert result.uploading_elsewhere == (set() if problems else {"A"})


def test_unreadable_work_folders_of_slurm_remain_a_problem_after_a_search(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreadable(_log_dir: Path) -> frozenset[str]:
        raise StateError("cannot read slurm: Permission denied", id="slurm.work-folder")

    def find(_context: ScanContext, result: ScanResult, *, scanning: bool) -> None:
        assert scanning
        result.replace_found(runs_of("AB"), [])

    monkeypatch.setattr(work_folder, "active_names", unreadable)
    monkeypatch.setattr(scan, "_find_runs", find)
    monkeypatch.setattr(order, "scan_order", lambda runs, _config, _folders: runs)
    monkeypatch.setattr(problem_log, "log_problems", lambda *_arguments, **_more: None)
    context = replace(context_of(StopRequest()), config=cast(Config, SimpleNamespace(log_dir=tmp_path)))
    result = ScanResult()
    reported: list[str] = []
    reporter = SimpleNamespace(
        report=lambda: reported.extend(problem.id for problem in result.problems), publish=lambda: None
    )
    follower = ConfigFollower(context.config, lambda: context.config)
    assert scan._find_more_runs(context, result, cast(Any, reporter), follower) == runs_of("AB")
    assert reported == ["slurm.work-folder"]
    assert not result.ok


@pytest.mark.parametrize(("repeats", "wanted"), [(0.0, ["alerts", "dashboard", "ping"]), (3600.0, [])])
def test_a_long_scan_updates_alerts_dashboard_and_heartbeat_by_itself(
    monkeypatch: pytest.MonkeyPatch, repeats: float, wanted: list[str]
) -> None:
    """A timer of systemd starts no other call while the scan runs, which may go on as long as new runs come."""
    done: list[str] = []
    monkeypatch.setattr(reporting, "DELAYS", replace(DELAYS, scan_repeats=repeats))
    monkeypatch.setattr(alerts, "find", lambda _runs, _config: [])
    monkeypatch.setattr(reporting, "report_alerts", lambda *_arguments, **_more: done.append("alerts"))
    monkeypatch.setattr(publish, "during_scan", lambda _config: done.append("dashboard"))
    monkeypatch.setattr(reporting, "report_progress", lambda *_arguments: done.append("ping"))
    monkeypatch.setattr(scan, "_find_runs", lambda *_arguments, **_more: None)
    monkeypatch.setattr(scan, "_slurm_folders", lambda *_arguments: frozenset())
    monkeypatch.setattr(logs, "rotate", lambda _log_dir: None)
    monkeypatch.setattr(order, "scan_order", lambda runs, _config, _folders: runs)
    result, context = ScanResult(), context_of(StopRequest())
    follower = ConfigFollower(CONFIG, lambda: CONFIG)
    assert scan._find_more_runs(context, result, reporting.ScanReporter(context, result), follower) == []
    assert done == wanted


def test_what_was_streamed_is_not_uploaded_to_where_an_edited_config_does_not_send_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run is complete when a visit ends, and continues at once: to the bucket of the config as it is now."""
    done: list[str] = []
    result = ScanResult(runs=[cast(RunStatus, FakeRun("run to one", state="streaming"))])
    now = cast(RunStatus, FakeRun("run to two", entry=Entry(bucket="two")))

    def run_upload(run: RunStatus, *_rest: Any, **_more: Any) -> Any:
        done.append(run.key)
        result.runs = [now]  # of a look meanwhile
        return SimpleNamespace()

    monkeypatch.setattr(coordinator, "run_upload", run_upload)
    monkeypatch.setattr(ScanResult, "add_upload", lambda *_arguments: None)
    monkeypatch.setattr(uploads, "_log_or_add_problem", lambda *_arguments: None)
    monkeypatch.setattr(statuses, "refresh", lambda _config, runs: [replace(cast(Any, runs[0]), state="new")])
    ScanUploads(context_of(StopRequest()), result, find_more=lambda: None, log_problems=lambda: None).run(result.runs)
    assert done == ["run to one"]
