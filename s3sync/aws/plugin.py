"""Load this program's plugin (`cli_plugin`) into the processes of the AWS CLI."""

from __future__ import annotations

import configparser
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from s3sync import files

MODULE = "s3sync_cli_plugin"
_SECTION = "plugins"
_FOLDER_KEY = "cli_legacy_plugin_path"  # a key of version 2; version 1 would take it for a plugin
_SOURCES = {
    name: Path(__file__).with_name(f"{name.removeprefix('s3sync_')}.py")
    for name in (MODULE, "s3sync_cli_uploads", "s3sync_cli_listing")
}
_MISSING = re.compile(r"No module named '(\w+)")
_IMPORT = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)
_KNOWN = re.compile(r"aws-cli/([12])\.")


class CliPlugin:
    """The plugin in one private folder: what the processes need to load it. Any thread may call its methods."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._folder = folder / "plugin"
        self._configs: dict[Path, Path] = {}
        self._is_reported = False
        self.problem = ""  # why it is not loaded any more

    def prepare(self, environ: Mapping[str, str], version: str) -> dict[str, str]:
        """Return the environment of a process of this version that loads the plugin; unchanged if it must not."""
        known = _KNOWN.match(version)
        if self.problem or not known:
            self.problem = self.problem or f"unknown version of the AWS CLI: {version or 'none'}"
            return dict(environ)
        try:
            with self._lock:
                config = self._config(Path(environ["AWS_CONFIG_FILE"]), is_legacy=known[1] == "2")
        except (OSError, KeyError, configparser.Error) as error:
            self.problem = f"cannot prepare the plugin: {error}"
            return dict(environ)
        search = os.pathsep.join(filter(None, (str(self._folder), environ.get("PYTHONPATH", ""))))
        return {**environ, "AWS_CONFIG_FILE": str(config), "PYTHONPATH": search}

    def has_failed(self, output: str) -> bool:
        """Return whether the CLI could not load the plugin, by its output; then it is not loaded again.

        A CLI that is one program may lack a module of Python, and names only that.
        """
        if MODULE not in output and _imports().isdisjoint(_MISSING.findall(output)):
            return False
        self.problem = "it cannot load the plugin of s3sync"
        return True

    def report_once(self, reason: str = "") -> str:
        """Return why the CLI itself sends small files: the given reason, or the problem; afterwards an empty text."""
        with self._lock:
            problem = "" if self._is_reported else reason or self.problem
            self._is_reported = self._is_reported or bool(problem)
            return problem

    def _config(self, config: Path, *, is_legacy: bool) -> Path:
        """Return a copy of this AWS config that names the plugin. It is written once."""
        if config not in self._configs:
            for name, source in _SOURCES.items():
                write_module(self._folder, name, source)
            parser = configparser.RawConfigParser(default_section="\0")
            with config.open(encoding="utf-8", errors="surrogateescape") as stream:
                parser.read_file(stream)
            if not parser.has_section(_SECTION):
                parser.add_section(_SECTION)
            parser.set(_SECTION, MODULE, MODULE)
            if is_legacy:
                folders = (str(self._folder), parser.get(_SECTION, _FOLDER_KEY, fallback=""))
                parser.set(_SECTION, _FOLDER_KEY, os.pathsep.join(filter(None, folders)))
            target = config.with_name(f"{config.name}-plugin")
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
                parser.write(stream)
            self._configs[config] = target
        return self._configs[config]


def _imports() -> set[str]:
    """Return the modules that the plugin imports."""
    return set(_IMPORT.findall(_SOURCES[MODULE].read_text("utf-8")))


def write_module(folder: Path, name: str, source: Path) -> None:
    """Write a copy of a module for the CLI into a new private folder. Raises OSError.

    It contains another private folder for Python's compiled files, regardless of the umask.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "__pycache__").mkdir(mode=0o700, exist_ok=True)
    if not (folder / f"{name}.py").exists():
        files.create_private(folder / f"{name}.py", source.read_bytes())
