"""A command that is suggested does what the request would do that it was made of."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from s3sync.aws.destination import Profile, Storage, parse_destination
from s3sync.commands import command_line, upload
from s3sync.patterns import Pattern
from s3sync.runs import Run
from s3sync.runs.run_folder import RunInfo
from s3sync.state import log_dir
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.request.as_options import program_options, upload_options
from s3sync.transfer.request.bandwidth import parse_schedule
from s3sync.transfer.request.hook import Hook
from s3sync.transfer.request.storage_classes import ClassRule
from tests.helpers.contexts import request_to

CONFIGURED: dict[str, Any] = {
    "threads": 7,
    "max_processes": 9,
    "skip_check": True,
    "excludes": (Pattern("-x"), Pattern(r"a b\.jpg$")),
    "readback": "head-object",
    "verify": "checksum",
    "aws_command": "/opt/aws",
    "storage": Storage(
        sse="aws:kms", sse_kms_key_id="key", storage_class="GLACIER_IR", acl="bucket-owner-full-control"
    ),
    "class_rules": (ClassRule(Pattern(r"=\.cbcl$"), "DEEP_ARCHIVE"), ClassRule(Pattern("x"), "STANDARD")),
    "bucket_owner": "123456789012",
    "profile": Profile("the lab", "eu-west-2"),
    "max_bandwidth": parse_schedule("1.5MB/s"),
    "stall_seconds": 90.0,
    "transfer_client": "default",
    "completion_object": True,
    "on_complete": Hook(("/bin/echo", "it's done")),
}
# What no option of an upload sets: only scans use them.
OF_SCANS = {
    "quiet_seconds",
    "marker_wait_seconds",
    "require_whole",
    "settle_seconds",
    "leaves_untagged_log",
    "scheduled",
}


def run_at(path: Path) -> Run:
    return Run(path=path, run_id=path.name, info=RunInfo())


def parsed(request: UploadRequest, *classes: str) -> UploadRequest:
    """Return the request that the suggested command makes."""
    options = upload_options(request, str(request.log_dir), classes)
    args = command_line.parse(["upload", str(request.local_path), *options])
    return upload._request(args, log_dir.LogDir(request.log_dir, ""))


def test_every_setting_of_a_request_is_in_the_suggested_command(tiny_run: Path, tmp_path: Path) -> None:
    request = replace(
        request_to(run_at(tiny_run), log_dir=tmp_path, **CONFIGURED),
        cores=1_000_000,
        destination=parse_destination("lab-runs", "/a b"),
    )
    named = {each.name for each in fields(UploadRequest)} - OF_SCANS
    assert named - CONFIGURED.keys() == {"local_path", "destination", "log_dir", "cores", "recheck", "multipart"}
    assert parsed(request) == replace(request, recheck=True)


def test_defaults_are_not_named(tiny_run: Path) -> None:
    options = upload_options(request_to(run_at(tiny_run)), "")
    assert options == ["--bucket", "lab-runs", "--recheck"]


@pytest.mark.parametrize(
    ("command", "named"), [("aws2", "aws2"), ("./aws", f"{os.getcwd()}/aws"), ("/opt/aws", "/opt/aws")]
)
def test_a_cli_on_path_is_named_as_it_was_given(command: str, named: str) -> None:
    assert program_options(command, "") == ["--aws-command", named]


def test_the_class_of_all_objects_in_s3_is_requested_for_the_others(tiny_run: Path, tmp_path: Path) -> None:
    request = request_to(run_at(tiny_run), log_dir=tmp_path)
    assert parsed(request, "GLACIER_IR", "GLACIER_IR").storage.storage_class == "GLACIER_IR"
    assert parsed(request, "GLACIER_IR", "STANDARD").storage.storage_class == ""
    assert parsed(request, "STANDARD").storage.storage_class == ""
    assert parsed(request, "OF_CEPH").storage.storage_class == ""
