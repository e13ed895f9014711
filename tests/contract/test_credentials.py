"""Every way in which the CLI finds credentials works: its config is copied, never replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.helpers.lab import BUCKET, Lab, tree
from tests.helpers.s3server import S3Server

pytestmark = pytest.mark.real_aws

KEYS = {"AccessKeyId": "ROLEKEY", "SecretAccessKey": "role-secret-key", "Token": "role-token"}
LATER = datetime.now(timezone.utc) + timedelta(hours=6)


class _Giver(BaseHTTPRequestHandler):
    """An instance's metadata service, and the SSO portal's GetRoleCredentials."""

    def do_PUT(self) -> None:
        self._say("metadata-token")

    def do_GET(self) -> None:
        if self.path.endswith("/security-credentials/"):
            self._say("sequencer-role")
        elif self.path.startswith("/federation/credentials"):
            names = {"accessKeyId": "SSOKEY", "secretAccessKey": "sso-secret", "sessionToken": "sso-token"}
            milliseconds = int(LATER.timestamp() * 1000)
            self._say(json.dumps({"roleCredentials": {**names, "expiration": milliseconds}}))
        else:
            expires = LATER.strftime("%Y-%m-%dT%H:%M:%SZ")
            self._say(json.dumps({"Code": "Success", "Type": "AWS-HMAC", **KEYS, "Expiration": expires}))

    def _say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-aws-ec2-metadata-token-ttl-seconds", "21600")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


@pytest.fixture
def giver() -> Iterator[str]:
    """The URL of something that gives credentials over HTTP."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Giver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """Without credentials in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del lab.env[name]
    (lab.home / ".aws").mkdir()
    return lab


def uploads(lab: Lab, server: S3Server, run: Path, *options: str) -> None:
    """The upload works, and left the user's files as they were."""
    before = tree(lab.home)

    result = lab.upload(run, *options)

    assert result.code == 0, result.err
    assert len(server.objects(BUCKET)) == len(tree(run))
    assert {path: content for path, content in tree(lab.home).items() if "cache" not in path} == {
        path: content for path, content in before.items() if "cache" not in path
    }


def test_default_profile(lab: Lab, server: S3Server, small_run: Path, each_real_aws: str) -> None:
    (lab.home / ".aws/credentials").write_text("[default]\naws_access_key_id = A\naws_secret_access_key = secret\n")
    (lab.home / ".aws/config").write_text("[default]\nregion = eu-west-1\ns3 =\n  max_concurrent_requests = 99\n")

    uploads(lab, server, small_run, "--aws_command", each_real_aws)


def test_keys_in_the_config_file_reach_the_cli_without_a_copy_of_them(
    lab: Lab, server: S3Server, small_run: Path, each_real_aws: str
) -> None:
    keys = "aws_access_key_id = A\naws_secret_access_key = secret-of-the-config\n"
    (lab.home / ".aws/config").write_text(f"[profile lab]\nregion = eu-west-1\n{keys}")
    lab.env["AWS_PROFILE"] = "lab"

    uploads(lab, server, small_run, "--aws_command", each_real_aws)


def test_named_profile_that_is_only_in_the_credentials_file(
    lab: Lab, server: S3Server, small_run: Path, each_real_aws: str
) -> None:
    (lab.home / ".aws/credentials").write_text("[my lab]\naws_access_key_id = A\naws_secret_access_key = secret\n")
    lab.env["AWS_PROFILE"] = "my lab"

    uploads(lab, server, small_run, "--aws_command", each_real_aws)


def test_the_profile_of_a_destination(lab: Lab, server: S3Server, small_run: Path, each_real_aws: str) -> None:
    (lab.home / ".aws/credentials").write_text("[my lab]\naws_access_key_id = A\naws_secret_access_key = secret\n")

    uploads(lab, server, small_run, "--aws_command", each_real_aws, "--profile", "my lab", "--region", "eu-west-2")


def test_the_predecessors_names(lab: Lab, server: S3Server, small_run: Path) -> None:
    lab.env |= {"AWS_ACCESS_KEY": "A", "AWS_SECRET_KEY": "secret"}

    uploads(lab, server, small_run)


def test_credential_process(lab: Lab, server: S3Server, small_run: Path, each_real_aws: str) -> None:
    given = {"Version": 1, **{name: value for name, value in KEYS.items() if name != "Token"}}
    (lab.home / "given.json").write_text(json.dumps(given))
    (lab.home / ".aws/config").write_text(f"[profile lab]\ncredential_process = cat {lab.home}/given.json\n")
    lab.env["AWS_PROFILE"] = "lab"

    uploads(lab, server, small_run, "--aws_command", each_real_aws)


def test_instance_role(lab: Lab, server: S3Server, small_run: Path, giver: str, each_real_aws: str) -> None:
    del lab.env["AWS_EC2_METADATA_DISABLED"]
    lab.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"{giver}/"

    uploads(lab, server, small_run, "--aws_command", each_real_aws)


def test_sso(lab: Lab, server: S3Server, small_run: Path, giver: str) -> None:
    (lab.home / ".aws/config").write_text(
        "[profile lab]\nsso_session = lab\nsso_account_id = 123456789012\nsso_role_name = uploader\n"
        "[sso-session lab]\nsso_region = us-east-1\nsso_start_url = https://lab.example.org/start\n"
    )
    cache = lab.home / ".aws/sso/cache"
    cache.mkdir(parents=True)
    token = {"accessToken": "t", "expiresAt": LATER.strftime("%Y-%m-%dT%H:%M:%SZ"), "region": "us-east-1"}
    token["startUrl"] = "https://lab.example.org/start"
    (cache / f"{hashlib.sha1(b'lab').hexdigest()}.json").write_text(json.dumps(token))
    lab.env |= {"AWS_PROFILE": "lab", "AWS_ENDPOINT_URL_SSO": giver}

    uploads(lab, server, small_run)
