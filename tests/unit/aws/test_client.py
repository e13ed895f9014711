"""The AWS CLI: which one, its words, what its errors mean, and its processes: fed, heard, and ended."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from s3sync import process_tree
from s3sync.aws import argv, client, diagnosis, objects
from s3sync.aws.causes import DENIED
from s3sync.aws.causes import EXPIRED as EXPIRED_CAUSE
from s3sync.aws.client import AwsCli, AwsResult
from s3sync.aws.destination import BucketRef, Storage
from s3sync.aws.diagnosis import (
    describe_exit_code,
    fatal_cause,
    has_empty_error_body,
    transient_cause,
    unreachable_cause,
)
from s3sync.aws.installation import find_aws, packaged_version
from s3sync.aws.remote_object import parse_head
from s3sync.errors import AwsError, InterruptedBySignal
from s3sync.signals import StopRequest
from tests.helpers.lab import AWS_V1

pytestmark = pytest.mark.real_aws

# Which one


def program(path: Path, text: str = "#!/bin/sh\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This Python's path, in a folder without an `aws`."""
    path = tmp_path / "venv" / "bin" / "python"
    monkeypatch.setattr(sys, "executable", str(path))
    return path


def test_the_given_one_comes_first(tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(python.with_name("aws"))
    program(tmp_path / "path" / "aws")
    given = program(tmp_path / "given" / "my-aws")
    environ = {"PATH": str(tmp_path / "path")}
    assert find_aws(given, environ) == given
    monkeypatch.chdir(tmp_path)
    assert find_aws("given/my-aws", environ) == given
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_aws("~/given/my-aws", environ) == given
    assert find_aws("aws", environ) == str(tmp_path / "path" / "aws"), "a bare name is searched for"


def test_else_the_one_beside_this_python_else_the_one_on_path(tmp_path: Path, python: Path) -> None:
    on_path = program(tmp_path / "path" / "aws")
    environ = {"PATH": f"{tmp_path / 'empty'}:{tmp_path / 'path'}"}
    assert find_aws(None, environ) == on_path
    beside = program(python.with_name("aws"))
    assert find_aws(None, environ) == beside
    python.with_name("aws").chmod(0o644)
    assert find_aws(None, environ) == on_path, "one that cannot be run is none"


@pytest.mark.parametrize("command", [None, "", "no-such-aws", "/no/such/aws", "/", "\x1b[31m"])
def test_none_is_an_error_that_says_what_to_do(tmp_path: Path, python: Path, command: str | None) -> None:
    with pytest.raises(AwsError, match="--aws_command") as caught:
        find_aws(command, {"PATH": str(tmp_path)})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\necho aws-cli/2.36.7 Python/3.13.1 Linux\n", "aws-cli/2.36.7 ({path})"),
        (
            "#!/bin/sh\necho no botocore >&2\nexit 1\n",
            "no usable AWS CLI: cannot use {path}: `aws --version` failed: no botocore ({advice})",
        ),
        (
            "#!/bin/sh\nsleep 600 & sleep 600\n",  # one that holds the pipe as well
            (
                "no usable AWS CLI: cannot use {path}: `aws --version` failed: aws did not answer for 1.0 s, "
                "so it {end} ({advice})"
            ),
        ),
        ("\0", "no usable AWS CLI: cannot run {path}: Exec format error (check the installation, or --aws_command)"),
        (None, "no usable AWS CLI: no `aws` beside this Python or on PATH ({install})"),
    ],
)
def test_the_installed_one_is_named_whatever_it_is(tmp_path: Path, python: Path, script: str | None, said: str) -> None:
    path = tmp_path / "path" / "aws"
    if script is not None:
        program(path, script)
    environ = {"PATH": f"{path.parent}:/usr/bin:/bin"} if script is not None else {"PATH": str(path.parent)}
    seconds = 1 if "600" in said + str(script) else 60
    assert client.describe_installed(environ, StopRequest(), seconds) == said.format(
        path=path,
        end="was ended",
        advice="check the installation, or --aws_command",
        install="install it with `pip install awscli`, or give --aws_command",
    )


def test_one_beside_this_python_that_cannot_start_is_not_called_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the folder was moved."""
    python = tmp_path / "my programs" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    aws = program(python.with_name("aws"), f"#!{python}\n")
    said = client.describe_installed({"PATH": "/usr/bin:/bin"}, StopRequest(), 60)
    why = f"cannot run {aws}: the interpreter that its first line names does not exist: {python}"
    assert said.startswith(f"no usable AWS CLI: {why} (")


# Words

URL = "s3://lab-runs/2026/RUN/"
HOSTILE = [
    "-x",
    "--recursive",
    "--endpoint-url=http://evil",
    "-",
    "--",
    "a b",
    "'",
    '"',
    "*",
    "[a]",
    "$(id)",
    "a\nb",
    "é",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_the_users_can_become_an_option(text: str) -> None:
    """It stands behind a name and an equals sign, in the one word that it has."""
    bucket = BucketRef("lab-runs", "123456789012")
    head = argv.head_object_argv(bucket, text)
    assert f"--key={text}" in head
    listing = argv.list_objects_argv(bucket, f"{text}/RUN/", f"{text}/RUN/a", 7)
    assert {f"--prefix={text}/RUN/", f"--start-after={text}/RUN/a", "--max-items=7"} <= set(listing)
    begun = argv.create_upload_argv(bucket, text, Storage(sse="aws:kms", sse_kms_key_id=text, storage_class=text))
    assert {f"--ssekms-key-id={text}", f"--storage-class={text}"} <= set(begun)
    uploads = argv.list_uploads_argv(bucket, text)
    aborted = argv.abort_upload_argv(bucket, text, text)
    for words in (head, listing, begun, uploads, aborted):
        assert words[:1] == ("s3api",)
        assert {"--bucket=lab-runs", "--expected-bucket-owner=123456789012"} <= set(words)
        assert "--output=json" in words or words is aborted  # which prints nothing
        assert all(word.startswith("--") and "=" in word for word in words[2:])
        assert words.count(text) == 0


def test_words_of_a_listing_from_the_start() -> None:
    assert not any(
        word.startswith("--start-after") for word in argv.list_objects_argv(BucketRef("lab-runs"), "RUN/", "", 7)
    )


def test_words_of_a_copy() -> None:
    words = argv.s3_cp_argv("/tmp/work/batch-000001", URL)
    assert words[:4] == ("s3", "cp", "/tmp/work/batch-000001", URL)
    assert {"--recursive", "--no-progress"} <= set(words)
    storage = Storage(sse="aws:kms", sse_kms_key_id="--key", storage_class="GLACIER_IR")
    more = set(argv.s3_cp_argv("/tmp/work/batch-000001", URL, storage, ("--checksum-algorithm=CRC32",))) - set(words)
    assert more == {
        *("--sse=aws:kms", "--sse-kms-key-id=--key", "--storage-class=GLACIER_IR", "--checksum-algorithm=CRC32")
    }


@pytest.mark.parametrize(
    ("version", "pinned"),
    [
        ("aws-cli/1.46.3 Python/3.11.7 Linux/6.1 botocore/1.44.3", False),
        ("aws-cli/2.9.19 Python/3.11.2 Linux/6.1 source/x86_64.debian.12", False),
        ("aws-cli/2.22.35 Python/3.12.6", False),
        ("aws-cli/2.23.0 Python/3.12.6", True),
        ("aws-cli/2.36.7 Python/3.13.1 Linux/6.1 exe/x86_64.debian.12", True),
        ("aws-cli/2.100.0 Python/3.13.1", True),
        ("", False),
        ("something else", False),
    ],
)
def test_a_checksum_that_can_be_computed_here_is_asked_of_the_versions_that_have_another(
    version: str, pinned: bool
) -> None:
    assert argv.checksum_options(version) == (("--checksum-algorithm=CRC32",) if pinned else ())


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, []),
        ({"AWS_ENDPOINT_URL": "http://a"}, ["--endpoint-url=http://a"]),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://s3"}, ["--endpoint-url=http://s3"]),
        ({"AWS_ENDPOINT_URL": ""}, []),
        ({"AWS_ENDPOINT_URL": "https://user:pa55@s3.example.org:9/"}, ["--endpoint-url=https://s3.example.org:9/"]),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, []),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "no"}, ["--endpoint-url=http://a"]),
    ],
)
def test_the_endpoint_of_the_environment_is_an_option(
    fake: Callable[..., AwsCli], environ: dict[str, str], words: list[str]
) -> None:
    """Versions 2 before 2.13 do not know the variables."""
    ended = fake("import json; print(json.dumps(argv))", environ=environ).run(("s3api", "x"))
    assert json.loads(ended.stdout) == [*words, "s3api", "x"]


# What its errors mean

PREFIX = "aws: [ERROR]: "
CREDENTIALS = "aws.no-credentials"
EXPIRED = "aws.expired-credentials"
WRONG = "aws.wrong-credentials"
LOGIN = "aws.no-login"
MFA = "aws.mfa-required"
PROCESS = "aws.credential-process-failed"
ROLE = "aws.role-denied"
BAD_PROFILE = "aws.incomplete-profile"
REGION = "s3.wrong-region"
FAILED = "upload failed: ../../tmp/work/batch-000001/Data/a to s3://lab-runs/RUN/Data/a "

UNTRUSTED = "SSL validation failed for https://s3.example/ [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed:"


def operation(code: str, message: str, name: str = "PutObject") -> str:
    return f"An error occurred ({code}) when calling the {name} operation: {message}"


@pytest.mark.parametrize("before", ["", PREFIX, "fatal error: ", f"{PREFIX}fatal error: ", FAILED])
@pytest.mark.parametrize(
    ("text", "cause_id"),
    [
        ('Unable to locate credentials. You can configure credentials by running "aws configure".', CREDENTIALS),
        ('Unable to locate credentials. You can configure credentials by running "aws login".', CREDENTIALS),
        ("Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY", CREDENTIALS),
        ("Error when retrieving credentials from iam-role: timed out", CREDENTIALS),
        ("Error when retrieving credentials from custom-process: vault: login needed", PROCESS),
        ("Error when retrieving token from sso: Token has expired and refresh failed", LOGIN),
        ("Error loading SSO Token: Token for https://lab.awsapps.com/start does not exist", LOGIN),
        ("Error loading SSO Token: Token for lab does not exist", LOGIN),
        ("Your session has expired or credentials have changed. Please reauthenticate using 'aws login'.", LOGIN),
        ("Error loading login session token: Unable to load the token", LOGIN),
        ("Missing Dependency: Using the login credential provider requires an additional dependency. ...", LOGIN),
        (operation("UnauthorizedException", "Session token not found or invalid", "GetRoleCredentials"), LOGIN),
        (operation("InvalidGrantException", "-", "CreateToken"), LOGIN),
        ("Enter MFA code for arn:aws:iam::123456789012:mfa/ada:", MFA),
        ("EOF when reading a line", MFA),
        ("Cannot refresh credentials: MFA token required.", MFA),
        (
            operation("AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time ...", "AssumeRole"),
            MFA,
        ),
        (
            operation("AccessDenied", "User: arn:aws:iam::1:user/a is not authorized to perform: ...", "AssumeRole"),
            ROLE,
        ),
        (operation("InvalidIdentityToken", "No OpenIDConnect provider found", "AssumeRoleWithWebIdentity"), ROLE),
        (operation("ForbiddenException", "No access", "GetRoleCredentials"), ROLE),
        (operation("InvalidClientTokenId", "The security token included in ... is invalid", "AssumeRole"), WRONG),
        (operation("ExpiredToken", "The security token included in ... is expired", "AssumeRole"), EXPIRED),
        ("Credentials were refreshed, but the refreshed credentials are still expired.", EXPIRED),
        ('The source_profile "nobody" referenced in the profile "lab" does not exist.', BAD_PROFILE),
        ("Infinite loop in credential configuration detected. Attempting to load from profile loop ...", BAD_PROFILE),
        ("You must specify a region. You can also configure your region by running ...", "aws.no-region"),
        (operation("ExpiredToken", "The provided token has expired."), EXPIRED),
        (operation("ExpiredTokenException", "The security token included in the request is expired"), EXPIRED),
        (operation("RequestExpired", "Request has expired."), EXPIRED),
        ("Token has expired and refresh failed", LOGIN),
        ("The SSO session associated with this profile has expired or is otherwise invalid. To refresh ...", LOGIN),
        (operation("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."), WRONG),
        (operation("SignatureDoesNotMatch", "The request signature we calculated does not match ..."), WRONG),
        (operation("InvalidToken", "The provided token is malformed or otherwise invalid."), WRONG),
        (operation("NoSuchBucket", "The specified bucket does not exist", "ListObjectsV2"), "s3.no-bucket"),
        ("The config profile (nobody) could not be found", "aws.no-profile"),
        (
            operation(
                "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
            ),
            "s3.wrong-clock",
        ),
        (operation("AccessDenied", "Access Denied"), "s3.access-denied"),
        (
            operation("AccessDenied", "User: arn:aws:iam::1:user/a is not authorized to perform: s3:PutObject"),
            "s3.access-denied",
        ),
        (operation("403", "Forbidden", "HeadObject"), "s3.access-denied"),
        (operation("PermanentRedirect", "The bucket you are attempting to access ..."), REGION),
        (operation("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong"), REGION),
        (operation("IllegalLocationConstraintException", "-"), REGION),
        (operation("301", "Moved Permanently", "HeadObject"), REGION),
        (f"{UNTRUSTED} unable to get local issuer certificate (_ssl.c:1006)", "s3.untrusted-certificate"),
        (f"{UNTRUSTED} certificate has expired (_ssl.c:1006)", "s3.untrusted-certificate"),
        (
            "An HTTP Client raised an unhandled exception: Invalid header value b'[redacted]\\n'",
            "aws.line-break-in-credentials",
        ),
        (operation("SlowDown", "Please reduce your request rate."), None),
        (operation("InternalError", "We encountered an internal error. Please try again."), None),
        (operation("503", "Service Unavailable", "HeadObject"), None),
        (operation("404", "Not Found", "HeadObject"), None),
        (operation("BadDigest", "The Content-MD5 you specified did not match what we received."), None),
        ('Could not connect to the endpoint URL: "http://127.0.0.1:1/lab-runs/a"', None),
        ('Read timeout on endpoint URL: "https://lab-runs.s3.amazonaws.com/a"', None),
        ("[Errno 28] No space left on device", None),
        ("argument of type 'NoneType' is not iterable", None),
    ],
)
def test_causes_that_cannot_pass_by_themselves(before: str, text: str, cause_id: str | None) -> None:
    cause = fatal_cause(["warning: Skipping file /x. File does not exist.", f"{before}{text}", "the end"])
    assert (cause and cause.id) == cause_id
    failure = client.to_error(AwsResult(("s3", "cp", "x"), 1, b"", (f"{before}{text}",)), "s3://lab-runs")
    assert failure.id == (cause_id or "aws.command-failed")
    assert PREFIX not in str(failure)
    assert text in str(failure)


def test_a_refusal_without_a_reason_may_be_the_clock() -> None:
    without, with_reason = (
        fatal_cause([text]) for text in (operation("403", "Forbidden"), operation("AccessDenied", "-"))
    )
    assert without
    assert with_reason
    assert ("clock" in without.advice, "clock" in with_reason.advice) == (True, False)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("The config profile (lab) could not be found", "no such AWS profile: lab, needed for s3://lab-runs (check "),
        ("Unable to locate credentials", "no AWS credentials for s3://lab-runs (set "),
        (
            "Token has expired and refresh failed",
            "the AWS login of this profile has expired or is missing, ",
        ),
        (operation("InvalidAccessKeyId", "-"), "the AWS credentials are wrong, needed for s3://lab-runs (check "),
        (operation("NoSuchBucket", "-"), "no such bucket: s3://lab-runs (check "),
    ],
)
def test_a_message_names_what_is_wrong_and_not_the_bucket_instead(text: str, line: str) -> None:
    failed = client.to_error(AwsResult(("s3api", "list-objects-v2"), 255, b"", (text,)), "s3://lab-runs")
    assert str(failed).startswith(line)
    assert str(failed).endswith(f"aws said: {text}")


@pytest.mark.parametrize(
    ("code", "message", "region"),
    [
        (
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'",
            "eu-west-1",
        ),
        (
            "PermanentRedirect",
            "... must be addressed using the specified endpoint: lab-runs.s3-eu-central-1.amazonaws.com",
            "eu-central-1",
        ),
        ("PermanentRedirect", "... this endpoint: lab-runs.s3.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        (
            "IllegalLocationConstraintException",
            "The me-south-1 location constraint is incompatible for the region specific endpoint this request was ...",
            "me-south-1",
        ),
        (
            "IllegalLocationConstraintException",
            "The unspecified location constraint is incompatible for the region specific endpoint this request was ...",
            "the bucket's region",
        ),
        ("PermanentRedirect", "-", "the bucket's region"),
    ],
)
def test_a_wrong_region_is_corrected_with_the_one_that_s3_names(code: str, message: str, region: str) -> None:
    errors = (operation(code, message), "You can fix this issue by explicitly providing the correct region location")
    failed = str(client.to_error(AwsResult(("s3api", "x"), 254, b"", errors), "s3://lab-runs"))
    assert failed.startswith(
        f"the bucket is in another region: s3://lab-runs (set AWS_DEFAULT_REGION to {region}, and AWS_REGION too if it "
    )
    assert message in failed


NAMES = [
    *("AccessDenied.txt", "Forbidden/a", "has expired.csv", "copy (403).bcl", "AuthFailure.log", "NoCredentials"),
    *("Unable to locate credentials", "fatal error: Unable to locate credentials", "SlowDown", "Enter MFA code for x"),
    *("An error occurred (ExpiredToken) when calling the PutObject operation: no", "<Code>NoSuchBucket</Code>"),
    *(
        "a b/a",
        "a/a a/a",
        "a to s3:/b",
        "SSL validation failed/CERTIFICATE_VERIFY_FAILED",
        "Could not connect to the endpoint",
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_file_is_no_cause(name: str) -> None:
    for said in (operation("InternalError", "wait"), "Something else"):
        line = f"upload failed: ../work/batch-000001/{name} to s3://lab-runs/RUN/{name} {said}"
        assert (fatal_cause([line]), unreachable_cause([line]), transient_cause([line])) == (
            None,
            None,
            transient_cause([said]),
        )
        assert diagnosis.parse_line(line) == diagnosis.parse_text(said)
    expired = f"upload failed: {name} to s3://Forbidden-lab/{name} {operation('ExpiredToken', 'The token ...')}"
    assert fatal_cause([expired]) == EXPIRED_CAUSE


@pytest.mark.parametrize("name", NAMES)
def test_other_lines_with_names_are_no_cause(name: str) -> None:
    lines = [
        f"warning: Skipping file /runs/{name}. File does not exist.",
        f"upload: {name} to s3://lab-runs/{name}",
        f"aws: [ERROR]: warning: Skipping file {name}. File is not readable.",
        f"[Errno 2] No such file or directory: '/runs/{name}'",
        f"Unable to parse config file: /home/{name}",
        operation("InternalError", f"We cannot store {name}."),
    ]
    assert fatal_cause(lines) is None
    assert (unreachable_cause(lines), has_empty_error_body(lines)) == (None, False)


@pytest.mark.parametrize("bucket", ["accessdenied", "Forbidden", "NoSuchKey", "(404)", "SlowDown"])
def test_the_name_of_a_bucket_or_key_in_a_url_is_no_answer_of_s3(bucket: str) -> None:
    said = f'Could not connect to the endpoint URL: "https://{bucket}.s3.amazonaws.com/RUN/{bucket}%20Not Found"'
    assert (fatal_cause([said]), diagnosis.error_codes([said])) == (None, set())
    assert parse_head(AwsResult(("s3api", "head-object"), 255, b"", (said,))) == objects.Unknown(said)


def test_what_is_wrong_with_everything_comes_before_what_is_wrong_with_a_key() -> None:
    denied, expired = operation("AccessDenied", "Access Denied"), operation("ExpiredToken", "-")
    assert fatal_cause([denied, expired, denied]) == EXPIRED_CAUSE
    assert fatal_cause([denied]) == DENIED


def test_an_answer_that_the_client_in_c_hands_on_as_it_came_is_understood() -> None:
    body = '<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
    said = f"AWS_ERROR_S3_INVALID_RESPONSE_STATUS: Invalid response status. Body from error request is: b'{body}'"
    assert diagnosis.parse_text(said) == diagnosis.ErrorLine(said, "Access Denied", "AccessDenied")
    assert fatal_cause([f"upload failed: a to s3://lab-runs/RUN/a {said}"]) == DENIED


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ('Could not connect to the endpoint URL: "http://127.0.0.1:1/lab-runs"', True),
        ('Connect timeout on endpoint URL: "https://s3.example/"', True),
        ('Connection was closed before we received a valid response from endpoint URL: "http://x/".', True),
        ('Failed to connect to proxy URL: "http://proxy:3128"', True),
        ("[Errno 101] Network is unreachable", True),
        ("[Errno -2] Name or service not known", True),
        ("[Errno 113] No route to host", True),
        ("[Errno 111] Connection refused", True),
        ("[Errno -3] Temporary failure in name resolution", True),
        ("SSL validation failed for https://s3.example/ EOF occurred in violation of protocol (_ssl.c:1006)", True),
        ("AWS_IO_SOCKET_CONNECTION_REFUSED: socket connection refused", True),
        ("AWS_IO_DNS_QUERY_FAILED: A query to dns failed to resolve.", True),
        ("[Errno 28] No space left on device", False),
        (operation("SlowDown", "Please reduce your request rate."), False),
        (operation("AccessDenied", "Access Denied"), False),
    ],
)
def test_no_way_to_s3(text: str, is_so: bool) -> None:
    for before in ("", PREFIX, "fatal error: "):
        assert (unreachable_cause(["", before + text]) is not None) is is_so


def test_no_complaint_is_no_cause() -> None:
    assert (fatal_cause([]), unreachable_cause([])) == (None, None)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "aws reported no error"),
        (1, "aws reported a failed transfer"),
        (2, "aws skipped files"),
        (130, "aws was interrupted"),
        (252, "aws did not understand its arguments"),
        (253, "aws has no valid configuration or credentials"),
        (254, "S3 answered with an error"),
        (255, "aws failed"),
        (3, "aws exited with the unknown code 3"),
        (77, "aws exited with the unknown code 77"),
        (-2, "aws was ended by SIGINT"),
        (-9, "aws was ended by SIGKILL"),
        (-15, "aws was ended by SIGTERM"),
        (-63, "aws was ended by signal 63"),
        (-99, "aws was ended by signal 99"),
    ],
)
def test_exit_codes(code: int, words: str) -> None:
    assert describe_exit_code(code) == words
    assert AwsResult((), code, b"", ()).reason == words


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (("first", "last"), "last"),
        ((f"{PREFIX}Unable to locate credentials",), "Unable to locate credentials"),
        (("fatal error: no",), "no"),
        (("Enter MFA code for arn:", PREFIX), "Enter MFA code for arn:"),
        ((PREFIX,), "aws failed"),
        ((f"{PREFIX}fatal error: no ",), "no"),
    ],
)
def test_the_last_complaint_is_the_reason(errors: tuple[str, ...], reason: str) -> None:
    assert AwsResult((), 255, b"", errors).reason == reason


# Processes


@pytest.fixture
def stop() -> StopRequest:
    return StopRequest()


@pytest.fixture
def fake(tmp_path: Path, stop: StopRequest) -> Iterator[Callable[..., AwsCli]]:
    """Makes an AwsCli of a program that runs this Python code; it sees `argv`. Leaves no process behind."""
    made: list[AwsCli] = []

    def make(code: str, *, environ: dict[str, str] | None = None, inherited: Sequence[int] = ()) -> AwsCli:
        head = f"#!{sys.executable} -S\nimport os, signal, sys, time\nargv = sys.argv[1:]\n"
        path = program(tmp_path / f"fake{len(made)}" / "aws", f"{head}{code}\n")
        made.append(AwsCli(path, {"PATH": "/usr/bin:/bin", **(environ or {})}, stop, inherited))
        return made[-1]

    yield make
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # one that has just ended, or that another test has left
            if any(str(tmp_path) in word for word in process.cmdline()):
                process.kill()


def follow(aws: AwsCli, *words: str) -> tuple[AwsResult, list[str]]:
    lines: list[str] = []
    return aws.run_streaming(words, lines.append, lambda pid: None), lines


def both(aws: AwsCli) -> list[AwsResult]:
    return [aws.run(("s3api", "x")), follow(aws, "s3", "cp")[0]]


def test_a_query_keeps_all_of_stdout_and_the_complaints_apart(fake: Callable[..., AwsCli]) -> None:
    """Both pipes are emptied at once, however much comes."""
    aws = fake("sys.stderr.write('x' * 200_000 + '\\nlast\\n'); sys.stdout.write('y' * 200_000); sys.exit(254)")
    ended = aws.run(("s3api", "head-object"))
    assert ended == AwsResult(("s3api", "head-object"), 254, b"y" * 200_000, ("x" * 10_000, "last"))
    assert aws.processes.started == 1


def test_lines_are_handed_on_and_only_complaints_are_kept(fake: Callable[..., AwsCli]) -> None:
    code = "print('upload: a to b', flush=True); print('  odd  ', file=sys.stderr); print(); print('end'); sys.exit(1)"
    pids: list[int] = []
    lines: list[str] = []
    ended = fake(code).run_streaming(("s3", "cp"), lines.append, pids.append)
    assert sorted(lines) == sorted(["upload: a to b", "  odd  ", "", "end"])
    assert (ended.returncode, ended.stdout, sorted(ended.errors)) == (1, b"", ["end", "odd"])
    assert len(pids) == 1


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_tail_of_the_complaints_is_bounded(fake: Callable[..., AwsCli], stream: str) -> None:
    aws = fake(f"sys.{stream}.writelines(f'line {{i}}\\n\\n' for i in range(10_000)); sys.exit(1)")
    ended, lines = follow(aws, "s3", "cp")
    assert len(lines) == 20_000
    assert 1 <= len(ended.errors) <= 20
    assert ended.errors[-1] == "line 9999"
    if stream == "stderr":
        assert aws.run(("s3api", "x")).errors == tuple(f"line {i}" for i in range(9980, 10_000))


def test_secrets_stand_in_no_complaint(fake: Callable[..., AwsCli]) -> None:
    secrets = {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AWS_SESSION_TOKEN": "IQoJb3JpZ2luX2VjE+==",
    }
    code = "print('no: ' + ' '.join(v for k, v in sorted(os.environ.items()) if 'AWS' in k), file=sys.stderr)"
    for ended in both(fake(code, environ=secrets)):
        assert ended.errors == ("no: [redacted] [redacted] [redacted]",)
        assert ended.reason == "no: [redacted] [redacted] [redacted]"


def test_secrets_stand_in_no_argv_and_no_repr(fake: Callable[..., AwsCli]) -> None:
    aws = fake("print(argv)", environ={"AWS_SECRET_ACCESS_KEY": "not-to-be-seen"})
    assert "not-to-be-seen" not in f"{aws!r} {aws.run(('s3api', 'x'))!r} {aws.run(('s3api', 'x')).stdout!r}"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        (b"a\x00b\x7f", r"a\x00b\x7f"),
        (b"caf\xc3\xa9 \xff\xfe", "caf\u00e9 \ufffd\ufffd"),
        (b"\xe2\x80\xaegpj.exe", r"\u202egpj.exe"),
        (b"\r  back\t", "back"),
    ],
)
def test_complaints_are_printable(fake: Callable[..., AwsCli], raw: bytes, text: str) -> None:
    """Whatever bytes a file's name had in them."""
    aws = fake(f"os.write(2, {raw!r} + b'\\n')")
    for ended in both(aws):
        assert ended.errors == (text,)
    _, lines = follow(aws)
    assert lines == [raw.decode("utf-8", "replace")]


@pytest.mark.parametrize("word", ["--start-after=a\0b", "--key=\ud800"])
def test_words_that_no_process_can_have_are_an_aws_error(fake: Callable[..., AwsCli], word: str) -> None:
    """Somebody may have put such a key into the bucket."""
    with pytest.raises(AwsError, match="cannot run"):
        fake("pass").run(("s3api", "list-objects-v2", word))


def test_lines_without_end_are_cut(fake: Callable[..., AwsCli]) -> None:
    """Neither memory nor what looks for a meaning in them is theirs to take."""
    for ended in both(fake("for fd in (1, 2): os.write(fd, b'SSO ' * 1_000_000 + b'\\n')\nsys.exit(1)")):
        assert max(map(len, ended.errors)) <= 10_000
        assert fatal_cause(ended.errors) is None


def test_secrets_stand_in_no_version(fake: Callable[..., AwsCli]) -> None:
    """It is kept in the log."""
    aws = fake("print('aws-cli/1', os.environ['AWS_SESSION_TOKEN'])", environ={"AWS_SESSION_TOKEN": "t0ken-t0ken"})
    assert aws.version() == "aws-cli/1 [redacted]"


def test_output_without_a_last_newline_is_heard(fake: Callable[..., AwsCli]) -> None:
    ended, lines = follow(fake("os.write(1, b'upload: a\\nno end'); sys.exit(1)"))
    assert (lines, ended.errors) == (["upload: a", "no end"], ("no end",))


def test_stdin_is_empty(fake: Callable[..., AwsCli]) -> None:
    """One that asks for something, a password say, gets nothing and does not wait."""
    for ended in both(fake("sys.exit(len(sys.stdin.read()))")):
        assert ended.returncode == 0


def test_it_has_a_session_of_its_own(fake: Callable[..., AwsCli]) -> None:
    """So that Ctrl-C on our terminal reaches it through us alone."""
    ended = fake("print(os.getsid(0) == os.getpid() == os.getpgrp())").run(())
    assert ended.stdout == b"True\n"


def test_it_has_the_environment_that_was_given_and_no_other(fake: Callable[..., AwsCli]) -> None:
    ended = fake("import json; print(json.dumps(dict(os.environ)))", environ={"AWS_PAGER": ""}).run(())
    environ = json.loads(ended.stdout)
    assert {name for name in environ if not name.startswith("LC_")} == {"PATH", "AWS_PAGER"}


def test_inherited_descriptors_stay_open_and_no_others(fake: Callable[..., AwsCli], tmp_path: Path) -> None:
    code = "print([os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')])"
    with (tmp_path / "lock").open("w") as kept, (tmp_path / "other").open("w") as other:
        os.set_inheritable(other.fileno(), True)
        ended = fake(code, inherited=(kept.fileno(),)).run(())
        assert str(tmp_path / "lock") in ended.stdout.decode()
        assert str(tmp_path / "other") not in ended.stdout.decode()


@pytest.mark.parametrize("code", [0, 1, 2, 77, 255])
def test_its_exit_code_is_kept(fake: Callable[..., AwsCli], code: int) -> None:
    assert [ended.returncode for ended in both(fake(f"sys.exit({code})"))] == [code, code]


def test_its_end_by_a_signal_is_kept(fake: Callable[..., AwsCli]) -> None:
    for ended in both(fake("os.kill(os.getpid(), signal.SIGKILL)")):
        assert (ended.returncode, ended.reason) == (-9, "aws was ended by SIGKILL")


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("no program\n", "--aws_command"),
        ("#!/no/such/python\n", r"the interpreter .* does not exist: /no/such/python \(install it again"),
        ("", "--aws_command"),
    ],
)
def test_one_that_cannot_run_is_an_error(tmp_path: Path, stop: StopRequest, text: str, advice: str) -> None:
    aws = AwsCli(program(tmp_path / "aws", text), {}, stop)
    with pytest.raises(AwsError, match=rf"^cannot run {tmp_path / 'aws'}: .*{advice}"):
        aws.run(("--version",))
    assert aws.processes.started == 0


@pytest.mark.parametrize("code", ["sys.exit(1)", "pass", "print('aws: broken', file=sys.stderr); sys.exit(255)"])
def test_one_that_gives_no_version_is_an_error(fake: Callable[..., AwsCli], code: str) -> None:
    with pytest.raises(AwsError, match="`aws --version` failed: aws"):
        fake(code).version()


def test_the_version_is_one_printable_line(fake: Callable[..., AwsCli]) -> None:
    assert fake("print('aws-cli/1.46.3 \\x1b[31m')").version() == r"aws-cli/1.46.3 \x1b[31m"


def test_the_real_one_is_run() -> None:
    assert AwsCli(AWS_V1, {"PATH": "/usr/bin:/bin"}, StopRequest()).version().startswith("aws-cli/1.")


# Their end


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Start work; its result, or the exception it raised, comes into the list."""
    results: list[object] = []

    def collect() -> None:
        try:
            results.append(work())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    return thread, results


@pytest.mark.parametrize(
    ("ignored", "ends_by"),
    [((), signal.SIGINT), (("SIGINT",), signal.SIGTERM), (("SIGINT", "SIGTERM"), signal.SIGKILL)],
)
def test_a_request_to_stop_ends_it_however_stubborn(
    fake: Callable[..., AwsCli],
    stop: StopRequest,
    monkeypatch: pytest.MonkeyPatch,
    ignored: tuple[str, ...],
    ends_by: int,
) -> None:
    grace = tuple((signum, 0.3) for signum, _ in process_tree._GRACE)
    monkeypatch.setattr(process_tree, "_GRACE", grace)
    code = "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    code += "".join(f"signal.signal(signal.{name}, signal.SIG_IGN)\n" for name in ignored)
    aws = fake(f"{code}print('ready', flush=True)\nwhile True:\n    signal.pause()")
    ready = threading.Event()
    thread, results = in_thread(lambda: aws.run_streaming(("s3", "cp"), lambda line: ready.set(), lambda pid: None))
    assert ready.wait(30)

    stop.request(signal.SIGTERM)

    thread.join(30)
    (ended,) = results
    assert isinstance(ended, AwsResult)
    assert ended.returncode == -ends_by


def test_its_children_end_with_it(fake: Callable[..., AwsCli], stop: StopRequest) -> None:
    """Version 2 is a launcher with a child that does the work."""
    code = "signal.signal(signal.SIGINT, signal.SIG_DFL)\npid = os.fork()\nif pid:\n    print(pid, flush=True)\n"
    aws = fake(f"{code}while True:\n    signal.pause()")
    pids: list[psutil.Process] = []
    ready = threading.Event()

    def on_line(line: str) -> None:
        pids.append(psutil.Process(int(line)))
        ready.set()

    thread, _ = in_thread(lambda: aws.run_streaming(("s3", "cp"), on_line, lambda pid: None))
    assert ready.wait(30)
    stop.request(signal.SIGINT)
    thread.join(30)
    assert not thread.is_alive()
    assert psutil.wait_procs(pids, timeout=30)[1] == []


def test_nothing_of_an_idle_one_is_kept_until_the_end(tmp_path: Path, stop: StopRequest) -> None:
    """A scan makes one for each run: their environments would pile up."""
    for code in ("exit 0", "exit 7"):
        aws = AwsCli(program(tmp_path / code / "aws", f"#!/bin/sh\n{code}\n"), {}, stop)
        both(aws)
        gone = weakref.ref(aws)
        del aws
        gc.collect()
        assert gone() is None


def test_nothing_is_started_after_a_request_to_stop(fake: Callable[..., AwsCli], stop: StopRequest) -> None:
    aws = fake("open(os.path.join(os.path.dirname(__file__), 'was here'), 'w')")
    stop.request(signal.SIGTERM)
    asks: list[Callable[[], object]] = [aws.version, lambda: aws.run(("s3api", "x")), lambda: follow(aws, "s3", "cp")]
    for ask in asks:
        with pytest.raises(InterruptedBySignal) as caught:
            ask()
        assert caught.value.exit_code == 143
    assert aws.processes.started == 0
    assert os.listdir(os.path.dirname(aws.path)) == ["aws"]


@pytest.mark.parametrize("moment", ["start", "line"])
def test_an_error_of_ours_ends_it(fake: Callable[..., AwsCli], moment: str) -> None:
    """It does not wait for the end of an upload that nobody wants any more."""
    aws = fake("print('ready', flush=True)\nwhile True:\n    signal.pause()")

    def fail(_: object) -> None:
        raise LookupError(moment)

    def do_nothing(_: object) -> None: ...

    on_line, on_start = (do_nothing, fail) if moment == "start" else (fail, do_nothing)
    thread, results = in_thread(lambda: aws.run_streaming(("s3", "cp"), on_line, on_start))
    thread.join(5)
    waits = thread.is_alive()
    for pid in aws.processes.bytes_read():
        os.kill(pid, signal.SIGKILL)
    thread.join(30)
    assert not waits, "it waits for a process that does not end"
    assert [type(result) for result in results] == [LookupError]


def test_what_live_processes_have_read_can_be_asked_at_any_time(fake: Callable[..., AwsCli], tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 3_000_000)
    release, wait = os.pipe()[::-1]
    code = f"open({str(tmp_path / 'data')!r}, 'rb').read()\nprint('ready', flush=True)\nos.read({wait}, 1)"
    aws = fake(code, inherited=(wait,))
    pids: list[int] = []
    ready = threading.Event()
    thread, _ = in_thread(lambda: aws.run_streaming(("s3", "cp"), lambda line: ready.set(), pids.append))
    assert ready.wait(30)
    read = aws.processes.bytes_read()
    os.write(release, b"x")
    thread.join(30)
    os.close(release)
    os.close(wait)
    assert list(read) == pids
    assert read[pids[0]] >= 3_000_000
    assert aws.processes.bytes_read() == {}


def test_many_threads_share_one(fake: Callable[..., AwsCli]) -> None:
    aws = fake("print(argv[0])")
    results = [in_thread(functools.partial(aws.run, (str(number),))) for number in range(8)]
    for thread, _ in results:
        thread.join(30)
    expected = [[AwsResult((str(number),), 0, f"{number}\n".encode(), ())] for number in range(8)]
    assert [result for _, result in results] == expected
    assert aws.processes.started == 8


def test_the_version_of_a_cli_beside_this_python_is_known_without_a_process(fake: Callable[..., AwsCli]) -> None:
    beside = AwsCli(AWS_V1, {"PATH": "/usr/bin:/bin"}, StopRequest())
    assert beside.version().startswith("aws-cli/1.")
    assert (beside.processes.started, beside.version_text) == (0, beside.version())
    assert beside.check_usable().startswith(beside.version() + " ")
    assert beside.processes.started == 1
    elsewhere = fake("print('aws-cli/2.36.7 Python/3.13.1')")
    assert (elsewhere.version(), elsewhere.processes.started) == ("aws-cli/2.36.7 Python/3.13.1", 1)
    assert (elsewhere.version(), elsewhere.processes.started) == ("aws-cli/2.36.7 Python/3.13.1", 1)


@pytest.mark.parametrize("first_line", ["#!/usr/bin/python3", "#!/bin/sh", "", "no script"])
def test_a_cli_that_another_python_runs_is_asked(
    tmp_path: Path, first_line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "aws"
    script.write_text(f"{first_line}\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert packaged_version(str(script)) == ""
