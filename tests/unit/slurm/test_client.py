"""What is asked of Slurm: by the config and by the command line, as the arguments of `sbatch`."""

from __future__ import annotations

import pytest

from s3sync.commands import command_line
from s3sync.errors import UsageError
from s3sync.slurm.client import parse_options
from tests.helpers.errors import raises_error
from tests.helpers.lab import BUCKET


@pytest.mark.parametrize("name", ["--sbatch_options", "--sbatch-options"])
@pytest.mark.parametrize("value", ["--partition=short", "--cpus-per-gpu 2 --mem-per-cpu=4G", "-p short", "-p", ""])
def test_options_for_sbatch_are_taken_as_they_are(name: str, value: str) -> None:
    """With or without `=`, and with hyphens."""
    before = ["upload", "--local-path", "RUN", "--bucket", BUCKET]
    for options in ([name, value], [f"{name}={value}"]):
        args = command_line.parse([*before, *options, "--executor", "slurm"])
        assert (args.sbatch_options, args.executor, args.local_path) == (value, "slurm", "RUN")


@pytest.mark.parametrize(
    "word", ["--wrap=ls", "--arr=0-9", "--job-na=x", "-a0-9", "-J", "-ox", "--wai", "--export=NONE", "--"]
)
def test_options_that_are_ours_are_refused_however_short(word: str) -> None:
    """sbatch takes `--arr` for `--array`."""
    with raises_error(UsageError, "usage.reserved-sbatch-option", f": {word} ("):
        parse_options(f"-p short {word} x")


def test_options_that_only_look_like_ours_are_accepted() -> None:
    options = (
        "--wait-all-nodes=1",
        "--export-file=x",
        "-p",
        "short",
        "-A",
        "lab",
        "--exclude=n1",
        "--time=1",
        "--no-requeue",
    )
    assert parse_options(" ".join(options)) == options
