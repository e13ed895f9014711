"""What the README and the pages in docs/ show on a terminal is what a person really sees there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3server import S3Server
from tests.transcript import PAGES, ROOT, Sandbox, agrees, exchanges, masked, played


def test_the_commands_of_the_pages_say_what_the_pages_show(tmp_path: Path, server: S3Server) -> None:
    sandbox = Sandbox(tmp_path, server)
    count = 0
    for name in PAGES:
        for exchange, real in played(sandbox, (ROOT / name).read_text()):
            count += 1
            if not agrees(masked(exchange.shown), masked(real)):
                assert masked(real) == masked(exchange.shown), (
                    f"{name}: {exchange.command} (python -m tests.transcript)"
                )
    assert count > 10


def test_every_page_with_a_transcript_is_played() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert {str(page.relative_to(ROOT)) for page in pages if exchanges(page.read_text())} == set(PAGES)


@pytest.mark.parametrize(
    ("shown", "real", "same"),
    [
        ("done after 14 s", "done after 1 min 02 s", True),
        ("5.7 s (2.8 MB/s)", "12 s (900.1 kB/s)", True),
        ("completed 2026-11-23T11:55:10+00:00", "completed 2027-01-01T00:00:00+00:00", True),
        ("236 of 236 proven", "235 of 236 proven", False),
        ("236 files, 15.6 MB", "236 files, 15.7 MB", False),
        ("uploaded: RUN", "sent: RUN", False),
        ("  log     /data/log", "  log     /data/logs", False),
    ],
)
def test_only_what_is_different_each_time_is_masked(shown: str, real: str, same: bool) -> None:
    assert agrees(masked([shown]), masked([real])) is same


def test_a_line_of_dots_stands_for_any_lines_and_no_other_line_does() -> None:
    real = ["a", "b", "c"]
    assert agrees(["a", "…"], real)
    assert agrees(["…", "c"], real)
    assert agrees(["a", "…", "b", "c"], real)
    assert not agrees(["a", "…", "d"], real)
    assert not agrees(["a", "b"], real)
