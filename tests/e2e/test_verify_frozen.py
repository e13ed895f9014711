"""`verify` of objects in archives: they are verified without being read, and the output says how to read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.analyses import make_analysis, make_run
from tests.helpers.lab import BUCKET, Lab, Result
from tests.helpers.s3server import Fault, S3Server


def verify(lab: Lab, run: Path, *argv: str) -> Result:
    return lab.run("verify", str(run), "--bucket", BUCKET, *argv)


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_frozen_objects_are_verified_without_being_read(
    lab: Lab, server: S3Server, tiny_run: Path, storage_class: str
) -> None:
    assert lab.upload(tiny_run, "--storage-class", storage_class).code == 0
    fetched = server.counters["GetObject"]
    result = verify(lab, tiny_run, "--json")
    assert (result.code, result.json["identical"]) == (0, True)
    assert result.json["archived"][storage_class]["files"] == result.json["total_local_files"]
    assert server.counters["GetObject"] == fetched
    assert server.counters["RestoreObject"] == 0
    said = verify(lab, tiny_run)
    assert f"in {storage_class}, frozen unless thawed" in said.out
    assert result.json["thaw"] in said.out
    assert result.json["thaw"].endswith("--local-path DIR --tier Bulk")


def test_the_command_that_thaws_an_analysis_names_its_run(lab: Lab, server: S3Server, tmp_path: Path) -> None:
    run, back = make_run(tmp_path / "instrument"), tmp_path / "back"
    analysis = make_analysis(run)
    back.mkdir()
    assert lab.upload(run, "--storage-class", "GLACIER").code == 0
    compared = verify(lab, analysis, "--json")
    assert compared.code == 0, compared.err
    argv = compared.json["thaw"].split()
    argv = argv[argv.index("restore") :]
    argv[argv.index("DIR")] = str(back)
    result = lab.run(*argv, "--json")
    assert result.code == 1, result.err
    assert result.json["frozen_files"] == 4, result.json  # all but the markers, which --only leaves out


def test_a_frozen_object_with_other_bytes_is_found(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    assert lab.upload(tiny_run, "--storage-class", "GLACIER").code == 0
    content = tiny_run / "Data" / "first.cbcl"
    content.write_bytes(b"x" * content.stat().st_size)
    result = verify(lab, tiny_run, "--json")
    assert (result.code, list(result.json["differing"])) == (1, ["Data/first.cbcl"])


def test_frozen_objects_whose_etags_are_not_md5s_are_called_frozen(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    assert lab.upload(tiny_run, "--storage-class", "GLACIER").code == 0
    for stored in server.objects(BUCKET).values():
        stored.etag, stored.checksums = "0" * 32, {}
    result = verify(lab, tiny_run, "--json")
    assert (result.code, result.json["identical"]) == (1, False)
    assert any("frozen in an archive" in why for why in result.json["differing"].values())


def test_the_archive_tiers_of_intelligent_tiering(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    assert lab.upload(tiny_run, "--storage-class", "INTELLIGENT_TIERING").code == 0
    plain = verify(lab, tiny_run, "--json").json
    assert (plain["archive_tiers"]["frozen"], plain["thaw"]) == (0, None)
    headers = server.objects(BUCKET)[f"{tiny_run.name}/Data/first.cbcl"].headers
    headers["x-amz-archive-status"] = "DEEP_ARCHIVE_ACCESS"
    result = verify(lab, tiny_run, "--json")
    assert (result.code, result.json["identical"]) == (0, True)
    assert result.json["archive_tiers"] == {"tried": 4, "frozen": 1}
    assert "1 of 4 objects of INTELLIGENT_TIERING that were tried are in its archive tiers" in verify(lab, tiny_run).out


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchKey")])
def test_an_archive_tier_that_cannot_be_asked_for_does_not_undo_the_comparison(
    lab: Lab, server: S3Server, tiny_run: Path, status: int, code: str
) -> None:
    assert lab.upload(tiny_run, "--storage-class", "INTELLIGENT_TIERING").code == 0
    server.add_fault(Fault("status", method="HEAD", operation="HeadObject", status=status, code=code, count=None))
    result = verify(lab, tiny_run, "--json")
    assert (result.code, result.json["identical"]) == (0, True), result.err
    assert result.json["archive_tiers"] == {"tried": 0, "frozen": 0}


def test_nothing_is_reported_of_a_run_that_is_not_frozen(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    assert lab.upload(tiny_run).code == 0
    result = verify(lab, tiny_run, "--json")
    assert (result.json["archived"], result.json["thaw"]) == ({}, None)
