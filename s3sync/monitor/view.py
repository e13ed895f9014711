"""Hold the content of the dashboard, with texts that are ready for the template."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A time for programs and for people."""

    iso: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """The number of runs in a state; `href` is the link that shows only these."""

    state: str
    number: str
    sign: str
    tone: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """A run with its failed files and the reasons, or another problem."""

    title: str
    text: str
    failures: tuple[tuple[str, str], ...] = ()
    more: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with a title and a summary; `svg` is markup."""

    title: str
    summary: str
    svg: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, empty if the value is unknown, and the value to sort by."""

    text: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A run in the table."""

    run_id: str
    instrument: str
    state: str
    sign: str
    tone: str
    reason: str
    destination: str
    cells: tuple[Cell, ...]  # files, bytes, throughput, time until verified, when


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything on the dashboard."""

    verdict: str
    tone: str
    sign: str
    at: Timestamp
    since: int  # when the last scan ended, or this was written while one was running; seconds since the epoch
    stale_after: int  # seconds after which the page warns that it is old
    waiting: str
    last_scan: str
    counts: tuple[Count, ...]
    issues: tuple[Issue, ...]
    more_issues: str
    restores: tuple[Issue, ...]  # pending ones without problems
    chart: Chart
    rows: tuple[Row, ...]
    zone: str


@dataclass(frozen=True, slots=True)
class Order:
    """A way to sort the table. page.js uses the same keys."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table."""

    name: str
    orders: tuple[Order, ...]


COLUMNS = (  # in the order of `Row.cells`, after the first three
    Column("Run", (Order("run", "name"), Order("-run", "name, backwards"))),
    Column("State", (Order("state", "state"),)),
    Column("Destination", (Order("to", "destination"),)),
    Column("Files", (Order("-files", "most files"), Order("files", "fewest files"))),
    Column("Size", (Order("-bytes", "largest"), Order("bytes", "smallest"))),
    Column("Throughput", (Order("-rate", "fastest"), Order("rate", "slowest"))),
    Column("Until verified", (Order("-lag", "longest until verified"), Order("lag", "shortest until verified"))),
    Column("When", (Order("-when", "newest"), Order("when", "oldest"))),
)
