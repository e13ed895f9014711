"""Where an ETag is no MD5, the size proves only what this program has sent."""

from __future__ import annotations

from typing import Any, cast

import pytest

from s3sync.aws.objects import RemoteObject
from s3sync.runs.local_files import LocalFile
from s3sync.state.run_state import Proof
from s3sync.transfer.etag_trust import EtagTrust, Judge

FILE = LocalFile("Data/a", 5, 1)
SEEN = RemoteObject(5, "b" * 32, opaque_etag=True)


@pytest.mark.parametrize("is_ours", [True, False])
def test_an_encrypted_object_of_the_same_size_is_a_proof_only_if_it_is_ours(is_ours: bool) -> None:
    nothing = cast(Any, None)
    judge = Judge(nothing, nothing, EtagTrust(), nothing, lambda _file, _seen: is_ours)
    verdict = judge.verdicts({FILE: SEEN}, {FILE.path: "a" * 32})[FILE]
    if is_ours:
        assert verdict == Proof.of(FILE, SEEN.etag, "size")
    else:
        assert isinstance(verdict, str)
        assert verdict.startswith("S3 has an object of this size, and neither an MD5 nor a checksum to compare")
