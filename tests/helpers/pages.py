"""Read the pages of the docs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text()
