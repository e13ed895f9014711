"""The processes of the AWS CLI: what comes back from them, and that all of them end."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from s3sync import process_tree
from s3sync.aws import client
from s3sync.aws.client import AwsCli, AwsResult
from s3sync.aws.diagnosis import (
    fatal_cause,
)
from s3sync.aws.launcher import Launcher
from s3sync.errors import AwsError, InterruptedBySignal
from s3sync.signals import StopRequest
from tests.helpers.errors import raises_error
from tests.helpers.lab import AWS_V1, argv_of, send_to_all
from tests.helpers.observers import Observer
from tests.helpers.programs import program

pytestmark = pytest.mark.real_aws


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\necho aws-cli/2.36.7 Python/3.13.1 Linux\n", "aws-cli/2.36.7 ({path})"),
        (
            "#!/bin/sh\necho no botocore >&2\nexit 1\n",
            "no usable AWS CLI: cannot use {path}: `aws --version` failed: no botocore ({advice})",
        ),
        (
            "#!/bin/sh\nsleep 600 & sleep 600\n",  # one that holds the pipe as well
            (
                "no usable AWS CLI: cannot use {path}: `aws --version` failed: aws did not answer for 1.0 s, "
                "so it {end} ({advice})"
            ),
        ),
        ("\0", "no usable AWS CLI: cannot run {path}: Exec format error (check the installation, or --aws-command)"),
        (None, "no usable AWS CLI: no `aws` beside this Python or on PATH ({install})"),
    ],
)
def test_the_installed_cli_is_always_named(tmp_path: Path, python: Path, script: str | None, said: str) -> None:
    path = tmp_path / "path" / "aws"
    if script is not None:
        program(path, script)
    environ = {"PATH": f"{path.parent}:/usr/bin:/bin"} if script is not None else {"PATH": str(path.parent)}
    seconds = 1 if "600" in said + str(script) else 60
    assert client.describe_installed(environ, StopRequest(), seconds) == said.format(
        path=path,
        end="was terminated",
        advice="check the installation, or --aws-command",
        install="install it with `pip install awscli`, or give --aws-command",
    )


def test_a_cli_beside_this_python_that_cannot_start_is_not_called_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the folder was moved."""
    python = tmp_path / "my programs" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    aws = program(python.with_name("aws"), f"#!{python}\n")
    said = client.describe_installed({"PATH": "/usr/bin:/bin"}, StopRequest(), 60)
    why = f"cannot run {aws}: the interpreter that its first line names does not exist: {python}"
    assert said.startswith(f"no usable AWS CLI: {why} (")


@pytest.mark.parametrize(
    ("environ", "options"),
    [
        ({}, []),
        ({"AWS_ENDPOINT_URL": "http://a"}, ["--endpoint-url=http://a"]),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://s3"}, ["--endpoint-url=http://s3"]),
        ({"AWS_ENDPOINT_URL": ""}, []),
        ({"AWS_ENDPOINT_URL": "https://user:pa55@s3.example.org:9/"}, ["--endpoint-url=https://s3.example.org:9/"]),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, []),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "no"}, ["--endpoint-url=http://a"]),
    ],
)
def test_the_endpoint_of_the_environment_is_an_option(
    fake: Callable[..., AwsCli], environ: dict[str, str], options: list[str]
) -> None:
    """Versions 2 before 2.13 do not know the variables."""
    ended = fake("import json; print(json.dumps(argv))", environ=environ).run(("s3api", "x"))
    assert json.loads(ended.stdout) == [*options, "s3api", "x"]


@pytest.fixture
def stop() -> StopRequest:
    return StopRequest()


@pytest.fixture
def fake(tmp_path: Path, stop: StopRequest) -> Iterator[Callable[..., AwsCli]]:
    """Makes an AwsCli of a program that runs this Python code; it sees `argv`. Leaves no process behind."""
    made: list[AwsCli] = []

    def make(code: str, *, environ: dict[str, str] | None = None, inherited: Sequence[int] = ()) -> AwsCli:
        head = f"#!{sys.executable} -S\nimport os, signal, sys, time\nargv = sys.argv[1:]\n"
        path = program(tmp_path / f"fake{len(made)}" / "aws", f"{head}{code}\n")
        made.append(AwsCli(Launcher(path, {"PATH": "/usr/bin:/bin", **(environ or {})}, inherited), stop))
        return made[-1]

    yield make
    for process in psutil.Process().children(recursive=True):
        if any(str(tmp_path) in word for word in argv_of(process)):
            send_to_all(signal.SIGKILL, [process])


def follow(aws: AwsCli, *argv: str) -> tuple[AwsResult, list[str]]:
    lines: list[str] = []
    return aws.run_streaming(argv, Observer(lines.append)), lines


def both(aws: AwsCli) -> list[AwsResult]:
    return [aws.run(("s3api", "x")), follow(aws, "s3", "cp")[0]]


def test_a_query_keeps_all_of_stdout_and_the_complaints_apart(fake: Callable[..., AwsCli]) -> None:
    """Both pipes are read at the same time, however much arrives."""
    aws = fake("sys.stderr.write('x' * 200_000 + '\\nlast\\n'); sys.stdout.write('y' * 200_000); sys.exit(254)")
    ended = aws.run(("s3api", "head-object"))
    assert ended == AwsResult(("s3api", "head-object"), 254, b"y" * 200_000, ("x" * 10_000, "last"))
    assert aws.processes.started == 1


def test_lines_are_handed_on_and_only_complaints_are_kept(fake: Callable[..., AwsCli]) -> None:
    code = "print('upload: a to b', flush=True); print('  odd  ', file=sys.stderr); print(); print('end'); sys.exit(1)"
    pids: list[int] = []
    lines: list[str] = []
    ended = fake(code).run_streaming(("s3", "cp"), Observer(lines.append, pids.append))
    assert sorted(lines) == sorted(["upload: a to b", "  odd  ", "", "end"])
    assert (ended.returncode, ended.stdout, sorted(ended.errors)) == (1, b"", ["end", "odd"])
    assert len(pids) == 1


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_tail_of_the_complaints_is_bounded(fake: Callable[..., AwsCli], stream: str) -> None:
    aws = fake(f"sys.{stream}.writelines(f'line {{i}}\\n\\n' for i in range(10_000)); sys.exit(1)")
    ended, lines = follow(aws, "s3", "cp")
    assert len(lines) == 20_000
    assert 1 <= len(ended.errors) <= 20
    assert ended.errors[-1] == "line 9999"
    if stream == "stderr":
        assert aws.run(("s3api", "x")).errors == tuple(f"line {i}" for i in range(9980, 10_000))


def test_no_error_line_contains_a_secret(fake: Callable[..., AwsCli]) -> None:
    secrets = {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AWS_SESSION_TOKEN": "IQoJb3JpZ2luX2VjE+==",
    }
    code = "print('no: ' + ' '.join(v for k, v in sorted(os.environ.items()) if 'AWS' in k), file=sys.stderr)"
    for ended in both(fake(code, environ=secrets)):
        assert ended.errors == ("no: [redacted] [redacted] [redacted]",)
        assert ended.reason == "no: [redacted] [redacted] [redacted]"


def test_no_argv_or_repr_contains_a_secret(fake: Callable[..., AwsCli]) -> None:
    aws = fake("print(argv)", environ={"AWS_SECRET_ACCESS_KEY": "not-to-be-seen"})
    assert "not-to-be-seen" not in f"{aws!r} {aws.run(('s3api', 'x'))!r} {aws.run(('s3api', 'x')).stdout!r}"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        (b"a\x00b\x7f", r"a\x00b\x7f"),
        (b"caf\xc3\xa9 \xff\xfe", "caf\u00e9 \ufffd\ufffd"),
        (b"\xe2\x80\xaegpj.exe", r"\u202egpj.exe"),
        (b"\r  back\t", "back"),
    ],
)
def test_complaints_are_printable(fake: Callable[..., AwsCli], raw: bytes, text: str) -> None:
    """With any bytes in a file's name."""
    aws = fake(f"os.write(2, {raw!r} + b'\\n')")
    for ended in both(aws):
        assert ended.errors == (text,)
    _, lines = follow(aws)
    assert lines == [raw.decode("utf-8", "replace")]


@pytest.mark.parametrize("word", ["--start-after=a\0b", "--key=\ud800"])
def test_arguments_that_no_process_can_have_are_an_aws_error(fake: Callable[..., AwsCli], word: str) -> None:
    """Someone may have put such a key into the bucket."""
    with raises_error(AwsError, "aws.cannot-start"):
        fake("pass").run(("s3api", "list-objects-v2", word))


def test_lines_without_end_are_cut(fake: Callable[..., AwsCli]) -> None:
    """They must neither fill the memory nor slow down the parser."""
    for ended in both(fake("for fd in (1, 2): os.write(fd, b'SSO ' * 1_000_000 + b'\\n')\nsys.exit(1)")):
        assert max(map(len, ended.errors)) <= 10_000
        assert fatal_cause(ended.errors) is None


def test_no_version_contains_a_secret(fake: Callable[..., AwsCli]) -> None:
    """It is kept in the log."""
    aws = fake("print('aws-cli/1', os.environ['AWS_SESSION_TOKEN'])", environ={"AWS_SESSION_TOKEN": "t0ken-t0ken"})
    assert aws.version() == "aws-cli/1 [redacted]"


def test_output_without_a_last_newline_is_read(fake: Callable[..., AwsCli]) -> None:
    ended, lines = follow(fake("os.write(1, b'upload: a\\nno end'); sys.exit(1)"))
    assert (lines, ended.errors) == (["upload: a", "no end"], ("no end",))


def test_stdin_is_empty(fake: Callable[..., AwsCli]) -> None:
    """A process that asks for something, such as a password, gets nothing and does not wait."""
    for ended in both(fake("sys.exit(len(sys.stdin.read()))")):
        assert ended.returncode == 0


def test_it_has_its_own_session(fake: Callable[..., AwsCli]) -> None:
    """So that Ctrl-C on our terminal reaches it only through us."""
    ended = fake("print(os.getsid(0) == os.getpid() == os.getpgrp())").run(())
    assert ended.stdout == b"True\n"


def test_it_has_the_environment_that_was_given_and_no_other(fake: Callable[..., AwsCli]) -> None:
    ended = fake("import json; print(json.dumps(dict(os.environ)))", environ={"AWS_PAGER": ""}).run(())
    environ = json.loads(ended.stdout)
    assert {name for name in environ if not name.startswith("LC_")} == {"PATH", "AWS_PAGER"}


def test_inherited_descriptors_stay_open_and_no_others(fake: Callable[..., AwsCli], tmp_path: Path) -> None:
    code = "print([os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')])"
    with (tmp_path / "lock").open("w") as kept, (tmp_path / "other").open("w") as other:
        os.set_inheritable(other.fileno(), True)
        ended = fake(code, inherited=(kept.fileno(),)).run(())
        assert str(tmp_path / "lock") in ended.stdout.decode()
        assert str(tmp_path / "other") not in ended.stdout.decode()


@pytest.mark.parametrize("code", [0, 1, 2, 77, 255])
def test_its_exit_code_is_kept(fake: Callable[..., AwsCli], code: int) -> None:
    assert [ended.returncode for ended in both(fake(f"sys.exit({code})"))] == [code, code]


def test_its_end_by_a_signal_is_kept(fake: Callable[..., AwsCli]) -> None:
    for ended in both(fake("os.kill(os.getpid(), signal.SIGKILL)")):
        assert (ended.returncode, ended.reason) == (-9, "aws was terminated by SIGKILL")


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("no program\n", "--aws-command"),
        ("#!/no/such/python\n", ": /no/such/python ("),
        ("", "--aws-command"),
    ],
)
def test_a_cli_that_cannot_run_is_an_error(tmp_path: Path, stop: StopRequest, text: str, fact: str) -> None:
    aws = AwsCli(Launcher(program(tmp_path / "aws", text), {}), stop)
    with raises_error(AwsError, "aws.cannot-start", f" {tmp_path / 'aws'}: ", fact):
        aws.run(("--version",))
    assert aws.processes.started == 0


@pytest.mark.parametrize("code", ["sys.exit(1)", "pass", "print('aws: broken', file=sys.stderr); sys.exit(255)"])
def test_a_cli_without_a_version_is_an_error(fake: Callable[..., AwsCli], code: str) -> None:
    with raises_error(AwsError, "aws.unusable", "`aws --version`"):
        fake(code).version()


def test_the_version_is_one_printable_line(fake: Callable[..., AwsCli]) -> None:
    assert fake("print('aws-cli/1.46.3 \\x1b[31m')").version() == r"aws-cli/1.46.3 \x1b[31m"


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Start work in a thread; its result or exception is added to the list."""
    results: list[object] = []

    def collect() -> None:
        try:
            results.append(work())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    return thread, results


@pytest.mark.parametrize(
    ("ignored", "ends_by"),
    [((), signal.SIGINT), (("SIGINT",), signal.SIGTERM), (("SIGINT", "SIGTERM"), signal.SIGKILL)],
)
def test_a_request_to_stop_ends_it_even_if_it_ignores_signals(
    fake: Callable[..., AwsCli],
    stop: StopRequest,
    monkeypatch: pytest.MonkeyPatch,
    ignored: tuple[str, ...],
    ends_by: int,
) -> None:
    grace = tuple((signum, 0.3) for signum, _ in process_tree._GRACE)
    monkeypatch.setattr(process_tree, "_GRACE", grace)
    code = "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    code += "".join(f"signal.signal(signal.{name}, signal.SIG_IGN)\n" for name in ignored)
    aws = fake(f"{code}print('ready', flush=True)\nwhile True:\n    signal.pause()")
    ready = threading.Event()
    thread, results = in_thread(lambda: aws.run_streaming(("s3", "cp"), Observer(lambda line: ready.set())))
    assert ready.wait(120)

    stop.request(signal.SIGTERM)

    thread.join(120)
    (ended,) = results
    assert isinstance(ended, AwsResult)
    assert ended.returncode == -ends_by


def test_its_children_end_with_it(fake: Callable[..., AwsCli], stop: StopRequest) -> None:
    """Version 2 is a launcher with a child that does the work."""
    code = "signal.signal(signal.SIGINT, signal.SIG_DFL)\npid = os.fork()\nif pid:\n    print(pid, flush=True)\n"
    aws = fake(f"{code}while True:\n    signal.pause()")
    pids: list[psutil.Process] = []
    ready = threading.Event()

    def on_line(line: str) -> None:
        pids.append(psutil.Process(int(line)))
        ready.set()

    thread, _ = in_thread(lambda: aws.run_streaming(("s3", "cp"), Observer(on_line)))
    assert ready.wait(120)
    stop.request(signal.SIGINT)
    thread.join(120)
    assert not thread.is_alive()
    assert psutil.wait_procs(pids, timeout=120)[1] == []


def test_nothing_of_an_idle_one_is_kept_until_the_end(tmp_path: Path, stop: StopRequest) -> None:
    """A scan makes one for each run: their environments would pile up."""
    for code in ("exit 0", "exit 7"):
        aws = AwsCli(Launcher(program(tmp_path / code / "aws", f"#!/bin/sh\n{code}\n"), {}), stop)
        both(aws)
        gone = weakref.ref(aws)
        del aws
        gc.collect()
        assert gone() is None


def test_nothing_is_started_after_a_request_to_stop(fake: Callable[..., AwsCli], stop: StopRequest) -> None:
    aws = fake("open(os.path.join(os.path.dirname(__file__), 'was here'), 'w')")
    stop.request(signal.SIGTERM)
    asks: list[Callable[[], object]] = [aws.version, lambda: aws.run(("s3api", "x")), lambda: follow(aws, "s3", "cp")]
    for ask in asks:
        with pytest.raises(InterruptedBySignal) as caught:
            ask()
        assert caught.value.exit_code == 143
    assert aws.processes.started == 0
    assert os.listdir(os.path.dirname(aws.path)) == ["aws"]


@pytest.mark.parametrize("moment", ["start", "line"])
def test_an_error_of_ours_ends_it(fake: Callable[..., AwsCli], moment: str) -> None:
    """It does not wait for an upload that is no longer wanted."""
    aws = fake("print('ready', flush=True)\nwhile True:\n    signal.pause()")

    def fail(_: object) -> None:
        raise LookupError(moment)

    def do_nothing(_: object) -> None: ...

    on_line, on_start = (do_nothing, fail) if moment == "start" else (fail, do_nothing)
    thread, results = in_thread(lambda: aws.run_streaming(("s3", "cp"), Observer(on_line, on_start)))
    thread.join(120)
    waits = thread.is_alive()
    for pid in aws.processes.bytes_read():
        os.kill(pid, signal.SIGKILL)
    thread.join(120)
    assert not waits, "it waits for a process that does not end"
    assert [type(result) for result in results] == [LookupError]


def test_bytes_read_by_live_processes_can_be_read_at_any_time(fake: Callable[..., AwsCli], tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 3_000_000)
    release, wait = os.pipe()[::-1]
    code = f"open({str(tmp_path / 'data')!r}, 'rb').read()\nprint('ready', flush=True)\nos.read({wait}, 1)"
    aws = fake(code, inherited=(wait,))
    pids: list[int] = []
    ready = threading.Event()
    thread, _ = in_thread(lambda: aws.run_streaming(("s3", "cp"), Observer(lambda line: ready.set(), pids.append)))
    assert ready.wait(120)
    read = aws.processes.bytes_read()
    os.write(release, b"x")
    thread.join(120)
    os.close(release)
    os.close(wait)
    assert list(read) == pids
    assert read[pids[0]] >= 3_000_000
    assert aws.processes.bytes_read() == {}


def test_many_threads_share_one(fake: Callable[..., AwsCli]) -> None:
    aws = fake("print(argv[0])")
    results = [in_thread(functools.partial(aws.run, (str(number),))) for number in range(8)]
    for thread, _ in results:
        thread.join(120)
    expected = [[AwsResult((str(number),), 0, f"{number}\n".encode(), ())] for number in range(8)]
    assert [result for _, result in results] == expected
    assert aws.processes.started == 8


def test_the_version_of_a_cli_beside_this_python_is_known_without_a_process(fake: Callable[..., AwsCli]) -> None:
    beside = AwsCli(Launcher(AWS_V1, {"PATH": "/usr/bin:/bin"}), StopRequest())
    assert beside.version().startswith("aws-cli/1.")
    assert (beside.processes.started, beside.version_text) == (0, beside.version())
    assert beside.check_usable().startswith(beside.version() + " ")
    assert beside.processes.started == 1
    elsewhere = fake("print('aws-cli/2.36.7 Python/3.13.1')")
    assert (elsewhere.version(), elsewhere.processes.started) == ("aws-cli/2.36.7 Python/3.13.1", 1)
    assert (elsewhere.version(), elsewhere.processes.started) == ("aws-cli/2.36.7 Python/3.13.1", 1)
