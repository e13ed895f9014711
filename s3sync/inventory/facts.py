"""Look up the facts that decide the status of one run: each when a rule needs it, and only once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property

from s3sync.config import Config, MonitorEntry
from s3sync.inventory.candidate import Candidate
from s3sync.inventory.states import State
from s3sync.patterns import Pattern
from s3sync.runs import Run, analysis, completion, local_files, readiness, run_folder, samplesheet
from s3sync.slurm import work_folder
from s3sync.state import RunState, StateStore, identity, summary
from s3sync.text import printable
from s3sync.transfer import changes

_TOO_SLOW = "sample_regex took too long with the samplesheet of another run (simplify it)"


class SampleChecker:
    """Checks samplesheets. A regex that took too long with one samplesheet is not tried with another."""

    def __init__(self) -> None:
        self._too_slow: set[Pattern] = set()

    def check(self, run: Run, regex: Pattern | None) -> samplesheet.SampleCheck:
        """Return whether the regex is found in the name of every sample of the run."""
        if regex in self._too_slow:
            return samplesheet.SampleCheck(verdict="samples do not match", reason=_TOO_SLOW)
        checked = samplesheet.check_samples(run.path, regex)
        if checked.timed_out and regex:
            self._too_slow.add(regex)
        return checked


class StatusContext:
    """What the statuses of all runs share: the config, the memory of completed runs, and the time."""

    def __init__(self, config: Config, watch: changes.ChangeWatch | None = None, now: float | None = None) -> None:
        self.config = config
        self.watch = watch or changes.ChangeWatch(config.log_dir, config.recheck_days)
        self.now = time.time() if now is None else now  # seconds since the epoch
        self.sample_checker = SampleChecker()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The state of a run, and the reason. An empty `id` means the id of the state, see STATE_IDS."""

    state: State
    reason: str
    id: str = ""
    failing: tuple[str, ...] = ()
    change: changes.Change | None = None


class Facts:
    """The facts about a run, or an analysis of one, at a destination. Those that cannot be read raise S3SyncError."""

    def __init__(self, candidate: Candidate, log: summary.LogStatus, store: StateStore, context: StatusContext) -> None:
        self.candidate = candidate
        self.log = log
        self.store = store
        self.context = context

    @property
    def entry(self) -> MonitorEntry:
        """The entry of the config that watches the run."""
        return self.candidate.entry

    @property
    def config(self) -> Config:
        """The whole config."""
        return self.context.config

    @property
    def head(self) -> summary.LogSummary | None:
        """The summary of the state log; None without a valid log."""
        return self.log.head

    @cached_property
    def run(self) -> Run:
        """The run, with the content of its RunInfo.xml."""
        run = self.candidate.run
        if run.parent_run:
            return run
        return analysis.without_analyses(replace(run, info=run_folder.read_run_info(run.path / run_folder.RUN_INFO)))

    @cached_property
    def claim(self) -> identity.Claim:
        """Whether the state log and the prefix in S3 belong to this folder."""
        if self.candidate.nested_path:
            nested = printable(self.candidate.nested_path)
            return identity.Claim("another", f"the remote_path {nested} of the config is inside its prefix in S3")
        run, head = self.candidate.run, self.head
        if head is None:
            return identity.claim_without_log(run, self.candidate.rivals)
        return identity.check_claim(run, head.run_path, head.folder, self.candidate.rivals, self._disk_and_log)

    def _disk_and_log(self) -> tuple[local_files.Listing, RunState | None]:
        return local_files.list_files(self.run), self.store.load(set_aside=False).state

    @cached_property
    def change(self) -> changes.Change | None:
        """What has changed since the run was uploaded."""
        if self.head is None:
            return None
        run, excludes = self.candidate.run, self.entry.excludes
        return self.context.watch.find_change(run, self.store, self.head, excludes, lambda: self.run)

    @cached_property
    def work_folder(self) -> work_folder.WorkFolder:
        """The work folder of an upload on Slurm, which may not exist."""
        return work_folder.WorkFolder.of(self.config.log_dir, self.store)

    @property
    def known_run(self) -> Run:
        """The run, with the content of its RunInfo.xml if a rule has needed that."""
        return self.run if self._is_looked_up("run") else self.candidate.run

    def _is_looked_up(self, fact: str) -> bool:
        return fact in vars(self)  # where cached_property keeps it

    def hours_since(self, seconds: float) -> float:
        """Return the hours since a time in seconds since the epoch."""
        return (self.context.now - seconds) / 3600

    def is_too_old(self, finished_at: float) -> bool:
        """Return whether a run that was finished at this time (seconds since the epoch) is too old to be started.

        A run whose upload was started, or that was found in time and has waited since, is never too old.
        """
        was_found = self.head is not None or self.log.corrupt or self._waiting_name in self.context.watch.waiting
        return not was_found and self.hours_since(finished_at) > self.config.max_age

    def mark_found_in_time(self) -> None:
        """Remember that the run was found in time, so that it does not become too old while it waits."""
        self.context.watch.waiting.add(self._waiting_name)

    @property
    def _waiting_name(self) -> str:
        return self.store.lock_path.stem


class RunFacts(Facts):
    """The facts about a run, including those from its instrument and its samplesheet."""

    @cached_property
    def requirements(self) -> readiness.Requirements:
        """The conditions under which the config lets a run be uploaded."""
        config = self.config
        return readiness.Requirements(
            quiet_seconds=config.quiet_minutes * 60,
            marker_wait_seconds=config.marker_wait_hours * 3600,
            require_whole=config.require_whole_runs,
            excludes=self.entry.excludes,
        )

    @cached_property
    def marker(self) -> completion.Completion:
        """Whether the run has its completion marker; cheap, since the folder is not listed."""
        return readiness.check_marker(self.run, self.requirements, self.context.now)

    @cached_property
    def readiness(self) -> readiness.Readiness:
        """Whether the run is complete; this lists the folder."""
        return readiness.check(self.run, self.requirements, now=self.context.now, marked=self.marker)

    @cached_property
    def finished_at(self) -> float:
        """When the run was finished, in seconds since the epoch."""
        finished = completion.finished_at(self.run) or 0.0
        if not self.marker.is_complete:  # then it is complete at the end of the wait for its last marker
            finished += self.requirements.marker_wait_seconds
        return max(self.candidate.run_info_mtime, finished)

    @cached_property
    def sample_check(self) -> samplesheet.SampleCheck:
        """Whether sample_regex is found in the name of every sample."""
        return self.context.sample_checker.check(self.run, self.entry.regex)

    def arrived_lately(self) -> bool:
        """Return whether the run was copied here within max_age, with times that are older than that."""
        arrived = completion.arrived_at(self.run)
        return arrived is not None and not self.is_too_old(arrived) and readiness.has_old_times(self.run)

    def is_abandoned(self) -> bool:
        """Return whether nothing in the run has changed for `abandoned_hours`."""
        return not local_files.has_changed_since(self.run, self.context.now - self.config.abandoned_hours * 3600)


class AnalysisFacts(Facts):
    """The facts about an analysis of an uploaded run. The run's own samplesheet has been checked already."""

    @cached_property
    def completion(self) -> analysis.AnalysisCompletion:
        """Whether the instrument has finished the analysis."""
        return analysis.check_completion(self.run, self.config.quiet_minutes * 60, self.context.now)

    @property
    def began(self) -> float:
        """When its newest marker was written or, if no rule has needed that, its folder; 0 if unknown.

        In seconds since the epoch.
        """
        try:
            return (
                self.completion.marker_time
                if self._is_looked_up("completion")
                else self.candidate.run.path.stat().st_mtime
            )
        except OSError:
            return 0.0
