"""The ways to install it, each in an empty place with the versions that were tested, and used from somewhere else."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from s3sync import __version__
from scripts import manpage
from tests.helpers.lab import BUCKET, Lab, tree
from tests.helpers.s3server import S3Server
from tests.helpers.throwaway import ROOT, copy_of_the_checkout, network_settings

BIN = Path(sys.executable).parent
# They need the network; one builds for all.
pytestmark = [pytest.mark.real, pytest.mark.xdist_group("install"), pytest.mark.timeout(1200)]


def run(*arguments: str | Path, cwd: Path, **env: str | Path) -> str:
    """Run a tool that installs, with `cwd` as its home, and give what it printed."""
    settings = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(cwd), **network_settings()}
    settings |= {name: str(value) for name, value in env.items()}
    argv = [str(word) for word in arguments]
    ended = subprocess.run(argv, cwd=cwd, env=settings, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install .` makes of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_of_the_checkout(folder / "source")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


def by_pip(wheel: Path, home: Path) -> Path:
    run(sys.executable, "-m", "venv", home / "venv", cwd=home)
    run(home / "venv/bin/pip", "install", "-q", "--constraint", ROOT / "requirements.txt", wheel, cwd=home)
    return home / "venv/bin/s3sync"


def by_uv(wheel: Path, home: Path) -> Path:
    argv = ("tool", "install", "-q", "--python", sys.executable, "--constraints", ROOT / "requirements.txt", wheel)
    run(BIN / "uv", *argv, cwd=home, UV_TOOL_DIR=home / "tools", UV_TOOL_BIN_DIR=home / "bin")
    return home / "bin/s3sync"


def by_pipx(wheel: Path, home: Path) -> Path:
    constraint = f"--pip-args=--constraint {ROOT / 'requirements.txt'}"
    argv = ("pipx", "install", "--quiet", "--python", sys.executable, constraint, wheel)
    run(BIN / "uvx", *argv, cwd=home, PIPX_HOME=home / "pipx", PIPX_BIN_DIR=home / "bin", PIPX_MAN_DIR=home / "man")
    return home / "bin/s3sync"


@pytest.mark.parametrize("install", [by_pip, by_uv, by_pipx])
def test_the_command_works_from_anywhere_with_its_own_aws(
    install: Callable[[Path, Path], Path], wheel: Path, lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path
) -> None:
    """With another `aws`, or none, on PATH."""
    home = tmp_path / "installed"
    home.mkdir()
    command = install(wheel, home)
    env = {name: value for name, value in lab.env.items() if name != "PYTHONPATH"}

    def use(*argv: str) -> str:
        ended = subprocess.run(
            [command, *argv], cwd=lab.tmp, env=env, capture_output=True, text=True, timeout=240, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    ours, python, aws = use("--version").splitlines()
    own = Path(re.fullmatch(r"Python \S+ \((.+)/bin/python\S*\)", python)[1])  # type: ignore[index]
    assert home in own.parents
    assert (ours, aws) == (f"s3sync {__version__}", f"aws-cli/{metadata.version('awscli')} ({own}/bin/aws)")
    assert (own / "share/man/man1/s3sync.1").read_text() == manpage.PAGE.read_text()
    assert "exit codes:" in use("--help")
    use(*lab.upload_argv(tiny_run))
    assert server.objects(BUCKET).keys() == {f"{tiny_run.name}/{path}" for path in tree(tiny_run)}


def test_the_wheel_contains_exactly_what_is_needed(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"s3sync_runs-{__version__}.dist-info"
    files = [path for path in (ROOT / "s3sync").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    package = {str(path.relative_to(ROOT)) for path in files}
    about = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt")}
    page = f"s3sync_runs-{__version__}.data/data/share/man/man1/s3sync.1"
    assert names == {*package, *about, f"{info}/licenses/LICENSE", page}
    assert {"s3sync/py.typed", "s3sync/monitor/templates/page.html"} <= names


def test_make_install_gives_the_command_of_this_checkout_again_and_again(tmp_path: Path) -> None:
    """After `git pull`, too, when the code, the requirements and the version may be others."""
    checkout = copy_of_the_checkout(tmp_path / "checkout")
    argv = ("make", "--no-print-directory", "install", f"PYTHON={sys.executable}")
    command = checkout / ".venv/bin/s3sync"
    run(*argv, cwd=checkout)
    assert run(command, "--version", cwd=tmp_path).startswith(f"s3sync {__version__}\n")
    init = checkout / "s3sync/__init__.py"
    init.write_text(init.read_text().replace(__version__, "9.9.9"))
    assert run(command, "--version", cwd=tmp_path).startswith("s3sync 9.9.9\n"), "it is the code of the checkout"
    assert not list(checkout.glob(".venv/lib/python*/site-packages/__editable__*finder.py")), "each `aws` would load it"
    (checkout / "requirements.txt").touch()

    run(*argv, cwd=checkout)

    assert run(command, "--version", cwd=tmp_path).startswith("s3sync 9.9.9\n")
    assert run(checkout / ".venv/bin/python", "-m", "s3sync", "--help", cwd=tmp_path).startswith("usage: s3sync")
    ready, *_ = run(*argv, cwd=checkout).splitlines()
    assert ready.startswith("ready: .venv/bin/s3sync"), "nothing is left to do"
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"*.egg-info/", ".venv/", "build/"} <= set(ignored)
