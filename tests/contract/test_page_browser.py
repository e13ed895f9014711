"""The page in a real browser: the view that a link asks for, its age, names that attack, a phone's width."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from s3sync.inventory.history import History, HistoryRow
from s3sync.text import printable
from tests.helpers.hostile_names import HOSTILE_NAMES
from tests.helpers.lab import skip_or_fail
from tests.helpers.page import DONE, FAILED, NEW, rendered

pytestmark = pytest.mark.real

HOUR = 3600.0
ATTACKS = [
    *("<script>document.title='owned'</script>", "<img src=x onerror=\"document.title='owned'\">"),
    *("\"><svg onload=document.title='owned'>", "</title></style></script><script>document.title='owned'</script>"),
    *("x" * 200, *HOSTILE_NAMES),
]
# Frames of the page, each with a view, are looked at by the page around them once all have loaded.
HARNESS = """<!DOCTYPE html><html><head><link rel="icon" href="data:,"></head><body><pre id="seen"></pre><script>
const views = VIEWS;
const text = (cell) => [...cell.childNodes].map((node) => node.nodeName === "#text" ? node.textContent : "").join("");
for (const [name, view] of Object.entries(views)) {
  const frame = document.createElement("iframe");
  Object.assign(frame, { id: name, src: view.src, width: view.width, height: 800 });
  document.body.append(frame);
}
addEventListener("load", () => {
  const seen = {};
  for (const name of Object.keys(views)) {
    const inner = document.getElementById(name).contentWindow, page = inner.document;
    for (const press of views[name].press || []) page.querySelectorAll("thead button")[press].click();
    if ("type" in views[name]) {
      page.getElementById("q").value = views[name].type;
      page.getElementById("q").dispatchEvent(new Event("input"));
    }
    const rows = [...page.querySelectorAll("#runs tbody tr")].filter((row) => !row.hidden);
    seen[name] = {
      title: page.title,
      runs: rows.map((row) => text(row.querySelector("th"))),
      count: page.getElementById("shown").textContent,
      none: !page.getElementById("none").hidden,
      sorted: [...page.querySelectorAll("[aria-sort]")].map((th) => th.textContent + " " + th.ariaSort),
      old: page.getElementById("old").hidden ? "" : page.getElementById("old").textContent,
      hash: inner.location.hash,
      width: [page.documentElement.scrollWidth, page.documentElement.clientWidth],
    };
  }
  document.getElementById("seen").textContent = JSON.stringify(seen);
});
</script></body></html>
"""


@dataclass(frozen=True)
class Browser:
    """Chromium without a window, and a web server on this machine that serves a folder."""

    command: str
    folder: Path
    url: str

    def look(self, page_name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Open a page; what the console says is on stderr."""
        profile = f"--user-data-dir={self.folder.parent / 'profile'}"
        argv = [self.command, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", profile]
        done = subprocess.run(
            [*argv, "--no-first-run", "--hide-scrollbars", *options, f"{self.url}/{page_name}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert "CONSOLE" not in done.stderr, done.stderr
        return done

    def see(self, views: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """What each view shows, by its name; `width` in pixels."""
        views = {name: {"width": 1200, **view} for name, view in views.items()}
        (self.folder / "harness.html").write_text(HARNESS.replace("VIEWS", json.dumps(views)))
        dumped = self.look("harness.html", "--dump-dom").stdout
        found = re.search(r'<pre id="seen">(.+?)</pre>', dumped, re.DOTALL)
        assert found, dumped
        seen: dict[str, dict[str, Any]] = json.loads(unescape(found[1]))
        return seen


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing of what it serves."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        pass


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    command = shutil.which("chromium")
    if command is None:
        skip_or_fail("no chromium")
    folder = tmp_path / "web"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Browser(command, folder, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


def test_links_lead_to_views_and_clicks_to_links(browser: Browser) -> None:
    entries = (NEW, DONE, FAILED, replace(DONE, run_id="large", size=9 * 10**9, rate=None, state="uploaded"))
    now, names = time.time(), [entry.run_id for entry in entries]
    new, done, failed, large = names
    (browser.folder / "now.html").write_bytes(rendered(History(now, entries, ()), None))
    (browser.folder / "old.html").write_bytes(rendered(History(now - 5 * HOUR, entries, ()), None))

    seen = browser.see(
        {
            "plain": {"src": "now.html"},
            "narrow": {"src": "now.html", "width": 1121},
            "state": {"src": "now.html#state=failed"},
            "searched": {"src": "now.html#q=LH00130+lab-runs&state=uploaded"},
            "nothing": {"src": "now.html#q=%3Cb%3Eno+such%3C/b%3E"},
            "bytes": {"src": "now.html#sort=-bytes"},
            "rate": {"src": "now.html#sort=rate"},
            "wrong": {"src": "now.html#sort=constructor&state=none+such"},
            "pressed": {"src": "now.html", "press": [4, 4]},
            "typed": {"src": "now.html#sort=-bytes", "type": "bbbbb"},
            "old": {"src": "old.html#state=new"},
        }
    )

    assert seen["plain"]["runs"] == names
    assert seen["narrow"]["width"] == [1121, 1121], "the narrowest that has a table"
    assert seen["plain"]["sorted"] == ["When descending"]
    assert seen["plain"]["count"] == "4 of 4 runs"
    assert seen["plain"]["old"] == ""
    assert seen["state"]["runs"] == [failed]
    assert seen["searched"]["runs"] == [done, large]
    assert (seen["nothing"]["runs"], seen["nothing"]["none"]) == ([], True)
    assert seen["bytes"]["runs"][0] == large
    assert seen["bytes"]["sorted"] == ["Size descending"]
    assert set(seen["rate"]["runs"][2:]) == {new, large}, "what nobody knows comes last"
    assert seen["wrong"]["runs"] == []
    assert seen["wrong"]["sorted"] == ["When descending"]
    assert seen["pressed"]["sorted"] == ["Size ascending"]
    assert seen["pressed"]["hash"] == "#sort=bytes"
    assert (seen["typed"]["runs"], seen["typed"]["hash"]) == ([failed], "#q=bbbbb&sort=-bytes")
    assert seen["old"]["old"].startswith("No news for 5 h 0")
    assert seen["old"]["runs"] == [new]


def test_hostile_names_do_nothing_and_fit_a_phone(browser: Browser) -> None:
    names = [printable(name) for name in ATTACKS]
    entries: list[HistoryRow] = [
        replace(FAILED, run_id=name, reason=name, instrument=name, destination=name, failures=((name, name),))
        for name in names
    ]
    (browser.folder / "hostile.html").write_bytes(rendered(History(time.time(), tuple(entries), ()), None))

    seen = browser.see(
        {
            "phone": {"src": "hostile.html", "width": 390},
            "desk": {"src": "hostile.html"},
            "tablet": {"src": "hostile.html", "width": 800},
        }
    )

    for view in seen.values():
        assert view["runs"] == names
        assert view["title"] == f"{len(names)} runs need attention · sequencing runs to S3"
        scrolled, visible = view["width"]
        assert scrolled <= visible, "no sideways scrolling"
    assert seen["phone"]["width"][1] == 390


def test_the_page_is_not_blank_by_day_and_by_night(browser: Browser, tmp_path: Path) -> None:
    (browser.folder / "favicon.ico").touch()
    (browser.folder / "index.html").write_bytes(rendered(History(time.time(), (NEW, DONE, FAILED), ()), None))
    sizes = []
    for scheme in (1, 0):
        picture = tmp_path / f"{scheme}.png"
        options = (
            f"--screenshot={picture}",
            "--window-size=1200,1400",
            f"--blink-settings=preferredColorScheme={scheme}",
        )
        browser.look("index.html", *options)
        sizes.append(picture.stat().st_size)
        assert picture.read_bytes().startswith(b"\x89PNG")
    blank = tmp_path / "blank.png"
    (browser.folder / "blank.html").write_text("<!DOCTYPE html><title>x</title>")
    browser.look("blank.html", f"--screenshot={blank}", "--window-size=1200,1400")
    assert min(sizes) > 4 * blank.stat().st_size
