"""Slurm's commands as scripts that play one exact situation; `tests/helpers/slurm_cluster.py` is a real one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

_RECORD = """#!/bin/sh
{python} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@" >> {folder}/{name}.said
{then}
"""


class FakeSlurm:
    """Takes every job as number 7, and never runs one; nothing is in its queue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.set("sbatch", 'case "$1" in --version) echo slurm-wlm 1.2.3 ;; *) echo 7 ;; esac')
        self.set("squeue", "")
        self.set("scancel", "")
        self.set("sinfo", "echo 'n1|idle'")

    def set(self, name: str, then: str) -> None:
        """What a command does, as a line for a shell."""
        script = self.bin / name
        script.write_text(_RECORD.format(python=sys.executable, folder=self.folder, name=name, then=then))
        script.chmod(0o755)

    def runs_jobs(self, before: str = "", environ: str = "") -> None:
        """Let `sbatch` run what it is given before it ends, on node `n9`, with `environ` there.

        What is done `before` finds the script in `$word`.
        """
        output = 'for word; do case "$word" in --output=*) output=${word#--output=} ;; esac; done'
        run = f'SLURMD_NODENAME=n9 {environ} sh "$word" > "$output" 2>&1'
        self.set("sbatch", f'case "$1" in --version) exit ;; esac; {output}; {before or ":"}; {run}; echo 7')

    def said(self, name: str) -> list[list[str]]:
        """Return the argv of each call of a command."""
        path = self.folder / f"{name}.said"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
