"""What the README and the pages in docs/ show on a terminal is what a person really sees there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.helpers.s3server import S3Server
from tests.helpers.transcript import PAGES, ROOT, Sandbox, agrees, exchanges, masked, played


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path is short, so that lines break where the pages show it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(os.path.realpath(folder))


def test_the_commands_of_the_pages_say_what_the_pages_show(short_path: Path, server: S3Server) -> None:
    sandbox = Sandbox(short_path, server)
    count = 0
    for name in PAGES:
        for exchange, real in played(sandbox, (ROOT / name).read_text()):
            count += 1
            if not agrees(masked(exchange.shown), masked(real)):
                assert masked(real) == masked(exchange.shown), (
                    f"{name}: {exchange.command} (python -m tests.helpers.transcript)"
                )
    assert count > 10


def test_every_page_with_a_transcript_is_played() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert {str(page.relative_to(ROOT)) for page in pages if exchanges(page.read_text())} == set(PAGES)


PICTURE = ROOT / "docs" / "demo.svg"
_LIVE = re.compile(r"^([━╸╺]+|uploading \d+%: .*|RATE, DURATION left, \d+ aws process(es)?)$")  # a moment of many


def lines_of(picture: Path) -> list[str]:
    """The text of a picture, from top to bottom, without what is different each time."""
    lines: dict[float, str] = {}
    for text in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text"):
        at = float(text.attrib["y"])
        lines[at] = lines.get(at, "") + (text.text or "").replace("\xa0", " ")
    return [_LIVE.sub("LIVE", line) for line in masked([line for _, line in sorted(lines.items())])]


@pytest.mark.real
def test_the_picture_shows_what_the_demo_prints(tmp_path: Path) -> None:
    drawn = tmp_path / "demo.svg"
    script = str(ROOT / "scripts" / "record_demo.py")
    subprocess.run([sys.executable, script, str(drawn)], check=True, timeout=240)
    assert lines_of(drawn) == lines_of(PICTURE), "python scripts/record_demo.py"


def test_the_picture_is_small_and_loads_nothing() -> None:
    assert PICTURE.stat().st_size < 60_000
    drawing = PICTURE.read_text().replace("http://www.w3.org/2000/svg", "").replace("https://www.textualize.io", "")
    assert re.findall(r"https?://|@font-face|@import|<script|<image", drawing) == []
    assert lines_of(PICTURE).count("LIVE") == 3


@pytest.mark.parametrize(
    ("shown", "real", "same"),
    [
        ("done after 14 s", "done after 1 min 02 s", True),
        ("5.7 s (2.8 MB/s)", "12 s (900.1 kB/s)", True),
        ("completed 2026-11-23T11:55:10+00:00", "completed 2027-01-01T00:00:00+00:00", True),
        ("236 of 236 verified", "235 of 236 verified", False),
        ("236 files, 15.6 MB", "236 files, 15.7 MB", False),
        ("uploaded: RUN", "sent: RUN", False),
        ("  log     /data/log", "  log     /data/logs", False),
    ],
)
def test_only_what_is_different_each_time_is_masked(shown: str, real: str, same: bool) -> None:
    assert agrees(masked([shown]), masked([real])) is same


def test_only_a_line_of_dots_matches_any_lines() -> None:
    real = ["a", "b", "c"]
    assert agrees(["a", "…"], real)
    assert agrees(["…", "c"], real)
    assert agrees(["a", "…", "b", "c"], real)
    assert not agrees(["a", "…", "d"], real)
    assert not agrees(["a", "b"], real)


def test_the_quick_start_has_the_demo_and_the_tests() -> None:
    """Two commands are the whole set-up; others call them by what the README says."""
    lines = (ROOT / "README.md").read_text().splitlines()
    commands = [line.split("#")[0].strip() for line in lines[:20] if line.startswith("    make ")]
    assert commands == ["make demo", "make test"]


def test_the_playground_without_aws_works(tmp_path: Path, server: S3Server) -> None:
    """All commands of the page except those that install s3sync and start the server."""
    text = (ROOT / "docs" / "how-to" / "try.md").read_text().split("In a second terminal")[1]
    blocks = re.findall(r"(?:^ {4}\S.*\n(?:^ {4,}\S.*\n)*)", text, re.MULTILINE)
    script = "set -e\n" + re.sub(r"^ {4}", "", "".join(blocks), flags=re.MULTILINE)
    for shown, real in (
        ("http://127.0.0.1:9000", server.url),
        ("/tmp/play", str(tmp_path / "play")),
        ("$PWD/.venv/bin", str(Path(sys.executable).parent)),
    ):
        assert shown in script
        script = script.replace(shown, real)
    server.create_bucket("lab-runs")
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(["/bin/sh", "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 runs: 1 sequencing, 1 uploaded" in done.stdout
    assert len(server.objects("lab-runs")) > 300
