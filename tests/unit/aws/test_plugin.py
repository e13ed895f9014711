"""How the processes of the AWS CLI are made to load the plugin, and when they are not."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
import stat
import sys
from pathlib import Path

import pytest

from s3sync.aws import cli_plugin
from s3sync.aws.plugin import MODULE, CliPlugin

CONFIG = "[default]\nregion = eu-west-2\ns3 =\n  max_concurrent_requests = 7\n\n[plugins]\nuser = theirs\n{more}"


def write_config(work: Path, more: str = "") -> Path:
    path = work / "aws-config"
    path.write_text(CONFIG.format(more=more))
    return path


@pytest.mark.parametrize("version", ["aws-cli/1.46.3", "aws-cli/2.9.19 Python/3.11.2"])
def test_a_copy_of_the_config_names_the_plugin(tmp_path: Path, version: str) -> None:
    config = write_config(tmp_path, "cli_legacy_plugin_path = /theirs\n" if "/2" in version else "")
    environ = CliPlugin(tmp_path).prepare({"AWS_CONFIG_FILE": str(config), "PYTHONPATH": "/more"}, version)
    copy = Path(environ["AWS_CONFIG_FILE"])
    folder, _, more = environ["PYTHONPATH"].partition(":")
    assert more == "/more"
    assert (Path(folder) / f"{MODULE}.py").exists()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    parser = configparser.RawConfigParser()
    parser.read(copy)
    folders = {"cli_legacy_plugin_path": f"{folder}:/theirs"} if "/2" in version else {}
    assert dict(parser["plugins"]) == {"user": "theirs", MODULE: MODULE, **folders}
    assert parser["default"]["s3"] == "\nmax_concurrent_requests = 7"
    assert config.read_text() == write_config(tmp_path, "").read_text() or "/2" in version, "the original is as it was"


@pytest.mark.parametrize("version", ["", "aws-cli/3.0", "something else"])
def test_an_unknown_version_loads_nothing_and_is_reported_once(tmp_path: Path, version: str) -> None:
    plugin = CliPlugin(tmp_path)
    environ = {"AWS_CONFIG_FILE": str(write_config(tmp_path))}
    assert plugin.prepare(environ, version) == environ
    assert "unknown version" in plugin.report_once()
    assert plugin.report_once() == ""
    assert plugin.report_once("another reason") == ""


@pytest.mark.parametrize(
    "error",
    [
        f"ModuleNotFoundError: No module named '{MODULE}'",
        f'  File "/tmp/work/plugin/{MODULE}.py", line 21\n    x: int | None\nSyntaxError: invalid syntax',
        "\naws: [ERROR]: No module named 'select'",
        "No module named 'urllib.parse'",
    ],
)
def test_a_cli_that_cannot_load_it_is_not_asked_again(tmp_path: Path, error: str) -> None:
    plugin = CliPlugin(tmp_path)
    environ = {"AWS_CONFIG_FILE": str(write_config(tmp_path))}
    assert plugin.prepare(environ, "aws-cli/1.46.3") != environ
    assert not plugin.has_failed("ModuleNotFoundError: No module named 'theirs'")
    assert plugin.has_failed(error)
    assert plugin.prepare(environ, "aws-cli/1.46.3") == environ
    assert "cannot load the plugin" in plugin.report_once()


def test_it_imports_only_what_each_cli_imports_itself() -> None:
    """The CLI that Amazon distributes is one program, with those modules of Python alone that it uses."""
    sources = "\n".join(
        path.read_text("utf-8")
        for package in map(importlib.import_module, ("awscli", "botocore", "urllib3"))
        for pattern in ("*.py", "util/*.py", "customizations/*.py")
        for path in Path(str(package.__file__)).parent.glob(pattern)
    )
    found = re.findall(r"^\s*(?:import (\w+)|from ([\w.]+) import )", sources, re.MULTILINE)
    theirs = {name for names in found for name in names} | set(sys.builtin_module_names) | {"__future__"}
    ours = list(ast.walk(ast.parse(Path(cli_plugin.__file__).read_text())))
    names = {alias.name for node in ours if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ours if isinstance(node, ast.ImportFrom)}
    assert sorted(names - theirs) == []


def test_it_is_written_for_each_python_that_runs_the_cli() -> None:
    source = Path(cli_plugin.__file__).read_text()
    ast.parse(source, feature_version=(3, 8))
    newer = re.findall(r"removeprefix|removesuffix|strict=|math\.lcm|zoneinfo", source)
    assert not newer


def test_a_config_that_cannot_be_copied_is_used_as_it_is(tmp_path: Path) -> None:
    plugin = CliPlugin(tmp_path)
    environ = {"AWS_CONFIG_FILE": str(tmp_path / "none")}
    assert plugin.prepare(environ, "aws-cli/1.46.3") == environ
    assert "cannot prepare the plugin" in plugin.report_once()
