"""A live run is written as an instrument writes one, and ends as the run that is made at once."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3sync.runs.completion import check_completion
from s3sync.runs.run_folder import open_run
from scripts.simulate.live import LiveRun, at_pace
from scripts.simulate.plan import Run
from scripts.simulate.timeline import timeline
from scripts.simulate.writing import BLOCK_BYTES
from scripts.simulate_run import INSTRUMENTS, main, make_run, plan_run
from tests.helpers.lab import tree

CYCLES, LAST, SCALE = (3, 2, 2, 3), 10, 1e-4
SCRIPT = Path(__file__).parents[2] / "scripts" / "simulate_run.py"
MARKERS = {"RTAComplete.txt", "SequenceComplete.txt", "RunCompletionStatus.xml", "CopyComplete.txt"}

BASE_CALLS = re.compile(r"bcl(\.gz|\.bgzf)?$")
every_instrument = pytest.mark.parametrize("instrument", list(INSTRUMENTS))


def small(instrument: str = "novaseq6000") -> Run:
    return plan_run(instrument, cycles=CYCLES, lanes=1, tiles=2)


def live_run(parent: Path, instrument: str = "novaseq6000", *, rewrite: int = 0, abandon: int | None = None) -> LiveRun:
    return LiveRun(parent, small(instrument), SCALE, rewrite=rewrite, abandon=abandon)


def finish(live: LiveRun) -> dict[str, bytes]:
    """Make all remaining writes; return the files that then exist."""
    assert list(live)
    return tree(live.folder)


class Watch:
    """Waits for nothing, and notes how long it was asked to; never says to stop."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return False


def phases(run: Run, *, rewrite: int = 0, complete: bool = True) -> list[str]:
    moments = timeline(run, SCALE, rewrite=rewrite, complete=complete)
    return [phase for phase, _ in itertools.groupby(moment.phase for moment in moments)]


# What is there in the end


@every_instrument
@pytest.mark.parametrize("complete", [True, False])
def test_in_the_end_names_and_bytes_are_those_of_a_run_made_at_once(
    tmp_path: Path, instrument: str, complete: bool
) -> None:
    at_once = make_run(tmp_path, instrument, scale=SCALE, cycles=CYCLES, lanes=1, tiles=2, complete=complete)
    live = LiveRun(tmp_path / "live", small(instrument), SCALE, rewrite=2, complete=complete)
    assert finish(live) == tree(at_once)
    assert live.folder.name == at_once.name


def test_files_of_more_than_a_block_are_put_together_rightly(tmp_path: Path) -> None:
    at_once = tree(make_run(tmp_path, scale=0.1, cycles=(1,), lanes=1))
    assert max(map(len, at_once.values())) > 1.5 * BLOCK_BYTES
    assert finish(LiveRun(tmp_path / "live", plan_run(cycles=(1,), lanes=1), 0.1)) == at_once


# On the way


def test_run_info_comes_first_and_then_the_parameters_and_the_sheet(tmp_path: Path) -> None:
    first = [moment.path for moment in itertools.islice(live_run(tmp_path), 3)]
    assert first == ["RunInfo.xml", "RunParameters.xml", "SampleSheet.csv"]


@every_instrument
def test_base_calls_come_cycle_by_cycle(tmp_path: Path, instrument: str) -> None:
    whole = {moment.path: moment.write.file.size for moment in timeline(small(instrument), SCALE)}
    live = live_run(tmp_path, instrument)
    for cycle in range(1, LAST):
        live.write_until(f"cycle {cycle}/{LAST}")
        calls = {path: len(content) for path, content in tree(live.folder).items() if BASE_CALLS.search(path)}
        assert {int(re.findall(r"/C?(\d+)\.(?:1/|bcl)", path)[0]) for path in calls} == set(range(1, cycle + 1))
        assert calls == {path: whole[path] for path in calls}


@every_instrument
def test_files_of_data_grow_in_appends_and_each_moves_the_time(tmp_path: Path, instrument: str) -> None:
    live, sizes = live_run(tmp_path, instrument), dict[str, list[int]]()
    for moment in live:
        now = (live.folder / moment.path).stat()
        assert now.st_mtime_ns > 0  # not what the last line of this loop has left
        sizes.setdefault(moment.path, []).append(now.st_size)
        os.utime(live.folder / moment.path, ns=(0, 0))
    data = {
        path: seen
        for path, seen in sizes.items()
        if re.search(r"\.(c?bcl(\.gz|\.bgzf)?|filter|locs|jpg|control)$", path)
    }
    assert len(data) > LAST
    assert all(len(set(seen)) > 2 and seen == sorted(seen) for seen in data.values())


@every_instrument
def test_interop_and_long_logs_grow_with_every_cycle(tmp_path: Path, instrument: str) -> None:
    growing = re.compile(r"InterOp/\w+\.bin|.*(\.tsv|\.imf1|/info_0+\.log)")
    paths = {moment.path for moment in timeline(small(instrument), SCALE) if growing.fullmatch(moment.path)}
    assert len(paths) > 5
    live, seen = live_run(tmp_path, instrument), list[dict[str, int]]()
    for phase in (*(f"cycle {cycle}/{LAST}" for cycle in range(1, LAST + 1)), "late files"):
        live.write_until(phase)
        seen.append({path: (live.folder / path).stat().st_size for path in paths})
    assert all(before[path] < after[path] for before, after in itertools.pairwise(seen) for path in paths)


@pytest.mark.parametrize(("instrument", "kinds"), [("miseq", "locs filter control"), ("novaseqx", "locs filter")])
def test_positions_come_after_the_template_cycles_and_filters_when_25_cycles_are_known(
    instrument: str, kinds: str
) -> None:
    moments = timeline(plan_run(instrument, cycles=(30,), lanes=1, tiles=2), SCALE)
    seen = {kind: {m.phase for m in moments if m.path.endswith(f".{kind}")} for kind in kinds.split()}
    expected = {"locs": {"cycle 5/30"}, "filter": {"cycle 26/30"}, "control": {"cycle 26/30"}}
    assert seen == {kind: expected[kind] for kind in kinds.split()}


@every_instrument
def test_interop_is_written_again_and_logs_are_appended_to(instrument: str) -> None:
    moments = [moment for moment in timeline(small(instrument), SCALE) if moment.phase == f"cycle 4/{LAST}"]
    interop, logs = (
        [m.write.since for m in moments if re.match(kind, m.path)] for kind in (r"InterOp/\w+\.bin", ".*Log")
    )
    assert interop
    assert logs
    assert not any(interop)
    assert all(logs)


def test_each_read_of_a_miseq_ends_with_its_marker() -> None:
    moments = timeline(small("miseq"), SCALE)
    ends = [moment.phase for moment in moments if moment.path.startswith("RTARead")]
    assert ends == ["cycle 3/10", "cycle 5/10", "cycle 7/10", "cycle 10/10"]


# The end


@pytest.mark.parametrize(
    ("instrument", "ends"),
    [
        ("miseq", ["late files", "RTAComplete"]),
        ("nextseq2000", ["RTAComplete", "late files", "RunCompletionStatus", "CopyComplete"]),
        ("novaseq6000", ["RTAComplete", "late files", "SequenceComplete", "CopyComplete"]),
        ("novaseqx", ["RTAComplete", "late files", "RunCompletionStatus", "CopyComplete"]),
    ],
)
def test_phases_are_those_of_the_instrument(instrument: str, ends: list[str]) -> None:
    cycles = [f"cycle {cycle}/{LAST}" for cycle in range(1, LAST + 1)]
    assert phases(small(instrument)) == ["start", *cycles, *ends]
    assert phases(small(instrument), rewrite=1) == ["start", *cycles, "rewriting", *ends]
    assert phases(small(instrument), complete=False) == ["start", *cycles, "late files"]


@every_instrument
def test_the_run_is_complete_with_the_last_write_and_not_before(tmp_path: Path, instrument: str) -> None:
    live = live_run(tmp_path, instrument, rewrite=1)
    live.write_until("start")
    found = [check_completion(open_run(live.folder), newest_change=lambda: 0.0).is_complete for _ in live]
    assert found == [False] * (len(found) - 1) + [True]


def test_base_calls_of_the_last_cycle_are_not_whole_before_rta_complete(tmp_path: Path) -> None:
    live = live_run(tmp_path)
    live.write_until("RTAComplete")
    then = tree(live.folder)
    late = {moment.path for moment in live.write_until("late files")}
    calls = {path for path in then if re.search(rf"/C{LAST}\.1/.*\.cbcl$", path)}
    assert len(calls) == 2
    assert calls < late
    assert all(len(then[path]) < len((live.folder / path).read_bytes()) for path in late)


# What goes wrong in real life


@every_instrument
def test_rewritten_files_have_other_bytes_of_the_same_size(tmp_path: Path, instrument: str) -> None:
    live = live_run(tmp_path, instrument, rewrite=3)
    live.write_until(f"cycle {LAST}/{LAST}")
    before = tree(live.folder)
    rewritten = {moment.path for moment in live.write_until("rewriting")}
    after = tree(live.folder)
    assert {path for path in before if before[path] != after[path]} == rewritten
    assert len(rewritten) == 3
    assert all("bcl" in path and len(before[path]) == len(after[path]) for path in rewritten)


@every_instrument
def test_an_abandoned_run_ends_after_its_cycle_without_markers(tmp_path: Path, instrument: str) -> None:
    live, stopped = live_run(tmp_path / "live", instrument), live_run(tmp_path, instrument, abandon=4)
    live.write_until(f"cycle 4/{LAST}")
    assert finish(stopped) == tree(live.folder)
    assert not MARKERS & tree(stopped.folder).keys()


def test_waiting_for_a_phase_that_does_not_come_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CopyComplete does not come any more"):
        live_run(tmp_path, abandon=1).write_until("CopyComplete")


# Time


@every_instrument
def test_a_run_takes_as_long_as_on_its_instrument(instrument: str) -> None:
    seconds = [moment.seconds for moment in timeline(plan_run(instrument), SCALE)]
    assert seconds == sorted(seconds)
    assert seconds[-1] / 3600 == pytest.approx(INSTRUMENTS[instrument].run_hours, rel=0.1)


def test_each_write_is_waited_for_at_the_asked_speed(tmp_path: Path) -> None:
    watch, speed = Watch(), 1e-3  # so slow that the time that the test itself takes is nothing
    moments = list(at_pace(live_run(tmp_path), speed, watch))
    assert watch.asked == pytest.approx([moment.seconds / speed for moment in moments], abs=600)
    assert len(moments) == len(timeline(small(), SCALE))


def test_without_time_nothing_waits(tmp_path: Path) -> None:
    watch = Watch()
    assert len(list(at_pace(live_run(tmp_path), math.inf, watch))) == len(watch.asked)
    assert set(watch.asked) == {0}


def test_nothing_is_written_once_the_wait_says_to_stop(tmp_path: Path) -> None:
    answers: Iterator[bool] = iter([False, False, True])
    live = live_run(tmp_path)
    assert [moment.path for moment in at_pace(live, 1, lambda _: next(answers))] == ["RunInfo.xml", "RunParameters.xml"]
    assert set(tree(live.folder)) == {"RunInfo.xml", "RunParameters.xml"}


# The command line

ARGV = ("novaseq6000", "--cycles", "3,2,2,3", "--lanes", "1", "--tiles", "2", "--scale", "0.0001", "--live")


def test_the_command_prints_a_line_for_each_phase(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGV, str(tmp_path), "--speed", "inf"]) == 0
    folder, *lines, summary = capsys.readouterr().out.splitlines()
    assert [re.sub(r"^ +\d+\.\d s  \d+:\d\d:\d\d  ", "", line) for line in lines] == phases(small())
    assert tree(Path(folder)).keys() == {moment.path for moment in timeline(small(), SCALE)}
    assert summary.startswith(f"{folder}  {len(tree(Path(folder)))} files  ")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_run_that_broke_off(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    argv = [sys.executable, str(SCRIPT), *ARGV, str(tmp_path), "--speed", "60"]  # 4.5 s a cycle
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        folder, line = Path(process.stdout.readline().rstrip()), process.stdout.readline()
        process.send_signal(signum)
        _, err = process.communicate(timeout=120)
    assert line.endswith("  start\n")
    assert (process.returncode, err) == (code, f"simulate_run.py: interrupted by {signum.name}\n")
    assert "RunInfo.xml" in tree(folder)
    assert not MARKERS & tree(folder).keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--speed", "0"], "'0' is not a number from 0.001 on"),
        (["--speed", "nan"], "'nan' is not a number"),
        (["--rewrite", "999"], "rewrite must be 0 to 18"),
        (["--rewrite", "-1"], "rewrite must be 0 to 18"),
        (["--abandon", "11"], "1 to 10"),
        (["--abandon", "2", "--rewrite", "1"], "rewrites nothing"),
        (["--scale", "0"], "scale must be a positive number"),
    ],
)
def test_bad_options_are_one_message_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([*ARGV, str(tmp_path), *options]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == []


def test_options_of_a_live_run_want_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["miseq", str(tmp_path), "--speed", "600"]) == 2
    assert capsys.readouterr().err == "simulate_run.py: --speed is for --live\n"
    assert list(tmp_path.iterdir()) == []
