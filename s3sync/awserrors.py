"""What the AWS CLI's complaints and exit codes mean, and which of them no further try can mend."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from typing import NamedTuple


class Cause(NamedTuple):
    """Why an `aws` process failed, where that cannot pass by itself, and what to do."""

    pattern: re.Pattern[str]
    what: str
    advice: str


def _cause(pattern: str, what: str, advice: str) -> Cause:
    return Cause(re.compile(pattern), what, advice)


# Texts of versions 1 and 2, as seen.
CAUSES = (
    _cause(  # first, since certificates expire, too
        r"SSL validation failed|CERTIFICATE_VERIFY_FAILED",
        "the TLS certificate is not trusted",
        "set AWS_CA_BUNDLE",
    ),
    _cause(
        r"Unable to locate credentials|NoCredentials|Partial credentials|CredentialRetrieval|Error when retrieving",
        "no AWS credentials",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; `aws sts get-caller-identity` must work",
    ),
    _cause(
        r"ExpiredToken|TokenRefreshRequired|has expired|RequestExpired|UnauthorizedSSOToken|SSO.*(expired|invalid)",
        "the AWS credentials have expired",
        "renew them (`aws sso login`, or new keys); what is proven stays proven",
    ),
    _cause(
        r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidClientTokenId|InvalidToken|AuthFailure",
        "the AWS credentials are wrong",
        "check the key id and the secret key, or the profile",
    ),
    _cause(
        r"NoSuchBucket|The specified bucket does not exist|\(404\) when calling the HeadBucket",
        "no such bucket",
        "check --bucket, and AWS_ENDPOINT_URL if it is set",
    ),
    _cause(r"config profile .* could not be found", "no such AWS profile", "check AWS_PROFILE and the AWS config"),
    _cause(
        r"RequestTimeTooSkewed|difference between the request time",
        "this machine's clock is wrong, so S3 refuses its requests",
        "set the clock (NTP)",
    ),
    _cause(
        r"AccessDenied|AllAccessDisabled",
        "access denied",
        "check the keys; they need s3:PutObject, s3:GetObject and s3:ListBucket there",
    ),
    _cause(  # of a request whose answer has no body to say why; a wrong clock looks the same there
        r"\(403\)|Forbidden",
        "access denied",
        "check the keys, and this machine's clock; they need s3:PutObject, s3:GetObject and s3:ListBucket there",
    ),
    _cause(
        r"PermanentRedirect|IllegalLocationConstraint|AuthorizationHeaderMalformed",
        "the bucket is in another region",
        "set AWS_REGION or the profile's region to the bucket's",
    ),
)
UNREACHABLE = _cause(
    r"Could not connect to the endpoint|Connect timeout|Connection was closed|Name or service not known|"
    r"Failed to connect|Network is unreachable|Read timeout on endpoint",
    "S3 cannot be reached",
    "check the network, and AWS_ENDPOINT_URL if it is set",
)


REFUSING = _cause(
    r"(?!)",
    "S3 takes no files",
    "what it said of each is in the log; the same command tries again",
)
UNANSWERED = _cause(
    r"(?!)",  # no complaint says so: it is known by what the CLI does not do
    "S3 does not answer",
    "check the network; the same command tries again",
)


def unreachable(errors: Sequence[str]) -> Cause | None:
    """The cause of complaints that say that there is no way to S3: it may pass, but not within one call."""
    return UNREACHABLE if any(UNREACHABLE.pattern.search(line) for line in errors) else None


def is_masked(errors: Sequence[str]) -> bool:
    """Whether the CLI stumbled over an error reply without a message, and so hides what S3 said."""
    return any("argument of type 'NoneType' is not" in line for line in errors)


def cause_of(errors: Sequence[str]) -> Cause | None:
    """The cause that cannot pass by itself behind these complaints, if there is one."""
    return next((cause for line in map(_said, errors) for cause in CAUSES if cause.pattern.search(line)), None)


def _said(line: str) -> str:
    """What S3 said, without what stands before it: names of files may hold any words."""
    _, found, said = line.rpartition("An error occurred (")
    return found + said if found else line


def meaning_of(returncode: int) -> str:
    """The exit codes that versions 1 and 2 document; an unknown one is a failure too."""
    if returncode < 0:
        return f"aws was ended by {_signal_name(-returncode)}"
    known = {
        0: "aws gave no error",
        1: "aws says that a transfer failed",
        2: "aws says that it skipped files",
        130: "aws was interrupted",
        252: "aws did not understand its arguments",
        253: "aws has no valid configuration or credentials",
        254: "S3 answered with an error",
        255: "aws failed",
    }
    return known.get(returncode, f"aws exited with the unknown code {returncode}")


def without_prefix(line: str) -> str:
    """Newer versions 2 put `aws: [ERROR]: ` before their complaints."""
    return re.sub(r"^(aws: \[ERROR\]: |fatal error: )+", "", line).strip()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
