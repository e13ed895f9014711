"""Name the causes of failures of the AWS CLI, with what a person can do about each."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from s3sync.errors import AwsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an `aws` process failed, and what to do.

    `joint` joins what happened and where. `joint` and `advice` may contain `{named}`: the text that `naming` finds in
    the error, else `unnamed`. With `may_be_one_key`, S3 may reject a single key for this and accept the others.
    """

    id: str
    what: str
    advice: str
    joint: str = ": "
    may_be_one_key: bool = False
    naming: re.Pattern[str] | None = None
    unnamed: str = ""

    def message_for(self, target: str) -> str:
        """Return one line: what happened, to what, and what to do."""
        return f"{self.what}{self.joint}{target} ({self.advice})"

    def to_error(self, target: str, said: str) -> AwsError:
        """Return the error for this cause, with what the CLI said about it."""
        return AwsError(f"{self.message_for(target)}. aws said: {said}", id=self.id)

    def with_names_of(self, error: str) -> Cause:
        """Return the same cause with what this error names, such as the region of the bucket."""
        if not self.naming:
            return self
        match = self.naming.search(error)
        named = (match[match.lastindex or 0] if match else "") or self.unnamed
        joint, advice = (text.replace("{named}", named) for text in (self.joint, self.advice))
        return replace(self, joint=joint, advice=advice, naming=None)


_FOR = ", needed for "  # the target itself is not what is wrong

# Permanent causes: a retry does not help.
CERTIFICATE = Cause(
    id="s3.untrusted-certificate", what="the TLS certificate is not trusted", advice="set AWS_CA_BUNDLE"
)
BAD_BUNDLE = Cause(  # the client in C refuses a file that also has a key in it, which the one in Python accepts
    id="aws.unusable-ca-bundle",
    what="the AWS CLI's client in C cannot use the CA bundle",
    advice="set AWS_CA_BUNDLE, or ca_bundle of the profile, to a file that contains only certificates",
    joint=_FOR,
)
NO_TLS = Cause(
    id="s3.no-tls",
    what="the server does not speak TLS there",
    advice="check the scheme and the port of AWS_ENDPOINT_URL",
)
CREDENTIALS = Cause(
    id="aws.no-credentials",
    what="no AWS credentials",
    advice="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; `aws sts get-caller-identity` must work",
    joint=" for ",
)
EXPIRED = Cause(
    id="aws.expired-credentials",
    what="the AWS credentials have expired",
    advice="renew them with `aws sso login` or new keys; what is verified is not transferred again",
    joint=_FOR,
)
LOGIN = Cause(
    id="aws.no-login",
    what="the AWS login of this profile has expired or is missing, and nobody can log in here",
    advice="log in as this user with `aws sso login` or `aws login`, and try again; "
    "unattended uploads need keys or a role without a login",
    joint=_FOR,
)
MFA = Cause(
    id="aws.mfa-required",
    what="the AWS profile requires an MFA code, and nobody can enter one here",
    advice="get temporary keys with the code (`aws sts get-session-token`, `aws sts assume-role`) and set them in the "
    "environment; unattended uploads need keys or a role without mfa_serial",
    joint=_FOR,
)
CREDENTIAL_PROCESS = Cause(
    id="aws.credential-process-failed",
    what="the credential_process of the AWS profile failed",
    advice="run that command as this user, without a terminal and with this PATH: it must print credentials as JSON",
    joint=_FOR,
)
ROLE = Cause(
    id="aws.role-denied",
    what="the AWS role cannot be assumed",
    advice="check role_arn and source_profile of the profile, and the role's trust policy; "
    "`aws sts get-caller-identity` must work",
    joint=_FOR,
)
PROFILE = Cause(
    id="aws.no-profile",
    what="no such AWS profile",
    advice="check AWS_PROFILE, and that the AWS config of this user has the profile",
    joint=": {named}, needed for ",
    naming=re.compile(r"config profile \((.*)\) could not"),
    unnamed="(unnamed)",
)
BAD_PROFILE = Cause(
    id="aws.incomplete-profile",
    what="the AWS profile is not complete",
    advice="correct role_arn, source_profile and sso_session in the AWS config",
    joint=_FOR,
)
WRONG = Cause(
    id="aws.wrong-credentials",
    what="the AWS credentials are wrong",
    advice="check the key id and the secret key, or the profile",
    joint=_FOR,
)
BROKEN_KEYS = Cause(  # a token of a file with line ends of Windows, or of a Kubernetes secret
    id="aws.line-break-in-credentials",
    what="the AWS credentials contain a line break",
    advice="remove it from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or wherever they come from",
    joint=_FOR,
)
WRONG_FOR_A_KEY = replace(WRONG, may_be_one_key=True)  # some servers sign unusual key names differently
NO_BUCKET = Cause(id="s3.no-bucket", what="no such bucket", advice="check its name, and AWS_ENDPOINT_URL if it is set")
CLOCK = Cause(
    id="s3.wrong-clock",
    what="this machine's clock is wrong, so S3 refuses its requests",
    advice="set the clock (NTP)",
)
DENIED = Cause(
    id="s3.access-denied",
    what="access denied",
    advice="check the keys; they need s3:PutObject, s3:GetObject and s3:ListBucket there; the bucket's policy may"
    " require --acl or --sse",
    may_be_one_key=True,
)
DENIED_READING = replace(
    DENIED,
    advice="check the keys; they need s3:GetObject and s3:ListBucket there; where the requester pays, only the keys of"
    " the bucket's owner can be used",
)
# An answer without a body gives no reason; a wrong clock looks the same there.
DENIED_WITHOUT_REASON = replace(
    DENIED,
    advice="check the keys, and this machine's clock; they need s3:PutObject, s3:GetObject and s3:ListBucket there",
)
KMS_DENIED = replace(
    DENIED,
    what="access to the KMS key denied",
    advice="give these credentials kms:GenerateDataKey and kms:Decrypt for the key, in its policy and in theirs",
)
KMS_KEY = Cause(
    id="s3.unusable-kms-key",
    what="the KMS key cannot be used",
    advice="check that the key of --sse-kms-key-id or of the bucket exists and is enabled",
    joint=_FOR,
)
KMS_KEY_OF_OBJECT = replace(  # objects that were sent at different times may have different keys
    KMS_KEY, advice="enable the key that the objects were encrypted with", may_be_one_key=True
)
FULL = Cause(
    id="s3.full",
    what="the storage is full",
    advice="ask its administrator for room or a larger quota; files that were verified are not sent again",
)
TOO_LARGE = Cause(
    id="s3.too-large",
    what="a request is too large for this server",
    advice="raise the limit of the proxy in front of it, e.g. client_max_body_size of nginx",
    may_be_one_key=True,
)
REDIRECTED = Cause(
    id="s3.redirected",
    what="the server redirects each request",
    advice="check AWS_ENDPOINT_URL and HTTPS_PROXY: another server, or the login page of a network, may be answering; "
    "on AWS, set AWS_DEFAULT_REGION to the bucket's region",
)
REGION = Cause(
    id="s3.wrong-region",
    what="the bucket is in another region",
    advice="set AWS_DEFAULT_REGION to {named}, and AWS_REGION too if it is set, or `region` of the profile",
    naming=re.compile(
        r"expecting '([a-z0-9-]+)'|\bs3[.-]([a-z]{2}(?:-[a-z]+)+-[0-9]+)\.|"
        r"The (?!unspecified)([a-z0-9-]+) location constraint"
    ),
    unnamed="the bucket's region",
)
NO_REGION = Cause(
    id="aws.no-region",
    what="no AWS region",
    advice="set AWS_DEFAULT_REGION, or `region` of the profile",
    joint=" for ",
)
CHECKSUMS = Cause(
    id="s3.unsupported-checksums",
    what="this server does not accept the checksums that the AWS CLI sends",
    advice="set AWS_REQUEST_CHECKSUM_CALCULATION=when_required, or request_checksum_calculation = when_required in the"
    " profile; if that is set, the server may not support your --sse, --acl or --storage-class",
)
ALL_REJECTED = Cause(
    id="s3.all-files-rejected",
    what="S3 rejects every file",
    advice="the log has the error of each file; run the same command again",
)

NOT_S3 = Cause(
    id="s3.unreachable",
    what="the server that answers is not S3",
    advice="check AWS_ENDPOINT_URL and HTTPS_PROXY: another server, a proxy that requires a user name and a password, "
    "or the login page of a network may be answering",
)
PROXY_LOGIN = Cause(
    id="s3.proxy-authentication",
    what="the proxy requires a user name and a password",
    advice="set HTTPS_PROXY, or HTTP_PROXY without TLS, to http://USER:PASSWORD@HOST:PORT, or name the server in "
    "NO_PROXY",
    joint=_FOR,
)

# Temporary causes.
UNREACHABLE = Cause(
    id="s3.unreachable",
    what="S3 cannot be reached",
    advice="check the network, the region's name, and AWS_ENDPOINT_URL and HTTPS_PROXY if they are set",
)
NO_RESPONSE = Cause(
    id="s3.no-response", what="S3 does not answer", advice="check the network; run the same command again"
)
THROTTLED = Cause(
    id="s3.throttled",
    what="S3 asks for fewer requests",
    advice="use fewer --cores or --threads, or upload at another time; run the same command again",
)
SERVER_ERROR = Cause(id="s3.server-error", what="S3 reports an internal error", advice="run the same command again")
