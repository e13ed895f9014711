"""The ```console blocks of the documentation: read, played on a real terminal in a sandbox, compared, rewritten.

`python -m tests.helpers.transcript` plays all of them and writes what came into the pages where they differ.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scripts import terminal
from scripts.simulate_run import make_run
from tests.helpers.lab import BUCKET, Lab
from tests.helpers.s3server import S3Server

ROOT = Path(__file__).resolve().parents[2]
PAGES = (  # in this order, in one sandbox
    "README.md",
    "docs/reference/states.md",
    "docs/how-to/watch.md",
    "docs/how-to/cleanup.md",
    "docs/how-to/verify.md",
    "docs/reference/commands.md",
    "docs/how-to/pipelines.md",
)
CLOSED = f"s3sync: note: {os.path.realpath(tempfile.gettempdir())}"  # of the sandbox's own place, which is private
ELLIPSIS = "…"  # a line that stands for any lines

# What is different each time. Nothing else is.
MASKS = (
    (re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\+00:00)?)?"), "DATE"),
    (re.compile(r"\b\d\d:\d\d$"), "CLOCK"),
    (re.compile(r"\b(\d+ h \d\d min|\d+ min \d\d s|\d+(\.\d)? s)\b"), "DURATION"),
    (re.compile(r"\b[\d.]+ [kMG]?B/s"), "RATE"),
    (re.compile(r"[\d.,]+ [MGT]B free"), "SPACE free"),
    (re.compile(r"[\d.]+ kB(?=; open it)"), "SIZE"),  # of the page, which names times
    (re.compile(r"aws-cli/\S+ Python/\S+ \S+ botocore/\S+"), "VERSION"),
    (re.compile(r" {2,}"), "  "),  # columns move with what is masked
)


class Exchange(NamedTuple):
    """A command, what the page shows of its output, and where that stands: lines from `start` to before `end`."""

    command: str
    shown: list[str]
    start: int
    end: int


class Run(NamedTuple):
    """A simulated run that the pages speak of."""

    instrument: str
    run_id: str
    cycles: tuple[int, ...]
    complete: bool = True


RUNS = (
    Run("novaseqx", "20261123_LH00130_0061_A22CC55LT4", (6, 2, 2, 6)),
    Run("novaseq6000", "261123_A01295_0412_BHKJ5TDRX5", (2, 2, 2, 2)),
    Run("miseq", "261123_M06808_0397_000000000-K2NMT", (2, 1, 2), complete=False),
)


def exchanges(page: str) -> list[Exchange]:
    """All of a page, in order."""
    found: list[Exchange] = []
    is_open = False
    for number, line in enumerate(page.splitlines()):
        if line.startswith("```"):
            is_open = line == "```console"
        elif is_open and line.startswith("$ "):
            found.append(Exchange(line[2:], [], number + 1, number + 1))
        elif is_open:
            found[-1].shown.append(line)
            found[-1] = found[-1]._replace(end=number + 1)
    return found


def masked(lines: Sequence[str]) -> list[str]:
    """The lines without what is different each time."""
    return [_masked(line.rstrip()) for line in lines]


def agrees(shown: Sequence[str], real: Sequence[str]) -> bool:
    """Whether the page shows what came; masked lines."""
    pattern = "".join(r"(.*\n)*?" if line == ELLIPSIS else re.escape(line) + r"\n" for line in shown)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in real)) is not None


class Sandbox:
    """A machine as the pages speak of it: /data, /etc/s3sync.yaml, and the commands `s3sync` and `aws`."""

    def __init__(self, root: Path, server: S3Server) -> None:
        lab = Lab(root, server.url, "")
        del lab.env["S3SYNC_RETRY_DELAYS"]  # a user has none
        self._folder = root
        self._places = {
            "/data": root / "data",
            "/etc/s3sync.yaml": root / "s3sync.yaml",
            "/opt/s3sync/.venv/bin": Path(sys.executable).parent,
        }
        config = str(self._places["/etc/s3sync.yaml"])
        self._environ = {**lab.env, "PATH": f"{root}/bin:{lab.env['PATH']}", "S3SYNC_CONFIG": config}
        for run in RUNS:
            how = {"run_id": run.run_id, "cycles": run.cycles, "complete": run.complete}
            make_run(root / "data" / "runs", run.instrument, lanes=1, tiles=2, scale=0.02, **how)  # type: ignore[arg-type]
        (root / "bin").mkdir()
        start = "import warnings\nwarnings.simplefilter('error')\nfrom s3sync.__main__ import entry_point\n"
        self._install("s3sync", f"#!{sys.executable}\n{start}entry_point()\n")
        self._install("aws", f'#!/bin/sh\nexec {Path(sys.executable).with_name("aws")} "$@"\n')

    def _install(self, name: str, content: str) -> None:
        script = self._folder / "bin" / name
        script.write_text(content)
        script.chmod(0o755)

    def configure(self, text: str) -> None:
        """Write the config; how full this machine's disks are is no matter."""
        self._places["/etc/s3sync.yaml"].write_text(f"alert_free_percent: 0\n{self._there(text)}")

    def play(self, command: str) -> list[str]:
        """Run it as a person would; the lines that are left on the terminal."""
        _, screen = terminal.run(["/bin/sh", "-c", self._there(command)], self._environ, self._folder)
        lines = [self._here(line) for line in _without_note(screen.lines())]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def _there(self, text: str) -> str:
        for shown, real in self._places.items():
            text = re.sub(rf"(?<![\w/.]){re.escape(shown)}(?![\w-])", str(real), text)
        return text

    def _here(self, text: str) -> str:
        for shown, real in self._places.items():
            text = text.replace(str(real), shown)
        return text


def _without_note(lines: Iterable[str]) -> Iterator[str]:
    """The lines without the note on the sandbox's own place, which is folded: what follows of it is indented."""
    is_note = False
    for line in lines:
        is_note = CLOSED in line or (is_note and line.startswith("  "))
        if not is_note:
            yield line


def played(sandbox: Sandbox, page: str) -> Iterator[tuple[Exchange, list[str]]]:
    """Each exchange of a page with what really came."""
    if config := re.search(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        sandbox.configure(config[1])
    for exchange in exchanges(page):
        yield exchange, sandbox.play(exchange.command)


def _masked(line: str) -> str:
    for pattern, instead in MASKS:
        line = pattern.sub(instead, line)
    return line


def main() -> int:
    """Rewrite the pages where they differ; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder, S3Server() as server:
        server.create_bucket(BUCKET)
        sandbox = Sandbox(Path(os.path.realpath(folder)), server)
        for name in PAGES:
            path = ROOT / name
            page = path.read_text()
            lines = page.splitlines()
            differing = [
                (exchange, real)
                for exchange, real in played(sandbox, page)
                if not agrees(masked(exchange.shown), masked(real))
            ]
            for exchange, real in reversed(differing):
                lines[exchange.start : exchange.end] = real
            path.write_text("\n".join(lines) + "\n")
            print(f"{name}: {len(differing)} rewritten")
    return 0


if __name__ == "__main__":
    sys.exit(main())
