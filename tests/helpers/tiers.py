"""Sort the tests into tiers: by their folder, and by the table of promises in tests/README.md."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TIERS = ("unit", "e2e", "faults", "contract", "docs", "bench")
_USUAL_TIMEOUT = 300.0  # seconds, as in pyproject.toml
_ROW = re.compile(r"^\| .* \| `(\w+/\w+\.py(?:::test_\w+)?)` \|$", re.MULTILINE)


@cache
def list_promises() -> tuple[str, ...]:
    """Return what proves the promises: test files and tests, such as `e2e/test_upload.py::test_every_byte_arrives`."""
    return tuple(_ROW.findall((TESTS / "README.md").read_text()))


def markers_of(path: Path, function: str) -> list[str]:
    """Return the names of the markers of a test function in this file."""
    place = path.relative_to(TESTS)
    tier = place.parts[0]
    is_promise = not {str(place), f"{place}::{function}"}.isdisjoint(list_promises())
    return [tier] * (tier in TIERS) + ["promise"] * is_promise


def priority_of(item: pytest.Item) -> tuple[float, ...]:
    """Return what sorts the tests that may take longest first: the sweeps, by their timeouts, then what is real."""
    timeout = item.get_closest_marker("timeout")
    longest = float(timeout.args[0]) if timeout else _USUAL_TIMEOUT
    return (-longest, *(item.get_closest_marker(name) is None for name in ("sweep", "real")))
