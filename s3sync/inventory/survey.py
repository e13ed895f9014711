"""Which runs there are, the state of each at each destination, and the reason: what `monitor` and `status` go by.

Thousands of old runs cost next to nothing: a run whose log says completed is neither walked nor parsed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from s3sync.config import Config, MonitorEntry
from s3sync.errors import RunError, S3SyncError, StateError
from s3sync.inventory import discovery, missing, rivals
from s3sync.inventory.discovery import Candidate as Candidate
from s3sync.inventory.discovery import Discovery
from s3sync.inventory.discovery import Trouble as Trouble
from s3sync.inventory.missing import Lost
from s3sync.runs import Listing, Run, analysis, analysis_manifest, completion, readiness, run_folder, samplesheet
from s3sync.slurm import broken_nodes as slurm_broken_nodes
from s3sync.slurm import work_folder
from s3sync.state import RunState, StateStore, identity, log_format, summary, waiting
from s3sync.state import store as state_store
from s3sync.text import human_seconds, pluralize, printable
from s3sync.transfer import changes, hook

State = Literal[
    "sequencing",
    "streaming",
    "abandoned",
    "settling",
    "incomplete",
    "analysing",
    "new",
    "partial",
    "uploaded",
    "failed",
    "too old",
    "no samplesheet",
    "ambiguous samplesheet",
    "samples do not match",
    "duplicate name",
    "unreadable",
    "gone",
]
DUE: tuple[State, ...] = ("partial", "new", "failed")
NEVER: tuple[State, ...] = ("too old", "no samplesheet", "samples do not match", "abandoned")  # not to be uploaded
BROKEN: tuple[State, ...] = ("unreadable", "ambiguous samplesheet", "incomplete", "duplicate name", "gone")
STUCK_ATTEMPTS = 3  # calls that ended without proving anything; after so many the others go first
ONE_NAME = "rename one of the folders, give it a remote_path of its own, or remove it if it is a copy"


class Judged(NamedTuple):
    """A run, or an analysis of one, at a destination. `failing` are the samples the regex was not found in; `head` is
    its log in short. An analysis `began` when its newest marker was written."""

    run: Run
    entry: MonitorEntry
    began: float
    state: State
    reason: str
    head: log_format.Head | None
    log_path: Path
    failing: tuple[str, ...] = ()
    change: changes.Change | None = None  # since it was uploaded

    @property
    def key(self) -> str:
        """Tells it from every other run and destination."""
        where = f" in {printable(str(self.run.path.parent))}" if self.state == "duplicate name" else ""
        return f"{printable(self.run.run_id)}{where} to {printable(self.url)}"

    @property
    def url(self) -> str:
        """Where it goes: `s3://bucket/prefix/run_id/`."""
        return self.entry.destination.url(self.run.run_id)


class Survey(NamedTuple):
    """Every run and analysis, those that are gone too, and what could not be looked into."""

    runs: list[Judged]
    troubles: list[Trouble]


def look(
    config: Config,
    names: Iterable[str] = (),
    *,
    found: Discovery | None = None,
    scanning: bool = False,
    remembering: bool = False,
) -> Survey:
    """All runs, or those with these names; a run's name means its analyses, too.

    A `scanning` one remembers what it finds of completed runs, and as a `remembering` one which runs wait.
    """
    wanted = {name.partition("/")[0] for name in names}
    found = found or discovery.look(config)
    candidates = rivals.told_apart(found.candidates, config, aliases=False)
    watch = changes.Watch(config.log_dir, config.recheck_days, scanning=scanning)
    judged = judge_all(config, [c for c in candidates if not wanted or c.run.run_id in wanted], watch)
    watch.save()
    if (scanning or remembering) and not wanted:
        waiting.save(config.log_dir, _still_waiting(config, judged, watch))
    known = {run.log_path for run in judged}
    troubled = [directory.path for directory in found.directories if directory.troubles]
    lost = [run for run in missing.lost_runs(config, known, troubled) if not wanted or run.run.root.name in wanted]
    unreadable = [] if wanted else state_store.unreadable_besides(config.log_dir, known)
    return Survey([*judged, *map(_lost, lost)], [*found.troubles, *(_of_log(path, why) for path, why in unreadable)])


def _still_waiting(config: Config, judged: Iterable[Judged], watch: changes.Watch) -> set[str]:
    """The names of what waits; what cannot be seen now may come back, or is another config's."""
    stores = {StateStore(config.log_dir, run.run, run.entry.destination).lock_path.stem: run for run in judged}
    kept = watch.waiting - stores.keys()
    waits = {name for name, run in stores.items() if run.head is None and run.state not in ("uploaded", *NEVER)}
    return kept | (waits & watch.waiting)


def _of_log(path: Path, why: str) -> Trouble:
    return Trouble(f"log {printable(path.name)}", f"cannot read {printable(str(path))}: {why} (repair that)")


def _lost(run: Lost) -> Judged:
    return Judged(run.run, run.entry, run.began, run.state, printable(run.reason), run.head, run.log_path)


def discover(config: Config, *, aliases: bool = False) -> tuple[list[Candidate], list[Trouble]]:
    """Every run in every monitored directory, for every entry, and the directories that are not as they should be.

    A folder that is found under several paths for one destination is one run, unless all its `aliases` are asked for.
    """
    found = discovery.look(config)
    return rivals.told_apart(found.candidates, config, aliases=aliases), found.troubles


def judge_all(config: Config, candidates: Iterable[Candidate], watch: changes.Watch | None = None) -> list[Judged]:
    """The state of every run, and after it that of each of its analyses.

    A regex that took too long with one sheet is not tried with the next.
    """
    hopeless: set[re.Pattern[str]] = set()
    watch = watch or changes.Watch(config.log_dir, config.recheck_days)
    runs = (judge(candidate, config, hopeless, watch=watch) for candidate in candidates)
    return [judged for run in runs for judged in (run, *analyses_of(run, config, watch=watch))]


def judge(
    candidate: Candidate,
    config: Config,
    hopeless: set[re.Pattern[str]],
    now: float | None = None,
    watch: changes.Watch | None = None,
) -> Judged:
    """The state of one run at one destination; never raises for what is wrong with the run or its log."""
    run, entry, began = candidate.run, candidate.entry, candidate.began
    store = StateStore(config.log_dir, run, entry.destination)
    known = summary.look(store)
    head = known.head

    def judged(state: State, reason: str, failing: tuple[str, ...] = ()) -> Judged:
        return Judged(run, entry, began, state, printable(reason), head, known.log_path, failing)

    if unreadable := known.unreadable or candidate.unreadable:
        return judged("unreadable", unreadable)
    if decided := _by_its_log(candidate, config, store, known, watch):
        return judged(decided.state, decided.reason)._replace(change=decided.change)
    try:
        run = _opened(run)
        waiting_names = watch.waiting if watch else set()
        case = _Case(candidate._replace(run=run), config, hopeless, known, store, now, waiting_names)
        return judged(*_of_open_run(case))
    except (RunError, StateError) as error:
        return judged("unreadable", str(error))


class _Case(NamedTuple):
    """A run that is not uploaded, and what its state follows from."""

    candidate: Candidate
    config: Config
    hopeless: set[re.Pattern[str]]
    known: summary.Remembered
    store: StateStore
    now: float | None
    waiting: set[str]

    @property
    def name(self) -> str:
        """As it is remembered of a run that waits."""
        return self.store.lock_path.stem

    @property
    def head(self) -> log_format.Head | None:
        return self.known.head

    @property
    def run(self) -> Run:
        return self.candidate.run

    @property
    def entry(self) -> MonitorEntry:
        return self.candidate.entry

    def is_older(self, moment: float) -> bool:
        """Whether it is too old to be begun, if its age counts from that moment (seconds since the epoch)."""
        is_new = self.head is None and not self.known.corrupt and self.name not in self.waiting
        return is_new and self.hours(moment) > self.config.max_age

    def hours(self, moment: float) -> float:
        """Since that moment."""
        return ((time.time() if self.now is None else self.now) - moment) / 3600


_Decided: TypeAlias = tuple[State, str, tuple[str, ...]]  # with the samples that the regex was not found in


def terms_of(config: Config, entry: MonitorEntry) -> readiness.Terms:
    """What the config asks of a run before it goes up."""
    return readiness.Terms(
        config.quiet_minutes * 60, config.marker_wait_hours * 3600, config.require_whole_runs, entry.excludes
    )


def _of_open_run(case: _Case) -> _Decided:
    """The cheap checks first: what is too old or does not match is never listed. Raises RunError."""
    terms = terms_of(case.config, case.entry)
    marked = readiness.check_marker(case.run, terms, case.now)
    finished = completion.finished_at(case.run) or 0.0
    verdict = None
    if not marked.complete:
        verdict = readiness.check(case.run, terms, now=case.now, marked=marked)
        if verdict.state in ("sequencing", "settling"):
            return _unfinished(case, verdict, is_too_old=case.is_older(case.candidate.began))
        finished += terms.marker_wait_seconds
    finished = max(case.candidate.began, finished)
    if case.is_older(finished) and not _came_lately(case):
        ago = human_seconds(case.hours(finished) * 3600)
        return "too old", f"finished {ago} ago (max_age {case.config.max_age:g} h; `touch` {run_folder.RUN_INFO})", ()
    case.waiting.add(case.name)
    samples = _check_samples(case.run, case.entry, case.hopeless)
    if samples.verdict != "match":
        return samples.verdict, _and_what_went_up(samples.reason, case.head), samples.failing
    handed_over = work_folder.WorkFolder.of(case.config.log_dir, case.store)
    if not handed_over.exists():
        verdict = verdict or readiness.check(case.run, terms, now=case.now, marked=marked)
        if not verdict.is_complete:
            return _unfinished(case, verdict, is_too_old=False)
    state, reason = _due(case.known, handed_over)
    return state, f"{reason}; {verdict.warning}" if verdict and verdict.warning else reason, ()


def _came_lately(case: _Case) -> bool:
    """Whether a run that was finished long ago was copied to this disk with its old times, and that not so long ago."""
    arrived = completion.arrived_at(case.run)
    return arrived is not None and not case.is_older(arrived) and readiness.was_copied(case.run)


def _unfinished(case: _Case, verdict: readiness.Verdict, *, is_too_old: bool) -> _Decided:
    """One that is not complete, or that is still copied: streamed, if its entry wants that."""
    state: State = "sequencing" if verdict.state == "complete" else verdict.state
    if state == "incomplete" or not case.entry.stream or is_too_old:
        return state, _and_what_went_up(verdict.reason, case.head) if state == "incomplete" else verdict.reason, ()
    samples = _check_samples(case.run, case.entry, case.hopeless)
    waits = state, verdict.reason
    return *_while_written(case.run, case.config, case.head, samples, waits, case.now), samples.failing


def analyses_of(
    run: Judged, config: Config, now: float | None = None, watch: changes.Watch | None = None
) -> list[Judged]:
    """The analyses in a run's folder, each with its state at the run's destination; none before that has the run.

    What the entry excludes as a whole is not there. Never raises for what is wrong with one.
    """
    if not (run.state == "uploaded" or run.change) or run.run.within:
        return []
    try:
        units = [unit for unit in analysis.units(run.run) if not analysis.is_excluded(unit, run.entry.excludes)]
    except RunError as error:
        unit = run.run._replace(
            path=run.run.path / run_folder.ANALYSES,
            run_id=f"{run.run.run_id}/{run_folder.ANALYSES}",
            within=run.run.path,
        )
        return [Judged(unit, run.entry, run.began, "unreadable", str(error), None, run.log_path)]
    judged = [_judge_analysis(unit, run.entry, config, now, watch) for unit in units]
    if all(unit.state == "uploaded" for unit in judged) or _makes_analyses(run.run):
        return judged
    return [unit for unit in judged if unit.state == "uploaded"]


def _judge_analysis(
    unit: Run, entry: MonitorEntry, config: Config, now: float | None, watch: changes.Watch | None
) -> Judged:
    """Its sheet is the run's, which has passed."""
    store = StateStore(config.log_dir, unit, entry.destination)
    known = summary.look(store)
    head, corrupt = known.head, known.corrupt

    def judged(state: State, reason: str, moment: float) -> Judged:
        return Judged(unit, entry, moment, state, printable(reason), head, known.log_path)

    if known.unreadable:
        return judged("unreadable", known.unreadable, 0.0)
    try:
        if decided := _by_its_log(Candidate(unit, entry, 0.0), config, store, known, watch):
            moment = unit.path.stat().st_mtime
            return judged(decided.state, decided.reason, moment)._replace(change=decided.change)
        finish = analysis.judge(unit, config.quiet_minutes * 60, now)
        if not finish.complete:
            return judged("analysing", finish.reason, finish.moment)
        hours = ((time.time() if now is None else now) - finish.moment) / 3600
        waiting_names, name = watch.waiting if watch else set(), store.lock_path.stem
        if head is None and not corrupt and hours > config.max_age and name not in waiting_names:
            ago = human_seconds(hours * 3600)
            reason = f"finished {ago} ago (max_age {config.max_age:g} h; `touch` its CopyComplete.txt)"
            return judged("too old", reason, finish.moment)
        waiting_names.add(name)
        analysis_manifest.read(unit)
    except (S3SyncError, OSError) as error:
        return judged("unreadable", str(error), 0.0)
    state, reason = _due(known, work_folder.WorkFolder.of(config.log_dir, store))
    return judged(state, f"{reason}; {finish.warning}" if finish.warning else reason, finish.moment)


def _in_s3(head: log_format.Head, entry: MonitorEntry) -> str:
    """The reason of what is uploaded."""
    owed = f"; on_complete {head.on_complete}" if entry.on_complete and hook.is_owed(head.on_complete) else ""
    return f"{pluralize(head.uploaded_files, 'file')} proven in S3{owed}"


def _makes_analyses(run: Run) -> bool:
    """Whether folders in its Analysis/ are units of their own; where RunInfo.xml cannot be read, they are told."""
    try:
        return analysis.are_made_in(run.path, run_folder.read_instrument(run.path / run_folder.RUN_INFO))
    except (RunError, FileNotFoundError):
        return True


def count(runs: Sequence[Judged]) -> str:
    """`3 runs`, `3 runs and 1 analysis`."""
    analyses = sum(run.run.within is not None for run in runs)
    text = pluralize(len(runs) - analyses, "run")
    return f"{text} and {analyses:,} {'analysis' if analyses == 1 else 'analyses'}" if analyses else text


def in_order(runs: Iterable[Judged]) -> list[Judged]:
    """Those that are due: unfinished ones first, then new ones, each oldest first; those that keep failing last,
    the one that was tried longest ago first, so that no broken run keeps the others waiting."""

    def rank(run: Judged) -> tuple[int, str, float]:
        stuck = run.state == "failed" or (run.head is not None and run.head.attempts >= STUCK_ATTEMPTS)
        if stuck:
            return 2, run.head.finished if run.head else "", run.began
        return (0 if run.state == "partial" else 1), "", run.began

    return sorted((run for run in runs if run.state in DUE), key=rank)


def to_do(runs: Iterable[Judged]) -> list[Judged]:
    """Those that are due, then those that are written yet and streamed, the one looked at longest ago first."""
    everything = list(runs)
    streaming = [run for run in everything if run.state == "streaming"]
    streaming.sort(key=lambda run: (run.head.finished if run.head else "", run.began))
    return [*in_order(everything), *streaming]


def broken_nodes(config: Config) -> list[Trouble]:
    """Return the nodes of a cluster on which this program could not start, until a job has run there."""
    return [Trouble(*known) for known in slurm_broken_nodes.known(config.log_dir).items()]


def in_scan_order(runs: Iterable[Judged], config: Config, names: Collection[str]) -> list[Judged]:
    """Return everything that a scan works on; what takes seconds never waits for what takes hours.

    First what the jobs of a cluster have finished or are at work on, then what is to be submitted to a cluster, then
    what is sent from here, then what owes a command. `names` are the work folders that there are.
    """
    everything = list(runs)
    groups: list[list[Judged]] = [uncollected(everything, config, names), [], [], []]
    for run in to_do(everything):
        if run.state == "streaming" or not run.entry.cluster:
            groups[3].append(run)
        else:
            handed_over = StateStore(config.log_dir, run.run, run.entry.destination).lock_path.stem in names
            groups[1 if handed_over else 2].append(run)
    groups.append([run for run in owing(everything) if run not in groups[0]])
    return [run for group in groups for run in group]


def owing(runs: Iterable[Judged]) -> list[Judged]:
    """Those that are uploaded, and whose `on_complete` has not run yet, or failed: they are given to it again."""
    wanted = (run for run in runs if run.state == "uploaded" and run.entry.on_complete)
    return [run for run in wanted if run.head and hook.is_owed(run.head.on_complete)]


def uncollected(runs: Iterable[Judged], config: Config, names: Collection[str]) -> list[Judged]:
    """Return those that the jobs of a cluster have completed since somebody looked, by their work folders' names."""
    done = (run for run in runs if names and run.state == "uploaded" and run.entry.cluster)
    return [run for run in done if StateStore(config.log_dir, run.run, run.entry.destination).lock_path.stem in names]


class _ByLog(NamedTuple):
    state: State
    reason: str
    change: changes.Change | None = None


def _by_its_log(
    candidate: Candidate, config: Config, store: StateStore, known: summary.Remembered, watch: changes.Watch | None
) -> _ByLog | None:
    """State and reason, where it does not matter what the instrument has written; None where it does."""
    head = known.head
    try:
        claim = _claim(candidate, store, head)
        if claim.kind == "another":
            return _ByLog("duplicate name", f"{claim.reason} ({ONE_NAME})")
        if head is None or not head.was_complete:
            return None
        if claim.kind == "moved":
            where = "its files are compared with the state log, and with S3 where they differ"
            return _ByLog("partial", f"moved here from {claim.reason}: {where}")
        if head.completed:
            return _completed(candidate, store, head, watch)
        return _ByLog(*_due(known, work_folder.WorkFolder.of(config.log_dir, store)))
    except S3SyncError as error:
        return _ByLog("unreadable", str(error))


def _completed(candidate: Candidate, store: StateStore, head: log_format.Head, watch: changes.Watch | None) -> _ByLog:
    """A run that was uploaded, or is again to be; raises S3SyncError."""
    run, entry, *_ = candidate
    change = watch.look(run, store, head, entry.excludes, lambda: _opened(run)) if watch else None
    if change and change.another:
        reason = f"the folder holds another run than the one that was uploaded: {change.another}"
        return _ByLog("duplicate name", f"{reason} (rename it, or `s3sync upload` it to replace what S3 has)")
    if change and entry.upload_changes:
        return _ByLog("partial", f"{change.text}; uploaded at the next scan", change)
    left = f"; {change.text}, and left alone (upload_changes: false)" if change else ""
    return _ByLog("uploaded", f"{_in_s3(head, entry)}{left}", change)


def _claim(candidate: Candidate, store: StateStore, head: log_format.Head | None) -> identity.Claim:
    """Whether the folder may have the log and the prefix; raises RunError, StateError."""
    run, others = candidate.run, candidate.others
    if candidate.inside:
        return identity.Claim(
            "another", f"the remote_path {printable(candidate.inside)} of the config lies in its prefix"
        )
    if head is None:
        return identity.unclaimed(run, others)
    return identity.claim(run, head.run_path, head.folder, others, lambda: _both_sides(run, store))


def _both_sides(run: Run, store: StateStore) -> tuple[Listing, RunState | None]:
    """What the disk and the log have of a run."""
    return run_folder.list_files(_opened(run)), store.load(set_aside=False).state


def _opened(run: Run) -> Run:
    """The run with what RunInfo.xml says; raises RunError."""
    return (
        run
        if run.within
        else analysis.split(run._replace(info=run_folder.read_run_info(run.path / run_folder.RUN_INFO)))
    )


def _check_samples(run: Run, entry: MonitorEntry, hopeless: set[re.Pattern[str]]) -> samplesheet.SampleCheck:
    """The regex against the sheet; one that took too long with one sheet is not tried with the next."""
    if entry.regex in hopeless:
        return samplesheet.SampleCheck(
            "samples do not match", "sample_regex took too long with another run: simplify it"
        )
    samples = samplesheet.check_samples(run.path, entry.regex)
    if samples.gave_up and entry.regex:
        hopeless.add(entry.regex)
    return samples


def _while_written(
    run: Run,
    config: Config,
    head: log_format.Head | None,
    samples: samplesheet.SampleCheck,
    waits: tuple[State, str],
    now: float | None,
) -> tuple[State, str]:
    """State and reason of a run that is to be streamed; `waits` are those that it has without."""
    state, waited_for = waits
    if samples.verdict == "samples do not match":
        return samples.verdict, _and_what_went_up(samples.reason, head)
    if samples.verdict != "match":  # the sheet may come, or be mended, until the end
        return state, f"{waited_for}; not streamed yet: {samples.reason}"
    long_ago = (time.time() if now is None else now) - config.abandoned_hours * 3600
    try:
        is_alive = run_folder.has_changed_since(run, long_ago)
    except RunError as error:
        return "unreadable", str(error)
    if not is_alive:
        reason = f"{waited_for}, and nothing changed for {config.abandoned_hours:g} h"
        return "abandoned", _and_what_went_up(reason, head)
    return "streaming", f"{head.uploaded_files if head else 0:,} files proven so far; {waited_for}"


def _and_what_went_up(reason: str, head: log_format.Head | None) -> str:
    """Of a run that is not to be uploaded, some may be in S3 by now: to be deleted by its owner, not by us."""
    if head is None or not head.uploaded_files:
        return reason
    went_up = f"{pluralize(head.uploaded_files, 'file')} of it in S3 already, for you to delete or to keep"
    return f"{reason}; {went_up} (`status RUN` lists them)"


def _due(known: summary.Remembered, handed_over: work_folder.WorkFolder) -> tuple[State, str]:
    """State and reason of a run that is to be uploaded."""
    try:
        if handed_over.exists():
            handed_over.spec()  # what cannot be read is not to be shown as on its way
            on = "on Slurm:" if handed_over.is_submitted() else "Slurm is"
            return "partial", f"{on} {handed_over.progress_text()}"
    except StateError as error:
        return "unreadable", str(error)
    return _open(known.head, known.corrupt)


def _open(head: log_format.Head | None, corrupt: bool) -> tuple[State, str]:
    """The same, by its log."""
    if corrupt:
        return "partial", "its state log is corrupt: every file is settled against S3"
    if head is None:
        return "new", "complete, and not uploaded yet"
    done = f"{head.uploaded_files:,} of {pluralize(head.total_files, 'file')} proven"
    if head.failed_files:
        return "failed", f"{done}, {head.failed_files:,} failed (`status RUN` names them); tried again at the next scan"
    return "partial", f"{done}; goes on at the next scan"
