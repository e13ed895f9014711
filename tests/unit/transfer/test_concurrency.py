"""More processes while the CPU idles, and no more than that."""

from __future__ import annotations

import pytest

from s3sync.transfer.concurrency import ConcurrencyController, Load


class Machine:
    """A CPU of which each process uses a share, up to all of it, and a clock."""

    def __init__(self, share: float, others: float = 0.0) -> None:
        self.share, self.others, self.running, self.now = share, others, 0, 0.0

    def load(self) -> Load:
        ours = min(1.0, self.share * self.running)
        return Load(ours, min(1.0, ours + self.others))

    def controller(self, base: int, most: int) -> ConcurrencyController:
        return ConcurrencyController(base, most, self.load, lambda: self.now)

    def settle(self, controller: ConcurrencyController, waiting: bool = True) -> int:
        """As many as it comes to in a long time, always with as many at work as it allows."""
        for _ in range(100):
            self.now += 0.5
            self.running = controller.update(self.running, has_work=waiting)
        return self.running


@pytest.mark.parametrize(
    ("share", "others", "base", "most", "size"),
    [
        (0.5, 0, 2, 8, 2),  # no latency: two fill two cores
        (0.24, 0, 2, 8, 4),  # S3 is far away: each waits half of its time
        (0.05, 0, 2, 8, 8),  # the network is slow: the bound
        (0.05, 0, 2, 2, 2),
        (0.05, 0.95, 2, 8, 2),  # somebody else needs the machine
        (0.3, 0, 1, 4, 3),
        (0.0, 0, 2, 4, 4),
    ],
)
def test_it_grows_until_the_cpu_is_busy(share: float, others: float, base: int, most: int, size: int) -> None:
    machine = Machine(share, others)
    assert machine.settle(machine.controller(base, most)) == size


def test_it_does_not_grow_without_work_that_waits() -> None:
    machine = Machine(0.1)
    assert machine.settle(machine.controller(2, 8), waiting=False) == 2


def test_it_does_not_grow_before_as_many_run_as_may() -> None:
    machine = Machine(0.1)
    controller = machine.controller(4, 8)
    machine.now = 10
    assert controller.update(3, has_work=True) == 4


def test_a_new_process_has_time_to_show_its_load() -> None:
    machine = Machine(0.1)
    controller = machine.controller(2, 8)
    sizes = []
    for _ in range(9):
        machine.now += 1
        sizes.append(controller.update(controller.size, has_work=True))
    assert sizes == [2, 4, 4, 8, 8, 8, 8, 8, 8]


def test_idle_time_before_the_first_process_adds_no_processes() -> None:
    machine = Machine(0.5)
    loads = [Load(0.1, 0.1), Load(1, 1)]
    controller = ConcurrencyController(2, 8, lambda: loads.pop(0), lambda: machine.now)
    machine.now = 60
    controller.reset()
    assert controller.update(0, has_work=True) == 2
    machine.now += 2
    assert controller.update(2, has_work=True) == 2


# Stepping back
