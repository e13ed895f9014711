"""`restore` of objects in archives: thawing is requested once, and what is thawed comes back."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.lab import BUCKET, Lab, Result, tree
from tests.helpers.s3server import Dialect, Fault, S3Server
from tests.helpers.thaw_logs import date_back


def restore(lab: Lab, run: Path, *argv: str) -> Result:
    return lab.run("restore", str(run), "--bucket", BUCKET, "--log_dir", str(lab.log_dir), "--json", *argv)


@pytest.fixture(params=["GLACIER", "DEEP_ARCHIVE"])
def frozen(request: pytest.FixtureRequest, lab: Lab, tiny_run: Path) -> Path:
    """An uploaded run in an archive, which was moved away."""
    return archived(lab, tiny_run, request.param)


def archived(lab: Lab, run: Path, storage_class: str, *options: str) -> Path:
    assert lab.upload(run, "--storage-class", storage_class, *options).code == 0
    shutil.move(run, run.parent.parent / "saved")
    return run


def saved(run: Path) -> dict[str, bytes]:
    return tree(run.parent.parent / "saved")


def thaw_logs(lab: Lab) -> list[Path]:
    return list((lab.log_dir / "restores").glob("*.json"))


def test_thawing_is_not_requested_unless_the_user_says_so(lab: Lab, server: S3Server, frozen: Path) -> None:
    result = restore(lab, frozen)
    assert (result.code, result.json["frozen_files"], result.json["thawing_files"]) == (1, 4, 0)
    assert server.counters["RestoreObject"] == 0
    assert not frozen.exists()
    planned = restore(lab, frozen, "--dry-run")
    assert (planned.code, planned.json["archived_files"]) == (0, 4)
    assert planned.json["thaw_hours"] >= 12


def test_it_is_requested_once_and_then_the_run_comes_back(lab: Lab, server: S3Server, frozen: Path) -> None:
    first = restore(lab, frozen, "--tier", "Bulk")
    assert (first.code, first.json["thawing_files"]) == (1, 4), first.err
    assert first.json["ready_at"]
    assert server.counters["RestoreObject"] == 4
    again = restore(lab, frozen, "--tier", "Bulk")
    assert (again.code, again.json["thawing_files"]) == (1, 4)
    assert server.counters["RestoreObject"] == 4, "once"
    assert len(thaw_logs(lab)) == 1
    server.thaw(BUCKET)
    last = restore(lab, frozen)
    assert last.code == 0, last.out + last.err
    assert tree(frozen) == saved(frozen)
    assert thaw_logs(lab) == []


def test_what_is_thawed_is_delivered_without_the_marker(lab: Lab, server: S3Server, frozen: Path) -> None:
    assert restore(lab, frozen, "--tier", "Standard").code == 1
    server.thaw(BUCKET, f"{frozen.name}/RunInfo.xml", f"{frozen.name}/CopyComplete.txt")
    partly = restore(lab, frozen)
    assert (partly.code, partly.json["frozen_files"]) == (1, 2), partly.out
    assert tree(frozen).keys() == {"RunInfo.xml"}
    server.thaw(BUCKET)
    fetched = server.counters["GetObject"]
    assert restore(lab, frozen).code == 0
    assert server.counters["GetObject"] == fetched + 2, "what was verified is not fetched again"
    assert tree(frozen) == saved(frozen)


def test_what_has_frozen_again_is_requested_again(lab: Lab, server: S3Server, frozen: Path) -> None:
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    server.thaw(BUCKET)
    server.freeze(BUCKET)
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    assert server.counters["RestoreObject"] == 8


def test_waiting(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    frozen = archived(lab, tiny_run, "GLACIER")
    process = lab.start(
        *("restore", str(frozen), "--bucket", BUCKET, "--log_dir", str(lab.log_dir)), "--tier", "Bulk", "--wait"
    )
    server.wait_for("RestoreObject", 4)
    server.thaw(BUCKET)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert tree(frozen) == saved(frozen)


def test_denied(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    frozen = archived(lab, tiny_run, "GLACIER")
    denial = Fault("status", method="POST", operation="RestoreObject", status=403, code="AccessDenied", count=None)
    server.add_fault(denial)
    result = restore(lab, frozen, "--tier", "Bulk")
    assert result.code == 1
    assert "[restore.thaw-denied]" in result.err
    assert not frozen.exists()


def test_what_s3_never_accepted_is_not_waited_for(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """There is nothing that could have expired."""
    frozen = archived(lab, tiny_run, "DEEP_ARCHIVE")
    refusal = Fault("status", method="POST", operation="RestoreObject", status=400, code="InvalidArgument", count=None)
    server.add_fault(refusal)
    result = restore(lab, frozen, "--tier", "Bulk")
    assert (result.code, len(result.json["failed"]), result.json["thawing_files"]) == (1, 4, 0), result.out
    assert thaw_logs(lab) == []
    assert lab.run("status", "--config", lab.config_for(frozen), "--json").json["restores"] == []


def test_a_tier_that_a_class_does_not_have_is_neither_requested_nor_advised(
    lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    frozen = archived(lab, tiny_run, "DEEP_ARCHIVE")
    said = lab.run("restore", str(frozen), "--bucket", BUCKET, "--log_dir", str(lab.log_dir)).out
    assert "(add --tier Bulk or Standard)" in said
    result = restore(lab, frozen, "--tier", "Expedited")
    assert (result.code, result.json["thawing_files"]) == (1, 0), result.out
    assert set(result.json["failed"].values()) == {
        "DEEP_ARCHIVE cannot be thawed with Expedited (use Bulk or Standard)"
    }
    assert server.counters["RestoreObject"] == 0
    assert thaw_logs(lab) == []


def test_the_archive_tiers_of_intelligent_tiering(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    frozen = archived(lab, tiny_run, "INTELLIGENT_TIERING")
    server.objects(BUCKET)[f"{frozen.name}/Data/first.cbcl"].headers["x-amz-archive-status"] = "ARCHIVE_ACCESS"
    result = restore(lab, frozen, "--tier", "Bulk")
    assert (result.code, result.json["frozen_files"], result.json["thawing_files"]) == (1, 1, 1), result.out
    server.thaw(BUCKET)
    assert restore(lab, frozen).code == 0
    assert tree(frozen) == saved(frozen)


def tiered(lab: Lab, server: S3Server, run: Path, *frozen: int) -> Path:
    """An uploaded run in INTELLIGENT_TIERING, with 120 files that may be in archive tiers, where these are."""
    for number in range(120):
        (run / "Data" / f"{number:03}.cbcl").write_bytes(b"\0" * 131_072)
    archived(lab, run, "INTELLIGENT_TIERING")
    for number in frozen:
        server.objects(BUCKET)[f"{run.name}/Data/{number:03}.cbcl"].headers["x-amz-archive-status"] = "ARCHIVE_ACCESS"
    return run


def test_a_preview_asks_a_sample_for_its_archive_tier(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    run = tiered(lab, server, tiny_run, 0, 1, 2)
    planned = restore(lab, run, "--dry-run").json
    assert planned["archive_tiers"] == {"tried": 100, "frozen": 3}
    assert (planned["archived_files"], planned["thawed_files"], planned["thaw_hours"]) == (3, 0, 12)
    assert server.counters["HeadObject"] == 100
    said = lab.run("restore", str(run), "--bucket", BUCKET, "--log_dir", str(lab.log_dir), "--dry-run").out
    assert "20 other objects of INTELLIGENT_TIERING may be in its archive tiers: not tried" in said


def test_what_is_in_archive_tiers_is_not_downloaded_to_find_out(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    run = tiered(lab, server, tiny_run, *range(120))
    result = restore(lab, run, "--tier", "Bulk")
    assert (result.json["frozen_files"], result.json["thawing_files"]) == (120, 120), result.out
    assert not any("/Data/0" in request.key for request in server.requests if request.operation == "GetObject")
    server.thaw(BUCKET)
    assert restore(lab, run).code == 0
    assert tree(run) == saved(run)


def test_an_archive_tier_that_s3_does_not_tell_is_learned_from_the_refusal(
    lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    run = tiered(lab, server, tiny_run, 7)
    server.add_fault(
        Fault("status", method="HEAD", operation="HeadObject", status=403, code="AccessDenied", count=None)
    )
    assert restore(lab, run, "--dry-run").json["archive_tiers"] == {"tried": 0, "frozen": 0}
    result = restore(lab, run)
    assert (result.code, result.json["frozen_files"], result.json["failed"]) == (1, 1, {}), result.out


def test_an_object_that_failed_before_it_was_found_frozen(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    frozen = archived(lab, tiny_run, "INTELLIGENT_TIERING")
    server.objects(BUCKET)[f"{frozen.name}/Data/first.cbcl"].headers["x-amz-archive-status"] = "ARCHIVE_ACCESS"
    server.add_fault(
        Fault("status", method="GET", operation="GetObject", status=503, code="SlowDown", key_contains="first.cbcl")
    )
    result = restore(lab, frozen, "--tier", "Bulk")
    assert (result.code, result.json["failed"], result.json["thawing_files"]) == (1, {}, 1), result.out


def test_a_frozen_completion_object_is_thawed_and_compared_too(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    frozen = archived(lab, tiny_run, "GLACIER", "--completion-object")
    first = restore(lab, frozen, "--tier", "Bulk")
    assert (first.code, first.json["thawing_files"]) == (1, 5)
    server.thaw(BUCKET)
    last = restore(lab, frozen)
    assert last.code == 0, last.out
    assert len(last.json["records"]) == 2


def test_each_target_and_part_is_waited_for_by_itself(
    lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path
) -> None:
    frozen = archived(lab, tiny_run, "GLACIER")
    assert restore(lab, frozen, "--tier", "Bulk", "--only", "metadata").code == 1
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    server.thaw(BUCKET)
    assert restore(lab, frozen, "--only", "metadata").code == 0
    assert restore(lab, Path(frozen.name), "--local-path", str(tmp_path)).code == 0
    date_back(lab)
    lab.watch(frozen)
    assert tree(frozen) == saved(frozen)
    assert thaw_logs(lab) == []


def test_what_was_not_requested_is_not_called_thawing(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    frozen = archived(lab, tiny_run, "GLACIER")
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    (log,) = thaw_logs(lab)
    facts = json.loads(log.read_text())
    log.write_text(json.dumps({**facts, "requested": facts["requested"][1:], "requested_at": "2026-01-01T00:00:00Z"}))
    said = lab.run("restore", str(frozen), "--bucket", BUCKET, "--log_dir", str(lab.log_dir)).out
    assert "1 object must be thawed first" in said
    assert "3 objects being thawed until" in said
    problems = lab.watch(frozen, "--json").json["problems"]
    assert [(problem["id"], "1 object" in problem["text"]) for problem in problems] == [("restore.frozen-again", True)]


def test_a_damaged_restore_log_only_costs_requests(lab: Lab, server: S3Server, frozen: Path) -> None:
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    (log,) = thaw_logs(lab)
    assert json.loads(log.read_text())["frozen_files"] == 4
    assert log.stat().st_mode & 0o077 == 0
    log.write_text("{")
    again = restore(lab, frozen, "--tier", "Bulk")
    assert (again.code, again.json["thawing_files"]) == (1, 4)


def test_the_monitor_continues_what_may_be_thawed(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    frozen = archived(lab, tiny_run, "GLACIER")
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    config = lab.config_for(frozen)
    (shown,) = lab.run("status", "--config", config, "--json").json["restores"]
    assert (shown["run_id"], shown["frozen_files"]) == (frozen.name, 4)
    assert "4 objects" in lab.run("status", "--config", config).out
    server.thaw(BUCKET)
    lab.watch(frozen)
    assert not frozen.exists(), "it is too early to ask"
    date_back(lab)
    lab.watch(frozen)
    assert tree(frozen) == saved(frozen)
    assert thaw_logs(lab) == []
    assert lab.run("status", "--config", config, "--json").json["restores"] == []


@pytest.mark.parametrize("umask", [0o002, 0o027])
def test_the_monitor_restores_files_for_those_who_may_read_what_the_user_restores(
    lab: Lab, server: S3Server, tiny_run: Path, umask: int
) -> None:
    """A scan writes its own files for its user alone, but a run is for all of the lab."""
    (tiny_run / "none").mkdir()
    frozen = archived(lab, tiny_run, "GLACIER", "--completion-object")
    argv = ("restore", str(frozen), "--bucket", BUCKET, "--log_dir", str(lab.log_dir), "--tier", "Bulk")
    assert lab.run(*argv, umask=umask).code == 1
    server.thaw(BUCKET, f"{frozen.name}/RunInfo.xml", f"{frozen.name}/s3sync.complete.json")
    for _ in range(2):  # in part, and the rest
        date_back(lab)
        for tried in (lab.log_dir / "restores").glob("*.tried"):
            tried.unlink()
        lab.watch(frozen)
        server.thaw(BUCKET)
    assert tree(frozen) == saved(frozen)
    modes = {path.stat().st_mode & 0o777 for path in [frozen, *frozen.rglob("*")]}
    assert modes == {0o755 & ~umask, 0o644 & ~umask}
    assert (frozen / "none").is_dir()


def test_the_monitor_continues_with_the_manifest_of_the_command(
    lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "run.tsv"
    options = ("--bucket", BUCKET, "--manifest", str(manifest))
    assert lab.upload(tiny_run, "--storage-class", "GLACIER").code == 0
    assert lab.run("verify", str(tiny_run), *options).code == 0
    header, row, *rows = manifest.read_text().split("\n")
    path, size, _, *rest = row.split("\t")
    manifest.write_text("\n".join([header, "\t".join([path, size, "0" * 32, *rest]), *rows]))
    frozen = archived(lab, tiny_run, "GLACIER")
    assert restore(lab, frozen, "--tier", "Bulk", "--manifest", str(manifest)).code == 1
    date_back(lab)
    server.thaw(BUCKET)
    scan = lab.watch(frozen, "--json")
    (problem,) = [problem for problem in scan.json["problems"] if problem["id"] == "restore.failed"]
    assert "manifest" in problem["text"]
    assert not frozen.exists()


def test_the_monitor_reports_a_restore_that_froze_again(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    frozen = archived(lab, tiny_run, "GLACIER")
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    date_back(lab)
    server.freeze(BUCKET)
    scan = lab.watch(frozen, "--json")
    assert "restore.frozen-again" in [problem["id"] for problem in scan.json["problems"]], scan.out
    assert server.counters["RestoreObject"] == 4


def test_the_monitor_does_not_download_in_each_scan_what_cannot_be_verified(
    lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    frozen = archived(lab, tiny_run, "GLACIER")
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    date_back(lab)
    server.thaw(BUCKET)
    stored = server.objects(BUCKET)[f"{frozen.name}/RunInfo.xml"]
    right, stored.body = stored.body, b"x" * len(stored.body or b"")
    first = lab.watch(frozen, "--json").json["problems"]
    assert [problem["id"] for problem in first] == ["restore.failed"]
    fetched = server.counters["GetObject"]
    assert lab.watch(frozen, "--json").json["problems"] == first
    assert server.counters["GetObject"] == fetched
    stored.body = right
    assert restore(lab, frozen).code == 0
    assert [*(lab.log_dir / "restores").glob("*.thaw.json"), *(lab.log_dir / "restores").glob("*.tried")] == []


def test_a_thawed_file_is_not_forgotten_if_another_one_is_in_its_place(
    lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    frozen = archived(lab, tiny_run, "GLACIER")
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    date_back(lab)
    server.thaw(BUCKET)
    frozen.mkdir()
    (frozen / "RunInfo.xml").write_text("mine")
    for _ in range(2):
        scan = lab.watch(frozen, "--json")
        assert "restore.failed" in [problem["id"] for problem in scan.json["problems"]], scan.out
        assert pending(lab, frozen)["problem"]["id"] == "restore.failed"
    assert restore(lab, frozen, "--overwrite").code == 0
    assert tree(frozen) == saved(frozen)
    assert thaw_logs(lab) == []


def pending(lab: Lab, run: Path) -> dict[str, Any]:
    """The only restore that `status` shows."""
    (shown,) = lab.run("status", "--config", lab.config_for(run), "--json").json["restores"]
    return dict(shown)


@pytest.mark.parametrize("lists_restores", [True, False])
def test_the_state_of_each_object_counts(lab: Lab, server: S3Server, tiny_run: Path, lists_restores: bool) -> None:
    for number in range(12):
        (tiny_run / "Data" / f"{number:02}.cbcl").write_text(f"the file {number:02}")
    frozen = archived(lab, tiny_run, "GLACIER")
    server.dialect = Dialect(lists_restores=lists_restores)
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    server.thaw(BUCKET, f"{frozen.name}/Data/03.cbcl", f"{frozen.name}/Data/07.cbcl")
    fetched = server.counters["GetObject"]
    partly = restore(lab, frozen)
    assert (partly.json["frozen_files"], partly.json["thawing_files"]) == (14, 14), partly.out
    assert tree(frozen).keys() == {"Data/03.cbcl", "Data/07.cbcl"}
    assert server.counters["GetObject"] == fetched + 2, "what is frozen is not asked for"
    shown = pending(lab, frozen)
    assert (shown["requested_files"], shown["thawed_files"], shown["frozen_files"]) == (16, 2, 14)
    assert (shown["problem"], shown["days"]) == (None, 7)
    assert shown["ready_at"] > shown["requested_at"] > "2026"


def test_what_expires_during_the_download_is_not_called_thawing(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    frozen = archived(lab, tiny_run, "GLACIER")
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    server.thaw(BUCKET)
    refusal = Fault(
        "status", method="GET", operation="GetObject", status=403, code="InvalidObjectState", key_contains="first.cbcl"
    )
    server.add_fault(replace(refusal, count=None))
    result = restore(lab, frozen)
    assert (result.code, result.json["frozen_files"], result.json["thawing_files"]) == (1, 1, 0), result.out
    assert pending(lab, frozen)["frozen_files"] == 1
    assert restore(lab, frozen, "--tier", "Bulk").json["thawing_files"] == 1


def test_thawed_copies_that_could_not_be_restored_are_shown_with_their_end(
    lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    frozen = archived(lab, tiny_run, "DEEP_ARCHIVE")
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    server.thaw(BUCKET)
    server.add_fault(Fault("status", method="GET", operation="GetObject", status=500, code="InternalError", count=None))
    assert restore(lab, frozen).code == 1
    shown = pending(lab, frozen)
    assert (shown["thawed_files"], shown["frozen_files"]) == (4, 0)
    assert shown["expires_at"].startswith("2029-12-21")


def test_a_scan_that_finds_a_restore_waiting_notes_it(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    frozen = archived(lab, tiny_run, "GLACIER")
    assert restore(lab, frozen, "--tier", "Bulk").code == 1
    scan = lab.watch(frozen, "--json")
    (note,) = [problem for problem in scan.json["problems"] if problem["key"].startswith("restore of ")]
    assert (scan.code, note["kind"], note["id"]) == (0, "note", "restore.pending")
    assert "4 objects" in note["text"]
