"""Build the dashboard: one HTML file with all runs that works without JavaScript and without network access.

jinja2 escapes all texts; a security policy in the page allows only its own style and script.
"""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlencode

from s3sync import __version__
from s3sync.inventory import History, states
from s3sync.inventory import history as inventory_history
from s3sync.monitor import charts, health
from s3sync.monitor.charts import Bar
from s3sync.monitor.health import Level, Verdict
from s3sync.monitor.problems import MONITOR, Problem
from s3sync.monitor.scan_status import STALE_AFTER_SECONDS, ScanStatus
from s3sync.monitor.view import COLUMNS, Cell, Chart, Count, Issue, Row, Timestamp, View
from s3sync.text import human_bytes, human_seconds, pluralize, printable

DAYS = 30  # shown in the chart
_MAX_ISSUES = 50  # failed runs to show with their files; the table has all runs

_SIGNS: dict[
    states.State, tuple[str, str]
] = {  # sign and tone: never the tone alone, for people who cannot see colours
    "failed": ("✕", "bad"),
    "unreadable": ("✕", "bad"),
    "ambiguous samplesheet": ("✕", "bad"),
    "incomplete": ("✕", "bad"),
    "duplicate name": ("✕", "bad"),
    "partial": ("◐", "busy"),
    "new": ("●", "busy"),
    "streaming": ("↑", "busy"),
    "settling": ("…", "muted"),
    "sequencing": ("○", "muted"),
    "analysing": ("○", "muted"),
    "abandoned": ("!", "warn"),
    "too old": ("!", "warn"),
    "no samplesheet": ("!", "warn"),
    "samples do not match": ("≠", "muted"),
    "gone": ("!", "warn"),
    "uploaded": ("✓", "good"),
}
_TONES: dict[Level, tuple[str, str]] = {"well": ("good", "✓"), "attention": ("warn", "!"), "bad": ("bad", "✕")}


def render(view: View) -> bytes:
    """Return the page as HTML in UTF-8."""
    import jinja2  # takes time, and many commands do not need it

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text_of),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style, script = _text_of("page.css"), _text_of("page.js")
    html = environment.get_template("page.html").render(
        view=view,
        columns=COLUMNS,
        policy=_policy(style, script),
        style=style,
        script=script,
        version=__version__,
        host=printable(socket.gethostname()),
    )
    return html.encode("utf-8")


def build_view(history: History, scans: ScanStatus) -> View:
    """Return the content of the dashboard."""
    found = health.verdict_of(history, scans)
    failing = history.failing
    more = len(failing) - _MAX_ISSUES
    tone, sign = _TONES[found.level]
    return View(
        verdict=_verdict(len(history.rows), found),
        tone=tone,
        sign=sign,
        at=_timestamp(history.at),
        since=int(history.at if scans.running_since is not None or scans.last is None else scans.last.ended),
        stale_after=STALE_AFTER_SECONDS,
        waiting=_waiting(history),
        last_scan=_last_scan_text(scans),
        counts=tuple(_counts(history)),
        issues=(*map(_issue, (*found.problems, *found.alerts)), *map(_failed_run, failing[:_MAX_ISSUES])),
        more_issues=f"{pluralize(more, 'more run')} with problems: see the table below." if more > 0 else "",
        restores=tuple(
            Issue(title=pending.key, text=pending.progress) for pending in history.restores if not pending.problem
        ),
        chart=_chart(history),
        rows=tuple(map(_row, history.rows)),
        zone=_local(history.at).strftime("%Z (UTC%z)"),
    )


def _text_of(name: str) -> str:
    return Path(__file__).with_name("templates").joinpath(name).read_text(encoding="utf-8")


def _policy(*inline: str) -> str:
    """Return a security policy that allows nothing but this style and this script."""
    style, script = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline)
    directives = ("default-src 'none'", f"style-src 'sha256-{style}'", f"script-src 'sha256-{script}'")
    return "; ".join((*directives, "base-uri 'none'", "form-action 'none'"))


# The top


def _verdict(runs: int, found: Verdict) -> str:
    total = len(found.failing) + len(found.problems) or len(found.alerts)
    if not total:
        return "All is well" if runs else "No runs yet"
    if found.level == "attention" and found.alerts[0].key == MONITOR:
        return "No scan yet"
    what = "run" if total == len(found.failing) else "thing"
    return f"{pluralize(total, what)} {'needs' if total == 1 else 'need'} attention"


def _waiting(history: History) -> str:
    oldest = history.oldest_waiting
    if oldest is None or oldest.done is None:
        return "No complete run is waiting to be uploaded."
    number = sum(row.is_waiting for row in history.rows)
    age = human_seconds(max(0.0, history.at - oldest.done))
    which = f"{oldest.run_id}, which its instrument finished {age} ago"
    if number == 1:
        return f"1 complete run is not verified in S3 yet: {which}."
    return f"{number:,} complete runs are not verified in S3 yet. The oldest is {which}."


def _last_scan_text(scans: ScanStatus) -> str:
    sentences = []
    if scans.running_since is not None:
        where = f" on {printable(scans.running_on)}" if scans.running_on else ""
        sentences.append(f"A scan has been running{where} since {_timestamp(scans.running_since).text}.")
    if last := scans.last:
        took = human_seconds(last.seconds)
        sentences.append(f"The last scan ended at {_timestamp(last.ended).text} and took {took}.")
    return " ".join(sentences)


def _counts(history: History) -> Iterable[Count]:
    counts = history.counts
    for state, (sign, tone) in _SIGNS.items():
        if number := counts.get(state, 0):
            href = "#" + urlencode({"state": state})
            yield Count(state=state, number=f"{number:,}", sign=sign, tone=tone, href=href)


def _issue(problem: Problem) -> Issue:
    return Issue(title=printable(problem.key), text=printable(problem.text_with_id))


def _failed_run(run: inventory_history.HistoryRow) -> Issue:
    more = run.failed_files - len(run.failures) if run.failures else 0
    also = f"and {pluralize(more, 'more file')}: s3sync status names more of them, the log all" if more > 0 else ""
    return Issue(title=run.run_id, text=f"{run.state}: {run.reason}", failures=run.failures, more=also)


# The table


def _row(run: inventory_history.HistoryRow) -> Row:
    sign, tone = _SIGNS[run.state]
    is_whole = run.files == run.total_files
    files = f"{run.files:,}" if is_whole else f"{run.files:,} of {run.total_files:,}"
    is_plain = run.state == "uploaded" and run.is_watched  # its reason only repeats the number of its files
    return Row(
        run_id=run.run_id,
        instrument=run.instrument,
        state=run.state,
        sign=sign,
        tone=tone,
        reason="" if is_plain else run.reason,
        destination=run.destination,
        cells=(
            Cell(files if run.total_files else "", run.files),
            Cell(human_bytes(run.size) if run.size else "", run.size),
            _cell(run.rate, lambda rate: f"{human_bytes(rate)}/s"),
            _cell(run.lag, human_seconds),
            _cell(run.when, lambda when: _timestamp(when).text),
        ),
    )


def _cell(value: float | None, format_value: Callable[[float], str]) -> Cell:
    return Cell("", 0) if value is None else Cell(format_value(value), round(value))


# The chart


def _chart(history: History) -> Chart:
    today = _local(history.at).date()
    sizes = dict.fromkeys((today - timedelta(days=back) for back in reversed(range(DAYS))), 0)
    for run in history.rows:
        if run.verified is not None and (day := _local(run.verified).date()) in sizes:
            sizes[day] += run.size
    bars = [Bar(_day(day), size, f"{_day(day)}: {human_bytes(size)}") for day, size in sizes.items()]
    busiest = max(bars, key=lambda bar: bar.value)
    peak = f", most on {busiest.name}: {human_bytes(busiest.value)}" if busiest.value else ""
    title, summary = "Data uploaded each day", f"{human_bytes(sum(sizes.values()))} in the last {DAYS} days{peak}"
    return Chart(title, summary, charts.bars(title, summary, bars, human_bytes))


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"


def _timestamp(seconds: float) -> Timestamp:
    local = _local(seconds)
    return Timestamp(local.isoformat(timespec="seconds"), local.strftime("%Y-%m-%d %H:%M"))


def _local(seconds: float) -> datetime:
    """Return a time in this machine's time zone; 1970 if a file system gives a time that is not in the calendar."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).astimezone()
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, timezone.utc).astimezone()
