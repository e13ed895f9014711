"""What `status` and `monitor --dry_run` show: every run, its state, and the reason. Reads only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from s3sync.commands.upload_text import as_json as upload_json
from s3sync.commands.upload_text import preview_json, summary
from s3sync.config import Config
from s3sync.errors import RunError
from s3sync.inventory import Judged, discovery, history, named, survey
from s3sync.monitor import activity, health, scan
from s3sync.runs import completion, run_folder
from s3sync.state import RunState, StateStore, lock
from s3sync.text import by_reason, human_bytes, indented, iso_of, printable

_LABELS = {"flowcell_type": "cell type"}
_LEAST_WIDTH, _NAME_WIDTH = 30, 40
_CALENDAR = (-62_000_000_000, 253_370_000_000)  # seconds since the epoch: the years 5 to 9998


class Row(NamedTuple):
    """A run at a destination, with what is known of it besides its state. `proven` counts a journal too."""

    run: Judged
    info: run_folder.RunInfo | None  # None if RunInfo.xml cannot be read
    proven: int
    working: bool  # an upload of it is under way
    host: str = ""  # on which this is, if that is another one

    @property
    def reason(self) -> str:
        """The reason of its state, or that it is being worked on."""
        where = f" on {self.host}" if self.host else ""
        return f"being uploaded now{where}: {self.proven:,} proven so far" if self.working else self.run.reason


class Overview(NamedTuple):
    """Rows of all runs and their analyses, or of those that were asked for, newest last; and whether all is well."""

    rows: list[Row]
    troubles: list[survey.Trouble]
    notes: list[survey.Trouble]
    scans: activity.Scans
    verdict: health.Verdict
    unknown: list[str]  # names that no run has


def look(config: Config, names: Iterable[str] = ()) -> Overview:
    """How all runs are, or those with these names (a run's stands for its analyses, too)."""
    at, found = time.time(), discovery.look(config)
    wanted = set(named.resolve(names, found.candidates))
    judged, troubles = survey.look(config, wanted, found=found)
    rows = [_row(r, config) for r in judged if not wanted or not wanted.isdisjoint((r.run.run_id, r.run.root.name))]
    rows.sort(key=lambda row: (row.run.began, row.run.key))
    known, of_scans = history.of(config, [row.run for row in rows], troubles, at), activity.look(config)
    if wanted:
        keys = {row.run.key for row in rows}
        known = known._replace(entries=tuple(entry for entry in known.entries if entry.key in keys))
        of_scans = of_scans.about(keys)
    unknown = sorted(wanted - {name for row in rows for name in (row.run.run.run_id, row.run.run.root.name)})
    return Overview(rows, list(known.troubles), found.notes, of_scans, health.judge(known, of_scans), unknown)


def _row(run: Judged, config: Config) -> Row:
    store = StateStore(config.log_dir, run.run, run.entry.destination)
    host = None if run.state == "uploaded" else lock.held_where(store.lock_path)
    working = host is not None
    proven = (run.head.uploaded_files if run.head else 0) + (store.journaled() if working else 0)
    try:
        info = run_folder.read_run_info(run.run.root / run_folder.RUN_INFO)
    except RunError:
        info = None
    return Row(run, info, proven, working, host or "")


def table(rows: Sequence[Row]) -> Table:
    """For people, at 80 columns: two to four lines a run."""
    shown = _table("Run", [row.run for row in rows], "State", "Files", "When")
    shown.columns[0].width = max(shown.columns[0].min_width or 0, _LEAST_WIDTH)  # so that it is the reason that folds
    for row in rows:
        run = row.run
        name = Text(f"{_name(run)}\n  {_instrument(row.info)}\n  to {printable(_place(run))}", overflow="fold")
        state = Text(f"{run.state}\n{row.reason}", overflow="fold")
        head = run.head
        files = f"{row.proven:,}/{head.total_files:,}\n{human_bytes(head.size)}" if head else ""
        shown.add_row(name, state, Text(files), Text("\n".join(_when(run).split(" ")), no_wrap=True))
    return shown


def details(row: Row, config: Config) -> list[str]:
    """All there is to know of one run, or of an analysis."""
    run = row.run
    lines = [
        printable(run.run.run_id),
        f"  state       {run.state}: {row.reason}",
        f"  folder      {printable(str(run.run.path))}",
        f"  to          {printable(run.url)}",
    ]
    if not run.run.within:
        lines += _about_the_run(row)
    state = _whole_state(run, config)
    in_s3 = _in_s3(run, state)
    if run.head:
        lines.append(f"  files       {row.proven:,} of {run.head.total_files:,} proven, {human_bytes(run.head.size)}")
        lines.append(f"  log         {printable(str(run.log_path))}")
    if run.failing:
        lines += ["  samples that do not match:", *indented([printable(name) for name in run.failing])]
    if state and state.failed:
        lines += ["  failed files:", *by_reason(state.failed, ", in the log")]
    if in_s3:
        lines += [
            "  in S3, for you to delete or to keep:",
            *indented([printable(key) for key in in_s3], ", in the log"),
        ]
    return lines


def _about_the_run(row: Row) -> list[str]:
    """What its instrument says of it."""
    run, info = row.run, row.info
    lines = [f"  began       {_iso(run.began)}"]
    if info:
        lines += [f"  instrument  {_instrument(info)}", f"  flow cell   {printable(info.flowcell)}"]
        lines += [f"  date        {printable(info.date)}", f"  cycles      {', '.join(map(str, info.cycles))}"]
    facts = run_folder.read_run_parameters(run.run.root)._asdict().items()
    return [*lines, *(f"  {_LABELS.get(name, name):<11} {printable(value)}" for name, value in facts if value)]


def as_json(found: Overview, config: Config, *, detailed: bool) -> dict[str, Any]:
    """The same as one object; failed files by name only where single runs were asked for."""
    rows, last = found.rows, found.scans.last
    return {
        "runs": [
            {**run_json(row.run), **_row_json(row), **(_more_json(row, config) if detailed else {})} for row in rows
        ],
        "troubles": [trouble._asdict() for trouble in found.troubles],
        "notes": [note._asdict() for note in found.notes],
        "level": found.verdict.level,
        "problems": [problem._asdict() for problem in (*found.verdict.problems, *found.verdict.failing)],
        "alerts": [alert._asdict() for alert in found.verdict.alerts],
        "last_scan": iso_of(last.ended) if last else "",
        "last_scan_ok": not health.is_failed(last.problems) if last else None,
        "scan_began": iso_of(found.scans.began) if found.scans.began is not None else "",
    }


def scan_line(found: Overview) -> str:
    """When the last scan was, and how it went; whether one is at work."""
    last, began = found.scans.last, found.scans.began
    said = []
    if began is not None:
        said.append(f"a scan is running{f' on {found.scans.host}' if found.scans.host else ''} since {_minute(began)}")
    if last:
        how = "failed" if health.is_failed(last.problems) else "ok"
        said.append(f"last scan {_minute(last.ended)}: {how}")
    return "; ".join(said) or "no scan has ended yet (is `monitor` in the crontab?)"


def problem_lines(found: Overview) -> list[str]:
    """What has to be looked at besides the states of the runs, and what is only to be known."""
    lines = [f"{problem.key}: {problem.text}" for problem in found.verdict.problems]
    lines += [f"alert: {a.key}: {a.text}" for a in found.verdict.alerts if a.key != health.MONITOR]
    return [*lines, *(f"note: {note.key} {note.text}" for note in found.notes)]


def run_json(run: Judged) -> dict[str, Any]:
    """What is known of a judged run."""
    return {
        "run_id": run.run.run_id,
        "run_path": str(run.run.path),
        "analysis_of": run.run.root.name if run.run.within else "",
        "state": run.state,
        "reason": run.reason,
        "url": run.url,
        "bucket": run.entry.destination.bucket,
        "remote_path": run.entry.destination.remote_path,
        "began": _iso(run.began),
        "log": str(run.log_path),
    }


def dry_tables(result: scan.ScanResult) -> list[Table]:
    """What a scan would upload, and why not the others."""
    due = _table("Would upload", result.runs, "To", "Files", "Size")
    rest = _table("Would not", result.runs, "Why")
    to_do = survey.to_do(result.runs)
    for run in [*to_do, *(run for run in result.runs if run not in to_do)]:
        name = Text(_name(run), overflow="fold")
        if planned := result.previews.get(run.key):
            size = human_bytes(sum(file.size for file in planned.pending))
            due.add_row(name, Text(printable(_place(run)), overflow="fold"), f"{len(planned.pending):,}", size)
        else:
            why = next((p.text for p in result.problems if p.key in (run.key, f"s3://{run.entry.bucket}")), run.reason)
            is_said = why.startswith(("will not", f"{run.state}: "))
            why = printable(why if is_said else f"{run.state}: {why}")
            rest.add_row(name, Text(why, overflow="fold"))
    return [shown for shown in (due, rest) if shown.row_count]


def result_lines(result: scan.ScanResult) -> list[str]:
    """What a scan did, for somebody at a terminal; the problems are on stderr already."""
    if result.busy:
        return [result.busy]
    lines = [line for report in result.reports.values() for line in summary(report)]
    return lines or [f"nothing to upload: {survey.count(result.runs)} looked at (`status` shows them)"]


def result_json(result: scan.ScanResult) -> dict[str, Any]:
    """What a scan did, or would do, as one object."""
    return {
        "busy": bool(result.busy),
        "runs": [{**run_json(run), **_outcome(result, run)} for run in result.runs],
        "problems": [problem._asdict() for problem in result.problems],
        "alerts": [alert._asdict() for alert in result.alerts],
    }


def _outcome(result: scan.ScanResult, run: Judged) -> dict[str, Any]:
    if report := result.reports.get(run.key):
        return {"upload": upload_json(report)}
    if planned := result.previews.get(run.key):
        return {"upload": preview_json(planned)}
    return {}


def _table(first: str, runs: Sequence[Judged], *others: str) -> Table:
    """Without lines; the first column is wide enough for the names of the runs, which people copy from it."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    longest = max((len(printable(run.run.root.name)) for run in runs), default=0)
    shown.add_column(first, min_width=min(longest, _NAME_WIDTH))
    for name in others:
        shown.add_column(name, no_wrap=name in ("Files", "Size", "When"))  # a reason can be folded, a date not
    return shown


def _name(run: Judged) -> str:
    """On two lines if it is an analysis: it would be broken elsewhere."""
    folder = run.run.root.name
    inside = run.run.run_id.removeprefix(folder)
    return printable(folder) + (f"\n  {printable(inside.lstrip('/'))}" if inside else "")


def _place(run: Judged) -> str:
    destination = run.entry.destination
    return f"s3://{destination.bucket}{destination.remote_path}"


def _instrument(info: run_folder.RunInfo | None) -> str:
    return (completion.with_family(info.instrument) if info else "") or "unknown instrument"


def _when(run: Judged) -> str:
    """When it was uploaded or tried, else when it began; local time to the minute."""
    try:
        moment = datetime.fromisoformat(run.head.finished).astimezone() if run.head and run.head.finished else None
    except (ValueError, OverflowError):  # no time, or in the year 1
        moment = None
    return (moment or _at(run.began).astimezone()).strftime("%Y-%m-%d %H:%M")


def _minute(seconds: float) -> str:
    return _at(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def _iso(seconds: float) -> str:
    return _at(seconds).isoformat(timespec="seconds")


def _at(seconds: float) -> datetime:
    """A time since the epoch; file systems may hold times that a calendar does not."""
    return datetime.fromtimestamp(min(max(seconds, _CALENDAR[0]), _CALENDAR[1]), timezone.utc)


def _whole_state(run: Judged, config: Config) -> RunState | None:
    if run.head is None or run.head.completed:
        return None
    return StateStore(config.log_dir, run.run, run.entry.destination).load(set_aside=False).state


def _in_s3(run: Judged, state: RunState | None) -> list[str]:
    """Keys of what went up of a run that will not be uploaded; nothing is ever deleted here."""
    if state is None or run.state not in survey.NEVER:
        return []
    prefix = run.entry.destination.run_prefix(run.run.run_id)
    return sorted(prefix + path for path in state.proven)


def _row_json(row: Row) -> dict[str, Any]:
    head, info = row.run.head, row.info
    return {
        "reason": row.reason,
        "uploading_now": row.working,
        "files_total": head.total_files if head else None,
        "files_proven": row.proven,
        "files_failed": head.failed_files if head else 0,
        "bytes": head.size if head else 0,
        "finished": head.finished if head else "",
        "instrument": info.instrument if info else "",
        "flowcell": info.flowcell if info else "",
        "date": info.date if info else "",
        "cycles": list(info.cycles) if info else [],
    }


def _more_json(row: Row, config: Config) -> dict[str, Any]:
    state = _whole_state(row.run, config)
    failed = {printable(path): reason for path, reason in state.failed.items()} if state else {}
    parameters = run_folder.read_run_parameters(row.run.run.root)._asdict()
    in_s3 = [printable(key) for key in _in_s3(row.run, state)]
    return {**parameters, "failed": failed, "samples_that_do_not_match": list(row.run.failing), "in_s3": in_s3}


def totals(rows: Sequence[Row]) -> str:
    """One line: how many runs in each state."""
    states: dict[str, int] = {}
    for row in rows:
        states[row.run.state] = states.get(row.run.state, 0) + 1
    parts = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
    return f"{survey.count([row.run for row in rows])}: {parts}" if parts else "no runs"
