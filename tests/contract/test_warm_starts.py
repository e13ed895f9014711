"""Commands that are forks of one process of the AWS CLI say and do what those do that are started in the usual way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

from s3sync import process_tree
from s3sync.aws import client, fork_server
from s3sync.aws.argv import head_object_argv, list_objects_argv, version_argv
from s3sync.aws.client import AwsCli, AwsResult
from s3sync.aws.destination import BUCKET_DEFAULTS, BucketRef
from s3sync.aws.settings import CliSettings
from s3sync.errors import InterruptedBySignal
from s3sync.signals import StopRequest
from tests.helpers.lab import AWS_V1, AWS_V2, BUCKET, Lab, skip_or_fail, why_no_v2
from tests.helpers.observers import Observer
from tests.helpers.s3server import S3Server

ABSENT = head_object_argv(BucketRef(BUCKET), "no/such/key")
LIST = list_objects_argv(BucketRef(BUCKET), "run/", "", 10)


@pytest.fixture(params=[AWS_V1, AWS_V2, "quick"], ids=["v1", "v2", "double"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, server: S3Server) -> Lab:
    if request.param == AWS_V2 and (why := why_no_v2()):
        skip_or_fail(why)
    return Lab(tmp_path, server.url, request.param)


def connect(lab: Lab, name: str, *, warm: bool = True, stop: StopRequest | None = None) -> AwsCli:
    work = lab.root / name
    work.mkdir()
    settings = CliSettings(4, client="auto" if warm else "default", command=lab.aws)
    return client.connect(settings, lab.env, stop or StopRequest(), work)


def forks(aws: AwsCli) -> bool:
    return aws._launcher.wait_until_loaded()


def children_of(lab: Lab) -> list[psutil.Process]:
    """Return the child processes that belong to a lab, or were not waited for.

    Who forks adopts orphans, so this process may have adopted those of other tests.
    """
    return [child for child in psutil.Process().children() if _is_ended(child) or _is_of(lab, child)]


def _is_ended(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name() == "aws" and process.status() == psutil.STATUS_ZOMBIE
    return False


def _is_of(lab: Lab, process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return str(lab.root) in process.environ().get("AWS_CONFIG_FILE", "")
    return False


def test_forks_print_and_exit_as_processes_do(lab: Lab, server: S3Server) -> None:
    server.put(BUCKET, "run/a b", b"x")
    server.put(BUCKET, "run/\u00e4", b"y")
    warm, cold = connect(lab, "warm"), connect(lab, "cold", warm=False)
    assert forks(warm)
    assert not forks(cold)
    of_real_ones = (("s3api", "head-object"), ("s3", "ls", "s3://no-such-bucket"))  # bad usage, and a failure
    for argv in (LIST, ABSENT, version_argv(), *(of_real_ones if lab.aws in (AWS_V1, AWS_V2) else ())):
        one, other = warm.run(argv), cold.run(argv)
        assert (one.returncode, one.stdout, one.errors) == (other.returncode, other.stdout, other.errors), argv
    warm.close()


def send(aws: AwsCli, folder: Path) -> tuple[AwsResult, list[str]]:
    lines: list[str] = []
    aws.version()
    argv = aws.upload_argv(str(folder), f"s3://{BUCKET}/run/", BUCKET_DEFAULTS)
    return aws.run_streaming(argv, Observer(lines.append)), sorted(lines)


def test_forks_send_what_processes_send(lab: Lab, server: S3Server, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number} \u00e4.txt").write_bytes(bytes(number))
    (folder / "gone").symlink_to("nowhere")
    found = []
    for is_warm in (True, False):
        aws = connect(lab, f"work-{is_warm}", warm=is_warm)
        result, lines = send(aws, folder)
        found.append((result.returncode, lines, {k: v.body for k, v in server.objects(BUCKET).items()}))
        assert forks(aws) == is_warm
        aws.close()
        for key in server.objects(BUCKET):
            server.delete(BUCKET, key)
    assert len(found[0][2]) == 20
    assert found[0] == found[1]


def test_many_threads_get_their_own_output(lab: Lab, server: S3Server) -> None:
    aws = connect(lab, "warm")
    for number in range(6):
        server.put(BUCKET, f"run/{number}", bytes(number))
    with ThreadPoolExecutor(6) as pool:
        argvs = [head_object_argv(BucketRef(BUCKET), f"run/{number}") for number in range(6)]
        results = list(pool.map(aws.run, argvs))
    assert [result.json()[0] for result in results] == list(range(6))
    assert children_of(lab) == [psutil.Process(aws._launcher._warm_starts._process.pid)]  # type: ignore[union-attr]
    aws.close()
    assert children_of(lab) == []


def test_forks_are_listed_with_their_own_options(lab: Lab, server: S3Server) -> None:
    aws = connect(lab, "warm")
    assert forks(aws)
    with server.hold(method="GET") as gate, ThreadPoolExecutor(1) as pool:
        command = pool.submit(aws.run, LIST)
        gate.wait_held()
        (pid,) = aws.processes.pids()
        assert [*filter(None, psutil.Process(pid).cmdline())][-len(LIST) :] == [*LIST]
        gate.release()
        assert command.result().succeeded
    aws.close()


def test_a_profile_in_the_environment_does_not_slow_forks_down(lab: Lab, server: S3Server) -> None:
    """They need not read the CLI's descriptions of S3 again, which have several megabytes."""
    config = lab.root / "config"
    config.write_text("[profile lab]\nregion = us-east-1\n")
    lab.env.update(AWS_CONFIG_FILE=str(config), AWS_PROFILE="lab")
    aws = connect(lab, "warm")
    assert forks(aws)
    with server.hold(method="GET") as gate, ThreadPoolExecutor(1) as pool:
        command = pool.submit(aws.run, LIST)
        gate.wait_held()
        assert sum(aws.processes.bytes_read().values()) < 1_000_000
        gate.release()
        assert command.result().succeeded
    aws.close()


def test_descriptors_beyond_a_thousand_are_as_good(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with many cores runs hundreds of processes, each with some pipes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("`ulimit -Hn` is too low")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    monkeypatch.setattr(socket, "socketpair", lambda make=socket.socketpair: tuple(map(_moved_up, make())))
    try:
        aws = connect(lab, "warm")
        assert forks(aws)
        assert aws.run(LIST).succeeded
        aws.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _moved_up(end: socket.socket) -> socket.socket:
    with end:
        return socket.socket(fileno=fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 1024))


def test_a_stop_interrupts_a_fork(lab: Lab, server: S3Server) -> None:
    stop = StopRequest()
    aws = connect(lab, "warm", stop=stop)
    assert forks(aws)
    with server.hold(method="GET") as gate, ThreadPoolExecutor(1) as pool:
        command = pool.submit(aws.run, LIST)
        gate.wait_held()
        stop.request(signal.SIGTERM)
        with pytest.raises(InterruptedBySignal):
            command.result()
    aws.close()
    assert children_of(lab) == []


def test_without_the_process_that_forks_commands_are_started_as_usual(lab: Lab) -> None:
    aws = connect(lab, "warm")
    assert forks(aws)
    assert aws._launcher._warm_starts is not None
    assert aws._launcher._warm_starts._process is not None
    os.kill(aws._launcher._warm_starts._process.pid, signal.SIGKILL)
    assert aws.run(LIST).succeeded
    assert not forks(aws)
    aws.close()


def test_a_command_whose_answer_is_lost_runs_once(lab: Lab, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the process that forks is killed right after the fork."""
    aws = connect(lab, "warm")
    assert forks(aws)
    receive = fork_server.receive

    def lose(control: socket.socket) -> NoReturn:
        receive(control)
        raise EOFError

    monkeypatch.setattr(fork_server, "receive", lose)
    assert aws.run(LIST).succeeded
    psutil.wait_procs(children_of(lab), timeout=120)  # what was forked, too
    assert not forks(aws)
    assert len([request for request in server.requests if request.method == "GET"]) == 1
    aws.close()


def test_an_updated_cli_is_loaded_as_usual(lab: Lab) -> None:
    script = lab.root / "copy" / "aws"
    script.parent.mkdir()
    shutil.copy(lab.aws, script)
    lab.aws = str(script)
    aws = connect(lab, "warm")
    assert forks(aws)
    script.write_text(script.read_text() + "\n")
    assert aws.run(LIST).succeeded
    assert not forks(aws)
    aws.close()


def wrapper(lab: Lab, code: str, interpreter: str = sys.executable) -> Path:
    """Have the lab's CLI run this code first; return the file with a line for each time it is loaded."""
    starts, script = lab.root / "starts", lab.root / "wrapper" / "aws"
    script.parent.mkdir()
    note = f"open({str(starts)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')"
    script.write_text(
        f"#!{interpreter}\n# awscli\nimport os, sys\n{code}\n{note}\n"
        f"os.execv({lab.aws!r}, [{lab.aws!r}, *sys.argv[1:]])\n"
    )
    script.chmod(0o755)
    lab.aws = str(script)
    return starts


def test_a_cli_that_loads_no_plugins_is_started_as_usual(lab: Lab) -> None:
    starts = wrapper(lab, f"os.environ.pop({fork_server.VARIABLE!r}, None)")
    aws = connect(lab, "warm")
    assert aws.run(LIST).succeeded
    assert aws.check_usable().startswith("aws-cli/")
    assert len(starts.read_text().splitlines()) == 2, "the version is asked for once"
    aws.close()


def test_a_cli_that_has_ended_is_not_killed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process id may belong to another process."""
    signals: list[int] = []
    monkeypatch.setattr(process_tree, "send_signal", lambda pid, _signum: signals.append(pid))
    wrapper(lab, f"os.environ.pop({fork_server.VARIABLE!r}, None)")
    aws = connect(lab, "warm")
    assert not forks(aws)
    aws.close()
    assert signals == []


def test_a_script_of_another_language_runs_for_each_command(lab: Lab) -> None:
    """It may set what only the next command needs."""
    script = lab.root / "aws"
    script.write_text(f'#!/bin/sh\nexec {lab.aws} "$@"\n')
    script.chmod(0o755)
    lab.aws = str(script)
    aws = connect(lab, "warm")
    assert aws.run(LIST).succeeded
    assert not forks(aws)
    aws.close()


def test_a_python_script_around_the_cli_runs_for_each_command(lab: Lab) -> None:
    """It may get credentials that soon expire."""
    starts = wrapper(lab, "")
    script = Path(lab.aws)
    script.write_text(script.read_text().replace("# awscli\n", ""))
    aws = connect(lab, "warm")
    assert all(aws.run(LIST).succeeded for _ in range(2))
    assert len(starts.read_text().splitlines()) == 2
    aws.close()


# A whole upload


def test_an_upload_loads_the_cli_once_for_all_its_commands(lab: Lab, tiny_run: Path) -> None:
    starts = wrapper(lab, "")

    result = lab.upload(tiny_run, "--json")

    assert (result.code, result.json["completed"]) == (0, True)
    assert result.json["aws_processes"] >= 5, "each command is a separate process"
    (loaded,) = starts.read_text().splitlines()
    assert loaded.endswith(" --version")


def test_transfer_client_default_starts_each_command(lab: Lab, tiny_run: Path) -> None:
    starts = wrapper(lab, "")

    result = lab.upload(tiny_run, "--json", "--transfer_client", "default")

    assert (result.code, result.json["completed"]) == (0, True)
    assert len(starts.read_text().splitlines()) == result.json["aws_processes"]


def test_without_work_the_cli_is_not_loaded(lab: Lab, tiny_run: Path) -> None:
    starts = wrapper(lab, "")
    assert lab.watch(tiny_run).code == 0
    before = starts.read_text()

    assert lab.watch(tiny_run).code == 0

    assert starts.read_text() == before


def test_a_kill_of_the_program_leaves_only_the_commands(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """As without warm starts: they hold the locks until they have ended."""
    with server.hold(key_contains="first") as gate:
        process = lab.start(*lab.upload_argv(tiny_run))
        gate.wait_held()
        forking, *commands = sorted(psutil.Process(process.pid).children(), key=psutil.Process.create_time)
        process.kill()
        process.communicate()
        forking.wait(timeout=120)
        assert any(command.is_running() for command in commands)
        assert lab.upload(tiny_run).code == 75, "they hold the lock"
    psutil.wait_procs(commands, timeout=120)
    assert lab.upload(tiny_run).code == 0
