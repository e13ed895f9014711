"""Hold the result of a scan: the status of each run, the results of uploads, and all problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from s3sync.inventory import RunStatus
from s3sync.inventory.restores import KEY_PREFIX
from s3sync.monitor.last_scan import Counters
from s3sync.monitor.messages import Update, Upload
from s3sync.monitor.problems import Problem, has_failed
from s3sync.text import human_bytes, human_seconds, pluralize, printable
from s3sync.transfer import request

_MAX_NAMES = 3  # failed files to name in one line


@dataclass(slots=True)
class ScanResult:
    """The result of a scan so far. `uploads` and `previews` are by the key of the run."""

    runs: list[RunStatus] = field(default_factory=list)
    uploads: dict[str, request.UploadResult] = field(default_factory=dict)
    previews: dict[str, request.Preview] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    alerts: list[Problem] = field(default_factory=list)  # reported separately; they change no exit code
    uploading_elsewhere: set[str] = field(default_factory=set)  # keys of runs that another process uploads
    reported: set[str] = field(default_factory=set)  # keys of uploads that notifications were sent for
    busy: str = ""  # describes the other scan that holds the lock; empty if this scan could start
    of_config: set[Problem] = field(default_factory=set)  # problems of entries that require what this host lacks
    _by_run: dict[str, list[Problem]] = field(default_factory=dict)  # problems of work, by key of run or restore

    @property
    def ok(self) -> bool:
        """Whether the scan succeeded. Notes alone, such as a run that is too old, do not make it fail."""
        return not has_failed(self.problems)

    @property
    def is_misconfigured(self) -> bool:
        """Whether a problem of the config is left: one that was fixed during the scan is no problem any more."""
        return not self.of_config.isdisjoint(self.problems)

    @property
    def uploaded(self) -> dict[str, request.UploadResult]:
        """The results of the runs that are complete in S3."""
        return {key: outcome for key, outcome in self.uploads.items() if outcome.state.completed}

    def replace(self, run: RunStatus, again: RunStatus) -> None:
        """Replace the status of a run by its new status."""
        self.runs = [again if each is run else each for each in self.runs]

    def add_upload(self, run: RunStatus, outcome: request.UploadResult) -> None:
        """Add the result of an upload. If it had nothing to send, the result of an earlier upload that had is kept."""
        self.uploading_elsewhere.discard(run.key)
        before = self.uploads.get(run.key)
        if before and outcome.already_complete and before.state.completed:
            outcome = replace(before, on_complete=outcome.on_complete)
        else:
            self.reported.discard(run.key)
        self.uploads[run.key] = outcome.without_files()

    def add_problem(self, run: RunStatus, problem: Problem) -> None:
        """Add a problem of a run. If another run has the same problem, it belongs to both."""
        known = next((other for other in self.problems if _is_same(problem, other)), None)
        if known is None:
            self.problems.append(problem)
        if known is None or known in self._problems_of_runs():
            self._by_run.setdefault(run.key, []).append(known or problem)

    def forget_problems(self, run: RunStatus) -> None:
        """Remove the problems of a run that is tried again, except those that another run has as well."""
        self.replace_problems(run.key, ())

    def replace_problems(self, key: str, problems: Sequence[Problem]) -> None:
        """Replace the problems of a run or restore, except those that another one has as well."""
        known = self._by_run.pop(key, [])
        kept = self._problems_of_runs()
        self.problems = [problem for problem in self.problems if problem not in known or problem in kept]
        if problems:
            self._by_run[key] = list(problems)
            self.problems += [problem for problem in problems if problem not in self.problems]

    def replace_found(self, runs: list[RunStatus], problems: list[Problem]) -> None:
        """Replace the runs, and the problems that do not depend on uploads.

        Problems of uploads are kept if the config, which may have been edited, still wants the run at its destination.
        """
        self.runs = runs
        keys = {run.key for run in runs}
        self._by_run = {k: known for k, known in self._by_run.items() if k in keys or k.startswith(KEY_PREFIX)}
        self.problems = [*problems, *(problem for problem in self._problems_of_runs() if problem not in problems)]

    def _problems_of_runs(self) -> list[Problem]:
        """Return the problems of all uploads and restores, each once."""
        return list(dict.fromkeys(problem for known in self._by_run.values() for problem in known))

    def counters(self) -> Counters:
        """Return how many runs, files and bytes this scan has completed."""
        states = [outcome.state for outcome in self.uploaded.values() if not outcome.already_complete]
        return Counters(
            runs=len(states),
            files=sum(state.sent_files for state in states),
            size=sum(state.sent_bytes for state in states),
        )

    def update(self, *, is_final: bool = True) -> Update:
        """Return all problems, and the uploads that no notification was sent for, as an update for recipients."""
        new = {
            key: outcome
            for key, outcome in self.uploaded.items()
            if not outcome.already_complete and key not in self.reported
        }
        return Update(
            uploads=tuple(Upload(key, one_line(outcome)) for key, outcome in new.items()),
            problems=tuple(self.problems),
            checked_keys=frozenset(run.key for run in self.runs) - self.uploading_elsewhere,
            is_final=is_final,
        )

    def summary(self) -> str:
        """Return a line for each problem."""
        return "\n".join(f"{each.key}: {each.text_with_id}" for each in self.problems) or "all is well"


def _is_same(problem: Problem, other: Problem) -> bool:
    """Return whether two problems are the same, e.g. if each of several runs cannot reach a bucket."""
    return problem == other or (problem.kind == "aws" and (problem.key, problem.id) == (other.key, other.id))


def one_line(outcome: request.UploadResult) -> str:
    """Return the result of an upload in one line."""
    state, counters = outcome.state, outcome.counters
    verified = f"{outcome.verified.files:,} of {pluralize(state.total_local_files, 'file')} verified"
    if state.completed or not state.failed:
        return f"{verified}, {human_bytes(counters.sent_size)} sent in {human_seconds(counters.seconds)}"
    named = [f"{printable(path)}: {reason}" for path, reason in list(state.failed.items())[:_MAX_NAMES]]
    more = f"; and {len(state.failed) - _MAX_NAMES:,} more" if len(state.failed) > _MAX_NAMES else ""
    failed = f"{len(state.failed):,} failed: {'; '.join(named)}{more}"
    return f"not completed, {verified}, {failed} (tried again at the next scan)"
