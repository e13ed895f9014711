"""`check` with credentials that are limited to a part of a bucket: it asks what an upload asks, and no more."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from s3sync.aws import access
from s3sync.errors import InterruptedBySignal
from s3sync.signals import StopRequest
from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, FakeAws, Lab, Result
from tests.helpers.promise import is_pending
from tests.helpers.s3server import S3Server

# A policy whose s3:ListBucket has a condition on s3:prefix, and no other action on the bucket.
LIMITED = """
options = dict(word[2:].split("=", 1) for word in argv if "=" in word)
listed, read = options.get("prefix", ""), options.get("key", "mine/")
if "head-bucket" in argv or ("list-objects-v2" in argv and not listed.startswith(ALLOWED)):
    sys.stderr.write("An error occurred (AccessDenied) when calling the ListObjectsV2 operation: Access Denied")
    sys.exit(254)
if not read.startswith("mine/"):
    sys.stderr.write("An error occurred (403) when calling the HeadObject operation: Forbidden")
    sys.exit(254)
"""


def checked(lab: Lab, run: Path, aws: str, *paths: str) -> tuple[Result, list[str]]:
    entries = [
        {"monitored_directories": [str(run.parent if not number else lab.home)], "bucket": BUCKET, "remote_path": path}
        for number, path in enumerate(paths)
    ]
    result = lab.run("check", "--config", lab.config_for(run, aws_command=aws, monitor=entries))
    return result, [line for line in result.out.splitlines() if " bucket: " in line]


def test_check_asks_in_each_prefix_what_an_upload_asks_there(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    aws = quick_aws(f"ALLOWED = 'mine/'{LIMITED}")

    result, said = checked(lab, tiny_run, aws, "/mine", "/mine/2026")
    assert result.code == 0, result.out
    assert said == [
        f"ok       bucket: s3://{BUCKET}/mine: reachable with these credentials",
        f"ok       bucket: s3://{BUCKET}/mine/2026: reachable with these credentials",
    ]
    assert lab.upload(tiny_run, "--aws_command", aws, "--remote_path", "/mine").code == 0

    result, said = checked(lab, tiny_run, aws, "/mine", "/others")
    assert result.code == 1
    assert said[0].startswith("ok ")
    assert (error_ids(said[1]), f" s3://{BUCKET}/others (" in said[1]) == (["s3.access-denied"], True), said


def test_credentials_that_may_not_list_are_warned_of_the_cost(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    aws = quick_aws(f"ALLOWED = 'nowhere/'{LIMITED}")

    result, said = checked(lab, tiny_run, aws, "/mine")

    assert result.code == 0, result.out
    assert said[0].startswith(f"ok       bucket: s3://{BUCKET}/mine: reachable, but these credentials may not list it")
    assert lab.upload(tiny_run, "--aws_command", aws, "--remote_path", "/mine").code == 0


# Profiles that need somebody at the keyboard; nothing here reaches a network.
PROFILES = """
[profile mfa]
role_arn = arn:aws:iam::123456789012:role/lab
source_profile = base
mfa_serial = arn:aws:iam::123456789012:mfa/ada
[profile base]
aws_access_key_id = AKIAEXAMPLEEXAMPLE00
aws_secret_access_key = secret-for-tests
[profile sso]
sso_start_url = https://lab.awsapps.com/start
sso_region = eu-west-1
sso_account_id = 123456789012
sso_role_name = lab
[profile process]
credential_process = /bin/sh -c "echo 'vault: login needed' >&2; exit 3"
"""
NEEDS = {
    "mfa": "aws.mfa-required",
    "sso": "aws.no-login",
    "process": "aws.credential-process-failed",
}


@pytest.mark.parametrize("profile", NEEDS)
def test_a_profile_that_asks_for_input_is_one_error(
    lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str, profile: str
) -> None:
    config = lab.home / "aws-config"
    config.write_text(PROFILES)
    lab.env = {name: value for name, value in lab.env.items() if "KEY" not in name}

    result = lab.upload(
        tiny_run, "--aws_command", each_real_aws, env={"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": profile}
    )

    (line,) = [line for line in result.err.splitlines() if line.startswith("s3sync: ")]
    assert (error_ids(line), f" s3://{BUCKET} (" in line) == ([NEEDS[profile]], True), line
    is_pending(lab, tiny_run, result, f"[{NEEDS[profile]}]")
    assert server.requests == []


def test_an_interrupted_check_is_not_a_problem_of_the_machine(tmp_path: Path) -> None:
    stop = StopRequest()
    stop.request(signal.SIGINT)
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    query = access.AccessQuery(aws_command="/bin/true", threads=4, targets=())
    findings = access.check_access(query, environ, stop, tmp_path)
    with pytest.raises(InterruptedBySignal):
        list(findings)
