"""Define the request of a restore, its result, and its preview."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from s3sync.aws import destination as aws_destination
from s3sync.aws import etag, objects, thaw
from s3sync.aws import settings as aws_settings
from s3sync.aws.destination import Destination
from s3sync.runs import Run, run_folder
from s3sync.state import StateStore
from s3sync.state.thaw_log import ThawStore
from s3sync.transfer.request.bandwidth import BandwidthSchedule
from s3sync.transfer.restore.cost import CostEstimate, Prices
from s3sync.transfer.restore.parts import Part
from s3sync.transfer.restore.space import is_enough

DEFAULT_THREADS = 10  # the default of the AWS CLI


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """Restore one run of a destination into the folder `target`: its `parts`, or all of it if there are none."""

    run_id: str
    destination: Destination
    target: Path
    log_dir: Path
    cores: int
    threads: int = DEFAULT_THREADS
    parts: tuple[Part, ...] = ()
    umask: int = 0o022  # the user's: a scan that continues the restore has another one
    overwrite: bool = False  # files on disk that differ
    use_record: bool = True  # compare with what the upload recorded
    verify: objects.Verify = "etag"
    manifest: Path | None = None  # as `verify --manifest` writes it
    aws_command: str | None = None
    bucket_owner: str = ""
    profile: aws_destination.Profile = aws_destination.FROM_ENVIRONMENT
    multipart: etag.Multipart = etag.DEFAULT_MULTIPART
    max_processes: int | None = None
    max_bandwidth: BandwidthSchedule | None = None
    stall_seconds: float = aws_settings.STALL_SECONDS
    tier: thaw.Tier | None = None  # request that frozen objects are thawed in this way; None: do not
    days: int = 7  # how long they stay thawed
    wait: bool = False  # whether to wait until they are thawed
    prices: Prices | None = None  # the user's prices, for a preview

    @property
    def run(self) -> Run:
        """Return the run in the folder `target`, without reading anything."""
        return Run(path=self.target, run_id=self.run_id, info=run_folder.RunInfo())

    @property
    def state_store(self) -> StateStore:
        """Return the store of the run's state, which also names its lock."""
        return StateStore(self.log_dir, self.run, self.destination)

    @property
    def lock_name(self) -> str:
        """Return the name of the run's lock, without its suffix."""
        return self.state_store.lock_path.stem

    @property
    def thaw_store(self) -> ThawStore:
        """Return the store that remembers which objects are being thawed for this target and these parts."""
        choice = json.dumps([str(self.target), sorted({part.text for part in self.parts})])
        return ThawStore(self.log_dir, f"{self.lock_name}.{hashlib.sha256(choice.encode()).hexdigest()[:8]}")

    @property
    def bucket(self) -> aws_destination.BucketRef:
        """Return the bucket of the destination, with its expected owner."""
        return aws_destination.BucketRef(self.destination.bucket, self.bucket_owner)

    @property
    def prefix(self) -> str:
        """Return the prefix of all keys of the run, with a slash at its end."""
        return self.destination.run_prefix(self.run_id)

    @property
    def url(self) -> str:
        """Return the run's place in S3."""
        return self.destination.url(self.run_id)

    @property
    def process_limit(self) -> int:
        """Return how many `aws` processes may run at once."""
        return max(self.cores, self.max_processes or 4 * self.cores)

    @property
    def settings(self) -> aws_settings.CliSettings:
        """Return the settings of each `aws` process."""
        return aws_settings.CliSettings(
            self.threads, self.multipart, command=self.aws_command, stall_seconds=self.stall_seconds
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """The result of a restore. Sizes are in bytes; paths are relative to the run folder.

    `verified_by` says for each file on disk what verified it. `kept` were there before, with the bytes of S3. `failed`
    are not on disk, or differ from S3, each with the reason. `unrecorded` are restored files that no record names, and
    `records` are the records that were compared. `whole` says that nothing of the run is missing on disk.
    """

    request: RestoreRequest
    total_files: int
    total_size: int
    verified_by: Mapping[str, str] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    restored_size: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    records: tuple[str, ...] = ()
    unrecorded: tuple[str, ...] = ()
    without_time: int = 0  # restored files whose modification time no record has
    frozen: frozenset[str] = frozenset()  # in an archive, so not on disk yet
    frozen_size: int = 0
    tiers: tuple[thaw.Tier, ...] = ()  # that can thaw all of them, the cheapest first
    requested: int = 0  # frozen objects whose thawing was requested, now or before
    ready_at: str = ""  # when they should be thawed
    is_in_place: bool = False
    whole: bool = False
    aws_processes: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Return whether everything that was requested is verified and in place."""
        return self.is_in_place and not self.failed and not self.frozen

    @property
    def proofs(self) -> Counter[str]:
        """Return how many files were verified in each way."""
        return Counter(self.verified_by.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePreview:
    """What a restore would do. Sizes are in bytes; `classes` has files and bytes by storage class.

    `present` are files that are on disk with the size that S3 has; their bytes were not compared.
    """

    request: RestoreRequest
    files: int
    size: int
    classes: Mapping[str, tuple[int, int]]
    present: int
    frozen: int  # files in archives, as far as that is known
    ongoing: int  # of these, how many are being thawed or are `thawed`, as far as a listing shows that
    thawed: int
    tiers: Counter[thaw.ThawState]  # states of the INTELLIGENT_TIERING objects that were tried
    tiered: int  # how many of these objects are large enough for its archive tiers
    tier: thaw.Tier  # the requested tier if it can thaw them, else the cheapest; `hours` and `cost` are for it
    hours: float  # the longest that thawing them takes
    hours_by_tier: Mapping[thaw.Tier, float]  # with each tier that can thaw all of them
    cost: CostEstimate | None  # None without prices
    needed: int  # bytes that must fit on the disk, beside the reserve
    free: int
    failed: Mapping[str, str]
    records: tuple[str, ...]

    @property
    def has_room(self) -> bool:
        """Return whether the disk has room for the files."""
        return is_enough(self.needed, self.free)
