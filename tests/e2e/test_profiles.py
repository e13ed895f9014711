"""Destinations with their own profile and region: two AWS accounts in one config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.helpers.lab import BUCKET, FakeAws, Lab
from tests.helpers.s3server import S3Server

NAMES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID")

# Notes, for each process, the whole argv and what decides who it is.
NOTING = f"""
import json, os
with open({{path!r}}, "a") as notes:
    notes.write(json.dumps([argv, {{{{name: os.environ.get(name) for name in {NAMES}}}}}]) + "\\n")
"""


def identities(notes: Path, path: str) -> list[dict[str, Any]]:
    """The distinct environments of the processes for this path in S3."""
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    found: list[dict[str, Any]] = []
    found += (known for argv, known in lines if any(path in word for word in argv) and known not in found)
    return [known for number, known in enumerate(found) if known not in found[:number]]


def expected(profile: str, region: str) -> dict[str, str | None]:
    regions = {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    return {"AWS_PROFILE": profile, "AWS_DEFAULT_PROFILE": None, "AWS_ACCESS_KEY_ID": None, **regions}


def entry(directory: Path, path: str, **keys: str) -> dict[str, Any]:
    return {"monitored_directories": [str(directory)], "bucket": BUCKET, "remote_path": path, **keys}


def test_each_destination_is_reached_with_its_own_profile_and_region(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    notes = lab.root / "notes"
    aws = quick_aws(NOTING.format(path=str(notes)))
    lab.env |= {"AWS_DEFAULT_PROFILE": "other"}  # beside keys, which the CLI would prefer to the profile
    entries = [
        entry(tiny_run.parent, "/account-of-lab", profile="lab", region="eu-west-2"),
        entry(tiny_run.parent, "/account-of-clinic", profile="the clinic", region="us-gov-west-1"),
        entry(tiny_run.parent, "/account-of-user"),
    ]
    config = lab.config_for(tiny_run, aws_command=aws, monitor=entries)

    checked = lab.run("check", "--config", config)

    assert checked.code == 0, checked.out
    for path, whose in {"lab": "profile lab", "clinic": "profile the clinic", "user": "these credentials"}.items():
        assert f"s3://{BUCKET}/account-of-{path}: reachable with {whose}" in " ".join(checked.out.split())
    assert identities(notes, "account-of-lab") == [expected("lab", "eu-west-2")]
    notes.unlink()

    result = lab.run("monitor", "--config", config)

    assert result.code == 0, result.err
    assert len(server.objects(BUCKET)) == 3 * sum(path.is_file() for path in tiny_run.rglob("*"))
    assert identities(notes, "account-of-lab") == [expected("lab", "eu-west-2")]
    assert identities(notes, "account-of-clinic") == [expected("the clinic", "us-gov-west-1")]
    own = dict.fromkeys(("AWS_PROFILE", "AWS_REGION"), None)
    assert identities(notes, "account-of-user") == [
        {**own, **{name: lab.env[name] for name in NAMES if name not in own}},
    ]


def test_profile_and_region_are_options_of_commands_that_reach_s3(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    notes = lab.root / "notes"
    options = ("--aws_command", quick_aws(NOTING.format(path=str(notes))), "--profile", "lab", "--region", "eu-west-2")

    assert lab.upload(tiny_run, *options).code == 0
    (tiny_run / "RunInfo.xml").write_text("another")
    verified = lab.run("verify", str(tiny_run), "--bucket", BUCKET, *options)

    assert verified.code == 1
    assert "--profile lab --region eu-west-2" in " ".join(verified.out.split()), "in the command that it advises"
    (tiny_run / "RunInfo.xml").unlink()
    restored = lab.run("restore", str(tiny_run), "--bucket", BUCKET, "--log-dir", str(lab.log_dir), *options)
    assert restored.code == 0, restored.err
    assert identities(notes, BUCKET) == [expected("lab", "eu-west-2")]


def test_an_invalid_region_is_refused(lab: Lab, tiny_run: Path) -> None:
    result = lab.upload(tiny_run, "--region", "Europe")
    assert (result.code, "is not an AWS region such as eu-west-2" in result.err) == (2, True)
