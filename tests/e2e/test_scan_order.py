"""In which order a scan works on the runs, where some of them go up from the nodes of a cluster."""

from __future__ import annotations

from pathlib import Path

from s3sync.config import Config, load_config
from s3sync.inventory import order
from s3sync.inventory.states import RunStatus, State
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.slurm import work_folder
from s3sync.slurm.work_folder import FOLDER
from s3sync.state.log_head import LogSummary
from s3sync.state.store import StateStore
from s3sync.transfer.request import hook
from tests.helpers.lab import BUCKET, Lab

_NOBODY = RunInfo()


def config_of(tmp_path: Path) -> Config:
    """An entry for a cluster, and one for here with a command."""
    runs = tmp_path / "runs"
    entry = f"monitored_directories: [{runs}]\n    bucket: {BUCKET}\n    on_complete: [/bin/true]\n    remote_path: "
    path = tmp_path / "config.yaml"
    path.write_text(f"log_dir: {tmp_path}/log\nmonitor:\n  - {entry}/c\n    executor: slurm\n  - {entry}/h\n")
    return load_config(path, {})


def run_in_state(config: Config, name: str, state: State, *, at: str = "here", began: float = 0.0) -> RunStatus:
    """A run; `at` is where it goes up from: `handed over` or `cluster` or here."""
    entry = config.monitor[1 if at == "here" else 0]
    run = Run(path=Path("/runs") / name, run_id=name, info=_NOBODY)
    head = (
        LogSummary(
            completed=True,
            total_files=1,
            uploaded_files=1,
            failed_files=0,
            size=1,
            attempts=0,
            finished="",
            on_complete=hook.PENDING,
        )
        if state == "uploaded"
        else None
    )
    store = StateStore(config.log_dir, run, entry.destination)
    if at == "handed over":
        (config.log_dir / FOLDER / store.lock_path.stem).mkdir(parents=True)
    return RunStatus(
        run=run, entry=entry, began=began, state=state, reason="", id="", head=head, log_path=store.log_path
    )


def test_finished_cluster_uploads_come_first_then_submissions_then_what_is_sent_from_here(tmp_path: Path) -> None:
    """An upload from here may take hours; the others take seconds."""
    config = config_of(tmp_path)
    runs = [
        run_in_state(config, "sent from here", "partial"),
        run_in_state(config, "streamed", "streaming"),
        run_in_state(config, "to submit, younger", "new", at="cluster", began=2.0),
        run_in_state(config, "to submit", "new", at="cluster", began=1.0),
        run_in_state(config, "owes its command", "uploaded"),
        run_in_state(config, "at work", "partial", at="handed over"),
        run_in_state(config, "finished", "uploaded", at="handed over"),
        run_in_state(config, "waits", "sequencing"),
    ]

    assert [run.run.run_id for run in order.scan_order(runs, config, work_folder.active_names(config.log_dir))] == [
        "finished",
        "at work",
        "to submit",
        "to submit, younger",
        "sent from here",
        "streamed",
        "owes its command",
    ]


def test_the_monitor_submits_before_it_uploads(lab: Lab, tiny_run: Path, tmp_path: Path) -> None:
    """Both fail at once, one without Slurm and one without a CLI: the log has them in their order."""
    here = {"monitored_directories": [str(tiny_run.parent)], "bucket": BUCKET, "remote_path": "/here"}
    entries = [here, {**here, "remote_path": "/cluster", "executor": "slurm"}]
    nothing = {"PATH": str(tmp_path)}

    config = lab.config_for(tiny_run, monitor=entries, aws_command="/nowhere/aws")
    result = lab.run("monitor", "--config", config, env=nothing)

    assert result.code == 78, result.err
    assert result.error_ids == ["slurm.not-installed", "aws.no-such-command"], result.err
