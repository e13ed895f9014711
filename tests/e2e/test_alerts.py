"""Silent trouble made loud: runs that are late, disks that fill. Once a day, and no exit code."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.errors import error_ids
from tests.helpers.hooks import Receiver, running
from tests.helpers.lab import BUCKET, Lab
from tests.helpers.s3server import Fault, S3Server

HOUR = 3600


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A webhook."""
    with running(Receiver()) as receiver:
        yield receiver


def webhook(receiver: Receiver) -> dict[str, str]:
    """The environment that names the webhook."""
    return {"S3SYNC_WEBHOOK": receiver.url("webhook"), "no_proxy": "127.0.0.1"}


def age(run: Path, hours: float, *names: str) -> None:
    """Pretend that the instrument wrote these files that many hours ago."""
    for name in names:
        os.utime(run / name, (time.time() - hours * HOUR,) * 2)


def events(receiver: Receiver) -> list[tuple[str, list[str]]]:
    """The event and the texts of the problems that the webhook received since the last call."""
    received = [message.json for message in receiver.take("webhook")]
    return [(message["event"], [item["text"] for item in message["runs"]]) for message in received]


def test_a_run_that_is_not_in_s3_a_day_after_its_end_is_reported_regardless_of_the_reason(
    lab: Lab, server: S3Server, tiny_run: Path, receiver: Receiver
) -> None:
    age(tiny_run, 30, "CopyComplete.txt")
    server.add_fault(Fault("drop", key_contains="first.cbcl", count=None))

    failed = lab.watch(tiny_run, env=webhook(receiver))

    assert failed.code == 1
    (late,) = [line for line in failed.err.splitlines() if error_ids(line) == ["monitor.run-late"]]
    assert re.search(r" 30 h \d\d min ", late)  # the scan takes its time
    assert ": new: complete, not uploaded yet" in late
    (text,) = dict(events(receiver))["alert"]
    assert text.startswith("not verified in S3 30 h")

    assert "monitor.run-late" not in lab.watch(tiny_run, env=webhook(receiver)).error_ids, "once, while it lasts"
    events(receiver)
    server.clear_faults()
    assert lab.watch(tiny_run, env=webhook(receiver)).code == 0
    recovered = [texts for event, texts in events(receiver) if event == "recovered"]
    assert any(text.startswith("was: not verified in S3") for texts in recovered for text in texts)


def test_a_run_that_is_uploaded_by_this_very_scan_is_not_late(lab: Lab, tiny_run: Path) -> None:
    age(tiny_run, 30, "CopyComplete.txt")

    result = lab.watch(tiny_run, "--json")

    assert (result.code, result.err, result.json["alerts"]) == (0, "", [])


def test_base_calls_without_the_end_of_the_copy_are_reported(lab: Lab, tiny_run: Path) -> None:
    """The instrument's copy died: RTAComplete.txt is there since yesterday, CopyComplete.txt never came."""
    (tiny_run / "CopyComplete.txt").rename(tiny_run / "RTAComplete.txt")
    age(tiny_run, 25, "RTAComplete.txt")

    result = lab.watch(tiny_run)

    assert (result.code, result.error_ids) == (0, ["monitor.run-late"])
    assert ": sequencing: waits for CopyComplete.txt" in result.err


@pytest.mark.parametrize(("days", "is_reported"), [(2, False), (8, True), (100, False)])
def test_a_run_whose_instrument_has_stopped_is_reported_once(
    lab: Lab, tiny_run: Path, days: int, is_reported: bool
) -> None:
    """A run that was left long before it was watched is not reported."""
    (tiny_run / "CopyComplete.txt").unlink()
    age(tiny_run, days * 24, "RunInfo.xml")

    result = lab.watch(tiny_run)

    assert (result.code, result.error_ids) == (0, ["monitor.run-stalled"] if is_reported else [])
    assert (" 8 days " in result.err and ": sequencing: waits for CopyComplete.txt" in result.err) is is_reported
    assert lab.watch(tiny_run).err == ""


def test_a_run_that_is_not_uploaded_anywhere_is_reported_once(lab: Lab, tiny_run: Path, receiver: Receiver) -> None:
    age(tiny_run, 90, "CopyComplete.txt", "RunInfo.xml")
    too_old: dict[str, Any] = {"max_age": 72, "env": webhook(receiver)}

    assert lab.watch(tiny_run, **too_old).error_ids == ["run.too-old", "monitor.run-late"]
    notes = [texts for event, texts in events(receiver) if event == "warning"]
    assert any("finished it: too old" in text for texts in notes for text in texts)
    assert lab.watch(tiny_run, **too_old).err == ""
    assert events(receiver) == []

    assert lab.upload(tiny_run, "--remote_path", "/elsewhere").code == 0
    second = {"monitored_directories": [str(tiny_run.parent)], "bucket": BUCKET, "remote_path": "/elsewhere"}
    first = {**second, "remote_path": "/"}
    result = lab.watch(tiny_run, "--json", monitor=[first, second], **too_old)
    assert result.json["alerts"] == []


def test_a_scan_that_is_busy_reports_what_is_late(
    lab: Lab, server: S3Server, tiny_run: Path, receiver: Receiver
) -> None:
    age(tiny_run, 30, "CopyComplete.txt")
    config = lab.config_for(tiny_run)
    gate = server.hold(key_contains="first.cbcl")
    with lab.start("monitor", "--config", config, env=webhook(receiver)) as scan, gate:
        gate.wait_held()
        busy = lab.run("monitor", "--config", config, env=webhook(receiver))
        gate.release()
        scan.communicate(timeout=120)
    assert (busy.code, busy.error_ids) == (0, ["monitor.run-late"])
    assert re.search(r" 30 h \d\d min ", busy.err)  # the scans take their time
    assert any(event == "alert" for event, _ in events(receiver))


def test_a_disk_that_fills_is_reported_with_what_to_do(lab: Lab, tiny_run: Path) -> None:
    result = lab.watch(tiny_run, "--json", alert_free_percent=100)

    assert result.code == 0
    texts = [alert["text"] for alert in result.json["alerts"] if alert["id"] == "monitor.disk-full"]
    assert any(str(tiny_run.parent) in text and "`s3sync cleanup`" in text for text in texts)
    assert set(result.error_ids) == {"monitor.disk-full"}
    assert json.loads(lab.watch(tiny_run, "--json", alert_free_percent=0).out)["alerts"] == []
