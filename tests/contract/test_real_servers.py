"""The main job against servers that are not ours: moto, and Ceph's radosgw, which checks what S3 checks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from boto3.s3.transfer import S3Transfer, TransferConfig

from scripts.simulate_run import make_run
from tests.helpers.boto import client
from tests.helpers.hostile_names import HOSTILE_NAMES
from tests.helpers.lab import BUCKET, Lab, tree
from tests.helpers.promise import independent_etag
from tests.helpers.radosgw import Gateway, free_ports

pytestmark = pytest.mark.real_aws

MIB = 1024 * 1024


@pytest.fixture(scope="session")
def moto() -> Iterator[Gateway]:
    """A moto server of this test session."""
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield Gateway(f"http://127.0.0.1:{port}", "testing", "testing-secret-key")
        process.terminate()


@pytest.fixture(params=["moto", pytest.param("ceph", marks=pytest.mark.real)])
def gateway(request: pytest.FixtureRequest) -> Gateway:
    """Both servers in turn."""
    found: Gateway = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def foreign_lab(tmp_path: Path, gateway: Gateway) -> Lab:
    """A machine that reaches that server."""
    lab = Lab(tmp_path, gateway.url, "")
    lab.env |= {"AWS_ACCESS_KEY_ID": gateway.access_key, "AWS_SECRET_ACCESS_KEY": gateway.secret_key}
    return lab


def run_of_all_kinds(folder: Path, gateway: Gateway) -> Path:
    """A run with hostile names, and objects of one part, of several and of no bytes."""
    run = make_run(folder / "instrument", "novaseqx", cycles=(1, 1, 1, 1), lanes=2, tiles=2, scale=0.0000001)
    for name in HOSTILE_NAMES:
        if "\n" not in name or gateway.access_key != "testing":  # moto's URL routing knows no line ends
            (run / "Logs" / name).write_text(name)
    for name, size in {"at.cbcl": 8 * MIB, "above.cbcl": 20 * MIB + 1, "empty": 0}.items():
        (run / "Data" / name).write_bytes(os.urandom(size))
    return run


@pytest.mark.xdist_group("real servers")
def test_every_byte_arrives(foreign_lab: Lab, gateway: Gateway, each_real_aws: str, tmp_path: Path) -> None:
    """Hostile names, single and multipart objects, both generations of the CLI; checked with another client."""
    s3 = client(*gateway)
    bucket = f"{BUCKET}-{uuid.uuid4()}"
    s3.create_bucket(Bucket=bucket)
    run = run_of_all_kinds(tmp_path, gateway)
    (run / "CopyComplete.txt").write_bytes((run / "CopyComplete.txt").read_bytes())  # written last, as ever
    files = tree(run)

    result = foreign_lab.run(*foreign_lab.upload_argv(run, "--aws_command", each_real_aws, "--json", bucket=bucket))

    assert result.code == 0, result.out + result.err
    assert result.json["sent_files"] == len(files)
    keys = [
        item["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket) for item in page["Contents"]
    ]
    assert sorted(keys) == sorted(f"{run.name}/{path}" for path in files)
    for path, content in files.items():
        got = s3.get_object(Bucket=bucket, Key=f"{run.name}/{path}")
        assert got["Body"].read() == content
        assert got["ETag"].strip('"') == independent_etag(content)
    assert foreign_lab.log(run)["uploaded_files"] == {str(run / p): independent_etag(c) for p, c in files.items()}
    again = foreign_lab.run(*foreign_lab.upload_argv(run, "--json", bucket=bucket))
    assert (again.code, again.json["sent_files"]) == (0, 0)


@pytest.mark.xdist_group("real servers")
def test_a_run_comes_back(foreign_lab: Lab, gateway: Gateway, each_real_aws: str, tmp_path: Path) -> None:
    """Hostile names, empty folders, objects in parts, and one that another tool has sent in parts of another size."""
    s3 = client(*gateway)
    bucket = f"{BUCKET}-{uuid.uuid4()}"
    s3.create_bucket(Bucket=bucket)
    run = run_of_all_kinds(tmp_path, gateway)
    (run / "Data" / "none" / "inner").mkdir(parents=True)
    (run / "CopyComplete.txt").write_bytes((run / "CopyComplete.txt").read_bytes())  # written last, as ever
    options = ("--aws_command", each_real_aws)
    sent = foreign_lab.run(*foreign_lab.upload_argv(run, *options, "--completion-object", bucket=bucket))
    assert sent.code == 0, sent.out + sent.err
    parts = TransferConfig(multipart_threshold=6 * MIB, multipart_chunksize=6 * MIB)
    S3Transfer(s3, parts).upload_file(str(run / "Data" / "above.cbcl"), bucket, f"{run.name}/Data/above.cbcl")
    saved = run.rename(tmp_path / "saved")
    shutil.rmtree(foreign_lab.log_dir)

    result = foreign_lab.run(
        *("restore", str(run), "--bucket", bucket, "--log_dir", str(foreign_lab.log_dir), "--json", *options)
    )

    assert result.code == 0, result.out + result.err
    assert tree(run) == tree(saved)
    times = [{path.relative_to(top): path.stat().st_mtime_ns for path in top.rglob("*")} for top in (run, saved)]
    assert times[0] == times[1]
    again = foreign_lab.run(*foreign_lab.upload_argv(run, *options, "--json", bucket=bucket))
    assert (again.code, again.json["sent_files"]) == (0, 0)


@pytest.mark.xdist_group("real servers")
def test_an_object_in_parts_of_unequal_sizes(foreign_lab: Lab, gateway: Gateway, tmp_path: Path) -> None:
    """It is restored from a server that reports the sizes, and refused if nothing proves it."""
    s3 = client(*gateway)
    bucket = f"{BUCKET}-{uuid.uuid4()}"
    s3.create_bucket(Bucket=bucket)
    where = {"Bucket": bucket, "Key": "RUN/Data/odd.cbcl"}
    bodies = [os.urandom(size) for size in (6 * MIB, 5 * MIB, 7 * MIB + 1)]
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    tells = s3.head_object(**where, PartNumber=1)["ContentLength"] == len(bodies[0])
    options = ("--bucket", bucket, "--local-path", str(tmp_path), "--log-dir", str(foreign_lab.log_dir), "--json")

    result = foreign_lab.run("restore", "RUN", *options)

    assert tells == (gateway.access_key == "testing")
    assert (result.code, list(result.json["failed"])) == ((0, []) if tells else (1, ["Data/odd.cbcl"])), result.err
    assert (tmp_path / "RUN" / "Data" / "odd.cbcl").exists() == tells


@pytest.mark.real
@pytest.mark.xdist_group("real servers")
def test_a_refusal_without_a_message(tmp_path: Path, ceph: Gateway, small_run: Path, each_real_aws: str) -> None:
    """This server's errors have empty messages, which the CLI cannot handle."""
    lab = Lab(tmp_path, ceph.url, "")
    lab.env |= {"AWS_ACCESS_KEY_ID": ceph.access_key, "AWS_SECRET_ACCESS_KEY": ceph.secret_key}

    result = lab.run(*lab.upload_argv(small_run, "--aws_command", each_real_aws, bucket="no-such-bucket"))

    assert (result.code, result.out, result.error_ids) == (1, "", ["s3.no-bucket"])
    assert (" s3://no-such-bucket (" in result.err, "check its name" in result.err) == (True, True), result.err
    assert result.err.count("\n") == 1
    assert not lab.log_path(small_run).exists(), "a mistyped bucket leaves no run behind"


@pytest.mark.xdist_group("real servers")
def test_storage_classes_by_pattern(foreign_lab: Lab, gateway: Gateway, tiny_run: Path) -> None:
    """moto has all classes; Ceph has STANDARD alone, unless its zone was given others."""
    s3 = client(*gateway)
    bucket = f"{BUCKET}-{uuid.uuid4()}"
    s3.create_bucket(Bucket=bucket)
    entry = {"bucket": bucket, "storage_classes": {"RunInfo": "STANDARD", r"\.cbcl$": "STANDARD_IA"}}
    config = foreign_lab.config_for(tiny_run, entry)
    check = foreign_lab.run("check", "--config", config, "--write", "--json")
    *_, of_rule = [each for each in check.json["findings"] if each["what"] == "writable"]

    scan = foreign_lab.run("monitor", "--config", config)

    objects = s3.list_objects_v2(Bucket=bucket)["Contents"]
    found = {item["Key"].partition("/")[2]: item["StorageClass"] for item in objects}
    assert found.pop("RunInfo.xml") == "STANDARD"
    if gateway.access_key == "testing":
        assert (scan.code, of_rule["ok"]) == (0, True), scan.err
        cold = {"Data/first.cbcl": "STANDARD_IA", "Data/second.cbcl": "STANDARD_IA"}
        assert found == {**cold, "CopyComplete.txt": "STANDARD"}
    else:  # its errors are empty, so that the class has to be named
        assert (scan.code, of_rule["ok"], found) == (1, False, {})
        assert "(does this server have STANDARD_IA?)" in of_rule["text"]
        assert scan.err.count("(storage class STANDARD_IA)") == 2
