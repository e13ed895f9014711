"""Which proofs stand, and which files have settled, by what is on the disk now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from s3sync.aws.destination import Destination
from s3sync.patterns import Pattern
from s3sync.runs.local_files import Listing, LocalFile, RejectedEntry
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.state.run_state import Proof
from s3sync.transfer.proof import with_same_checksums
from s3sync.transfer.selection import changed_since, select_files, select_settled

RUN = Run(path=Path("/data/RUN"), run_id="RUN", info=RunInfo())
MANIFEST, DATA, OTHER = (LocalFile(path, 5, 7) for path in ("Manifest.tsv", "Data/a.cbcl", "Data/b"))


def listing_of(*files: LocalFile, ctime_ns: int = 7) -> Listing:
    return Listing(files=files, rejected=(), skipped=(), ctimes_ns=(ctime_ns,) * len(files))


def proofs_of(*files: LocalFile) -> dict[str, Proof]:
    return {file.path: Proof.of(file, "etag", "etag") for file in files}


def test_a_manifest_that_has_changed_drops_the_proofs_of_the_files_that_it_names() -> None:
    listing = listing_of(MANIFEST, DATA, OTHER)
    checksums = {DATA.path: 1}
    same = proofs_of(MANIFEST, DATA, OTHER)
    assert with_same_checksums(same, listing, checksums) == same
    before = same | proofs_of(replace(MANIFEST, mtime_ns=6))
    assert with_same_checksums(before, listing, checksums).keys() == {MANIFEST.path, OTHER.path}
    unverified = proofs_of(DATA, OTHER)
    assert with_same_checksums(unverified, listing, checksums).keys() == {OTHER.path}


@pytest.mark.parametrize(("mtime_ns", "ctime_ns"), [(9, 1), (1, 9)])
def test_a_file_has_changed_if_its_mtime_or_its_ctime_is_new(mtime_ns: int, ctime_ns: int) -> None:
    file = replace(DATA, mtime_ns=mtime_ns)
    listing = listing_of(file, ctime_ns=ctime_ns)
    scope = select_files(RUN, listing, Destination("lab-runs", ""), ())
    assert select_settled(scope, listing, 8).waiting == (file,)
    assert select_settled(scope, listing, 9).files == (file,)
    assert changed_since(proofs_of(file), listing, 8) == {file.path}
    assert changed_since(proofs_of(file), listing, 9) == set()


def test_an_exclude_pattern_is_searched_in_the_path_from_the_run_on() -> None:
    listing = listing_of(DATA, OTHER)
    for pattern, kept in {"^RUN/Data/a": (OTHER,), "^Data/a": (DATA, OTHER), "data/RUN": (DATA, OTHER)}.items():
        assert select_files(RUN, listing, Destination("lab-runs", ""), (Pattern(pattern),)).files == kept


def test_the_total_counts_known_files_in_a_folder_that_cannot_be_read() -> None:
    listing = replace(listing_of(MANIFEST, OTHER), rejected=(RejectedEntry("InterOp", "Permission denied"),))
    chosen = select_files(RUN, listing, Destination("lab-runs", ""), ())
    assert chosen.total == chosen.total_with([]) == chosen.total_with(["Data/b"]) == 3
    assert chosen.total_with(["Data/b", "InterOp/a.bin", "InterOp/b.bin"]) == 5
