"""Bytes onto the disk: texts as they are, all else pseudo-random, the same for the same seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

from scripts.simulate.files import RunFile

BLOCK_BYTES = 4 * 1024 * 1024
STRIDE_BYTES = 1_000_003  # odd, so that the blocks of one large file are all different rotations


def empty_folder(folder: Path) -> None:
    """Make the run folder; raises FileExistsError for one that holds something."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is there already, with files in it")


def random_pool(seed: int) -> memoryview:
    """Two times the same pseudo-random block, so that any part of a block's length can be cut out."""
    return memoryview(random.Random(f"{seed} pool").randbytes(BLOCK_BYTES) * 2)


def write_file(folder: Path, file: RunFile, pool: memoryview, label: str) -> None:
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for block in random_blocks(pool, label, file.size) if file.content is None else [file.content]:
            stream.write(block)


def random_blocks(pool: memoryview, label: str, size: int) -> Iterator[bytes | memoryview]:
    """As many bytes as asked for: a header that no other label has, then ever other parts of the pool."""
    header = hashlib.blake2b(label.encode(), digest_size=32).digest()
    yield header[:size]
    start, left = int.from_bytes(header[:8], "big"), size - len(header)
    while left > 0:
        start = (start + STRIDE_BYTES) % BLOCK_BYTES
        block = pool[start : start + min(left, BLOCK_BYTES)]
        yield block
        left -= len(block)
