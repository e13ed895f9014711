"""Draw docs/demo.svg: what `make demo` prints on a terminal, with the live display of one moment.

    python scripts/record_demo.py [FILE]

Sections that are long and say little in a picture are left out. The picture loads nothing: no fonts, no scripts.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts import terminal  # noqa: E402 - found only by the line above
from scripts.terminal import Screen  # noqa: E402

PICTURE = ROOT / "docs" / "demo.svg"
WIDTH = 104  # columns of the picture
LEFT_OUT = ("An embedded", "The state log", "What the bucket holds", "Upload it again", "Everything the demo")
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_LIVE_LINES = 4  # of the live display: title, bar, counts, speed
_LATENCY = 0.3  # seconds: else the upload may be over before its display has a speed to show
_MOST_PERCENT = 70  # a bar that is full says less
_DONE = re.compile(r"uploading (\d+)%: ")
_SPEED = re.compile(r"/s, .* left, \d+ aws process")
_FOLDER = re.compile(r"/\S*/s3sync-demo-\w+/")
_STYLES = re.compile(r"\x1b\[[\d;]*m")


class Recorder:
    """Keeps a picture of the live display in the middle of the first upload."""

    def __init__(self) -> None:
        self.live: list[str] = []
        self._over = False

    def look(self, screen: Screen) -> None:
        """At a screen that was just drawn on."""
        lines = screen.lines()
        self._over = self._over or any(line.startswith("uploaded: ") for line in lines)
        for number, line in enumerate(lines):
            done = _DONE.match(lines[number - 1]) if number >= _LIVE_LINES - 1 and _SPEED.search(line) else None
            if done and not self._over and int(done[1]) <= _MOST_PERCENT:
                self.live = screen.styled()[number + 1 - _LIVE_LINES : number + 1]


def sections(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield the paragraphs of the demo's output."""
    section: list[str] = []
    for line in [*lines, ""]:
        if _STYLES.sub("", line).strip():
            section.append(line)
        elif section:
            yield section
            section = []


def story(screen: Screen, live: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the picture."""
    yield "\x1b[1m$ make demo\x1b[0m"
    is_first = True
    for section in sections(screen.styled()):
        if _STYLES.sub("", section[0]).startswith(LEFT_OUT):
            continue
        yield ""
        for line in section:
            plain = _STYLES.sub("", line)
            is_command = plain.startswith("$ ")
            yield f"\x1b[1m{plain}\x1b[0m" if is_command else _FOLDER.sub("", plain)
            if is_command and is_first:
                is_first = False
                yield from live


def svg(lines: Sequence[str]) -> str:
    """Return the picture of these lines."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="ellipsis", crop=True)
    plain = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    plain = plain.replace("Fira Code, monospace", FONTS).replace("font-family: arial", "font-family: sans-serif")
    return console.export_svg(title="s3sync", code_format=plain, unique_id="demo")


def main(argv: Sequence[str]) -> int:
    """Record, and write the picture; returns the demo's exit code."""
    target = Path(argv[0]) if argv else PICTURE
    recorder = Recorder()
    argv = [sys.executable, "scripts/demo.py", f"--latency={_LATENCY}"]
    code, screen = terminal.run(argv, dict(os.environ), ROOT, recorder.look)
    if code == 0:
        target.write_text(svg(list(story(screen, recorder.live))))
        print(f"{target}: {target.stat().st_size:,} bytes")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
