"""Processes that another process has forked for this one."""

from __future__ import annotations

import sys

import pytest

from s3sync import forked


def test_a_python_without_ctypes_starts_commands_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python is often built without libffi on clusters; then this program runs, too."""
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert not forked.adopt_orphans()
