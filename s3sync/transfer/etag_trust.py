"""Find out whether the ETags of a server are MD5s of the bytes, as in S3, or say nothing about them.

Many S3-compatible servers give objects of several parts, or all objects, ETags of another kind. Whether an unexpected
ETag means other bytes is found out once for each kind, by reading one object back. Before that has shown the bytes of
the disk, and as soon as any ETag of the kind was an MD5, an unexpected ETag is a mismatch.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from s3sync.aws import diagnosis, etag, objects
from s3sync.aws.digests import Split
from s3sync.errors import Notice
from s3sync.runs import LocalFile
from s3sync.state import Proof
from s3sync.text import printable
from s3sync.transfer.proof import Evidence, Mismatch, composed_checksums, kind_of, prove_object

_OF_UNSAID_PARTS = ("multipart, -0", "multipart, -1")  # of servers that do not give the number of parts
_MAX_VAIN = 4  # objects of a kind of ETags whose parts are asked for, if none is proven by that
CONTENT = "content"  # in `Proof.verified_by`: the object was read back, and has the bytes of the disk

PartSize = Callable[[int], "int | None"]  # by the size of a file
MayTrust = Callable[[LocalFile, objects.RemoteObject], bool]


class PartEvidence(Evidence, Protocol):
    """Computes ETags and checksums also for parts of given sizes; all methods raise OSError."""

    def has_etag(self, file: LocalFile, etag: str, part_sizes: Iterable[Split]) -> bool: ...

    def composed_checksum(self, file: LocalFile, name: str, part_sizes: tuple[int, ...]) -> str: ...


class EtagTrust:
    """What is known about the ETags of one destination. `opaque` are the kinds that are known not to be MD5s."""

    def __init__(self, opaque: Collection[str] = (), say: Callable[[str], None] = lambda _line: None) -> None:
        self.opaque = set(opaque)
        self._md5s: set[str] = set()
        self._said = False
        self._say = say

    def are_md5s(self, kind: str) -> bool:
        """Return whether an ETag of this kind was seen to be the MD5 of its object."""
        return kind in self._md5s

    def saw(self, proof: Proof) -> None:
        """Remember what a proof says about the ETags of its kind."""
        if proof.verified_by == "etag":
            kind = kind_of(proof.etag, proof.etag)
            self._md5s.add(kind)
            self.opaque.discard(kind)

    def forget(self) -> None:
        """Forget what is known: the server may be another one."""
        self.opaque.clear()

    def found_opaque(self, kind: str, path: str) -> None:
        """Remember that this object has the right bytes, and an ETag that is not their MD5."""
        self.opaque.add(kind)
        if not self._said:
            self._said = True
            text = (
                f"this server's ETags are no MD5s (found by reading {printable(path)} back), and it has no"
                " checksums: files are compared by size and number of parts; the log says `size`"
            )
            self._say(Notice(text, id="s3.no-evidence").line)


class Judge:
    """Decides which files of one destination S3 holds, with what is known about its ETags."""

    def __init__(
        self,
        reader: objects.ObjectReader,
        evidence: PartEvidence,
        trust: EtagTrust,
        part_size: PartSize,
        may_trust: MayTrust,
    ) -> None:
        """`may_trust` says for which objects the size is a proof where ETags are opaque: our own uploads."""
        self._reader = reader
        self._evidence = evidence
        self._trust = trust
        self._part_size = part_size
        self._may_trust = may_trust

    def verdicts(
        self, seen: Mapping[LocalFile, objects.ObjectState], expected: Mapping[str, str], *, by_size: bool = False
    ) -> dict[LocalFile, Proof | str]:
        """Return the proof of each file, or why there is none. `expected` are ETags by path; `by_size` ignores them.

        Raises StoppedError.
        """
        found = self._verdicts(seen, expected, by_size=by_size)
        unsettled = [file for file, verdict in found.items() if _needs_head(file, seen[file], verdict)]
        if unsettled:  # a listing does not say whether they are encrypted, or have checksums
            closer = self._reader.head_each(unsettled)
            found.update(self._verdicts({file: closer[file.path] for file in unsettled}, expected, by_size=by_size))
        return found

    def _verdicts(
        self, seen: Mapping[LocalFile, objects.ObjectState], expected: Mapping[str, str], *, by_size: bool
    ) -> dict[LocalFile, Proof | str]:
        found: dict[LocalFile, Proof | str] = {}
        for file, item in sorted(
            seen.items(), key=lambda pair: _is_plain_match(pair[0], pair[1], expected), reverse=True
        ):
            found[file] = verdict = self._judge(file, item, None if by_size else expected.get(file.path))
            if isinstance(verdict, Proof):
                self._trust.saw(verdict)
        if not by_size:
            self._prove_by_parts(seen, expected, found)
        for kind, files in _by_kind(found):
            self._decide_by_kind(kind, files, seen, expected, found)
        return found

    def _prove_by_parts(
        self,
        seen: Mapping[LocalFile, objects.ObjectState],
        expected: Mapping[str, str],
        found: dict[LocalFile, Proof | str],
    ) -> None:
        """Prove files that S3 has in parts of a size that no rule yields: it is asked for the sizes.

        That stops for ETags of a kind if the first ones prove nothing, and none is known to be an MD5.
        """
        vain: Counter[str] = Counter()
        for file, verdict in found.items():
            item = seen[file]
            if not isinstance(item, objects.RemoteObject) or not _may_have_other_parts(file, item, verdict):
                continue
            kind = kind_of(item.etag, expected.get(file.path, ""))
            is_opaque = kind in self._trust.opaque or (vain[kind] >= _MAX_VAIN and not self._trust.are_md5s(kind))
            if is_opaque and not item.opaque_etag:
                continue
            if proof := self._proof_by_parts(file, item):
                found[file] = proof
                self._trust.saw(proof)
                vain.pop(kind, None)
            else:
                vain[kind] += 1

    def _proof_by_parts(self, file: LocalFile, item: objects.RemoteObject) -> Proof | None:
        """Return the proof that S3 holds this file in parts of unusual sizes; None if there is none."""
        tried = {self._part_size(file.size), *etag.likely_part_sizes(file.size, item.etag)}
        with contextlib.suppress(OSError):
            for sizes in self._reader.part_sizes(file.path, item):
                first, *others = sizes
                is_tried = first in tried and set(others[:-1]) <= {first} and others[-1] <= first
                if not item.opaque_etag and not is_tried and self._evidence.has_etag(file, item.etag, [sizes]):
                    return Proof.of(file, item.etag, "etag")
                for name, value in composed_checksums(file, item):
                    if self._evidence.composed_checksum(file, name, sizes) == value:
                        return Proof.of(file, item.etag, "checksum")
        return None

    def _judge(self, file: LocalFile, seen: objects.ObjectState, expected: str | None) -> Proof | str:
        try:
            verdict = prove_object(file, seen, expected, self._evidence, self._trust.are_md5s)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if isinstance(verdict, str) or verdict.verified_by != "size" or expected is None:
            return verdict
        if isinstance(seen, objects.RemoteObject) and not self._may_trust(
            file, seen
        ):  # it may be any object of that size
            return f"S3 has an object of this size, and neither an MD5 nor a checksum to compare: ETag {seen.etag}"
        return verdict

    def _decide_by_kind(
        self,
        kind: str,
        files: Sequence[LocalFile],
        seen: Mapping[LocalFile, objects.ObjectState],
        expected: Mapping[str, str],
        found: dict[LocalFile, Proof | str],
    ) -> None:
        """Decide about files whose ETags, all of one kind, differ."""
        known = [(file, item) for file in files if isinstance(item := seen[file], objects.RemoteObject)]
        ours = [(file, item) for file, item in known if self._may_trust(file, item)]
        if not ours or self._trust.are_md5s(kind):
            return
        if kind.startswith("multipart, -") and kind not in _OF_UNSAID_PARTS:  # parts that we have not sent
            return
        if kind not in self._trust.opaque:
            file, item = min(ours, key=lambda pair: pair[0].size or float("inf"))  # an empty one shows nothing
            found[file] = verdict = self._read_back(file, item, expected[file.path])
            if not isinstance(verdict, Proof):
                return
            if file.size:
                self._trust.found_opaque(kind, file.path)
        for file, item in ours:
            if isinstance(found[file], Mismatch):
                found[file] = Proof.of(file, item.etag, "size")

    def _read_back(self, file: LocalFile, item: objects.RemoteObject, expected: str) -> Proof | str:
        part_sizes = {self._part_size(file.size), *etag.likely_part_sizes(file.size, expected)}
        content = self._reader.etags_of_content(file.path, part_sizes)
        if isinstance(content, objects.Unknown):
            why = "it is frozen in an archive" if diagnosis.is_frozen([content.reason]) else content.reason
            return f"S3 has other bytes, or ETags that are no MD5s: it could not be read back ({why})"
        if expected not in content:
            return f"S3 has other bytes: ETag {item.etag}, not {expected}; they were read back and differ"
        return Proof.of(file, item.etag, CONTENT)


def _is_plain_match(file: LocalFile, seen: objects.ObjectState, expected: Mapping[str, str]) -> bool:
    """Return whether the ETag matches. Such files come first, because they reveal the kind of the ETags."""
    return isinstance(seen, objects.RemoteObject) and seen.etag == expected.get(file.path)


def _may_have_other_parts(file: LocalFile, seen: objects.RemoteObject, verdict: Proof | str) -> bool:
    """Return whether the sizes of an object's parts may prove it, of which a listing does not say enough."""
    if seen.listed or seen.size != file.size or etag.number_of_parts(seen.etag) < 2:
        return False
    if isinstance(verdict, Proof) and verdict.verified_by != "size":
        return False
    return not seen.opaque_etag or bool(composed_checksums(file, seen))


def _needs_head(file: LocalFile, seen: objects.ObjectState, verdict: Proof | str) -> bool:
    """Return whether only the ETag of a listing says that a file is not proven."""
    return (
        isinstance(seen, objects.RemoteObject)
        and seen.listed
        and seen.size == file.size
        and not isinstance(verdict, Proof)
    )


def _by_kind(found: Mapping[LocalFile, Proof | str]) -> Iterator[tuple[str, list[LocalFile]]]:
    kinds: dict[str, list[LocalFile]] = {}
    for file, verdict in found.items():
        if isinstance(verdict, Mismatch):
            kinds.setdefault(verdict.kind, []).append(file)
    yield from kinds.items()
