"""What S3 says of the objects, and whether that proves the files: verdicts, and how it is asked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from s3sync.aws import argv as aws_argv
from s3sync.aws.client import AwsCli, AwsResult, RemoteFolder
from s3sync.aws.destination import BucketRef
from s3sync.aws.digests import Sums
from s3sync.aws.objects import Absent, ObjectReader, ObjectState, Readback, RemoteObject, Unknown
from s3sync.errors import AwsError
from s3sync.runs.local_files import LocalFile
from s3sync.state.run_state import Proof
from s3sync.transfer.proof import is_conclusive, verify_object
from tests.helpers.errors import raises_error

FILE = LocalFile("Data/a", 5, 1_700_000_000)
MD5, OTHER = "a" * 32, "b" * 32
CRC, COMPOSED = "AAAAAA==", "BBBBBB==-2"
MODES: tuple[Readback, ...] = ("head-object", "list-objects-v2")
DENIED = "An error occurred (AccessDenied) when calling the ListObjectsV2 operation: Access Denied"
SLOW_DOWN = "An error occurred (SlowDown) when calling the ListObjectsV2 operation: Please reduce your request rate."
NOT_FOUND = "An error occurred (404) when calling the HeadObject operation: Not Found"
HEAD = "head-object"
HEAD_DENIED = "An error occurred (403) when calling the HeadObject operation: Forbidden"


# PassResult


class Bytes:
    """What the file's bytes say: its CRC32s, and its ETags with parts of other sizes."""

    def __init__(self, *etags: str, readable: bool = True) -> None:
        self._etags = etags
        self._readable = readable

    def checksum(self, _file: LocalFile, name: str) -> Sums:
        assert self._readable, "the bytes are not read again without need"
        return Sums(CRC, COMPOSED) if name == "crc32" else Sums(f"{name}==", f"{name}==-2")

    def match_other_part_size(self, _file: LocalFile, etag: str) -> str | None:
        return etag if etag in self._etags else None


@pytest.mark.parametrize(
    ("seen", "expected", "verdict"),
    [
        (Absent(), MD5, "not in S3"),
        (Absent(listed=True), None, "not in S3"),
        (Unknown("Forbidden"), MD5, "could not be read back from S3: Forbidden"),
        (Unknown("Forbidden", listed=True), None, "could not be read back from S3: Forbidden"),
        (RemoteObject(4, MD5), MD5, "S3 has 4 bytes, the disk 5"),
        (RemoteObject(12_345, OTHER), None, "S3 has 12,345 bytes, the disk 5"),
        (RemoteObject(0, MD5, CRC, opaque_etag=True), MD5, "S3 has 0 bytes, the disk 5"),
        (RemoteObject(5, MD5), MD5, "etag"),
        (RemoteObject(5, f"{MD5}-2"), f"{MD5}-2", "etag"),
        (RemoteObject(5, MD5, CRC, opaque_etag=True, listed=True), MD5, "etag"),
        (RemoteObject(5, OTHER), MD5, f"S3 has other bytes: ETag {OTHER}, not {MD5}"),
        (RemoteObject(5, MD5.upper()), MD5, "etag"),
        (RemoteObject(5, f"{MD5}-2".upper()), f"{MD5}-2", "etag"),
        (RemoteObject(5, f"{MD5}-1"), MD5, f"S3 has other bytes: ETag {MD5}-1, not {MD5}"),
        (RemoteObject(5, ""), MD5, f"S3 has other bytes: ETag , not {MD5}"),
        (RemoteObject(5, OTHER, listed=True), MD5, f"S3 has other bytes: ETag {OTHER}, not {MD5}"),
        (RemoteObject(5, OTHER), None, "size"),
        (RemoteObject(5, OTHER, "wrong", opaque_etag=True), None, "size"),
        (RemoteObject(5, OTHER, opaque_etag=True), MD5, "size"),
    ],
)
def test_verdicts_that_need_no_checksum(seen: ObjectState, expected: str | None, verdict: str) -> None:
    proof = Proof.of(FILE, seen.etag, verdict) if isinstance(seen, RemoteObject) and " " not in verdict else verdict
    assert verify_object(FILE, seen, expected, Bytes(readable=False)) == proof


@pytest.mark.parametrize(
    ("crc32", "verdict"),
    [
        (CRC, "checksum"),
        (COMPOSED, "checksum"),
        ("CCCCCC==", "S3 has other bytes: its CRC32 is CCCCCC=="),
        ("AAAAAA==-2", "S3 has other bytes: its CRC32 is AAAAAA==-2"),
        ("AAAAAA==-3", "size"),  # of parts that somebody else cut: it says nothing
    ],
)
def test_verdicts_on_objects_encrypted_with_kms(crc32: str, verdict: str) -> None:
    proof = Proof.of(FILE, OTHER, verdict) if verdict in ("checksum", "size") else verdict
    assert verify_object(FILE, RemoteObject(5, OTHER, crc32, opaque_etag=True), MD5, Bytes()) == proof


@pytest.mark.parametrize("name", ["sha256", "sha1", "crc32c", "crc64nvme"])
def test_a_matching_checksum_is_proof_regardless_of_the_etag(name: str) -> None:
    for value in (f"{name}==", f"{name}==-2"):
        seen = RemoteObject(5, OTHER, sums=((name, value),))
        assert verify_object(FILE, seen, MD5, Bytes()) == Proof.of(FILE, OTHER, "checksum")
    wrong = RemoteObject(5, OTHER, sums=((name, "AAAA"),))
    assert verify_object(FILE, wrong, MD5, Bytes()) == f"S3 has other bytes: its {name.upper()} is AAAA"
    assert verify_object(FILE, RemoteObject(5, OTHER, CRC), MD5, Bytes()) == Proof.of(FILE, OTHER, "checksum")


def test_where_etags_are_md5s_another_one_is_a_mismatch_regardless_of_the_checksum() -> None:
    seen = RemoteObject(5, OTHER, CRC)
    verdict = verify_object(FILE, seen, MD5, Bytes(readable=False), are_md5s=lambda kind: kind == "single")
    assert verdict == f"S3 has other bytes: ETag {OTHER}, not {MD5}"


def test_an_etag_of_parts_of_another_size_proves_the_file_too() -> None:
    seen = RemoteObject(5, f"{OTHER}-3")
    assert verify_object(FILE, seen, f"{MD5}-2", Bytes(f"{OTHER}-3")) == Proof.of(FILE, f"{OTHER}-3", "etag")
    assert isinstance(verify_object(FILE, seen, f"{MD5}-2", Bytes(f"{OTHER}-4")), str)


@pytest.mark.parametrize(
    ("seen", "expected", "settled"),
    [
        (RemoteObject(5, MD5, listed=True), MD5, True),
        (RemoteObject(5, MD5, listed=True), None, True),
        (RemoteObject(5, OTHER, listed=True), MD5, False),  # may be encrypted: head-object tells
        (RemoteObject(4, MD5, listed=True), MD5, False),
        (RemoteObject(4, MD5, listed=True), None, False),
        (Absent(listed=True), MD5, False),
        (Unknown("why", listed=True), MD5, False),
        (RemoteObject(5, MD5), MD5, True),
        (RemoteObject(5, OTHER), MD5, True),
        (RemoteObject(4, MD5), None, True),
        (Absent(), MD5, True),
        (Unknown("why"), None, True),
    ],
)
def test_which_answers_are_conclusive(seen: ObjectState, expected: str | None, settled: bool) -> None:
    assert is_conclusive(FILE, seen, expected) is settled


# A bucket behind a fake CLI

Argv = tuple[str, ...]


def option(argv: Sequence[str], name: str) -> str:
    """The value of `--name=value`, or an empty string."""
    return next((word.partition("=")[2] for word in argv if word.startswith(f"--{name}=")), "")


class FakeAws:
    """Answers listings and heads from a bucket in memory, unless `answer` says otherwise; records each argv."""

    def __init__(self, *keys: str, answer: Callable[[Argv], AwsResult | None] = lambda argv: None) -> None:
        self.keys = sorted(keys)
        self.answer = answer
        self.asked: list[Argv] = []

    def pause(self, seconds: float) -> None:
        """Nothing is waited for."""

    def run(self, argv: Sequence[str]) -> AwsResult:
        self.asked.append(tuple(argv))
        assert len(self.asked) < 100, "it never stops asking"
        return self.answer(tuple(argv)) or (self._list(argv) if argv[1] == "list-objects-v2" else self._head(argv))

    def _list(self, argv: Sequence[str]) -> AwsResult:
        prefix, after = option(argv, "prefix"), option(argv, "start-after")
        keys = [key for key in self.keys if key.startswith(prefix) and key > after][: int(option(argv, "max-items"))]
        return printed(argv, [[key, len(key), f'"{MD5}"'] for key in keys] or None)

    def _head(self, argv: Sequence[str]) -> AwsResult:
        key = option(argv, "key")
        return printed(argv, [len(key), f'"{MD5}"', None, None, None]) if key in self.keys else failed(argv, NOT_FOUND)

    @property
    def operations(self) -> list[str]:
        return [argv[1] for argv in self.asked]

    @property
    def ranges(self) -> list[tuple[str, int]]:
        """`start-after` and `max-items` of the listings."""
        listings = [argv for argv in self.asked if argv[1] == "list-objects-v2"]
        return [(option(argv, "start-after"), int(option(argv, "max-items"))) for argv in listings]


def printed(argv: Sequence[str], output: object) -> AwsResult:
    return AwsResult(tuple(argv), 0, json.dumps(output).encode(), ())


def failed(argv: Sequence[str], *errors: str) -> AwsResult:
    return AwsResult(tuple(argv), 254, b"", errors)


def failing(*errors: str, operation: str = "list-objects-v2") -> Callable[[Argv], AwsResult | None]:
    return lambda argv: failed(argv, *errors) if argv[1] == operation else None


def printing(raw: bytes) -> FakeAws:
    return FakeAws(answer=lambda argv: AwsResult(argv, 0, raw, ()))


def reader_of(aws: FakeAws, mode: Readback = "auto", expected: Sequence[str] = ()) -> ObjectReader:
    reader = ObjectReader(RemoteFolder(cast(AwsCli, aws), BucketRef("lab-runs"), "2026/RUN/"), mode, max_processes=2)
    reader.set_expected_paths(expected)
    return reader


def files_of(*paths: str) -> list[LocalFile]:
    return [LocalFile(path, len(key_of(path)), 1) for path in paths]


def key_of(path: str) -> str:
    return f"2026/RUN/{path}"


def there(path: str, *, listed: bool) -> RemoteObject:
    return RemoteObject(len(key_of(path)), MD5, listed=listed)


NAMES = [f"f{number:04}" for number in range(5000)]
ALL = tuple(key_of(name) for name in NAMES)


# How S3 is asked


@pytest.mark.parametrize(
    ("mode", "wanted", "operations"),
    [
        ("auto", NAMES[:1], ["list-objects-v2"]),  # a listing of one costs a little less than a head
        ("auto", NAMES[:2], ["list-objects-v2"]),
        ("auto", NAMES[:1000], ["list-objects-v2"]),
        ("auto", NAMES, ["list-objects-v2"]),
        ("auto", [NAMES[0], NAMES[4999]], ["list-objects-v2"]),  # 5,000 objects are listed in the time of one process
        ("head-object", NAMES[:3], ["head-object"] * 3),
        ("list-objects-v2", NAMES[:1], ["list-objects-v2"]),
        ("list-objects-v2", NAMES[7:9], ["list-objects-v2"]),
    ],
)
def test_the_cheaper_way_is_taken_unless_one_is_forced(
    mode: Readback, wanted: list[str], operations: list[str]
) -> None:
    aws = FakeAws(*ALL)
    seen = reader_of(aws, mode, NAMES).get_many(files_of(*wanted))
    assert aws.operations == operations
    assert seen == {name: there(name, listed="list-objects-v2" in operations) for name in wanted}


def test_two_files_with_the_whole_run_between_them_are_headed_one_by_one() -> None:
    names = [f"f{number:06}" for number in range(20_000)]
    aws = FakeAws(*(key_of(name) for name in names))
    reader = reader_of(aws, "auto", names)
    assert reader.get_many(files_of(names[0], names[-1])).keys() == {names[0], names[-1]}
    assert aws.operations == ["head-object"] * 2
    assert reader.cost(files_of(names[0])) < reader.cost(files_of(names[0], names[-1])) < reader.cost(files_of(*names))


@pytest.mark.parametrize(
    ("wanted", "start_after", "max_items"),
    [
        (NAMES[:10], "", 10),
        (NAMES[1:10], key_of(NAMES[0]), 9),
        (NAMES[2000:2500], key_of(NAMES[1999]), 500),
        (NAMES[4990:], key_of(NAMES[4989]), 10),
        ([NAMES[30], NAMES[10], NAMES[20]], key_of(NAMES[9]), 21),
    ],
)
def test_just_the_range_of_keys_is_listed(wanted: list[str], start_after: str, max_items: int) -> None:
    aws = FakeAws(*ALL)
    seen = reader_of(aws, "list-objects-v2", NAMES).get_many(files_of(*wanted))
    assert list(seen) == wanted, "no others"
    assert aws.ranges == [(start_after, max_items)]
    (argv,) = aws.asked
    assert (option(argv, "bucket"), option(argv, "prefix")) == ("lab-runs", "2026/RUN/")


@pytest.mark.parametrize("foreign", [1, 3, 10])
def test_a_listing_continues_past_objects_of_others(foreign: int) -> None:
    """Somebody else put objects between ours, so that a page ends before our last."""
    wanted = NAMES[10:13]
    between = [f"{NAMES[10]}-{number:03}" for number in range(foreign)]
    aws = FakeAws(*ALL, *map(key_of, between))
    seen = reader_of(aws, "list-objects-v2", NAMES).get_many(files_of(*wanted))
    assert seen == {name: there(name, listed=True) for name in wanted}
    first_page = sorted([*wanted, *between])[:3]
    assert aws.ranges == [(key_of(NAMES[9]), 3), (key_of(first_page[-1]), aws_argv.LIST_PAGE)]


@pytest.mark.parametrize("missing", [0, 1, 4])
def test_what_a_listing_passes_over_is_absent(missing: int) -> None:
    wanted = NAMES[10:15]
    aws = FakeAws(*(key for key in ALL if key != key_of(wanted[missing])))
    seen = reader_of(aws, "list-objects-v2", NAMES).get_many(files_of(*wanted))
    assert seen == {n: there(n, listed=True) for n in wanted} | {wanted[missing]: Absent(listed=True)}


def test_names_sort_as_keys_do_in_s3() -> None:
    """By their UTF-8 bytes: what is not in the Basic Multilingual Plane comes last."""
    names = ["Z", "a", "é", "\uffee", "\U0001f4a5"]
    aws = FakeAws(*map(key_of, names))
    assert sorted(names, key=str.encode) == names
    assert reader_of(aws, "list-objects-v2", names).get_many(files_of(*names[::-1])).keys() == set(names)
    assert aws.ranges == [("", 5)]


def test_all_of_a_run_is_listed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_argv, "LIST_PAGE", 2)
    names = ["a", "b", "c", "d", "e"]
    aws = FakeAws("2026/RUM/a", "2026/RUN", "2026/RUN2/a", *map(key_of, names), "z")
    assert reader_of(aws).list_run() == {name: there(name, listed=True) for name in names}
    assert aws.ranges == [("", 2), (key_of("b"), 2), (key_of("d"), 2)]


def test_a_last_page_that_is_full_has_an_empty_one_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_argv, "LIST_PAGE", 2)
    aws = FakeAws(*map(key_of, "abcd"))
    assert reader_of(aws).list_run() == {name: there(name, listed=True) for name in "abcd"}
    assert len(aws.asked) == 3


def test_a_range_is_listed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_argv, "LIST_PAGE", 100)
    aws = FakeAws(*ALL)
    assert len(reader_of(aws, "list-objects-v2", NAMES).get_many(files_of(*NAMES[:250]))) == 250
    assert aws.ranges == [("", 100), (key_of(NAMES[99]), 100), (key_of(NAMES[199]), 100)]


def test_an_empty_bucket_holds_nothing() -> None:
    assert reader_of(FakeAws()).list_run() == {}
    assert reader_of(FakeAws(), "list-objects-v2", ["a"]).get_many(files_of("a")) == {"a": Absent(listed=True)}


def test_a_server_that_ignores_start_after_does_not_keep_it_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some that call themselves compatible do; they give the same page again and again."""
    monkeypatch.setattr(aws_argv, "LIST_PAGE", 2)
    rows = [[key_of(name), 1, MD5] for name in "ab"]
    said: list[str] = []
    aws = FakeAws(answer=lambda argv: printed(argv, rows))
    remote = RemoteFolder(cast(AwsCli, aws), BucketRef("lab-runs"), "2026/RUN/")
    reader = ObjectReader(remote, "auto", 2, show=said.append)
    assert reader.list_run() is None, "as if it could not be listed"
    [warning] = said
    assert "it ignores start-after" in warning


# A closer look


def test_only_a_few_files_are_headed() -> None:
    aws = FakeAws(*ALL)
    seen = reader_of(aws, "auto", NAMES).head_unsettled(files_of(*NAMES[:10]))
    assert aws.operations == ["head-object"] * 4
    assert seen == {name: there(name, listed=False) for name in NAMES[:4]}


@pytest.mark.parametrize("encrypted", [0, 3])
def test_all_files_are_headed_where_etags_are_not_md5s(encrypted: int) -> None:
    def answer(argv: Argv) -> AwsResult | None:
        return printed(argv, [1, OTHER, "aws:kms", None, CRC]) if option(argv, "key") == ALL[encrypted] else None

    aws = FakeAws(*ALL, answer=answer)
    seen = reader_of(aws, "auto", NAMES).head_unsettled(files_of(*NAMES[:10]))
    assert aws.operations == ["head-object"] * 10
    assert list(seen) == NAMES[:10]


# What may not be seen, or cannot


def test_without_permission_to_list_it_is_not_tried_again() -> None:
    aws = FakeAws(*ALL, answer=failing(DENIED))
    reader = reader_of(aws, "auto", NAMES)
    assert reader.list_run() is None
    assert reader.get_many(files_of(*NAMES[:3])) == {name: there(name, listed=False) for name in NAMES[:3]}
    assert aws.operations == ["list-objects-v2"] + ["head-object"] * 3
    assert reader.cost(files_of(*NAMES[:3])) == 3 * reader.cost(files_of(NAMES[0]))


@pytest.mark.parametrize("mode", ["auto", "list-objects-v2"])
def test_permission_to_list_may_end_in_between(mode: Readback) -> None:
    aws = FakeAws(*ALL, answer=failing(DENIED))
    reader = reader_of(aws, mode, NAMES)
    assert reader.get_many(files_of(*NAMES[:3])) == {name: there(name, listed=False) for name in NAMES[:3]}
    reader.get_many(files_of(*NAMES[:3]))
    assert aws.operations == ["list-objects-v2"] + ["head-object"] * 6


def test_a_listing_that_fails_leaves_it_unknown() -> None:
    aws = FakeAws(*ALL, answer=failing(SLOW_DOWN))
    seen = reader_of(aws, "auto", NAMES).get_many(files_of(*NAMES[:3]))
    assert seen == dict.fromkeys(NAMES[:3], Unknown(SLOW_DOWN, listed=True))
    assert aws.operations == ["list-objects-v2"]


def test_a_second_page_that_fails_leaves_all_of_it_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_argv, "LIST_PAGE", 2)
    aws = FakeAws(*ALL, answer=lambda argv: failed(argv, SLOW_DOWN) if option(argv, "start-after") else None)
    seen = reader_of(aws, "list-objects-v2", NAMES).get_many(files_of(*NAMES[:3]))
    assert set(seen.values()) == {Unknown(SLOW_DOWN, listed=True)}


def test_a_killed_listing_proves_nothing_regardless_of_its_exit_code() -> None:
    ended = AwsResult((), 0, b"", (), killed_reason="moved no bytes for 10 min")
    aws = FakeAws(*ALL, answer=lambda argv: ended if argv[1] == "list-objects-v2" else None)
    unknown = Unknown("aws moved no bytes for 10 min, so it was terminated", listed=True)
    assert reader_of(aws, "auto", NAMES).get_many(files_of(*NAMES[:3])) == dict.fromkeys(NAMES[:3], unknown)
    with raises_error(AwsError, "aws.command-failed", "moved no bytes for 10 min"):
        reader_of(aws).list_run()


def test_a_killed_head_proves_nothing_regardless_of_its_exit_code() -> None:
    ended = AwsResult((), 0, b'[7, "e", null, null, null]', (), killed_reason="was interrupted")
    [seen] = reader_of(FakeAws(answer=lambda argv: ended), "head-object").get_many(files_of("a")).values()
    assert seen == Unknown("aws was interrupted, so it was terminated")


@pytest.mark.parametrize("status", ["(400)", "(403)"])
def test_a_refused_head_is_explained_by_a_listing(status: str) -> None:
    """Only its answer has a body, and so the reason; asked once for many files."""
    refused = f"An error occurred {status} when calling the HeadObject operation: -"
    expired = "An error occurred (ExpiredToken) when calling the ListObjectsV2 operation: expired"
    aws = FakeAws(answer=lambda argv: failed(argv, expired if argv[1] == "list-objects-v2" else refused))
    with raises_error(AwsError, "aws.expired-credentials"):
        reader_of(aws, "head-object").get_many(files_of("a", "b", "c"))
    assert sorted(aws.operations) == ["head-object"] * 3 + ["list-objects-v2"]


@pytest.mark.parametrize("listing", [None, DENIED, SLOW_DOWN])
def test_a_refused_head_that_a_listing_does_not_explain_stays_unknown(listing: str | None) -> None:
    def answer(argv: Argv) -> AwsResult | None:
        said = HEAD_DENIED if argv[1] == "head-object" else listing
        return failed(argv, said) if said else None

    seen = reader_of(FakeAws(answer=answer), "head-object").get_many(files_of("a"))
    assert seen == {"a": Unknown(HEAD_DENIED)}


def test_a_head_that_fails_otherwise_needs_no_listing() -> None:
    aws = FakeAws(answer=failing("An error occurred (503) when calling the HeadObject operation: -", operation=HEAD))
    reader_of(aws, "head-object").get_many(files_of("a", "b"))
    assert aws.operations == [HEAD] * 2


@pytest.mark.parametrize(
    ("error", "error_id"),
    [
        ("Unable to locate credentials. You can configure credentials by running ...", "aws.no-credentials"),
        (
            "An error occurred (ExpiredToken) when calling the ListObjectsV2 operation: expired",
            "aws.expired-credentials",
        ),
        ("An error occurred (NoSuchBucket) when calling the ListObjectsV2 operation: -", "s3.no-bucket"),
        (
            "aws: [ERROR]: An error occurred (InvalidAccessKeyId) when calling the ListObjectsV2 operation: -",
            "aws.wrong-credentials",
        ),
    ],
)
def test_permanent_causes_are_errors(error: str, error_id: str) -> None:
    for ask in (ObjectReader.list_run, lambda reader: reader.get_many(files_of(*NAMES[:3]))):
        with raises_error(AwsError, error_id, " s3://lab-runs") as caught:
            ask(reader_of(FakeAws(answer=failing(error)), "auto", NAMES))
        assert str(caught.value).endswith(f"aws said: {error.removeprefix('aws: [ERROR]: ')}")


@pytest.mark.parametrize(
    ("error", "error_id", "fact"),
    [
        (SLOW_DOWN, "s3.throttled", "--cores or --threads"),
        ('Could not connect to the endpoint URL: "http://x/"', "s3.unreachable", "AWS_ENDPOINT_URL"),
    ],
)
def test_the_first_request_to_s3_must_succeed(error: str, error_id: str, fact: str) -> None:
    with raises_error(AwsError, error_id, " s3://lab-runs ", fact):
        reader_of(FakeAws(answer=failing(error))).list_run()


@pytest.mark.parametrize(
    ("ended", "seen"),
    [
        (AwsResult((), 254, b"", (NOT_FOUND,)), Absent()),
        (AwsResult((), 255, b"", ("", "An error occurred (NoSuchKey) when calling ...: -")), Absent()),
        (AwsResult((), 254, b"", (f"aws: [ERROR]: {NOT_FOUND}",)), Absent()),
        (AwsResult((), 254, b"", (HEAD_DENIED,)), Unknown(HEAD_DENIED)),
        (AwsResult((), 254, b"", (f"aws: [ERROR]: {HEAD_DENIED}",)), Unknown(HEAD_DENIED)),
        (AwsResult((), 254, b"", ("An error occurred (400) when calling the HeadObject operation: Bad Request",)), ...),
        (AwsResult((), -9, b"", ()), Unknown("aws was terminated by SIGKILL")),
        (AwsResult((), 1, b'[1, "e", null, null, null]', ()), ...),
        (AwsResult((), 0, b'[7, "\\"e\\"", null, null, null]', ()), RemoteObject(7, "e")),
        (AwsResult((), 0, b'[7, "e-2", "AES256", null, "AAAA"]', ("a warning",)), RemoteObject(7, "e-2", "AAAA")),
        (
            AwsResult((), 0, b'[7, "e", "aws:kms", null, "AAAA-2"]', ()),
            RemoteObject(7, "e", "AAAA-2", opaque_etag=True),
        ),
        (AwsResult((), 0, rb'[7, "\u001b[31m\n", "", null, "\ud800"]', ()), RemoteObject(7, r"\x1b[31m\n", r"\ud800")),
        (AwsResult((), 0, b'[7, "' + b"x" * 5000 + b'", "", null, null]', ()), RemoteObject(7, "x" * 100)),
        (AwsResult((), 0, b'[7, "e", "aws:kms:dsse", null, null]', ()), RemoteObject(7, "e", opaque_etag=True)),
        (AwsResult((), 0, b'[7, "e", null, "AES256", null]', ()), RemoteObject(7, "e", opaque_etag=True)),
        (AwsResult((), 0, b"", ()), ...),
        (AwsResult((), 0, b"null", ()), ...),
        (AwsResult((), 0, b"no JSON", ()), ...),
        (AwsResult((), 0, b"{}", ()), ...),
        (AwsResult((), 0, b"[]", ()), ...),
        (AwsResult((), 0, b"7", ()), ...),
        (AwsResult((), 0, b'[null, "e", null, null, null]', ()), ...),
        (AwsResult((), 0, b'["x", "e", null, null, null]', ()), ...),
        (
            AwsResult((), 0, b'[7, null, null, null, null, "1970-01-01T00:01:40+00:00"]', ()),
            RemoteObject(7, "", modified=100),
        ),
        (AwsResult((), 0, b'[7, "e", null, null]', ()), ...),
        (AwsResult((), 0, b'[NaN, "e", null, null, null]', ()), ...),
        (AwsResult((), 0, b'[1e999, "e", null, null, null]', ()), ...),
        (AwsResult((), 0, b"[" * 100_000, ()), ...),
        (AwsResult((), 0, b"\xff\xfe", ()), ...),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_head_object_says(ended: AwsResult, seen: Any) -> None:
    """Neither present nor absent where it does not say clearly (...)."""
    found = reader_of(FakeAws(answer=lambda argv: ended), "head-object").get_many(files_of("a"))["a"]
    if seen is ...:
        assert isinstance(found, Unknown)
        assert found.reason
    else:
        assert found == seen


def test_an_object_needs_an_etag_and_a_time() -> None:
    page = AwsResult((), 0, b"[7, null, null, null, null, null]", ())
    with raises_error(AwsError, "s3.unreachable"):
        reader_of(FakeAws(answer=lambda argv: page), "head-object").get_many(files_of("a"))


@pytest.mark.parametrize(
    "raw",
    [
        *(
            b"no JSON",
            b"{",
            b"7",
            b"true",
            b'"text"',
            b'{"a": 1}',
            b"[1]",
            b"[[]]",
            b'[["k", 1]]',
            b'[["k", 1, "e", 2]]',
        ),
        *(b'[["k", null, "e"]]', b'[["k", "x", "e"]]', b'[["k", 1, 7]]', b'[["k", [1], "e"]]', b"[null]"),
        *(b'[["k", NaN, "e"]]', b'[["k", 1e999, "e"]]', b'[[1, 1, "e"]]', b'[[null, 1, "e"]]', b'[[["k"], 1, "e"]]'),
        *(b"[" * 100_000, b"\xff\xfe", b"9" * 5000),
    ],
    ids=lambda raw: repr(raw[:30]),
)
def test_a_listing_that_makes_no_sense_is_an_error(raw: bytes) -> None:
    for ask in (ObjectReader.list_run, lambda reader: reader.get_many(files_of(*NAMES[:3]))):
        with pytest.raises(AwsError) as caught:
            ask(reader_of(printing(raw), "list-objects-v2", NAMES))
        assert caught.value.id in ("aws.bad-output", "aws.bad-listing")
        assert "aws s3api list-objects-v2 " in str(caught.value)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("raw", [b"", b"\n", b"null", b"[]"])
def test_a_listing_of_nothing_is_empty(raw: bytes) -> None:
    """With nothing to show, version 2 prints `null` and version 1 nothing."""
    assert reader_of(printing(raw)).list_run() == {}


def test_etags_of_a_listing_are_kept_printable() -> None:
    """It goes into logs, reasons and manifests."""
    aws = printing(rb'[["2026/RUN/a", 7, "\u001b[31m\ud800"]]')
    assert reader_of(aws).list_run() == {"a": RemoteObject(7, r"\x1b[31m\ud800", listed=True)}


def test_no_way_of_asking_calls_a_missing_object_present() -> None:
    """Both ways, with and without each of three objects."""
    names = ["a", "b", "c"]
    for present in itertools.chain.from_iterable(itertools.combinations(names, n) for n in range(4)):
        for mode in MODES:
            seen = reader_of(FakeAws(*map(key_of, present)), mode, names).get_many(files_of(*names))
            assert {name for name, each in seen.items() if isinstance(each, RemoteObject)} == set(present)
            assert {name for name, each in seen.items() if isinstance(each, Absent)} == set(names) - set(present)


# What this call has sent


@pytest.mark.parametrize(
    ("now", "is_new"),
    [
        (RemoteObject(5, OTHER, modified=100), True),
        (RemoteObject(6, MD5, modified=100), True),
        (RemoteObject(5, MD5, modified=101), True),
        (RemoteObject(5, MD5, modified=100), False),
        (RemoteObject(5, MD5, modified=0), False),
    ],
)
def test_an_unchanged_object_was_not_sent_by_this_call(now: RemoteObject, is_new: bool) -> None:
    def answer(argv: Argv) -> AwsResult | None:
        return printed(argv, [[key_of("a"), 5, f'"{MD5}"', "1970-01-01T00:01:40+00:00"]])

    reader = reader_of(FakeAws(answer=answer))
    assert reader.list_run() == {"a": RemoteObject(5, MD5, listed=True, modified=100)}
    assert reader.is_new("a", now) is is_new
    assert reader.is_new("b", now)


def test_a_listing_with_another_size_than_the_object_is_not_believed_any_more() -> None:
    aws = FakeAws(*ALL)
    reader = reader_of(aws, "auto", NAMES)
    wanted = files_of(*NAMES[:10])
    listed = {file.path: RemoteObject(1, MD5, listed=True) for file in wanted}
    seen = reader.head_unsettled(wanted, listed)
    assert seen == {name: there(name, listed=False) for name in NAMES[:10]}
    assert "cannot be listed reliably" in reader.why_unlisted
