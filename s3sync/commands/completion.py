"""Generate the scripts that complete commands, options and paths in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import shtab

from s3sync.commands.command_line import subparsers


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for `bash`, `zsh` or `tcsh`: it completes commands, options, choices, files and folders."""
    for each in (parser, *subparsers(parser).values()):
        for action in each._actions:  # noqa: SLF001 - argparse has no public list of them
            if kind := _paths_of(action, each):
                action.complete = kind  # type: ignore[attr-defined]  # what shtab looks for
    return shtab.complete(parser, shell).rstrip("\n") + "\n"


def _paths_of(action: argparse.Action, parser: argparse.ArgumentParser) -> Mapping[str, object] | None:
    """Return the kind of paths that complete an argument, by its metavar. A RUN from a config is not a path."""
    options = parser._option_string_actions  # noqa: SLF001
    is_path = "--config" not in options or "--bucket" in options
    if action.metavar == "FILE":
        return shtab.FILE
    if action.metavar == "DIR" or (action.metavar == "RUN" and is_path):
        return shtab.DIRECTORY
    return None
