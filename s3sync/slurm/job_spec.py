"""Define the input of all jobs of a cluster upload, and the result of each."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s3sync.errors import S3SyncError
from s3sync.slurm.client import SlurmOptions
from s3sync.text import printable
from s3sync.transfer.request import UploadCounters, UploadRequest
from s3sync.transfer.upload import Handover


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """The input of all jobs of one upload, which share the `name`; `version` is the version of this program."""

    name: str
    version: str
    options: SlurmOptions
    handover: Handover

    @property
    def request(self) -> UploadRequest:
        """Return the request of the upload."""
        return self.handover.request


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a shard, or of the finalizer job: the reason for each failed file, and the error that ended it.

    `start` is the name of the journal of the start that wrote this; empty if there is none.
    """

    node: str
    counters: UploadCounters
    failed: Mapping[str, str]
    aws: str = ""
    error: str = ""
    error_id: str = ""
    start: str = ""

    @classmethod
    def of_error(cls, node: str, error: S3SyncError, start: str = "") -> Result:
        """Return the result of a job that an error ended before it sent anything."""
        return cls(node=node, counters=UploadCounters(), failed={}, error=str(error), error_id=error.id, start=start)


def spec_to_json(spec: JobSpec) -> Any:
    """Return a value for `json.dumps`."""
    from pydantic import TypeAdapter  # expensive to import, and not needed for local uploads

    return TypeAdapter(JobSpec).dump_python(spec, mode="json")


def spec_from_json(facts: Any) -> JobSpec:
    """Return the specification that `spec_to_json` wrote, maybe in an older version. Raises ValueError."""
    from pydantic import TypeAdapter

    with contextlib.suppress(LookupError, TypeError, AttributeError):
        facts["handover"].setdefault("verified", facts["handover"].pop("proven"))  # the key of older versions
    spec: JobSpec = TypeAdapter(JobSpec).validate_python(facts)
    return spec


def result_from_json(facts: Any) -> Result:
    """Return the result with these fields. Raises ValueError, TypeError, KeyError or AttributeError."""
    return Result(
        node=str(facts["node"]),
        counters=UploadCounters(**facts["counters"]),
        failed={printable(str(path)): printable(str(reason)) for path, reason in facts["failed"].items()},
        aws=printable(str(facts["aws"])),
        error=printable(str(facts["error"])),
        error_id=printable(str(facts.get("error_id", ""))),
        start=str(facts["start"]),
    )
