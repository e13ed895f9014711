"""Run a command on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios


def on_terminal(argv: list[str], env: dict[str, str], *, both: bool = False) -> list[str]:
    """What a command prints on a terminal of 80 columns, without the escapes; `both`: stderr is one, too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        argv, env={**env, "TERM": "xterm"}, stdout=theirs, stderr=theirs if both else None
    ) as process:
        os.close(theirs)
        out = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while piece := os.read(ours, 65536):
                out += piece
        assert process.wait() == 0
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.decode()).splitlines()
