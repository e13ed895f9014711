"""The CLI's transfer client in C, which only version 2 has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.lab import BUCKET, FakeAws, Lab
from tests.helpers.promise import is_verified
from tests.helpers.s3server import MIB, S3Server

pytestmark = [pytest.mark.real_aws, pytest.mark.any_client]


@pytest.mark.parametrize("by", ["upload", "monitor"])
def test_crt_is_passed_to_the_cli_but_not_to_version_1(
    lab: Lab, server: S3Server, tiny_run: Path, fake_aws: FakeAws, by: str
) -> None:
    seen = lab.root / "config"
    aws = fake_aws(f"if 'cp' in argv: open({str(seen)!r}, 'w').write(open(os.environ['AWS_CONFIG_FILE']).read())")
    if by == "upload":
        result = lab.upload(tiny_run, "--transfer_client", "crt", "--aws_command", aws)
    else:
        result = lab.watch(tiny_run, transfer_client="crt", aws_command=aws)
    assert result.code == 0
    assert "preferred_transfer_client = crt" in seen.read_text()
    said = result.err if by == "upload" else (lab.log_dir / "s3_upload.log").read_text()
    assert "transfer_client crt needs AWS CLI version 2; it is ignored" in said
    is_verified(lab, tiny_run, server)


@pytest.mark.real
@pytest.mark.parametrize(("client", "is_said"), [("auto", True), ("default", False)])
def test_the_preference_of_the_aws_config_is_replaced_and_reported(
    lab: Lab, server: S3Server, tiny_run: Path, aws_v2: str, client: str, is_said: bool
) -> None:
    config = lab.root / "aws-config"
    config.write_text("[default]\ns3 =\n  preferred_transfer_client = crt\n")
    lab.env["AWS_CONFIG_FILE"] = str(config)
    result = lab.upload(tiny_run, "--transfer_client", client, "--aws_command", aws_v2)
    assert result.code == 0
    assert ("preferred_transfer_client" in result.err) == is_said
    is_verified(lab, tiny_run, server)


def test_crt_with_a_bandwidth_limit_is_refused(lab: Lab, tiny_run: Path) -> None:
    used = lab.upload(tiny_run, "--transfer_client", "crt", "--max_bandwidth", "50MB/s")
    assert (used.code, used.error_ids) == (2, ["usage.conflict"])
    assert ("--max-bandwidth" in used.err, "--transfer-client crt" in used.err) == (True, True), used.err
    scanned = lab.watch(tiny_run, transfer_client="crt", max_bandwidth={"08:00-18:00": "50MB/s"})
    assert scanned.code == 78
    assert scanned.err.count("\n") == 1
    assert "config.crt-without-limit" in scanned.err


@pytest.fixture
def server_on_80() -> Iterator[S3Server]:
    """Debian's version 2 sends with that client to no other port."""
    try:
        with S3Server(port=80) as running:
            running.create_bucket(BUCKET)
            yield running
    except PermissionError:
        pytest.skip("only root may listen on port 80")
    except OSError as error:
        pytest.skip(f"port 80: {error.strerror}")


@pytest.mark.real
def test_what_crt_sends_is_verified_by_its_etags(
    tmp_path: Path, server_on_80: S3Server, tiny_run: Path, aws_v2: str
) -> None:
    (tiny_run / "Data/large.cbcl").write_bytes(os.urandom(20 * MIB + 1))
    (tiny_run / "Data/one_part.cbcl").write_bytes(os.urandom(8 * MIB))
    (tiny_run / "Data/empty.cbcl").write_bytes(b"")
    lab = Lab(tmp_path, "http://127.0.0.1:80", "")
    result = lab.upload(tiny_run, "--transfer_client", "crt", "--aws_command", aws_v2)
    assert (result.code, "warning" in result.err) == (0, False)
    is_verified(lab, tiny_run, server_on_80)
    assert lab.log(tiny_run)["verified_by"] == "etag"
    assert lab.log(tiny_run)["verified_by_exceptions"] == {}
