"""Build command lines that start this program as it was started, for people to paste from a message."""

from __future__ import annotations

import os
import shlex
import shutil
import sys


def program_argv(*, absolute: bool = False) -> list[str]:
    """Return the argv that starts this program: `s3sync` if that is the one on PATH, or else its path.

    With `absolute` it is always the path: for another user, or under sudo, where PATH differs.
    """
    name = sys.argv[0]
    if os.path.basename(name) == "__main__.py" or not name or name.startswith("-"):
        return [sys.executable, "-m", "s3sync"]
    found = shutil.which(os.path.basename(name))
    path = os.path.abspath(name) if os.sep in name or not found else found
    if not os.access(path, os.X_OK):  # started from other Python code
        return [sys.executable, "-m", "s3sync"]
    if not absolute and found and os.path.realpath(found) == os.path.realpath(path):
        return [os.path.basename(name)]
    return [path]


def command_line(*argv: str) -> str:
    """Return the shell command that runs this program with these arguments."""
    return shlex.join([*program_argv(), *argv])


def command_line_as(user: str) -> str:
    """Return the shell command that runs the present command again as another user."""
    as_user = [] if user == "root" else ["-u", f"#{user}" if user.isdigit() else user]
    return shlex.join(["sudo", *as_user, *program_argv(absolute=True), *sys.argv[1:]])
