"""Decide whether all is well, in the same way for `status`, dashboard, metrics, exit codes and pings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from s3sync.inventory import History
from s3sync.inventory.restores import KEY_PREFIX
from s3sync.monitor.problems import LATE_SUFFIX, MONITOR, SCANS, Problem
from s3sync.monitor.scan_status import STALE_AFTER_SECONDS, ScanStatus
from s3sync.text import human_seconds, printable

Level: TypeAlias = Literal["well", "attention", "bad"]  # "attention": alerts, which fail no scan
LEVELS: tuple[Level, ...] = ("well", "attention", "bad")  # as a metric: 0, 1, 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """The runs that need attention, all other problems, and alerts."""

    failing: tuple[Problem, ...]
    problems: tuple[Problem, ...]
    alerts: tuple[Problem, ...]

    @property
    def level(self) -> Level:
        """The level of the worst problem."""
        if self.failing or self.problems:
            return "bad"
        return "attention" if self.alerts else "well"

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0, and a ping reports success."""
        return self.level != "bad"


def verdict_of(history: History, scans: ScanStatus) -> Verdict:
    """Return the verdict on the present state, and on the problems of the last scan that still exist."""
    failing = {
        run.key: Problem(run.key, f"{run.state}: {run.reason}", "run", id="monitor.run-in-problem-state")
        for run in history.failing
    }
    uploaded = {run.key for run in history.rows if run.state == "uploaded"}
    of_restores = (pending.problem for pending in history.restores if pending.problem)
    present = (Problem.of_inventory(problem, "other") for problem in (*history.problems, *of_restores))
    problems = {problem.key: problem for problem in present}
    alerts: dict[str, Problem] = {}
    for problem in scans.last.problems if scans.last else ():
        run = problem.key.removesuffix(LATE_SUFFIX)
        if run in uploaded or run in failing or problem.kind == "note" or problem.key in problems:
            continue
        if problem.key.startswith(KEY_PREFIX):  # present problems of restores are known, so this one is over
            continue
        (alerts if problem.kind == "alert" else problems)[problem.key] = problem
    alerts.update((alert.key, alert) for alert in scans.alerts)
    problems.update((problem.key, problem) for problem in _of_scans(scans, history.at))
    if scans.last and not scans.last.ok and not failing and not problems:
        text = "the last scan failed; its problems seem to be resolved, which the next scan will confirm"
        problems[MONITOR] = Problem(MONITOR, text, "other", id="monitor.not-confirmed")
    if scans.last is None and scans.running_since is None:
        text = "no scan has finished yet (is `monitor` in the crontab?)"
        alerts[MONITOR] = Problem(MONITOR, text, "alert", id="monitor.no-scan")
    return Verdict(tuple(failing.values()), tuple(problems.values()), tuple(alerts.values()))


def _of_scans(scans: ScanStatus, now: float) -> Iterable[Problem]:
    if scans.problem:
        yield replace(scans.problem, text=printable(scans.problem.text))
    elif scans.last and (age := scans.age(now)) > STALE_AFTER_SECONDS:
        text = f"no scan has finished for {human_seconds(age)} (check that cron runs, and read the main log)"
        yield Problem(SCANS, text, "other", id="monitor.no-recent-scan")
    elif scans.last and scans.running_since is None and scans.last.ended - now > STALE_AFTER_SECONDS:
        ahead = human_seconds(scans.last.ended - now)
        text = f"the last scan is dated {ahead} in the future, so its age is unknown (check the clock)"
        yield Problem(SCANS, text, "other", id="monitor.scan-in-the-future")
