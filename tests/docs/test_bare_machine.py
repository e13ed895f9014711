"""A machine on which something is missing, and a checkout in an odd place: one line says what to type."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s3sync import processes
from s3sync.aws.client import AwsCli
from s3sync.aws.launcher import Launcher
from s3sync.errors import AwsError
from s3sync.signals import StopRequest
from tests.helpers.lab import QUICK_AWS, Lab
from tests.helpers.s3server import S3Server

ROOT = Path(__file__).parents[2]
PASSES = "#!/bin/sh\nexit 0\n"


class Machine:
    """A checkout with little more than the Makefile, and a `python3` that is a script of the test's."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.checkout = folder / "checkout"
        self.move(self.checkout)
        self.has("python3", 'echo "$*" >> "$LOG"\n')
        self.log = folder / "log"

    def move(self, checkout: Path) -> None:
        (checkout / "scripts").mkdir(parents=True)
        for name in ("Makefile", "requirements.txt", "pyproject.toml", "scripts/bootstrap.sh"):
            shutil.copyfile(ROOT / name, checkout / name)
        self.checkout = checkout

    def has(self, name: str, code: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{code}")
        (self.bin / name).chmod(0o755)

    def make(self, *arguments: str) -> tuple[int, list[str]]:
        """The output of `make`, without its own messages."""
        env = {"PATH": f"{self.bin}:/usr/bin:/bin", "LOG": str(self.log)}
        argv = ["make", "--no-print-directory", *arguments]
        ended = subprocess.run(argv, cwd=self.checkout, env=env, capture_output=True, text=True, check=False)
        return ended.returncode, [line for line in ended.stderr.splitlines() if not line.startswith("make: ")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One that has everything, as far as it is asked."""
    made = Machine(tmp_path)
    made.has("apt-get", "exit 1\n")
    return made


@pytest.mark.parametrize("target", ["install", "demo", "upload", "check"])
def test_without_venv_one_line_says_which_package_is_missing(machine: Machine, target: str) -> None:
    machine.has("python3", 'case "$*" in *ensurepip*) echo Traceback >&2; exit 1;; esac\n')
    code, said = machine.make(target)
    assert code == 2
    assert said == ["s3sync: python3 cannot make virtual environments (sudo apt-get install -y python3-venv)"]
    assert not (machine.checkout / ".venv").exists()


def test_another_python_needs_its_own_package(machine: Machine) -> None:
    machine.has("python3.13", 'case "$*" in *ensurepip*) exit 1;; *python%d*) echo python3.13-venv;; esac\n')
    _, said = machine.make("install", "PYTHON=python3.13")
    assert said == ["s3sync: python3.13 cannot make virtual environments (sudo apt-get install -y python3.13-venv)"]


def test_a_python_that_is_too_old_is_reported(machine: Machine) -> None:
    machine.has("python3", 'case "$*" in *version_info*) exit 1;; --version) echo Python 3.9.2;; esac\n')
    _, (said,) = machine.make("install")
    assert said.startswith("s3sync: Python 3.9.2 is too old: 3.10 or newer is needed (make PYTHON=python3.11")


def test_without_python_the_message_names_the_package(machine: Machine) -> None:
    _, said = machine.make("install", "PYTHON=python3.nowhere")
    advice = "sudo apt-get install -y python3 python3-venv, or make PYTHON=/path/to/python3"
    assert said == [f"s3sync: there is no python3.nowhere here ({advice})"]


def test_without_a_network_the_proxy_is_named(machine: Machine) -> None:
    venv = 'case "$*" in "-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;\n'
    machine.has("python3", f'{venv}"-m pip install"*) echo "no route" >&2; exit 1;; *"import pip"*) exit 1;; esac\n')
    code, (reason, said) = machine.make("install")
    assert code == 2
    assert reason == "no route"
    assert "HTTPS_PROXY=" in said
    assert "PIP_INDEX_URL=" in said
    assert not (machine.checkout / ".venv/.installed").exists()


@pytest.mark.parametrize("name", ["it's", 'say "this"', "a$b", "a`b", "a\\b", "a:b", "a\tb"])
def test_a_path_that_the_tools_cannot_bear_is_refused_before_anything_is_installed(
    machine: Machine, tmp_path: Path, name: str
) -> None:
    machine.move(tmp_path / name)
    code, (said,) = machine.make("install")
    assert code == 2
    assert said.startswith(f"s3sync: cannot be installed in {tmp_path / name}: ")
    assert not machine.log.exists(), "Python was not started"


@pytest.mark.parametrize("name", ["my tools", "a#b", "100%", "R&D (new)", "Zoë", "a;b", "a=b"])
def test_other_odd_paths_are_not_an_obstacle(machine: Machine, tmp_path: Path, name: str) -> None:
    machine.move(tmp_path / name)
    venv = 'echo "$*" >> "$LOG"\ncase "$*" in "-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;; '
    machine.has("python3", f'{venv}*"import pip"*) exit 1;; esac\n')
    assert machine.make("install") == (0, [])
    assert "-m venv .venv" in machine.log.read_text().splitlines()
    assert (machine.checkout / ".venv/.installed").exists()


def test_a_virtual_environment_is_not_overwritten_by_another_python(machine: Machine) -> None:
    """As when requirements.txt changes, and `python3` on PATH is not the one that made it."""
    (machine.checkout / ".venv/bin").mkdir(parents=True)
    (machine.checkout / ".venv/bin/python").write_text('#!/bin/sh\necho "venv $*" >> "$LOG"\n')
    (machine.checkout / ".venv/bin/python").chmod(0o755)
    assert machine.make("install") == (0, [])
    calls = machine.log.read_text().splitlines()
    assert [call for call in calls if call.startswith("venv -m pip install")]
    assert not [call for call in calls if "-m venv" in call]


# An aws that the kernel cannot start


@pytest.fixture(params=["my tools", "deep/" + "er/" * 60], ids=["space", "long"])
def odd_aws(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """As pip writes `aws` into such a place: a script whose first line the kernel cannot follow."""
    folder = tmp_path / str(request.param) / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    start = f"import sys\nsys.path.insert(0, {str(QUICK_AWS.parent)!r})\nimport quick_aws\n"
    (folder / "aws").write_text(f"#!{folder}/python\n{start}sys.exit(quick_aws.main(sys.argv[1:]))\n")
    (folder / "aws").chmod(0o755)
    return folder / "aws"


def test_an_aws_below_a_folder_with_a_space_works(odd_aws: Path, lab: Lab, server: S3Server, tiny_run: Path) -> None:
    result = lab.upload(tiny_run, "--aws_command", str(odd_aws))
    assert result.code == 0, result.err
    assert lab.log(tiny_run)["completed"] is True


def test_a_script_whose_interpreter_is_gone_says_so(tmp_path: Path) -> None:
    """The kernel says `No such file or directory` about a file that exists."""
    moved = tmp_path / "aws"
    moved.write_text("#!/opt/moved away/bin/python\n")
    moved.chmod(0o755)
    with pytest.raises(AwsError) as caught:
        AwsCli(Launcher(str(moved), {"PATH": os.defpath}), StopRequest()).version()
    assert str(caught.value) == (
        f"cannot run {moved}: the interpreter that its first line names does not exist: /opt/moved away/bin/python "
        "(install it again, in a folder whose path is short and has no spaces)"
    )


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (BlockingIOError(11, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(12, "Cannot allocate memory"), "memory"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (PermissionError(13, "Permission denied"), ""),
    ],
)
def test_missing_packages_are_reported_as_such(error: OSError, advice: str) -> None:
    why, what_to_do = processes.explain_start_failure("/bin/true", error)
    assert why == error.strerror
    assert advice in what_to_do
    assert bool(advice) is bool(what_to_do)


def test_an_interpreter_that_this_user_cannot_reach_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As below /root, where `sudo` has installed it."""
    script = tmp_path / "aws"
    script.write_text("#!/root/venv/bin/python\n")
    monkeypatch.setattr(os, "access", lambda *_: False)
    why, what_to_do = processes.explain_start_failure(str(script), PermissionError(13, "Permission denied"))
    assert why == "this user cannot run the interpreter that its first line names: /root/venv/bin/python"
    assert "this user can access" in what_to_do


def test_the_prerequisites_are_one_line_to_paste() -> None:
    assert "sudo apt-get install -y git make python3 python3-venv" in (ROOT / "README.md").read_text()
