"""The S3 server of the tests, as the real CLI, boto3 and bare sockets see it.

What other tests conclude from this server is worth no more than what is verified here: bytes, ETags and
checksums as S3 has them, and every fault doing what its name says.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tests.helpers.certificates import self_signed
from tests.helpers.s3server import MIB, Fault, FaultKind, Request, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator

AWS = Path(sys.executable).with_name("aws")
SESSION = boto3.session.Session()  # one for all, because it reads megabytes of JSON for its first client
STRANGE = [
    "a b+c&d=e.txt",
    'quote".txt',
    "line\nbreak\r.txt",
    "tab\t<x>'.txt",
    "é中😀.txt",
    "x//../y",
    "%41",
    "\ufffd",
    "[*]?#",
]


@pytest.fixture
def server() -> Iterator[S3Server]:
    with S3Server() as running:
        running.create_bucket("b")
        yield running


@pytest.fixture
def s3(server: S3Server) -> Iterator[Any]:
    with contextlib.closing(client_of(server)) as client:
        yield client


def client_of(server: S3Server, *, read_timeout: float = 120, **settings: Any) -> Any:
    """Return a boto3 client that tries once."""
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}, read_timeout=read_timeout)
    return SESSION.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=config,
        **settings,
    )


def aws_environment(server: S3Server, home: Path) -> dict[str, str]:
    """Nothing of the machine's own configuration reaches the CLI."""
    return {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
    }


def aws(server: S3Server, home: Path, *argv: str) -> str:
    environment = aws_environment(server, home)
    done = subprocess.run([AWS, *argv], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def error_code(action: Any, **arguments: Any) -> tuple[int, str]:
    """The HTTP status and the S3 code of the error that a boto3 call must raise."""
    with pytest.raises(ClientError) as caught:
        action(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def raw(server: S3Server, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """The status and the body of an answer to a request that no library has touched; `_` in names for `-`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()


def half_a_put(server: S3Server, key: str, sent: bytes, size: int) -> socket.socket:
    """A connection on which a PUT of `size` bytes was begun."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(b"PUT /b/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (key.encode(), size, sent))
    return connection


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def crc32(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def multipart_etag(body: bytes, part_size: int) -> str:
    parts = [body[start : start + part_size] for start in range(0, len(body), part_size)]
    return f"{md5(b''.join(hashlib.md5(part).digest() for part in parts))}-{len(parts)}"


# The CLI


def test_cli_uploads_files_small_large_and_oddly_named(server: S3Server, tmp_path: Path) -> None:
    run = tmp_path / "run"
    bodies = {name: name.encode() for name in STRANGE if "/" not in name}
    bodies |= {"empty": b"", "large.bin": os.urandom(20 * MIB)}
    run.mkdir()
    for name, body in bodies.items():
        (run / name).write_bytes(body)

    aws(server, tmp_path, "s3", "cp", "--recursive", "--quiet", str(run), "s3://b/to")

    objects = server.objects("b")
    assert {key: stored.body for key, stored in objects.items()} == {f"to/{name}": bodies[name] for name in bodies}
    large = objects.pop("to/large.bin")
    assert large.etag == multipart_etag(bodies["large.bin"], 8 * MIB)
    assert large.checksums["x-amz-checksum-crc32"].endswith("=-3")
    for stored in objects.values():
        assert stored.etag == md5(stored.body or b"")
        assert stored.checksums == {"x-amz-checksum-crc32": crc32(stored.body or b"")}
    assert server.uploads("b") == []
    expected = {"PutObject": len(objects), "CreateMultipartUpload": 1, "UploadPart": 3, "CompleteMultipartUpload": 1}
    assert server.counters == expected


def test_cli_lists_more_keys_than_a_page_has(server: S3Server, tmp_path: Path) -> None:
    keys = [*STRANGE, *(f"p/{number}" for number in range(2300))]
    for key in keys:
        server.put("b", key, key.encode())

    listed = json.loads(aws(server, tmp_path, "s3api", "list-objects-v2", "--bucket", "b", "--output", "json"))

    assert [entry["Key"] for entry in listed["Contents"]] == sorted(keys, key=str.encode)
    assert all(entry["ETag"] == f'"{md5(entry["Key"].encode())}"' for entry in listed["Contents"])
    assert server.counters == {"ListObjectsV2": 3}


def test_cli_killed_between_two_parts_leaves_an_upload(server: S3Server, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(20 * MIB))
    argv = [str(AWS), "s3", "cp", "--quiet", str(large), "s3://b/large.bin"]

    with server.hold(after=1, operation="UploadPart") as gate:
        with subprocess.Popen(argv, env=aws_environment(server, tmp_path)) as process:
            gate.wait_held(2)
            server.wait_for("UploadPart")
            process.kill()
        gate.release()
        server.wait_for(lambda request: request.operation == "UploadPart" and request.status == 0, 2)

    [upload] = server.uploads("b")
    assert (upload.key, len(upload.parts)) == ("large.bin", 1)
    assert server.objects("b") == {}


# Objects


def test_head_get_delete(server: S3Server, s3: Any) -> None:
    s3.put_object(
        Bucket="b", Key="k", Body=b"abc", ContentType="text/x", Metadata={"run": "7"}, StorageClass="GLACIER_IR"
    )

    head = s3.head_object(Bucket="b", Key="k")
    got = s3.get_object(Bucket="b", Key="k")

    assert (head["ContentLength"], head["ETag"], head["ContentType"]) == (3, f'"{md5(b"abc")}"', "text/x")
    assert (head["Metadata"], head["StorageClass"]) == ({"run": "7"}, "GLACIER_IR")
    assert abs(head["LastModified"].timestamp() - time.time()) < 60
    assert got["Body"].read() == b"abc"
    s3.delete_object(Bucket="b", Key="k")
    assert server.objects("b") == {}
    assert error_code(s3.head_object, Bucket="b", Key="k") == (404, "404")
    assert error_code(s3.get_object, Bucket="b", Key="k") == (404, "NoSuchKey")
    assert server.requests[0] == Request("PUT", "b", "k", "PutObject", 200, 3)


def test_buckets(server: S3Server, s3: Any) -> None:
    s3.create_bucket(Bucket="new")
    s3.head_bucket(Bucket="new")
    assert error_code(s3.head_bucket, Bucket="none") == (404, "404")
    assert error_code(s3.put_object, Bucket="none", Key="k", Body=b"") == (404, "NoSuchBucket")
    assert error_code(s3.list_objects_v2, Bucket="none") == (404, "NoSuchBucket")
    assert error_code(s3.head_object, Bucket="b", Key="k", ExpectedBucketOwner="210987654321") == (403, "403")


def test_what_is_not_supported_changes_nothing(server: S3Server, s3: Any) -> None:
    stored = server.put("b", "k", b"abc")
    tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
    assert error_code(s3.put_object_tagging, Bucket="b", Key="k", Tagging=tags) == (501, "NotImplemented")
    assert error_code(s3.copy_object, Bucket="b", Key="k", CopySource="b/l") == (501, "NotImplemented")
    assert error_code(s3.list_objects_v2, Bucket="b", Delimiter="/") == (501, "NotImplemented")
    assert error_code(s3.put_object, Bucket="b", Key="k", Body=b"", IfNoneMatch="*") == (412, "PreconditionFailed")
    assert raw(server, "PUT", "/b/%FF", b"x")[0] == 400
    assert raw(server, "PUT", "/b/" + "k" * 1025, b"x")[0] == 400
    assert server.objects("b") == {"k": stored}


def test_list_in_pages_from_a_place(server: S3Server, s3: Any) -> None:
    for key in ("a", "b/1", "b/2", "b/3", "b/é", "c"):
        server.put("b", key, b"")
    page = s3.list_objects_v2(Bucket="b", Prefix="b/", MaxKeys=2)
    rest = s3.list_objects_v2(Bucket="b", Prefix="b/", ContinuationToken=page["NextContinuationToken"])
    later = s3.list_objects_v2(Bucket="b", StartAfter="b/3")

    assert ([entry["Key"] for entry in page["Contents"]], page["IsTruncated"]) == (["b/1", "b/2"], True)
    assert ([entry["Key"] for entry in rest["Contents"]], rest["IsTruncated"]) == (["b/3", "b/é"], False)
    assert [entry["Key"] for entry in later["Contents"]] == ["b/é", "c"]
    server.delete("b", "a")
    assert s3.list_objects_v2(Bucket="b", MaxKeys=1)["Contents"][0]["Key"] == "b/1"


def test_a_listing_that_is_not_url_encoded(server: S3Server) -> None:
    for key in STRANGE:
        server.put("b", key, b"")
    _, listing = raw(server, "GET", "/b?list-type=2")
    found = [element.text for element in ElementTree.fromstring(listing).iterfind("{*}Contents/{*}Key")]
    assert found == sorted(STRANGE, key=str.encode)


def test_hashes_instead_of_bytes() -> None:
    body = os.urandom(3 * MIB)
    with S3Server(keep="hashes") as server, contextlib.closing(client_of(server)) as s3:
        server.create_bucket("b")
        s3.put_object(Bucket="b", Key="k", Body=body)
        stored = server.objects("b")["k"]
        assert (stored.body, stored.size, stored.etag) == (None, len(body), md5(body))
        assert s3.head_object(Bucket="b", Key="k")["ContentLength"] == len(body)
        assert error_code(s3.get_object, Bucket="b", Key="k") == (501, "NotImplemented")


# Multipart uploads


def test_multipart(server: S3Server, s3: Any) -> None:
    where = {"Bucket": "b", "Key": "m\n"}
    bodies = [os.urandom(5 * MIB), b"end"]
    upload_id = s3.create_multipart_upload(**where, ServerSideEncryption="AES256")["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(**where, UploadId=upload_id, PartNumber=n, Body=body)["ETag"]}
        for n, body in enumerate(bodies, 1)
    ]
    [listed] = s3.list_multipart_uploads(Bucket="b")["Uploads"]
    assert (listed["Key"], listed["UploadId"]) == ("m\n", upload_id)
    assert [part.body for part in server.uploads("b")[0].parts.values()] == bodies

    done = s3.complete_multipart_upload(**where, UploadId=upload_id, MultipartUpload={"Parts": parts})

    stored = server.objects("b")["m\n"]
    assert done["ETag"] == f'"{multipart_etag(b"".join(bodies), 5 * MIB)}"' == f'"{stored.etag}"'
    assert stored.body == b"".join(bodies)
    assert s3.head_object(**where)["ServerSideEncryption"] == "AES256"
    assert server.uploads("b") == []


def test_parts_by_their_numbers(server: S3Server, s3: Any) -> None:
    where = {"Bucket": "b", "Key": "m"}
    bodies = [os.urandom(5 * MIB), b"", b"end"]
    server.put("b", "m", b"".join(bodies)).part_sizes = tuple(map(len, bodies))
    for number, body in enumerate(bodies, 1):
        head = s3.head_object(**where, PartNumber=number)
        assert (head["ContentLength"], head["PartsCount"]) == (len(body), 3)
        assert head["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert s3.get_object(**where, PartNumber=number)["Body"].read() == body
    with pytest.raises(ClientError) as refused:
        s3.get_object(**where, PartNumber=4)
    assert refused.value.response["Error"]["Code"] == "InvalidPartNumber"
    server.put("b", "one", b"PUT")
    single = s3.head_object(Bucket="b", Key="one", PartNumber=1)
    assert (single["ContentLength"], "PartsCount" in single) == (3, False)


def test_multipart_refusals_and_abort(server: S3Server, s3: Any) -> None:
    where = {"Bucket": "b", "Key": "m"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    etags = [s3.upload_part(**upload, PartNumber=n, Body=b"small")["ETag"] for n in (1, 2)]
    parts = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]

    def refused(*chosen: dict[str, Any]) -> tuple[int, str]:
        return error_code(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": list(chosen)})

    assert refused(*parts) == (400, "EntityTooSmall")
    assert refused(*reversed(parts)) == (400, "InvalidPartOrder")
    assert refused({"PartNumber": 3, "ETag": etags[0]}) == (400, "InvalidPart")
    assert refused({"PartNumber": 1, "ETag": md5(b"")}) == (400, "InvalidPart")
    assert error_code(s3.upload_part, **upload, PartNumber=10001, Body=b"") == (400, "InvalidArgument")
    s3.abort_multipart_upload(**upload)
    assert error_code(s3.abort_multipart_upload, **upload) == (404, "NoSuchUpload")
    assert error_code(s3.upload_part, **upload, PartNumber=1, Body=b"") == (404, "NoSuchUpload")
    assert server.uploads("b") == []
    assert server.objects("b") == {}


# Checksums and bodies


def test_checksums_are_given_back(server: S3Server, s3: Any) -> None:
    s3.put_object(Bucket="b", Key="crc32", Body=b"abc", ChecksumAlgorithm="CRC32")
    s3.put_object(Bucket="b", Key="crc64", Body=b"abc", ChecksumCRC64NVME="BeXKuz/B+us=")

    first = s3.head_object(Bucket="b", Key="crc32", ChecksumMode="ENABLED")
    second = s3.head_object(Bucket="b", Key="crc64", ChecksumMode="ENABLED")

    assert (first["ChecksumCRC32"], first["ChecksumType"]) == (crc32(b"abc"), "FULL_OBJECT")
    assert (second["ChecksumCRC64NVME"], second["ChecksumType"]) == ("BeXKuz/B+us=", "FULL_OBJECT")
    assert "ChecksumCRC32" not in s3.head_object(Bucket="b", Key="crc32")


def test_with_kms_the_etag_is_not_an_md5(server: S3Server, s3: Any) -> None:
    etag = s3.put_object(Bucket="b", Key="k", Body=b"abc", ServerSideEncryption="aws:kms")["ETag"]
    assert etag != f'"{md5(b"abc")}"'
    assert s3.head_object(Bucket="b", Key="k")["ETag"] == etag


@pytest.mark.parametrize("asked", [{}, {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": "lab"}])
def test_a_bucket_encrypts_what_does_not_ask_for_something_else(
    server: S3Server, s3: Any, asked: dict[str, str]
) -> None:
    server.put("b", "before", b"abc")
    server.encrypt_by_default("b", "aws:kms", "default")
    expected = (asked.get("ServerSideEncryption", "aws:kms"), asked.get("SSEKMSKeyId", "default"))
    multipart = {"Bucket": "b", "Key": "m"}

    put = s3.put_object(Bucket="b", Key="k", Body=b"abc", **asked)
    upload = {**multipart, "UploadId": s3.create_multipart_upload(**multipart, **asked)["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"abc")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    server.put("b", "past HTTP", b"abc")

    for answer in (put, part, done, s3.head_object(Bucket="b", Key="k"), s3.head_object(**multipart)):
        assert (answer["ServerSideEncryption"], answer["SSEKMSKeyId"]) == expected
    etags = {key: stored.etag for key, stored in server.objects("b").items()}
    assert etags["before"] == md5(b"abc")
    assert md5(b"abc") not in (etags["k"], part["ETag"].strip('"'), etags["past HTTP"])
    assert etags["m"] != multipart_etag(b"abc", 3)
    assert put["ETag"] == s3.head_object(Bucket="b", Key="k")["ETag"]
    assert s3.put_object(Bucket="b", Key="k", Body=b"abc", ServerSideEncryption="AES256")["ETag"] == f'"{md5(b"abc")}"'


def test_objects_with_a_customer_key_need_that_key(server: S3Server, s3: Any) -> None:
    server.encrypt_by_default("b", "aws:kms")
    key, other = ({"SSECustomerAlgorithm": "AES256", "SSECustomerKey": letter * 32} for letter in "ab")
    multipart = {"Bucket": "b", "Key": "m", **key}

    put = s3.put_object(Bucket="b", Key="k", Body=b"abc", **key)
    upload = {**multipart, "UploadId": s3.create_multipart_upload(**multipart)["UploadId"]}
    without_key = {name: upload[name] for name in ("Bucket", "Key", "UploadId")}
    assert error_code(s3.upload_part, **without_key, PartNumber=1, Body=b"abc") == (400, "InvalidRequest")
    part = s3.upload_part(**upload, PartNumber=1, Body=b"abc")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**without_key, MultipartUpload=parts)

    for name in ("k", "m"):
        where = {"Bucket": "b", "Key": name}
        assert error_code(s3.head_object, **where) == (400, "400")
        assert error_code(s3.head_object, **where, **other) == (403, "403")
        assert error_code(s3.get_object, **where) == (400, "InvalidRequest")
        head = s3.head_object(**where, **key)
        assert (head["SSECustomerAlgorithm"], head.get("ServerSideEncryption")) == ("AES256", None)
        assert s3.get_object(**where, **key)["Body"].read() == b"abc"
        assert head["ETag"] not in (f'"{md5(b"abc")}"', f'"{multipart_etag(b"abc", 3)}"')
    assert put["SSECustomerKeyMD5"] == s3.head_object(Bucket="b", Key="k", **key)["SSECustomerKeyMD5"]
    server.put("b", "plain", b"abc")
    assert error_code(s3.head_object, Bucket="b", Key="plain", **key) == (400, "400")
    listed = {entry["Key"]: entry["ETag"].strip('"') for entry in s3.list_objects_v2(Bucket="b")["Contents"]}
    assert listed == {key: stored.etag for key, stored in server.objects("b").items()}, "a listing needs no key"


def test_wrong_digests_are_refused(server: S3Server, s3: Any) -> None:
    wrong = base64.b64encode(bytes(16)).decode()
    assert error_code(s3.put_object, Bucket="b", Key="k", Body=b"abc", ContentMD5=wrong) == (400, "BadDigest")
    assert error_code(s3.put_object, Bucket="b", Key="k", Body=b"abc", ChecksumCRC32="AAAAAA==") == (400, "BadDigest")
    assert server.objects("b") == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param("3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:{crc32}\r\n\r\n", 200, id="trailer"),
        pytest.param(
            "3;chunk-signature=00\r\nabc\r\n2;chunk-signature=00\r\nde\r\n0;chunk-signature=00\r\n"
            "x-amz-checksum-crc32:{crc32}\r\nx-amz-trailer-signature:00\r\n\r\n",
            200,
            id="signed",
        ),
        pytest.param("5\r\nabcde\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", 400, id="wrong checksum"),
        pytest.param("5\r\nabcde\r\n0\r\n\r\n", 400, id="no checksum"),
        pytest.param("5\r\nabcde\r\n", 400, id="no end"),
        pytest.param("4\r\nabcd\r\n0\r\nx-amz-checksum-crc32:{crc32}\r\n\r\n", 400, id="too short"),
        pytest.param("abcde", 400, id="not chunked"),
        pytest.param("4\r\nabcde\r\n0\r\nx-amz-checksum-crc32:{crc32}\r\n\r\n", 400, id="chunk too long"),
    ],
)
@pytest.mark.parametrize("over", ["whole", "in http chunks"])
def test_aws_chunked(server: S3Server, body: str, status: int, over: str) -> None:
    data = body.format(crc32=crc32(b"abcde")).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "5",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    with contextlib.closing(connection):
        for _ in range(2):  # the second shows that nothing of the first is left in the connection
            if over == "whole":
                connection.request("PUT", "/b/k", data, headers)
            else:
                connection.request("PUT", "/b/k", (bytes([byte]) for byte in data), headers, encode_chunked=True)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
    assert [stored.body for stored in server.objects("b").values()] == ([b"abcde"] if status == 200 else [])


def test_a_body_that_breaks_off_stores_nothing(server: S3Server) -> None:
    server.put("b", "k", b"older")
    half_a_put(server, "k", b"new", 100).close()
    server.wait_for("PutObject")
    assert server.requests == [Request("PUT", "b", "k", "PutObject", 0, 3)]
    assert server.objects("b")["k"].body == b"older"


def test_tls(tmp_path: Path) -> None:
    certificate = tmp_path / "both.pem"
    certificate.write_bytes(self_signed())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    body = os.urandom(2 * MIB)
    with S3Server(ssl_context=context) as server, contextlib.closing(client_of(server, verify=str(certificate))) as s3:
        server.create_bucket("b")
        s3.put_object(Bucket="b", Key="k", Body=body)  # over TLS boto3 sends its checksum as a trailer
        assert s3.get_object(Bucket="b", Key="k")["Body"].read() == body
        assert server.objects("b")["k"].checksums == {"x-amz-checksum-crc32": crc32(body)}
        server.add_fault(Fault("reset"))
        with pytest.raises(BotoCoreError):  # OpenSSL calls a reset an unexpected end
            s3.put_object(Bucket="b", Key="k", Body=b"")


# Faults


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (400, "ExpiredToken"), (403, "AccessDenied"), (500, "InternalError")]
)
def test_fault_status(server: S3Server, s3: Any, status: int, code: str) -> None:
    server.add_fault(Fault("status", status=status, code=code, count=2, key_contains="bad"))
    s3.put_object(Bucket="b", Key="good", Body=b"abc")
    for _ in range(2):
        assert error_code(s3.put_object, Bucket="b", Key="bad", Body=b"abc") == (status, code)
    s3.put_object(Bucket="b", Key="bad", Body=b"abc")
    assert [request.status for request in server.requests] == [200, status, status, 200]
    assert [request.fault for request in server.requests] == ["", "status", "status", ""]


def test_fault_for_one_operation_after_some(server: S3Server, s3: Any) -> None:
    server.put("b", "k", b"abc")
    server.add_fault(
        Fault("status", status=403, code="AccessDenied", method=None, operation="HeadObject", skip=1, count=None)
    )
    s3.head_object(Bucket="b", Key="k")
    for _ in range(3):
        assert error_code(s3.head_object, Bucket="b", Key="k") == (403, "403")
    s3.get_object(Bucket="b", Key="k")["Body"].read()
    server.clear_faults()
    s3.head_object(Bucket="b", Key="k")


@pytest.mark.parametrize(("kind", "stored"), [("reset", False), ("lost_reply", True), ("hang", False)])
def test_faults_without_an_answer(server: S3Server, s3: Any, kind: FaultKind, stored: bool) -> None:
    server.add_fault(Fault(kind, after_bytes=5))
    with contextlib.closing(client_of(server, read_timeout=1)) as impatient, pytest.raises(HTTPClientError):
        impatient.put_object(Bucket="b", Key="k", Body=bytes(10))
    assert [(request.status, request.fault) for request in server.requests] == [(0, kind)]
    assert ("k" in server.objects("b")) is stored
    s3.put_object(Bucket="b", Key="k", Body=bytes(10))
    assert server.objects("b")["k"].body == bytes(10)


def test_fault_reset_in_the_middle_of_a_body(server: S3Server) -> None:
    server.add_fault(Fault("reset", after_bytes=100))
    with contextlib.closing(half_a_put(server, "k", bytes(99), MIB)) as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert server.requests == [Request("PUT", "b", "k", "PutObject", 0, 100, "reset")]


def test_fault_wrong_etag(server: S3Server, s3: Any) -> None:
    server.add_fault(Fault("wrong_etag"))
    etag = s3.put_object(Bucket="b", Key="k", Body=b"abc")["ETag"].strip('"')
    assert etag != md5(b"abc")
    assert (server.objects("b")["k"].etag, server.objects("b")["k"].body) == (etag, b"abc")


def test_fault_drop(server: S3Server, s3: Any) -> None:
    server.add_fault(Fault("drop"))
    assert s3.put_object(Bucket="b", Key="k", Body=b"abc")["ETag"] == f'"{md5(b"abc")}"'
    assert server.objects("b") == {}
    server.wait_for(lambda request: request.fault == "drop")


def test_fault_truncate(server: S3Server, s3: Any) -> None:
    server.add_fault(Fault("truncate", after_bytes=2))
    assert s3.put_object(Bucket="b", Key="k", Body=b"abc")["ETag"] == f'"{md5(b"abc")}"'
    head = s3.head_object(Bucket="b", Key="k")
    assert (head["ContentLength"], head["ETag"]) == (2, f'"{md5(b"abc")}"')
    assert raw(server, "GET", "/b/k") == (200, b"ab")


def test_fault_truncate_of_a_multipart_upload(server: S3Server, s3: Any) -> None:
    server.add_fault(Fault("truncate", method=None, operation="CompleteMultipartUpload", after_bytes=2))
    where = {"Bucket": "b", "Key": "m"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    part = {"PartNumber": 1, "ETag": s3.upload_part(**upload, PartNumber=1, Body=b"abc")["ETag"]}
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [part]})
    stored = server.objects("b")["m"]
    assert (stored.body, stored.size, stored.etag) == (b"ab", 2, multipart_etag(b"abc", 3))


def test_fault_late_for_one_method(server: S3Server) -> None:
    server.add_fault(Fault("late", method="HEAD", seconds=0.3))
    server.put("b", "k", b"abc")
    times = []
    for method in ("HEAD", "HEAD"):
        started = time.monotonic()
        assert raw(server, method, "/b/k")[0] == 200
        times.append(time.monotonic() - started)
    assert times[0] >= 0.3
    assert [request.fault for request in server.requests] == ["late", ""]


def test_fault_slow_and_latency(server: S3Server, s3: Any) -> None:
    server.add_fault(Fault("slow", rate=10_000))
    started = time.monotonic()
    s3.put_object(Bucket="b", Key="k", Body=bytes(2000))
    slow = time.monotonic()
    server.latency = 0.2
    s3.put_object(Bucket="b", Key="k", Body=b"")
    assert slow - started >= 0.2
    assert time.monotonic() - slow >= 0.2


def test_bodies_share_a_line_of_limited_rate() -> None:
    with S3Server(rate=100_000) as server:
        server.create_bucket("b")
        started = time.monotonic()
        with contextlib.closing(half_a_put(server, "one", bytes(15_000), 15_000)) as other:
            assert raw(server, "PUT", "/b/another", bytes(15_000))[0] == 200
            assert other.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - started >= 0.3


# The test's side


def test_gate_holds_all_but_the_first(server: S3Server) -> None:
    with server.hold(after=1) as gate:
        assert raw(server, "PUT", "/b/first", b"x")[0] == 200
        dead, alive = (half_a_put(server, key, b"x", 1) for key in ("dead", "alive"))
        gate.wait_held(2)
        assert raw(server, "HEAD", "/b/alive")[0] == 404
        dead.close()
    with contextlib.closing(alive):
        assert alive.recv(1000).startswith(b"HTTP/1.1 200 ")
    server.wait_for("PutObject", 3)
    assert set(server.objects("b")) == {"first", "alive"}
    assert raw(server, "PUT", "/b/later", b"x")[0] == 200


def test_wait_for(server: S3Server) -> None:
    with pytest.raises(TimeoutError, match="1 x PutObject"):
        server.wait_for("PutObject", timeout=0.01)
    putting = threading.Thread(target=raw, args=(server, "PUT", "/b/" + quote("é"), b"x"))
    putting.start()
    server.wait_for(lambda request: request.key == "é")
    assert "é" in server.objects("b")
    putting.join()


def test_wait_disconnected(server: S3Server) -> None:
    server.wait_disconnected()
    client = half_a_put(server, "k", b"", 1)
    server.wait_until(lambda: bool(server._connections), 60, "connection")
    with pytest.raises(TimeoutError, match="no end of all connections"):
        server.wait_disconnected(timeout=0.01)
    client.close()
    server.wait_disconnected()
    assert [(request.key, request.status) for request in server.requests] == [("k", 0)]


def test_away_and_back(server: S3Server) -> None:
    stored = server.put("b", "k", b"abc")
    url = server.url
    hanging = half_a_put(server, "k", b"", 1)
    server.stop()
    with contextlib.closing(hanging), contextlib.suppress(ConnectionResetError):
        assert hanging.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        raw(server, "HEAD", "/b/k")
    server.start()
    assert server.url == url
    assert server.objects("b") == {"k": stored}
    assert raw(server, "HEAD", "/b/k")[0] == 200


def test_stop_in_the_middle_of_everything() -> None:
    def hammer(server: S3Server) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                raw(server, "PUT", "/b/k", b"x")

    for _ in range(5):
        with S3Server() as server:
            server.create_bucket("b")
            server.hold(after=40)
            clients = [threading.Thread(target=hammer, args=(server,)) for _ in range(8)]
            for client in clients:
                client.start()
            server.wait_for("PutObject", 40)
        for client in clients:
            client.join()


def test_as_a_process(tmp_path: Path) -> None:
    script = str(Path(__file__).parents[1] / "helpers" / "s3server.py")
    argv = [sys.executable, script, "--bucket", "b", "--keep", "hashes", "--latency", "0.1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        scheme, _, address = process.stdout.readline().split()[1].partition("://")
        connection = http.client.HTTPConnection(address, timeout=120)
        with contextlib.closing(connection):
            started = time.monotonic()
            connection.request("PUT", "/b/k", b"abc")
            answer = connection.getresponse()
            assert (scheme, answer.status, answer.headers["ETag"]) == ("http", 200, f'"{md5(b"abc")}"')
            assert time.monotonic() - started >= 0.1
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "answered {'PutObject': 1}\n"
    assert process.returncode == 0
