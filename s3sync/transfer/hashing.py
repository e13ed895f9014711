"""Hash files in threads: the ETags that S3 should have, MD5s, and the checksums that the instrument computed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from s3sync.aws import digests as aws_digests
from s3sync.aws import etag as aws_etag
from s3sync.runs import LocalFile, analysis_manifest, local_files
from s3sync.transfer.file_digests import FileDigests

# A task ends at one of these: a task for each file would cost 1 ms.
_TASK_BYTES = 64_000_000
_TASK_FILES = 250


class FileHashes(NamedTuple):
    """The hashes of a file: its ETag, without quotes, and the MD5 of the whole file if that was requested.

    `damage` is why it must not be uploaded: its CRC-32 is not the one that the instrument computed. With `sums`, the
    file is verified by its CRC-32, and `etag` is empty.
    """

    etag: str
    md5: str | None
    damage: str = ""
    sums: aws_digests.Sums | None = None


def _never(_file: LocalFile) -> bool:
    return False


class Hasher:
    """Computes expected ETags, and MD5s if requested, in threads; a task has many small files.

    `expected` maps paths to the CRC-32 that files must have. Where `uses_checksum` is true, it is all that is computed.
    """

    def __init__(
        self,
        digests: FileDigests,
        threads: int,
        *,
        md5: bool = False,
        expected: analysis_manifest.Checksums | None = None,
        turn: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        uses_checksum: Callable[[LocalFile], bool] = _never,
    ) -> None:
        """`turn` is entered for each task, and may wait until other uploads leave room for it."""
        self.digests = digests
        self.files = 0  # files read so far, and
        self.size = 0  # their bytes
        self._run = digests.run
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
        """Start to hash files whose hashes are needed soon.

        `in_s3` maps paths to the ETags that S3 has, which reveal parts of another size than ours. With `etags_only`,
        files that would be verified by their CRC-32 get an ETag instead.
        """
        for group in _split_into_tasks(file for file in files if file not in self._tasks):
            future = self._pool.submit(self._hash, group, in_s3 or {}, etags_only=etags_only)
            self._tasks.update(dict.fromkeys(group, future))

    @property
    def has_expected_crc(self) -> bool:
        """Return whether the instrument computed checksums, so that files are read before they are sent."""
        return bool(self._expected)

    def find_corrupted(self, files: Sequence[LocalFile]) -> dict[str, str]:
        """Return the reason for each file whose CRC-32 is wrong, by path. `hashed` returns their hashes later.

        Raises StoppedError.
        """
        if not self.has_expected_crc:
            return {}
        self.start(files)
        read = {file.path: self._tasks[file].result().get(file.path) for file in files}
        return {path: hashed.damage for path, hashed in read.items() if hashed and hashed.damage}

    def etags(self, files: Sequence[LocalFile]) -> dict[str, str]:
        """Return the ETags of readable, intact files, by path. Raises StoppedError."""
        self.start(files, etags_only=True)
        return {path: hashed.etag for path, hashed in self.hashed(files).items() if not hashed.damage}

    def hashed(self, files: Sequence[LocalFile]) -> dict[str, FileHashes]:
        """Return the hashes of each readable file, by path. Raises StoppedError."""
        self.start(files)
        results = {file.path: self._tasks.pop(file).result() for file in files}
        return {path: hashed[path] for path, hashed in results.items() if path in hashed}

    def close(self) -> None:
        """Cancel the tasks that have not started."""
        self._pool.shutdown(cancel_futures=True)

    def _hash(self, files: Sequence[LocalFile], in_s3: Mapping[str, str], *, etags_only: bool) -> dict[str, FileHashes]:
        hashed = {}
        with self._turn():
            for file in files:
                with contextlib.suppress(OSError):  # gone or unreadable, which a later stat reports
                    if self._uses_checksum(file) and not etags_only:
                        hashed[file.path] = self._take_crc32(file)
                    else:
                        hashed[file.path] = self._hash_one(file, in_s3.get(file.path, ""))
                with self._counting:
                    self.files += 1
        return hashed

    def _take_crc32(self, file: LocalFile) -> FileHashes:
        """Read a file that is verified by its CRC-32."""
        part_size = self.digests.part_size(file.size)
        sums = aws_digests.expected_checksum(self._run.path / file.path, "crc32", part_size, self._count)
        return FileHashes("", None, self._damage(file, sums.number, self._expected.get(file.path)), sums)

    def _hash_one(self, file: LocalFile, theirs: str) -> FileHashes:
        """Read a file once and hash it, in parts of our size unless S3 has another number of parts."""
        ours = self.digests.part_size(file.size)
        likely = aws_etag.likely_part_sizes(file.size, theirs) if theirs else []
        part_sizes = [ours] if ours in likely or not likely else likely
        wanted = [*part_sizes, None] if self._md5 else part_sizes
        path, crc32, damage = self._run.path / file.path, self._expected.get(file.path), ""
        if crc32 is None:
            etags = aws_digests.expected_etags(path, wanted, self._count)
        else:
            etags, found = aws_digests.expected_etags_and_crc32(path, wanted, self._count)
            damage = self._damage(file, found, crc32)
        etag = theirs if theirs in etags.values() else etags[part_sizes[0]]
        return FileHashes(etag, etags[None] if self._md5 else None, damage)

    def _damage(self, file: LocalFile, found: int, expected: int | None) -> str:
        """Return why the CRC-32 is wrong; empty if it is right, or if the file changed while it was read."""
        if expected is None or found == expected or local_files.restat(self._run, file.path) != file:
            return ""
        return analysis_manifest.mismatch_reason(found, expected)

    def _count(self, size: int) -> None:
        self.digests.stop.raise_if_requested()
        with self._counting:
            self.size += size


def _split_into_tasks(files: Iterable[LocalFile]) -> Iterator[tuple[LocalFile, ...]]:
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
