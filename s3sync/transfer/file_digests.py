"""Compute ETags and checksums of single files, beyond those that every file is hashed for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from s3sync.aws import digests
from s3sync.aws import etag as aws_etag
from s3sync.runs import LocalFile, Run
from s3sync.signals import StopRequest


class FileDigests:
    """Reads files of one run in the thread of the caller. It is the evidence that proofs may need.

    Methods that read a file raise OSError and StoppedError.
    """

    def __init__(self, run: Run, multipart: aws_etag.Multipart, stop: StopRequest) -> None:
        self.run = run
        self.stop = stop
        self._multipart = multipart

    def match_other_part_size(self, file: LocalFile, etag: str) -> str | None:
        """Return this ETag if the file has it with parts of another size than ours; None if not."""
        ours = self.part_size(file.size)
        others = [part_size for part_size in aws_etag.likely_part_sizes(file.size, etag) if part_size != ours]
        return etag if others and self.has_etag(file, etag, others) else None

    def has_etag(self, file: LocalFile, etag: str, part_sizes: Iterable[digests.Split]) -> bool:
        """Return whether the file has this ETag with parts of one of these sizes."""
        found = digests.expected_etags(self.run.path / file.path, part_sizes, self._stop_if_requested)
        return etag in found.values()

    def checksum(self, file: LocalFile, name: str) -> digests.Sums:
        """Return a checksum of the whole file, and the one composed of its parts."""
        part_size = self.part_size(file.size)
        return digests.expected_checksum(self.run.path / file.path, name, part_size, self._stop_if_requested)

    def composed_checksum(self, file: LocalFile, name: str, part_sizes: tuple[int, ...]) -> str:
        """Return the checksum composed of the checksums of parts of these sizes."""
        return digests.expected_checksum(self.run.path / file.path, name, part_sizes, self._stop_if_requested).composed

    def part_size(self, size: int) -> int | None:
        """Return the size of the parts of a file of this size, in bytes; None if it is sent with one PUT."""
        return self._multipart.part_size_for(size)

    def fallback_etags(self, files: Sequence[LocalFile]) -> dict[str, str]:
        """Return the ETags of readable files whose CRC-32 could not be compared, by path."""
        found = {}
        for file in files:
            part_size = self.part_size(file.size)
            with contextlib.suppress(OSError):
                etags = digests.expected_etags(self.run.path / file.path, (part_size,), self._stop_if_requested)
                found[file.path] = etags[part_size]
        return found

    def _stop_if_requested(self, _size: int) -> None:
        self.stop.raise_if_requested()
