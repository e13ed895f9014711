"""Make the request to upload or verify a run of the config."""

from __future__ import annotations

from s3sync.config import Config
from s3sync.inventory.states import RunStatus
from s3sync.resources import usable_cores
from s3sync.transfer import request
from s3sync.transfer.request import hook


def request_for(run: RunStatus, config: Config, *, leaves_untagged_log: bool = False) -> request.UploadRequest:
    """Return the request to upload or verify a run as the config says.

    With `leaves_untagged_log`, another upload of a run with this name gets the log without a tag in its name.
    """
    return request.UploadRequest(
        local_path=run.run.path,
        destination=run.entry.destination,
        log_dir=config.log_dir,
        cores=config.max_cores or usable_cores(),
        threads=config.max_threads,
        max_processes=config.max_processes,
        recheck=bool(
            run.change and run.head and run.head.is_from_predecessor
        ),  # the log of a predecessor does not describe the files
        excludes=run.entry.excludes,
        readback=config.readback,
        verify=config.verify,
        aws_command=config.aws_command,
        quiet_seconds=config.quiet_minutes * 60,
        marker_wait_seconds=config.marker_wait_hours * 3600,
        require_whole=config.require_whole_runs,
        settle_seconds=config.settle_minutes * 60 if run.state == "streaming" else None,
        storage=run.entry.storage,
        class_rules=run.entry.class_rules,
        bucket_owner=run.entry.expected_bucket_owner,
        profile=run.entry.aws_profile,
        max_bandwidth=config.max_bandwidth,
        transfer_client=config.transfer_client,
        completion_object=run.entry.completion_object,
        on_complete=hook.Hook(run.entry.on_complete, config.on_complete_minutes * 60)
        if run.entry.on_complete
        else None,
        stall_seconds=config.stall_minutes * 60,
        leaves_untagged_log=leaves_untagged_log,
        scheduled=True,
    )
