"""Run Python code in a process that file modes bind, as they do not bind root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest

_WITHOUT_OVERRIDE = ("--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
REPOSITORY = Path(__file__).parents[2]


def run_unprivileged(code: str, *arguments: str | Path) -> str:
    """Run code that file modes bind, and give what it printed; skips the test where root cannot be bound."""
    return run_python(code, *arguments, before=without_override())


def run_python(code: str, *arguments: str | Path, before: tuple[str, ...] = ()) -> str:
    """Run code in a new Python, its `sys.argv[1:]` being the arguments, and give what it printed."""
    argv = (*before, sys.executable, "-W", "error", "-c", code, *map(str, arguments))
    ended = subprocess.run(
        argv, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def without_override() -> tuple[str, ...]:
    """Return the argv before a command that makes file modes bind it; skip the test where root cannot be bound."""
    if os.geteuid() != 0:
        return ()
    before = (shutil.which("setpriv") or "setpriv", *_WITHOUT_OVERRIDE)
    if why := _why_no_setpriv(before):
        pytest.skip(f"root ignores file modes, and {why}")
    return before


@cache
def _why_no_setpriv(argv: tuple[str, ...]) -> str:
    """Empty if it can run a command."""
    try:
        tried = subprocess.run((*argv, "true"), capture_output=True, text=True, check=False)
    except OSError:
        return "there is no setpriv to change that"
    return f"setpriv cannot change that: {tried.stderr.strip()}" if tried.returncode else ""


OTHER_USER = 65534  # nobody, in every distribution
_IMPORT_ALL = """
import contextlib, encodings, importlib, pkgutil
import s3sync
for module in pkgutil.iter_modules(encodings.__path__):
    with contextlib.suppress(ImportError):  # those of Windows
        importlib.import_module(f"encodings.{module.name}")
for module in pkgutil.walk_packages(s3sync.__path__, "s3sync."):
    if module.name != "s3sync.__main__":
        importlib.import_module(module.name)
"""
_BECOME_ANOTHER = """
import os, sys
from pathlib import Path
from s3sync import errors
from s3sync.state import log_dir
user = int(sys.argv.pop(1))
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
log_dir.DEFAULT = Path(os.environ.get("TEST_DEFAULT_LOG_DIR", log_dir.DEFAULT))
"""
_RUN_S3SYNC = """
from s3sync.commands import main
sys.argv[0] = "s3sync"
sys.exit(main.main())
"""
Ended: TypeAlias = "subprocess.CompletedProcess[str]"


def run_as_other_user(*argv: str, env: Mapping[str, str], user: int = OTHER_USER) -> Ended:
    """Run s3sync with these arguments as another user than root; skips the test where only root could start it."""
    return _as_other_user(_IMPORT_ALL + _BECOME_ANOTHER + _RUN_S3SYNC, str(user), *argv, env=env)


def python_as_other_user(code: str, env: Mapping[str, str], user: int = OTHER_USER) -> Ended:
    """Run code as another user, who may not be able to import more than `errors` and `state`, which are there."""
    return _as_other_user(_BECOME_ANOTHER + code, str(user), env=env)


def _as_other_user(code: str, *argv: str, env: Mapping[str, str]) -> Ended:
    needs_root()
    program = (sys.executable, "-W", "error", "-c", code, *argv)
    return subprocess.run(program, cwd="/", env=env, capture_output=True, text=True, timeout=120, check=False)


def needs_root() -> None:
    """Skip the test where nobody else's files can be made."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to act as two users")
