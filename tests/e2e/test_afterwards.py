"""After the run: the object that says so in S3, and the user's own command. Neither takes anything back."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from s3sync.aws.destination import COMPLETION_OBJECT
from s3sync.errors import InterruptedBySignal
from s3sync.signals import StopRequest
from s3sync.transfer.request import hook
from s3sync.transfer.request.hook import Hook
from tests.helpers.lab import BUCKET, Lab, argv_of, is_running, kill_family
from tests.helpers.promise import put_order
from tests.helpers.s3server import Fault, S3Server
from tests.helpers.waiting import wait_until


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A command of the user: it writes its input to a file beside it, then does what `verdict` says."""
    script = tmp_path / "tell-lims"
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib, sys, time\n"
        "here = pathlib.Path(sys.argv[0]).parent\n"
        "facts = {k: v for k, v in os.environ.items() if k.startswith('S3SYNC_')}\n"
        "call = {'argv': sys.argv[1:], 'facts': facts, 'log': json.load(sys.stdin), 'pid': os.getpid()}\n"
        "with open(here / 'calls.jsonl', 'a') as stream:\n"
        "    stream.write(json.dumps(call) + '\\n')\n"
        "exec((here / 'verdict').read_text())\n"
    )
    script.chmod(0o755)
    (tmp_path / "verdict").write_text("")
    return script


def calls_of(program: Path) -> list[dict[str, Any]]:
    """All calls of the command."""
    path = program.with_name("calls.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_completion_object_is_the_last_and_lists_what_is_there(
    lab: Lab, server: S3Server, tiny_run: Path, each_aws: str
) -> None:
    result = lab.upload(tiny_run, "--completion_object", "--remote_path", "/2026", "--aws_command", each_aws, "--json")

    key = f"2026/{tiny_run.name}/{COMPLETION_OBJECT}"
    assert (result.code, put_order(server)[-1]) == (0, key)
    stored = server.objects(BUCKET)
    said = json.loads(stored[key].body or b"")
    sizes = {name: len(item.body or b"") for name, item in stored.items()}
    listed = {f"{said['prefix']}{file['path']}": (file["size"], file["etag"]) for file in said["files"]}
    assert listed == {name: (sizes[name], item.etag) for name, item in stored.items() if name != key}
    assert (said["verdict"], said["total_files"], said["bucket"]) == ("complete", len(listed), BUCKET)
    log = lab.log(tiny_run)
    assert log["completion_object"] == result.json["completion_object"] == stored[key].etag
    assert log["completed"] is True
    assert not any(COMPLETION_OBJECT in path for path in log["uploaded_files"]), "it is no file of the run"
    assert list(lab.tmp.iterdir()) == []


def test_without_its_completion_object_a_run_is_not_completed(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    server.add_fault(Fault("drop", key_contains=COMPLETION_OBJECT, count=None))

    result = lab.upload(tiny_run, "--completion_object")

    log = lab.log(tiny_run)
    assert (result.code, log["completed"]) == (1, False)
    assert log["failed_upload_files"] == [str(tiny_run / COMPLETION_OBJECT)]
    assert len(log["uploaded_files"]) == 4, "the files themselves are verified"
    server.clear_faults()
    sent = len(put_order(server))

    again = lab.upload(tiny_run, "--completion_object")

    assert (again.code, lab.log(tiny_run)["completed"]) == (0, True)
    assert put_order(server)[sent:] == [f"{tiny_run.name}/{COMPLETION_OBJECT}"], "nothing else is sent"


def test_a_completed_run_gets_its_completion_object_later(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    assert lab.upload(tiny_run).code == 0
    sent = len(put_order(server))

    assert lab.upload(tiny_run, "--completion_object").code == 0

    assert put_order(server)[sent:] == [f"{tiny_run.name}/{COMPLETION_OBJECT}"]
    assert lab.upload(tiny_run, "--completion_object").out.startswith("nothing to send")


def test_a_file_of_that_name_is_not_overwritten_in_silence(lab: Lab, tiny_run: Path) -> None:
    (tiny_run / COMPLETION_OBJECT).write_text("somebody's own")

    result = lab.upload(tiny_run, "--completion_object")

    assert result.code == 1
    assert f"{COMPLETION_OBJECT}: its key is the completion object's (rename it, or exclude it)" in result.out
    assert lab.upload(tiny_run, "--completion_object", "--exclude_patterns", r"s3sync\.complete").code == 0


def test_the_command_gets_the_run_by_its_environment_and_stdin(lab: Lab, tiny_run: Path, program: Path) -> None:
    secret = {"S3SYNC_WEBHOOK": "http://127.0.0.1:9/secret"}

    result = lab.upload(tiny_run, "--on_complete", f"{program} --run 'a b' $HOME", env=secret)

    assert (result.code, result.out.splitlines()[-1]) == (0, "  then    on_complete done")
    (call,) = calls_of(program)
    assert call["argv"] == ["--run", "a b", "$HOME"], "no shell"
    log = lab.log(tiny_run)
    assert call["log"] == {**log, "on_complete": "pending"}
    assert log["on_complete"] == "done"
    assert call["facts"] == {
        "S3SYNC_RUN_ID": tiny_run.name,
        "S3SYNC_RUN_PATH": str(tiny_run),
        "S3SYNC_BUCKET": BUCKET,
        "S3SYNC_REMOTE_PATH": "/",
        "S3SYNC_URL": f"s3://{BUCKET}/{tiny_run.name}/",
        "S3SYNC_FILES": "4",
        "S3SYNC_BYTES": str(log["bytes"]),
        "S3SYNC_STARTED": log["started"],
        "S3SYNC_FINISHED": log["finished"],
        "S3SYNC_LOG": str(lab.log_path(tiny_run)),
    }
    assert lab.upload(tiny_run, "--on_complete", str(program)).code == 0
    assert len(calls_of(program)) == 1, "once for each time that a run is completed"


def test_a_run_that_is_not_completed_runs_no_command(lab: Lab, tiny_run: Path, program: Path) -> None:
    (tiny_run / "Data" / "outside").symlink_to("/etc/hostname")

    assert lab.upload(tiny_run, "--on_complete", str(program)).code == 1

    assert calls_of(program) == []


def test_a_command_that_fails_takes_nothing_back_and_is_run_again(lab: Lab, tiny_run: Path, program: Path) -> None:
    program.with_name("verdict").write_text("print('ignored'); print('the LIMS is \\033[1mdown'); sys.exit(3)")
    config: dict[str, Any] = {"entry": {"on_complete": [str(program), "--from", "cron"]}}

    failed = lab.watch(tiny_run, **config)

    assert (failed.code, failed.error_ids) == (1, ["monitor.on-complete-failed"])
    assert r"exit code 3: the LIMS is \x1b[1mdown " in failed.err
    assert lab.log(tiny_run)["completed"] is True
    status = lab.run("status", "--config", lab.config_for(tiny_run, **config), "--json").json["runs"][0]
    assert status["state"] == "uploaded"
    assert "on_complete failed: exit code 3" in status["reason"]

    program.with_name("verdict").write_text("")
    assert lab.watch(tiny_run, **config).code == 0
    assert lab.log(tiny_run)["on_complete"] == "done"
    assert [call["argv"] for call in calls_of(program)] == [["--from", "cron"]] * 2
    assert lab.watch(tiny_run, **config).code == 0
    assert len(calls_of(program)) == 2


def test_a_command_that_was_not_run_because_of_a_kill_is_run_by_the_next_scan(
    lab: Lab, tiny_run: Path, program: Path
) -> None:
    ready = program.with_name("ready")
    os.mkfifo(ready)
    program.with_name("verdict").write_text(f"open({str(ready)!r}, 'w').close(); time.sleep(600)")
    config: dict[str, Any] = {"entry": {"on_complete": [str(program)]}}
    with lab.start("monitor", "--config", lab.config_for(tiny_run, **config)) as scan:
        ready.open().close()  # it is at work
        kill_family(scan)
    assert lab.log(tiny_run)["on_complete"] == "pending"
    program.with_name("verdict").write_text("")

    assert lab.watch(tiny_run, **config).code == 0

    assert (len(calls_of(program)), lab.log(tiny_run)["on_complete"]) == (2, "done")


def test_an_interruption_ends_the_command_too(lab: Lab, tiny_run: Path, program: Path) -> None:
    ready = program.with_name("ready")
    os.mkfifo(ready)
    program.with_name("verdict").write_text(f"open({str(ready)!r}, 'w').close(); time.sleep(600)")
    with lab.start(*lab.upload_argv(tiny_run, "--on_complete", str(program))) as upload:
        ready.open().close()
        upload.send_signal(signal.SIGTERM)
        upload.communicate(timeout=120)
    assert upload.returncode == 143
    assert not is_running(calls_of(program)[0]["pid"])
    log = lab.log(tiny_run)
    assert (log["completed"], log["on_complete"]) == (True, "pending")


def test_a_command_that_takes_too_long_is_ended(lab: Lab, tiny_run: Path, program: Path) -> None:
    program.with_name("verdict").write_text("time.sleep(600)")

    failed = lab.watch(tiny_run, entry={"on_complete": [str(program)]}, on_complete_minutes=0.01)

    assert (failed.code, failed.error_ids) == (1, ["monitor.on-complete-failed"])
    assert "still running after 0.6 s" in failed.err
    assert not [process for process in psutil.process_iter() if str(program) in argv_of(process)]


def test_a_command_that_is_ended_leaves_no_background_process(tmp_path: Path) -> None:
    """A shell's background processes ignore SIGINT, and outlive the shell that it ends."""
    script = tmp_path / "hook"
    script.write_text("#!/bin/bash\nsleep 600 &\necho $! > $0.background\nmkfifo $0.never; read line < $0.never\n")
    script.chmod(0o755)
    log = tmp_path / "log"
    log.touch()
    stop = StopRequest()
    asks = threading.Thread(target=stop_when_written, args=(tmp_path / "hook.background", stop))
    asks.start()

    with pytest.raises(InterruptedBySignal):
        hook.run(Hook((str(script),)), {}, log, tmp_path / "guard", dict(os.environ), stop)

    asks.join()
    assert not is_running(int((tmp_path / "hook.background").read_text()))


def stop_when_written(path: Path, stop: StopRequest) -> None:
    """Ask for the end as soon as the file has content."""
    wait_until(lambda: path.exists() and path.read_text().strip())
    stop.request(signal.SIGINT)


def test_a_command_that_outlives_a_killed_call_is_not_run_beside_itself(
    lab: Lab, tiny_run: Path, program: Path
) -> None:
    ready, go_on = program.with_name("ready"), program.with_name("go on")
    os.mkfifo(ready)
    os.mkfifo(go_on)
    program.with_name("verdict").write_text(f"open({str(ready)!r}, 'w').close(); open({str(go_on)!r}).close()")
    config: dict[str, Any] = {"entry": {"on_complete": [str(program)]}}
    with lab.start("monitor", "--config", lab.config_for(tiny_run, **config)) as scan:
        ready.open().close()  # it is at work
        wait_until(lambda: [path for path in lab.log_dir.rglob("*.on_complete") if path.read_bytes()])  # with its name
        scan.kill()
    pid = calls_of(program)[0]["pid"]

    beside = lab.watch(tiny_run, **config)

    assert (beside.code, len(calls_of(program))) == (1, 1)
    assert f"failed: still running from a killed call (process {pid})" in beside.err
    program.with_name("verdict").write_text("")
    orphan = psutil.Process(pid)
    go_on.open("w").close()
    orphan.wait(120)
    assert lab.watch(tiny_run, **config).code == 0
    assert (len(calls_of(program)), lab.log(tiny_run)["on_complete"]) == (2, "done")


def test_a_background_process_of_a_command_does_not_keep_it_from_running_again(tmp_path: Path) -> None:
    script = tmp_path / "hook"
    script.write_text("#!/bin/sh\nsleep 600 >/dev/null 2>&1 &\necho $! >> $0.background\n")
    script.chmod(0o755)
    log = tmp_path / "log"
    log.touch()
    try:
        outcomes = [
            hook.run(Hook((str(script),)), {}, log, tmp_path / "guard", dict(os.environ), StopRequest())
            for _ in range(2)
        ]
    finally:
        for pid in map(int, (tmp_path / "hook.background").read_text().split()):
            os.kill(pid, signal.SIGKILL)
    assert outcomes == [hook.DONE, hook.DONE]


def test_a_missing_command_is_reported(lab: Lab, tiny_run: Path) -> None:
    missing = lab.upload(tiny_run, "--on_complete", "no-such-program --x")
    assert (missing.code, missing.error_ids) == (2, ["usage.invalid-value"])
    assert ("--on-complete: " in missing.err, ": no-such-program (" in missing.err) == (True, True), missing.err

    failed = lab.watch(tiny_run, entry={"on_complete": ["/nowhere/tell-lims"]})
    assert (failed.code, failed.error_ids) == (1, ["monitor.on-complete-failed"])
    assert " /nowhere/tell-lims: No such file or directory" in failed.err


def test_a_config_that_others_may_write_names_no_command(lab: Lab, tiny_run: Path) -> None:
    config = Path(lab.config_for(tiny_run, entry={"on_complete": ["/bin/true"]}))
    config.chmod(0o664)

    result = lab.run("monitor", "--config", str(config))

    assert (result.code, result.error_ids) == (78, ["config.command-writable"])
    assert ("monitor[0].on_complete: " in result.err, "chmod go-w " in result.err) == (True, True), result.err
