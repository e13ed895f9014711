"""Parse the parts of a run that `--only` takes: metadata, interop, fastq, lane=1,2, analysis=1, or a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from s3sync.errors import UsageError
from s3sync.patterns import Pattern
from s3sync.text import printable
from s3sync.transfer.batches import is_metadata

_INTEROP = re.compile(r"InterOp/.*", re.DOTALL)
_FASTQ = re.compile(r".*\.(fastq|fq)(\.gz|\.ora)?", re.DOTALL)
_NUMBERED = re.compile(r"(lane|analysis)=([1-9][0-9]{0,2}(?:,[1-9][0-9]{0,2})*)")

_PARTS_BY_NAME: dict[str, Callable[[str], bool]] = {
    "metadata": is_metadata,
    "interop": lambda path: _INTEROP.fullmatch(path) is not None,
    "fastq": lambda path: _FASTQ.fullmatch(path) is not None,
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a run. `text` is what the user gave."""

    text: str
    matches: Callable[[str, str], bool]  # takes a run's id and a path in the run


def parse_part(text: str) -> Part:
    """Return the part of a run with this name or pattern. Raises UsageError."""
    if not text:  # a pattern that is found in every path
        raise UsageError("--only is empty (is a variable not set?)", id="usage.bad-part")
    if named := _PARTS_BY_NAME.get(text.lower()):
        return Part(text, lambda _run_id, path: named(path))
    if numbered := _NUMBERED.fullmatch(text.lower()):
        numbers = "|".join(numbered[2].split(","))
        is_in = _lanes(numbers) if numbered[1] == "lane" else re.compile(rf"Analysis/({numbers})/")
        return Part(text, lambda _run_id, path: is_in.search(path) is not None)
    if re.fullmatch(r"(lane|analysis)=.*", text, re.IGNORECASE | re.DOTALL):
        raise UsageError(f"--only {printable(text)}: give numbers, such as lane=1,2 or analysis=1", id="usage.bad-part")
    try:
        pattern = Pattern(text)
    except ValueError as error:
        raise UsageError(
            f"--only {printable(text)} is not a regular expression ({error}); correct it, or give metadata, interop,"
            " fastq, lane=1,2 or analysis=1",
            id="usage.bad-part",
        ) from None
    return Part(text, lambda run_id, path: pattern.search(f"{run_id}/{path}"))


def _lanes(numbers: str) -> re.Pattern[str]:
    """Return a pattern of the files of some lanes: in a folder `L001`, of `_L001_` in FASTQ names, or `s_1_1101`."""
    return re.compile(rf"(^|/)L00({numbers})(/|_)|_L00({numbers})[_.]|(^|/)s_({numbers})[_.][^/]*$")
