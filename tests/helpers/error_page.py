"""Find the ids of errors in the source, and list them in docs/reference/errors.md.

`python -m tests.helpers.error_page` adds ids that are new, removes those that are gone, and sorts the page. A table row
is written by hand, for an id whose message cannot say it all; all others are listed.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "errors.md"
AREAS = [
    "run",
    "sheet",
    "aws",
    "s3",
    "state",
    "lock",
    "upload",
    "verify",
    "restore",
    "slurm",
    "config",
    "monitor",
    "notify",
    "cleanup",
    "usage",
    "internal",
]
_LIKE_AN_ID = re.compile(rf"({'|'.join(AREAS)})\.(?!msi$|lock$)[a-z0-9]+(-[a-z0-9]+)*")  # but no name of a file
_HEAD = "| Id | Meaning | What to do |\n| --- | --- | --- |\n"


@cache
def ids() -> dict[str, set[str]]:
    """Return each id that the program gives to an error, a cause or a problem, with the classes that have it."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "s3sync").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call):
                for text in _texts(keyword.value for keyword in node.keywords if keyword.arg == "id"):
                    found.setdefault(text, set()).add(ast.unparse(node.func).rpartition(".")[2])
            elif isinstance(node, ast.Constant) and _LIKE_AN_ID.fullmatch(str(node.value)):
                found.setdefault(str(node.value), set())  # in a table, such as that of the states
    return found


def _texts(values: Iterable[ast.expr]) -> list[str]:
    constants = [node.value for value in values for node in ast.walk(value) if isinstance(node, ast.Constant)]
    return [str(value) for value in constants if value]


def rewritten(page: str) -> str:
    """Return the page with all ids that there are, and no others, in order."""
    rows = {names[0]: row for row in re.findall(r"^\| `.*$", page, re.MULTILINE) if (names := _known(row))}
    listed = ids().keys() - {name for row in rows.values() for name in _known(row)}
    areas = sorted({name.partition(".")[0] for name in ids()}, key=lambda area: (*AREAS, area).index(area))
    sections = [_section(area, rows, listed) for area in areas]
    return "\n".join([page.partition("\n## ")[0].rstrip() + "\n", *sections])


def _known(row: str) -> list[str]:
    return [name for name in re.findall(r"`([^`]+)`", row.split("|")[1]) if name in ids()]


def _section(area: str, rows: dict[str, str], listed: Iterable[str]) -> str:
    table = "".join(f"{rows[name]}\n" for name in sorted(rows) if name.startswith(f"{area}."))
    names = ", ".join(f"`{name}`" for name in sorted(listed) if name.startswith(f"{area}."))
    text = f"{names}." if names else ""
    lines = textwrap.wrap(text, 120, break_on_hyphens=False, break_long_words=False)
    parts = [_HEAD + table if table else "", "".join(f"{line}\n" for line in lines)]
    return f"## {area}\n\n" + "\n".join(part for part in parts if part)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
