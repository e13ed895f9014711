"""Run the program on a terminal, and answer its questions as a person does."""

from __future__ import annotations

import errno
import os
import pty
import select
import signal
from collections.abc import Mapping, Sequence

from tests.helpers.lab import Lab

INTERRUPT = "Ctrl-C"  # an answer
END = "\x04"  # Ctrl-D: no further input


def converse(
    lab: Lab, argv: Sequence[str], answers: Sequence[tuple[str, str]], env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Give each answer when its question is on the screen, in this order; returns the exit code and the screen."""
    master, slave = pty.openpty()
    environ = {"TERM": "dumb", **(env or {})}
    process = lab.start(*argv, env=environ, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown, seen, waiting = b"", 0, list(answers)
    while select.select([master], [], [], 60)[0]:
        try:
            shown += os.read(master, 4096)
        except OSError as error:  # the program has ended
            if error.errno != errno.EIO:
                raise
            break
        if waiting and waiting[0][0].encode() in shown[seen:]:
            seen = len(shown)
            _, answer = waiting.pop(0)
            if answer == INTERRUPT:
                process.send_signal(signal.SIGINT)
            else:
                os.write(master, answer.encode() if answer == END else f"{answer}\n".encode())
    os.close(master)
    assert not waiting, f"not asked: {waiting[0][0]}: {shown.decode()}"
    return process.wait(timeout=120), shown.decode().replace("\r\n", "\n")
