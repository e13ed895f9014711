"""`restore --dry-run` says what it takes: classes, thawing times by tier, room on the disk, and the user's prices."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.lab import Lab, tree
from tests.helpers.s3server import S3Server

MIB = 1024 * 1024


@pytest.fixture
def gone(lab: Lab, tiny_run: Path) -> Path:
    """A run of which two files of data are in an archive, moved away; one of them has two parts."""
    (tiny_run / "Data" / "second.cbcl").write_bytes(b"x" * 10_000_000)
    (tiny_run / "Data" / "first.cbcl").write_bytes(b"x" * 5_000_000)
    result = lab.watch(tiny_run, entry={"storage_classes": {r"\.cbcl$": "DEEP_ARCHIVE"}})
    assert result.code == 0, result.err
    shutil.move(tiny_run, tiny_run.parent.parent / "saved")
    return tiny_run


PRICES = {
    "currency": "EUR",
    "transfer_per_gb": 100,
    "retrieval_per_gb": {"DEEP_ARCHIVE/Bulk": 200, "DEEP_ARCHIVE/Standard": 1000},
    "requests_per_1000": {"STANDARD": 500, "DEEP_ARCHIVE": 1000, "DEEP_ARCHIVE/Bulk": 2000},
}


def test_the_cost_is_estimated_by_the_prices_of_the_config(lab: Lab, server: S3Server, gone: Path) -> None:
    argv = ("restore", gone.name, "--config", lab.config_for(gone, prices=PRICES), "--dry-run")
    rest = sum(map(len, tree(gone.parent.parent / "saved").values())) - 15_000_000

    planned = lab.run(*argv, "--json")

    assert planned.code == 0, planned.err
    assert planned.json["storage_classes"]["DEEP_ARCHIVE"] == {"files": 2, "bytes": 15_000_000}
    assert planned.json["thaw_hours_by_tier"] == {"Bulk": 48, "Standard": 12}
    assert planned.json["cost_estimate"] == {
        "currency": "EUR",
        "tier": "Bulk",
        "retrieval": 3.0,  # 15 MB
        "requests": 8.0,  # 2 to thaw, 3 and 2 to get
        "transfer": round(1.5 + rest / 1e7, 4),
        "total": round(12.5 + rest / 1e7, 4),
        "missing_prices": [],
    }
    assert (planned.json["reserve_bytes"], planned.json["has_room"]) == (64 * MIB, True)
    text = lab.run(*argv).out
    assert "  DEEP_ARCHIVE: 2 files, 15.0 MB\n" in text
    assert (
        "2 files in archives: thawing takes up to 48 h 00 min with --tier Bulk or 12 h 00 min with --tier Stan" in text
    )
    assert "  cost: about 12.50 EUR with --tier Bulk (retrieval 3.00, requests 8.00, transfer 1.50)\n" in text
    assert server.counters["GetObject"] == server.counters["RestoreObject"] == 0

    with_tier = lab.run(*argv, "--tier", "Standard").out
    assert "thawing takes up to 12 h 00 min with --tier Standard\n" in with_tier
    assert "not included, as `prices` in the config lacks it: requests_per_1000 of DEEP_ARCHIVE/Standard\n" in with_tier
    impossible = lab.run(*argv, "--tier", "Expedited").out
    assert "  --tier Expedited cannot thaw all of them\n" in impossible
    assert "  cost: about 12.50 EUR with --tier Bulk " in impossible


def test_without_prices_the_key_to_set_is_named_instead_of_an_estimate(lab: Lab, gone: Path) -> None:
    argv = ("restore", gone.name, "--config", lab.config_for(gone), "--dry-run")
    assert "  cost: no estimate (set `prices` in the config, and give --config FILE)\n" in lab.run(*argv).out
    assert lab.run(*argv, "--json").json["cost_estimate"] is None


def test_objects_that_are_already_thawed_cost_no_thawing(lab: Lab, server: S3Server, gone: Path) -> None:
    config = lab.config_for(gone, prices=PRICES)
    assert lab.run("restore", gone.name, "--config", config, "--tier", "Bulk").code == 1
    server.thaw("lab-runs", f"{gone.name}/Data/second.cbcl")
    argv = ("restore", gone.name, "--config", config, "--dry-run")
    planned = lab.run(*argv, "--json").json
    assert (planned["archived_files"], planned["thawing_files"], planned["thawed_files"]) == (2, 1, 1)
    assert planned["cost_estimate"]["retrieval"] == 0
    assert "2 files in archives, 1 thawed already, 1 being thawed: thawing takes" in lab.run(*argv).out
