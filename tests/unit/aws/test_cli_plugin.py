"""The plugin in the CLI: its requests are what the CLI's own botocore would have sent, or it does not send them."""

from __future__ import annotations

import binascii
import hashlib
import io
import json
import os
import sys
import zlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from awscli.botocore import httpchecksum  # type: ignore[import-untyped]
from awscli.botocore.awsrequest import AWSResponse  # type: ignore[import-untyped]
from awscli.botocore.config import Config  # type: ignore[import-untyped]
from awscli.botocore.session import Session  # type: ignore[import-untyped]
from awscli.s3transfer.bandwidth import BandwidthLimitedStream  # type: ignore[import-untyped]
from awscli.s3transfer.utils import ReadFileChunk  # type: ignore[import-untyped]

from s3sync.aws import cli_plugin
from s3sync.aws.cli_plugin import RECEIPTS_VARIABLE, Client, Digest, FastPath, Receipts, Template, UncertainError
from tests.helpers.hostile_names import HOSTILE_NAMES

MIB = 1024 * 1024
KEYS = ["RUN/a.txt", *HOSTILE_NAMES, "a//b", "/lead", "a/../b", "a+ %&=~?#", "x" * 1024]
OK = b'HTTP/1.1 200 OK\r\nETag: "abc"\r\nx-amz-checksum-crc32: AAAAAA==\r\nContent-Length: 0\r\n\r\n'


SESSION = Session()


class Raw(io.BytesIO):
    """An answer that botocore can read."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


class S3:
    """A client of the CLI's botocore whose requests go nowhere."""

    def __init__(
        self,
        endpoint: str | None = "http://127.0.0.1:9000",
        region: str = "eu-west-2",
        token: str | None = None,
        **config: Any,
    ) -> None:
        self.client = SESSION.create_client(
            "s3",
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret/example+key",
            aws_session_token=token,
            config=Config(**config),
        )
        self.requests: list[Any] = []
        self.client.meta.events.register("before-send.s3", self._answer)

    def _answer(self, request: Any, **_more: Any) -> Any:
        self.requests.append(request)
        return AWSResponse(request.url, 200, {"ETag": '"abc"'}, Raw())

    def put(self, **params: Any) -> Any:
        """Return the request of a `put_object`."""
        self.client.put_object(**params)
        return self.requests[-1]

    @property
    def keys(self) -> Any:
        return self.client._request_signer._credentials.get_frozen_credentials()


class Socket:
    """A connection that records what is sent, and answers always the same."""

    def __init__(self, answer: bytes = OK) -> None:
        self.sent = b""
        self.answer = answer
        self.is_closed = False

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def recv(self, size: int) -> bytes:
        part, self.answer = self.answer[:size], self.answer[size:]
        return part


class Connection(cli_plugin.Connection):
    """A connection to that socket."""

    def __init__(self, fake: Socket) -> None:
        self._socket: Any = fake
        self.send: Any = fake.sendall
        self.stale = False

    def is_stale(self) -> bool:
        return self.stale

    def close(self) -> None:
        self._socket.is_closed = True


def body_of(data: bytes, path: Path, progress: list[int] | None = None) -> Any:
    """A body as s3transfer makes it."""
    path.write_bytes(data)
    callbacks = [lambda bytes_transferred: progress.append(bytes_transferred)] if progress is not None else []
    return ReadFileChunk.from_filename(str(path), 0, len(data), callbacks, enable_callbacks=False)


def fast_path(s3: S3, tmp_path: Path, answer: bytes = OK, **params: Any) -> tuple[FastPath, Socket]:
    """A fast path that has learned from one file, and the socket that it sends to."""
    receipts = Receipts({})
    fast = FastPath(s3.client, receipts)
    with body_of(b"first", tmp_path / "first") as body:
        first = {"Bucket": "lab-runs", "Key": "first.txt", "Body": body, "ContentType": "text/plain", **params}
        s3.put(**first)
        fast.learn(first)
    assert fast.is_on
    fake = Socket(answer)
    fast._local.connection = Connection(fake)
    return fast, fake


def split(sent: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = sent.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


CONFIGS = {
    "http, path": ({}, {}),
    "token": ({"token": "session/token=="}, {}),
    "virtual host": ({"endpoint": None}, {}),
    "path at AWS": ({"endpoint": None, "s3": {"addressing_style": "path"}}, {}),
    "dual stack": ({"endpoint": None, "use_dualstack_endpoint": True}, {}),
    "FIPS": ({"endpoint": None, "region": "us-east-2", "use_fips_endpoint": True}, {}),
    "accelerated": ({"endpoint": None, "s3": {"use_accelerate_endpoint": True}}, {}),
    "access point": ({"endpoint": None}, {"Bucket": "arn:aws:s3:eu-west-2:123456789012:accesspoint/lab"}),
    "a path in the endpoint": ({"endpoint": "https://s3.example.org:9000/gateway"}, {}),
    "default port": ({"endpoint": "https://s3.example.org:443"}, {}),
    "IPv6": ({"endpoint": "http://[::1]:9000"}, {}),
    "few checksums": ({"request_checksum_calculation": "when_required"}, {}),
    "few checksums over TLS": ({"endpoint": None, "request_checksum_calculation": "when_required"}, {}),
    "signed payload": ({"endpoint": None, "s3": {"payload_signing_enabled": True}}, {}),
    "KMS": ({}, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:eu-west-2:1:key/2"}),
    "all options": (
        {},
        {
            "ACL": "bucket-owner-full-control",
            "ExpectedBucketOwner": "123456789012",
            "StorageClass": "DEEP_ARCHIVE",
            "ServerSideEncryption": "AES256",
            "Metadata": {"lab": "a  b"},
            "Tagging": "run=1",
            "CacheControl": "no-cache",
            "RequestPayer": "requester",
        },
    ),
    "SHA-256": ({}, {"ChecksumAlgorithm": "SHA256"}),
    "SHA-1 over TLS": ({"endpoint": None}, {"ChecksumAlgorithm": "SHA1"}),
}


@pytest.mark.parametrize(("config", "params"), CONFIGS.values(), ids=CONFIGS)
def test_copies_of_the_first_request_are_the_requests_of_the_cli(
    config: dict[str, Any], params: dict[str, Any], tmp_path: Path
) -> None:
    s3 = S3(**config)
    usual = {"Bucket": "lab-runs", **params}
    with body_of(b"first", tmp_path / "first") as body:
        first = {**usual, "Key": "first.txt", "ContentType": "text/plain", "Body": body}
        template = Template(s3.put(**first), first)
    for number, key in enumerate(KEYS):
        data = b"x" * number
        with body_of(data, tmp_path / "file") as body:
            guess = {"ContentType": "application/octet-stream"} if number % 2 else {}
            other = {**usual, "Key": key, "Body": body, **guess}
            template.rehearse(s3.put(**other), other, s3.keys)
            sent = cli_plugin._headers_of(s3.requests[-1])
            checksum, payload = cli_plugin._digests_of(template, data)
            assert payload == sent["x-amz-content-sha256"]
            assert template.has_trailer or sent.get(template.checksum, "") == checksum


@pytest.mark.parametrize(
    ("config", "params", "reason"),
    [
        ({"endpoint": None}, {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}, "customer"),
        ({}, {"IfNoneMatch": "*"}, "if-none-match"),
        ({}, {"ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg==", "ChecksumCRC32": "AAAAAA=="}, "checksum"),
    ],
)
def test_a_request_that_is_not_the_same_for_all_files_is_not_a_template(
    config: dict[str, Any], params: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    s3 = S3(**config)
    with body_of(b"", tmp_path / "first") as body:
        first = {"Bucket": "lab-runs", "Key": "k", "Body": body, **params}
        request = s3.put(**first)
        with pytest.raises(UncertainError, match=reason):
            Template(request, first)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Authorization", b"AWS AKIDEXAMPLE:signature"),
        (
            "Authorization",
            b"AWS4-ECDSA-P256-SHA256 Credential=A/20261128/s3/aws4_request, SignedHeaders=host, Signature=1",
        ),
        (
            "Authorization",
            b"AWS4-HMAC-SHA256 Credential=A/20261128/r/s3express/aws4_request, SignedHeaders=host, Signature=",
        ),
        ("x-amz-s3session-token", b"token"),
        ("X-Amz-Content-SHA256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("X-Another", b"1"),
        ("x-amz-tagging", "run=é".encode()),
        ("x-amz-checksum-xxhash64", b"AAAAAAAAAAA="),
    ],
)
def test_a_request_of_another_kind_is_not_a_template(header: str, value: bytes, tmp_path: Path) -> None:
    s3 = S3()
    with body_of(b"", tmp_path / "first") as body:
        first = {"Bucket": "lab-runs", "Key": "k", "Body": body}
        request = s3.put(**first)
        Template(request, first)
        request.headers[header] = value
        with pytest.raises(UncertainError):
            Template(request, first)


def test_without_credentials_or_with_a_proxy_there_is_no_fast_path() -> None:
    with pytest.raises(UncertainError, match="proxy"):
        FastPath(S3(proxies={"http": "http://user:secret@proxy:3128"}).client, Receipts({}))
    s3 = S3()
    s3.client._request_signer._credentials = None
    with pytest.raises(UncertainError, match="not signed"):
        FastPath(s3.client, Receipts({}))


class User:
    """A session of the CLI, with the user's config."""

    def __init__(self, version: str, plugins: dict[str, str], **config: str) -> None:
        self.version = version
        self.full_config = {"plugins": plugins}
        self.config = config

    def user_agent(self) -> str:
        return f"{self.version} md/Botocore#1.43.62"

    def get_scoped_config(self) -> dict[str, str]:
        return self.config


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (User("aws-cli/1.46.3", {"s3sync_cli_plugin": "s3sync_cli_plugin", "__builtin__": "awscli.handlers"}), ""),
        (User("aws-cli/2.36.7", {}), ""),
        (User("aws-cli/3.0.0", {}), "unknown version of the AWS CLI"),
        (User("aws-cli/1.46.3", {"endpoint": "awscli_plugin_endpoint"}), "the AWS CLI has another plugin: endpoint"),
        (User("aws-cli/1.46.3", {}, cli_history="enabled"), "the AWS CLI records its requests (cli_history)"),
        (object(), "unknown version of the AWS CLI (AttributeError: 'object' object has no attribute 'user_agent')"),
    ],
)
def test_hello_says_why_there_is_no_fast_path(user: Any, reason: str) -> None:
    reader, writer = os.pipe()
    client = cli_plugin._make_client(user, S3().client, Receipts({RECEIPTS_VARIABLE: str(writer)}))
    os.close(writer)
    with os.fdopen(reader, encoding="ascii") as stream:
        hello = json.loads(stream.read())
    assert (hello["event"], hello["fast"], hello["reason"]) == ("hello", not reason, reason)
    assert (client._fast is None) == bool(reason)


def test_a_client_of_another_make_is_left_alone() -> None:
    """Its next version may keep its HTTP session somewhere else."""
    with pytest.raises(AttributeError):
        FastPath(Answers(), Receipts({}))
    client = cli_plugin._make_client(User("aws-cli/1.46.3", {}), Answers(), Receipts({}))
    assert client.put_object(Bucket="b", Key="k", Body=b"")["ETag"] == '"abc"'


class Bucket:
    """Takes what the bandwidth limiter of s3transfer lets through."""

    def __init__(self) -> None:
        self.taken = 0

    def consume(self, amount: int, _token: object) -> None:
        self.taken += amount


@pytest.mark.parametrize("size", [10, 300_000, 2 * MIB])
def test_the_bandwidth_limiter_counts_each_byte_once(size: int, tmp_path: Path) -> None:
    fast, _ = fast_path(S3(), tmp_path)
    (tmp_path / "file").write_bytes(b"x" * size)
    bucket = Bucket()
    limited = BandwidthLimitedStream((tmp_path / "file").open("rb"), bucket, Coordinator())
    limited.disable_bandwidth_limiting()
    with ReadFileChunk(limited, size, size, [], enable_callbacks=False) as body:
        assert fast.put({"Bucket": "lab-runs", "Key": "k", "Body": body}) is not None
    assert size <= bucket.taken <= size + 256 * 1024, "it counts what was asked for"


class Coordinator:
    """A transfer that was not cancelled."""

    exception = None


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000", "https://127.0.0.1:9000"])
@pytest.mark.parametrize("size", [0, 1, 10_000, MIB, MIB + 1, 8 * MIB - 1])
def test_what_is_sent_is_the_file(endpoint: str, size: int, tmp_path: Path) -> None:
    s3 = S3(endpoint)
    fast, fake = fast_path(s3, tmp_path)
    data, progress = os.urandom(size), list[int]()
    with body_of(data, tmp_path / "file", progress) as body:
        params = {"Bucket": "lab-runs", "Key": "a/ü.bin", "Body": body}
        answer = fast.put(params)
        assert answer is not None
        assert answer["etag"] == '"abc"'
    assert sum(progress) == size
    first, headers, sent = split(fake.sent)
    assert first == f"PUT /lab-runs/{quote('a/ü.bin')} HTTP/1.1"
    assert headers["host"] == "127.0.0.1:9000"
    assert "expect" not in headers
    crc = b64encode(zlib.crc32(data).to_bytes(4, "big"))
    if endpoint.startswith("https"):
        assert headers["x-amz-decoded-content-length"] == str(size)
        inner = unchunk(sent)
        content = unchunk(inner, trailer=b"x-amz-checksum-crc32:" + crc + b"\r\n\r\n")
        assert content == data
    else:
        assert headers["content-length"] == str(size)
        assert headers["x-amz-content-sha256"] == hashlib.sha256(data).hexdigest()
        assert headers["x-amz-checksum-crc32"] == crc.decode()
        assert sent == data


def unchunk(text: bytes, trailer: bytes = b"\r\n") -> bytes:
    """Decode chunks; they have to end with this trailer."""
    content = b""
    while True:
        length, _, text = text.partition(b"\r\n")
        size = int(length, 16)
        if not size:
            assert text == trailer
            return content
        content += text[:size]
        assert text[size : size + 2] == b"\r\n"
        text = text[size + 2 :]


ANSWERS = {
    "an error": b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n",
    "a redirect": b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n",
    "no ETag": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b'HTTP/1.0 200 OK\r\nETag: "abc"\r\n\r\n',
    "half an answer": OK[:-2],
    "no answer": b"",
    "no end of headers": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
    "another protocol altogether": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_file_with_another_answer_is_left_to_the_cli_as_it_was(answer: bytes, tmp_path: Path) -> None:
    s3 = S3()
    fast, fake = fast_path(s3, tmp_path, answer)
    progress = list[int]()
    with body_of(b"abc", tmp_path / "file", progress) as body:
        assert fast.put({"Bucket": "lab-runs", "Key": "k", "Body": body}) is None
        assert fake.is_closed
        assert (body.tell(), sum(progress)) == (0, 0)
        assert s3.put(Bucket="lab-runs", Key="k", Body=body).body.read() == b"abc"
    assert fast.is_on, "one failure is none of all files"


@pytest.mark.parametrize("size", [10, 2 * MIB])
def test_a_file_that_became_shorter_is_left_to_the_cli(size: int, tmp_path: Path) -> None:
    fast, fake = fast_path(S3(), tmp_path)
    with body_of(b"x" * size, tmp_path / "file") as body:
        os.truncate(tmp_path / "file", size - 1)
        assert fast.put({"Bucket": "lab-runs", "Key": "k", "Body": body}) is None
        assert fake.is_closed or not fake.sent


def test_after_many_failures_in_a_row_the_cli_sends_all(tmp_path: Path) -> None:
    fast, _ = fast_path(S3(), tmp_path)
    for number in range(cli_plugin._MAX_FAILURES):
        assert fast.is_on, number
        fast._local.connection = Connection(Socket(ANSWERS["an error"]))
        with body_of(b"abc", tmp_path / "file") as body:
            assert fast.put({"Bucket": "lab-runs", "Key": "k", "Body": body}) is None
    assert not fast.is_on


def test_a_connection_is_used_again_unless_the_answer_forbids_it(tmp_path: Path) -> None:
    for more, is_closed in ((b"", False), (b"Connection: close\r\n", True), (b"Transfer-Encoding: chunked\r\n", True)):
        fast, fake = fast_path(S3(), tmp_path, OK[:-2] + more + b"\r\n")
        with body_of(b"abc", tmp_path / "file") as body:
            assert fast.put({"Bucket": "lab-runs", "Key": "k", "Body": body}) is not None
        assert fake.is_closed == is_closed


@pytest.mark.parametrize("params", [{"StorageClass": "GLACIER"}, {"ContentType": "te\nxt"}, {"Bucket": "another"}])
def test_a_file_with_other_parameters_is_left_to_the_cli(params: dict[str, str], tmp_path: Path) -> None:
    fast, fake = fast_path(S3(), tmp_path)
    with body_of(b"abc", tmp_path / "file") as body:
        assert fast.put({"Bucket": "lab-runs", "Key": "k", "Body": body, **params}) is None
    assert not fake.sent


def test_other_credentials_sign_the_next_request(tmp_path: Path) -> None:
    s3 = S3()
    fast, fake = fast_path(s3, tmp_path)
    other = S3(token="new token")
    s3.client._request_signer._credentials = other.client._request_signer._credentials
    with body_of(b"abc", tmp_path / "file") as body:
        assert fast.put({"Bucket": "lab-runs", "Key": "k", "Body": body}) is not None
    _, headers, _ = split(fake.sent)
    assert headers["x-amz-security-token"] == "new token"
    assert "x-amz-security-token" in headers["authorization"]


def test_a_cli_that_sends_something_else_is_left_alone(tmp_path: Path) -> None:
    """Its next version may add a header, or sign otherwise."""
    s3 = S3()
    fast, _ = fast_path(s3, tmp_path)
    s3.client.meta.events.register(
        "before-sign.s3", lambda request, **_: request.headers.add_header("x-amz-meta-n", "1")
    )
    with body_of(b"abc", tmp_path / "file") as body:
        params = {"Bucket": "lab-runs", "Key": "k", "Body": body, "ContentType": "text/plain"}
        s3.put(**params)
        fast.learn(params)
    assert not fast.is_on


def test_a_file_that_changed_is_no_reason_to_give_up(tmp_path: Path) -> None:
    s3 = S3()
    fast = FastPath(s3.client, Receipts({}))
    with body_of(b"abc", tmp_path / "file") as body:
        params = {"Bucket": "lab-runs", "Key": "k", "Body": body}
        s3.put(**params)
        (tmp_path / "file").write_bytes(b"xyz")
        fast.learn(params)
    assert (fast.is_on, fast._template) == (True, None)


def test_the_cli_computes_checksums_of_parts_with_the_same_function_as_the_fast_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(httpchecksum, "crc32", binascii.crc32)
    cli_plugin._use_fast_crc32()
    isal_zlib = pytest.importorskip("isal.isal_zlib")
    assert httpchecksum.crc32 is isal_zlib.crc32
    assert cli_plugin._crc_function("crc32") is isal_zlib.crc32
    checksum = httpchecksum.Crc32Checksum()
    for block in (b"ab", b"", b"c"):
        checksum.update(block)
    assert checksum.digest() == zlib.crc32(b"abc").to_bytes(4, "big")


@pytest.mark.parametrize("module", [None, SimpleNamespace(crc32=lambda _data, _value: 1)])
def test_without_a_package_that_computes_it_right_the_checksum_is_that_of_zlib(
    module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpchecksum, "crc32", binascii.crc32)
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", module)
    cli_plugin._use_fast_crc32()
    assert httpchecksum.crc32 is binascii.crc32
    assert cli_plugin._crc_function("crc32") is zlib.crc32


def test_an_unusual_function_of_the_cli_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpchecksum, "crc32", other := lambda _data, _value: 1)
    cli_plugin._use_fast_crc32()
    assert httpchecksum.crc32 is other


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "crc32"])
def test_checksums(name: str) -> None:
    digest = Digest("content-md5" if name == "md5" else f"x-amz-checksum-{name}")
    digest.update(b"ab")
    digest.update(b"c")
    expected = zlib.crc32(b"abc").to_bytes(4, "big") if name == "crc32" else hashlib.new(name, b"abc").digest()
    assert digest.text() == b64encode(expected).decode()


# Receipts


class Answers:
    """An S3 client that answers."""

    def put_object(self, **_params: Any) -> dict[str, str]:
        return {"ETag": '"abc"', "ChecksumCRC32": "AAAAAA==", "ChecksumType": "FULL_OBJECT"}

    def upload_part(self, **_params: Any) -> dict[str, str]:
        return {"ETag": '"part"'}

    def complete_multipart_upload(self, **_params: Any) -> dict[str, str]:
        return {"ETag": '"abc-2"', "ChecksumCRC64NVME": "AAAAAAAAAAA="}


def test_receipts_are_lines_of_ascii() -> None:
    reader, writer = os.pipe()
    client = Client(Answers(), Receipts({RECEIPTS_VARIABLE: str(writer)}), None)
    client.put_object(Bucket="b", Key="a\n\udcff日", Body=b"abc")
    client.upload_part(Bucket="b", Key="k", Body=b"12345", PartNumber=1, UploadId="u")
    client.complete_multipart_upload(Bucket="b", Key="k", UploadId="u")
    os.close(writer)
    with os.fdopen(reader, encoding="ascii") as stream:
        lines = [json.loads(line) for line in stream]
    assert 0 <= lines[0].pop("seconds") < 60
    assert lines == [
        {
            "event": "put",
            "key": "a\n\udcff日",
            "size": 3,
            "etag": "abc",
            "checksums": {"crc32": "AAAAAA=="},
            "fast": False,
        },
        {"event": "part", "key": "k", "size": 5},
        {"event": "object", "key": "k", "etag": "abc-2", "checksums": {"crc64nvme": "AAAAAAAAAAA="}},
    ]


@pytest.mark.parametrize("number", ["", "x", "999999"])
def test_without_a_pipe_nothing_is_written(number: str) -> None:
    client = Client(Answers(), Receipts({RECEIPTS_VARIABLE: number} if number else {}), None)
    for _ in range(2):
        assert client.put_object(Bucket="b", Key="k", Body=b"")["ETag"] == '"abc"'


def test_a_slow_reader_gets_all_receipts_later() -> None:
    """The pipe does not block: the CLI never waits for it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    receipts = Receipts({RECEIPTS_VARIABLE: str(writer)})
    for number in range(5000):
        receipts.write("part", key="k", size=number)
    content = os.read(reader, 1 << 20)
    receipts.write("part", key="k", size=5000)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        content += stream.read()
    sizes = [json.loads(line)["size"] for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
    assert sizes == list(range(len(sizes)))
    assert len(sizes) > 2000


def test_a_closed_pipe_is_not_a_problem() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    client = Client(Answers(), Receipts({RECEIPTS_VARIABLE: str(writer)}), None)
    for _ in range(2):
        assert client.put_object(Bucket="b", Key="k", Body=b"")["ETag"] == '"abc"'
    os.close(writer)
