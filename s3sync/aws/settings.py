"""The settings the children run with: a private copy of the user's AWS config, and an environment.

The user's files are only ever read. The copy keeps the profile in use with what it needs (`awsprofile`); the `s3`
settings that this program depends on are merged in, as `aws configure set PROFILE.s3.KEY` would do.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

from s3sync.aws import profile
from s3sync.aws.etag import DEFAULT_MULTIPART, Multipart
from s3sync.errors import AwsError
from s3sync.text import printable

# How long and how often the CLI asks the metadata service of a virtual machine or container for credentials, if nobody
# has set that: by default 1 second and once, which many processes at once are too much for.
_METADATA = {"metadata_service_timeout": "2", "metadata_service_num_attempts": "4"}

# The predecessor's names for what the CLI calls otherwise.
_OLD_NAMES = {"AWS_ACCESS_KEY": "AWS_ACCESS_KEY_ID", "AWS_SECRET_KEY": "AWS_SECRET_ACCESS_KEY"}
_SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_SECRET_KEY",
    "AWS_ACCESS_KEY_ID",
)
# They would change how the CLI reads and writes names, or mix into what it prints.
_OF_THE_OUTPUT = (
    "AWS_CLI_FILE_ENCODING",
    "PYTHONIOENCODING",
    "PYTHONWARNINGS",
    "PYTHONDEVMODE",
    "PYTHONPROFILEIMPORTTIME",
    "PYTHONVERBOSE",
    "PYTHONINSPECT",
    "PYTHONMALLOCSTATS",
)
_REDACTED = "[redacted]"
_SHORTEST_SECRET = 8  # characters: a shorter one would hide words that are none
_UTF8 = re.compile(r"\.utf-?8(@|\Z)", re.IGNORECASE)
_URL_CREDENTIALS = re.compile(r"(?<=://)[^\s/?#]*@")


TransferClient = Literal["default", "crt"]


class S3Settings(NamedTuple):
    """What is pinned for the transfers."""

    threads: int
    multipart: Multipart = DEFAULT_MULTIPART
    max_bandwidth: int | None = None  # bytes a second, of one process
    client: TransferClient = "default"

    def as_config(self) -> dict[str, str]:
        """Names and values as the `s3` section of an AWS config has them.

        The expected ETags depend on those of multipart uploads. `default` is the one name for the Python
        transfer client that every version 2 knows; `crt` is the one in C of version 2, which keeps to the part
        size, but to no limit of threads and bandwidth. Version 1 has no other and ignores the key.
        """
        # Version 1 reads no rate in plain bytes; its kB have 1,024.
        limit = {"max_bandwidth": f"{max(1, self.max_bandwidth // 1024)}KB/s"} if self.max_bandwidth else {}
        return {
            **limit,
            "max_concurrent_requests": str(self.threads),
            "multipart_threshold": str(self.multipart.threshold),
            "multipart_chunksize": str(self.multipart.part_size),
            "preferred_transfer_client": self.client,
        }


def without_s3sync_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for the programs of others: without our own variables, which are secrets."""
    return {name: value for name, value in environ.items() if not name.startswith("S3SYNC_")}


def _with_new_names(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with the CLI's own names of the keys."""
    child = dict(environ)
    if not any(new in child for new in _OLD_NAMES.values()):
        child.update({new: child[old] for old, new in _OLD_NAMES.items() if old in child})
    for old in _OLD_NAMES:
        child.pop(old, None)
    return child


def child_environment(
    environ: Mapping[str, str], config_file: Path, carried: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment for `aws`: the user's own, with everything pinned that could change its answers.

    `carried` are keys that the user's config has, and the copy has not.
    """
    child = _with_new_names(without_s3sync_variables(environ))
    if carried:
        for name in profile.TOKEN_VARIABLES:
            child.pop(name, None)  # it would be that of other keys
        child.update(carried)
    child.update(
        AWS_CONFIG_FILE=str(config_file),
        AWS_PAGER="",
        AWS_CLI_AUTO_PROMPT="off",
        AWS_DEFAULT_OUTPUT="json",
        PYTHONUTF8="1",  # file names are UTF-8, whatever cron's locale says
    )
    for name in _OF_THE_OUTPUT:
        child.pop(name, None)
    locale = next((child[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if child.get(name)), "")
    if not _UTF8.search(locale):
        child["LC_ALL"] = "C.UTF-8"
    if child.get("AWS_REGION") and not child.get("AWS_DEFAULT_REGION"):  # version 1 reads only this one
        child["AWS_DEFAULT_REGION"] = child["AWS_REGION"]
    for key, value in _METADATA.items():
        if not profile_value(environ, key):
            child.setdefault(f"AWS_{key.upper()}", value)
    child.setdefault("AWS_RETRY_MODE", "standard")
    child.setdefault("AWS_MAX_ATTEMPTS", "4")
    return child


def write_config(environ: Mapping[str, str], settings: S3Settings, target: Path) -> dict[str, str]:
    """Write what the profile in use needs of the user's AWS config, with the settings merged in, to `target` (0600).

    Returns the profile's keys as variables for the children, if the config has them: the copy does not. Raises
    AwsError.
    """
    parser = _read(_config_file(environ), "AWS config")
    sections = _sections_in_use(parser, environ)
    credentials = configparser.RawConfigParser(default_section="\0")
    with contextlib.suppress(AwsError):  # the CLI complains, if it needs that file
        credentials = _read(_credentials_file(environ), "AWS credentials file")
    carried = profile.reduce(parser, credentials, _with_new_names(environ))
    for section in sections:
        if not parser.has_section(section):
            parser.add_section(section)
        parser.set(section, "s3", _merged(parser.get(section, "s3", fallback=""), settings.as_config()))
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            parser.write(stream)
    except OSError as error:
        raise AwsError(f"cannot write {printable(str(target))}: {error.strerror} (set TMPDIR)") from error
    return carried


def profile_value(environ: Mapping[str, str], key: str) -> str:
    """What the profile in use sets, in the user's config or credentials file; empty if nothing, or not readable."""
    found = []
    with contextlib.suppress(AwsError):
        config = _read(_config_file(environ), "AWS config")
        credentials = _read(_credentials_file(environ), "AWS credentials file")
        for name in profile.in_use(environ):
            found += [config.get(title, key, fallback="") for title in profile.profile_titles(config, name)]
            found.append(credentials.get(name, key, fallback=""))
    return next(filter(None, map(str.strip, found)), "")


def wants_few_checksums(environ: Mapping[str, str]) -> bool:
    """Whether the user has the CLI send no checksums but where S3 requires them, as for servers that know none."""
    name = "request_checksum_calculation"
    said = environ.get(f"AWS_{name.upper()}") or profile_value(environ, name)
    return said.lower() == "when_required"


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The credentials in the environment and in the user's AWS files, whatever their profile, longest first."""
    found = {environ.get(name, "") for name in _SECRETS}
    for path in (_config_file(environ), _credentials_file(environ)):
        with contextlib.suppress(AwsError):  # what the CLI cannot read either, it cannot tell
            parser = _read(path, "AWS config")
            found |= {
                parser.get(section, key, fallback="") for section in parser.sections() for key in profile.SECRET_KEYS
            }
    found |= {line for secret in found for line in secret.split()}  # one with a line break is shown with `\\n` instead
    found |= {quote(secret, safe="") for secret in found}  # as URLs have them
    return tuple(sorted((s for s in found if len(s) >= _SHORTEST_SECRET), key=lambda s: (-len(s), s)))


def private_paths(environ: Mapping[str, str]) -> dict[str, Path]:
    """Return where the CLI reads secrets and keeps them, by what each is."""
    return {
        "the AWS config": _config_file(environ),
        "the AWS credentials file": _credentials_file(environ),
        "the folder of the AWS CLI's caches": _expanded("~/.aws"),
    }


def redact(text: str, secrets: Iterable[str]) -> str:
    """Text without these secrets, and without what stands before the host of a URL (`https://user:password@proxy`)."""
    for secret in secrets:
        text = text.replace(secret, _REDACTED)
    return _URL_CREDENTIALS.sub(f"{_REDACTED}@", text)


def without_credentials(url: str) -> str:
    """A URL without user and password, for the eyes of all who can list processes."""
    return _URL_CREDENTIALS.sub("", url)


def _config_file(environ: Mapping[str, str]) -> Path:
    return _expanded(environ.get("AWS_CONFIG_FILE", "~/.aws/config"))


def _credentials_file(environ: Mapping[str, str]) -> Path:
    return _expanded(environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")


def _expanded(path: str) -> Path:
    """As the CLI does it; unlike Path.expanduser, it leaves alone what has no home, as in some containers."""
    return Path(os.path.expanduser(os.path.expandvars(path)))


def _read(path: Path, what: str) -> configparser.RawConfigParser:
    """Parsed as the CLI parses it: no interpolation, and no section with a meaning of its own."""
    parser = configparser.RawConfigParser(default_section="\0")
    if not os.path.isfile(path):  # Path.is_file raises where a folder on the way may not be looked into
        return parser
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as stream:
            parser.read_file(stream, source=str(path))
    except OSError as error:
        raise AwsError(f"cannot read the {what} {printable(str(path))}: {error.strerror}") from error
    except configparser.Error as error:
        first_line = printable(str(error).splitlines()[0])
        raise AwsError(f"cannot parse the {what} {printable(str(path))}: {first_line} (mend the file)") from error
    return parser


def _sections_in_use(parser: configparser.RawConfigParser, environ: Mapping[str, str]) -> list[str]:
    """The sections of the profile in use, and one more if it is only in the credentials file; `default` in any case.
    A profile that is nowhere gets none: the CLI's own complaint is the right one."""
    sections = []
    for name in dict.fromkeys((*profile.in_use(environ), "default")):
        titles = list(profile.profile_titles(parser, name))
        if name == "default":
            titles = titles or ["default"]
        elif not titles and _read(_credentials_file(environ), "AWS credentials file").has_section(name):
            titles = [f"profile {shlex.quote(name)}"]
        sections += titles
    return sections


def _merged(nested: str, settings: Mapping[str, str]) -> str:
    """A nested `s3` value with settings replaced or added."""
    pairs = (line.partition("=") for line in nested.splitlines() if "=" in line)
    merged = {name.strip(): value.strip() for name, _, value in pairs} | dict(settings)
    return "".join(f"\n{name} = {value}" for name, value in merged.items())
