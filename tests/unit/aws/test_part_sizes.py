"""The sizes of parts are found with few requests where they change seldom, and with one for each part at most."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s3sync.aws.part_sizes import find_part_sizes

MIB = 1024 * 1024


class Parts:
    """An object with parts of these sizes, on a server that tells them."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes
        self.asked: list[int] = []

    def ask(self, numbers: Iterable[int]) -> dict[int, int]:
        numbers = list(numbers)
        self.asked += numbers
        return {number: self.sizes[number - 1] for number in numbers}

    def is_found(self) -> bool:
        """Whether one of the answers is right; all of them are taken."""
        return self.sizes in list(find_part_sizes(sum(self.sizes), len(self.sizes), self.ask))


@pytest.mark.parametrize(
    ("sizes", "most"),
    [
        ((7 * MIB, 3), 2),
        ((7 * MIB,) * 40 + (11 * MIB,), 4),  # the rest went into the last part
        ((5 * MIB,) * 1000 + (25 * MIB,) * 1000 + (125 * MIB,) * 500 + (1,), 40),
        ((6 * MIB, 5 * MIB, 9 * MIB, 0), 4),
        (tuple(range(6 * MIB, 6 * MIB + 300)), 300),  # a stream that was flushed now and then
    ],
)
def test_requests(sizes: tuple[int, ...], most: int) -> None:
    parts = Parts(*sizes)
    assert parts.is_found()
    assert len(parts.asked) == len(set(parts.asked)) <= most


@given(st.lists(st.integers(1, 4), min_size=1, max_size=9), st.integers(0, 9))
def test_a_few_parts_are_all_asked_for_if_nothing_else_helps(sizes: list[int], last: int) -> None:
    assume(sizes[0] < sum(sizes) + last)
    assert Parts(*sizes, last).is_found()


def test_the_first_answer_takes_one_request() -> None:
    parts = Parts(7, 7, 7, 2)
    assert next(find_part_sizes(23, 4, parts.ask)) == parts.sizes
    assert parts.asked == [1]


@pytest.mark.parametrize("answer", [{}, {1: 100}, {1: 0}, {1: -1}, {1: 101}])
def test_a_server_that_does_not_tell_is_asked_once(answer: dict[int, int]) -> None:
    asked: list[list[int]] = []

    def ask(numbers: Iterable[int]) -> dict[int, int]:
        asked.append([*numbers])
        return answer

    assert list(find_part_sizes(100, 50, ask)) == []
    assert asked == [[1]]


def test_an_object_of_too_many_different_parts_is_given_up() -> None:
    parts = Parts(*range(5 * MIB, 5 * MIB + 2500))
    assert not parts.is_found()
    assert len(parts.asked) <= 1000


def test_what_a_server_tells_of_some_parts_only_yields_no_wrong_sum() -> None:
    sizes = {1: 10, 2: 20, 4: 5}
    found = list(find_part_sizes(100, 5, lambda numbers: {n: sizes[n] for n in numbers if n in sizes}))
    assert all(sum(each) == 100 and len(each) == 5 for each in found)
