"""Files of one run in several storage classes: upload, monitor, streaming, Slurm; proof and verification as ever."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.clusters import on_slurm
from tests.helpers.lab import BUCKET, FakeAws, Lab, tree
from tests.helpers.s3server import S3Server
from tests.helpers.slurm_double import SlurmDouble, slurm_double

CBCL = "--storage-class-for=\\.cbcl$=DEEP_ARCHIVE"
REST = ("--storage-class", "STANDARD_IA")
VARYING = re.compile(
    r"x-amz-(date|content-sha256|checksum-.*)|authorization|amz-sdk-.*|content-length|expect|user-agent"
)


def classes(server: S3Server) -> dict[str, str]:
    """The storage class of each object, by its path in the run."""
    stored = server.objects(BUCKET).items()
    return {key.partition("/")[2]: each.headers.get("x-amz-storage-class", "") for key, each in stored}


def test_each_file_is_stored_in_its_class_and_verified(
    lab: Lab, server: S3Server, tiny_run: Path, each_aws: str
) -> None:
    (tiny_run / "Data" / "large.cbcl").write_bytes(b"x" * 9_000_000)  # has parts
    (tiny_run / "Data" / "s.filter").write_bytes(b"y")

    result = lab.upload(tiny_run, CBCL, *REST, "--completion-object", "--json", "--aws_command", each_aws)

    assert (result.code, result.json["completed"]) == (0, True), result.err
    assert classes(server) == {
        "RunInfo.xml": "STANDARD_IA",
        "Data/first.cbcl": "DEEP_ARCHIVE",
        "Data/large.cbcl": "DEEP_ARCHIVE",
        "Data/s.filter": "STANDARD_IA",
        "Data/second.cbcl": "DEEP_ARCHIVE",
        "CopyComplete.txt": "STANDARD_IA",
        "s3sync.complete.json": "STANDARD_IA",
    }
    verified = lab.run("verify", str(tiny_run), "--bucket", BUCKET, "--log-dir", str(lab.log_dir))
    assert verified.code == 0, verified.out


def test_markers_and_the_completion_object_are_never_archived(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    result = lab.upload(tiny_run, "--storage-class-for", ".=GLACIER", "--completion-object")

    assert result.code == 0, result.err
    warm = {path for path, name in classes(server).items() if name != "GLACIER"}
    assert warm == {"CopyComplete.txt", "s3sync.complete.json"}


def test_what_is_warm_comes_back_without_thawing(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    assert lab.upload(tiny_run, CBCL, "--completion-object").code == 0
    argv = ("restore", tiny_run.name, "--bucket", BUCKET, "--log-dir", str(lab.log_dir), "--json")
    metadata = lab.run(*argv, "--local-path", str(lab.tmp), "--only", "metadata")
    assert (metadata.code, metadata.json["frozen_files"]) == (0, 0), metadata.err
    assert tree(lab.tmp / tiny_run.name).keys() == {"RunInfo.xml"}
    assert "s3sync.complete.json" in str(metadata.json["records"])
    (lab.root / "whole").mkdir()
    whole = lab.run(*argv, "--local-path", str(lab.root / "whole"))
    assert (whole.code, whole.json["frozen_files"]) == (1, 2)
    assert server.counters["RestoreObject"] == 0


def test_a_dry_run_counts_files_and_bytes_by_class(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    sizes = {path: len(content) for path, content in tree(tiny_run).items()}
    archived = sum(size for path, size in sizes.items() if path.endswith(".cbcl"))

    planned = lab.upload(tiny_run, CBCL, "--dry-run")
    assert f"  class   DEEP_ARCHIVE: 2 files, {archived} B\n" in planned.out
    assert "          2 of them are smaller than 40 KiB: AWS charges for 40 KiB more each\n" in planned.out
    assert "  class   STANDARD: 2 files, " in planned.out
    assert lab.upload(tiny_run, CBCL, "--dry-run", "--json").json["storage_classes"] == {
        "DEEP_ARCHIVE": {"files": 2, "bytes": archived},
        "STANDARD": {"files": 2, "bytes": sum(sizes.values()) - archived},
    }
    assert "class" not in lab.upload(tiny_run, "--dry-run").out
    entry = {"storage_classes": {r"\.cbcl$": "DEEP_ARCHIVE"}}
    config = lab.config_for(tiny_run, entry)
    (run,) = lab.run("monitor", "--config", config, "--dry-run", "--json").json["runs"]
    assert run["upload"]["storage_classes"]["DEEP_ARCHIVE"] == {"files": 2, "bytes": archived}
    assert not server.objects(BUCKET)


def test_what_is_verified_is_not_sent_again_when_its_class_changes(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    assert lab.upload(tiny_run).code == 0
    puts = server.counters["PutObject"]
    done = lab.upload(tiny_run, CBCL)
    assert (done.code, done.err) == (0, "")

    (tiny_run / "Data" / "third.cbcl").write_bytes(b"new")
    again = lab.upload(tiny_run, CBCL)

    assert again.code == 0, again.err
    assert "2 verified files are in another storage class than the patterns now say, and not sent again" in again.err
    assert server.counters["PutObject"] == puts + 1
    assert {path for path, name in classes(server).items() if name == "DEEP_ARCHIVE"} == {"Data/third.cbcl"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x", "does not end in = and a class"),
        (r"\.cbcl$=COLD", "does not end in = and a class"),
        ("=GLACIER", "no regular expression"),
        ("[=GLACIER", "is not a regular expression"),
    ],
)
def test_a_mistake_in_the_option_is_named(lab: Lab, server: S3Server, tiny_run: Path, value: str, said: str) -> None:
    result = lab.upload(tiny_run, "--storage-class-for", value)
    assert (result.code, server.requests) == (2, [])
    assert said in result.err


def test_monitor_streams_files_into_their_classes(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    (tiny_run / "CopyComplete.txt").unlink()
    entry = {"stream": True, "storage_class": "STANDARD_IA", "storage_classes": {r"\.cbcl$": "DEEP_ARCHIVE"}}

    assert lab.watch(tiny_run, entry=entry, settle_minutes=0).code == 0
    assert classes(server) == {"Data/first.cbcl": "DEEP_ARCHIVE", "Data/second.cbcl": "DEEP_ARCHIVE"}
    (tiny_run / "RTAComplete.txt").write_text("")
    (tiny_run / "CopyComplete.txt").write_text("")
    assert lab.watch(tiny_run, entry=entry, settle_minutes=0).code == 0

    warm = {path for path, name in classes(server).items() if name == "STANDARD_IA"}
    assert warm == {"RunInfo.xml", "RTAComplete.txt", "CopyComplete.txt"}


@pytest.fixture
def cluster(lab: Lab) -> Iterator[SlurmDouble]:
    with slurm_double(lab.tmp) as slurm:
        lab.env.update(slurm.env)
        yield slurm


def test_the_nodes_of_a_cluster_use_the_same_classes(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, wide_run: Path
) -> None:
    argv = on_slurm(lab, wide_run, quick_aws(""), r"--storage-class-for=/0\d\d[02468]\.cbcl$=GLACIER", CBCL, *REST)
    result = lab.run(*argv)

    assert result.code == 0, result.err
    assert lab.log(wide_run)["completed"]
    for path, name in classes(server).items():
        is_even = bool(re.search(r"/0\d\d[02468]\.cbcl$", path))
        assert name == ("GLACIER" if is_even else "DEEP_ARCHIVE" if path.endswith(".cbcl") else "STANDARD_IA"), path


def test_check_tries_each_class(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    entry = {"storage_classes": {"x": "GLACIER", "y": "STANDARD_IA"}}
    result = lab.run("check", "--config", lab.config_for(tiny_run, entry), "--write", "--json")
    writable = [each["text"] for each in result.json["findings"] if each["what"] == "writable"]
    assert [" in GLACIER: " in text or " in STANDARD_IA: " in text for text in writable] == [False, True, True]


@pytest.mark.real_aws
def test_the_fast_path_sends_what_the_cli_would_send(
    lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str
) -> None:
    """Each class has its own template."""
    for number in range(12):
        (tiny_run / "Data" / f"{number:02}.{'cbcl' if number % 2 else 'bin'}").write_text(str(number))
    seen: list[dict[str, dict[str, str]]] = []
    for client in ("default", "auto"):
        for key in server.objects(BUCKET):
            server.delete(BUCKET, key)
        log = str(lab.root / f"log-{client}")
        argv = ["upload", str(tiny_run), "--bucket", BUCKET, "--log-dir", log, "--transfer-client", client]
        with server.recording_headers() as recorded:
            result = lab.run(*argv, CBCL, *REST, "--aws-command", each_real_aws)
        assert result.code == 0, result.err
        assert "slower way" not in result.err
        puts = [each for each in recorded if each.get("x-amz-storage-class")]
        seen.append({each[":path"]: {n: v for n, v in each.items() if not VARYING.fullmatch(n)} for each in puts})
    assert seen[0] == seen[1]
    assert len(seen[0]) == 16
    assert json.dumps(classes(server)).count("DEEP_ARCHIVE") == 8
