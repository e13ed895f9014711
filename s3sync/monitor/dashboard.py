"""The page of all runs: values into one self-contained HTML file, whole without a script and without a network.

jinja2 escapes whatever comes from a disk; a policy in the page lets no other style or script be than its own.
"""

from __future__ import annotations

import base64
import hashlib
import math
import socket
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from s3sync import __version__
from s3sync.inventory import History, states
from s3sync.inventory import history as inventory_history
from s3sync.monitor import charts, health
from s3sync.monitor.activity import STALE_SECONDS, Scans
from s3sync.monitor.charts import Bar, Dot
from s3sync.monitor.health import Level, Verdict
from s3sync.monitor.notify import Problem
from s3sync.text import human_bytes, human_seconds, pluralize, printable, to_iso

USUAL_SECONDS = STALE_SECONDS  # without a scan that ended; after more the page says that it is old
DAYS = 30  # that the bars go back
_MOST_DOTS = 400
_MOST_TROUBLES = 50  # runs with what failed in each; the table has them all

_SIGNS: dict[states.State, tuple[str, str]] = {  # the sign and the tone of a state; never the tone alone
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


class Moment(NamedTuple):
    """A time for programs and for people."""

    iso: str
    text: str


class Count(NamedTuple):
    """How many runs are in a state; `href` is the view of these."""

    state: str
    number: str
    sign: str
    tone: str
    href: str


class Shortcoming(NamedTuple):
    """What somebody has to look at: a run with its failed files, or anything else that is wrong."""

    title: str
    text: str
    failures: tuple[tuple[str, str], ...] = ()
    more: str = ""


class Chart(NamedTuple):
    """A picture with its words; `svg` is markup."""

    title: str
    summary: str
    svg: str


class Cell(NamedTuple):
    """What a cell shows, and what it is sorted by; an empty text is a value that nobody knows."""

    text: str
    value: int


class Row(NamedTuple):
    """A run in the table."""

    run_id: str
    instrument: str
    state: str
    sign: str
    tone: str
    reason: str
    place: str
    cells: tuple[Cell, ...]  # files, bytes, throughput, time until proven, when


class View(NamedTuple):
    """All that the page says."""

    verdict: str
    tone: str
    sign: str
    at: Moment
    since: int  # seconds since the epoch: the page is as old as that
    usual: int  # seconds
    waiting: str
    last_scan: str
    counts: tuple[Count, ...]
    troubles: tuple[Shortcoming, ...]
    more_troubles: str
    charts: tuple[Chart, ...]
    rows: tuple[Row, ...]
    zone: str


class _Order(NamedTuple):
    key: str
    text: str


class _Column(NamedTuple):
    name: str
    orders: tuple[_Order, ...]


_COLUMNS = (  # in this order the script knows them, too
    _Column("Run", (_Order("run", "name"), _Order("-run", "name, backwards"))),
    _Column("State", (_Order("state", "state"),)),
    _Column("Destination", (_Order("to", "destination"),)),
    _Column("Files", (_Order("-files", "most files"), _Order("files", "fewest files"))),
    _Column("Size", (_Order("-bytes", "largest"), _Order("bytes", "smallest"))),
    _Column("Throughput", (_Order("-rate", "fastest"), _Order("rate", "slowest"))),
    _Column("Until proven", (_Order("-lag", "longest until proven"), _Order("lag", "shortest until proven"))),
    _Column("When", (_Order("-when", "newest"), _Order("when", "oldest"))),
)


def render(view: View) -> bytes:
    """The whole page, UTF-8."""
    import jinja2  # only where there is a page to write

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
        columns=_COLUMNS,
        policy=_policy(style, script),
        style=style,
        script=script,
        version=__version__,
        host=printable(socket.gethostname()),
    )
    return html.encode("utf-8")


def view_of(history: History, scans: Scans) -> View:
    """What the page says of this history, and of the scans."""
    found = health.judge(history, scans)
    failing = history.failing
    more = len(failing) - _MOST_TROUBLES
    tone, sign = _TONES[found.level]
    return View(
        verdict=_verdict(len(history.rows), found),
        tone=tone,
        sign=sign,
        at=_moment(history.at),
        since=int(history.at if scans.began is not None or scans.last is None else scans.last.ended),
        usual=USUAL_SECONDS,
        waiting=_waiting(history),
        last_scan=_about(scans),
        counts=tuple(_counts(history)),
        troubles=(*map(_other, (*found.problems, *found.alerts)), *map(_failed, failing[:_MOST_TROUBLES])),
        more_troubles=f"And {pluralize(more, 'more run')}, which the table below shows." if more > 0 else "",
        charts=_charts(history),
        rows=tuple(map(_row, history.rows)),
        zone=_local(history.at).strftime("%Z (UTC%z)"),
    )


def summary(view: View, written: Path) -> list[str]:
    """What was written, and what it says, in a few lines."""
    states = ", ".join(f"{count.number} {count.state}" for count in view.counts)
    size = human_bytes(written.stat().st_size)
    return [
        f"written: {written} ({pluralize(len(view.rows), 'run')}, {size}; open it in a browser)",
        f"  {view.verdict}",
        *([f"  {states}"] if states else []),
        f"  {view.waiting}",
    ]


def as_json(view: View, history: History, scans: Scans, written: Path) -> dict[str, Any]:
    """The same as one object."""
    oldest = history.oldest_waiting
    return {
        "page": str(written),
        "bytes": written.stat().st_size,
        "verdict": view.verdict,
        "level": health.judge(history, scans).level,
        "runs": history.counts,
        "needs_attention": [{"what": trouble.title, "text": trouble.text} for trouble in view.troubles],
        "oldest_waiting": {"run_id": oldest.run_id, "instrument_done": to_iso(oldest.done)} if oldest else None,
    }


def _text_of(name: str) -> str:
    return Path(__file__).with_name("templates").joinpath(name).read_text(encoding="utf-8")


def _policy(*inline: str) -> str:
    """Nothing may be loaded, and of styles and scripts only these two be."""
    style, script = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline)
    words = ("default-src 'none'", f"style-src 'sha256-{style}'", f"script-src 'sha256-{script}'")
    return "; ".join((*words, "base-uri 'none'", "form-action 'none'"))


# The words at the top


def _verdict(runs: int, found: Verdict) -> str:
    total = len(found.failing) + len(found.problems) or len(found.alerts)
    if not total:
        return "All is well" if runs else "No runs yet"
    if found.level == "attention" and found.alerts[0].key == health.MONITOR:
        return "No scan yet"
    what = "run" if total == len(found.failing) else "thing"
    return f"{pluralize(total, what)} {'needs' if total == 1 else 'need'} attention"


def _waiting(history: History) -> str:
    oldest = history.oldest_waiting
    if oldest is None or oldest.done is None:
        return "No complete run waits for its upload."
    number = sum(entry.is_waiting for entry in history.rows)
    age = human_seconds(max(0.0, history.at - oldest.done))
    which = f"{oldest.run_id}, finished by its instrument {age} ago"
    if number == 1:
        return f"1 complete run is not proven in S3 yet: {which}."
    return f"{number:,} complete runs are not proven in S3 yet, the oldest of them {which}."


def _about(scans: Scans) -> str:
    said = []
    if scans.began is not None:
        where = f" on {printable(scans.host)}" if scans.host else ""
        said.append(f"A scan is running{where} since {_moment(scans.began).text}.")
    if last := scans.last:
        said.append(f"The last scan of the monitor ended {_moment(last.ended).text}")
        said[-1] += f" and took {human_seconds(last.seconds)}."
    return " ".join(said)


def _counts(history: History) -> Iterable[Count]:
    counts = history.counts
    for state, (sign, tone) in _SIGNS.items():
        if number := counts.get(state, 0):
            yield Count(state, f"{number:,}", sign, tone, "#" + urlencode({"state": state}))


def _other(problem: Problem) -> Shortcoming:
    return Shortcoming(printable(problem.key), printable(problem.text))


def _failed(entry: inventory_history.HistoryRow) -> Shortcoming:
    more = entry.failed_files - len(entry.failures) if entry.failures else 0
    also = f"and {pluralize(more, 'more file')}; s3sync status names more, and the log has all" if more > 0 else ""
    return Shortcoming(entry.run_id, f"{entry.state}: {entry.reason}", entry.failures, also)


# The table


def _row(entry: inventory_history.HistoryRow) -> Row:
    sign, tone = _SIGNS[entry.state]
    whole = entry.files == entry.total_files
    files = f"{entry.files:,}" if whole else f"{entry.files:,} of {entry.total_files:,}"
    is_plain = entry.state == "uploaded" and entry.is_watched  # its reason is the number of its files
    return Row(
        run_id=entry.run_id,
        instrument=entry.instrument,
        state=entry.state,
        sign=sign,
        tone=tone,
        reason="" if is_plain else entry.reason,
        place=entry.destination,
        cells=(
            Cell(files if entry.total_files else "", entry.files),
            Cell(human_bytes(entry.size) if entry.size else "", entry.size),
            _cell(entry.rate, lambda rate: f"{human_bytes(rate)}/s"),
            _cell(entry.lag, human_seconds),
            _cell(entry.when, lambda when: _moment(when).text),
        ),
    )


def _cell(value: float | None, words: Callable[[float], str]) -> Cell:
    return Cell("", 0) if value is None else Cell(words(value), round(value))


# The charts


def _charts(history: History) -> tuple[Chart, ...]:
    proven = [entry for entry in history.rows if entry.proven is not None]
    rates = [Dot(e.proven or 0, e.rate, f"{e.run_id}: {_rate(e.rate)}") for e in proven if e.rate][:_MOST_DOTS]
    lags = [Dot(e.proven or 0, e.lag, f"{e.run_id}: {human_seconds(e.lag)}") for e in proven if e.lag is not None]
    return (
        *_by_day(proven, _local(history.at).date()),
        _over_time("rate", "Throughput of each run", rates, _rate, charts.linear_axis([d.value for d in rates], _rate)),
        _over_time(
            "lag",
            "From the end of the run to the proof",
            lags[:_MOST_DOTS],
            human_seconds,
            charts.duration_axis([dot.value for dot in lags[:_MOST_DOTS]]),
        ),
    )


def _by_day(proven: Sequence[inventory_history.HistoryRow], today: date) -> tuple[Chart, Chart]:
    days = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    sizes, files = dict.fromkeys(days, 0), dict.fromkeys(days, 0)
    for entry in proven:
        day = _local(entry.proven or 0).date()
        if day in sizes:
            sizes[day] += entry.size
            files[day] += entry.files
    return (
        _bars("bytes", "Bytes proven each day", sizes, human_bytes, human_bytes),
        _bars("files", "Files proven each day", files, lambda number: pluralize(round(number), "file"), _short_number),
    )


def _bars(
    key: str, title: str, values: dict[date, int], words: Callable[[float], str], unit: Callable[[float], str]
) -> Chart:
    """`words` say a value in a sentence, `unit` at the axis."""
    bars = [Bar(_day(day), value, f"{_day(day)}: {words(value)}") for day, value in values.items()]
    most = max(bars, key=lambda bar: bar.value)
    peak = f", most on {most.name}: {words(most.value)}" if most.value else ""
    summary = f"{words(sum(values.values()))} in the last {DAYS} days{peak}"
    return Chart(title, summary, charts.bars(key, title, summary, bars, unit))


def _over_time(key: str, title: str, values: Sequence[Dot], unit: Callable[[float], str], axis: charts.Axis) -> Chart:
    summary = "No run so far has both in its log"
    if values:
        ordered = sorted(dot.value for dot in values)
        middle = unit(ordered[len(ordered) // 2])
        summary = f"Median {middle}, {unit(ordered[0])} to {unit(ordered[-1])}, over {pluralize(len(values), 'run')}"
    return Chart(title, summary, charts.dots(key, title, summary, values, axis, lambda at: _day(_local(at).date())))


def _rate(value: float) -> str:
    return f"{human_bytes(value)}/s"


def _short_number(value: float) -> str:
    """1,234 or 56.7 k: room is short at an axis."""
    if value < 10_000:
        return f"{value:,.0f}" if value == math.floor(value) else f"{value:,.1f}"
    return f"{value / 1000:,.0f} k" if value < 1e6 else f"{value / 1e6:,.1f} M"


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"


def _moment(seconds: float) -> Moment:
    local = _local(seconds)
    return Moment(local.isoformat(timespec="seconds"), local.strftime("%Y-%m-%d %H:%M"))


def _local(seconds: float) -> datetime:
    """In this machine's time zone; file systems may hold moments that a calendar does not."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).astimezone()
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, timezone.utc).astimezone()
