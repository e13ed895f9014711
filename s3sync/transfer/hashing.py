"""Hash files in threads: the ETags that S3 should have, MD5s, and the checksums that the instrument took."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from s3sync.aws import digests
from s3sync.aws import etag as aws_etag
from s3sync.runs import LocalFile, Run, analysis_manifest, local_files
from s3sync.signals import StopRequest

_TASK_BYTES = 64_000_000  # of a hashing task,
_TASK_FILES = 250  # or its files: one task for each file would cost 1 ms


class FileHashes(NamedTuple):
    """The hashes of a file: its ETag, without quotes, and the MD5 of the whole file if that was requested.

    `damage` says why it must not be uploaded: its CRC-32 is not the one that the instrument took. With `sums`, the file
    is to be proven by its CRC-32, and `etag` is empty.
    """

    etag: str
    md5: str | None
    damage: str = ""
    sums: digests.Crc32Sums | None = None


def _never(_file: LocalFile) -> bool:
    return False


class Hasher:
    """Computes expected ETags, and MD5s if requested, in threads; a task has many small files.

    `expected` has the CRC-32 that files must have, by path. Of files that `uses_checksum` it computes the CRC-32 alone.
    """

    def __init__(
        self,
        run: Run,
        multipart: aws_etag.Multipart,
        stop: StopRequest,
        threads: int,
        *,
        md5: bool = False,
        expected: analysis_manifest.Checksums | None = None,
        turn: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        uses_checksum: Callable[[LocalFile], bool] = _never,
    ) -> None:
        """`turn` is entered for each task, and may wait until other uploads leave room for it."""
        self.files = 0  # that were read so far, and
        self.size = 0  # their bytes
        self._run = run
        self._multipart = multipart
        self._stop = stop
        self._md5 = md5
        self._expected = expected or {}
        self._turn = turn
        self._uses_checksum = uses_checksum
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="hash")
        self._tasks: dict[LocalFile, Future[dict[str, FileHashes]]] = {}
        self._counting = threading.Lock()

    def start(
        self, files: Iterable[LocalFile], in_s3: Mapping[str, str] | None = None, *, etags_only: bool = False
    ) -> None:
        """Start to hash files whose hashes will be needed soon.

        `in_s3` are the ETags that S3 has, by path: they reveal parts of another size than ours. With `etags_only`, also
        files that are to be proven by their CRC-32 get an ETag instead.
        """
        for group in _groups(file for file in files if file not in self._tasks):
            future = self._pool.submit(self._hash, group, in_s3 or {}, etags_only=etags_only)
            self._tasks.update(dict.fromkeys(group, future))

    @property
    def has_expected_crc(self) -> bool:
        """Return whether files have to be read before they are sent, because the instrument took checksums."""
        return bool(self._expected)

    def find_corrupted(self, files: Sequence[LocalFile]) -> dict[str, str]:
        """Return the reason for each file whose CRC-32 is wrong, by path. The hashes are kept for `hashed`.

        Raises StoppedError.
        """
        if not self.has_expected_crc:
            return {}
        self.start(files)
        read = {file.path: self._tasks[file].result().get(file.path) for file in files}
        return {path: hashed.damage for path, hashed in read.items() if hashed and hashed.damage}

    def etags(self, files: Sequence[LocalFile]) -> dict[str, str]:
        """Return ETags by path, without those of unreadable or corrupted files. Raises StoppedError."""
        self.start(files, etags_only=True)
        return {path: hashed.etag for path, hashed in self.hashed(files).items() if not hashed.damage}

    def fallback_etags(self, files: Sequence[LocalFile]) -> dict[str, str]:
        """Return the ETags of files whose CRC-32 could not be compared, by path. Raises StoppedError."""
        found = {}
        for file in files:
            part_size = self._multipart.part_size_for(file.size)
            with contextlib.suppress(OSError):
                etags = digests.expected_etags(self._run.path / file.path, (part_size,), self._stop_if_asked)
                found[file.path] = etags[part_size]
        return found

    def hashed(self, files: Sequence[LocalFile]) -> dict[str, FileHashes]:
        """Return the hashes of each readable file, by path. Raises StoppedError."""
        self.start(files)
        results = {file.path: self._tasks.pop(file).result() for file in files}
        return {path: hashed[path] for path, hashed in results.items() if path in hashed}

    def match_other_part_size(self, file: LocalFile, etag: str) -> str | None:
        """Return this ETag if the file has it with parts of another size than ours; else None.

        Raises OSError, StoppedError.
        """
        ours = self._multipart.part_size_for(file.size)
        others = [part_size for part_size in aws_etag.likely_part_sizes(file.size, etag) if part_size != ours]
        if not others:
            return None
        etags = digests.expected_etags(self._run.path / file.path, others, self._stop_if_asked)
        return etag if etag in etags.values() else None

    def has_etag(self, file: LocalFile, etag: str, part_sizes: Iterable[digests.Split]) -> bool:
        """Return whether the file has this ETag with parts of one of these sizes.

        Raises OSError, StoppedError.
        """
        found = digests.expected_etags(self._run.path / file.path, part_sizes, self._stop_if_asked)
        return etag in found.values()

    def crc32(self, file: LocalFile) -> digests.Crc32Sums:
        """Return the CRC32 of the whole file, and the one composed of its parts. Raises OSError, StoppedError."""
        part_size = self._multipart.part_size_for(file.size)
        return digests.expected_crc32(self._run.path / file.path, part_size, self._stop_if_asked)

    def checksum(self, file: LocalFile, name: str) -> tuple[str, str]:
        """Return another checksum of the file, in the same way. Raises OSError, StoppedError."""
        part_size = self._multipart.part_size_for(file.size)
        return digests.expected_checksum(self._run.path / file.path, name, part_size, self._stop_if_asked)

    def composed_checksum(self, file: LocalFile, name: str, part_sizes: tuple[int, ...]) -> str:
        """Return a checksum of the file, composed of those of parts of these sizes. Raises OSError, StoppedError."""
        path = self._run.path / file.path
        if name == "crc32":
            return digests.expected_crc32(path, part_sizes, self._stop_if_asked).composed
        return digests.expected_checksum(path, name, part_sizes, self._stop_if_asked)[1]

    def part_size(self, size: int) -> int | None:
        """Return the size of the parts of a file of that size; None if it is sent with one PUT."""
        return self._multipart.part_size_for(size)

    def close(self) -> None:
        """Drop the work that has not begun."""
        self._pool.shutdown(cancel_futures=True)

    def _hash(self, files: Sequence[LocalFile], in_s3: Mapping[str, str], *, etags_only: bool) -> dict[str, FileHashes]:
        hashed = {}
        with self._turn():
            for file in files:
                with contextlib.suppress(OSError):  # gone or unreadable: the stat that follows says so
                    if self._uses_checksum(file) and not etags_only:
                        hashed[file.path] = self._take_crc32(file)
                    else:
                        hashed[file.path] = self._hash_one(file, in_s3.get(file.path, ""))
                with self._counting:
                    self.files += 1
        return hashed

    def _take_crc32(self, file: LocalFile) -> FileHashes:
        """Read a file that is to be proven by its CRC-32."""
        part_size = self._multipart.part_size_for(file.size)
        computed = digests.compute_crc32(self._run.path / file.path, part_size, self._count)
        return FileHashes("", None, self._damage(file, computed.crc32, self._expected.get(file.path)), computed.sums)

    def _hash_one(self, file: LocalFile, theirs: str) -> FileHashes:
        """Hash a file in one reading; the parts are of our size unless S3 has another number of them."""
        ours = self._multipart.part_size_for(file.size)
        likely = aws_etag.likely_part_sizes(file.size, theirs) if theirs else []
        part_sizes = [ours] if ours in likely or not likely else likely
        wanted = [*part_sizes, None] if self._md5 else part_sizes
        crc32 = self._expected.get(file.path)
        computed = digests.compute_digests(self._run.path / file.path, wanted, self._count, crc32=crc32 is not None)
        etags = computed.etags
        etag = theirs if theirs in etags.values() else etags[part_sizes[0]]
        return FileHashes(etag, etags[None] if self._md5 else None, self._damage(file, computed.crc32, crc32))

    def _damage(self, file: LocalFile, found: int | None, expected: int | None) -> str:
        """Return why the CRC-32 is wrong; empty if it is right, or if the file changed while it was read."""
        if found is None or expected is None or found == expected or local_files.restat(self._run, file.path) != file:
            return ""
        return analysis_manifest.mismatch_reason(found, expected)

    def _count(self, size: int) -> None:
        self._stop.raise_if_requested()
        with self._counting:
            self.size += size

    def _stop_if_asked(self, _size: int) -> None:
        self._stop.raise_if_requested()


def _groups(files: Iterable[LocalFile]) -> Iterator[tuple[LocalFile, ...]]:
    group: list[LocalFile] = []
    size = 0
    for file in files:
        group.append(file)
        size += file.size
        if size >= _TASK_BYTES or len(group) >= _TASK_FILES:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)
