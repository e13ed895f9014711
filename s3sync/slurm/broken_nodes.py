"""Remember the nodes on which this program could not start, in the log directory, until a job runs there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import quote

from s3sync import files
from s3sync.text import now_iso, printable

FOLDER = "broken-nodes"  # in the log directory; one file per node, so that no two processes write the same file
_SUFFIX = ".json"
_SHOWN_CHARS = 300  # to show of a job's output
_ADVICE = "install it there under the same path; `s3sync check --submit` tries every node"


def remember(log_dir: Path, broken: Mapping[str, str], working: Collection[str]) -> None:
    """Remember the `broken` nodes, each with the output of its job, and forget the `working` ones.

    Raises nothing: the next upload would notice the same.
    """
    with contextlib.suppress(OSError):
        if broken:
            files.make_private_folder(log_dir / FOLDER)
        for node, why in broken.items():
            path = _path(log_dir, node)
            if not path.exists():
                facts = {"node": node, "why": why[:_SHOWN_CHARS], "since": now_iso()}
                files.write_json(path, facts)
    for node in set(working) - broken.keys():
        with contextlib.suppress(OSError):
            _path(log_dir, node).unlink()


def known(log_dir: Path) -> dict[str, str]:
    """Return the problem of each remembered node, by its key: `node n1`."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(log_dir / FOLDER)):
            if name.endswith(_SUFFIX):
                node, text = _described(log_dir / FOLDER / name)
                found[f"node {node}"] = text
    return found


def names(log_dir: Path) -> list[str]:
    """Return the names of the remembered nodes."""
    return [key.removeprefix("node ") for key in known(log_dir)]


def message(node: str, why: str) -> str:
    """Return a line about a node that was just found to be broken."""
    return f"s3sync could not start on node {node}: {printable(why[:_SHOWN_CHARS])} ({_ADVICE})"


def _described(path: Path) -> tuple[str, str]:
    try:
        facts = files.read_json(path)
        node, why, since = (printable(str(facts[key])) for key in ("node", "why", "since"))
    except (OSError, ValueError, LookupError, TypeError) as error:
        text = f"cannot read its record: {printable(str(error))} (repair or remove {printable(str(path))})"
        return printable(path.name.removesuffix(_SUFFIX)), text
    return node, f"s3sync has not been able to start there since {since}: {why} ({_ADVICE})"


def _path(log_dir: Path, node: str) -> Path:
    return log_dir / FOLDER / f"{quote(node, safe='')[:200]}{_SUFFIX}"
