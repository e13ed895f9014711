"""The words of the command line as scripts that complete them in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import shtab


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for `bash`, `zsh` or `tcsh`: it completes commands, options, choices, files and folders."""
    for words in (parser, *commands(parser).values()):
        for action in words._actions:  # noqa: SLF001 - argparse has no other list of them
            if kind := _paths_of(action, words):
                action.complete = kind  # type: ignore[attr-defined]  # what shtab looks for
    return shtab.complete(parser, shell).rstrip("\n") + "\n"


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The words of each command, by its name."""
    found = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001
    return dict(next(found).choices)


def _paths_of(action: argparse.Action, words: argparse.ArgumentParser) -> Mapping[str, object] | None:
    """Which paths complete this word, if any: the name of its value says it. A RUN from a config is no path."""
    takes_config = "--config" in words._option_string_actions  # noqa: SLF001
    if action.metavar == "FILE":
        return shtab.FILE
    if action.metavar == "DIR" or (action.metavar == "RUN" and not takes_config):
        return shtab.DIRECTORY
    return None
