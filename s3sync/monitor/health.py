"""Whether all is well: the one answer that `status`, the page, the metrics, exit codes and pings go by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from s3sync.inventory import History
from s3sync.monitor.activity import STALE_SECONDS, Scans
from s3sync.monitor.alerts import LATE
from s3sync.monitor.notify import Problem
from s3sync.text import human_seconds, printable

Level = Literal["well", "attention", "bad"]  # "attention": something to know that fails no scan
LEVELS: tuple[Level, ...] = ("well", "attention", "bad")  # as a metric: 0, 1, 2
MONITOR = "monitor"  # the key of what a scan says of itself
SCANS = "scans"  # and of what can be seen of them from outside


class Verdict(NamedTuple):
    """`failing` are the runs that are in a bad state now, `problems` all else that is wrong, `alerts` what is only to
    be known."""

    failing: tuple[Problem, ...]
    problems: tuple[Problem, ...]
    alerts: tuple[Problem, ...]

    @property
    def level(self) -> Level:
        """The worst of all."""
        if self.failing or self.problems:
            return "bad"
        return "attention" if self.alerts else "well"

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0, and a ping reports success."""
        return self.level != "bad"


def is_failed(problems: Iterable[Problem]) -> bool:
    """Whether a scan that found these has failed: notes and alerts are no reason to."""
    return any(problem.kind not in ("note", "alert") for problem in problems)


def judge(history: History, scans: Scans) -> Verdict:
    """By how the runs and the directories are now, and by what the last scan found, as long as it has not passed."""
    failing = {run.key: Problem(run.key, f"{run.state}: {run.reason}", "run") for run in history.failing}
    passed = {run.key for run in history.rows if run.state == "uploaded"}
    problems = {known.key: Problem(known.key, known.text, "other") for known in history.problems}
    alerts: dict[str, Problem] = {}
    for problem in scans.last.problems if scans.last else ():
        run = problem.key.removesuffix(LATE)
        if run in passed or run in failing or problem.kind == "note" or problem.key in problems:
            continue
        (alerts if problem.kind == "alert" else problems)[problem.key] = problem
    problems.update((problem.key, problem) for problem in _of_scans(scans, history.at))
    if scans.last and is_failed(scans.last.problems) and not failing and not problems:
        text = "the last scan failed; what it found has passed since, and the next one has to confirm that"
        problems[MONITOR] = Problem(MONITOR, text, "other")
    if scans.last is None and scans.began is None:
        alerts[MONITOR] = Problem(MONITOR, "no scan has ended yet (is `monitor` in the crontab?)", "alert")
    return Verdict(tuple(failing.values()), tuple(problems.values()), tuple(alerts.values()))


def _of_scans(scans: Scans, now: float) -> Iterable[Problem]:
    if scans.problem:
        yield Problem(SCANS, printable(scans.problem), "other")
    elif scans.last and (age := scans.age(now)) > STALE_SECONDS:
        text = f"no scan has ended for {human_seconds(age)} (does cron run? what does the main log say?)"
        yield Problem(SCANS, text, "other")
    elif scans.last and scans.began is None and scans.last.ended - now > STALE_SECONDS:
        ahead = human_seconds(scans.last.ended - now)
        text = f"the last scan is dated {ahead} in the future, so nobody knows when it was (is the clock right?)"
        yield Problem(SCANS, text, "other")
