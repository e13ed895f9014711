"""Python code in a process of its own for which file modes count, which they do not for root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_WITHOUT_OVERRIDE = ("--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
REPOSITORY = Path(__file__).parents[1]


def run_unprivileged(code: str, *arguments: str | Path) -> str:
    """Run code that file modes bind, and give what it printed; skips the test where root cannot be bound."""
    return run_python(code, *arguments, before=without_override())


def run_python(code: str, *arguments: str | Path, before: tuple[str, ...] = ()) -> str:
    """Run code in a new Python, its `sys.argv[1:]` being the arguments, and give what it printed."""
    argv = (*before, sys.executable, "-W", "error", "-c", code, *map(str, arguments))
    ended = subprocess.run(
        argv, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def without_override() -> tuple[str, ...]:
    """The words before a command that make file modes bind it; skips the test where root cannot be bound."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root ignores file modes, and there is no setpriv to change that")
    before = (setpriv, *_WITHOUT_OVERRIDE)
    tried = subprocess.run((*before, "true"), capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"root ignores file modes, and setpriv cannot change that: {tried.stderr.strip()}")
    return before
