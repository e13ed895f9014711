"""A run that is mirrored comes as rsync copies one, and ends as the run that is made at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from s3sync.runs import analysis, readiness
from s3sync.runs.readiness import Requirements
from scripts.simulate.copying import MirroredRun, copied
from scripts.simulate_run import INSTRUMENTS, main, make_run, plan_run
from tests.helpers.lab import tree

SHAPE = {"cycles": (3, 2, 2, 3), "lanes": 2, "tiles": 2}
SCALE = 1e-9
DATA = "Data/Intensities/BaseCalls/"
every_instrument = pytest.mark.parametrize("instrument", list(INSTRUMENTS))


def mirrored(parent: Path, instrument: str = "novaseqx", hours_ago: float = 0.0) -> MirroredRun:
    return MirroredRun(parent, plan_run(instrument, **SHAPE), SCALE, hours_ago=hours_ago)  # type: ignore[arg-type]


def state(copy: MirroredRun, after: float = 0.0) -> str:
    """Return the verdict on the run as it is on disk, if nothing happens for this many seconds."""
    return readiness.check(analysis.open_run_or_analysis(copy.folder), Requirements(), now=time.time() + after).state


@every_instrument
def test_a_copied_run_is_the_run_that_is_made_at_once(tmp_path: Path, instrument: str) -> None:
    copy = mirrored(tmp_path / "copy", instrument)
    list(copy)
    made = make_run(tmp_path, instrument, scale=SCALE, **SHAPE)  # type: ignore[arg-type]
    assert tree(copy.folder) == tree(made)


@every_instrument
def test_at_no_step_of_the_copy_is_the_run_complete_before_its_last_base_calls_are_there(
    tmp_path: Path, instrument: str
) -> None:
    copy = mirrored(tmp_path, instrument, hours_ago=30)
    copy.copy_until("")
    missing, begun = tree_of_base_calls(copy), False
    before = set(missing)
    for step in copy:
        if step.whole and step.path in missing:
            missing.remove(step.path)
        assert state(copy) == "settling", step
        begun |= step.path in before
        if missing and begun:
            assert state(copy, 2 * 3600) == "incomplete", step
    assert state(copy, 2 * 3600) == "complete"


def tree_of_base_calls(copy: MirroredRun) -> list[str]:
    left = [file.path for file, whole in copy._left if whole]
    return [path for path in left if path.endswith((".cbcl", ".bcl", ".bgzf", ".bcl.gz", ".filter"))]


def test_the_root_comes_first_with_the_markers(tmp_path: Path) -> None:
    copy = mirrored(tmp_path)
    steps = copy.copy_until("")
    assert {step.path for step in steps} >= {"CopyComplete.txt", "RTAComplete.txt", "RunInfo.xml"}
    assert not [step for step in steps if "/" in step.path]
    assert copy.upcoming is not None
    assert copy.upcoming.part != ""


def test_a_file_has_a_temporary_name_until_it_is_whole(tmp_path: Path) -> None:
    copy = mirrored(tmp_path, hours_ago=30)
    copy.copy_until(f"{DATA}L001")
    begun = next(copy)
    folder, name = os.path.split(copy.folder / begun.path)
    assert (begun.whole, os.path.exists(copy.folder / begun.path)) == (False, False)
    assert os.path.exists(f"{folder}/.{name}.Xa12Bc")
    whole = next(copy)
    assert (whole.path, whole.whole) == (begun.path, True)
    assert not os.path.exists(f"{folder}/.{name}.Xa12Bc")
    assert os.stat(copy.folder / whole.path).st_mtime == pytest.approx(time.time() - 30 * 3600, abs=600)


def test_a_part_that_was_copied_does_not_come_again(tmp_path: Path) -> None:
    copy = mirrored(tmp_path)
    copy.copy_until("")
    with pytest.raises(ValueError, match="the root does not come any more"):
        copy.copy_until("")


def test_there_is_a_pause_before_each_part(tmp_path: Path) -> None:
    asked = []

    def wait(seconds: float) -> bool:
        asked.append(seconds)
        return len(asked) == 4

    steps = list(copied(mirrored(tmp_path), 60, wait))
    assert asked == [60] * 4
    parts = list(dict.fromkeys(step.part for step in steps))
    assert parts == ["", "Config", "Data", f"{DATA}L001"]


def test_the_command_copies_and_names_each_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["novaseqx", str(tmp_path), "--scale", "1e-9", "--cycles", "1,1", "--lanes", "1", "--tiles", "1"]
    assert main([*argv, "--mirror", "--pause", "0"]) == 0
    out = capsys.readouterr().out
    assert f"\nConfig\nData\n{DATA}L001\nInstrumentAnalyticsLogs\nInterOp\n" in out
    assert "files" in out.splitlines()[-1]


@pytest.mark.parametrize("argv", [["--pause", "1"], ["--mirror", "--live"], ["--mirror", "--pause", "-1"]])
def test_options_that_do_not_go_together_are_one_message(tmp_path: Path, argv: list[str]) -> None:
    assert main(["novaseqx", str(tmp_path), *argv]) == 2
