"""Verify files by ETags, on servers whose ETags may not be MD5s.

Whether an unexpected ETag means other bytes is found out once for each kind of ETag, by reading one object back. Until
that has shown the bytes of the disk, and as soon as any ETag of the kind is an MD5, an unexpected ETag is a mismatch.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from s3sync.aws import diagnosis, etag, objects
from s3sync.aws.digests import Split
from s3sync.runs import LocalFile
from s3sync.state import Proof
from s3sync.transfer.etag_trust import EtagTrust
from s3sync.transfer.proof import Evidence, Mismatch, composed_checksums, kind_of, verify_object

_WITHOUT_PART_COUNT = ("multipart, -0", "multipart, -1")  # kinds of ETags of servers that leave out the number of parts
_MAX_FUTILE = 4  # objects of a kind of ETags whose parts are requested, if that proves nothing
CONTENT = "content"  # in `Proof.verified_by`: the object was read back, and has the bytes of the disk

MayTrust = Callable[[LocalFile, objects.RemoteObject], bool]


class PartEvidence(Evidence, Protocol):
    """Computes ETags and checksums for parts of given sizes, too. Methods that read a file raise OSError."""

    def has_etag(self, file: LocalFile, etag: str, part_sizes: Iterable[Split]) -> bool: ...

    def composed_checksum(self, file: LocalFile, name: str, part_sizes: tuple[int, ...]) -> str: ...

    def part_size(self, size: int) -> int | None: ...


class EtagVerifier:
    """Verifies files by the ETags of their objects, if the ETags of the destination can be trusted."""

    def __init__(
        self, reader: objects.ObjectReader, evidence: PartEvidence, trust: EtagTrust, may_trust: MayTrust
    ) -> None:
        """`may_trust` returns whether an object is verified by its size where ETags are opaque, as our uploads are."""
        self._reader = reader
        self._evidence = evidence
        self._trust = trust
        self._may_trust = may_trust

    def verify(
        self, seen: Mapping[LocalFile, objects.ObjectState], expected: Mapping[str, str], *, by_size: bool = False
    ) -> dict[LocalFile, Proof | str]:
        """Return the proof of each file, or why there is none. `expected` are ETags by path; `by_size` ignores them.

        Raises StoppedError.
        """
        found = self._verdicts(seen, expected, by_size=by_size)
        undecided = [file for file, verdict in found.items() if _needs_head(file, seen[file], verdict)]
        if undecided:  # a listing does not show encryption or checksums
            closer = self._reader.head_each(undecided)
            found.update(self._verdicts({file: closer[file.path] for file in undecided}, expected, by_size=by_size))
        return found

    def _verdicts(
        self, seen: Mapping[LocalFile, objects.ObjectState], expected: Mapping[str, str], *, by_size: bool
    ) -> dict[LocalFile, Proof | str]:
        found: dict[LocalFile, Proof | str] = {}
        for file, item in sorted(
            seen.items(), key=lambda pair: _is_plain_match(pair[0], pair[1], expected), reverse=True
        ):
            found[file] = verdict = self._verify_one(file, item, None if by_size else expected.get(file.path))
            if isinstance(verdict, Proof):
                self._trust.learn_from(verdict)
        if not by_size:
            self._verify_by_parts(seen, expected, found)
        for kind, files in _by_kind(found):
            self._decide_by_kind(kind, files, seen, expected, found)
        return found

    def _verify_by_parts(
        self,
        seen: Mapping[LocalFile, objects.ObjectState],
        expected: Mapping[str, str],
        found: dict[LocalFile, Proof | str],
    ) -> None:
        """Verify files that S3 has in parts of unusual sizes, for which it is asked.

        This ends for a kind of ETags if the first few prove nothing, and none is known to be an MD5.
        """
        futile: Counter[str] = Counter()
        for file, verdict in found.items():
            item = seen[file]
            if not isinstance(item, objects.RemoteObject) or not _may_have_other_parts(file, item, verdict):
                continue
            kind = kind_of(item.etag, expected.get(file.path, ""))
            is_opaque = kind in self._trust.opaque or (futile[kind] >= _MAX_FUTILE and not self._trust.are_md5s(kind))
            if is_opaque and not item.opaque_etag:
                continue
            is_md5 = self._trust.are_md5s(kind) and not item.opaque_etag
            if proof := self._proof_by_parts(file, item, by_checksum=not is_md5):
                found[file] = proof
                self._trust.learn_from(proof)
                futile.pop(kind, None)
            else:
                futile[kind] += 1

    def _proof_by_parts(self, file: LocalFile, item: objects.RemoteObject, *, by_checksum: bool) -> Proof | None:
        """Return the proof that S3 holds this file in parts of unusual sizes; None if there is none.

        An ETag that must be an MD5 decides, so a checksum is no proof beside it.
        """
        tried = {self._evidence.part_size(file.size), *etag.likely_part_sizes(file.size, item.etag)}
        with contextlib.suppress(OSError):
            for sizes in self._reader.part_sizes(file.path, item):
                first, *others = sizes
                is_tried = first in tried and set(others[:-1]) <= {first} and others[-1] <= first
                if not item.opaque_etag and not is_tried and self._evidence.has_etag(file, item.etag, [sizes]):
                    return Proof.of(file, item.etag, "etag")
                for name, value in composed_checksums(file, item) if by_checksum else ():
                    if self._evidence.composed_checksum(file, name, sizes) == value:
                        return Proof.of(file, item.etag, "checksum")
        return None

    def _verify_one(self, file: LocalFile, seen: objects.ObjectState, expected: str | None) -> Proof | str:
        try:
            verdict = verify_object(file, seen, expected, self._evidence, self._trust.are_md5s)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if isinstance(verdict, str) or verdict.verified_by != "size" or expected is None:
            return verdict
        if isinstance(seen, objects.RemoteObject) and not self._may_trust(file, seen):  # any object may have that size
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
        """Decide about files whose ETags are of one kind, and differ from the expected ones."""
        known = [(file, item) for file in files if isinstance(item := seen[file], objects.RemoteObject)]
        ours = [(file, item) for file, item in known if self._may_trust(file, item)]
        if not ours or self._trust.are_md5s(kind):
            return
        if kind.startswith("multipart, -") and kind not in _WITHOUT_PART_COUNT:  # not in the parts that we send
            return
        if kind not in self._trust.opaque:
            file, item = min(ours, key=lambda pair: pair[0].size or float("inf"))  # an empty one proves nothing
            found[file] = verdict = self._read_back(file, item, expected[file.path])
            if not isinstance(verdict, Proof):
                return
            if file.size:
                self._trust.mark_opaque(kind, file.path)
        for file, item in ours:
            if isinstance(found[file], Mismatch):
                found[file] = Proof.of(file, item.etag, "size")

    def _read_back(self, file: LocalFile, item: objects.RemoteObject, expected: str) -> Proof | str:
        part_sizes = {self._evidence.part_size(file.size), *etag.likely_part_sizes(file.size, expected)}
        content = self._reader.etags_of_content(file.path, part_sizes)
        if isinstance(content, objects.Unknown):
            why = "it is frozen in an archive" if diagnosis.is_frozen([content.reason]) else content.reason
            return f"S3 has other bytes, or ETags that are not MD5s: it could not be read back ({why})"
        if expected not in content:
            return f"S3 has other bytes: ETag {item.etag}, not {expected}; they were read back and differ"
        return Proof.of(file, item.etag, CONTENT)


def _is_plain_match(file: LocalFile, seen: objects.ObjectState, expected: Mapping[str, str]) -> bool:
    """Return whether the ETag matches. Such files come first, because they show that ETags are MD5s."""
    return isinstance(seen, objects.RemoteObject) and seen.etag == expected.get(file.path)


def _may_have_other_parts(file: LocalFile, seen: objects.RemoteObject, verdict: Proof | str) -> bool:
    """Return whether the sizes of an object's parts may verify it; a listing does not show enough for that."""
    if seen.listed or seen.size != file.size or etag.number_of_parts(seen.etag) < 2:
        return False
    if isinstance(verdict, Proof) and verdict.verified_by != "size":
        return False
    return not seen.opaque_etag or bool(composed_checksums(file, seen))


def _needs_head(file: LocalFile, seen: objects.ObjectState, verdict: Proof | str) -> bool:
    """Return whether a file is unverified only by the ETag in a listing."""
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
