"""Where an ETag is no MD5, the size proves only what this program has sent."""

from __future__ import annotations

from typing import Any, cast

import pytest

from s3sync.aws.objects import RemoteObject
from s3sync.runs.local_files import LocalFile
from s3sync.state.run_state import Proof
from s3sync.transfer.etag_trust import EtagTrust
from s3sync.transfer.etag_verifier import EtagVerifier

FILE = LocalFile("Data/a", 5, 1)
SEEN = RemoteObject(5, "b" * 32, opaque_etag=True)


@pytest.mark.parametrize("is_ours", [True, False])
def test_an_encrypted_object_of_the_same_size_is_a_proof_only_if_it_is_ours(is_ours: bool) -> None:
    nothing = cast(Any, None)
    verifier = EtagVerifier(nothing, nothing, EtagTrust(), lambda _file, _seen: is_ours)
    verdict = verifier.verify({FILE: SEEN}, {FILE.path: "a" * 32})[FILE]
    if is_ours:
        assert verdict == Proof.of(FILE, SEEN.etag, "size")
    else:
        assert isinstance(verdict, str)
        assert verdict.startswith("S3 has an object of this size, and neither an MD5 nor a checksum to compare")


class Asked:
    """A server, and a disk, on which files have the ETag of their path with parts of 7 and 5 bytes."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def part_sizes(self, path: str, _item: RemoteObject) -> list[tuple[int, ...]]:
        self.paths.append(path)
        return [(6, 6), (7, 5)]

    def has_etag(self, file: LocalFile, etag: str, part_sizes: list[tuple[int, ...]]) -> bool:
        return part_sizes == [(7, 5)] and etag == etag_of(file.path)

    def match_other_part_size(self, _file: LocalFile, _etag: str) -> None: ...

    def part_size(self, _size: int) -> int:
        return 8


def etag_of(path: str) -> str:
    return f"{ord(path):032x}-2"


def verdicts(asked: Asked, etags: dict[str, str]) -> dict[str, Proof | str]:
    trust, both = EtagTrust(), cast(Any, asked)
    verifier = EtagVerifier(both, both, trust, lambda _file, _seen: False)
    files = {path: LocalFile(path, 12, 1) for path in etags}
    seen = {files[path]: RemoteObject(12, etag) for path, etag in etags.items()}
    found = verifier.verify(seen, dict.fromkeys(etags, f"{'a' * 32}-2"))
    return {file.path: verdict for file, verdict in found.items()}


def test_sizes_of_parts_that_only_s3_knows_prove_files() -> None:
    asked = Asked()
    etags = {path: etag_of(path) for path in "bcdefgh"} | {"x": f"{'f' * 32}-2", "y": "f" * 32}
    found = verdicts(asked, etags)
    assert {path for path, verdict in found.items() if isinstance(verdict, Proof)} == set("bcdefgh")
    assert asked.paths == [*"bcdefghx"], "an object that is not in parts has no sizes of parts"


def test_sizes_of_parts_that_prove_nothing_are_requested_a_few_times() -> None:
    asked = Asked()
    found = verdicts(asked, dict.fromkeys("bcdefgh", f"{'f' * 32}-2"))
    assert not any(isinstance(verdict, Proof) for verdict in found.values())
    assert len(asked.paths) == 4


class Checksummed(Asked):
    """The same, with parts whose composed CRC-32 is right."""

    def composed_checksum(self, _file: LocalFile, _name: str, _part_sizes: tuple[int, ...]) -> str:
        return "AAAAAA==-2"


def test_a_checksum_of_parts_does_not_overrule_an_etag_that_must_be_an_md5() -> None:
    """Another object shows that ETags of the kind are MD5s, so this one is of other bytes."""
    both, right, wrong = cast(Any, Checksummed()), LocalFile("b", 12, 1), LocalFile("c", 12, 1)
    seen = {
        right: RemoteObject(12, etag_of("b")),
        wrong: RemoteObject(12, f"{'f' * 32}-2", crc32="AAAAAA==-2"),
    }
    verifier = EtagVerifier(both, both, EtagTrust(), lambda _file, _seen: False)
    found = verifier.verify(seen, {"b": etag_of("b"), "c": etag_of("c")})
    assert isinstance(found[right], Proof)
    assert str(found[wrong]).startswith("S3 has other bytes: ETag")
