"""The configuration: a YAML or JSON file becomes one frozen `Config`, or one error that names all that is wrong.

`configfile` makes the same tree of both formats; pydantic types the values, and its complaints are told
with the places that the tree knows.
"""

from __future__ import annotations

import difflib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)
from pydantic import StrictInt as Int
from pydantic import StrictStr as Text
from pydantic import WithJsonSchema as Schema

from s3sync.aws import Destination, argv, objects, settings
from s3sync.aws import destination as aws_destination
from s3sync.config.file import Loc, Place, Problem, Tree, UnparsableError, path_of, read_config
from s3sync.config.value_types import (
    AbsolutePath,
    AbsoluteText,
    Account,
    Bandwidth,
    Bucket,
    Command,
    Count,
    LogLevel,
    Number,
    OptionalRegex,
    Regex,
    RemotePath,
    SbatchOptions,
    SecretUrl,
    SlurmWord,
    filled,
    one_of,
)
from s3sync.errors import ConfigError
from s3sync.resources import IoPriority
from s3sync.runs import off_limits
from s3sync.slurm import client
from s3sync.state import log_dir as state_log_dir
from s3sync.text import printable


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SlurmKeys(_Model):
    """What is asked of Slurm for each run; an empty value is left to the cluster."""

    nodes: Count = Field(default=client.DEFAULT_NODES, description="Nodes at once for one run.")
    partition: SlurmWord = Field(default="", description="The partition; by default the cluster's.")
    account: SlurmWord = Field(default="", description="The account that is charged; by default the user's.")
    time: SlurmWord = Field(
        default="", description="How long a job may take, as sbatch has it: 4:00:00, 1-0; by default the partition's."
    )
    options: SbatchOptions = Field(
        default=(),
        description="More words for sbatch, parted as a shell would: --qos=low --mem=4G.",
        json_schema_extra={"default": ""},
    )


class MonitorEntry(_Model):
    """Folders that sequencers write their runs to, and the one place in S3 where these go."""

    monitored_directories: Annotated[tuple[AbsolutePath, ...], AfterValidator(filled)] = Field(
        description="The folders that hold the run folders; absolute paths.", json_schema_extra={"minItems": 1}
    )
    bucket: Bucket = Field(description="The bucket's name, not a URL.")
    remote_path: RemotePath = Field(
        description="Where in the bucket; `/` is its root. Files go to remote_path/RUN/path/in/the/run."
    )
    regex: OptionalRegex = Field(
        default=None,
        alias="sample_regex",
        description="A regular expression that has to be found in the name of every sample in a run's samplesheet; "
        "other runs are left alone. Without it all runs are uploaded, and none needs a samplesheet.",
    )
    excludes: tuple[Regex, ...] = Field(
        default=(),
        alias="exclude_patterns",
        description="Files are left out if one of these regular expressions is found in RUN/path/in/the/run.",
    )

    sse: Annotated[Text, AfterValidator(one_of(argv.SSE)), Schema({"enum": ["", *argv.SSE]})] = Field(
        default="", description="How S3 is to encrypt the objects; by default as the bucket does."
    )
    sse_kms_key_id: Text = Field(
        default="", description="The KMS key for sse: aws:kms; by default the bucket's, or the account's own."
    )
    storage_class: Annotated[
        Text,
        AfterValidator(one_of(argv.STORAGE_CLASSES)),
        Schema({"enum": ["", *argv.STORAGE_CLASSES]}),
    ] = Field(default="", description="By default STANDARD.")
    acl: Annotated[Text, AfterValidator(one_of(argv.ACLS)), Schema({"enum": ["", *argv.ACLS]})] = Field(
        default="",
        description="The canned ACL of the objects, where the bucket's policy requires one.",
    )
    expected_bucket_owner: Account = Field(
        default="",
        description="The AWS account (12 digits) that has to own the bucket: checked before each upload and with "
        "everything that is read back.",
    )
    stream: StrictBool = Field(
        default=False,
        description="Upload a run while the sequencer still writes it: at each scan what has settled; the rest, and "
        "the completion markers last, when it is complete.",
    )

    upload_changes: StrictBool = Field(
        default=True,
        description="Upload what comes into a run, or changes in it, after it was uploaded; else it is told once.",
    )

    completion_object: StrictBool = Field(
        default=False,
        description="Write the object s3sync.complete.json into the run's prefix when all of it is proven, for "
        "pipelines that wait for events: files, sizes, ETags, verdict.",
    )

    on_complete: Command = Field(
        default=(),
        description="A command that is run, without a shell, when a run is completed: the words as a list, the "
        "program's absolute path first. The run is in its environment (S3SYNC_RUN_ID, ...), the log is its stdin.",
    )

    executor: Literal["local", "slurm"] = Field(
        default="local",
        description="Where the aws processes run: on this machine, or on nodes of the Slurm cluster it is part of.",
    )
    slurm: SlurmKeys | None = Field(
        default=None,
        title="Slurm",
        description="What is asked of Slurm; without `executor: slurm` it stands by.",
    )

    @model_validator(mode="after")
    def _has_a_use_for_its_key(self) -> MonitorEntry:
        if self.sse_kms_key_id and self.sse != "aws:kms":
            raise ValueError("sse_kms_key_id means nothing without `sse: aws:kms` (add that)")
        return self

    @property
    def storage(self) -> argv.Storage:
        """`sse`, `sse_kms_key_id`, `storage_class` and `acl` together."""
        return argv.Storage(self.sse, self.sse_kms_key_id, self.storage_class, self.acl)

    @property
    def cluster(self) -> client.SlurmOptions | None:
        """`slurm`, if that is the executor."""
        asked = self.slurm or SlurmKeys()
        return client.SlurmOptions(**dict(asked)) if self.executor == "slurm" else None

    @property
    def destination(self) -> Destination:
        """`bucket` and `remote_path`, typed."""
        return aws_destination.parse_destination(self.bucket, self.remote_path)


_SECRET = "A secret: chmod 600 this file, or set {} in the environment instead. Empty: none."  # noqa: S105


class Config(_Model):
    """What `s3sync monitor` uploads, where to, and whom it tells."""

    schema_url: Annotated[Text | None, AfterValidator(lambda _: None)] = Field(
        default=None, alias="$schema", repr=False, description="For editors; ignored."
    )
    max_cores: Count | None = Field(
        default=None, description="aws processes at once; by default one for each core that may be used."
    )
    max_threads: Count = Field(default=4, description="Requests at once in each aws process; more than 10 do not help.")
    max_processes: Count | None = Field(
        default=None,
        description="aws processes at once while that leaves the CPU idle, as where S3 is far away; by default four "
        "times max_cores.",
    )
    nice: Annotated[Int, Field(ge=0, le=19)] = Field(
        default=10, description="How far the uploads step back at the CPU, 0 to 19: instruments go first."
    )
    io_priority: IoPriority = Field(
        default="low", description="How far they step back at the disks: normal, low, or idle, when nobody else reads."
    )
    max_age: Number = Field(
        default=72, gt=0, description="Hours since RunInfo.xml was written after which a run is no longer begun."
    )
    log_level: LogLevel = Field(default="INFO", description="The least severe messages that the log has.")
    log_dir: AbsolutePath = Field(
        default=state_log_dir.DEFAULT, description="The folder of the log, and of what is known of each run."
    )
    slack_log_webhook: SecretUrl = Field(
        default=None,
        description="A Slack webhook that is told of uploads. " + _SECRET.format("S3SYNC_SLACK_LOG_WEBHOOK"),
    )
    slack_alert_webhook: SecretUrl = Field(
        default=None,
        description="A Slack webhook that is told of failures. " + _SECRET.format("S3SYNC_SLACK_ALERT_WEBHOOK"),
    )
    webhook: SecretUrl = Field(
        default=None, description="A URL that gets the reports as JSON. " + _SECRET.format("S3SYNC_WEBHOOK")
    )
    ping_url: SecretUrl = Field(
        default=None, description="A check of healthchecks.io or the like. " + _SECRET.format("S3SYNC_PING_URL")
    )
    max_bandwidth: Bandwidth = Field(
        default=None,
        description="What all aws processes together may send, e.g. 50MB/s (50,000,000 bytes a second), or rates by "
        "local time, e.g. {'Mon-Fri 08:00-18:00': 50MB/s}; at any other time there is no limit.",
    )
    transfer_client: settings.TransferClient = Field(
        default="default",
        description="With the AWS CLI version 2, crt is its client in C, which takes less CPU; it keeps to no limit of "
        "threads and bandwidth.",
    )
    stall_minutes: Number = Field(
        default=10,
        gt=0,
        description="An aws process that moves no bytes for so long is ended, and its files are sent again.",
    )
    verify: objects.Verify = Field(
        default="etag", description="What proves a file: S3's ETag against the bytes on disk, or the size alone."
    )
    readback: objects.Readback = Field(
        default="auto", description="How S3 is asked what it has; auto takes the cheaper."
    )
    aws_command: AbsoluteText | None = Field(
        default=None, description="The AWS CLI; by default the one beside this Python, else on PATH."
    )
    alert_after_busy_hours: Number = Field(
        default=24, gt=0, description="A call that is still at work after so many hours is told of."
    )
    alert_after_hours: Number = Field(
        default=24,
        gt=0,
        description="A run that its instrument finished so many hours ago, and that is not proven in S3, is told of, "
        "whatever the reason.",
    )
    alert_free_percent: Annotated[Number, Field(ge=0, le=100)] = Field(
        default=5,
        description="A disk of the logs, of temporary files or of runs with less space left is told of; 0: never.",
    )
    on_complete_minutes: Number = Field(
        default=10, gt=0, description="An `on_complete` command that takes longer is ended."
    )
    report_dir: AbsolutePath | None = Field(
        default=None, description="Where each scan writes the page of all runs, index.html; by default nowhere."
    )
    metrics_file: AbsolutePath | None = Field(
        default=None,
        description="Where each scan writes metrics for Prometheus: a .prom file in the folder that node_exporter's "
        "textfile collector reads; by default nowhere.",
    )
    settle_minutes: Number = Field(
        default=10, ge=0, description="With `stream`: how long a file has to be unchanged before it goes up."
    )
    abandoned_hours: Number = Field(
        default=24,
        gt=0,
        description="With `stream`: a run that is not complete and does not change for so long is told of.",
    )
    quiet_minutes: Number = Field(
        default=60,
        ge=0,
        description="How long a run has to be unchanged where that alone shows that it was copied: one of an unknown "
        "instrument, one without base calls; for so long a run that lacks some may still be copied.",
    )
    marker_wait_hours: Number = Field(
        default=24,
        gt=0,
        description="A run with RTAComplete, all of its base calls and no change for so long goes up without its last "
        "marker, with a warning.",
    )
    require_whole_runs: StrictBool = Field(
        default=True,
        description="Upload only runs that have the base calls that their RunInfo.xml asks for; false: the completion "
        "marker is enough.",
    )
    recheck_days: Number = Field(
        default=7,
        ge=0,
        description="For so many days after its upload a run is listed every few hours and compared with its log, "
        "later only where a look at a few folders shows a change. 0: an uploaded run is never looked at again.",
    )
    monitor: Annotated[tuple[MonitorEntry, ...], AfterValidator(filled)] = Field(
        description="What is uploaded where.", json_schema_extra={"minItems": 1}
    )

    def cluster_of(self, entry: MonitorEntry) -> client.SlurmOptions | None:
        """What a run of this entry asks of Slurm, with `max_cores` of each node; None: it is uploaded from here."""
        return entry.cluster and entry.cluster._replace(cores=self.max_cores)

    @model_validator(mode="after")
    def _can_keep_to_its_limit(self) -> Config:
        if self.max_bandwidth and self.transfer_client == "crt":
            raise ValueError("transfer_client: crt keeps to no max_bandwidth (leave out one of them)")
        return self


def json_schema() -> str:
    """The JSON schema of the file, for editors: what `conf/s3sync.schema.json` holds."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    for model in (schema, schema["$defs"]["MonitorEntry"]):
        for key, field in model["properties"].items():
            # None is the absence of a key: a null in the file is a mistake.
            facts = {**field, **field.get("anyOf", [{}])[0]}
            absent = {"anyOf", "default"} if facts.get("default", ...) is None else {"anyOf"}
            model["properties"][key] = {name: fact for name, fact in facts.items() if name not in absent}
    return json.dumps(schema, indent=2) + "\n"


# The door.


def load_config(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Raises ConfigError, whose text has a line for each mistake: `FILE:LINE:COLUMN: monitor[1].bucket: ...`.

    A secret that the file does not have is taken from the environment.
    """
    file = printable(str(path))
    text, others_may = read_config(path, file)
    try:
        tree = Tree(text, is_json=path.suffix.lower() == ".json")
    except UnparsableError as error:
        raise ConfigError(error.problem.line(file)) from None
    config, problems = _typed(tree, _secrets_of(environ, tree.value))
    problems = [*tree.problems, *problems, *_fights(tree)]
    problems += _misplaced(tree, config, path, environ) if config else ()
    problems += _exposed(tree, file) if others_may else ()
    problems += _commanded(tree, file) if others_may & 0o022 else ()
    if config is None or problems:
        raise ConfigError("\n".join(problem.line(file) for problem in _in_order(problems)))
    return config


# By pydantic's names of errors.
_MESSAGES = {
    "missing": "is missing",
    "int_type": "must be a whole number (digits alone: no quotes, no leading zero)",
    "float_type": "must be a number such as 72 or 0.5 (without quotes)",
    "bool_type": "must be true or false (without quotes)",
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than_equal": "must be {le:g} or less",
    **dict.fromkeys(("string_type", "path_type", "pattern_type"), "must be text (put it into quotes)"),
    "tuple_type": "must be a list, e.g. {example}",
    "literal_error": "must be {expected}",
    "model_type": "must be keys with values, e.g. {example}",
    "value_error": "{error}",
}
_EXAMPLES = {
    "monitored_directories": "[/data]",
    "exclude_patterns": "['/Thumbnail_Images/']",
    "on_complete": "[/usr/local/bin/tell-lims, --run]",
    "slurm": "{nodes: 4, partition: short}",
    "monitor": "[{monitored_directories: [/data], bucket: lab-runs, remote_path: /}]",
}
_SECRETS = {key: f"S3SYNC_{key.upper()}" for key in ("slack_log_webhook", "slack_alert_webhook", "webhook", "ping_url")}
_LEVELS: Mapping[str, type[BaseModel]] = {
    "to the top level": Config,
    "into an entry of `monitor`": MonitorEntry,
    "into `slurm` of an entry": SlurmKeys,
}
_KEYS = {there: [field.alias or name for name, field in model.model_fields.items()] for there, model in _LEVELS.items()}


def _secrets_of(environ: Mapping[str, str], value: Any) -> dict[str, str]:
    """Those that the environment has and the file has not."""
    if not isinstance(value, dict):
        return {}
    found = {key: environ.get(name, "").strip() for key, name in _SECRETS.items() if not value.get(key)}
    return {key: secret for key, secret in found.items() if secret}


def _typed(tree: Tree, secrets: Mapping[str, str]) -> tuple[Config | None, list[Problem]]:
    """The configuration, if pydantic finds nothing wrong with the values."""
    value = {**tree.value, **secrets} if isinstance(tree.value, dict) else tree.value
    try:
        return Config.model_validate(value), []
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
    problems = []
    for item in wrong:
        kind, loc = item["type"], item["loc"]
        if loc and loc[0] in secrets:
            place, path = None, _SECRETS[str(loc[0])]
        else:
            place, path = tree.keys[loc] if kind == "extra_forbidden" else tree.place(loc), path_of(loc)
        example = _EXAMPLES.get(str(loc[-1]) if loc else "", "{bucket: lab-runs, remote_path: /}")
        facts = {"example": example, "otherwise": item["msg"], **item.get("ctx", {})}
        what = _unknown(loc) if kind == "extra_forbidden" else _MESSAGES.get(kind, "{otherwise}").format(**facts)
        problems.append(Problem(place, path, what))
    return None, problems


def _unknown(loc: Loc) -> str:
    key = str(loc[-1])[:40]
    ours = list(_KEYS.values())[len(loc) // 2]  # (key), ("monitor", 0, key), ("monitor", 0, "slurm", key)
    for there, keys in _KEYS.items():
        if key in keys:
            return f"is no key here (move it {there})"
    if key == "<<":
        return "is no key: YAML's merging means nothing here (write the keys out)"
    close = difflib.get_close_matches(key.lower(), ours, n=1)
    return f"is no key (did you mean {close[0]}?)" if close else "is no key (remove it)"


def _fights(tree: Tree) -> Iterator[Problem]:
    """Folders that would go to one destination twice: the same keys in S3, with two opinions on what to upload."""
    taken: dict[tuple[Destination, Path], Loc] = {}
    above: dict[tuple[Destination, Path], Loc] = {}
    for loc, destination, folder in _folders(tree.value):
        real = Path(os.path.realpath(folder))
        at, *outer = [(destination, path) for path in (real, *real.parents)]
        fights = [("is the same folder as", taken[at])] if at in taken else []
        fights += [("lies in", taken[key]) for key in outer if key in taken]
        fights += [("has in it", above[at])] if at in above else []
        for words, first in fights[:1]:
            to = printable(f"s3://{destination.bucket}{destination.remote_path}")
            yield Problem(tree.place(loc), path_of(loc), f"{words} {path_of(first)}, and both go to {to} (remove one)")
        taken.setdefault(at, loc)
        above.update({key: loc for key in outer if key not in above})


def watched_by(config: Config) -> tuple[Path, ...]:
    """Return the folders of all entries: nothing is written there."""
    return tuple(dict.fromkeys(folder for entry in config.monitor for folder in entry.monitored_directories))


def _misplaced(tree: Tree, config: Config, file: Path, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Find what would be written into a run or a watched folder, where files are uploaded, and the config in a run."""
    if why := off_limits.explain_misplaced_temp_dir(environ, watched_by(config)):
        yield Problem(None, "", why)
    if around := off_limits.find_enclosing_folder(file):
        yield Problem((1, 1), "", f"is inside the run {printable(around)}, and would be uploaded with it (move it)")
    wanted = {"log_dir": config.log_dir, "report_dir": config.report_dir, "metrics_file": config.metrics_file}
    for key, path in wanted.items():
        if path and (around := off_limits.find_enclosing_folder(path, watched_by(config))):
            place = tree.place((key,)) if isinstance(tree.value, dict) and key in tree.value else None
            where = f"{printable(str(path))} is inside {printable(around)}, whose files are uploaded"
            yield Problem(place or (1, 1), key, f"{where} (give a folder outside of it)")


def _folders(value: Any) -> Iterator[tuple[Loc, Destination, Path]]:
    """The folders of those entries that are right in themselves."""
    entries = value.get("monitor") if isinstance(value, dict) else None
    for number, raw in enumerate(entries if isinstance(entries, list) else []):
        try:
            entry = MonitorEntry.model_validate(raw)
        except ValidationError:
            continue
        for index, folder in enumerate(entry.monitored_directories):
            yield ("monitor", number, "monitored_directories", index), entry.destination, folder


def _exposed(tree: Tree, file: str) -> Iterator[Problem]:
    for key, name in _SECRETS.items():
        if isinstance(tree.value, dict) and tree.value.get(key):
            advice = f"chmod 600 {shlex.quote(file)}, or set {name} instead"
            yield Problem(tree.place((key,)), key, f"holds a secret and is readable by others ({advice})")


def _commanded(tree: Tree, file: str) -> Iterator[Problem]:
    """Who can write the file could have us run anything."""
    entries = tree.value.get("monitor") if isinstance(tree.value, dict) else None
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict) and entry.get("on_complete"):
            loc = ("monitor", number, "on_complete")
            advice = f"chmod go-w {shlex.quote(file)}"
            yield Problem(tree.place(loc), path_of(loc), f"is a command, and others may write this file ({advice})")


def _in_order(problems: list[Problem]) -> list[Problem]:
    """By place, one for each value: the first, which the others follow from."""
    first: dict[tuple[Place | None, str], Problem] = {}
    for problem in problems:
        first.setdefault((problem.place, problem.path), problem)
    return sorted(first.values(), key=lambda problem: (problem.place or (sys.maxsize, 0), problem.path))


if __name__ == "__main__":
    sys.stdout.write(json_schema())
