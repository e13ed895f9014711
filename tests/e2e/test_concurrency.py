"""The program and its children step back for other work on this machine."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.helpers.lab import FakeAws, Lab

PRIORITIES = """
if 'cp' in argv:
    import psutil
    me = psutil.Process()
    open({path!r}, 'a').write(f'{{me.nice()}} {{int(me.ionice().ioclass)}} {{me.ionice().value}}\\n')"""


@pytest.mark.parametrize(
    ("options", "priorities"),
    [
        ((), "0 0 0"),
        (("--nice", "7"), "7 0 0"),
        (("--nice", "19", "--io_priority", "low"), "19 2 7"),
        (("--io_priority", "idle"), "0 3 0"),
    ],
)
def test_children_get_the_requested_priorities(
    lab: Lab, small_run: Path, fake_aws: FakeAws, options: tuple[str, ...], priorities: str
) -> None:
    path = lab.root / "priorities"

    result = lab.upload(small_run, "--aws_command", fake_aws(PRIORITIES.format(path=str(path))), *options)

    assert result.code == 0, result.err
    own = psutil.Process()
    if (own.nice(), int(own.ionice().ioclass)) == (0, 0):
        assert set(path.read_text().splitlines()) == {priorities}


def test_a_scan_lowers_its_own_priority(lab: Lab, small_run: Path, fake_aws: FakeAws) -> None:
    path = lab.root / "priorities"

    result = lab.watch(small_run, aws_command=fake_aws(PRIORITIES.format(path=str(path))))

    assert result.code == 0, result.err
    niceness, ioclass, value = path.read_text().splitlines()[0].split()
    assert int(niceness) >= 10
    assert (ioclass, value) == ("2", "7")
