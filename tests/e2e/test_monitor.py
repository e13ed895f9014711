"""Unattended: the real `monitor`, as cron starts it, against a real server."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts.simulate_run import make_run
from tests.helpers.errors import error_ids
from tests.helpers.hooks import Hooks
from tests.helpers.lab import BUCKET, FakeAws, Lab, tree
from tests.helpers.s3server import S3Server
from tests.helpers.site import Site, began_on, stored_under
from tests.helpers.terminal import on_terminal

if TYPE_CHECKING:
    pass

HOUR = 3600


@pytest.fixture
def site(tmp_path: Path, server: S3Server, aws_of_lab: str) -> Site:
    return Site(tmp_path, server.url, aws_of_lab)


def age(run: Path, hours: float) -> None:
    """Make it look as if the instrument had started and finished the run that long ago."""
    moment = time.time() - hours * HOUR
    for path in (run / "RunInfo.xml", *run.glob("*Complete.txt")):
        os.utime(path, (moment, moment))


def test_one_complete_run_to_one_place_quietly(site: Site, server: S3Server) -> None:
    run = site.run_folder("250101_M01234_0001_AAAAA")
    site.run_folder("250102_M01234_0002_BBBBB", complete=False)
    assert site.states() == {run.name: "new", "250102_M01234_0002_BBBBB": "sequencing"}

    result = site.scan()

    assert (result.code, result.out, result.err) == (0, "", "")
    assert stored_under(server, f"runs/{run.name}/") == tree(run)
    assert len(server.objects(BUCKET)) == len(tree(run))
    assert site.log(run)["completed"] is True
    assert site.states() == {run.name: "uploaded", "250102_M01234_0002_BBBBB": "sequencing"}
    assert f"uploaded {run.name} to s3://{BUCKET}/runs/{run.name}/: " in site.log_text()
    requests = len(server.requests)
    again = site.scan()
    assert (again.code, again.out, again.err) == (0, "", "")
    assert len(server.requests) == requests, "a scan with nothing to do does not even ask S3"


def test_a_finished_run_costs_next_to_nothing(site: Site, server: S3Server) -> None:
    """Neither the body of its log is parsed nor its folder listed: both are corrupted here, which goes unnoticed."""
    run = site.run_folder("250101_M01234_0001_AAAAA")
    assert site.scan().code == 0
    head, key, _ = site.log_path(run).read_text().partition(',\n "failed_upload_files"')
    site.log_path(run).write_text(head + key + ": no JSON at all" + " " * 100_000 + "}")
    (run / "RunInfo.xml").write_text("no XML")
    before = run.stat()
    os.mkfifo(run / "pipe")
    os.utime(run, ns=(before.st_atime_ns, before.st_mtime_ns))  # a change there would be looked into

    result = site.scan()

    assert (result.code, result.err) == (0, "")
    assert site.states() == {run.name: "uploaded"}


def test_two_runs_to_two_places(site: Site, server: S3Server, tmp_path: Path) -> None:
    server.create_bucket("research")
    other = tmp_path / "other"
    clinical = site.run_folder("250101_M01234_0001_AAAAA")
    research = make_run(other, "miseq", cycles=(1, 1), tiles=1, scale=0.00001)
    site.write([site.entry(), site.entry(monitored_directories=[str(other)], bucket="research", remote_path="/")])

    assert site.scan().code == 0

    assert stored_under(server, f"runs/{clinical.name}/") == tree(clinical)
    assert stored_under(server, f"{research.name}/", "research") == tree(research)
    assert {len(server.objects(bucket)) for bucket in (BUCKET, "research")} == {
        len(tree(clinical)),
        len(tree(research)),
    }


def test_one_run_to_two_destinations_each_with_its_own_rules(site: Site, server: S3Server) -> None:
    server.create_bucket("research")
    run = site.run_folder("250101_M01234_0001_AAAAA", samples="C-1 C-2")
    archive = site.entry(bucket="research", remote_path="/archive", exclude_patterns=[r"\.bcl$"])
    site.write([site.entry(sample_regex="^R"), archive])

    result = site.scan()

    assert (result.code, result.error_ids) == (0, ["run.samples-do-not-match"])
    assert server.objects(BUCKET) == {}
    kept = {path: content for path, content in tree(run).items() if not path.endswith(".bcl")}
    assert stored_under(server, f"archive/{run.name}/", "research") == kept
    assert site.states() == {
        f"{run.name} {BUCKET}/runs": "samples do not match",
        f"{run.name} research/archive": "uploaded",
    }
    site.write([site.entry(sample_regex="^C"), archive])
    assert site.scan().code == 0
    assert stored_under(server, f"runs/{run.name}/") == tree(run)
    assert set(site.states().values()) == {"uploaded"}


def test_regex_filters_runs_and_says_so_once(site: Site, server: S3Server) -> None:
    good = site.run_folder("250101_M01234_0001_AAAAA", samples="ABC-1 ABC-2")
    bad = site.run_folder("250102_M01234_0002_BBBBB", samples="ABC-1 XYZ-2")
    site.write([site.entry(sample_regex="^ABC-")])

    first, second = site.scan(), site.scan()

    assert (first.code, second.code) == (0, 0)
    assert first.err.count("\n") == 1
    assert first.error_ids == ["run.samples-do-not-match"]
    assert first.err.startswith(f"s3sync: {bad.name} to s3://{BUCKET}/runs/{bad.name}/ ")
    assert "XYZ-2" in first.err
    assert second.err == ""
    assert {key.split("/")[1] for key in server.objects(BUCKET)} == {good.name}
    details = site.run("status", "--config", str(site.config), bad.name)
    assert "  samples that do not match:\n    XYZ-2\n" in details.out


def test_partial_runs_are_resumed_first_and_ignore_max_age(site: Site, server: S3Server) -> None:
    partial = site.run_folder("250101_M01234_0001_AAAAA")
    age(partial, 1000)
    site.write([site.entry()], max_age=2000)
    with server.hold(after=10) as gate:
        process = site.start("monitor", "--config", str(site.config))
        gate.wait_held(1)
        process.send_signal(signal.SIGTERM)
        gate.release()
        process.communicate(timeout=120)
    assert process.returncode == 143
    assert site.states() == {partial.name: "partial"}
    new = site.run_folder("250102_M01234_0002_BBBBB")
    age(new, 30)
    site.write([site.entry()], max_age=72, max_runs_at_once=1)
    server_puts = server.counters["PutObject"]

    assert site.scan().code == 0

    assert set(site.states().values()) == {"uploaded"}
    runs = [r.key.split("/")[1] for r in server.requests if r.operation == "PutObject" and r.status == 200]
    assert runs.index(new.name) > max(i for i, name in enumerate(runs) if name == partial.name)
    assert server.counters["PutObject"] - server_puts < len(tree(partial)) + len(tree(new))


def test_new_runs_go_oldest_first_and_broken_ones_last(site: Site, server: S3Server) -> None:
    site.write([site.entry()], max_runs_at_once=1)
    broken = site.run_folder("250101_M01234_0001_AAAAA")
    (broken / "out").symlink_to("/etc/hostname")
    age(broken, 70)
    assert site.scan().code == 1
    assert site.states() == {broken.name: "failed"}
    younger, older = site.run_folder("250102_M01234_0002_BBBBB"), site.run_folder("250103_M01234_0003_CCCCC")
    age(younger, 1)
    age(older, 2)

    result = site.scan()

    assert result.code == 1
    lines = [line for line in site.log_text().splitlines() if " uploading " in line]
    assert [line.split(" uploading ")[1].split()[0] for line in lines[1:]] == [older.name, younger.name, broken.name]
    assert "out: a link out of the run" in result.err


def no_sheet(run: Path) -> None:
    (run / "SampleSheet.csv").unlink()


def two_sheets(run: Path) -> None:
    (run / "Old_SampleSheet.csv").write_text("[Data]\nSample_ID\nABC-9\n")


def same_sheet_twice(run: Path) -> None:
    (run / "copy_of_samplesheet.csv").write_bytes((run / "SampleSheet.csv").read_bytes())


def broken_run_info(run: Path) -> None:
    (run / "RunInfo.xml").write_text("<RunInfo>")


def no_marker(run: Path) -> None:
    (run / "RTAComplete.txt").unlink()


def unknown_instrument(run: Path) -> None:
    text = (run / "RunInfo.xml").read_text()
    (run / "RunInfo.xml").write_text(text.replace("<Instrument>M01234<", "<Instrument>QQ1<"))
    (run / "runParameters.xml").unlink()  # which would say what it is
    assert "QQ1" in (run / "RunInfo.xml").read_text()


def old(run: Path) -> None:
    age(run, 100)


@pytest.mark.parametrize(
    ("spoil", "state", "reason", "code"),
    [
        (no_sheet, "no samplesheet", "", 0),
        (two_sheets, "ambiguous samplesheet", "Old_SampleSheet.csv", 1),
        (same_sheet_twice, "uploaded", "", 0),
        (broken_run_info, "unreadable", "RunInfo.xml", 1),
        (no_marker, "sequencing", "waits for RTAComplete", 0),
        (unknown_instrument, "settling", "must stay unchanged", 0),
        (old, "too old", "max_age 72 h", 0),
    ],
)
def test_states(
    site: Site, server: S3Server, spoil: Callable[[Path], None], state: str, reason: str, code: int
) -> None:
    run = site.run_folder("250101_M01234_0001_AAAAA", samples="ABC-1")
    spoil(run)
    site.write([site.entry(sample_regex="^ABC")], alert_after_hours=1000)

    result = site.scan()

    assert result.code == code, result.err
    status = site.run("status", "--config", str(site.config), "--json").json["runs"][0]
    assert status["state"] == state
    assert reason in status["reason"]
    assert bool(server.objects(BUCKET)) is (state == "uploaded")
    lines = result.err.count("\n")
    assert lines == (0 if state in ("uploaded", "sequencing", "settling") else 1), result.err


def test_touching_run_info_takes_an_old_run_up_again(site: Site, server: S3Server) -> None:
    run = site.run_folder("250101_M01234_0001_AAAAA")
    age(run, 100)
    assert site.scan().code == 0
    assert server.objects(BUCKET) == {}
    (run / "RunInfo.xml").touch()

    assert site.scan().code == 0

    assert site.states() == {run.name: "uploaded"}


def test_one_bad_thing_never_stops_the_others(site: Site, server: S3Server) -> None:
    """A corrupt log, a missing directory, a broken sheet, an unreadable run, beside a good run."""
    good = site.run_folder("250101_M01234_0001_AAAAA", samples="ABC-1")
    corrupt_log = site.run_folder("250102_M01234_0002_BBBBB", samples="ABC-1")
    bad_sheet = site.run_folder("250103_M01234_0003_CCCCC")
    (bad_sheet / "SampleSheet.csv").write_bytes(b"\xff\xfe\x00\xd8[\0D\0a\0t\0a\0]\0")
    latin_sheet = site.run_folder("250104_M01234_0004_DDDDD")
    (latin_sheet / "SampleSheet.csv").write_bytes("[Data]\nSample_ID,Description\nABC-1,Müller\n".encode("cp1252"))
    unreadable = site.run_folder("250105_M01234_0005_EEEEE")
    (unreadable / "RunInfo.xml").write_bytes(b"\0\0\0")
    log = site.log_path(corrupt_log)
    log.parent.mkdir(parents=True)
    log.write_text('{"completed": tru')
    missing = site.root / "not mounted"
    site.write([site.entry(monitored_directories=[str(missing), str(site.runs)], sample_regex="^ABC")])

    result = site.scan()

    assert result.code == 1
    uploaded = {key.split("/")[1] for key in server.objects(BUCKET)}
    assert uploaded == {good.name, corrupt_log.name, latin_sheet.name}
    for text in (str(missing), bad_sheet.name, unreadable.name, "the state log was corrupt"):
        assert text in result.err
    assert good.name not in result.err
    assert "Traceback" not in result.err
    assert site.log(corrupt_log)["completed"] is True


def test_unreachable_s3_is_reported_once_for_all_runs(site: Site, server: S3Server) -> None:
    for number in range(3):
        site.run_folder(f"25010{number}_M01234_0001_AAAAA")

    result = site.scan(env={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})

    assert result.code == 1
    assert result.err.count("\n") == 1
    assert result.error_ids == ["s3.unreachable"]
    assert site.scan().code == 0


def test_a_scan_that_takes_too_long_is_reported_and_so_is_its_end(site: Site, server: S3Server) -> None:
    site.run_folder("250101_M01234_0001_AAAAA")
    with Hooks() as hooks:
        site.write([site.entry()], alert_after_busy_hours=1, slack_alert_webhook=f"{hooks.url}/alert")
        with server.hold(after=5) as gate:
            first = site.start("monitor", "--config", str(site.config))
            gate.wait_held(1)
            began = time.time() - 2 * HOUR
            for path in (site.log_dir / "locks" / "monitor.lock", *(site.log_dir / "uploads").glob("*.log.json")):
                os.utime(path, (began, began))  # no upload has begun or ended since
            second, third = site.scan(), site.scan()
            notified = hooks.new()
            gate.release()
            first.communicate(timeout=120)
        hooks.new()
        fourth = site.scan()
        after = hooks.new()

    assert (second.code, third.code, fourth.code) == (0, 0, 0)
    assert (second.error_ids, "1 h" in second.err) == (["monitor.running-too-long"], True), second.err
    assert len(notified) == 1, "once, however often the next scans find it"
    assert "the scan has been running for more than 1 h" in json.loads(notified[0][1])["text"]
    assert ["Resolved" in json.loads(body)["text"] for _, body in after] == [True]


def test_dry_run_shows_what_would_be_done_and_does_nothing(site: Site, server: S3Server) -> None:
    due = site.run_folder("250101_M01234_0001_AAAAA")
    waiting = site.run_folder("250102_M01234_0002_BBBBB", complete=False)

    result = site.scan("--dry_run")

    assert result.code == 0
    line = next(line for line in result.out.splitlines() if due.name in line)
    assert f"s3://{BUCKET}/runs" in line
    assert str(len(tree(due))) in line
    assert f"{waiting.name}  sequencing: waits for RTAComplete" in result.out
    assert server.counters["PutObject"] == 0
    assert not site.log_dir.exists()
    planned = site.scan("--dry_run", "--json").json
    assert [run["upload"]["would_send_files"] for run in planned["runs"] if "upload" in run] == [len(tree(due))]


def test_a_wrong_config_is_78_with_every_error(site: Site) -> None:
    site.write([site.entry(bucket="x", sample_regex="("), {"bucket": BUCKET}], max_agee=3)

    for command in ("monitor", "status", "check"):
        result = site.run(command, "--config", str(site.config))
        assert result.code == 78
        text = result.err + result.out
        for key in ("monitor[0].bucket", "monitor[0].sample_regex", "monitor[1].remote_path", "max_agee"):
            assert key in text
        assert text.count(f"{site.config}:1:") >= 4
    assert not site.log_dir.exists()


def test_check(site: Site, server: S3Server) -> None:
    site.run_folder("250101_M01234_0001_AAAAA")
    missing = site.root / "nowhere"

    good = site.run("check", "--config", str(site.config), "--write")
    site.write([site.entry(monitored_directories=[str(missing)], bucket="no-such-bucket")])
    bad = site.run("check", "--config", str(site.config))

    assert (good.code, "PROBLEM" in good.out) == (0, False)
    for text in ("config:", "directory:", "1 run", "log_dir:", "disk space:", "aws-cli/", "bucket:", "writable:"):
        assert text in good.out
    assert server.objects(BUCKET) == {}
    assert server.uploads(BUCKET) == []
    assert bad.code == 1
    problems = [line for line in bad.out.splitlines() if line.startswith("PROBLEM")]
    assert error_ids("\n".join(problems)) == ["monitor.directory-missing", "s3.no-bucket"]
    assert (str(missing) in problems[0], "s3://no-such-bucket" in problems[1]) == (True, True)


def test_rotation_waits_for_the_running_scan(site: Site, server: S3Server) -> None:
    """A scan that finds another one running, or a cleanup, writes into the same log and leaves its name alone."""
    site.run_folder("250101_M01234_0001_AAAAA")
    log = site.log_dir / "s3_upload.log"
    with server.hold() as gate, site.start("monitor", "--config", str(site.config)) as running:
        gate.wait_held()
        began_on(log, "2025-03-01")

        busy = site.scan()

        gate.release()
        running.communicate(timeout=120)
    assert (busy.code, running.returncode) == (0, 0)
    assert [path.name for path in site.log_dir.glob("s3_upload.log*")] == ["s3_upload.log"]
    assert "this one ends" in log.read_text()
    assert "scan: finished" in log.read_text()


def test_the_log_is_rotated_between_scans_and_five_are_kept(site: Site) -> None:
    site.run_folder("250101_M01234_0001_AAAAA", complete=False)
    log = site.log_dir / "s3_upload.log"
    for day in range(8):
        assert site.scan().code == 0
        began_on(log, f"2025-03-{day + 1:02}")

    assert site.scan().code == 0

    kept = sorted(path.name for path in site.log_dir.glob("s3_upload.log*"))
    assert kept == ["s3_upload.log", *(f"s3_upload.log.2025-03-{day:02}" for day in range(4, 9))]
    assert log.read_text().count("scan: finished") == 1
    assert {path.stat().st_mode & 0o777 for path in site.log_dir.glob("s3_upload.log*")} == {0o600}


def test_status_is_a_table_for_people(site: Site) -> None:
    run = site.run_folder("250101_M01234_0001_AAAAA")
    site.run_folder("250102_M01234_0002_BBBBB", complete=False)
    assert site.scan().code == 0

    result = site.run("status", "--config", str(site.config))
    narrow = on_terminal([sys.executable, "-m", "s3sync", "status", "--config", str(site.config)], site.env)
    details = site.run("status", "--config", str(site.config), run.name)
    unknown = site.run("status", "--config", str(site.config), "no_such_run")

    assert (result.code, result.err) == (0, "")
    assert max(map(len, result.out.splitlines())) <= 160
    assert max(map(len, narrow)) <= 80
    assert any(line.startswith(f"{run.name} ") for line in narrow), "a run's name is never broken"
    assert "2 runs: 1 sequencing, 1 uploaded" in result.out
    assert "MiSeq M01234" in result.out
    assert f"{len(tree(run))}/{len(tree(run))}" in result.out
    assert "  state       uploaded: " in details.out
    assert "  cycles      1, 1, 1\n" in details.out
    assert unknown.code == 1
    assert "no run no_such_run in the monitored directories" in unknown.err


def test_absurd_names_and_logs_never_keep_status_from_showing_the_rest(site: Site) -> None:
    """A long name that is not UTF-8, and numbers and times that cannot be displayed."""
    site.run_folder("250101_M01234_0001_AAAAA")
    odd = site.run_folder("250103_M01234_0003_CCCCC")
    odd.rename(odd.with_name(os.fsdecode(b"\xff" + b"a" * 210)))
    absurd = site.run_folder("250102_M01234_0002_BBBBB")
    log = {"run_id": absurd.name, "run_path": str(absurd), "completed": False, "uploaded_files": {}, "version": 1}
    site.log_path(absurd).parent.mkdir(parents=True)
    site.log_path(absurd).write_text(
        json.dumps({**log, "total_local_files": 1, "finished": "0001-01-01T00:00:00", "bytes": 10**400})
    )

    result = site.run("status", "--config", str(site.config))
    details = site.run("status", "--config", str(site.config), absurd.name)

    assert (result.code, result.err) == (details.code, details.err) == (0, "")
    assert "3 runs: 2 new, 1 partial" in result.out
    assert r"\xffaaa" in result.out
    assert "0 of 1 verified, 0 B" in details.out


def test_problems_are_notified_once(site: Site, server: S3Server) -> None:
    run = site.run_folder("250101_M01234_0001_AAAAA")
    (run / "out").symlink_to("/etc/hostname")
    with Hooks() as hooks:
        names = ("slack_log_webhook", "slack_alert_webhook", "webhook", "ping_url")
        secrets = {name: f"{hooks.url}/{name}-s3cr3t" for name in names}
        site.write([site.entry()], **secrets)

        failed = site.scan()
        first = hooks.new()
        assert failed.code == 1
        assert first[0][0] == "/ping_url-s3cr3t/start"
        assert first[-1][0] == "/ping_url-s3cr3t/fail"
        slack = dict(first)["/slack_alert_webhook-s3cr3t"]
        assert ":x:  *S3 Upload*: Failed to upload 1 run" in json.loads(slack)["text"]
        assert "out" in json.loads(slack)["text"]
        assert json.loads(dict(first)["/webhook-s3cr3t"])["event"] == "failed"
        details = site.run("status", "--config", str(site.config), run.name)
        assert "  failed files:\n    out: a link out of the run, to " in details.out

        assert site.scan().code == 1
        assert [path for path, _ in hooks.new()] == ["/ping_url-s3cr3t/start", "/ping_url-s3cr3t/fail"]

        away = site.runs.rename(site.runs.with_name("unmounted"))
        assert site.scan().code == 1
        assert not any("Resolved" in body for _, body in hooks.new()), "out of sight is not recovered"
        away.rename(site.runs)

        (run / "out").unlink()
        assert site.scan().code == 0
        last = hooks.new()
        assert last[-1] == ("/ping_url-s3cr3t", "all is well")
        texts = [json.loads(body)["text"] for path, body in last if path.startswith("/slack")]
        assert any(text.startswith(":white_check_mark:  *S3 Upload*: Successfully uploaded 1 run") for text in texts)
        assert any("Resolved" in text for text in texts)
        assert "s3cr3t" not in site.log_text() + failed.err


def test_a_dead_webhook_fails_nothing(site: Site, server: S3Server) -> None:
    run = site.run_folder("250101_M01234_0001_AAAAA")
    site.write([site.entry()], slack_log_webhook="http://127.0.0.1:1/s3cr3t", ping_url="http://127.0.0.1:1/s3cr3t")

    result = site.scan()

    assert result.code == 0
    assert site.states() == {run.name: "uploaded"}
    assert "could not send to the Slack log webhook" in result.err
    assert "s3cr3t" not in result.err + site.log_text()


def test_a_run_that_the_monitor_could_not_begin_stays_due(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """No matter how old it is when the config is corrected."""
    assert lab.watch(tiny_run, entry={"bucket": "no-such-bucket"}).code == 1
    os.utime(tiny_run / "RunInfo.xml", (0, 0))
    os.utime(tiny_run / "CopyComplete.txt", (0, 0))
    shown = lab.run("status", "--config", lab.config_for(tiny_run, entry={"bucket": "no-such-bucket"}), "--json")
    assert [run["state"] for run in shown.json["runs"]] == ["partial"]


def test_a_pattern_that_is_meant_for_other_runs_makes_no_noise_under_cron(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    aws = quick_aws("")
    result = lab.watch(tiny_run, aws_command=aws, entry={"exclude_patterns": [r"\.jpg$"]})

    assert (result.code, result.out, result.err) == (0, "", "")
    lines = (lab.log_dir / "s3_upload.log").read_text().splitlines()
    assert [line.partition("] ")[2] for line in lines if "matches nothing" in line] == [
        rf"{tiny_run.name}: exclude pattern '\.jpg$' matches nothing [upload.unused-pattern]"
    ]
