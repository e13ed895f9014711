"""`restore` detects every changed object or record of a run, in S3 or on disk, and then shows nothing.

Each test is a table of changes; what can prove the opposite is S3 alone, the state log, the completion object, or a
manifest of `verify`.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.helpers.lab import BUCKET, Lab, Result, tree
from tests.helpers.s3server import MIB, S3Server, StoredObject

BIG, SMALL = "Data/big.cbcl", "Data/first.cbcl"  # of two parts, and of one


class Archive:
    """An uploaded run that is gone from the disk, with each record of it; `reset` takes all changes back."""

    def __init__(self, lab: Lab, server: S3Server, run: Path) -> None:
        self.lab = lab
        self.server = server
        self.run = run
        self.manifest = lab.root / "run.tsv"
        self.receipt = f"{run.name}/s3sync.complete.json"
        (run / "Data" / "big.cbcl").write_bytes(bytes(range(256)) * 4096 * 9)
        assert lab.upload(run, "--completion-object").code == 0
        assert lab.run("verify", str(run), "--bucket", BUCKET, "--manifest", str(self.manifest)).code == 0
        shutil.move(run, lab.root / "saved")
        self._objects = copy.deepcopy(server.objects(BUCKET))
        self._log, self._manifest = lab.log_path(run).read_bytes(), self.manifest.read_bytes()

    def object(self, path: str) -> StoredObject:
        return self.server.objects(BUCKET)[f"{self.run.name}/{path}"]

    def restore(self, by: str) -> Result:
        """With one of the records, and none of the others."""
        argv = ["restore", str(self.run), "--bucket", BUCKET, "--log_dir", str(self.lab.log_dir), "--json"]
        if by == "S3":
            argv.append("--no-record")
        if by != "completion object" and self.receipt in self.server.objects(BUCKET):
            self.server.delete(BUCKET, self.receipt)
        if by != "state log":
            shutil.rmtree(self.lab.log_dir, ignore_errors=True)
        if by == "manifest":
            argv += ["--manifest", str(self.manifest)]
        return self.lab.run(*argv)

    def reset(self) -> None:
        for key in self.server.objects(BUCKET).keys() - self._objects.keys():
            self.server.delete(BUCKET, key)
        for key, saved in self._objects.items():
            stored = self.server.put(BUCKET, key, saved.body or b"")
            stored.etag, stored.headers, stored.checksums = saved.etag, dict(saved.headers), dict(saved.checksums)
        shutil.rmtree(self.lab.log_dir, ignore_errors=True)
        self.lab.log_path(self.run).parent.mkdir(parents=True, mode=0o700)
        self.lab.log_dir.chmod(0o700)
        self.lab.log_path(self.run).write_bytes(self._log)
        self.manifest.write_bytes(self._manifest)

    def is_found(self, by: str, *paths: str, error: str = "") -> None:
        """The files are named, or there is an error of this id; the run does not appear, and comes back afterwards."""
        result = self.restore(by)
        assert result.code == 1, result.out + result.err
        if error:
            assert result.error_ids == [error]
        else:
            assert sorted(result.json["failed"]) == sorted(paths)
        assert not self.run.exists()
        self.reset()
        self.comes_back(by)

    def comes_back(self, by: str) -> None:
        result = self.restore(by)
        assert result.code == 0, result.out + result.err
        assert tree(self.run) == tree(self.lab.root / "saved")
        shutil.rmtree(self.run)
        self.reset()


@pytest.fixture
def archive(lab: Lab, server: S3Server, tiny_run: Path) -> Archive:
    return Archive(lab, server, tiny_run)


def rot(stored: StoredObject) -> None:
    """One bit has changed, and S3 does not know."""
    assert stored.body
    stored.body = stored.body[:-1] + bytes([stored.body[-1] ^ 1])


def replace(archive: Archive, path: str, *, size: int = 0) -> None:
    """Someone has uploaded other bytes, of the same size by default."""
    stored = archive.object(path)
    archive.server.put(BUCKET, f"{archive.run.name}/{path}", b"?" * (size or stored.size))


@pytest.mark.parametrize("by", ["S3", "state log", "completion object", "manifest"])
def test_a_tampered_object(archive: Archive, by: str) -> None:
    def change(how: Callable[[str], object]) -> None:
        for path in (SMALL, BIG):
            how(path)
        archive.is_found(by, SMALL, BIG)

    change(lambda path: rot(archive.object(path)))
    if by == "S3":
        return  # it proves what it has, and the result says that nothing else was compared
    change(lambda path: replace(archive, path))
    change(lambda path: replace(archive, path, size=7))
    change(lambda path: archive.server.delete(BUCKET, f"{archive.run.name}/{path}"))


@pytest.mark.parametrize("by", ["state log", "completion object", "manifest"])
def test_an_object_that_no_record_names_is_reported(archive: Archive, by: str) -> None:
    archive.server.put(BUCKET, f"{archive.run.name}/Data/more.cbcl", b"of somebody else")
    result = archive.restore(by)
    assert (result.code, result.json["unrecorded"]) == (0, ["Data/more.cbcl"])


@pytest.mark.parametrize("by", ["S3", "state log", "completion object"])
def test_what_kms_has_encrypted_is_verified_by_checksums(archive: Archive, by: str) -> None:
    """No ETag is an MD5 there, so that only checksums show what was changed."""

    def encrypt() -> None:
        for stored in archive.server.objects(BUCKET).values():
            stored.headers["x-amz-server-side-encryption"] = "aws:kms"

    encrypt()
    rot(archive.object(SMALL))
    archive.is_found(by, SMALL)
    encrypt()
    archive.object(SMALL).checksums = {}
    archive.object(SMALL).etag = "0" * 32
    archive.is_found(by, SMALL)


class Edit(NamedTuple):
    """A change of a record; it leads to a file that is named, or to an error."""

    change: Callable[[Any], Any]
    path: str = ""
    error: str = ""


def edited(facts: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {**facts, **changes}


def with_file(facts: dict[str, Any], name: str, **changes: Any) -> dict[str, Any]:
    """One of the files in a completion object has other values."""
    files = [{**entry, **changes} if entry["path"] == name else entry for entry in facts["files"]]
    total = sum(entry["size"] for entry in files)
    return {**facts, "files": files, "total_bytes": total}


def with_another(facts: dict[str, Any]) -> dict[str, Any]:
    entry = {"path": "Data/none.cbcl", "size": 0, "etag": "d41d8cd98f00b204e9800998ecf8427e", "verified_by": "etag"}
    return {**facts, "files": [*facts["files"], entry], "total_files": facts["total_files"] + 1}


DAMAGED = "restore.damaged-record"
OF_COMPLETION_OBJECTS = [
    Edit(lambda facts: with_file(facts, SMALL, etag="0" * 32), SMALL),
    Edit(lambda facts: with_file(facts, BIG, etag=f"{'0' * 32}-2"), BIG),
    Edit(lambda facts: with_file(facts, SMALL, size=7), SMALL),
    Edit(lambda facts: with_file(facts, SMALL, path="Data/none.cbcl"), "Data/none.cbcl"),
    Edit(with_another, "Data/none.cbcl"),
    Edit(lambda facts: edited(facts, files=facts["files"][1:]), error=DAMAGED),
    Edit(lambda facts: edited(facts, total_bytes=1), error=DAMAGED),
    Edit(lambda facts: edited(facts, verdict="maybe"), error=DAMAGED),
    Edit(lambda facts: edited(facts, run_id="another"), error=DAMAGED),
    Edit(lambda facts: edited(facts, folders={"Data": 10**40}), error=DAMAGED),
    Edit(lambda facts: edited(facts, folders=["Data"]), error=DAMAGED),
    Edit(lambda facts: with_file(facts, SMALL, mtime_ns="never"), error=DAMAGED),
    Edit(lambda _facts: [], error=DAMAGED),
]


def test_a_tampered_completion_object(archive: Archive) -> None:
    """Without a state log; with one, its ETag shows it (see the next test)."""
    for edit in OF_COMPLETION_OBJECTS:
        facts = edit.change(json.loads(archive.object("s3sync.complete.json").body or b""))
        archive.server.put(BUCKET, archive.receipt, json.dumps(facts).encode())
        archive.is_found("completion object", edit.path, error=edit.error)


def test_a_completion_object_that_is_cut_or_none(archive: Archive) -> None:
    whole = archive.object("s3sync.complete.json").body or b""
    for body in (whole[:-9], b"", b"\xff\xfe", b"[" * 100_000):
        archive.server.put(BUCKET, archive.receipt, body)
        archive.is_found("completion object", error=DAMAGED)
    archive.server.put(BUCKET, archive.receipt, whole + b"\n")  # which the state log does not know
    argv = ("restore", str(archive.run), "--bucket", BUCKET, "--log_dir", str(archive.lab.log_dir))
    assert archive.lab.run(*argv).error_ids == ["restore.replaced-record"]
    assert not archive.run.exists()


def log_with(log: dict[str, Any], key: str, path: str, value: Any, *, absolute: bool) -> dict[str, Any]:
    name = f"{log['run_path']}/{path}" if absolute else path
    return {**log, key: {**log[key], name: value}}


OF_LOGS = [
    Edit(lambda log: log_with(log, "uploaded_files", SMALL, "0" * 32, absolute=True), SMALL),
    Edit(lambda log: log_with(log, "uploaded_files", BIG, f"{'0' * 32}-2", absolute=True), BIG),
    Edit(lambda log: log_with(log, "uploaded_files", "Data/none.cbcl", "0" * 32, absolute=True), "Data/none.cbcl"),
    Edit(lambda log: log_with(log, "local_files", SMALL, [7, 0], absolute=False), SMALL),
]


def test_a_tampered_state_log(archive: Archive) -> None:
    path = archive.lab.log_path(archive.run)
    for edit in OF_LOGS:
        path.write_text(json.dumps(edit.change(json.loads(path.read_text()))))
        archive.is_found("state log", edit.path)


def test_a_state_log_that_is_cut_or_lacks_a_file(archive: Archive) -> None:
    """Then the other records and S3 prove the run, and the result says so."""
    path = archive.lab.log_path(archive.run)
    log = json.loads(path.read_text())
    del log["uploaded_files"][f"{log['run_path']}/{SMALL}"]
    path.write_text(json.dumps(log))
    result = archive.restore("state log")
    assert (result.code, result.json["unrecorded"]) == (0, [SMALL])
    shutil.rmtree(archive.run)
    archive.reset()
    path.write_bytes(path.read_bytes()[:-100])
    result = archive.restore("state log")
    assert (result.code, result.json["records"]) == (0, [])
    assert "the state log was corrupt" in result.err


def cell(number: int, value: str) -> Callable[[str], str]:
    """Change a cell of the row of SMALL in a manifest."""

    def change(text: str) -> str:
        rows = [row.split("\t") for row in text.split("\n")]
        for row in rows:
            if row[0] == SMALL:
                row[number] = value
        return "\n".join(map("\t".join, rows))

    return change


NO_MANIFEST = "restore.bad-manifest"
OF_MANIFESTS = [
    Edit(cell(0, "Data/none.cbcl"), error=NO_MANIFEST),
    Edit(cell(1, "7"), SMALL),
    Edit(cell(1, "many"), error=NO_MANIFEST),
    Edit(cell(2, "0" * 32), SMALL),
    Edit(cell(4, "another/key"), error=NO_MANIFEST),
    Edit(lambda text: text.replace("\t", " ", 1), error=NO_MANIFEST),
    Edit(lambda text: text[:-9], error=NO_MANIFEST),
    Edit(lambda _text: "", error=NO_MANIFEST),
]


def test_a_tampered_manifest(archive: Archive) -> None:
    for edit in OF_MANIFESTS:
        archive.manifest.write_text(edit.change(archive.manifest.read_text()))
        archive.is_found("manifest", edit.path, error=edit.error)


def test_objects_of_other_tools(archive: Archive) -> None:
    """Parts of any size, checksums of other kinds, and empty objects are verified by S3; the others are refused."""
    for part_size, by in ((5 * MIB, "completion object"), (6_000_000, "S3"), (9 * MIB, "state log")):
        stored = archive.object(BIG)
        assert stored.body
        parts = [stored.body[at : at + part_size] for at in range(0, stored.size, part_size)]
        stored.etag, stored.checksums, stored.part_sizes = multipart_etag(parts), {}, tuple(map(len, parts))
        archive.comes_back(by)


def make_unequal(archive: Archive) -> StoredObject:
    """Another tool has sent parts of which no two are equal; the numbers of parts are as usual."""
    odd = archive.object(BIG)
    assert odd.body
    parts = [odd.body[:5_000_001], odd.body[5_000_001:]]
    odd.etag, odd.checksums, odd.part_sizes = multipart_etag(parts), {}, tuple(map(len, parts))
    return odd


def test_parts_of_unequal_sizes_are_verified_by_what_s3_says_of_them(archive: Archive, server: S3Server) -> None:
    make_unequal(archive)
    archive.comes_back("S3")
    rot(make_unequal(archive))
    result = archive.restore("S3")
    assert (result.code, list(result.json["failed"])) == (1, [BIG])
    archive.reset()
    make_unequal(archive)
    server.dialect.part_numbers = False
    refused = archive.restore("S3")
    assert (refused.code, list(refused.json["failed"])) == (1, [BIG])
    assert not archive.run.exists()


def test_a_run_that_another_tool_has_sent_in_unequal_parts_is_identical(archive: Archive) -> None:
    make_unequal(archive)
    shutil.move(archive.lab.root / "saved", archive.run)
    result = archive.lab.run("verify", str(archive.run), "--bucket", BUCKET, "--json")
    assert (result.code, result.json["differing"], result.json["by_size_only"]) == (0, {}, [])


def test_checksums_of_unequal_parts_prove_what_kms_encrypts(archive: Archive) -> None:
    """Its ETag is no MD5; the checksum is composed of those of the parts."""
    odd = make_unequal(archive)
    assert odd.body
    digests = [hashlib.sha256(part).digest() for part in (odd.body[:5_000_001], odd.body[5_000_001:])]
    whole = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
    odd.etag, odd.checksums = f"{'a' * 32}-2", {"x-amz-checksum-sha256": f"{whole}-2"}
    odd.headers["x-amz-server-side-encryption"] = "aws:kms"
    archive.comes_back("S3")


def multipart_etag(parts: list[bytes]) -> str:
    digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"


def test_what_the_customers_own_key_encrypts_is_refused(archive: Archive) -> None:
    """SSE-C: nobody but who has the key can read it."""
    archive.object(SMALL).headers["x-amz-server-side-encryption-customer-algorithm"] = "AES256"
    result = archive.restore("S3")
    assert (result.code, list(result.json["failed"])) == (1, [SMALL])
    assert "InvalidRequest" in result.json["failed"][SMALL], result.json["failed"]
    assert not archive.run.exists()
