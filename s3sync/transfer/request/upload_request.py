"""The values at the two ends of an upload: the request, and the result."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from s3sync.aws import destination as aws_destination
from s3sync.aws import etag, objects
from s3sync.aws import settings as aws_settings
from s3sync.aws.destination import Destination
from s3sync.errors import UsageError
from s3sync.patterns import Pattern
from s3sync.runs import LocalFile, Run, completion, readiness
from s3sync.state import Proof, RunState
from s3sync.text import printable
from s3sync.transfer.request import hook
from s3sync.transfer.request.bandwidth import BandwidthSchedule
from s3sync.transfer.request.hook import Hook
from s3sync.transfer.request.storage_classes import WARM, ClassChoice, ClassRule
from s3sync.transfer.selection import UploadSelection


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRequest:
    """Upload one run to one destination."""

    local_path: Path
    destination: Destination
    log_dir: Path
    cores: int
    threads: int | None = None  # requests at once in each process; None: chosen while sending
    skip_check: bool = False
    recheck: bool = False  # ask S3 what it has, even if the log says completed
    excludes: tuple[Pattern, ...] = ()
    readback: objects.Readback = "auto"
    verify: objects.Verify = "auto"
    aws_command: str | None = None
    quiet_seconds: float = completion.QUIET_SECONDS
    marker_wait_seconds: float = readiness.MARKER_WAIT_SECONDS
    require_whole: bool = True  # all base calls that RunInfo.xml announces, not only the completion marker
    settle_seconds: float | None = None  # while streaming: how long files must be unchanged; None: not streaming
    multipart: etag.Multipart = etag.DEFAULT_MULTIPART
    storage: aws_destination.Storage = aws_destination.BUCKET_DEFAULTS
    class_rules: tuple[ClassRule, ...] = ()  # the first one that matches a file overrides `storage`
    bucket_owner: str = ""  # the account that must own the bucket; empty: any
    profile: aws_destination.Profile = aws_destination.FROM_ENVIRONMENT
    max_processes: int | None = None  # at once, while the CPU is idle; by default four times the cores
    max_bandwidth: BandwidthSchedule | None = None  # for all processes together
    stall_seconds: float = aws_settings.STALL_SECONDS
    transfer_client: aws_settings.TransferClient = "auto"
    completion_object: bool = False  # write one when all files are verified
    on_complete: Hook | None = None  # the user's command, after that
    leaves_untagged_log: bool = False  # leaves it to a running upload of the same run to another destination
    scheduled: bool = False  # called by the monitor, which retries and logs its output

    def __post_init__(self) -> None:
        """Set the rule for the sizes of parts: it depends on the client that sends."""
        crt = self.transfer_client == "crt"
        object.__setattr__(self, "multipart", self.multipart._replace(crt=crt))

    @property
    def reserved_path(self) -> str:
        """Return the path that no file of the run may have; empty if there is none."""
        return aws_destination.COMPLETION_OBJECT if self.completion_object else ""

    @property
    def is_streaming(self) -> bool:
        """Return whether the instrument still writes the run."""
        return self.settle_seconds is not None

    @property
    def terms(self) -> readiness.Requirements:
        """Return the conditions that the run must meet before it is uploaded."""
        return readiness.Requirements(
            quiet_seconds=self.quiet_seconds,
            marker_wait_seconds=self.marker_wait_seconds,
            require_whole=self.require_whole,
            excludes=self.excludes,
        )

    @property
    def bucket(self) -> aws_destination.BucketRef:
        """Return the bucket of the destination, and the account that must own it."""
        return aws_destination.BucketRef(self.destination.bucket, self.bucket_owner)

    def class_choice(self, run: Run) -> ClassChoice:
        """Return the choice of a storage class for each file of the run."""
        return ClassChoice(run.run_id, self.class_rules, self.storage.storage_class)

    @property
    def process_limit(self) -> int:
        """Return how many `aws` processes may run at once."""
        return max(self.cores, self.max_processes or 4 * self.cores)

    @property
    def settings(self) -> aws_settings.CliSettings:
        """Return the settings of each `aws` process."""
        threads = self.threads or aws_settings.DEFAULT_THREADS
        return aws_settings.CliSettings(
            threads,
            self.multipart,
            client=self.transfer_client,
            command=self.aws_command,
            stall_seconds=self.stall_seconds,
        )


class FileTotals(NamedTuple):
    """A number of files, and their bytes."""

    files: int
    size: int

    @classmethod
    def of(cls, files: Collection[LocalFile] | Collection[Proof]) -> FileTotals:
        """Return the totals of these files."""
        return cls(len(files), sum(file.size for file in files))

    def plus(self, files: Collection[LocalFile] | Collection[Proof]) -> FileTotals:
        """Return the totals with these files added."""
        more = FileTotals.of(files)
        return FileTotals(self.files + more.files, self.size + more.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadCounters:
    """The counts of one call. Sizes are in bytes."""

    sent_files: int = 0
    sent_size: int = 0
    found_files: int = 0  # files that S3 already had, with the same bytes
    found_size: int = 0
    aws_processes: int = 0
    seconds: float = 0.0


class ProofTotals(NamedTuple):
    """The number of verified files, their bytes as far as known, and the evidence."""

    files: int
    size: int
    ways: frozenset[str]

    @classmethod
    def of(cls, state: RunState) -> ProofTotals:
        """Return the totals of a state."""
        return cls(len(state.verified), state.size, frozenset(proof.verified_by for proof in state.verified.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadResult:
    """The result of an upload. `state` is what the log holds now; `already_complete` if there was nothing to do."""

    run: Run
    destination: Destination
    log_path: Path
    state: RunState
    selection: UploadSelection
    already_complete: bool = False
    on_complete: str = ""  # the outcome of the user's command, if it was run now
    handed_over: bool = False  # to an executor, which is still uploading
    counters: UploadCounters = field(default_factory=UploadCounters)
    totals: ProofTotals | None = None  # totals of the state, once it has no proofs

    @property
    def verified(self) -> ProofTotals:
        """Return the totals of the verified files."""
        return self.totals or ProofTotals.of(self.state)

    def without_files(self) -> UploadResult:
        """Return the result without listing and proofs, which take 400 bytes of memory a file."""
        selected = replace(self.selection, files=(), waiting=())
        state = replace(self.state, verified={}, watched=None)
        return replace(self, state=state, selection=selected, totals=self.verified)

    @property
    def ok(self) -> bool:
        """Return whether nothing is left to do."""
        return self.state.completed and not hook.has_failed(self.on_complete)


class PendingAnalysis(NamedTuple):
    """An analysis that is not uploaded yet, and why."""

    run: Run
    destination: Destination
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What an upload would do: send the `pending` files in a number of `batches`.

    `same_size` counts those that S3 has with the same size already. `ask_seconds` is how long it takes to ask S3 for
    their checksums, one by one; 0 if ETags are enough. `obstacles` would make the upload fail. `classes` maps storage
    classes to pending files.
    """

    run: Run
    destination: Destination
    log_path: Path
    selection: UploadSelection
    pending: tuple[LocalFile, ...] = ()
    same_size: int = 0
    batches: int = 0
    ask_seconds: float = 0.0
    obstacles: tuple[str, ...] = ()
    classes: Mapping[str, Sequence[LocalFile]] = field(default_factory=dict)

    @property
    def has_chosen_classes(self) -> bool:
        """Return whether files go into another storage class than S3's default."""
        return any(name != WARM for name in self.classes)


def describe_target(run: Run, destination: Destination) -> str:
    """Name the run and where it goes, for people."""
    return f"{printable(run.run_id)} to {printable(destination.url(run.run_id))}"


def compile_excludes(patterns: Iterable[str]) -> tuple[Pattern, ...]:
    """Compile exclude patterns. Raises UsageError with all those that are not regular expressions."""
    compiled, wrong = [], []
    for pattern in patterns:
        try:
            compiled.append(Pattern(pattern))
        except ValueError as error:
            wrong.append(f"'{printable(pattern)}' ({error})")
    if wrong:
        raise UsageError(
            f"--exclude-patterns takes regular expressions, and these are not: {', '.join(wrong)} (correct them)",
            id="usage.no-pattern",
        )
    return tuple(compiled)
