"""Golden files: what users rely on, written down, so that no change of the code changes it unnoticed.

A document is compared without what differs from machine to machine and from day to day, and without prose: names,
types, numbers and the words that programs decide by are left. The order of runs and the like counts for nothing.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "golden"
UPDATE = "GOLDEN_UPDATE"  # in the environment: write the files instead of comparing them

_KEPT = {
    "error_id",
    "state",
    "verdict",
    "kind",
    "event",
    "level",
    "what",
}  # keys whose values are words that programs decide by
_VARYING = {
    *("age_seconds", "aws_processes", "beat", "device", "folder", "free_bytes", "host", "inode"),
    *("pid", "pids", "place", "seconds", "token", "user"),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)")
_STAMP = re.compile(r"\d{8}T\d{6}|\d{4}-\d\d-\d\dT\d{6}")  # in names of files
_HEX = re.compile(r"\b[0-9a-f]{32}\b")
_MOST = 10**9  # larger numbers are moments in nanoseconds


def assert_golden(name: str, found: object) -> None:
    """Compare with the golden file of this name; with GOLDEN_UPDATE=1 in the environment write it instead."""
    path = FOLDER / f"{name}.json"
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if os.environ.get(UPDATE):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return
    expected = path.read_text() if path.exists() else ""
    names = (f"tests/golden/{path.name}", "what the program does now")
    changes = "\n".join(difflib.unified_diff(expected.splitlines(), text.splitlines(), *names, lineterm="", n=6))
    assert text == expected, (
        f"the contract with users has changed:\n{changes}\n"
        "Names, types and meanings that are there must not change. If this is meant, e.g. for a new key:\n"
        f"    {UPDATE}=1 .venv/bin/python -m pytest -k golden tests/e2e/test_golden.py\n"
        "and look at the difference in `git diff` before you commit it."
    )


def normalised(value: Any, replaced: Mapping[str, str], key: str = "") -> Any:
    """A JSON document without what varies, and without prose; `replaced` are texts such as paths, and their names."""
    if isinstance(value, dict):
        return {_plain(name, replaced): normalised(item, replaced, name) for name, item in value.items()}
    if key in _VARYING:
        return shape(value)
    if isinstance(value, list):
        items = [normalised(item, replaced, key) for item in value]
        return sorted(items, key=json.dumps) if all(isinstance(item, dict) for item in items) else items
    if isinstance(value, str):
        return _plain(value, replaced) if key in _KEPT else _text(_plain(value, replaced), key)
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > _MOST):
        return shape(value)
    return value


def shape(value: Any) -> Any:
    """The types alone; a list has those of its items, once."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        kinds = {json.dumps(shape(item), sort_keys=True): shape(item) for item in value}
        return [kinds[kind] for kind in sorted(kinds)]
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true or false"
    return {int: "number", float: "number", str: "text"}[type(value)]


def _plain(text: str, replaced: Mapping[str, str]) -> str:
    for old, new in replaced.items():
        text = text.replace(old, new)
    return _STAMP.sub("TIME", text)


def _text(text: str, key: str) -> str:
    """Prose becomes `<text>`; programs read how the outcome of a command begins."""
    if _TIME.fullmatch(text):
        return "<time>"
    if re.search(r"\s", text):
        return "failed: <text>" if key == "on_complete" and text.startswith("failed: ") else "<text>"
    return _HEX.sub("<hash>", text)
