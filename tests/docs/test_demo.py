"""`make demo ARGS=--keep`: the server and the runs stay, so that the other commands can be tried, until Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "from scripts import demo; demo.CYCLES, demo.SCALE = (2, 1, 1, 2), 0.001; raise SystemExit(demo.main(['--keep']))"
)


def test_what_the_demo_says_to_try_works_until_it_is_interrupted() -> None:
    with subprocess.Popen([sys.executable, "-c", SMALL], cwd=ROOT, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        shown = ""
        while "Ctrl-C here" not in shown:
            line = demo.stdout.readline()
            assert line, shown
            shown += line
        script = "".join(re.findall(r"^    (?:\. /|s3sync |aws ).*\n", shown, re.MULTILINE))
        environ = {**os.environ, "XDG_CONFIG_HOME": "/nowhere"}
        tried = subprocess.run(
            ["/bin/sh", "-ec", script], env=environ, capture_output=True, text=True, timeout=240, check=False
        )
        folder = Path(re.findall(r"\. (\S+)/env.sh", script)[0])
        was_there = folder.exists()
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()

    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "3 runs: 1 sequencing, 2 uploaded" in tried.stdout
    assert (demo.returncode, was_there, folder.exists()) == (0, True, False)
    assert "Everything the demo made is removed." in rest
