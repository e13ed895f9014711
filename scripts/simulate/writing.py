"""Write files to disk: texts as they are, all else pseudo-random, the same for the same seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.simulate.files import RunFile
from scripts.simulate.plan import Run

BLOCK_BYTES = READ_BYTES = 4 * 1024 * 1024
STRIDE_BYTES = 1_000_003  # odd, so that the blocks of one large file are all different rotations

Block = bytes | memoryview


@dataclass(frozen=True)
class RunWriter:
    """Writes the files of one run into its folder; `pool` is twice the same pseudo-random block."""

    folder: Path
    seed: int
    pool: memoryview

    def write(self, file: RunFile, since: int = 0, upto: int | None = None, *, draft: bool = False) -> None:
        """Append the bytes of the file from `since` up to `upto`; from 0 on it is written anew.

        A draft of a file of random bytes has others than the file.
        """
        path, end = self.folder / file.path, file.size if upto is None else upto
        path.parent.mkdir(parents=True, exist_ok=True)
        label = f"{self.seed} {self.folder.name} {file.path}{' draft' if draft else ''}"
        blocks = random_blocks(self.pool, label, end) if file.content is None else [file.content]
        with path.open("ab" if since else "wb") as stream:
            stream.writelines(cut(blocks, since, end))


def begin_folder(parent: Path, run: Run) -> RunWriter:
    """Make the run folder under the parent; raises FileExistsError for one that holds something."""
    folder = Path(parent, run.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is there already, with files in it")
    return writer_for(folder, run)


def writer_for(folder: Path, run: Run) -> RunWriter:
    """Return a writer for the files of this run in this folder."""
    return RunWriter(folder, run.seed, memoryview(random.Random(f"{run.seed} pool").randbytes(BLOCK_BYTES) * 2))


def cut(blocks: Iterable[Block], since: int, upto: int) -> Iterator[Block]:
    """Yield the bytes of the blocks from `since` up to `upto`."""
    start = 0
    for block in blocks:
        yield block[max(since - start, 0) : max(upto - start, 0)]
        start += len(block)


def random_blocks(pool: memoryview, label: str, size: int) -> Iterator[Block]:
    """Yield this many bytes: a header that no other label has, then parts of the pool."""
    header = hashlib.blake2b(label.encode(), digest_size=32).digest()
    yield header[:size]
    start, left = int.from_bytes(header[:8], "big"), size - len(header)
    while left > 0:
        start = (start + STRIDE_BYTES) % BLOCK_BYTES
        block = pool[start : start + min(left, BLOCK_BYTES)]
        yield block
        left -= len(block)
