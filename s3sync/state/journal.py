"""Write and parse the journal: a line for each file that a running upload has verified."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from s3sync.aws import etag as aws_etag
from s3sync.aws.destination import Destination
from s3sync.state.log_values import is_number
from s3sync.state.run_state import Proof

_JOURNAL_OF = "journal of"  # starts the line that names the destination of the following proofs


def journal_head(destination: Destination) -> bytes:
    """Return the line that names the destination of the proofs after it.

    It starts with a line break, which ends a line that a crash may have left incomplete.
    """
    return f"\n{json.dumps([_JOURNAL_OF, *destination])}\n".encode("ascii")


def journal_lines(proofs: Iterable[Proof]) -> bytes:
    """Return one line for each proof."""
    rows = ((proof.path, proof.size, proof.mtime_ns, proof.etag, proof.verified_by) for proof in proofs)
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode("ascii")


def parse_journal(content: bytes, destination: Destination) -> tuple[list[Proof], int]:
    """Return the proofs of this destination in a journal, and how many lines before the last were unreadable."""
    lines = content.split(b"\n")
    proofs: list[Proof] = []
    unreadable, is_ours = 0, False
    for line in filter(None, lines):
        values = _json_list(line)
        if values[:1] == [_JOURNAL_OF]:
            is_ours = values[1:] == [*destination]
        elif (proof := _parse_proof(values)) is None:
            unreadable += line is not lines[-1]
        elif is_ours:
            proofs.append(proof)
    return proofs, unreadable


def count_journaled(content: bytes) -> int:
    """Return how many proofs the last call has added to a journal, without parsing them.

    The log has those of earlier calls: a call writes it before it continues their journal.
    """
    _, _, proofs = content.rpartition(f'\n["{_JOURNAL_OF}"'.encode())
    return proofs.count(b"\n[")


def _json_list(line: bytes) -> list[Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return values if isinstance(values, list) else []


def _parse_proof(values: list[Any]) -> Proof | None:
    """Return the proof that `journal_lines` has written; None if these values are no proof."""
    if len(values) != 5:
        return None
    path, size, mtime_ns, etag, verified_by = values
    if not all(isinstance(text, str) for text in (path, etag, verified_by)) or not all(
        map(is_number, (size, mtime_ns))
    ):
        return None
    etag = aws_etag.normalize_etag(etag)
    return Proof(path=path, size=size, mtime_ns=mtime_ns, etag=etag, verified_by=verified_by)
