"""The config as frozen values: the whole file, and its JSON schema for editors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StrictBool, model_validator
from pydantic import StrictInt as Int
from pydantic import StrictStr as Text

from s3sync.aws import objects, settings
from s3sync.config.entry import Model, MonitorEntry
from s3sync.config.prices import PriceKeys
from s3sync.config.value_types import (
    AbsolutePath,
    AbsoluteText,
    Bandwidth,
    Count,
    LogLevel,
    Number,
    SecretUrl,
    invalid,
    non_empty,
)
from s3sync.resources import IoPriority
from s3sync.slurm import client
from s3sync.state import log_dir as state_log_dir

SECRETS = {key: f"S3SYNC_{key.upper()}" for key in ("slack_log_webhook", "slack_alert_webhook", "webhook", "ping_url")}
_SECRET = "A secret: chmod 600 this file, or set {} in the environment instead. Empty: none."  # noqa: S105


class Config(Model):
    """What `s3sync monitor` uploads, where to, and whom it notifies."""

    schema_url: Annotated[Text | None, AfterValidator(lambda _: None)] = Field(
        default=None, alias="$schema", repr=False, description="For editors; ignored."
    )
    max_cores: Count | None = Field(
        default=None, description="aws processes at once; by default one for each usable core."
    )
    max_threads: Count | None = Field(
        default=None,
        description="Requests at once in each aws process. By default 4, or what the latency requires if small files "
        "are sent fast.",
    )
    max_processes: Count | None = Field(
        default=None,
        description="aws processes at once while the CPU is idle, e.g. because S3 is far away; by default four "
        "times max_cores.",
    )
    max_runs_at_once: Count = Field(
        default=4,
        description="How many runs a scan uploads at once, and how many it streams at once. They share the aws "
        "processes and the bandwidth; the run with the least left to send goes first.",
    )
    nice: Annotated[Int, Field(ge=0, le=19)] = Field(
        default=10, description="The nice level of the uploads, 0 to 19: a higher one leaves more CPU to others."
    )
    io_priority: IoPriority = Field(
        default="low",
        description="The disk priority of the uploads: normal, low, or idle (only when the disk is idle).",
    )
    max_age: Number = Field(
        default=72, gt=0, description="For how many hours after a run was finished its upload may be started."
    )
    log_level: LogLevel = Field(default="INFO", description="The log contains messages of this level and above.")
    log_dir: AbsolutePath = Field(
        default=state_log_dir.DEFAULT, description="The folder of the log, and of the state of each run."
    )
    slack_log_webhook: SecretUrl = Field(
        default=None,
        description="A Slack webhook that is notified of uploads. " + _SECRET.format("S3SYNC_SLACK_LOG_WEBHOOK"),
    )
    slack_alert_webhook: SecretUrl = Field(
        default=None,
        description="A Slack webhook that is notified of problems. " + _SECRET.format("S3SYNC_SLACK_ALERT_WEBHOOK"),
    )
    webhook: SecretUrl = Field(
        default=None, description="A URL that receives notifications as JSON. " + _SECRET.format("S3SYNC_WEBHOOK")
    )
    ping_url: SecretUrl = Field(
        default=None,
        description="A heartbeat URL: a check of healthchecks.io or a similar service. "
        + _SECRET.format("S3SYNC_PING_URL"),
    )
    max_bandwidth: Bandwidth = Field(
        default=None,
        description="The limit of all aws processes together, e.g. 50MB/s (50,000,000 bytes per second), or limits by "
        "local time, e.g. {'Mon-Fri 08:00-18:00': 50MB/s}; at all other times there is none.",
    )
    transfer_client: settings.TransferClient = Field(
        default="auto",
        description="auto: send small files with a plugin in the AWS CLI, which saves CPU, where that is safe; "
        "default: leave everything to the AWS CLI; crt: use the C client of its version 2, which ignores limits of "
        "threads and bandwidth.",
    )
    stall_minutes: Number = Field(
        default=10,
        gt=0,
        description="An aws process that transfers nothing for this long is terminated, and its files are sent again.",
    )
    verify: objects.Verify = Field(
        default="auto",
        description="What proves a file: S3's ETag (etag) or its CRC32 (checksum) against the bytes on disk, whichever "
        "takes less CPU time (auto), or the size alone.",
    )
    readback: objects.Readback = Field(
        default="auto", description="How objects in S3 are read back; auto chooses the cheaper way."
    )
    aws_command: AbsoluteText | None = Field(
        default=None, description="The AWS CLI; by default the one beside this Python, else on PATH."
    )
    alert_after_busy_hours: Number = Field(
        default=24,
        gt=0,
        description="Report a scan that has been running for this long without any upload beginning or ending.",
    )
    alert_after_hours: Number = Field(
        default=24,
        gt=0,
        description="Report a run that its instrument finished this long ago but is not verified in S3, for whatever "
        "reason.",
    )
    alert_free_percent: Annotated[Number, Field(ge=0, le=100)] = Field(
        default=5,
        description="Report a disk of logs, temporary files or runs with less free space than this; 0: never.",
    )
    on_complete_minutes: Number = Field(
        default=10, gt=0, description="An `on_complete` command that takes longer is terminated."
    )
    report_dir: AbsolutePath | None = Field(
        default=None, description="The folder to which each scan writes the dashboard, index.html; by default none."
    )
    metrics_file: AbsolutePath | None = Field(
        default=None,
        description="The file to which each scan writes metrics for Prometheus: a .prom file in the folder that "
        "node_exporter's textfile collector reads; by default none.",
    )
    settle_minutes: Number = Field(
        default=10, ge=0, description="With `stream`: how long a file must be unchanged before it is uploaded."
    )
    abandoned_hours: Number = Field(
        default=24,
        gt=0,
        description="With `stream`: report a run that is not complete and has not changed for this long.",
    )
    quiet_minutes: Number = Field(
        default=60,
        ge=0,
        description="How long a run must be unchanged if nothing else shows that it is complete: one of an unknown "
        "instrument, or without base calls. A run that lacks base calls counts as still being copied for this long.",
    )
    marker_wait_hours: Number = Field(
        default=24,
        gt=0,
        description="A run with RTAComplete, all base calls and no change for this long is uploaded without its last "
        "marker, with a warning.",
    )
    require_whole_runs: StrictBool = Field(
        default=True,
        description="Upload only runs that have all base calls that their RunInfo.xml announces; false: the completion "
        "marker is enough.",
    )
    require_restorable_runs: StrictBool = Field(
        default=True,
        description="`cleanup` keeps a run if these credentials cannot read its objects, or may not thaw those that "
        "are frozen.",
    )
    recheck_days: Number = Field(
        default=7,
        ge=0,
        description="For this many days after its upload, a run is compared with its log every few hours; later only "
        "if one of a few folders has changed. 0: an uploaded run is never compared again.",
    )
    prices: PriceKeys | None = Field(
        default=None,
        title="Prices",
        description="What S3 charges, for the cost that `restore --dry-run` estimates; by default no estimate.",
    )
    monitor: Annotated[tuple[MonitorEntry, ...], AfterValidator(non_empty)] = Field(
        description="What is uploaded where.", json_schema_extra={"minItems": 1}
    )

    @property
    def monitored_directories(self) -> tuple[Path, ...]:
        """The monitored directories of all entries, each once: nothing is written there."""
        return tuple(dict.fromkeys(folder for entry in self.monitor for folder in entry.monitored_directories))

    def cluster_of(self, entry: MonitorEntry) -> client.SlurmOptions | None:
        """Return the Slurm options of an entry, with `max_cores` for each node; None if this machine uploads."""
        return entry.cluster and replace(entry.cluster, cores=self.max_cores)

    @model_validator(mode="after")
    def _check_limit(self) -> Config:
        if self.max_bandwidth and self.transfer_client == "crt":
            what = "max_bandwidth is not supported with `transfer_client: crt` (leave out one of them)"
            raise invalid(what, id="config.crt-without-limit")
        return self


def json_schema() -> str:
    """Return the JSON schema of the file, for editors: the content of `conf/s3sync.schema.json`."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    for model in (schema, schema["$defs"]["MonitorEntry"], schema["$defs"]["PriceKeys"]):
        for key, field in model["properties"].items():
            # A missing key is None, but a null in the file is a mistake.
            facts = {**field, **field.get("anyOf", [{}])[0]}
            absent = {"anyOf", "default"} if facts.get("default", ...) is None else {"anyOf"}
            model["properties"][key] = {name: fact for name, fact in facts.items() if name not in absent}
    return json.dumps(schema, indent=2) + "\n"
