"""Find out how an object was split into parts if no known rule explains it: S3 knows the size of each part.

Each size takes a request. Most uploaders make all parts but the last equal, and others change the size a few times. So
the sizes between two parts of the same size are taken to be the same, as long as all sizes add up to that of the
object. A wrong guess proves nothing: the ETag that it gives is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

_FEW_PARTS = 10  # up to this number all sizes are requested if a guess is wrong
_MAX_PARTS = 1000  # and up to this number if no guess is possible

ReadSizes = Callable[[Iterable[int]], Mapping[int, int]]
"""Return the sizes of these parts in bytes, by their numbers from 1; sizes that S3 does not report are missing."""


def find_part_sizes(size: int, count: int, read_sizes: ReadSizes) -> Iterator[tuple[int, ...]]:
    """Yield possible sizes of all parts, the likeliest first; nothing if S3 does not report them.

    `size` is that of the object in bytes, `count` how many parts it has, at least 2.
    """
    known = dict(read_sizes([1]))
    first = known.get(1, size)
    if not 0 < first < size:  # a server without this feature answers with the whole object
        return
    equal = (*[first] * (count - 1), size - first * (count - 1))
    if equal[-1] >= 0:
        yield equal
    guess = _guess(count, known, read_sizes)
    if sum(guess) == size and guess != equal:
        yield guess
    if count <= (_MAX_PARTS if sum(guess) != size else _FEW_PARTS):
        known.update(read_sizes([number for number in range(1, count + 1) if number not in known]))
        exact = tuple(known.get(number, -1) for number in range(1, count + 1))
        if sum(exact) == size and min(exact) >= 0 and exact not in (equal, guess):
            yield exact


def _guess(count: int, known: dict[int, int], read_sizes: ReadSizes) -> tuple[int, ...]:
    """Return the sizes of all parts; those between two of the same size are guessed. Adds those that were asked for."""
    known.update(read_sizes({count, max(2, count - 1)}))
    open_ranges = [(1, count - 1)] if count > 2 else []
    while open_ranges := [(a, b) for a, b in open_ranges if b - a > 1 and known.get(a) != known.get(b)]:
        middles = [(a + b) // 2 for a, b in open_ranges]
        if len(known) + len(middles) > _MAX_PARTS:
            break
        known.update(read_sizes(middles))
        pairs = zip(open_ranges, middles, strict=True)
        open_ranges = [half for (a, b), middle in pairs for half in ((a, middle), (middle, b))]
    sizes, last = [], 0
    for number in range(1, count + 1):
        last = known.get(number, last)
        sizes.append(last)
    return tuple(sizes)
