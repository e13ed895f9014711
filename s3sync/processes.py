"""Starting processes: the only module that does. No shell, no terminal, and a session of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple, TypeAlias

Process: TypeAlias = "subprocess.Popen[bytes]"
OutOfTime = subprocess.TimeoutExpired  # what waiting for a process with a limit raises


def start(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    merged: bool = False,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    inherited: Sequence[int] = (),
) -> Process:
    """Start a program; raises OSError, or ValueError for words that no argument can be.

    Its output goes to a pipe, or to `stdout`; its complaints to another pipe, or `merged` to the same place. It reads
    `stdin`, or nothing. The session of its own lets signals for us reach it through us alone, and those that we send
    reach its children, too. `inherited` descriptors stay open in it.
    """
    return subprocess.Popen(
        argv,
        stdin=stdin or subprocess.DEVNULL,
        stdout=stdout or subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        env=dict(environ),
        start_new_session=True,
        pass_fds=inherited,
    )


def first_line(argv: Sequence[str], environ: Mapping[str, str], seconds: float) -> str:
    """What a short command prints; empty if it fails, or takes longer."""
    try:
        asked = subprocess.run(
            argv, env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return os.fsdecode(asked.stdout.partition(b"\n")[0].strip())


class Answer(NamedTuple):
    """A short command that ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


def ask(argv: Sequence[str], environ: Mapping[str, str], seconds: float) -> Answer:
    """Run a short command to its end; raises OSError, OutOfTime, or ValueError for words that no argument can be."""
    with start(argv, environ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
    return Answer(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
