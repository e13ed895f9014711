"""Make the results of a check of the cluster."""

from __future__ import annotations

from s3sync.aws.access import CheckResult
from s3sync.errors import SlurmError


def ok(text: str) -> CheckResult:
    """Return a result without a problem."""
    return CheckResult(ok=True, what="slurm", text=text)


def problem(text: str, *, id: str) -> CheckResult:  # noqa: A002 - as errors call it
    """Return a problem with the cluster."""
    return CheckResult(ok=False, what="slurm", text=text.removeprefix("Slurm: "), id=id)


def no_answer(error: SlurmError) -> CheckResult:
    """Return the problem that a command of Slurm failed."""
    return problem(f"{error} (is slurmctld up? `scontrol ping` shows)", id=error.id)
