"""The main job, end to end: one run from disk to S3, verified and remembered."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from scripts.simulate_run import make_run
from tests.helpers.lab import BUCKET, Lab, tree
from tests.helpers.promise import MIB, independent_etag, put_order
from tests.helpers.s3server import S3Server


def test_every_byte_arrives_and_the_log_says_so(
    lab: Lab, server: S3Server, small_run: Path, each_aws: str, tmp_path: Path
) -> None:
    sizes = {"empty.bin": 0, "below.bin": 8 * MIB - 1, "at.bin": 8 * MIB, "above.bin": 8 * MIB + 1, "two.bin": 16 * MIB}
    for name, size in sizes.items():
        (small_run / "Data" / name).write_bytes(os.urandom(size))
    (small_run / ".hidden").write_text("dotfiles count")
    before = tree(small_run)

    result = lab.upload(small_run, "--remote_path", "/2026/miseq/", "--aws_command", each_aws, "--cores", "2")

    assert (result.code, result.err.count("\n")) == (0, 2)  # a line at the start, one at the end
    assert result.out.startswith(f"uploaded: {small_run.name}\n  to      s3://{BUCKET}/2026/miseq/{small_run.name}/\n")
    assert f"{len(before):,} of {len(before):,} verified in S3 by ETag" in result.out
    stored = server.objects(BUCKET)
    assert {key: item.body for key, item in stored.items()} == {
        f"2026/miseq/{small_run.name}/{path}": content for path, content in before.items()
    }
    assert tree(small_run) == before, "the run folder is never written to"
    check_log(lab.log(small_run), small_run, before)
    assert list(lab.tmp.iterdir()) == [], "no work folder is left"
    assert [p.name for p in (lab.log_dir / "uploads").iterdir()] == [f"{small_run.name}.upload.log.json"]


def check_log(log: dict[str, Any], run: Path, files: dict[str, bytes]) -> None:
    """The eight contract keys exactly, and those of our own that people read."""
    assert log["run_id"] == run.name
    assert log["run_path"] == str(run)
    assert log["completed"] is True
    assert log["total_local_files"] == log["total_uploaded_files"] == len(files)
    assert log["total_failed_upload"] == 0
    assert log["failed_upload_files"] == []
    assert log["uploaded_files"] == {str(run / path): independent_etag(content) for path, content in files.items()}
    assert log["bytes"] == sum(map(len, files.values()))
    assert log["verified_by"] == "etag"
    assert log["verified_by_exceptions"] == {}
    assert log["bucket"] == BUCKET


def test_metadata_goes_first_and_markers_last_after_all_else_is_verified(lab: Lab, server: S3Server) -> None:
    run = make_run(lab.root / "instrument", "novaseq6000", cycles=(2, 1, 1, 2), tiles=2, scale=0.0001)

    assert lab.upload(run, "--cores", "1").code == 0

    order = [key.split("/", 1)[1] for key in put_order(server)]
    markers = {"RTAComplete.txt", "CopyComplete.txt", "SequenceComplete.txt"}
    assert set(order[-len(markers) :]) == markers
    metadata = [i for i, path in enumerate(order) if path.startswith(("RunInfo.xml", "RunParameters.xml", "InterOp/"))]
    data = [i for i, path in enumerate(order) if path.startswith("Data/")]
    assert max(metadata) < min(data)
    operations = [request.operation for request in server.requests]
    last_data_put = max(i for i, r in enumerate(server.requests) if r.key.endswith(order[-len(markers) - 1]))
    first_marker = min(i for i, r in enumerate(server.requests) if Path(r.key).name in markers)
    assert "ListObjectsV2" in operations[last_data_put:first_marker], "the data is read back before the markers go"


def test_second_upload_sends_nothing_and_says_so(lab: Lab, server: S3Server, small_run: Path) -> None:
    assert lab.upload(small_run).code == 0
    log = lab.log_path(small_run).read_bytes()
    requests = len(server.requests)

    again = lab.upload(small_run)

    assert again.code == 0
    assert again.out.startswith(f"nothing to send: {small_run.name} was completed 20")
    assert len(server.requests) == requests, "S3 is not even asked"
    assert lab.log_path(small_run).read_bytes() == log


def test_a_run_that_grew_or_changed_after_completion_sends_just_that(
    lab: Lab, server: S3Server, small_run: Path
) -> None:
    assert lab.upload(small_run).code == 0
    puts = server.counters["PutObject"]
    (small_run / "Analysis").mkdir()
    (small_run / "Analysis" / "late.txt").write_text("late")
    (small_run / "RunInfo.xml").write_text((small_run / "RunInfo.xml").read_text() + "\n")

    result = lab.upload(small_run, "--json")

    assert (result.code, result.json["sent_files"]) == (0, 2)
    assert server.counters["PutObject"] == puts + 2
    assert server.objects(BUCKET)[f"{small_run.name}/Analysis/late.txt"].body == b"late"
    assert lab.log(small_run)["completed"] is True


def test_what_is_in_s3_already_is_recognised_without_a_log(lab: Lab, server: S3Server, small_run: Path) -> None:
    """Somebody used `aws s3 cp`, or the log folder was lost: bytes that are there are not sent again."""
    for path, content in tree(small_run).items():
        server.put(BUCKET, f"{small_run.name}/{path}", content)
    server.put(BUCKET, f"{small_run.name}/RunInfo.xml", b"other bytes")

    result = lab.upload(small_run, "--json")

    assert result.code == 0
    assert (result.json["sent_files"], result.json["found_in_s3"]) == (1, len(tree(small_run)) - 1)
    assert server.counters["PutObject"] == 1
    assert server.objects(BUCKET)[f"{small_run.name}/RunInfo.xml"].body == (small_run / "RunInfo.xml").read_bytes()


@pytest.mark.parametrize(
    "options", [("--verify", "size"), ("--readback", "head-object"), ("--readback", "list-objects-v2")]
)
def test_every_way_of_proof_gives_the_same_log(lab: Lab, server: S3Server, tmp_path: Path, options: tuple[str]) -> None:
    run = tmp_path / "instrument" / "run_1"
    run.mkdir(parents=True)
    for name in ("RunInfo.xml", "CopyComplete.txt", "a b", "c"):
        (run / name).write_text(name)
    assert lab.upload(run, "--skip_check", "--remote_path", "one").code == 0
    auto = lab.log(run)

    assert lab.upload(run, "--skip_check", "--remote_path", "two", *options).code == 0

    (other_path,) = (p for p in (lab.log_dir / "uploads").iterdir() if p != lab.log_path(run))
    other = json.loads(other_path.read_text())
    assert other["uploaded_files"] == auto["uploaded_files"]
    assert other["completed"] is True
    assert other["verified_by"] == ("size" if "size" in options else "etag")
    head_objects = 4 if "head-object" in options else 0
    assert server.counters["HeadObject"] == head_objects


def test_two_destinations_of_one_run_do_not_collide(lab: Lab, server: S3Server, small_run: Path) -> None:
    server.create_bucket("archive")
    assert lab.upload(small_run).code == 0

    second = lab.run(*lab.upload_argv(small_run, "--json", bucket="archive"))

    assert (second.code, second.json["sent_files"]) == (0, len(tree(small_run)))
    assert len(server.objects("archive")) == len(server.objects(BUCKET))
    logs = {Path(second.json["log"]), lab.log_path(small_run)}
    assert set((lab.log_dir / "uploads").iterdir()) == logs
    assert len(logs) == 2
    assert lab.log(small_run)["bucket"] == BUCKET
    assert lab.upload(small_run).out.startswith("nothing to send")


@pytest.mark.parametrize("spelling", ["relative", "trailing slash", "dots"])
def test_local_path_in_any_spelling(lab: Lab, server: S3Server, small_run: Path, spelling: str) -> None:
    name = small_run.name
    path = {"relative": name, "trailing slash": f"{small_run}/", "dots": f"../{small_run.parent.name}/{name}"}[spelling]

    assert lab.upload(path, cwd=small_run.parent).code == 0

    assert set(server.objects(BUCKET)) == {f"{name}/{path}" for path in tree(small_run)}
    assert lab.log(small_run)["run_path"] == str(small_run)


def test_excludes(lab: Lab, server: S3Server, small_run: Path) -> None:
    kept = {path for path in tree(small_run) if not path.startswith("Thumbnail_Images/") and not path.endswith(".bcl")}
    patterns = ("/Thumbnail_Images/", r"\.bcl$", "instrument", "(?i)no such thing")

    result = lab.upload(small_run, "--exclude_patterns", *patterns)

    assert result.code == 0
    assert set(server.objects(BUCKET)) == {f"{small_run.name}/{path}" for path in kept}
    assert lab.log(small_run)["total_local_files"] == len(kept)
    assert "warning: exclude pattern 'instrument' matches nothing" in result.err  # the parent folder's name
    assert "warning: exclude pattern '(?i)no such thing' matches nothing" in result.err
    again = lab.upload(small_run, "--exclude_patterns", *patterns)
    assert again.out.startswith("nothing to send")


def test_excluding_everything_is_refused(lab: Lab, server: S3Server, small_run: Path) -> None:
    result = lab.upload(small_run, "--exclude_patterns", ".")

    assert (result.code, result.out, result.error_ids) == (1, "", ["run.no-files"])
    assert not lab.log_path(small_run).exists()


def test_dry_run_writes_nothing(lab: Lab, server: S3Server, small_run: Path) -> None:
    server.put(BUCKET, f"{small_run.name}/RunInfo.xml", (small_run / "RunInfo.xml").read_bytes())

    result = lab.upload(small_run, "--dry_run", "--json")

    assert result.code == 0
    assert result.json["would_send_files"] == len(tree(small_run))
    assert result.json["same_size_in_s3"] == 1
    assert server.counters["PutObject"] == 0
    assert not lab.log_dir.exists()
    assert "would send" in lab.upload(small_run, "--dry_run").out


@pytest.mark.parametrize("name", ["run+[1] x", 'it\'s a "run"', "ラン 1", "*?{a,b}"])
def test_run_folders_with_strange_names(lab: Lab, server: S3Server, small_run: Path, name: str) -> None:
    run = small_run.rename(small_run.with_name(name))

    assert lab.upload(run).code == 0

    assert {k: v.body for k, v in server.objects(BUCKET).items()} == {f"{name}/{p}": c for p, c in tree(run).items()}
    assert lab.log(run)["completed"] is True
    assert lab.upload(run).out.startswith("nothing to send")


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}, {"LANG": "C.UTF-8"}]
)
def test_names_survive_the_locale_of_cron(
    lab: Lab, server: S3Server, small_run: Path, each_aws: str, locale: dict[str, str]
) -> None:
    (small_run / "ünï-日本").write_text("x")

    assert lab.upload(small_run, "--aws_command", each_aws, env=locale).code == 0

    assert f"{small_run.name}/ünï-日本" in server.objects(BUCKET)


def test_what_cannot_be_sent_is_named_and_the_run_is_not_completed(lab: Lab, server: S3Server, small_run: Path) -> None:
    os.mkfifo(small_run / "pipe")
    (small_run / "out").symlink_to("/etc/passwd")
    (small_run / "loop").symlink_to(".")
    Path(os.fsdecode(bytes(small_run) + b"/bad\xff")).write_text("x")
    (small_run / "inside").symlink_to("RunInfo.xml")

    result = lab.upload(small_run)

    assert result.code == 1
    for text in ("out: a link out of the run", r"bad\xff: the name is not UTF-8"):
        assert text in result.out
    for text in ("pipe: not a file but a named pipe", "loop: a link to something that is not a file"):
        assert f"warning: left out: {text}" in result.err
    log = lab.log(small_run)
    assert log["completed"] is False
    assert log["total_failed_upload"] == 2
    assert sorted(Path(p).name for p in log["failed_upload_files"]) == [r"bad\xff", "out"]
    assert sorted(Path(p).name for p in log["skipped"]) == ["loop", "pipe"]
    stored = {key.removeprefix(f"{small_run.name}/") for key in server.objects(BUCKET)}
    assert "inside" in stored
    assert "RTAComplete.txt" not in stored, "markers wait for what is missing"

    excluded = lab.upload(small_run, "--exclude_patterns", "/out$", "/bad")
    assert excluded.code == 0
    assert lab.log(small_run)["completed"] is True
    assert f"{small_run.name}/RTAComplete.txt" in server.objects(BUCKET)


def test_there_are_never_more_files_in_s3_than_in_total(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    config = lab.config_for(tiny_run)
    assert lab.watch(tiny_run).code == 0
    before = lab.log(tiny_run)["total_uploaded_files"]
    Path(os.fsdecode(bytes(tiny_run) + b"/bad\xff")).write_text("x")
    (tiny_run / "Data").rename(tiny_run.parent.parent / "Data")

    assert lab.upload(tiny_run).code == 1

    log = lab.log(tiny_run)
    assert (log["total_uploaded_files"], log["total_local_files"]) == (before, before + 1)
    [row] = lab.run("status", "--config", config, "--json").json["runs"]
    assert (row["state"], row["files_proven"], row["files_total"]) == ("failed", before, before + 1)
    (tiny_run.parent.parent / "Data").rename(tiny_run / "Data")
    assert lab.upload(tiny_run, "--exclude_patterns", "/bad", "/Data/").code == 0
    log = lab.log(tiny_run)
    assert log["total_uploaded_files"] == log["total_local_files"] < before, "a complete run has its own files only"


def test_large_batches_and_many_processes(lab: Lab, server: S3Server) -> None:
    """2,600 files make several batches; more processes than batches do no harm."""
    run = make_run(lab.root / "instrument", "novaseq6000", cycles=(60, 8, 8, 60), tiles=20, scale=0.00001)
    files = tree(run)

    result = lab.upload(run, "--cores", "3", "--threads", "10", "--json")

    assert result.code == 0
    assert {k: v.body for k, v in server.objects(BUCKET).items()} == {f"{run.name}/{p}": c for p, c in files.items()}
    assert server.counters["PutObject"] == len(files) == result.json["sent_files"]
    assert result.json["aws_processes"] < 25
    assert server.counters["HeadObject"] == 0


def test_hyphens_in_options_and_all_cores(lab: Lab, server: S3Server, small_run: Path) -> None:
    options = ("--local-path", str(small_run), "--bucket", BUCKET, "--log-dir", str(lab.log_dir), "--cores", "all")

    result = lab.run("upload", *options, "--exclude-patterns", r"\.bcl$", "--skip-check", "--dry-run")

    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"would send: {small_run.name}\n")


def test_a_mistyped_bucket_leaves_no_run_behind(lab: Lab, server: S3Server, tiny_run: Path, each_aws: str) -> None:
    """A log of it would be shown for ever: of a run that nobody meant to be there."""
    aws = ("--aws_command", each_aws)
    mistyped = lab.run(*lab.upload_argv(tiny_run, *aws, bucket="lab-run"))

    assert (mistyped.code, mistyped.out) == (1, "")
    assert "s3://lab-run" in mistyped.err
    assert "[s3.no-bucket]" in mistyped.err
    assert list((lab.log_dir / "uploads").iterdir()) == []
    assert lab.run(*lab.upload_argv(tiny_run, *aws)).code == 0
    assert lab.run(*lab.upload_argv(tiny_run, *aws, bucket="lab-run")).code == 1
    assert lab.log(tiny_run)["completed"] is True, "the log of the right bucket stays"
