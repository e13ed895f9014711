"""However the program ends, it ends with one message and an exit code, and never with a traceback."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from s3sync import signals
from s3sync.commands import boundary
from s3sync.commands.boundary import EXIT_READER_LEFT, Explanation, explain
from s3sync.errors import ConfigError, StateError
from s3sync.signals import RepeatedInterrupt
from tests.helpers.crashes import wait_for_orphans
from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, FakeAws, Lab
from tests.helpers.s3server import S3Server

ROOT = Path(__file__).parents[2]


def started(code: str, lab: Lab, *arguments: str, **options: object) -> subprocess.Popen[str]:
    """The program, with some code that runs before it in the same process."""
    argv = [
        sys.executable,
        "-c",
        f"import sys\n{code}\nfrom s3sync.__main__ import entry_point\nentry_point()",
        *arguments,
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(argv, env=lab.env, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def ended(code: str, lab: Lab, *argv: str) -> tuple[int, str, str]:
    with started(code, lab, *argv) as process:
        out, err = process.communicate(timeout=240)
    return process.returncode, out, err


# What is said


@pytest.mark.parametrize(
    ("error", "name", "fact"),
    [
        (MemoryError(), "out-of-memory", "--cores"),
        (RuntimeError("can't start new thread"), "too-many-processes", "ulimit -u"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "too-many-processes", "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files"), "too-many-files", "ulimit -n"),
        (OSError(errno.ENFILE, "Too many open files in system"), "too-many-files", "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device", "/log/a"), "no-space", "No space left on device: /log/a "),
        (OSError(errno.EDQUOT, "Disk quota exceeded", b"/log/\xff"), "no-space", r"Disk quota exceeded: /log/\xff "),
        (OSError(errno.EFBIG, "File too large", "/log/a"), "file-too-large", "ulimit -f"),
        (OSError(errno.EROFS, "Read-only file system", "/log"), "read-only", "Read-only file system: /log"),
        (OSError(errno.EIO, "Input/output error", "/data"), "input-output", "Input/output error: /data"),
        (OSError(errno.ESTALE, "Stale file handle", "/data"), "stale-mount", "Stale file handle: /data"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "no-current-folder", "`cd`"),
        (ModuleNotFoundError("No module named 'rich'"), "incomplete-installation", "No module named 'rich'"),
    ],
)
def test_what_is_the_machines_fault_says_what_to_do(error: BaseException, name: str, fact: str) -> None:
    explanation = explain(error, {})
    assert explanation.id == f"internal.{name}"
    assert fact in explanation.message
    assert (explanation.exit_code, len(explanation.lines), explanation.message[-1]) == (1, 1, ")")


def test_errors_that_have_a_name_keep_their_message_and_code() -> None:
    of_config = explain(ConfigError("line one\nline two", id="config.wrong"), {})
    assert (of_config.lines, of_config.exit_code) == (["line one", "line two"], 78)
    of_state = explain(StateError("cannot write", id="state.unwritable"), {})
    assert (of_state.lines, of_state.exit_code) == (["cannot write [state.unwritable]"], 1)
    assert explain(KeyboardInterrupt(), {}) == Explanation(message="interrupted by SIGINT", exit_code=130)


def fail(text: str) -> Exception:
    nothing: dict[str, str] = {}
    try:
        nothing[text]
    except KeyError as error:
        return error
    raise AssertionError


def test_an_unexpected_error_is_one_line_and_its_traceback_is_kept_in_private(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "AWS_SECRET_ACCESS_KEY": "very-secret"}
    explanation = explain(fail("very-secret\nand\x1b[31m"), environ)
    (kept,) = (tmp_path / "state" / "s3sync" / "errors").iterdir()
    text = explanation.message
    assert (explanation.exit_code, explanation.id) == (1, "internal.bug")
    assert " KeyError: " in text
    assert text.endswith(f" {kept})")
    assert "in fail\n" in kept.read_text()
    assert "very-secret" not in text + kept.read_text()
    assert "\x1b" not in text + kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_where_nothing_can_be_kept_the_details_follow_in_the_same_line(tiny_run: Path) -> None:
    for place in ("/dev/null/state", str(tiny_run)):
        text = explain(fail("odd"), {"XDG_STATE_HOME": place}).message
        assert "; the details: Traceback" in text
        assert "\n" not in text
    assert not (tiny_run / "s3sync").exists(), "never in a run"


# The end of the program


@pytest.mark.parametrize(
    ("patch", "code", "error_id", "fact"),
    [
        ("raise KeyboardInterrupt", 130, "", "SIGINT"),
        ("raise MemoryError", 1, "internal.out-of-memory", "--cores"),
        ('raise RuntimeError("can\'t start new thread")', 1, "internal.too-many-processes", "ulimit -u"),
        ("raise OSError(28, 'No space left on device', '/a')", 1, "internal.no-space", "No space left on device: /a "),
        ("raise ZeroDivisionError('odd')", 1, "internal.bug", "ZeroDivisionError: odd "),
        ("raise BrokenPipeError", EXIT_READER_LEFT, "", ""),
    ],
)
def test_any_error_of_a_command_is_one_line(lab: Lab, patch: str, code: int, error_id: str, fact: str) -> None:
    """Such as Ctrl-C in `status`, in `report`, and while the config is read."""
    before = f"from s3sync import config\ndef load(*arguments):\n    {patch}\nconfig.load_config = load"
    returned, out, err = ended(before, lab, "status", "--config", "x", "--json")
    assert (returned, error_ids(err)) == (code, [error_id] if error_id else [])
    assert fact in err
    assert (err.count("\n"), err.startswith("s3sync: ")) == ((1, True) if fact else (0, False))
    assert "Traceback" not in err
    if out:
        answer = json.loads(out)
        assert (answer["exit_code"], answer["error_id"]) == (code, error_id)


@pytest.mark.parametrize("argv", [("--help",), ("upload", "--help"), ("status", "--config", "/nowhere", "--json")])
def test_output_without_a_reader_is_not_an_error(lab: Lab, argv: tuple[str, ...]) -> None:
    """As in `… | head`: noticed while printing, or at the end, when the rest is written."""
    for unbuffered in ("", "1"):
        reader, writer = os.pipe()
        os.close(reader)
        result = lab.run(*argv, env={"PYTHONUNBUFFERED": unbuffered}, stdout=writer)
        os.close(writer)
        assert result.code in (EXIT_READER_LEFT, 78) if "status" in argv else (0, EXIT_READER_LEFT)
        assert "Traceback" not in result.err
        assert "Exception" not in result.err
        assert "Broken" not in result.err


def test_output_that_cannot_be_written_is_reported(lab: Lab) -> None:
    with open("/dev/full", "w") as full:
        result = lab.run("--print_completion", "bash", env={"PYTHONUNBUFFERED": ""}, stdout=full)
    assert (result.code, result.error_ids) == (1, ["internal.no-space"])
    assert result.err.startswith("s3sync: ")
    assert "No space left on device" in result.err
    assert result.err.count("\n") == 1


def test_closed_standard_streams_do_not_become_our_files(lab: Lab, tiny_run: Path, quick_aws: FakeAws) -> None:
    """The first file that is opened would get the number of stdout, and in it what is printed."""
    arguments = " ".join(lab.upload_argv(tiny_run, "--aws_command", quick_aws("")))
    argv = ["sh", "-c", f"exec {sys.executable} -m s3sync {arguments} >&- 2>&- <&-"]
    assert subprocess.run(argv, env=lab.env, check=False).returncode == 0
    assert lab.log(tiny_run)["completed"] is True


def test_an_interrupt_during_the_imports_ends_it_at_once(lab: Lab) -> None:
    """The first import that takes long sends it."""
    hook = (
        "import os, signal\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 's3sync.commands.main':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())"
    )
    assert ended(hook, lab, "--help") == (130, "", "s3sync: interrupted by SIGINT\n")


def test_an_interrupt_at_the_interpreters_end_leaves_no_traceback(lab: Lab) -> None:
    hook = "import atexit, os, signal\natexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))"
    code, out, err = ended(hook, lab, "--help")
    assert code == 130
    assert out.startswith("usage: ")
    assert "Traceback" not in err


def test_an_ignored_interrupt_stays_ignored(lab: Lab) -> None:
    """As in the background of a script."""
    before = "import os, signal\nsignal.signal(2, signal.SIG_IGN)\nimport atexit\n"
    before += "atexit.register(lambda: os.kill(os.getpid(), 2))\n"
    code, _, err = ended(before, lab, "--help")
    assert (code, err) == (0, "")


def test_modules_that_are_missing_are_reported(lab: Lab) -> None:
    code, _, err = ended("sys.modules['psutil'] = None", lab, "--help")
    assert (code, error_ids(err)) == (1, ["internal.incomplete-installation"])
    assert (err.startswith("s3sync: "), "psutil" in err) == (True, True), err
    assert err.count("\n") == 1


def test_what_takes_long_to_import_is_imported_only_where_it_is_needed(lab: Lab, tiny_run: Path) -> None:
    """Not for an upload or a scan without a terminal that reports nothing, nor for JSON."""
    missing = "sys.modules.update(dict.fromkeys(('jinja2', 'prometheus_client', 'rich', 'ssl', 'urllib3')))"
    config = ("--config", lab.config_for(tiny_run))
    upload = lab.upload_argv(tiny_run, "--aws_command", lab.aws)
    assert ended(f"{missing}\nsys.modules['pydantic'] = None", lab, *upload)[0] == 0
    for argv in (("monitor", *config), ("status", *config, "--json")):
        assert ended(missing, lab, *argv)[0] == 0


# A second Ctrl-C


def test_two_signals_that_come_together_are_one() -> None:
    times = iter([0.0, 0.01, 0.1, 2.0])
    ends: list[int] = []
    interrupts = RepeatedInterrupt(ends.append, lambda: next(times))
    for _ in range(3):
        interrupts.record(signal.SIGINT)
    assert ends == []
    interrupts.record(signal.SIGINT)
    assert ends == [signal.SIGINT]


def test_only_a_repeated_sigint_ends_at_once() -> None:
    """Schedulers send SIGTERM twice; Ctrl-C after it comes from a person."""
    times = iter([0.0, 5.0, 9.0])
    ends: list[int] = []
    interrupts = RepeatedInterrupt(ends.append, lambda: next(times))
    interrupts.record(signal.SIGTERM)
    interrupts.record(signal.SIGTERM)
    assert ends == []
    interrupts.record(signal.SIGINT)
    assert ends == [signal.SIGINT]


def insist(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Press Ctrl-C until the program ends, as people do."""
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(0.3)
        except subprocess.TimeoutExpired:
            continue
    assert process.stderr
    return process.returncode, process.stderr.read()


def test_a_second_interrupt_ends_at_once_with_all_processes(
    lab: Lab, tiny_run: Path, quick_aws: FakeAws, server: S3Server
) -> None:
    """An `aws` that ignores signals, with a child; the same command continues from there."""
    pids = lab.root / "pids"
    deaf = (
        "if 'cp' in argv:\n"
        "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "    os.fork()\n"
        f"    with open({str(pids)!r}, 'a') as file: print(os.getpid(), file=file)\n"
        "    signal.pause()\n"
    )
    os.mkfifo(lab.root / "ready")
    waiting = deaf.replace(
        "    signal.pause()", f"    open({str(lab.root / 'ready')!r}, 'w').close()\n    signal.pause()"
    )
    with lab.start(*lab.upload_argv(tiny_run, "--aws_command", quick_aws(waiting))) as process:
        with open(lab.root / "ready") as ready:  # until both have come so far
            ready.read()
        code, err = insist(process)
    assert code == 130
    assert err.endswith("interrupted again: stopped at once (run the same command again to resume)\n")
    assert pids.read_text().split()
    wait_for_orphans(lab)

    again = lab.upload(tiny_run, "--aws_command", quick_aws(""))

    assert again.code == 0, again.err
    assert lab.log(tiny_run)["completed"] is True


def test_a_second_interrupt_ends_what_waits_for_a_dead_file_server(lab: Lab, tiny_run: Path) -> None:
    """A call that never returns: here, opening a pipe without a writer again and again."""
    os.mkfifo(lab.root / "hung")
    hook = (
        "import os\nfrom s3sync import config\n"
        "def load(*arguments):\n"
        "    print('begun', flush=True)\n"
        "    while True:\n"
        "        try:\n"
        f"            os.open({str(lab.root / 'hung')!r}, os.O_RDONLY)\n"
        "        except KeyboardInterrupt:\n"
        "            pass\n"
        "config.load_config = load"
    )
    with started(hook, lab, "status", "--config", "x") as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        assert insist(process)[0] == 130


# The encoding of names

NAMES = ["Zoë", "ラン", "a b"]


@pytest.fixture
def latin1(tmp_path: Path) -> dict[str, str]:
    """An environment with a locale of one byte a character, made here if this machine has none."""
    if shutil.which("localedef") is None:
        pytest.skip("no localedef")
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / "en_US.ISO-8859-1")],
        capture_output=True,
        check=False,
    )
    if not (tmp_path / "en_US.ISO-8859-1").is_dir():
        pytest.skip(f"cannot make a locale: {made.stderr!r}")
    return {"LOCPATH": str(tmp_path), "LC_ALL": "en_US.ISO-8859-1"}


@pytest.mark.parametrize("locale", ["POSIX", "latin1"])
def test_names_are_utf8_regardless_of_the_locale(
    lab: Lab, tiny_run: Path, quick_aws: FakeAws, server: S3Server, locale: str, request: pytest.FixtureRequest
) -> None:
    environ = request.getfixturevalue("latin1") if locale == "latin1" else {"LC_ALL": "C"}
    for name in NAMES:
        (tiny_run / "Data" / name).write_text(name)
    expected = {f"{tiny_run.name}/{path.relative_to(tiny_run)}" for path in tiny_run.rglob("*") if path.is_file()}

    env = {**environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = lab.upload(tiny_run, "--aws_command", quick_aws(""), "--exclude_patterns", "ë$", env=env)

    assert result.code == 0, result.err
    assert set(server.objects(BUCKET)) == {key for key in expected if not key.endswith("ë")}
    assert lab.log(tiny_run)["completed"] is True


def test_the_reading_end_of_the_boundary_is_installed_for_the_command() -> None:
    """The installed command and `python -m` begin in the same place."""
    text = (ROOT / "pyproject.toml").read_text()
    assert 's3sync = "s3sync.__main__:entry_point"' in text
    assert boundary.EXIT_READER_LEFT == 141
    assert signals.SIGNALS == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
