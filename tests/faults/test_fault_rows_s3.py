"""The project's list of 40 faults, rows 1 to 20: what S3, the network, the credentials and the CLI can do to us.

Each test is named after its row. Either the run is verified in the end, or it is pending: an exit code that is
not 0, a valid log that is not completed, the file named with its reason, and tried again by the next scan.
Rows 21 to 40, what the machine can do to us, are in test_fault_rows_host.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from s3sync.aws.causes import UNREACHABLE
from tests.helpers.boto import client
from tests.helpers.errors import error_ids
from tests.helpers.lab import AWS_V1, BUCKET, IMPATIENT, FakeAws, Lab, Result, skip_or_fail, tree
from tests.helpers.promise import is_pending, is_verified, next_scan_completes
from tests.helpers.radosgw import Gateway
from tests.helpers.s3server import MIB, Fault, S3Server

pytestmark = pytest.mark.real_aws

FIRST, SECOND, MARKER = "Data/first.cbcl", "Data/second.cbcl", "CopyComplete.txt"
ONCE = {"AWS_MAX_ATTEMPTS": "1"}  # the CLI itself tries only once, so that the passes over the files are seen

STALL_SECONDS = 6
STALL = ("--stall_minutes", str(STALL_SECONDS / 60))  # longer than any pause of a CLI that starts on a busy machine

WHEN_CP = "if 'cp' in argv:\n    "
SILENT = (
    "import quick_aws\n    sys.stdout = sys.stderr = open(os.devnull, 'w')\n    quick_aws.main(argv)\n    os._exit(0)"
)

REAL_SILENT = f"import subprocess\n    subprocess.run([{AWS_V1!r}, *argv], capture_output=True)\n    os._exit(0)"


def when_nth(word: str, number: int, folder: Path) -> str:
    """The head of a block for a fake `aws`: what it does when it is called with this word for the nth time."""
    tally = str(folder / f"{word}s")
    counted = f"if {word!r} in argv:\n    with open({tally!r}, 'a') as tally: tally.write('.')\n"
    return f"{counted}if {word!r} in argv and os.path.getsize({tally!r}) == {number}:\n    "


def sent(server: S3Server, path: str = "") -> int:
    """How many PutObject requests there were for a file (default: for all)."""
    return sum(request.operation == "PutObject" and request.key.endswith(path) for request in server.requests)


def passes(result: Result) -> int:
    """How often the files of a phase were tried."""
    return 1 + result.err.count("trying")


def one_line(result: Result, error_id: str, *facts: str) -> None:
    """The call ended with one clear line, of this error and with these facts, and tried nothing again."""
    lines = [line for line in result.err.splitlines() if line.startswith("s3sync: ")]
    assert (result.out, len(lines), passes(result)) == ("", 1, 1), result.out + result.err
    assert error_ids(lines[0]) == [error_id], lines
    for fact in facts:
        assert fact in lines[0]


# 1 to 9: the network


@pytest.mark.parametrize("readback", ["head-object", "list-objects-v2"])
def test_row_01_503_twice(lab: Lab, server: S3Server, tiny_run: Path, each_aws: str, readback: str) -> None:
    """Twice to each kind of request there is: to the first listing, to a PUT, and to what reads it back."""
    asked = {"head-object": "HEAD", "list-objects-v2": "GET"}[readback]
    faults = [Fault("status", method="GET", count=2), Fault("status", count=2)]
    faults.append(Fault("status", method=asked, skip=asked == "GET", count=2))  # after the first listing
    for fault in faults:
        server.add_fault(fault)

    result = lab.upload(tiny_run, "--aws_command", each_aws, "--readback", readback)

    assert (result.code, passes(result)) == (0, 1), result.out + result.err
    assert [fault.count for fault in faults] == [0, 0, 0]
    is_verified(lab, tiny_run, server)


def test_row_02_503_forever(lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws, tmp_path: Path) -> None:
    server.add_fault(Fault("status", key_contains=FIRST, count=None))
    notes = tmp_path / "notes"
    aws = quick_aws(f"open({str(notes)!r}, 'a').write(f'{{time.monotonic()}} {{\"cp\" in argv}}\\n')")

    lab.set_delays(upload_retries=[0.3, 0.6])

    result = lab.upload(tiny_run, "--aws_command", aws, env=ONCE)

    is_pending(lab, tiny_run, result, "SlowDown", FIRST)
    assert (passes(result), sent(server, FIRST), sent(server, SECOND), sent(server, MARKER)) == (3, 3, 1, 0)
    started = [(float(when), is_cp) for when, is_cp in map(str.split, notes.read_text().splitlines())]
    rests = [when - before for (before, _), (when, is_cp) in itertools.pairwise(started) if is_cp == "True"]
    assert [rest > bound for rest, bound in zip(rests[-2:], (0.3, 0.6), strict=True)] == [True, True], "backoff"
    server.clear_faults()
    next_scan_completes(lab, tiny_run, server)
    assert sent(server, SECOND) == 1


def test_row_02_503_to_every_request(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """The first question is asked four times, each twice by the CLI."""
    server.add_fault(Fault("status", method=None, count=None))

    result = lab.upload(tiny_run, env={"AWS_MAX_ATTEMPTS": "2"})

    one_line(result, "s3.throttled", "s3://lab-runs ", "--cores", "--threads")
    is_pending(lab, tiny_run, result, "SlowDown")
    assert server.counters == {"ListObjectsV2": 8}
    server.clear_faults()
    next_scan_completes(lab, tiny_run, server)


def test_row_03_server_never_answers(lab: Lab, server: S3Server, tiny_run: Path, fake_aws: FakeAws) -> None:
    """Two files arrive, and one never does. The newest versions of the CLI exit 0 here, without a word.

    With the real CLI, which sends the files of a batch at the same time.
    """
    lab.set_delays(signal_grace=IMPATIENT)
    server.add_fault(Fault("hang", key_contains=FIRST, count=None))

    result = lab.upload(tiny_run, "--aws_command", fake_aws(WHEN_CP + REAL_SILENT), "--cores", "2", *STALL)

    is_pending(lab, tiny_run, result, "not in S3; aws moved no bytes", FIRST)
    assert (passes(result), sent(server, SECOND), sent(server, MARKER)) == (3, 1, 0)
    server.clear_faults()
    next_scan_completes(lab, tiny_run, server)
    assert sent(server, SECOND) == 1


def test_row_03_server_that_does_not_even_list(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    server.add_fault(Fault("hang", method=None, count=None))

    result = lab.upload(tiny_run, *STALL)

    one_line(result, "aws.command-failed")
    is_pending(lab, tiny_run, result, "moved no bytes")
    assert server.counters["ListObjectsV2"] == 1, "S3 is asked once"
    server.clear_faults()
    next_scan_completes(lab, tiny_run, server)


def test_row_03_a_listing_that_hangs_and_says_0(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws, tmp_path: Path
) -> None:
    """It listed nothing because it was ended, not because there is nothing."""
    for number in range(8):  # more than are looked at one by one
        (tiny_run / "Data" / f"{number}.cbcl").write_text(str(number))
    hang = "signal.signal(signal.SIGINT, lambda *_: os._exit(0))\n    time.sleep(1e6)"
    aws = quick_aws(when_nth("list-objects-v2", 2, tmp_path) + hang)

    result = lab.upload(tiny_run, "--aws_command", aws, "--cores", "1", *STALL)

    assert (result.code, sent(server)) == (0, len(tree(tiny_run))), "nothing is sent twice"
    is_verified(lab, tiny_run, server)


def test_row_04_trickle(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """It takes longer than a stall may, but bytes move all the time."""
    (tiny_run / FIRST).write_bytes(os.urandom(7 * MIB))
    server.add_fault(Fault("slow", key_contains=FIRST, rate=1_000_000))
    started = time.monotonic()

    result = lab.upload(tiny_run, *STALL)

    assert time.monotonic() - started > STALL_SECONDS, "or nothing is shown"
    assert (result.code, passes(result), sent(server, FIRST)) == (0, 1, 1), result.out + result.err
    is_verified(lab, tiny_run, server)


@pytest.mark.parametrize(
    ("operation", "code"), [("UploadPart", ""), ("PutObject", WHEN_CP + SILENT)], ids=["honest aws", "silent aws"]
)
def test_row_05_reset_in_mid_body(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws, operation: str, code: str
) -> None:
    """The newest versions of the CLI exit 0 here, without a word."""
    (tiny_run / FIRST).write_bytes(os.urandom(9 * MIB if operation == "UploadPart" else 7 * MIB))
    server.add_fault(Fault("reset", operation=operation, key_contains=FIRST, after_bytes=MIB // 2, count=None))

    result = lab.upload(tiny_run, "--aws_command", quick_aws(code), env=ONCE)

    is_pending(lab, tiny_run, result, "not in S3", FIRST)
    assert ("aws reported no error" in result.out) is bool(code)
    assert server.uploads(BUCKET) == []
    server.clear_faults()
    next_scan_completes(lab, tiny_run, server)


def test_row_05_dropped_connections_are_retried_in_the_same_call(lab: Lab, server: S3Server, small_run: Path) -> None:
    server.add_fault(Fault("drop", count=5))

    result = lab.upload(small_run, "--json")

    assert result.code == 0
    assert "retrying 5 files" in result.err
    assert {k: v.body for k, v in server.objects(BUCKET).items()} == {
        f"{small_run.name}/{path}": content for path, content in tree(small_run).items()
    }


@pytest.mark.parametrize("operation", ["PutObject", "CompleteMultipartUpload"])
def test_row_06_reply_lost_after_the_store(
    lab: Lab, server: S3Server, tiny_run: Path, each_aws: str, operation: str
) -> None:
    """The CLI asks again. To complete what is completed is an error then, but the object is there: sent once."""
    if operation != "PutObject":
        (tiny_run / FIRST).write_bytes(os.urandom(9 * MIB))
    server.add_fault(Fault("lost_reply", method=None, operation=operation, key_contains=FIRST))

    result = lab.upload(tiny_run, "--aws_command", each_aws)

    assert (result.code, passes(result)) == (0, 1), result.out + result.err
    is_verified(lab, tiny_run, server)
    key = f"{tiny_run.name}/{FIRST}"
    asked = [r.fault for r in server.requests if (r.operation, r.key) == (operation, key)]
    assert asked == ["lost_reply", ""]
    assert server.counters["CreateMultipartUpload"] == (operation != "PutObject")
    assert server.uploads(BUCKET) == []


def test_row_07_refused_port(lab: Lab, server: S3Server, tiny_run: Path, each_aws: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = lab.upload(tiny_run, "--aws_command", each_aws, env={"AWS_ENDPOINT_URL": url})

    one_line(result, "s3.unreachable", "AWS_ENDPOINT_URL")
    is_pending(lab, tiny_run, result, "Could not connect to the endpoint URL")
    next_scan_completes(lab, tiny_run, server)


def without_network() -> tuple[str, ...]:
    """Return the argv before a command that takes its network away; skip where that is not permitted."""
    for options in ("-n", "-rn"):
        if (program := shutil.which("unshare")) and not subprocess.run(
            [program, options, "true"], capture_output=True, check=False
        ).returncode:
            return (program, options)
    pytest.skip("this machine does not permit a process without a network")


@pytest.mark.any_client
def test_row_08_no_network(lab: Lab, server: S3Server, tiny_run: Path, fake_aws: FakeAws, tmp_path: Path) -> None:
    """S3 is asked once, be it known by an address or by a name: not file by file, and not in three passes."""
    asked = tmp_path / "asked"
    aws = fake_aws(f"open({str(asked)!r}, 'a').write(f'{{argv}}\\n')")
    arguments = lab.upload_argv(
        tiny_run, "--aws_command", aws, "--transfer_client", "default"
    )  # each command is a process
    argv = (*without_network(), sys.executable, "-m", "s3sync", *arguments)
    for endpoint in (server.url, ""):
        env = {**lab.env, "AWS_ENDPOINT_URL": endpoint}

        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=240, check=False)

        result = Result(done.returncode, done.stdout, done.stderr)
        one_line(result, "s3.unreachable")
        is_pending(lab, tiny_run, result, "Could not connect to the endpoint URL")
        assert ("amazonaws.com" in result.err) is (not endpoint)
    assert len(asked.read_text().splitlines()) == 4, "each time the version, and one listing"
    next_scan_completes(lab, tiny_run, server)


def test_row_09_server_killed_and_restarted(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    with server.hold(key_contains=SECOND) as gate:
        process = lab.start(*lab.upload_argv(tiny_run, "--threads", "1"), env=ONCE)
        gate.wait_held()
        server.wait_for("PutObject")  # of another file
        server.stop()
        out, err = process.communicate(timeout=240)

    result = Result(process.returncode, out, err)
    assert result.error_ids == ["s3.unreachable"]
    is_pending(lab, tiny_run, result, UNREACHABLE.what, SECOND)  # the log has no ids
    server.start()
    before = set(server.objects(BUCKET))
    assert before
    next_scan_completes(lab, tiny_run, server)
    stored = Counter(r.key for r in server.requests if r.operation == "PutObject" and r.status == 200)
    assert set(stored.values()) == {1}, "what arrived before is not sent again"


# 10 to 13: credentials and clock


def test_row_10_expired_token(lab: Lab, server: S3Server, small_run: Path, each_aws: str) -> None:
    server.add_fault(Fault("status", status=400, code="ExpiredToken", count=None, skip=10))

    result = lab.upload(small_run, "--cores", "1", "--aws_command", each_aws)

    one_line(result, "aws.expired-credentials", "aws sso login")
    is_pending(lab, small_run, result, "[aws.expired-credentials]")
    assert server.counters["PutObject"] < len(tree(small_run)) + 10, "no second pass"
    server.clear_faults()
    next_scan_completes(lab, small_run, server)


def test_row_10_token_that_expires_before_the_read_back(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """HEAD has no body, so the CLI cannot say why it was refused."""
    with server.hold(method="HEAD") as gate:
        process = lab.start(*lab.upload_argv(tiny_run, "--readback", "head-object", "--cores", "1"))
        gate.wait_held()
        server.add_fault(Fault("status", method=None, status=400, code="ExpiredToken", count=None))
        gate.release()
        out, err = process.communicate(timeout=240)

    result = Result(process.returncode, out, err)
    is_pending(lab, tiny_run, result, "[aws.expired-credentials]")
    server.clear_faults()
    next_scan_completes(lab, tiny_run, server)


def test_row_11_no_credentials_or_profile(lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str) -> None:
    without_keys = {name: value for name, value in lab.env.items() if "KEY" not in name}
    with_keys, lab.env = lab.env, without_keys

    nothing = lab.upload(tiny_run, "--aws_command", each_real_aws)
    no_profile = lab.upload(tiny_run, "--aws_command", each_real_aws, env={**with_keys, "AWS_PROFILE": "nobody"})

    one_line(nothing, "aws.no-credentials", "AWS_PROFILE")
    is_pending(lab, tiny_run, nothing, "[aws.no-credentials]")
    one_line(no_profile, "aws.no-profile", "nobody")
    is_pending(lab, tiny_run, no_profile, "[aws.no-profile]")
    assert server.requests == [], "before any work"
    lab.env = with_keys
    next_scan_completes(lab, tiny_run, server)


def test_row_11_a_config_that_cannot_be_read(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """Before so much as a log: the run is as new as before."""
    (lab.root / "broken").write_text("no section = 1\n")

    result = lab.upload(tiny_run, env={"AWS_CONFIG_FILE": str(lab.root / "broken")})

    one_line(result, "aws.bad-config", str(lab.root / "broken"))
    assert (result.code, server.requests) == (1, [])
    assert not lab.log_path(tiny_run).exists() or lab.log(tiny_run)["completed"] is False
    next_scan_completes(lab, tiny_run, server)


def test_row_12_and_13_as_s3_says_it(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """A wrong secret, a wrong key, and a clock that is wrong."""
    wrong = "aws.wrong-credentials"
    named = {"SignatureDoesNotMatch": wrong, "InvalidAccessKeyId": wrong, "RequestTimeTooSkewed": "s3.wrong-clock"}
    for code, error_id in named.items():
        server.add_fault(Fault("status", method=None, status=403, code=code, count=None))

        result = lab.upload(tiny_run)

        one_line(result, error_id)
        is_pending(lab, tiny_run, result, f"[{error_id}]")
        server.clear_faults()
    assert server.counters == {"ListObjectsV2": 2 + 4}, "a clock may be set right meanwhile"
    next_scan_completes(lab, tiny_run, server)


class Stored(NamedTuple):
    """An object's bytes."""

    body: bytes


class Bucket:
    """The objects of one run in a real server."""

    def __init__(self, s3: Any, run: Path) -> None:
        self._s3 = s3
        self._prefix = f"{run.name}/"

    def objects(self, bucket: str) -> dict[str, Stored]:
        listed = self._s3.list_objects_v2(Bucket=bucket, Prefix=self._prefix).get("Contents", [])
        keys = [item["Key"] for item in listed]
        return {key: Stored(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys}


@pytest.fixture
def ceph_run(tiny_run: Path) -> Path:
    """A run of a name that the server, which lives longer, has not seen."""
    return tiny_run.rename(tiny_run.with_name(f"run-{uuid.uuid4()}"))


@pytest.fixture
def ceph_lab(tmp_path: Path, ceph: Gateway) -> Lab:
    """A machine that reaches a server that checks signatures and the clock."""
    client(*ceph).create_bucket(Bucket=BUCKET)
    lab = Lab(tmp_path, ceph.url, "")
    lab.env |= {"AWS_ACCESS_KEY_ID": ceph.access_key, "AWS_SECRET_ACCESS_KEY": ceph.secret_key}
    return lab


@pytest.mark.real
@pytest.mark.xdist_group("real servers")
def test_row_12_wrong_secret(ceph_lab: Lab, ceph: Gateway, ceph_run: Path, each_real_aws: str) -> None:
    wrong = {"AWS_SECRET_ACCESS_KEY": "not-the-secret-key"}

    result = ceph_lab.upload(ceph_run, "--aws_command", each_real_aws, env=wrong)

    one_line(result, "s3.access-denied", f"s3://{BUCKET} ", "keys")
    assert "not-the-secret-key" not in result.err
    is_pending(ceph_lab, ceph_run, result, "[s3.access-denied]")
    next_scan_completes(ceph_lab, ceph_run, Bucket(client(*ceph), ceph_run))


@pytest.mark.real
@pytest.mark.xdist_group("real servers")
def test_row_13_clock_skew(ceph_lab: Lab, ceph: Gateway, ceph_run: Path, each_real_aws: str) -> None:
    """This server gives no reason; so the clock is one of the things to check."""
    faketime = shutil.which("faketime")
    if not faketime:
        skip_or_fail("no faketime")
    argv = (
        faketime,
        "-f",
        "-1h",
        sys.executable,
        "-m",
        "s3sync",
        *ceph_lab.upload_argv(ceph_run, "--aws_command", each_real_aws),
    )

    done = subprocess.run(argv, env=ceph_lab.env, capture_output=True, text=True, timeout=240, check=False)

    result = Result(done.returncode, done.stdout, done.stderr)
    one_line(result, "s3.access-denied", "clock")
    is_pending(ceph_lab, ceph_run, result, "[s3.access-denied]")
    next_scan_completes(ceph_lab, ceph_run, Bucket(client(*ceph), ceph_run))


# 14 to 17: what S3 says of the objects


def test_row_14_head_403(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """One of two files arrived; nobody may read them, so it is unknown which."""
    server.add_fault(Fault("drop", key_contains=FIRST, count=None))
    server.add_fault(Fault("status", method="HEAD", status=403, code="AccessDenied", key_contains="Data", count=None))

    result = lab.upload(tiny_run, "--readback", "head-object")

    is_pending(lab, tiny_run, result, "could not be read back from S3", FIRST, SECOND)
    assert "not in S3" not in result.out
    assert sent(server, MARKER) == 0
    server.clear_faults()
    before = sent(server, FIRST), sent(server, SECOND)
    next_scan_completes(lab, tiny_run, server)
    assert (sent(server, FIRST), sent(server, SECOND)) == (before[0] + 1, before[1])


def test_row_14_write_denied(lab: Lab, server: S3Server, small_run: Path, each_aws: str) -> None:
    server.add_fault(Fault("status", status=403, code="AccessDenied", count=None))

    result = lab.upload(small_run, "--aws_command", each_aws)

    one_line(result, "s3.access-denied", "s3:PutObject")
    is_pending(lab, small_run, result, "[s3.access-denied]")
    server.clear_faults()
    next_scan_completes(lab, small_run, server)


def test_row_14_without_permission_to_list_each_object_is_read_back(lab: Lab, server: S3Server, tmp_path: Path) -> None:
    server.add_fault(
        Fault("status", method=None, operation="ListObjectsV2", status=403, code="AccessDenied", count=None)
    )
    run = tmp_path / "run"
    run.mkdir()
    for name in ("a", "b", "RunInfo.xml"):
        (run / name).write_text(name)

    result = lab.upload(run, "--skip_check")

    assert result.code == 0
    assert server.counters["HeadObject"] == 3
    assert lab.log(run)["completed"] is True


def test_row_15_head_and_listing_fail_and_cp_works(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    server.add_fault(Fault("status", method="GET", skip=1, count=None))
    server.add_fault(Fault("status", method="HEAD", count=None))

    result = lab.upload(tiny_run, env=ONCE)

    is_pending(lab, tiny_run, result, "could not be read back from S3", "RunInfo.xml", FIRST, SECOND)
    assert lab.log(tiny_run)["uploaded_files"] == {}, "no ETag is made up"
    assert {f"{tiny_run.name}/{path}" for path in ("RunInfo.xml", FIRST, SECOND)} == set(server.objects(BUCKET))
    assert sent(server) == 3, "looked at again, not sent again"
    server.clear_faults()
    next_scan_completes(lab, tiny_run, server)
    assert sent(server) == 4, "only the marker"


def test_row_16_stale_older_object(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """The PUT fails without a word, and what a HEAD finds is of yesterday: of another size, or just other bytes."""
    server.put(BUCKET, f"{tiny_run.name}/{FIRST}", b"older")
    server.put(BUCKET, f"{tiny_run.name}/{SECOND}", (tiny_run / SECOND).read_bytes().swapcase())
    server.add_fault(Fault("drop", key_contains="Data", count=None))

    result = lab.upload(tiny_run)

    is_pending(lab, tiny_run, result, "S3 has 5 bytes, the disk 23", FIRST)
    is_pending(lab, tiny_run, result, "S3 has other bytes: ETag", SECOND)
    assert f"  failed  2 files:\n    {FIRST}: S3 has" in result.out
    server.clear_faults()
    next_scan_completes(lab, tiny_run, server)


def test_row_16_older_object_of_our_own(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """The file is another one since it was verified: the log does not have it as uploaded any more."""
    assert lab.upload(tiny_run).code == 0
    (tiny_run / FIRST).write_text("rewritten")
    server.add_fault(Fault("status", method=None, count=None))
    not_even_asked = lab.upload(tiny_run, env=ONCE)
    is_pending(lab, tiny_run, not_even_asked, "SlowDown")
    assert str(tiny_run / FIRST) not in lab.log(tiny_run)["uploaded_files"]
    server.clear_faults()
    server.add_fault(Fault("drop", key_contains=FIRST, count=None))

    result = lab.upload(tiny_run)

    is_pending(lab, tiny_run, result, "S3 has 23 bytes, the disk 9", FIRST)
    assert lab.log(tiny_run)["total_uploaded_files"] == 3
    server.clear_faults()
    next_scan_completes(lab, tiny_run, server)
    assert [sent(server, path) for path in (FIRST, SECOND, MARKER)] == [5, 1, 1]


def test_row_17_etag_or_size_mismatch(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    mismatches = {
        FIRST: (Fault("wrong_etag", key_contains=FIRST, count=None), "S3 has other bytes: ETag"),
        SECOND: (Fault("truncate", key_contains=SECOND, count=None, after_bytes=5), "S3 has 5 bytes, the disk 24"),
    }
    for fault, _ in mismatches.values():
        server.add_fault(fault)

    result = lab.watch(tiny_run)

    assert sent(server, MARKER) == 0, "nobody who waits for the marker sees half a run"
    log = (lab.log_dir / "s3_upload.log").read_text()
    [error] = [line for line in log.splitlines() if " ERROR " in line]
    for path, (_, reason) in mismatches.items():
        is_pending(lab, tiny_run, result, reason, path)
        assert f"{path}: {reason}" in error
        assert f"{path}: {reason}" in result.err, "loud: cron mails what is on stderr"
    server.clear_faults()
    next_scan_completes(lab, tiny_run, server)


def test_row_17_tampered_with_between_put_and_read_back(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """Once: so it is found, and sent again."""
    objects = {path: f"{tiny_run.name}/{path}" for path in ("RunInfo.xml", FIRST, SECOND)}
    with server.hold(after=1, method="GET") as gate:
        process = lab.start(*lab.upload_argv(tiny_run, "--cores", "1"))
        server.wait_for("PutObject", 3)
        gate.wait_held()
        server.delete(BUCKET, objects["RunInfo.xml"])
        server.put(BUCKET, objects[FIRST], (tiny_run / FIRST).read_bytes()[:-1])
        server.put(BUCKET, objects[SECOND], (tiny_run / SECOND).read_bytes().swapcase())
        gate.release()
        out, err = process.communicate(timeout=240)

    assert process.returncode == 0, out + err
    assert "retrying 3 files" in err
    is_verified(lab, tiny_run, server)
    assert [sent(server, path) for path in objects] == [2, 2, 2]


# 18 to 20: the CLI


def test_row_18_the_cli_lies(lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws) -> None:
    result = lab.upload(tiny_run, "--aws_command", quick_aws(WHEN_CP + "os._exit(0)"))

    is_pending(lab, tiny_run, result, "not in S3; aws reported no error", "RunInfo.xml", FIRST, SECOND)
    assert (passes(result), server.objects(BUCKET), sent(server)) == (3, {}, 0)
    assert MARKER not in str(lab.log(tiny_run)["failed_upload_files"]), "the marker was not even tried"
    next_scan_completes(lab, tiny_run, server)


def test_row_19_a_pipe_in_the_run(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    os.mkfifo(tiny_run / "Data" / "pipe")

    result = lab.upload(tiny_run)

    assert result.code == 0, result.out + result.err
    assert "warning: left out: Data/pipe: not a file but a named pipe" in result.err
    assert lab.log(tiny_run)["skipped"] == {str(tiny_run / "Data/pipe"): "not a file but a named pipe"}
    is_verified(lab, tiny_run, server)
    assert lab.upload(tiny_run).out.startswith("nothing to send")


def test_row_19_code_2_where_all_is_stored(lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws) -> None:
    code = "import quick_aws\n    quick_aws.main(argv)\n    os._exit(2)"

    result = lab.upload(tiny_run, "--aws_command", quick_aws(WHEN_CP + code))

    assert (result.code, passes(result)) == (0, 1), result.out + result.err
    is_verified(lab, tiny_run, server)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os._exit(77)", "aws exited with the unknown code 77"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "aws was terminated by SIGKILL"),
    ],
    ids=["77", "SIGKILL"],
)
def test_row_20_unknown_code_or_death_by_signal(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws, code: str, reason: str
) -> None:
    result = lab.upload(tiny_run, "--aws_command", quick_aws(WHEN_CP + code))

    is_pending(lab, tiny_run, result, f"not in S3; {reason}", "RunInfo.xml", FIRST, SECOND)
    assert (passes(result), sent(server)) == (3, 0)
    next_scan_completes(lab, tiny_run, server)
