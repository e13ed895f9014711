"""Run the benchmark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.lab import Lab, Result

SCRIPT = str(Path(__file__).parents[2] / "scripts" / "benchmark.py")


def benchmark(lab: Lab, *arguments: str, stdin: int = subprocess.DEVNULL) -> Result:
    """Run it with these arguments, its results in `lab.root/results`."""
    argv = [sys.executable, "-W", "error", SCRIPT, "--output", str(lab.root / "results"), *arguments]
    done = subprocess.run(argv, env=lab.env, stdin=stdin, capture_output=True, text=True, check=False, timeout=240)
    return Result(done.returncode, done.stdout, done.stderr)
