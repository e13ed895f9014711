"""Options for a cluster reach Slurm, and secrets do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.fake_slurm import FakeSlurm
from tests.helpers.lab import Lab


@pytest.fixture
def fake_slurm(tmp_path: Path, lab: Lab) -> FakeSlurm:
    """Where the machine finds it."""
    fake = FakeSlurm(tmp_path / "slurm")
    lab.env["PATH"] = f"{fake.bin}:{lab.env['PATH']}"
    return fake


def test_the_monitor_asks_for_what_its_config_says(lab: Lab, tiny_run: Path, fake_slurm: FakeSlurm) -> None:
    asked = {
        "nodes": 3,
        "partition": "short",
        "account": "lab",
        "time": "4:00:00",
        "options": "--comment='a b' --mem=4G",
    }
    config = lab.config_for(tiny_run, {"executor": "slurm", "slurm": asked}, max_cores=2)

    lab.run("monitor", "--config", config)

    array, last = fake_slurm.said("sbatch")
    ours = ["--cpus-per-task=2", "--partition=short", "--account=lab", "--time=4:00:00", "--comment=a b", "--mem=4G"]
    assert array[:6] == last[:6] == ours
    assert [word for word in array if word.startswith("--array")] == ["--array=0-0%3"]
    assert "--dependency=afterany:7" in last


def test_an_upload_requests_what_its_options_say(lab: Lab, tiny_run: Path, fake_slurm: FakeSlurm) -> None:
    """Jobs that never end are reported with what to do."""
    options = ("--executor", "slurm", "--nodes", "2", "--cores", "3", "--sbatch-options", "--partition=short --mem=4G")

    result = lab.upload(tiny_run, *options)

    array, *_ = fake_slurm.said("sbatch")
    assert array[:3] == ["--cpus-per-task=3", "--partition=short", "--mem=4G"]
    assert "--array=0-0%2" in array
    assert (result.code, result.out) == (1, "")
    assert "[slurm.jobs-ended]" in result.err


@pytest.mark.parametrize(
    ("options", "error_id", "facts"),
    [
        (["--nodes", "2"], "usage.requires-other", ["--nodes", "--executor slurm"]),
        (["--sbatch_options", ""], "usage.requires-other", ["--sbatch-options", "--executor slurm"]),
        (["--executor", "slurm", "--sbatch_options=--wrap=ls"], "usage.reserved-sbatch-option", ["--wrap=ls"]),
    ],
)
def test_options_that_are_ignored_are_refused(
    lab: Lab, tiny_run: Path, options: list[str], error_id: str, facts: list[str]
) -> None:
    result = lab.upload(tiny_run, *options)
    assert (result.code, result.out, result.error_ids) == (2, "", [error_id])
    assert (result.err.count("\n"), [fact in result.err for fact in facts]) == (1, [True] * len(facts)), result.err


def test_no_webhook_travels_with_a_job(lab: Lab, tiny_run: Path, fake_slurm: FakeSlurm, tmp_path: Path) -> None:
    """What the AWS CLI may need does, by Slurm's own means."""
    fake_slurm.set("sbatch", f"env > {tmp_path}/travels; echo 7")
    hook = {"S3SYNC_SLACK_ALERT_WEBHOOK": "https://hooks.example.org/secret", "SLURM_CPUS_PER_TASK": "4"}

    lab.watch(tiny_run, entry={"executor": "slurm"}, env=hook)

    travels = (tmp_path / "travels").read_text()
    assert "AWS_DEFAULT_REGION=us-east-1" in travels
    assert "hooks.example.org" not in travels
    assert "SLURM_CPUS_PER_TASK" not in travels


def test_a_dry_run_says_what_slurm_has_of_it_already(lab: Lab, tiny_run: Path, fake_slurm: FakeSlurm) -> None:
    """Submitted by a scan of the monitor, and waiting."""
    fake_slurm.set("squeue", "echo '7_0|PENDING||Priority'; echo '8|PENDING||Dependency'")
    lab.watch(tiny_run, entry={"executor": "slurm"})

    result = lab.upload(tiny_run, "--executor", "slurm", "--dry_run")

    assert result.code == 0
    assert "note: handed over to Slurm already: 0 of " in result.err
    assert "0 of 1 shard done" in result.err
