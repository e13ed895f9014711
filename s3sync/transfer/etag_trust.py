"""Remember whether the ETags of a server are MD5s of the bytes, as in S3.

Many S3-compatible servers give objects of several parts, or all objects, ETags of another kind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from s3sync.errors import Notice
from s3sync.state import Proof
from s3sync.text import printable
from s3sync.transfer.proof import kind_of


class EtagTrust:
    """Remembers which kinds of ETags of one destination are MD5s; those in `opaque` are known not to be."""

    def __init__(self, opaque: Collection[str] = (), show: Callable[[str], None] = lambda _line: None) -> None:
        self.opaque = set(opaque)
        self._md5s: set[str] = set()
        self._has_warned = False
        self._show = show

    def are_md5s(self, kind: str) -> bool:
        """Return whether an ETag of this kind was found to be the MD5 of its object."""
        return kind in self._md5s

    def learn_from(self, proof: Proof) -> None:
        """Remember that ETags of this kind are MD5s, if that is what the proof shows."""
        if proof.verified_by == "etag":
            kind = kind_of(proof.etag, proof.etag)
            self._md5s.add(kind)
            self.opaque.discard(kind)

    def forget(self) -> None:
        """Forget the kinds that are not MD5s: the server may be another one now."""
        self.opaque.clear()

    def mark_opaque(self, kind: str, path: str) -> None:
        """Remember that an object of this kind has the right bytes, and an ETag that is not their MD5."""
        self.opaque.add(kind)
        if not self._has_warned:
            self._has_warned = True
            text = (
                f"this server's ETags are not MD5s (found by reading {printable(path)} back), and it has no"
                " checksums: files are compared by size and number of parts; the log says `size`"
            )
            self._show(Notice(text, id="s3.no-evidence").line)
