"""Describe which objects of a comparison are in archives, and how to read them."""

from __future__ import annotations

import os
from collections import Counter

from s3sync import invocation
from s3sync.aws import thaw
from s3sync.text import human_bytes, pluralize, printable
from s3sync.transfer.request import UploadRequest, as_options
from s3sync.transfer.verify import Verification


def frozen_lines(found: Verification) -> list[str]:
    """Return lines about objects in archives: how many, how they were compared, and how to thaw them."""
    lines = [
        f"  {pluralize(files, 'file')}, {human_bytes(size)}, in {name}, frozen unless thawed"
        for name, (files, size) in found.archived.items()
    ]
    lines += tier_lines(found.tiers)
    if not lines:
        return []
    command = printable(thaw_command(found))
    how = "compared by the sizes, ETags and checksums that S3 has of them, which needs no thawing"
    return [*lines, f"    {how}; to read them: `{command}`"]


def tier_lines(tiers: Counter[thaw.ThawState]) -> list[str]:
    """Return how many of the objects of INTELLIGENT_TIERING that were tried are in its archive tiers, if any are."""
    tried, frozen = tiers.total(), tiers.total() - tiers["thawed"]
    text = f"  {frozen} of {tried} objects of {thaw.TIERED} that were tried are in its archive tiers, frozen"
    return [text] if frozen else []


def thaw_command(found: Verification) -> str:
    """Return the command that thaws the run or the analysis, and restores it to another folder."""
    run, request = found.run, found.request
    place = as_options.place_options(request.destination, request.bucket_owner, request.profile)
    program = as_options.program_options(request.aws_command, named_log_dir(request))
    which = ["--only", f"analysis={run.path.name}"] if run.parent_run else []
    return invocation.command_line(
        "restore", str(run.root), *which, *place, *program, "--local-path", "DIR", "--tier", "Bulk"
    )


def named_log_dir(request: UploadRequest) -> str:
    """Return the directory of the logs that a request names; empty if it names none, as one without a config."""
    return "" if str(request.log_dir) == os.devnull else str(request.log_dir)


def archived_json(found: Verification) -> dict[str, dict[str, int]]:
    """Return the number of files and bytes in archives by storage class, for JSON."""
    return {name: {"files": files, "bytes": size} for name, (files, size) in found.archived.items()}


def tiers_json(tiers: Counter[thaw.ThawState]) -> dict[str, int]:
    """Return how many objects of INTELLIGENT_TIERING were tried, and how many of them are frozen, for JSON."""
    return {"tried": tiers.total(), "frozen": tiers.total() - tiers["thawed"]}
