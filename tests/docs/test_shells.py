"""What makes the program known to a machine: words that shells complete, and the manual page."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from s3sync.commands import command_line, completion, main
from scripts import manpage
from tests.helpers.lab import skip_or_fail

# Completion


@pytest.fixture(scope="module")
def bash_script() -> str:
    return completion.completion(command_line.build_parser(), "bash")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where somebody types: a folder and two files in it."""
    (tmp_path / "250101_A01234_0001_AHFAULTDRX7").mkdir()
    (tmp_path / "250101.yaml").touch()
    (tmp_path / "aws").touch()
    return tmp_path


def offered(script: str, line: str, folder: Path) -> list[str]:
    """What bash offers for the last word of a line."""
    asked = (
        f"{script}\nCOMP_WORDS=({line})\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\nCOMP_TYPE=9\n"
        '_shtab_s3sync s3sync\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    ended = subprocess.run(["bash", "-c", asked], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return ended.stdout.split()


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("s3sync up", ["upload"]),
        ("s3sync --print_completion z", ["zsh"]),
        ("s3sync upload --local_p", ["--local_path"]),
        ("s3sync upload --local-p", ["--local-path"]),
        ("s3sync upload --readback l", ["list-objects-v2"]),
        ("s3sync upload --local_path 25", ["250101_A01234_0001_AHFAULTDRX7"]),
        ("s3sync upload --bucket b --aws_command a", ["aws"]),
        ("s3sync verify 25", ["250101_A01234_0001_AHFAULTDRX7"]),
        ("s3sync monitor --dry_run --config 250101.", ["250101.yaml"]),
        ("s3sync status --config 250101.yaml 25", []),
    ],
)
def test_bash_completes(bash_script: str, folder: Path, line: str, offers: list[str]) -> None:
    assert offered(bash_script, line, folder) == offers


def test_every_file_and_folder_is_completed_as_such() -> None:
    script = completion.completion(parser := command_line.build_parser(), "bash")
    for name, command in command_line.subparsers(parser).items():
        for action in command._actions:
            if action.metavar in ("FILE", "DIR") and action.option_strings:
                kind = "files" if action.metavar == "FILE" else "dirs"
                option = action.option_strings[0].replace("-", "_")
                assert f"_shtab_s3sync_{name}_{option}_COMPGEN=_shtab_compgen_{kind}\n" in script


@pytest.mark.parametrize(
    "shell", [pytest.param(s, marks=pytest.mark.real if s != "bash" else ()) for s in command_line.SHELLS]
)
def test_the_command_prints_a_script_that_the_shell_can_read(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not shutil.which(shell):
        skip_or_fail(f"needs {shell}")
    assert main.main(["--print-completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    read = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stdout, read.stderr) == (0, "", "")


# The manual page


def test_the_page_is_that_of_the_command_line() -> None:
    assert manpage.PAGE.read_text() == manpage.page(command_line.build_parser()), "run `make man`"


def test_the_page_is_the_same_for_every_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert manpage.page(command_line.build_parser()) == manpage.PAGE.read_text()


def test_the_page_names_every_option_and_exit_code() -> None:
    parser = command_line.build_parser()
    page = manpage.PAGE.read_text().replace("\\-", "-")
    for name, command in command_line.subparsers(parser).items():
        section = page.split(f".SS s3sync {name}\n")[1].split("\n.S")[0]
        for action in command._actions:
            if action.dest != "help":
                assert rf"\fB{action.option_strings[0] if action.option_strings else action.metavar}\fR" in section
    for code in (0, 1, 2, 75, 78, 130):
        assert f".TP\n.B {code}\n" in page


def test_no_text_can_be_taken_for_a_request() -> None:
    parser = argparse.ArgumentParser(prog="s3sync", description=".so /etc/passwd", epilog="  0    'done' \\fB~^`")
    parser.add_subparsers().add_parser("x", description="'tis", epilog="").add_argument(
        "--y", help="50%% \\n", nargs="?"
    )
    page = manpage.page(parser)
    assert "\n\\&.so /etc/passwd\n" in page
    assert "\n\\(aqdone\\(aq \\efB\\(ti\\(ha\\(ga\n" in page
    assert "\n\\(aqtis\n" in page
    assert "\n50% \\en\n" in page


@pytest.mark.real
@pytest.mark.parametrize(
    "arguments", ["man --local-file --warnings {page}", "groff -man -Tutf8 -ww -z {page}", "man --where s3sync"]
)
def test_the_page_is_rendered_without_a_warning(arguments: str, tmp_path: Path) -> None:
    """And found beside the `bin` on PATH where the wheel puts it."""
    argv = shlex.split(arguments.format(page=manpage.PAGE))
    if not shutil.which(argv[0]):
        skip_or_fail(f"needs {argv[0]}")
    found = tmp_path / "share" / "man" / "man1" / "s3sync.1"
    found.parent.mkdir(parents=True)
    shutil.copy(manpage.PAGE, found)
    (tmp_path / "bin").mkdir()
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    shown = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    if "--where" in argv:
        assert shown.stdout == f"{found}\n"
    elif argv[0] == "man":
        assert "--dry_run is --dry-run" in " ".join(shown.stdout.split())
