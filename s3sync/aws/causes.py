"""What the AWS CLI's complaints and exit codes mean, and which of them no further try can help."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from typing import NamedTuple

from s3sync.aws import error_lines
from s3sync.aws.error_lines import ErrorLine


class Cause(NamedTuple):
    """Why an `aws` process failed, where that cannot pass by itself, and what to do.

    `about` joins what happened and the place that it happened to. `about` and `advice` may have a `{named}`: what
    `naming` finds in the complaint, else `unnamed`. `of_a_key`: S3 may say it of single keys, and take all others.
    """

    what: str
    advice: str
    about: str = ": "
    of_a_key: bool = False
    naming: re.Pattern[str] | None = None
    unnamed: str = ""

    def message_for(self, place: str) -> str:
        """One line: what happened, to what, and what to do."""
        return f"{self.what}{self.about}{place} ({self.advice})"

    def named_in(self, said: str) -> Cause:
        """The same with what this complaint names."""
        if not self.naming:
            return self
        match = self.naming.search(said)
        named = (match[match.lastindex or 0] if match else "") or self.unnamed
        about, advice = (text.replace("{named}", named) for text in (self.about, self.advice))
        return self._replace(about=about, advice=advice, naming=None)


_FOR = ", needed for "  # what is wrong is not wrong with the bucket
CERTIFICATE = Cause("the TLS certificate is not trusted", "set AWS_CA_BUNDLE")
NO_TLS = Cause("the server does not speak TLS there", "check the scheme and the port of AWS_ENDPOINT_URL")
CREDENTIALS = Cause(
    "no AWS credentials",
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; `aws sts get-caller-identity` must work",
    " for ",
)
EXPIRED = Cause(
    "the AWS credentials have expired", "renew them (`aws sso login`, or new keys); what is proven stays proven", _FOR
)
LOGIN = Cause(
    "the AWS login of this profile has expired, or there was none, and nobody can log in here",
    "log in as this user with `aws sso login` or `aws login`, and try again; "
    "what runs unattended needs keys, or a role, that need no login",
    _FOR,
)
MFA = Cause(
    "the AWS profile asks for an MFA code, and nobody can enter one here",
    "get temporary keys with the code (`aws sts get-session-token`, `aws sts assume-role`) and set them in the "
    "environment; what runs unattended needs keys, or a role, without mfa_serial",
    _FOR,
)
CREDENTIAL_PROCESS = Cause(
    "the credential_process of the AWS profile failed",
    "run that command as this user, with no terminal and this environment's PATH: it has to print credentials as JSON",
    _FOR,
)
ROLE = Cause(
    "the AWS role cannot be assumed",
    "check role_arn and source_profile of the profile, and whom the role trusts; "
    "`aws sts get-caller-identity` must work",
    _FOR,
)
PROFILE = Cause(
    "no such AWS profile",
    "check AWS_PROFILE, and that the AWS config of this user has it",
    ": {named}, needed for ",
    naming=re.compile(r"config profile \((.*)\) could not"),
    unnamed="(unnamed)",
)
BAD_PROFILE = Cause(
    "the AWS profile is not complete", "correct role_arn, source_profile and sso_session in the AWS config", _FOR
)
WRONG = Cause("the AWS credentials are wrong", "check the key id and the secret key, or the profile", _FOR)
BROKEN_KEYS = Cause(  # a token of a file with line ends of Windows, or of a Kubernetes secret
    "the AWS credentials have a line break in them",
    "remove it from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or what else gives them",
    _FOR,
)
WRONG_FOR_A_KEY = WRONG._replace(of_a_key=True)  # some servers compute another signature for names that are unusual
NO_BUCKET = Cause("no such bucket", "check --bucket, and AWS_ENDPOINT_URL if it is set")
CLOCK = Cause("this machine's clock is wrong, so S3 refuses its requests", "set the clock (NTP)")
DENIED = Cause(
    "access denied",
    "check the keys; they need s3:PutObject, s3:GetObject and s3:ListBucket there; the bucket's policy may require"
    " --acl or --sse",
    of_a_key=True,
)
DENIED_WITHOUT_REASON = Cause(  # an answer without a body cannot say why; a wrong clock looks the same there
    "access denied",
    "check the keys, and this machine's clock; they need s3:PutObject, s3:GetObject and s3:ListBucket there",
    of_a_key=True,
)
REGION = Cause(
    "the bucket is in another region",
    "set AWS_DEFAULT_REGION to {named}, and AWS_REGION too if it is set, or `region` of the profile",
    naming=re.compile(
        r"expecting '([a-z0-9-]+)'|\bs3[.-]([a-z]{2}(?:-[a-z]+)+-[0-9]+)\.|"
        r"The (?!unspecified)([a-z0-9-]+) location constraint"
    ),
    unnamed="the bucket's region",
)
NO_REGION = Cause("no AWS region", "set AWS_DEFAULT_REGION, or `region` of the profile", " for ")
CHECKSUMS = Cause(
    "this server does not take the checksums that the AWS CLI sends",
    "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required, or request_checksum_calculation = when_required in the"
    " profile; if that is set, it may not know the --sse, --acl or --storage_class that you gave",
)
# If it is said of every file; of one it may be that this was rewritten.
CHECKSUM_MISMATCH = re.compile(r"\(XAmzContentSHA256Mismatch\)")

_ASSUMING = r"AssumeRole\w*|GetRoleCredentials|GetSessionToken"
_LOGGING_IN = r"CreateToken|CreateOAuth2Token|GetRoleCredentials"


class _Rule(NamedTuple):
    """A code with the operation it is an answer to, and a word of its message (empty: any)."""

    cause: Cause
    code: str
    operation: str = r"\w*"
    message: str = ""


# Codes of S3, STS and SSO; the first that fits.
_RULES = (
    _Rule(LOGIN, r"UnauthorizedException|InvalidGrantException|ExpiredTokenException", _LOGGING_IN),
    _Rule(EXPIRED, r"ExpiredToken\w*|TokenRefreshRequired|RequestExpired|UnauthorizedSSOToken\w*"),
    _Rule(MFA, r"\w+", _ASSUMING, r"MultiFactorAuthentication|MFA"),
    _Rule(WRONG, r"InvalidClientTokenId|InvalidAccessKeyId[\w.]*|UnrecognizedClientException|InvalidToken|AuthFailure"),
    _Rule(WRONG, r"SignatureDoesNotMatch", _ASSUMING),
    _Rule(CLOCK, r"RequestTimeTooSkewed"),
    _Rule(CLOCK, r"\w+", message=r"difference between the request time|Signature (not yet current|expired)"),
    _Rule(ROLE, r"AccessDenied\w*|\w*Exception|ValidationError|InvalidIdentityToken|403", _ASSUMING),
    _Rule(WRONG_FOR_A_KEY, r"SignatureDoesNotMatch"),
    _Rule(NO_BUCKET, r"NoSuchBucket"),
    _Rule(NO_BUCKET, r"404", r"HeadBucket|ListObjects\w*|ListMultipartUploads"),
    _Rule(REGION, r"PermanentRedirect|IllegalLocationConstraint\w*|AuthorizationHeaderMalformed|InvalidRegion|301"),
    _Rule(CHECKSUMS, r"NotImplemented|MissingContentLength|501", r"PutObject|UploadPart|CreateMultipartUpload"),
    _Rule(
        CHECKSUMS,  # servers that do not know the headers and trailers with which newer versions send one
        r"InvalidArgument|InvalidRequest|MalformedTrailerError|XAmzContentSHA256Mismatch|400",
        message=r"x-amz-(sdk-)?checksum|x-amz-trailer|UNSIGNED-PAYLOAD-TRAILER|trailer block|Unsupported header|"
        r"invalid header",
    ),
    _Rule(DENIED, r"AccessDenied\w*|AllAccessDisabled|AccountProblem|Unauthorized\w*"),
    _Rule(DENIED_WITHOUT_REASON, r"403|401|Forbidden"),
)

# How the CLI's own texts begin, in versions 1 and 2.
_TEXTS = (
    (CERTIFICATE, r"SSL validation failed .*CERTIFICATE_VERIFY_FAILED|AWS_IO_TLS_ERROR_NEGOTIATION.*certificate"),
    (NO_TLS, r"SSL validation failed .*(WRONG_VERSION_NUMBER|UNKNOWN_PROTOCOL|RECORD_LAYER_FAILURE|HTTP_REQUEST)"),
    (MFA, r"Enter MFA code|Cannot refresh credentials: MFA|EOF when reading a line|EOFError"),
    (LOGIN, r"Error loading (SSO Token|login session|or redeeming a login)|Token has expired and refresh failed"),
    (
        LOGIN,
        r"Error when retrieving token from |The SSO session associated|Your session has expired or credentials have",
    ),
    (LOGIN, r"Unable to create or refresh login credentials|Missing Dependency: Using the login credential"),
    (CREDENTIAL_PROCESS, r"Error when retrieving credentials from custom-process"),
    (EXPIRED, r"Credentials were refreshed, but the refreshed credentials are still expired"),
    (CREDENTIALS, r"Unable to locate (credentials|authorization token)|Partial credentials found|NoCredentials"),
    (CREDENTIALS, r"Error when retrieving |CredentialRetrieval|AWS_AUTH_\w*CREDENTIALS"),
    (BROKEN_KEYS, r"An HTTP Client raised an unhandled exception: Invalid header value"),
    (PROFILE, r"The config profile .* could not be found"),
    (BAD_PROFILE, r"Infinite loop in credential|The source[_ ]profile |The profile \".*\" is configured to use SSO"),
    (BAD_PROFILE, r"The sso-session .* does not exist|Missing the following required SSO|Both source_profile and"),
    (NO_REGION, r"You must specify a region|Provided region_name '"),
)
_ALL = (*(rule.cause for rule in _RULES), *(cause for cause, _ in _TEXTS))
CAUSES = tuple({cause.what: cause for cause in _ALL}.values())
UNREACHABLE = Cause("S3 cannot be reached", "check the network, the region's name, and AWS_ENDPOINT_URL if it is set")
_NO_WAY = re.compile(
    r"Could not connect to the endpoint|Connect timeout on|Connection was closed before|Read timeout on|"
    r"Failed to connect|Connection reset by peer|"
    r"An HTTP Client (failed to establish|raised an unhandled)|SSL validation failed|"
    r"\[Errno -?[0-9]+\] (Network is|Name or service|No route|Connection|Temporary failure in|Host is|No addr)|"
    r"Name or service not known|Network is unreachable|\('Connection aborted|\(\"Connection broken|"
    r"Connection refused|AWS_IO_(DNS|SOCKET|TLS)\w*|AWS_ERROR_HTTP_(CONNECTION|CHANNEL|PROXY)\w*"
)
THROTTLED = Cause(
    "S3 asks for fewer requests",
    "use fewer --cores or --threads, or upload at another time; the same command tries again",
)
TROUBLED = Cause("S3 has trouble of its own", "the same command tries again")
_PASSING = (
    (THROTTLED, r"SlowDown|Throttl\w*|RequestLimitExceeded|TooManyRequests\w*|BandwidthLimitExceeded|503|429|Busy\w*"),
    (TROUBLED, r"ServiceUnavailable|InternalError|InternalFailure|RequestTimeout\w*|OperationAborted|500|502|504"),
    (CLOCK, r"RequestTimeTooSkewed"),  # also of a request that waited too long to be sent
)


ALL_REJECTED = Cause("S3 takes no files", "what it said of each is in the log; the same command tries again")
NO_RESPONSE = Cause("S3 does not answer", "check the network; the same command tries again")


def unreachable_cause(errors: Sequence[str]) -> Cause | None:
    """The cause of complaints that say that there is no way to S3: it may pass, but not within one call."""
    return UNREACHABLE if any(map(is_unreachable, _all(errors))) else None


def is_unreachable(complaint: ErrorLine) -> bool:
    """Whether this one says so."""
    return not complaint.code and _NO_WAY.match(complaint.text) is not None


def transient_cause(errors: Sequence[str]) -> Cause | None:
    """The cause of complaints that pass when S3 is asked again a little later, if there is one."""
    codes = error_lines.error_codes(errors)
    return next((cause for cause, known in _PASSING if any(re.fullmatch(known, code) for code in codes)), None)


_NO_ANSWER = re.compile(r"Unable to locate credentials|NoCredentials|CredentialRetrieval|Error when retrieving (cr|me)")
_GONE_FOR_GOOD = re.compile(r"expired|could not be found|No such file|denied", re.IGNORECASE)


def are_credentials_missing(errors: Sequence[str]) -> bool:
    """Whether whatever gives the credentials (the metadata service, a process) has given none this time: where it has
    given some before, that may pass."""
    texts = [complaint.text for complaint in _all(errors) if _NO_ANSWER.match(complaint.text)]
    return bool(texts) and not any(map(_GONE_FOR_GOOD.search, texts))


def has_empty_error_body(errors: Sequence[str]) -> bool:
    """Whether the CLI stumbled over an error reply without a message, and so hides what S3 said."""
    return any(complaint.text.startswith("argument of type 'NoneType' is not") for complaint in _all(errors))


def fatal_cause(errors: Sequence[str]) -> Cause | None:
    """The cause that cannot pass by itself behind these complaints, if there is one."""
    return fatal_error(_all(errors))[0]


def fatal_error(said: Sequence[ErrorLine]) -> tuple[Cause | None, str]:
    """The same with what was said; what is true of everything comes before what may be true of a key."""
    known = [(cause, complaint.text) for complaint in said if (cause := _known(complaint))]
    return next((pair for pair in known if not pair[0].of_a_key), known[0] if known else (None, ""))


def fatal_error_in(errors: Sequence[str]) -> tuple[Cause | None, str]:
    """The same of lines."""
    return fatal_error(_all(errors))


def _known(complaint: ErrorLine) -> Cause | None:
    if complaint.code:
        cause = next((rule.cause for rule in _RULES if _fits(rule, complaint)), None)
    else:
        cause = next((cause for cause, beginning in _TEXTS if re.match(beginning, complaint.text)), None)
    return cause and cause.named_in(complaint.text)


def _fits(rule: _Rule, complaint: ErrorLine) -> bool:
    if not (re.fullmatch(rule.code, complaint.code) and re.fullmatch(rule.operation, complaint.operation)):
        return False
    return not rule.message or re.search(rule.message, complaint.message) is not None


def _all(errors: Sequence[str]) -> list[ErrorLine]:
    return [complaint for complaint in map(error_lines.parse_line, errors) if complaint]


def describe_exit_code(returncode: int) -> str:
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


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
