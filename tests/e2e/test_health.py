"""A scan that fails, or finds another one at work, shows in status, dashboard and metrics."""

from __future__ import annotations

import time
from pathlib import Path

from tests.helpers.lab import Lab
from tests.helpers.s3server import S3Server


def test_status_exits_with_1_and_says_why_after_a_failed_scan(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    config = lab.config_for(tiny_run, entry={"bucket": "no-such-bucket"})
    before = lab.run("status", "--config", config)

    scan = lab.run("monitor", "--config", config)
    after, asked = lab.run("status", "--config", config), lab.run("status", "--config", config, "--json")

    assert (before.code, before.err) == (0, "")
    assert "no scan has finished yet" in before.out
    assert (scan.code, after.code, asked.json["exit_code"]) == (1, 1, 1)
    assert after.err.startswith("s3sync: s3://no-such-bucket: ")
    assert scan.error_ids == after.error_ids == ["s3.no-bucket"]
    assert time.strftime("last scan %Y-") in after.out
    assert ": failed" in after.out
    assert (asked.json["level"], asked.json["last_scan_ok"]) == ("bad", False)
    assert [problem["key"] for problem in asked.json["problems"]] == ["s3://no-such-bucket"]


def test_a_scan_beside_another_one_updates_page_and_metrics(
    lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path
) -> None:
    web, prom = tmp_path / "web", tmp_path / "s3sync.prom"
    argv = ("monitor", "--config", lab.config_for(tiny_run, report_dir=str(web), metrics_file=str(prom)))
    with server.hold(key_contains="first") as gate, lab.start(*argv) as process:
        gate.wait_held()
        assert not web.exists()
        busy = lab.run(*argv)
        meanwhile, numbers = (web / "index.html").read_text(), prom.read_text()
        gate.release()
        process.communicate(timeout=120)

    assert (busy.code, process.returncode) == (0, 0)
    assert "A scan has been running since" in meanwhile
    assert "s3sync_tick_running 1.0" in numbers
    assert "s3sync_tick_running 0.0" in prom.read_text()
    assert "All is well" in (web / "index.html").read_text()
