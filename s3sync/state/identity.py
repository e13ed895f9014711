"""Decide which folder a state log belongs to: always the same one, even after it was moved or mounted elsewhere.

Runs are named by their folders, so two folders of one name would share a log and the keys in S3. Nothing here writes.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from s3sync import files
from s3sync.runs import LocalFile, Run, local_files
from s3sync.state.run_state import Proof, RunState
from s3sync.text import pluralize, printable

_SAMPLED = 16  # files whose bytes are compared with the log, besides small ones in the root of the run
_MOST_SAMPLED_BYTES = 8 * 1024 * 1024  # a larger file may have been sent in parts, and its ETag is no MD5
_MD5_CHARS = 32
# Files that instruments and people still change while a run is uploaded, and later.
_MAY_CHANGE = re.compile(
    r"(InterOp/.*|(.*/)?[^/]*sample[-_ ]?sheet[^/]*\.csv|(.*/)?[^/]*logs?/.*|.*\.log|Manifest\.tsv"
    r"|(.*/)?((RTA|Copy|Sequence)Complete[^/]*|RunCompletionStatus\.xml))",
    re.IGNORECASE | re.DOTALL,
)


class Presence(NamedTuple):
    """Whether a folder that a log names exists; `unknown`, with the reason, if that cannot be determined."""

    state: Literal["here", "gone", "unknown"]
    why: str = ""


class Claim(NamedTuple):
    """Whether a folder may use a log: it is its `own`, it was `moved` here, or it belongs to `another` folder.

    `reason` is for people: where the folder was, or why it may not use the log.
    """

    kind: Literal["own", "moved", "another"]
    reason: str = ""


OWN = Claim("own")


def find_presence(path: str, numbers: Sequence[int] = (), beside: str = "") -> Presence:
    """Return whether there is a folder at a path.

    A folder that cannot be examined is not gone, nor is one whose file system may not be mounted: that leaves an empty
    mount point. `numbers` are those of the folder in its log (`local_files.read_folder_numbers`). For a log without
    them, the device of the folder `beside` it decides.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return Presence("gone")
        if os.listdir(path):
            return Presence("here")
        is_known = bool(numbers) and status.st_dev == numbers[0]
        return Presence("gone") if is_known else Presence("unknown", f"{printable(path)} is empty: is it mounted?")
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            return Presence("unknown", f"{printable(path)} is a dangling link: is that mounted?")
    except OSError as error:
        return Presence("unknown", f"cannot examine {printable(path)}: {error.strerror}")
    return _find_presence_by_parent(os.path.dirname(path), numbers, beside)


def _find_presence_by_parent(parent: str, numbers: Sequence[int], beside: str) -> Presence:
    """Compare by the directory that held the folder, which shows whether the file system is there."""
    try:
        device = _device(parent)
        if device is None:  # a log without numbers may be of a container, whose paths mean nothing here
            if not numbers or _device(_nearest(parent)) == numbers[2]:
                return Presence("gone")
            return Presence("unknown", f"{printable(parent)} does not exist: is it mounted?")
        same = numbers[2] if numbers else _device(beside) if beside else None
        with os.scandir(parent) as entries:
            if device == same or any(entry.is_dir(follow_symlinks=False) for entry in entries):
                return Presence("gone")
    except OSError as error:
        return Presence("unknown", f"cannot read {printable(parent)}: {error.strerror}")
    return Presence("unknown", f"{printable(parent)} is empty: is it mounted?")


def _device(path: str) -> int | None:
    """Return the device of a path; None if nothing is there. Raises OSError if that cannot be determined."""
    try:
        return os.stat(path).st_dev
    except (FileNotFoundError, NotADirectoryError):
        return None


def _nearest(path: str) -> str:
    """Return the lowest directory above that exists."""
    while path != os.path.dirname(path) and not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def is_absolute_path(text: str) -> bool:
    """Return whether a text from a log can be the absolute path of a folder."""
    try:
        return os.path.isabs(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def is_same_folder(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths lead to one folder: by spelling, by links, or by mounting it twice."""
    if os.path.normpath(one) == os.path.normpath(other) or os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        return False


def group_by_folder(folders: Iterable[Path]) -> list[list[Path]]:
    """Return the paths in groups, one for each real folder; the folder's own path comes before links."""
    groups: list[list[Path]] = []
    for folder in folders:
        group = next((group for group in groups if is_same_folder(group[0], folder)), None)
        if group is None:
            groups.append([folder])
        else:
            group.append(folder)
    return [sorted(group, key=os.path.islink) for group in groups]


def check_claim(
    run: Run,
    recorded: str,
    numbers: Sequence[int],
    others: Sequence[Path],
    load: Callable[[], tuple[local_files.Listing, RunState | None]],
) -> Claim:
    """Return whether a folder may use the log that was written for the folder at the path `recorded`.

    `others` are more folders of this name. The listing and the state are loaded only if the old path is gone, or if
    that cannot be seen and the folder has the same inode: then its file system was mounted elsewhere. Raises what
    `load` raises.
    """
    if not is_absolute_path(recorded) or is_same_folder(recorded, run.path):  # a relative path says nothing
        return OWN
    old = printable(recorded)
    there = find_presence(recorded, numbers, os.path.dirname(run.path))
    if there.state == "here":
        return Claim("another", f"the state log and the objects in S3 belong to {old}, which still exists")
    if there.state == "unknown" and local_files.read_folder_numbers(run.path)[1:2] != tuple(numbers[1:2]):
        return Claim("another", f"the state log belongs to {old}, and it is unknown whether that is gone: {there.why}")
    if others:
        return Claim("another", f"the state log belongs to {old}, which is gone, and {_several([run.path, *others])}")
    listing, state = load()
    if why := explain_difference(run, listing, state.verified if state else {}):
        return Claim("another", f"the state log belongs to {old}, which is gone, and this is another run: {why}")
    return Claim("moved", old)


def claim_without_log(run: Run, others: Sequence[Path]) -> Claim:
    """Explain why several folders may not be uploaded: no log says which of them has the name."""
    return Claim("another", _several([run.path, *others])) if others else OWN


def _several(folders: Sequence[Path]) -> str:
    names = sorted(printable(str(folder)) for folder in folders)
    return f"{' and '.join(names)} have the same name and destination, so none of them is uploaded"


def explain_difference(run: Run, listing: local_files.Listing, verified: Mapping[str, Proof]) -> str:
    """Return why the files of a folder are not those that were verified; empty if they may be.

    Compares the sizes of all files and the bytes of some. Files that people and tools change later (samplesheets,
    InterOp) may differ, and files may have been added or removed.
    """
    if not verified:
        return ""
    both = [(file, verified[file.path]) for file in listing.files if file.path in verified]
    if not both:
        return f"it has none of the {pluralize(len(verified), 'file')} in the log"
    lasting = [(file, proof) for file, proof in both if not _MAY_CHANGE.fullmatch(file.path)]
    changed = [file.path for file, proof in lasting if proof.size not in (-1, file.size)]
    changed = changed or [file.path for file, proof in _sample(lasting) if _has_other_bytes(run, file, proof)]
    if not changed:
        return ""
    more = f", and {len(changed) - 1:,} more" if len(changed) > 1 else ""
    return f"it has other bytes in {printable(changed[0])}{more}"


def _sample(both: Sequence[tuple[LocalFile, Proof]]) -> list[tuple[LocalFile, Proof]]:
    """Return some files whose bytes an MD5 can prove, and whose times are not those that were verified."""
    able = [
        (file, proof)
        for file, proof in both
        if not proof.is_of(file) and file.size < _MOST_SAMPLED_BYTES and _is_md5(proof)
    ]
    own = [(file, proof) for file, proof in able if "/" not in file.path][:_SAMPLED]
    rest = [(file, proof) for file, proof in able if "/" in file.path]
    return [*own, *rest[:: max(1, len(rest) // _SAMPLED)]]


def _is_md5(proof: Proof) -> bool:
    return len(proof.etag) == _MD5_CHARS and proof.verified_by in ("etag", "predecessor")


def _has_other_bytes(run: Run, file: LocalFile, proof: Proof) -> bool:
    try:
        content = files.read_limited(run.path / file.path, _MOST_SAMPLED_BYTES)
    except OSError:
        return False  # the upload reports it
    return hashlib.md5(content, usedforsecurity=False).hexdigest() != proof.etag.lower()
