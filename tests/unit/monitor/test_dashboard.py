"""The page of all runs: right, whole without a script, harmless whatever a run is called, and never half there."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from s3sync import files
from s3sync.aws.destination import Destination
from s3sync.config.model import Config
from s3sync.inventory import history
from s3sync.inventory.history import History, HistoryRow
from s3sync.inventory.problems import Problem as Known
from s3sync.inventory.states import State
from s3sync.monitor import charts, dashboard, last_scan, publish
from s3sync.monitor.last_scan import LastScan
from s3sync.monitor.problems import Problem
from s3sync.monitor.scan_status import ScanStatus
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.state.run_state import Proof, RunState
from s3sync.state.store import StateStore
from s3sync.text import human_bytes, to_iso
from tests.helpers.hostile_names import HOSTILE_NAMES
from tests.helpers.page import DAY, DONE, FAILED, HOUR, NEW, NOW, rendered

VOID = {"meta", "input", "link", "br", "img", "wbr"}
LAST = LastScan(ended=NOW, seconds=183, succeeded=NOW)  # without problems
GONE = replace(DONE, run_id="20250101_A07532_0001_DDDDD", reason="no longer on this disk", is_watched=False)


class Parsed(HTMLParser):
    """A page as a strict reader sees it: every element is closed in order, or the assertion fails."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, str] = {}  # the text of style and script
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.inline[self.open[-1]] = self.inline.get(self.open[-1], "") + data
        else:
            self.words.append(data)
            if {"th", "td"} & set(self.open):
                self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def parsed(*entries: HistoryRow, scan: LastScan | None = LAST, troubles: tuple[Known, ...] = ()) -> Parsed:
    return Parsed(rendered(History(NOW, entries, troubles), scan).decode())


def test_the_page_says_of_each_run_what_is_known_of_it() -> None:
    shown = parsed(NEW, DONE, FAILED, GONE)
    assert shown.rows[0] == [
        *("Run", "State", "Destination", "Files", "Size", "Throughput", "Until verified", "When"),
    ]
    assert shown.rows[2] == [
        "20261118_LH00130_0061_A22CC55LT4NovaSeq X LH00130",
        *("✓uploaded", "s3://lab-runs/2026", "90", "207.3 MB", "50.0 MB/s", "1 h 00 min"),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(NOW - DAY)),
    ]
    assert shown.rows[1][1:7] == ["●newcomplete, not uploaded yet", "s3://lab-runs/2026", "", "", "", ""]
    assert shown.rows[3][3] == "68 of 90"
    assert shown.rows[4][1] == "✓uploadedno longer on this disk"
    assert "1 run needs attention" in shown.text
    assert "Data/19.bcl S3 has other bytes" in shown.text
    assert "and 2 more files" in shown.text
    assert "2 complete runs are not verified in S3 yet. The oldest is 20261117_M00146_0060_BBBBB" in shown.text
    assert "414.6 MB in the last 30 days" in shown.text
    assert shown.attributes("body") == [{"data-since": str(int(NOW)), "data-usual": "10800"}]


def test_the_style_names_only_classes_that_the_page_has() -> None:
    rows = [replace(DONE, state=state) for state in history.STATES]
    shown = parsed(FAILED, *rows, replace(DONE, is_uploading=True))
    used = {name for _, attributes in shown.elements for name in (attributes.get("class") or "").split()}
    used.update(re.findall(r'classList\.\w+\("(\w+)"', shown.inline["script"]))
    assert set(re.findall(r"\.([a-z]\w*)", shown.inline["style"])) <= used


def test_without_a_problem_all_is_well() -> None:
    shown = parsed(DONE)
    assert "All is well No complete run is waiting to be uploaded." in shown.text
    assert "Needs attention" not in shown.text
    assert "No runs yet" in parsed().text
    assert "All is well" not in parsed(DONE, scan=None).text
    assert "No scan yet" in parsed(DONE, scan=None).text


def test_what_the_last_scan_found_needs_attention_until_it_has_passed() -> None:
    expired = Problem("s3://lab-runs", "the AWS credentials have expired", "aws")
    passed = Problem(f"{DONE.run_id} to s3://lab-runs/2026/{DONE.run_id}/", "not completed", "run")
    note = Problem("an old run", "will not be uploaded: too old", "note")
    unreadable = Known("directory /data", "cannot read /data: Permission denied")
    scan = LastScan(ended=NOW - HOUR, seconds=183, succeeded=0, problems=(expired, passed, note))

    shown = parsed(DONE, scan=scan, troubles=(unreadable,))

    assert "2 things need attention" in shown.text
    assert "s3://lab-runs the AWS credentials have expired" in shown.text
    assert "cannot read /data: Permission denied" in shown.text
    assert "not completed" not in shown.text
    assert "too old" not in shown.text
    assert shown.attributes("body")[0]["data-since"] == str(int(NOW - HOUR)), "as old as the last scan"


def test_the_page_loads_nothing_and_allows_only_its_own_style_and_script() -> None:
    shown = parsed(NEW, DONE, FAILED)
    policy = next(m["content"] for m in shown.attributes("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for tag in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(shown.inline[tag].encode()).digest()).decode()
        assert rules.pop(f"{tag}-src") == f"'sha256-{digest}'"
        assert len(shown.attributes(tag)) == 1
    assert rules == dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    for tag, attributes in shown.elements:
        assert tag not in ("link", "img", "iframe", "object", "base", "form")
        assert not {"src", "style", "srcdoc", "action"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|//", shown.inline["style"])


def test_the_page_works_with_a_screen_reader() -> None:
    shown = parsed(NEW, DONE, FAILED)
    assert [th["scope"] for th in shown.attributes("th")] == ["col"] * 8 + ["row"] * 3
    assert [th["aria-sort"] for th in shown.attributes("th") if "aria-sort" in th] == ["descending"]
    ids = [attributes["id"] for _, attributes in shown.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    (chart,) = shown.attributes("svg")
    assert chart["role"] == "img"
    assert set(str(chart["aria-labelledby"]).split()) <= set(ids)
    assert shown.attributes("html") == [{"lang": "en"}]


def test_every_state_has_a_sign_besides_its_colour() -> None:
    states: list[State] = [*history.STATES]
    shown = parsed(*(replace(DONE, state=state, reason="") for state in states))
    labels = [row[1] for row in shown.rows[1:]]
    assert [label[1:] for label in labels] == states
    assert all(not label[0].isalnum() for label in labels)


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "<script>alert(1)<!--", "'\" onload=alert(1) x=", "{{ 7*7 }}", "]]>"])
def test_a_hostile_name_is_a_name(tmp_path: Path, name: str) -> None:
    """In every place that shows a name: the log, its head, the page."""
    config = config_of(tmp_path)
    run, destination = Run(path=tmp_path / "gone" / name, run_id=name, info=RunInfo()), Destination("lab-runs", "")
    state = RunState(run_id=name, run_path=str(run.path), total_local_files=2, failed={f"Data/{name}": name})
    put_log(config, run, destination, state)

    known = history.load_history(config)
    shown = Parsed(
        rendered(known, LastScan(ended=NOW, seconds=1, succeeded=0, problems=(Problem(name, name, "other"),))).decode()
    )

    (entry,) = known.rows
    assert entry.run_id.isprintable()
    assert shown.rows[1][0].startswith(entry.run_id)
    assert len(shown.attributes("script")) == len(shown.attributes("style")) == 1
    assert all(c.isprintable() or c == "\n" for word in shown.words for c in word)


def config_of(tmp_path: Path, **keys: object) -> Config:
    runs = tmp_path / "runs"
    runs.mkdir(exist_ok=True)
    entry = {"monitored_directories": [str(runs)], "bucket": "lab-runs", "remote_path": "/"}
    return Config.model_validate({"log_dir": str(tmp_path / "log"), "monitor": [entry], **keys})


def put_log(config: Config, run: Run, destination: Destination, state: RunState) -> None:
    store = StateStore(config.log_dir, run, destination)
    store.prepare()
    store.begin(state)
    store.finish(state)


def uploaded(run: Run, **more: Any) -> RunState:
    state = replace(
        RunState.of(run),
        completed=True,
        total_local_files=1,
        verified={"a": Proof(path="a", size=5, mtime_ns=1, etag="e", verified_by="etag")},
        finished=to_iso(NOW),
        instrument_done=to_iso(NOW - HOUR),
        sent_bytes=5,
        seconds=2.0,
    )
    return replace(state, **more)


def test_a_run_that_was_cleaned_up_is_history(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    here = tmp_path / "elsewhere"
    here.mkdir()
    for path, completed in ((tmp_path / "20260101_A07532_0001_X", True), (tmp_path / "cut", False), (here, True)):
        run = Run(path=path, run_id=path.name, info=RunInfo())
        put_log(config, run, Destination("lab-runs", "2026"), uploaded(run, completed=completed))
    (config.log_dir / "uploads" / "broken.upload.log.json").write_text("{")

    entries = {entry.run_id: entry for entry in history.load_history(config).rows}

    assert entries.keys() == {"20260101_A07532_0001_X", "cut", "elsewhere"}
    whole, cut = entries["20260101_A07532_0001_X"], entries["cut"]
    assert (whole.state, whole.reason, whole.is_watched) == ("uploaded", "no longer on this disk", False)
    assert (whole.instrument, whole.destination) == ("NovaSeq 6000 A07532", "s3://lab-runs/2026")
    assert (whole.rate, whole.lag, whole.when, whole.size) == (2.5, HOUR, NOW, 5)
    assert (cut.state, cut.reason) == ("gone", "no longer on this disk; 1 of 1 file verified in S3")
    assert entries["elsewhere"].reason == "this config does not upload it"


def test_the_page_is_readable_for_all_and_always_whole(tmp_path: Path) -> None:
    folder = tmp_path / "web" / "s3sync"
    before = os.umask(0o077)
    try:
        written = publish.write_dashboard(
            folder, dashboard.build_view(History(NOW, (DONE,), ()), ScanStatus(last=LAST))
        )
        first = written.stat().st_ino
        with written.open("rb") as reader:
            publish.write_dashboard(
                folder, dashboard.build_view(History(NOW, (DONE, FAILED), ()), ScanStatus(last=LAST))
            )
            old = reader.read()
    finally:
        os.umask(before)
    assert old.endswith(b"</html>\n"), "who reads the old page gets all of it"
    assert written.stat().st_ino != first
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    assert stat.S_IMODE(written.stat().st_mode) == 0o644
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)] == [0o755, 0o755]
    folder.parent.chmod(0o700)
    assert files.first_untraversable_parent(written) in (folder.parent, *folder.parent.parents)


def test_last_scan_is_what_was_written_or_none(tmp_path: Path) -> None:
    assert last_scan.read(tmp_path) is None
    scan = LastScan(
        ended=NOW,
        seconds=2.5,
        succeeded=NOW - 9,
        problems=(Problem("k", "t", "aws"),),
        counted=last_scan.Counters(3, 2**53 + 1, 5),
    )
    last_scan.write(tmp_path, scan)
    assert last_scan.read(tmp_path) == scan
    for wrong in ("", "[]", '{"version": 1}', "{", json.dumps({"version": 2})):
        last_scan.path_of(tmp_path).write_text(wrong)
        assert last_scan.read(tmp_path) is None


# The chart


@pytest.mark.parametrize("values", [[], [0.0], [5.0], [1.0, 1.0], [0.001, 1e15], [float(n) for n in range(40)]])
def test_every_bar_lies_in_the_chart_regardless_of_the_values(values: list[float]) -> None:
    bars = [charts.Bar(f"<{n}>", value, f"& {value}") for n, value in enumerate(values)]
    drawn = list(ET.fromstring(charts.bars("t<", "s&", bars, human_bytes)).iter("rect"))
    for bar in drawn:
        assert float(bar.attrib["y"]) >= 0
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) <= charts.WIDTH
    assert len(drawn) == len(values) - values.count(0.0)
