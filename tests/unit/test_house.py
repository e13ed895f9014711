"""The house rules: who imports whom, who may do what, and that everything says what it is for."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

import s3sync
from s3sync.commands import main
from s3sync.errors import S3SyncError
from tests.helpers.lab import AWS_V1
from tests.helpers.tiers import TESTS, list_promises

PACKAGE = Path(s3sync.__file__).parent

# From the ground up: a package imports only those above its own line. Those of one line do not import each other.
LAYERS = [
    {"root"},  # the modules beside the packages
    {"runs", "aws"},
    {"state"},
    {"transfer"},
    {"slurm"},
    {"config"},
    {"inventory"},
    {"monitor", "cleanup"},
    {"commands"},
]
LEVELS = {package: level for level, packages in enumerate(LAYERS) for package in packages}
PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MAX_PUBLIC_NAMES = 12


@cache  # not on import: every worker imports every test
def parsed_modules() -> Mapping[str, ast.Module]:
    """All modules of the program, by name."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_bytes())
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def package_of(room: str) -> str:
    return room.partition(".")[0] if "." in room else "root"


def imported_by(tree: ast.Module) -> Iterator[str]:
    """The full names of modules, and of what is taken from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def calls_in(tree: ast.Module) -> Iterator[str]:
    """What is called, as it is written: `print`, `os.fsync`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def callers_of(*names: str) -> set[str]:
    return {room for room, tree in parsed_modules().items() if not set(names).isdisjoint(calls_in(tree))}


def test_every_package_has_its_place() -> None:
    assert sorted(LEVELS) == sorted(["root", *PACKAGES])


def test_no_module_imports_from_a_package_above_its_own() -> None:
    for room, tree in parsed_modules().items():
        names = [name.split(".") for name in imported_by(tree)]
        used = {name[1] if name[1] in PACKAGES else "root" for name in names if name[0] == "s3sync"}
        here = package_of(room)
        wrong = {other for other in used if other != here and LEVELS[other] >= LEVELS[here]}
        assert room == "__main__" or not wrong, room
        assert all(name[0] for name in names), f"no relative imports: {room}"


def public_names(package: str) -> list[str]:
    names: list[str] = importlib.import_module(package).__all__
    return names


def test_a_package_is_used_by_its_public_names() -> None:
    """So is a package inside a package, by the other packages."""
    for room, tree in parsed_modules().items():
        for name in imported_by(tree):
            _, package, *rest = [*name.split("."), ""]
            if not name.startswith("s3sync.") or package not in PACKAGES or package in (package_of(room), "commands"):
                continue
            path = f"s3sync.{package}"
            while rest[0] and (PACKAGE.parent / path.replace(".", "/") / "__init__.py").exists():
                assert rest[0] in public_names(path), (room, name)
                path = f"{path}.{rest.pop(0)}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_a_package_has_few_public_names(path: Path) -> None:
    names = public_names(".".join(path.parent.relative_to(PACKAGE.parent).parts))
    assert len(names) <= MAX_PUBLIC_NAMES, "group what belongs together"
    assert names == sorted(names)


def test_only_one_module_starts_processes() -> None:
    users = {
        room
        for room, tree in parsed_modules().items()
        if {"subprocess", "pty"} & {n.split(".")[0] for n in imported_by(tree)}
    }
    assert users == {"processes"}
    others = re.compile(r"os\.(system|popen|exec\w+|spawn\w+|posix_spawn\w*|fork\w*)|eval|exec")
    allowed = {
        "__main__": ["os.execv"],  # the program itself, again
        "aws.fork_server": ["os.fork", "os.fork"],  # in a process of the AWS CLI
    }
    for room, tree in parsed_modules().items():
        assert [call for call in calls_in(tree) if others.fullmatch(call)] == allowed.get(room, []), room


def test_no_process_has_a_shell() -> None:
    for tree in parsed_modules().values():
        for node in ast.walk(tree):
            assert not (isinstance(node, ast.keyword) and node.arg == "shell")


def test_only_one_module_writes_state() -> None:
    users = {
        room
        for room, tree in parsed_modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value == "uploads"
    }
    assert users == {"state.log_paths", "state.log_dir"}, "logdir only asks whether this user may go in there"


def test_only_one_module_brings_bytes_to_the_disk() -> None:
    assert callers_of("os.fsync", "os.fdatasync") == {"files"}


def test_only_one_module_deletes_what_is_not_ours() -> None:
    """Those that delete at all, and by which means: files and folders that this program made, but for `removal`."""
    deleting = re.compile(r"(.*\.)?(unlink|rmdir|rmtree|remove|removedirs|send2trash|delete_run)")
    callers = {
        room: {call for call in calls_in(tree) if deleting.fullmatch(call)} for room, tree in parsed_modules().items()
    }
    assert {room: calls for room, calls in callers.items() if calls} == {
        "slurm.work_folder": {"(self.path / 'job.json').unlink", "shutil.rmtree"},
        "slurm.broken_nodes": {"_path(log_dir, node).unlink"},
        "slurm.node_trial": {"shutil.rmtree", "self._folder.parent.rmdir", "waiting.remove"},
        "cleanup.interrupted": {"cleanup_delete.delete_run"},
        "cleanup.worker": {"cleanup_delete.delete_run"},
        "files": {"temporary.unlink"},
        "monitor.notifications": {"old.unlink"},
        "logs": {"(log_dir / name).unlink"},
        "state.lease_files": {"(self._folder / name).unlink", "self.path(number).unlink", "temporary.unlink"},
        "cleanup.delete": {"os.unlink", "os.rmdir"},
        "transfer.context": {"shutil.rmtree", "parent.rmdir"},
        "state.thaw_log": {"self._tried.unlink", "self.path.unlink"},
        "transfer.restore.place": {"(folder / path).unlink", "shutil.rmtree"},
        "transfer.staging": {"shutil.rmtree"},
        "state.store": {"self._temporary.unlink", "self.journal_path.unlink", "self.log_path.unlink"},
    }


def test_what_is_deleted_is_named_relative_to_an_open_folder() -> None:
    calls = [node for node in ast.walk(parsed_modules()["cleanup.delete"]) if isinstance(node, ast.Call)]
    for call in calls:
        if ast.unparse(call.func) in ("os.unlink", "os.rmdir", "os.stat"):
            assert "dir_fd" in {keyword.arg for keyword in call.keywords}, ast.unparse(call)


def test_only_the_boundary_exits() -> None:
    assert callers_of("sys.exit", "exit", "quit") == {"__main__"}
    raisers = {room for room, tree in parsed_modules().items() if "SystemExit" in ast.unparse(tree)}
    assert raisers <= {"commands.boundary", "aws.fork_server"}, "the latter is a part of the AWS CLI"


def test_only_the_boundary_and_the_plain_display_print() -> None:
    assert callers_of("print") <= {"commands.output", "transfer.displays"}
    writes = {
        room
        for room, tree in parsed_modules().items()
        if {"sys.stdout.write", "sys.stderr.write"} & set(calls_in(tree))
    }
    assert writes <= {"config.__main__"}  # prints the schema


# Messages

WITH_ID = {"Problem", "CheckResult", "Notice", "Reason", "Cause"}  # beside errors, whose `id` has no default


def has_id(call: ast.Call) -> bool:
    return any(keyword.arg == "id" and ast.unparse(keyword.value) != "''" for keyword in call.keywords)


def is_all_right(call: ast.Call) -> bool:
    """A result of `check` that is neither a problem nor a warning."""
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return given.get("ok") == "True" and "warning" not in given


def all_calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call with its module, and what is called."""
    for room, tree in parsed_modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield room, ast.unparse(node.func), node


def test_every_problem_and_warning_has_an_id() -> None:
    made = [(room, call) for room, function, call in all_calls() if function.rpartition(".")[2] in WITH_ID]
    assert [(room, ast.unparse(call)) for room, call in made if not has_id(call) and not is_all_right(call)] == []


def test_every_line_that_is_logged_as_a_warning_shows_its_id() -> None:
    logged = [each for each in all_calls() if re.fullmatch(r"LOG\.(warning|error|critical)", each[1])]
    texts = [(room, " ".join(map(ast.unparse, call.args))) for room, _, call in logged]
    assert [text for text in texts if not re.search(r"text_with_id|Notice\(|\bnotice\b", text[1])] == []


def test_only_a_notice_becomes_a_warning_on_the_screen() -> None:
    """So that every warning has an id; the others only read the word."""
    constants = {
        room
        for room, tree in parsed_modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and str(node.value).startswith("warning: ")
    }
    assert constants == {"errors", "logs", "transfer.displays", "aws.diagnosis"}


def test_every_error_has_an_id() -> None:
    """Errors cannot be made without one: mypy sees that where it is not given."""
    made = inspect.signature(S3SyncError).parameters["id"]
    assert made.default is inspect.Parameter.empty


# Docstrings


def is_explained(node: ast.FunctionDef) -> bool:
    """Explained by its docstring or, as a line of a Protocol (`...`), by that of the class."""
    return bool(ast.get_docstring(node)) or [ast.unparse(line) for line in node.body] == ["..."]


def undocumented(node: ast.Module | ast.ClassDef, name: str) -> Iterator[str]:
    """Public classes and functions without a docstring, methods included; not what is inside functions."""
    if not ast.get_docstring(node):
        yield name
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from undocumented(child, f"{name}.{child.name}")
        elif isinstance(child, ast.FunctionDef) and not (child.name.startswith("_") or is_explained(child)):
            yield f"{name}.{child.name}"


def test_everything_public_says_what_it_is_for() -> None:
    assert [name for room, tree in parsed_modules().items() for name in undocumented(tree, room)] == []


def test_all_modules_can_be_imported() -> None:
    for module in pkgutil.walk_packages([str(PACKAGE)], "s3sync."):
        if module.name != "s3sync.__main__":
            assert inspect.ismodule(importlib.import_module(module.name))


# Help


def commands() -> list[str]:
    commands = ("upload", "monitor", "status", "report", "verify", "check", "cleanup", "forget", "init", "restore")
    return ["", *commands]


def help_of(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        main.main([command, "--help"] if command else ["--help"])
    assert caught.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


# The contract of design.md.
OPTIONS = {
    "": ["--help", "--version", "--print-completion", "upload"],
    "upload": [
        *("--local-path", "--bucket", "--remote-path", "--cores", "--threads", "--skip-check"),
        *("--exclude-patterns", "--log-dir", "--dry-run", "--json", "--verify", "--readback", "--aws-command"),
    ],
    "monitor": ["--config", "--dry-run", "--json"],
    "status": ["--config", "RUN", "--json"],
    "report": ["--config", "--output", "--json"],
    "verify": ["RUN", "--bucket", "--remote-path", "--json", "--manifest"],
    "restore": ["RUN", "--bucket", "--remote-path", "--local-path", "--only", "--overwrite", "--tier", "--json"],
    "check": ["--config"],
    "cleanup": ["RUN", "--config", "--older-than", "--delete", "--yes", "--json"],
    "init": ["--config", "--directory", "--bucket", "--log-dir", "--yes"],
    "forget": ["RUN", "--config", "--json"],
}


@pytest.mark.parametrize("command", commands())
def test_help_fits_a_terminal_and_names_every_option(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(command, capsys, monkeypatch)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert [option for option in OPTIONS[command] if option not in text] == []
    unexplained = re.findall(r"^  (--[\w-]+)(?: [A-Z{][^ ]*)*$(?!\n {20,}\S)", text, re.MULTILINE)
    assert unexplained == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    ours, python, aws = capsys.readouterr().out.splitlines()
    assert ours == f"s3sync {s3sync.__version__}"
    assert re.fullmatch(r"\d+\.\d+\.\d+", s3sync.__version__)
    assert python == f"Python {platform.python_version()} ({sys.executable})"
    assert aws == f"aws-cli/{metadata.version('awscli')} ({AWS_V1})"


def test_a_line_without_a_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    assert "\ncommands:\n" in capsys.readouterr().err, "with all that there is"


def test_tests_import_helpers_and_no_other_tests() -> None:
    other = re.compile(
        r"^ *(?:from tests(?:\.| import )(?!helpers\b)|import tests\.(?!helpers\b)|from \.).*", re.MULTILINE
    )
    found = {path: other.findall(path.read_text()) for path in TESTS.rglob("*.py")}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_every_promise_names_a_test_of_the_default_tier() -> None:
    assert len(set(list_promises())) == len(list_promises()) > 40
    for test in list_promises():
        path, _, name = test.partition("::")
        functions = re.findall(r"^def (test_\w+)\(", (TESTS / path).read_text(), re.MULTILINE)
        assert name in functions or (not name and functions), test
