"""The benchmark: tiny runs of the real thing, and that it touches nothing that is not its own."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import os
import pty
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from s3sync.runs.local_files import LocalFile
from s3sync.transfer.batches import cost_of
from scripts.bench import growth, plot, tables, tuning
from scripts.bench.contenders import Pair, split
from scripts.bench.measure import Command, Usage, run_together
from scripts.bench.trials import Entry, Measurement, entries_of
from scripts.bench.workloads import SHAPES, Workload
from scripts.benchmark import main
from scripts.simulate_run import plan_run
from tests.helpers.bench import benchmark
from tests.helpers.lab import AWS_V1, BUCKET, FakeAws, Lab
from tests.helpers.s3server import S3Server

TINY = ("--workloads", "small", "--scale", "0.0001", "--rounds", "1")  # 10 files
FILES = 10


def rows_in(lab: Lab, name: str = "measurements.tsv") -> list[dict[str, str]]:
    with (lab.root / "results" / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def is_there(program: str) -> bool:
    """Whether a program can be found as the benchmark looks for it: beside this Python and on the lab's PATH."""
    return Path(sys.executable).with_name(program).exists() or bool(shutil.which(program, path="/usr/bin:/bin"))


def test_all_contenders_are_measured_side_by_side(lab: Lab) -> None:
    done = benchmark(lab, *TINY, "--contenders", "bare", "s3sync", "plain", "s5cmd", "rclone", "--cores", "2")
    assert done.code == 0, done.err
    others = [name for name in ("s5cmd", "rclone") if is_there(name)]
    rows = {row["contender"]: row for row in rows_in(lab)}
    assert list(rows) == ["bare", "s3sync", "plain", *others]
    for name in ("bare", "s3sync", "plain"):
        row = rows[name]
        assert (row["trouble"], row["files"], row["PutObject"], row["other_requests"]) == ("", str(FILES), "10", "0")
        assert 0.1 < float(row["cpu_seconds"]) < 200
        assert 0.1 < float(row["seconds"]) < 200
        assert 1e7 < int(row["peak_bytes"]) < 1e9
        assert 0 <= float(row["server_cpu_seconds"]) < 10
    assert float(rows["s3sync"]["cpu_seconds"]) > float(rows["plain"]["cpu_seconds"])  # its children's are counted
    assert int(rows["s3sync"]["ListObjectsV2"]) > 0
    assert rows["bare"]["ListObjectsV2"] == rows["plain"]["ListObjectsV2"] == "0"
    for name in ("s5cmd", "rclone"):
        assert (f"{name} is left out: it is not installed" in done.err) == (name not in others)


def test_the_predecessors_method_and_a_second_cli_take_part(lab: Lab) -> None:
    names = ("bare-4", "s3sync-cli", "predecessor", "predecessor-8", "bare-other", "s3sync-other", "plain-other")
    done = benchmark(lab, *TINY, "--contenders", *names, "--cores", "2", "--other-aws", AWS_V1)
    assert done.code == 0, done.err
    rows = {row["contender"]: row for row in rows_in(lab)}
    assert list(rows) == list(names)
    assert {(row["trouble"], row["PutObject"]) for row in rows.values()} == {("", "10")}
    assert {name: row["HeadObject"] for name, row in rows.items() if row["HeadObject"] != "0"} == {
        "predecessor": "10",
        "predecessor-8": "10",
    }


def test_a_workload_can_need_tls(lab: Lab) -> None:
    pytest.importorskip("trustme")
    few = ("--workloads", "tls", "--scale", "0.0001", "--rounds", "1", "--contenders", "s3sync", "predecessor")
    done = benchmark(lab, *few)
    assert done.code == 0, done.err
    assert [(row["trouble"], row["PutObject"]) for row in rows_in(lab)] == [("", "10")] * 2
    assert ", TLS" in done.out


def test_results_are_printed_and_written(lab: Lab) -> None:
    done = benchmark(lab, *TINY, "--contenders", "plain", "sync", "--latency", "1")
    assert done.code == 0, done.err
    assert "small round 1 plain: " in done.err
    assert [line for line in done.out.splitlines() if len(line) > 80] == []
    assert re.search(r"^plain +\d+\.\d ", done.out, re.MULTILINE)
    report = (lab.root / "results" / "report.md").read_text()
    assert "### small: 10 files, " in report
    assert "1 ms latency" in report
    assert re.search(r"^\| contender \|.*\n\| --- \|.*\n\| plain \| \d.*\n\| sync \| \d", report, re.MULTILINE)
    assert f"- plain: {FILES} PutObject\n" in report
    has_picture = (lab.root / "results" / "report.png").exists()
    assert has_picture == (importlib.util.find_spec("matplotlib") is not None)
    assert has_picture != ("no picture: " in done.err)


def test_a_contender_that_loses_files_is_reported_and_not_counted(lab: Lab, fake_aws: FakeAws) -> None:
    liar = fake_aws("if argv[1] == 'cp': sys.exit(0)\nif argv[1] == 'sync': sys.exit('upload failed: no luck')")
    done = benchmark(lab, *TINY, "--contenders", "plain", "sync", "--aws_command", liar)
    assert done.code == 1
    troubles = {row["contender"]: row["trouble"] for row in rows_in(lab)}
    assert troubles["plain"] == "only 0 of 10 files arrived"
    assert troubles["sync"] == "exit code 1: upload failed: no luck"
    report = (lab.root / "results" / "report.md").read_text()
    assert "- small, sync: exit code 1" in report
    assert "| plain |" not in report


@pytest.mark.parametrize(
    ("argv", "answer", "stays"),
    [((), None, True), ((), "no", True), ((), "y", False), (("--yes",), None, False)],
    ids=["no terminal", "no", "yes", "--yes"],
)
def test_in_a_real_bucket_only_its_own_prefix_is_deleted_and_only_if_wanted(
    lab: Lab, server: S3Server, tiny_run: Path, argv: tuple[str, ...], answer: str | None, stays: bool
) -> None:
    for key in ("runs/s3sync-benchmark-of-somebody-else/k", f"runs/{tiny_run.name}/RunInfo.xml", "k"):
        server.put(BUCKET, key, b"not the benchmark's")
    others = set(server.objects(BUCKET))
    upload = ("--bucket", BUCKET, "--remote_path", "/runs/", "--local_path", str(tiny_run), "--contenders", "plain")
    terminal = pty.openpty() if answer else None
    if terminal:
        os.write(terminal[0], f"{answer}\n".encode())
    done = benchmark(lab, *upload, *argv, stdin=terminal[1] if terminal else subprocess.DEVNULL)
    for descriptor in terminal or ():
        os.close(descriptor)
    assert done.code == 0, done.err
    assert [(row["workload"], row["files"], row["PutObject"]) for row in rows_in(lab)] == [("own", "4", "")]
    assert server.counters["PutObject"] == 4
    assert others <= server.objects(BUCKET).keys()
    made = sorted(server.objects(BUCKET).keys() - others)
    assert len(made) == (4 if stays else 0)
    prefix = re.search(rf"s3://{BUCKET}/(runs/s3sync-benchmark-\d{{8}}T\d{{6}}Z-[0-9a-f]{{8}}/)", done.out + done.err)
    assert prefix, done.err
    assert all(key.startswith(prefix[1]) for key in made)
    assert (f"what was uploaded stays: s3://{BUCKET}/{prefix[1]}" in done.err) == stays


@pytest.mark.parametrize(
    "argv",
    [
        "--cores 0",
        "--rounds 0",
        "--scale nan",
        "--latency -1",
        "--threads many",
        "--workloads nothing",
        "--contenders nobody",
        "--bucket lab-runs --tls",
        "--contenders plain-other",
        "--bucket s3://lab-runs",
        "--local_path here --workloads small",
        "--no_such_option",
    ],
)
def test_options_that_make_no_sense_are_one_line(argv: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"benchmark\.py: .+\n", err)


def test_a_run_that_is_not_there_is_one_line(lab: Lab) -> None:
    done = benchmark(lab, "--local_path", str(lab.root / "nowhere"))
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(r"benchmark\.py: no such folder: .*\n", done.err)


def test_help_fits_a_terminal(lab: Lab) -> None:
    done = benchmark(lab, "--help")
    assert done.code == 0
    assert [line for line in done.out.splitlines() if len(line) > 80] == []


# Growth


def test_a_plan_is_measured_in_its_own_process(lab: Lab) -> None:
    found = growth.planning(20_000, lab.env)
    assert found.size == "20,000 files"
    assert 0 < found.seconds < 60
    each = re.search(r" (\d+) bytes a file", found.note)
    assert each
    assert 50 < int(each[1]) < 3000


def test_a_log_is_measured_in_its_own_process(lab: Lab) -> None:
    found = growth.recording(20_000, lab.env)
    assert found.size == "20,000 files"
    assert 0 < found.seconds < 60
    log, journal, megabytes = map(int, re.findall(r"(\d+)(?:,| bytes| MB)", found.note))
    assert 50 < journal < log < 1000
    assert 1 < megabytes < 1000


def test_a_listing_is_measured_page_by_page(lab: Lab) -> None:
    found = growth.listing(1500, lab.root, lab.env, AWS_V1)
    assert found.size == "1,500 objects"
    assert found.seconds > 2 * 0.03  # that each page waits
    assert re.fullmatch(r"2 pages, \d+ ms and \d+ CPU-ms each", found.note)


def test_a_scan_over_uploaded_runs_is_measured(lab: Lab) -> None:
    found = next(growth.scans(lab.root / "grown", lab.env, scale=0.2))
    assert found.size == "2 runs of 1,000 files"
    assert re.fullmatch(r"\d+\.\d\d CPU-s, [1-9]\d+ MB", found.note)


def test_a_scan_that_has_something_to_do_is_not_a_measurement(lab: Lab) -> None:
    scans = growth.scans(lab.root / "grown", lab.env, scale=0.2)
    next(scans)
    next((lab.root / "grown/log/uploads").iterdir()).unlink()
    found = growth.scan
    with pytest.raises(RuntimeError, match="did not find all 2 runs uploaded"):
        found(lab.root / "grown/config.json", lab.root / "output", lab.env, 2, 1000)


def test_a_resumed_upload_is_measured(lab: Lab) -> None:
    found = growth.resume(lab.root / "resume", lab.env, AWS_V1, part=0.5, scale=0.01)
    assert found.size == "50% of 20 files"
    there, again = map(int, re.findall(r"\d+", found.note))
    assert 10 <= there <= 20
    assert 0 <= again < 20


# Parts


def test_cpu_time_and_memory_of_grandchildren_count(tmp_path: Path) -> None:
    busy = "import time\nheld = b'x' * 150_000_000\nwhile time.process_time() < 1: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    command = Command((sys.executable, "-c", parent), dict(os.environ))
    usage = run_together([command, command], tmp_path / "output")
    assert usage.returncodes == (0, 0)
    assert usage.cpu_seconds >= 2
    assert usage.peak_bytes > 150_000_000


def test_a_split_loses_nothing_and_is_even() -> None:
    files = [LocalFile(f"{number:03}", 80_000_000 if number < 7 else 10_000, 0) for number in range(500)]
    groups = split(files, 3)
    assert sorted(file for group in groups for file in group) == files
    costs = [cost_of(group) for group in groups]
    assert max(costs) < 1.3 * min(costs)
    assert [len(group) for group in split(files[:2], 3)] == [1, 1]


@pytest.mark.parametrize(
    ("name", "files", "size"),
    [
        *(("small", 4000, 4e7), ("tiny", 4000, 8e5), ("few", 200, 2e6), ("tls", 4000, 4e7), ("away", 4000, 4e7)),
        *(("far", 12_000, 1.2e8), ("large", 4, 1.6e9), ("novaseq", 110, 2e9), ("miseq", 950, 5.5e8)),
    ],
)
def test_shapes_are_as_large_as_they_say(name: str, files: int, size: float) -> None:
    shape = SHAPES[name]
    made = shape.files(plan_run(shape.instrument), 1)
    assert len(made) == pytest.approx(files, rel=0.05)
    assert sum(file.size for file in made) == pytest.approx(size, rel=0.15)
    assert len({file.path for file in made}) == len(made)
    assert "RunInfo.xml" in {file.path for file in made}


def measurement(
    label: str,
    seconds: float,
    cpu: float,
    *,
    round: int = 1,  # noqa: A002
    pair: Pair = Pair(2, 4),  # noqa: B008 - a tuple
    trouble: str = "",
) -> Measurement:
    workload = Workload("small", Path("run"), (LocalFile("RunInfo.xml", 1000, 0),), 0.0, 3)
    entry = Entry("bare" if label == "bare" else "s3sync", pair, label)
    return Measurement(workload, entry, round, Usage(seconds, cpu, 10**8, (0,)), 0.5, Counter(PutObject=1), trouble)


def summarised(measurements: Sequence[Measurement]) -> list[tuple[str, ...]]:
    (summaries,) = tables.by_workload(measurements).values()
    return tables.rows_of(summaries)[1:]


def test_ratios_are_taken_within_each_round() -> None:
    times = {"bare": (10, 20, 40), "s3sync": (12, 21, 80)}  # each round on a slower machine
    rounds = [measurement(label, times[label][n], 2 * times[label][n], round=n) for n in range(3) for label in times]
    bare, ours = summarised(rounds)
    assert bare == ("bare", "20.0", "10.0-40.0", "1.00", "40.0", "1.00", "100", "1", "0.5")
    assert ours == ("s3sync", "21.0", "12.0-80.0", "1.20", "42.0", "1.20", "100", "1", "0.5")
    assert summarised(rounds[1::2])[0][3] == ""  # nobody to compare with


def test_a_server_that_may_be_the_bottleneck_is_named() -> None:
    report = tables.report([measurement("bare", 0.6, 1), measurement("s3sync", 1.2, 1)], [])
    assert "The server was busy more than 70% of the time with: bare.\n" in report


def test_only_this_program_is_measured_over_a_grid() -> None:
    pairs = [Pair(2, 4), Pair(4, 8)]
    labels = [entry.label for entry in entries_of(["bare", "s3sync", "s3sync-size", "plain"], pairs)]
    assert labels == ["bare", "s3sync 2x4", "s3sync 4x8", "s3sync-size 2x4", "s3sync-size 4x8", "plain"]
    assert [entry.label for entry in entries_of(["s3sync"], pairs[:1])] == ["s3sync"]


def test_the_best_pair_is_the_one_with_the_least_median() -> None:
    times = {Pair(1, 4): (9, 30, 31), Pair(2, 8): (20, 20, 20)}
    rounds = [measurement(f"s3sync {pair}", t, t, pair=pair) for pair, several in times.items() for t in several]
    assert tables.best_pairs(rounds) == ["best of 2 for small: --cores 2 --threads 8 (20.0 s, 50 B/s)"]
    assert tables.best_pairs(rounds[:3]) == []  # of one there is no best
    assert tables.best_pairs([one._replace(trouble="lost") for one in rounds]) == []


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    measurements = [measurement("bare", 10, 20), measurement("s3sync", 12, 24)]
    plot.draw(tables.by_workload(measurements), tmp_path / "both.png")
    plot.draw(tables.by_workload(measurements[1:]), tmp_path / "alone.png")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


def test_what_the_defaults_rest_on_is_varied_one_at_a_time(lab: Lab) -> None:
    done = benchmark(lab, "--tune", "parts", "batch", "--scale", "0.0001", "--rounds", "1", "--cores", "1")
    assert done.code == 0, done.err
    rows = rows_in(lab, "tuning.tsv")
    assert Counter(row["contender"] for row in rows) == {"bare": 4, "s3sync": 4}
    assert {row["trouble"] for row in rows} == {""}
    assert [row["label"] for row in rows][:4] == ["parts 8", "parts 16", "parts 32", "parts 64"]
    table = (lab.root / "results" / "tuning.md").read_text()
    assert all(f"| {label} |" in table for label in ("parts 8", "parts 64", "batch 500", "batch 4000"))
    assert "batch 1000 | " in table
    assert re.search(r"\| batch 1000 \| .* \| 1\.00 \| .* \| 1\.00 \|", table)


@pytest.mark.parametrize("name", tuning.KNOBS)
def test_each_knob_has_its_default_among_its_values_and_what_it_sets_is_there(name: str) -> None:
    knob = tuning.KNOBS[name]
    assert knob.default in knob.values
    variation = knob.vary(knob.default)
    assert all(shape in SHAPES for shape, _ in knob.workloads)
    for constant, value in variation.constants:
        module, _, attribute = constant.rpartition(".")
        assert getattr(importlib.import_module(f"s3sync.{module}"), attribute) == pytest.approx(value)
