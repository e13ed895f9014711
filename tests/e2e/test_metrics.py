"""What a scan leaves behind: the page and the metrics, for all to read, remembered over scans, and never in its way."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse

from s3sync.inventory import history
from s3sync.inventory.history import History
from s3sync.monitor import metrics, problems
from s3sync.monitor.last_scan import LastScan
from s3sync.monitor.scan_status import ScanStatus
from tests.helpers.lab import Lab, skip_or_fail
from tests.helpers.s3server import S3Server

CONF = Path(__file__).parents[2] / "conf"


def samples(path: Path) -> dict[str, float]:
    """Values by `name` or `name label`."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in parse(path.read_text())
        for sample in family.samples
    }


def test_scans_leave_page_and_metrics_and_count_what_they_uploaded(
    lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path
) -> None:
    """A scan that cannot reach the bucket, one that uploads, and one with nothing to do."""
    prom, web = tmp_path / "node" / "s3sync.prom", tmp_path / "web"
    published: dict[str, Any] = {"report_dir": str(web), "metrics_file": str(prom)}
    os.utime(tiny_run / "CopyComplete.txt", (time.time() - 7200, time.time() - 7200))
    size = sum(path.stat().st_size for path in tiny_run.rglob("*") if path.is_file())

    lost = lab.watch(tiny_run, **published, entry={"bucket": "no-such-bucket"})

    assert lost.code == 1
    first = samples(prom)
    assert first["s3sync_problems aws"] == 1
    assert first["s3sync_last_success_timestamp_seconds"] == 0
    assert first["s3sync_oldest_waiting_run_seconds"] == pytest.approx(7200, abs=600)
    assert first["s3sync_uploaded_runs_total"] == 0
    page = (web / "index.html").read_text()
    assert "1 thing needs attention" in page
    assert "no such bucket: s3://no-such-bucket" in page

    done = lab.watch(tiny_run, **published)

    assert (done.code, done.err) == (0, "")
    second = samples(prom)
    uploaded = {"runs": 1, "files": 4, "bytes": size}
    assert {name: second[f"s3sync_uploaded_{name}_total"] for name in uploaded} == uploaded
    assert {state: second[f"s3sync_runs {state}"] for state in history.STATES} == {
        state: float(state == "uploaded") for state in history.STATES
    }
    assert all(second[f"s3sync_problems {kind}"] == 0 for kind in problems.KINDS)
    assert second["s3sync_last_success_timestamp_seconds"] == second["s3sync_last_tick_timestamp_seconds"] > 0
    assert second["s3sync_oldest_waiting_run_seconds"] == second["s3sync_failed_files"] == 0
    assert second[f"s3sync_free_bytes {lab.log_dir}"] > 0
    assert "All is well" in (web / "index.html").read_text()
    log = lab.log(tiny_run)  # the first destination's had nothing to say, and left the plain name
    assert (log["sent_files"], log["sent_bytes"]) == (4, size)
    assert log["seconds"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", log["instrument_done"])
    assert log["instrument_done"] < log["started"]
    assert list(log).index("instrument_done") < list(log).index("failed_upload_files"), "so that the head has it"

    prom.unlink()
    assert lab.watch(tiny_run, **published).code == 0

    third = samples(prom)
    assert {name: third[f"s3sync_uploaded_{name}_total"] for name in uploaded} == uploaded, "remembered elsewhere"
    (tiny_run / "Data" / "late.cbcl").write_bytes(b"late")
    assert lab.upload(tiny_run).code == 0
    log = lab.log(tiny_run)
    assert (log["total_uploaded_files"], log["sent_files"], log["sent_bytes"]) == (5, 1, 4), "it began anew"
    for path in (prom, web / "index.html"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert stat.S_IMODE(lab.log_dir.stat().st_mode) == 0o700, "what is private stays so"


def test_problems_with_page_and_metrics_are_only_warnings(lab: Lab, tiny_run: Path, tmp_path: Path) -> None:
    tiny_run.joinpath("CopyComplete.txt").unlink()  # nothing to upload
    (tmp_path / "file").touch()
    published: dict[str, Any] = {
        "report_dir": str(tmp_path / "file" / "page"),
        "metrics_file": str(tmp_path / "file" / "x.prom"),
    }

    result = lab.watch(tiny_run, **published)

    assert result.code == 0
    assert "s3sync: cannot write the dashboard: cannot write" in result.err
    assert "s3sync: cannot write the metrics: cannot write" in result.err
    assert "Traceback" not in result.err
    assert not list(tmp_path.glob("**/*.tmp"))
    checked = lab.run("check", "--config", lab.config_for(tiny_run, **published))
    assert f"PROBLEM  report_dir: {tmp_path}/file/page/index.html: " in checked.out
    assert "PROBLEM  metrics_file: " in checked.out


def test_a_scan_that_is_interrupted_says_so(lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path) -> None:
    """The metrics do not stay at what the scan before said."""
    prom = tmp_path / "s3sync.prom"
    argv = ("monitor", "--config", lab.config_for(tiny_run, metrics_file=str(prom)))
    with server.hold(key_contains="first") as gate, lab.start(*argv) as process:
        gate.wait_held()
        process.send_signal(signal.SIGTERM)
        gate.release()
        process.communicate(timeout=120)

    assert process.returncode == 143
    left = samples(prom)
    assert (left["s3sync_problems other"], left["s3sync_last_success_timestamp_seconds"]) == (1, 0)
    assert left["s3sync_runs partial"] == 1


def test_report_writes_the_page_on_request(lab: Lab, tiny_run: Path, tmp_path: Path) -> None:
    tiny_run.joinpath("CopyComplete.txt").unlink()
    config = lab.config_for(tiny_run)

    shown = lab.run("report", "--config", config, "--output", str(tmp_path / "web"))

    assert shown.code == 0
    assert shown.out.startswith(f"written: {tmp_path}/web/index.html (1 run, ")
    assert "\n  No scan yet\n  1 sequencing\n  No complete run is waiting to be uploaded.\n" in shown.out
    (tmp_path / "web").chmod(0o700)
    asked = lab.run("report", "--config", config, "--output", str(tmp_path / "web"), "--json")
    assert asked.json["runs"] == {"sequencing": 1}
    assert (asked.json["verdict"], asked.json["level"]) == ("No scan yet", "attention")
    assert asked.json["bytes"] == (tmp_path / "web" / "index.html").stat().st_size
    assert asked.json["closed"], "pytest's own folder is private"
    assert "is closed to other users" in asked.err
    wrong = lab.run("report", "--config", config, "--output", f"{config}/page")
    assert wrong.code == 1
    assert "[monitor.dashboard-not-writable]" in wrong.err
    assert len(wrong.err.splitlines()) == 1


# The sample rules


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((CONF / "s3sync.rules.yaml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def test_the_sample_rules_ask_for_metrics_that_there_are() -> None:
    scan = LastScan(ended=1, seconds=1, succeeded=1)
    families = list(parse(metrics.render(History(1, (), ()), ScanStatus(last=scan), {Path("/log"): 1}).decode()))
    asked = set(re.findall(r"\bs3sync_\w+", " ".join(rule["expr"] for rule in rules())))
    assert asked
    assert asked <= {sample.name for family in families for sample in family.samples}
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert not re.search(r"_(bytes|seconds)(_total)?$", family.name) or re.search(
            r"[Bb]ytes|seconds", family.documentation
        ), family.name


@pytest.mark.real
def test_prometheus_own_tool_finds_nothing_wrong(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        skip_or_fail("no promtool (Debian: prometheus)")
    hostile = {Path('/log "dir"\\n'): 5}
    written = metrics.render(History(1, (), ()), ScanStatus(last=LastScan(ended=1, seconds=2.5, succeeded=0)), hostile)
    linted = subprocess.run([promtool, "check", "metrics"], input=written, capture_output=True, check=False)
    assert (linted.returncode, linted.stderr) == (0, b"")
    checked = subprocess.run([promtool, "check", "rules", str(CONF / "s3sync.rules.yaml")], capture_output=True)
    assert checked.returncode == 0, checked.stdout
