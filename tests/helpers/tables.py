"""Read tables as other programs read them."""

from __future__ import annotations

import re

UNESCAPED = {r"\\": "\\", r"\t": "\t", r"\n": "\n", r"\r": "\r"}


def read_table(content: bytes) -> list[list[str]]:
    """As somebody else would read it: lines end in a line feed, columns in a tab, then backslashes mean something."""
    lines = content.decode().split("\n")
    assert lines.pop() == ""
    return [[re.sub(r"\\.", lambda found: UNESCAPED[found[0]], c) for c in line.split("\t")] for line in lines]
