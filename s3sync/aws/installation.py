"""Find the installed AWS CLI, and its version where that needs no process."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping

from s3sync.errors import AwsError
from s3sync.text import printable

_MAX_SHEBANG = 10_000  # bytes of a script's first line that are read


def find_aws(command: str | None, environ: Mapping[str, str]) -> str:
    """Return the absolute path of the AWS CLI: as given, else beside this Python, else on PATH. Raises AwsError."""
    if command:
        found = shutil.which(os.path.expanduser(command), path=environ.get("PATH"))
        if not found:
            raise AwsError(
                f"cannot run {printable(command)}: no such program (check --aws-command)", id="aws.no-such-command"
            )
        return os.path.abspath(found)
    beside = os.path.join(os.path.dirname(sys.executable), "aws")
    found = beside if os.access(beside, os.X_OK) else shutil.which("aws", path=environ.get("PATH"))
    if not found:
        raise AwsError(
            "no `aws` beside this Python or on PATH (install it with `pip install awscli`, or give --aws-command)",
            id="aws.not-installed",
        )
    return os.path.abspath(found)


def packaged_version(path: str) -> str:
    """Return the version of an `aws` that is a package of this Python, e.g. `aws-cli/1.46.3`; empty for any other."""
    with contextlib.suppress(OSError, ImportError), open(path, "rb") as script:
        interpreter = os.fsdecode(script.readline(_MAX_SHEBANG).removeprefix(b"#!").strip())
        is_ours = os.path.dirname(interpreter) == os.path.dirname(path) == os.path.dirname(sys.executable)
        if is_ours and os.access(interpreter, os.X_OK):
            from importlib import metadata  # takes 10 ms, and only an `aws` beside this Python needs it

            return f"aws-cli/{metadata.version('awscli')}"
    return ""
