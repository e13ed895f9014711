"""What may go up while the sequencer still writes the run, and what is not proven any more when it has changed.

Instruments write the bulk of a run once, cycle by cycle; texts, logs and InterOp they write again and again, and
markers tell others that the run is whole: those wait for the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from s3sync.runs import Listing, LocalFile
from s3sync.state import Proof
from s3sync.transfer.plan import UploadSelection

_WAITS = re.compile(
    r"[^/]*"  # in the root
    r"|(.*/)?\.[^/]*(/.*)?"  # hidden: what copying tools and NFS rename or remove in the end
    r"|(InterOp|[^/]*Logs?|Config|Recipe|Analysis)/.*"
    r"|.*\.(xml|txt|csv|tsv|log|html|json)",
    re.IGNORECASE | re.DOTALL,
)


def settled(scope: UploadSelection, listing: Listing, still_since: int) -> UploadSelection:
    """The files of a scope that may go up: bulk data, unchanged since that moment (ns since the epoch).

    By mtime and by ctime: copying tools set the one back, nobody sets the other.
    """
    moving = {f.path for f, last in _last_changes(listing) if last > still_since}
    still = [f.path not in moving and not _WAITS.fullmatch(f.path) for f in scope.files]
    return scope._replace(
        files=tuple(file for file, goes in zip(scope.files, still, strict=True) if goes),
        waiting=tuple(file for file, goes in zip(scope.files, still, strict=True) if not goes),
        still_since=still_since,
    )


def doubtful(proven: Mapping[str, Proof], listing: Listing, still_since: int) -> set[str]:
    """Paths of files that were proven unchanged since that moment, and have been touched after it.

    Size and mtime may be what they were: whoever copies a run anew often sets them so.
    """
    return {file.path for file, last in _last_changes(listing) if last > still_since and file.path in proven}


def _last_changes(listing: Listing) -> list[tuple[LocalFile, int]]:
    pairs = zip(listing.files, listing.ctimes_ns, strict=True)
    return [(file, max(file.mtime_ns, ctime_ns)) for file, ctime_ns in pairs]
