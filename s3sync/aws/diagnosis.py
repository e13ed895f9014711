"""Find the cause behind what the AWS CLI printed, or behind its exit code.

Names of files, keys and buckets may contain any text: `NoCredentials.txt`, `Forbidden/`, `SlowDown`. So an error is
recognized by its code or by the beginning of its text, never by text somewhere in a line.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from s3sync.aws import causes
from s3sync.aws.causes import Cause

# The same error for every file means a server without support; for a single file, that it changed while it was read.
CHECKSUM_MISMATCH = re.compile(r"\(XAmzContentSHA256Mismatch\)")

_PREFIX = re.compile(r"^(aws: \[ERROR\]: ?|fatal error: )+")
_FAILED = "upload failed: "
_TO = " to s3://"
_API = re.compile(
    r"An error occurred \((?P<code>[\w.-]+)\)(?: when calling the (?P<operation>\w+) operation)?"
    r"(?: \(reached max retries: \d+\))?:? ?(?P<message>.*)"
)
_XML = re.compile(  # S3's own answer, as the CRT client prints it
    r"(?:AWS_ERROR_S3_[^<]*)?<(?:\?xml|Error).*?<Code>(?P<code>[\w.-]+)</Code>(?:.*?<Message>(?P<message>[^<]*))?"
)
_FROZEN = re.compile(r" An error occurred \(InvalidObjectState\) when calling the \w+ operation")
_NOT_ERRORS = ("warning: ", "upload: ")

_ASSUMING = r"AssumeRole\w*|GetRoleCredentials|GetSessionToken"
_LOGGING_IN = r"CreateToken|CreateOAuth2Token|GetRoleCredentials"
_BUSY_KMS = r"KMS\.\w*(Throttl|LimitExceeded|Internal|Timeout|Unavailable)\w*"  # KMS asks to retry these


@dataclass(frozen=True, slots=True)
class _Rule:
    """The cause of a code, if it answers this operation and its message matches; an empty pattern matches all."""

    cause: Cause
    code: str
    operation: str = r"\w*"
    message: str = ""


# By the codes of S3, STS and SSO. The first rule that matches counts.
_RULES = (
    _Rule(causes.LOGIN, r"UnauthorizedException|InvalidGrantException|ExpiredTokenException", _LOGGING_IN),
    _Rule(causes.EXPIRED, r"ExpiredToken\w*|TokenRefreshRequired|RequestExpired|UnauthorizedSSOToken\w*"),
    _Rule(causes.MFA, r"\w+", _ASSUMING, r"MultiFactorAuthentication|MFA"),
    _Rule(causes.WRONG, r"InvalidClientTokenId|InvalidAccessKeyId[\w.]*|UnrecognizedClientException"),
    _Rule(causes.WRONG, r"InvalidToken|AuthFailure"),
    _Rule(causes.WRONG, r"SignatureDoesNotMatch", _ASSUMING),
    _Rule(causes.CLOCK, r"RequestTimeTooSkewed"),
    _Rule(causes.CLOCK, r"\w+", message=r"difference between the request time|Signature (not yet current|expired)"),
    _Rule(causes.ROLE, r"AccessDenied\w*|\w*Exception|ValidationError|InvalidIdentityToken|403", _ASSUMING),
    _Rule(causes.WRONG_FOR_A_KEY, r"SignatureDoesNotMatch"),
    _Rule(causes.NO_BUCKET, r"NoSuchBucket"),
    _Rule(causes.NO_BUCKET, r"404", r"HeadBucket|ListObjects\w*|ListMultipartUploads"),
    _Rule(causes.REGION, r"PermanentRedirect|IllegalLocationConstraint\w*|InvalidRegion|301"),
    _Rule(causes.REGION, r"AuthorizationHeaderMalformed"),
    _Rule(causes.CHECKSUMS, r"NotImplemented|MissingContentLength|501", r"PutObject|UploadPart|CreateMultipartUpload"),
    _Rule(
        causes.CHECKSUMS,  # servers that do not know the headers and trailers with which newer versions send one
        r"InvalidArgument|InvalidRequest|MalformedTrailerError|XAmzContentSHA256Mismatch|400",
        message=r"x-amz-(sdk-)?checksum|x-amz-trailer|UNSIGNED-PAYLOAD-TRAILER|trailer block|Unsupported header|"
        r"invalid header",
    ),
    _Rule(causes.KMS_KEY_OF_OBJECT, rf"(?!{_BUSY_KMS})KMS\.\w+", r"GetObject"),
    _Rule(causes.KMS_KEY, rf"(?!{_BUSY_KMS})KMS\.\w+"),
    _Rule(causes.KMS_DENIED, r"AccessDenied\w*", message=r"\bkms:"),
    _Rule(causes.FULL, r"\w*QuotaExceeded\w*|\w*StorageFull|InsufficientStorage\w*|507"),
    _Rule(causes.TOO_LARGE, r"413|EntityTooLarge|RequestEntityTooLarge"),
    _Rule(causes.NOT_S3, r"511"),  # the login page of a network
    _Rule(causes.PROXY_LOGIN, r"407|ProxyAuthentication\w*"),
    _Rule(causes.DENIED_READING, r"AccessDenied\w*", r"GetObject"),
    _Rule(causes.DENIED, r"AccessDenied\w*|AllAccessDisabled|AccountProblem|Unauthorized\w*"),
    _Rule(causes.DENIED_WITHOUT_REASON, r"403|401|Forbidden"),
)

# By the beginnings of the CLI's own texts, in versions 1 and 2.
_TEXTS = (
    (causes.CERTIFICATE, r"SSL validation failed .*CERTIFICATE_VERIFY_FAILED"),
    (causes.CERTIFICATE, r"AWS_IO_TLS_ERROR_NEGOTIATION.*certificate"),
    (causes.BAD_BUNDLE, r"([0-9]+ \()?AWS_IO_TLS_CTX_ERROR"),
    (causes.NO_TLS, r"SSL validation failed .*(WRONG_VERSION_NUMBER|UNKNOWN_PROTOCOL)"),
    (causes.NO_TLS, r"SSL validation failed .*(RECORD_LAYER_FAILURE|HTTP_REQUEST)"),
    (causes.MFA, r"Enter MFA code|Cannot refresh credentials: MFA|EOF when reading a line|EOFError"),
    (causes.LOGIN, r"Error loading (SSO Token|login session|or redeeming a login)"),
    (causes.LOGIN, r"Token has expired and refresh failed"),
    (
        causes.LOGIN,
        r"Error when retrieving token from |The SSO session associated|Your session has expired or credentials have",
    ),
    (causes.LOGIN, r"Unable to create or refresh login credentials|Missing Dependency: Using the login credential"),
    (causes.CREDENTIAL_PROCESS, r"Error when retrieving credentials from custom-process"),
    (causes.EXPIRED, r"Credentials were refreshed, but the refreshed credentials are still expired"),
    (causes.CREDENTIALS, r"Unable to locate (credentials|authorization token)|Partial credentials found|NoCredentials"),
    (causes.CREDENTIALS, r"Error when retrieving |CredentialRetrieval|AWS_AUTH_\w*CREDENTIALS"),
    (causes.BROKEN_KEYS, r"An HTTP Client raised an unhandled exception: Invalid header value"),
    (causes.PROFILE, r"The config profile .* could not be found"),
    (causes.BAD_PROFILE, r"Infinite loop in credential|The source[_ ]profile "),
    (causes.BAD_PROFILE, r"The profile \".*\" is configured to use SSO"),
    (causes.BAD_PROFILE, r"The sso-session .* does not exist|Missing the following required SSO"),
    (causes.BAD_PROFILE, r"Both source_profile and"),
    (
        causes.REDIRECTED,
        r"maximum recursion depth exceeded",
    ),  # the CLI requests the bucket's region after each redirect
    (causes.NOT_S3, r"An error occurred \(\)"),  # HTML: S3's own errors have a code
    (causes.NO_REGION, r"You must specify a region|Provided region_name '"),
)
_UNREACHABLE = re.compile(
    r"Could not connect to the endpoint|Connect timeout on|Connection was closed before|Read timeout on|"
    r"Failed to connect|Connection reset by peer|"
    r"An HTTP Client (failed to establish|raised an unhandled)|SSL validation failed|"
    r"\[Errno -?[0-9]+\] (Network is|Name or service|No route|Connection|Temporary failure in|Host is|No addr)|"
    r"Name or service not known|Network is unreachable|\('Connection aborted|\(\"Connection broken|"
    r"Connection refused|AWS_IO_(DNS|SOCKET|TLS)\w*|AWS_ERROR_HTTP_(CONNECTION|CHANNEL|PROXY)\w*"
)
_TRANSIENT = (
    (
        causes.THROTTLED,
        r"SlowDown\w*|Throttl\w*|RequestLimitExceeded|TooManyRequests\w*|BandwidthLimitExceeded|503|429|Busy\w*",
    ),
    (
        causes.SERVER_ERROR,
        r"ServiceUnavailable|\w*NotInitialized|Internal(Error|Failure)|RequestTimeout\w*|OperationAborted|50[024]|"
        + _BUSY_KMS,
    ),
    (causes.CLOCK, r"RequestTimeTooSkewed"),  # also of a request that waited too long before it was sent
)
_MISSING_CREDENTIALS = re.compile(
    r"Unable to locate credentials|NoCredentials|CredentialRetrieval|Error when retrieving (cr|me)"
)
_PERMANENT = re.compile(r"expired|could not be found|No such file|denied", re.IGNORECASE)
_EXIT_CODES = {  # as versions 1 and 2 document them
    0: "aws reported no error",
    1: "aws reported a failed transfer",
    2: "aws skipped files",
    130: "aws was interrupted",
    252: "aws did not understand its arguments",
    253: "aws has no valid configuration or credentials",
    254: "S3 answered with an error",
    255: "aws failed",
}


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """An error that the CLI printed. `text` is all of it; `message` follows the `code` of S3 or another service.

    `operation` is the one that was rejected. Without a code, `message` is the text.
    """

    text: str
    message: str
    code: str = ""
    operation: str = ""


def parse_line(line: str) -> ErrorLine | None:
    """Return the error in a line that the CLI printed; None if it has none, or if it may be a part of a file name."""
    text = strip_prefix(line)
    if text.startswith(_NOT_ERRORS):
        return None
    if text.startswith(_FAILED):
        text = strip_prefix(_reason_of_failed_upload(text))
    return parse_text(text) if text else None


def parse_text(text: str) -> ErrorLine:
    """Return the error in a text that has no file name in front of it."""
    if match := _API.match(text):
        return ErrorLine(text, match["message"], match["code"], match["operation"] or "")
    if match := _XML.match(text):
        return ErrorLine(text, match["message"] or "", match["code"])
    return ErrorLine(text, text)


def strip_prefix(line: str) -> str:
    """Return a line without the `aws: [ERROR]: ` that newer versions 2 print before an error."""
    return _PREFIX.sub("", line).strip()


def error_codes(errors: Iterable[str]) -> set[str]:
    """Return the codes in these lines, e.g. `AccessDenied`; an HTTP status where an answer had no body."""
    return {line.code for line in _parse(errors)} - {""}


def fatal_error(lines: Iterable[ErrorLine]) -> tuple[Cause | None, str]:
    """Return the permanent cause, with the error that names it; (None, "") if there is none.

    A cause of everything comes before one that may be about a single key.
    """
    known = [(cause, line.text) for line in lines if (cause := _match(line))]
    return next((pair for pair in known if not pair[0].may_be_one_key), known[0] if known else (None, ""))


def fatal_cause(errors: Iterable[str]) -> Cause | None:
    """Return the permanent cause in these lines; None if there is none."""
    return fatal_error(_parse(errors))[0]


def fatal_error_in(errors: Iterable[str]) -> tuple[Cause | None, str]:
    """Return what `fatal_error` does for lines that the CLI printed."""
    return fatal_error(_parse(errors))


def transient_cause(errors: Iterable[str]) -> Cause | None:
    """Return the temporary cause in these lines, such as throttling; None if there is none."""
    codes = error_codes(errors)
    return next((cause for cause, known in _TRANSIENT if any(re.fullmatch(known, code) for code in codes)), None)


def unreachable_cause(errors: Iterable[str]) -> Cause | None:
    """Return UNREACHABLE if these lines say so; None if not. It may be temporary, but outlasts one call."""
    return causes.UNREACHABLE if any(map(is_unreachable, _parse(errors))) else None


def is_unreachable(line: ErrorLine) -> bool:
    """Return whether an error says that S3 cannot be reached."""
    return _UNREACHABLE.match(line.text) is not None


def are_credentials_missing(errors: Iterable[str]) -> bool:
    """Return whether the source of the credentials (the metadata service, a process) returned none this time.

    That may be temporary if it returned some before.
    """
    texts = [line.text for line in _parse(errors) if _MISSING_CREDENTIALS.match(line.text)]
    return bool(texts) and not any(map(_PERMANENT.search, texts))


def may_be_page(errors: Iterable[str]) -> bool:
    """Return whether a page may have answered: version 1 calls one that it cannot parse 500, without a code of S3."""
    return "500" in error_codes(errors)


def has_empty_error_body(errors: Iterable[str]) -> bool:
    """Return whether the CLI crashed on an error response without a message, and so hides S3's error."""
    return any(line.text.startswith("argument of type 'NoneType' is not") for line in _parse(errors))


def is_frozen(errors: Iterable[str]) -> bool:
    """Return whether a download says that its object is in an archive and must be thawed first."""
    return any(map(_FROZEN.search, errors))


def describe_exit_code(returncode: int) -> str:
    """Return what an exit code of the CLI means. An unknown code is a failure, too."""
    if returncode < 0:
        return f"aws was terminated by {_signal_name(-returncode)}"
    return _EXIT_CODES.get(returncode, f"aws exited with the unknown code {returncode}")


def _match(line: ErrorLine) -> Cause | None:
    if line.code:
        cause = next((rule.cause for rule in _RULES if _applies(rule, line)), None)
    else:
        cause = next((cause for cause, beginning in _TEXTS if re.match(beginning, line.text)), None)
    return cause and cause.with_names_of(line.text)


def _applies(rule: _Rule, line: ErrorLine) -> bool:
    if not (re.fullmatch(rule.code, line.code) and re.fullmatch(rule.operation, line.operation)):
        return False
    return not rule.message or re.search(rule.message, line.message) is not None


def _parse(errors: Iterable[str]) -> list[ErrorLine]:
    return [line for line in map(parse_line, errors) if line]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _reason_of_failed_upload(line: str) -> str:
    """Return REASON of `upload failed: FILE to s3://BUCKET/KEY REASON`; empty if its beginning is not clear.

    FILE and KEY end alike. So KEY ends where FILE and KEY have the most path components in common.
    """
    file, found, rest = line.partition(_TO)  # no path has two slashes in a row
    ends = [
        match.start() for match in re.finditer(" ", rest) if file.endswith(rest[: match.start()].rpartition("/")[2])
    ]
    path = file.removeprefix(_FAILED).split("/")
    most, end = max(((_count_common(path, rest[:end].split("/")), -end) for end in ends), default=(0, 0))
    return rest[1 - end :] if found and most else ""


def _count_common(path: Sequence[str], key: Sequence[str]) -> int:
    """Return how many components at the end of both are the same."""
    pairs = enumerate(zip(reversed(path), reversed(key), strict=False))
    return next((number for number, (one, other) in pairs if one != other), min(len(path), len(key)))
