"""An entry of the config: monitored directories, and the one destination of their runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator
from pydantic import StrictStr as Text
from pydantic import WithJsonSchema as Schema

from s3sync.aws import destination as aws_destination
from s3sync.aws.destination import ACLS, SSE, STORAGE_CLASSES, Destination, Profile
from s3sync.config.value_types import (
    AbsolutePath,
    Account,
    Bucket,
    Command,
    Count,
    OptionalRegex,
    ProfileName,
    Regex,
    Region,
    RemotePath,
    SbatchOptions,
    SlurmValue,
    StorageClasses,
    invalid,
    non_empty,
    one_of,
)
from s3sync.slurm import client


class Model(BaseModel):
    """A level of the config: frozen, rejects unknown keys, and keeps values out of its errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SlurmKeys(Model):
    """The Slurm options of each run; the cluster decides about those that are empty."""

    nodes: Count = Field(default=client.DEFAULT_NODES, description="Nodes at once for one run.")
    partition: SlurmValue = Field(default="", description="The partition; by default the cluster's.")
    account: SlurmValue = Field(default="", description="The account that is charged; by default the user's.")
    time: SlurmValue = Field(
        default="",
        description="How long a job may take, in the format of sbatch: 4:00:00, 1-0; by default the partition's.",
    )
    options: SbatchOptions = Field(
        default=(),
        description="More options of sbatch, separated as in a shell: --qos=low --mem=4G.",
        json_schema_extra={"default": ""},
    )


class MonitorEntry(Model):
    """Directories that sequencers write runs to, and the one destination of these runs in S3."""

    monitored_directories: Annotated[tuple[AbsolutePath, ...], AfterValidator(non_empty)] = Field(
        description="The folders that hold the run folders; absolute paths.", json_schema_extra={"minItems": 1}
    )
    bucket: Bucket = Field(description="The bucket's name, not a URL.")
    remote_path: RemotePath = Field(
        description="Where in the bucket; `/` is its root. Files go to remote_path/RUN/path/in/the/run."
    )
    regex: OptionalRegex = Field(
        default=None,
        alias="sample_regex",
        description="A regular expression that must be found in the name of every sample in a run's samplesheet; "
        "other runs are not uploaded. Without it all runs are uploaded, with or without a samplesheet.",
    )
    excludes: tuple[Regex, ...] = Field(
        default=(),
        alias="exclude_patterns",
        description="Files are left out if one of these regular expressions is found in RUN/path/in/the/run.",
    )

    sse: Annotated[Text, AfterValidator(one_of(SSE)), Schema({"enum": ["", *SSE]})] = Field(
        default="", description="How S3 encrypts the objects; by default as the bucket says."
    )
    sse_kms_key_id: Text = Field(
        default="", description="The KMS key for sse: aws:kms; by default the bucket's, or the account's own."
    )
    storage_class: Annotated[
        Text,
        AfterValidator(one_of(STORAGE_CLASSES)),
        Schema({"enum": ["", *STORAGE_CLASSES]}),
    ] = Field(default="", description="By default STANDARD.")
    class_rules: StorageClasses = Field(
        default=(),
        alias="storage_classes",
        description="Storage classes by regular expression: the first that is found in RUN/path/in/the/run decides; "
        "all other files get storage_class. Completion markers are never put into an archive.",
        json_schema_extra={"default": {}},
    )
    acl: Annotated[Text, AfterValidator(one_of(ACLS)), Schema({"enum": ["", *ACLS]})] = Field(
        default="",
        description="The canned ACL of the objects, if the bucket's policy requires one.",
    )
    expected_bucket_owner: Account = Field(
        default="",
        description="The AWS account (12 digits) that must own the bucket: checked before each upload and "
        "whenever objects are read back.",
    )
    profile: ProfileName = Field(
        default="",
        description="The AWS profile whose credentials and settings are used for this destination; by default the "
        "environment's.",
    )
    region: Region = Field(default="", description="The AWS region of the bucket; by default the profile's.")
    stream: StrictBool = Field(
        default=False,
        description="Upload a run while the sequencer still writes it: at each scan the files that no longer change; "
        "the rest, with the completion markers last, when the run is complete.",
    )

    upload_changes: StrictBool = Field(
        default=True,
        description="Upload files that are added to a run, or changed, after it was uploaded; false: report them once.",
    )

    completion_object: StrictBool = Field(
        default=False,
        description="When the whole run is verified, write the object s3sync.complete.json into its prefix, for "
        "pipelines that wait for events: files, sizes, ETags, verdict.",
    )

    on_complete: Command = Field(
        default=(),
        description="A command to run, without a shell, when a run is completed: a list of the program's absolute path "
        "and its arguments. S3SYNC_RUN_ID and other variables describe the run; the log is its stdin.",
    )

    executor: Literal["local", "slurm"] = Field(
        default="local",
        description="Where the aws processes run: on this machine, or on nodes of a Slurm cluster.",
    )
    slurm: SlurmKeys | None = Field(
        default=None,
        title="Slurm",
        description="Options of Slurm; ignored without `executor: slurm`.",
    )

    @model_validator(mode="after")
    def _check_key(self) -> MonitorEntry:
        if self.sse_kms_key_id and self.sse != "aws:kms":
            raise invalid("sse_kms_key_id requires `sse: aws:kms` (add that)", id="config.kms-key-without-kms")
        return self

    @property
    def storage(self) -> aws_destination.Storage:
        """How objects are stored by default: `sse`, `sse_kms_key_id`, `storage_class` and `acl`."""
        return aws_destination.Storage(
            sse=self.sse, sse_kms_key_id=self.sse_kms_key_id, storage_class=self.storage_class, acl=self.acl
        )

    @property
    def storages(self) -> tuple[aws_destination.Storage, ...]:
        """How objects are stored, for each storage class that files may get."""
        names = dict.fromkeys((self.storage_class, *(rule.storage_class for rule in self.class_rules)))
        return tuple(replace(self.storage, storage_class=name) for name in names)

    @property
    def aws_profile(self) -> Profile:
        """The AWS profile, with the region that overrides its own."""
        return Profile(self.profile, self.region)

    @property
    def cluster(self) -> client.SlurmOptions | None:
        """The Slurm options, if Slurm is the executor."""
        keys = self.slurm or SlurmKeys()
        return client.SlurmOptions(**dict(keys)) if self.executor == "slurm" else None

    @property
    def destination(self) -> Destination:
        """Where runs go: `bucket` and `remote_path`."""
        return aws_destination.parse_destination(self.bucket, self.remote_path)
