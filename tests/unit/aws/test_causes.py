"""What the errors of the AWS CLI and of S3 mean."""

from __future__ import annotations

import pytest

from s3sync.aws import diagnosis, objects
from s3sync.aws.causes import DENIED
from s3sync.aws.causes import EXPIRED as EXPIRED_CAUSE
from s3sync.aws.client import AwsResult
from s3sync.aws.diagnosis import (
    describe_exit_code,
    fatal_cause,
    has_empty_error_body,
    transient_cause,
    unreachable_cause,
)
from s3sync.aws.remote_object import parse_head

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
        (operation("407", "Proxy Authentication Required"), "s3.proxy-authentication"),
        (operation("", "-", "ListObjectsV2"), "s3.unreachable"),  # a page of HTML
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
        ("maximum recursion depth exceeded", "s3.redirected"),
        ("maximum recursion depth exceeded while calling a Python object", "s3.redirected"),
        (operation("KMS.DisabledException", "arn:aws:kms:eu-west-2:1:key/a is disabled."), "s3.unusable-kms-key"),
        (operation("KMS.NotFoundException", "Key 'arn:aws:kms:...' does not exist"), "s3.unusable-kms-key"),
        (operation("QuotaExceeded", "-"), "s3.full"),
        (operation("XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded"), "s3.full"),
        (operation("XMinioStorageFull", "Storage backend has reached its minimum free drive threshold."), "s3.full"),
        (operation("507", "Insufficient Storage", "UploadPart"), "s3.full"),
        (operation("413", "Request Entity Too Large", "UploadPart"), "s3.too-large"),
        (operation("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"), "s3.too-large"),
        (f"{UNTRUSTED} unable to get local issuer certificate (_ssl.c:1006)", "s3.untrusted-certificate"),
        (f"{UNTRUSTED} certificate has expired (_ssl.c:1006)", "s3.untrusted-certificate"),
        ("1033 (AWS_IO_TLS_CTX_ERROR): Failed to create tls context", "aws.unusable-ca-bundle"),
        ("AWS_IO_TLS_CTX_ERROR: Failed to create tls context", "aws.unusable-ca-bundle"),
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
def test_permanent_causes(before: str, text: str, cause_id: str | None) -> None:
    cause = fatal_cause(["warning: Skipping file /x. File does not exist.", f"{before}{text}", "the end"])
    assert (cause and cause.id) == cause_id
    failure = AwsResult(("s3", "cp", "x"), 1, b"", (f"{before}{text}",)).to_error("s3://lab-runs")
    assert failure.id == (cause_id or "aws.command-failed")
    assert PREFIX not in str(failure)
    assert text in str(failure)


@pytest.mark.parametrize(
    ("code", "cause_id"),
    [
        ("SlowDown", "s3.throttled"),
        ("SlowDownRead", "s3.throttled"),  # MinIO
        ("SlowDownWrite", "s3.throttled"),
        ("XMinioServerNotInitialized", "s3.server-error"),
        ("OperationAborted", "s3.server-error"),
        ("KMS.ThrottlingException", "s3.server-error"),
        ("KMS.KMSInternalException", "s3.server-error"),
        ("KMS.KeyUnavailableException", "s3.server-error"),
        ("KMS.DependencyTimeoutException", "s3.server-error"),
    ],
)
def test_answers_of_a_busy_server_are_temporary(code: str, cause_id: str) -> None:
    cause = transient_cause([operation(code, "Please try again.", "ListObjectsV2")])
    assert (cause and cause.id) == cause_id
    assert fatal_cause([operation(code, "Please try again.", "ListObjectsV2")]) is None


@pytest.mark.parametrize(("name", "may_be_one_key"), [("PutObject", False), ("GetObject", True)])
def test_objects_may_have_different_kms_keys_but_files_to_send_have_one(name: str, may_be_one_key: bool) -> None:
    cause = fatal_cause([operation("KMS.DisabledException", "arn:aws:kms:eu-west-2:1:key/a is disabled.", name)])
    assert cause
    assert (cause.id, cause.may_be_one_key) == ("s3.unusable-kms-key", may_be_one_key)


def test_a_refusal_by_kms_names_the_permissions_of_the_key() -> None:
    message = "User: arn:aws:iam::1:user/a is not authorized to perform: kms:GenerateDataKey on resource: ..."
    cause = fatal_cause([operation("AccessDenied", message)])
    assert cause
    assert ("kms:GenerateDataKey" in cause.advice, "s3:PutObject" in cause.advice) == (True, False)


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
    failed = AwsResult(("s3api", "list-objects-v2"), 255, b"", (text,)).to_error("s3://lab-runs")
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
    failed = str(AwsResult(("s3api", "x"), 254, b"", errors).to_error("s3://lab-runs"))
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
def test_the_name_of_a_file_is_not_a_cause(name: str) -> None:
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
def test_other_lines_with_names_are_not_causes(name: str) -> None:
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
def test_the_name_of_a_bucket_or_key_in_a_url_is_not_an_answer_of_s3(bucket: str) -> None:
    said = f'Could not connect to the endpoint URL: "https://{bucket}.s3.amazonaws.com/RUN/{bucket}%20Not Found"'
    assert (fatal_cause([said]), diagnosis.error_codes([said])) == (None, set())
    assert parse_head(AwsResult(("s3api", "head-object"), 255, b"", (said,))) == objects.Unknown(said)


def test_causes_of_everything_come_before_causes_of_a_key() -> None:
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


def test_no_complaint_is_not_a_cause() -> None:
    assert (fatal_cause([]), unreachable_cause([])) == (None, None)


@pytest.mark.parametrize(
    ("code", "description"),
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
        (-2, "aws was terminated by SIGINT"),
        (-9, "aws was terminated by SIGKILL"),
        (-15, "aws was terminated by SIGTERM"),
        (-63, "aws was terminated by signal 63"),
        (-99, "aws was terminated by signal 99"),
    ],
)
def test_exit_codes(code: int, description: str) -> None:
    assert describe_exit_code(code) == description
    assert AwsResult((), code, b"", ()).reason == description


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
