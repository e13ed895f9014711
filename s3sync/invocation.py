"""How this program was started, so that a command in a message can be pasted as it is."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence


def program(*, absolute: bool = False) -> list[str]:
    """The argv that starts this program again: `s3sync` where PATH finds the same one, else by its path.

    With `absolute` always by its path, for another user or under sudo, who have another PATH.
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


def command(*argv: str) -> str:
    """This program with these arguments, to be pasted into a shell."""
    return shlex.join([*program(), *argv])


def again_as(user: str, argv: Sequence[str] | None = None) -> str:
    """The command that is running now, as another user."""
    as_user = [] if user == "root" else ["-u", f"#{user}" if user.isdigit() else user]
    return shlex.join(["sudo", *as_user, *program(absolute=True), *(sys.argv[1:] if argv is None else argv)])
