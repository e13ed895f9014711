"""Make the settings of the `aws` processes: a private copy of the user's AWS config, and an environment.

The user's files are only read. The copy keeps the profile in use with what it needs (see `profile`). The `s3` settings
that this program depends on are merged in, as `aws configure set PROFILE.s3.KEY` would do.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from s3sync.aws import profile
from s3sync.aws.etag import DEFAULT_MULTIPART, Multipart
from s3sync.errors import AwsError, advice_for
from s3sync.text import printable

# How long and how often the CLI asks the metadata service of a virtual machine or container for credentials, unless the
# user has set that. The default, once for 1 second, is too little if many processes ask at the same time.
_METADATA = {"metadata_service_timeout": "2", "metadata_service_num_attempts": "4"}

# The predecessor's names of variables of the CLI.
_LEGACY_VARIABLES = {"AWS_ACCESS_KEY": "AWS_ACCESS_KEY_ID", "AWS_SECRET_KEY": "AWS_SECRET_ACCESS_KEY"}
_SECRET_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_SECRET_KEY",
    "AWS_ACCESS_KEY_ID",
)
# They would change how the CLI reads and writes names, or add to its output.
_OUTPUT_VARIABLES = (
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
_MIN_SECRET_CHARS = 8  # redacting shorter ones would hide ordinary words
_UTF8 = re.compile(r"\.utf-?8(@|\Z)", re.IGNORECASE)
_URL_CREDENTIALS = re.compile(r"(?<=://)[^\s/?#]*@")


MAX_THREADS = 64  # requests at once on the fast path
STALL_SECONDS = 600.0  # after this time a process that transfers nothing is terminated
DEFAULT_THREADS = 4  # requests at once: more keep a core no busier, see scripts/bench/README.md
TransferClient = Literal["auto", "default", "crt"]


@dataclass(frozen=True, slots=True)
class CliSettings:
    """The settings of the `aws` processes. `max_bandwidth` is in bytes per second.

    `command` is the path or name of the CLI; None for the default one.
    """

    threads: int
    multipart: Multipart = DEFAULT_MULTIPART
    max_bandwidth: int | None = None
    client: TransferClient = "default"  # auto: with the plugin
    command: str | None = None
    stall_seconds: float = STALL_SECONDS

    def as_config(self) -> dict[str, str]:
        """Return names and values as in the `s3` section of an AWS config.

        The expected ETags depend on those of multipart uploads. `default` is the only name of the Python client that
        all versions 2 know. `crt` is their client in C, which respects the part size, but no limit of threads or
        bandwidth. Version 1 has only the Python client, and ignores the key.
        """
        # Version 1 reads no rate in plain bytes; its kB have 1,024.
        limit = {"max_bandwidth": f"{max(1, self.max_bandwidth // 1024)}KB/s"} if self.max_bandwidth else {}
        return {
            **limit,
            "max_concurrent_requests": str(self.threads),
            "multipart_threshold": str(self.multipart.threshold),
            "multipart_chunksize": str(self.multipart.part_size),
            "preferred_transfer_client": "crt" if self.client == "crt" else "default",
        }


def max_useful_threads(client: TransferClient) -> int:
    """Return how many requests at once may help a process: the CLI keeps ten connections, its plugin more."""
    return MAX_THREADS if client == "auto" else 10


def without_s3sync_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for other programs: without the variables of s3sync, which hold secrets."""
    return {name: value for name, value in environ.items() if not name.startswith("S3SYNC_")}


def _with_current_names(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the CLI's own names in place of the predecessor's."""
    child = dict(environ)
    if not any(new in child for new in _LEGACY_VARIABLES.values()):
        child.update({new: child[old] for old, new in _LEGACY_VARIABLES.items() if old in child})
    for old in _LEGACY_VARIABLES:
        child.pop(old, None)
    return child


def child_environment(
    environ: Mapping[str, str], config_file: Path, carried: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of the `aws` processes: the user's, with everything pinned that could change their output.

    `carried` are credentials of the user's config that the copy does not have.
    """
    child = _with_current_names(without_s3sync_variables(environ))
    if carried:
        for name in profile.TOKEN_VARIABLES:
            child.pop(name, None)  # it belongs to other keys
        child.update(carried)
    child.update(
        AWS_CONFIG_FILE=str(config_file),
        AWS_PAGER="",
        AWS_CLI_AUTO_PROMPT="off",
        AWS_DEFAULT_OUTPUT="json",
        PYTHONUTF8="1",  # file names are UTF-8, regardless of the locale of cron
    )
    for name in _OUTPUT_VARIABLES:
        child.pop(name, None)
    locale = next((child[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if child.get(name)), "")
    if not _UTF8.search(locale):
        child["LC_ALL"] = "C.UTF-8"
    if child.get("AWS_REGION") and not child.get("AWS_DEFAULT_REGION"):  # version 1 reads only this one
        child["AWS_DEFAULT_REGION"] = child["AWS_REGION"]
    if not (child.get("AWS_CA_BUNDLE") or profile_value(environ, "ca_bundle")) and child.get("REQUESTS_CA_BUNDLE"):
        child["AWS_CA_BUNDLE"] = child["REQUESTS_CA_BUNDLE"]  # the client in C knows only this one
    for key, value in _METADATA.items():
        if not profile_value(environ, key):
            child.setdefault(f"AWS_{key.upper()}", value)
    child.setdefault("AWS_RETRY_MODE", "standard")
    child.setdefault("AWS_MAX_ATTEMPTS", "4")
    return child


def write_config(environ: Mapping[str, str], settings: CliSettings, target: Path) -> dict[str, str]:
    """Write the private AWS config: what the profile in use needs of the user's, with the settings merged in.

    Returns the credentials of the profile as variables for the processes, since the copy has none. Raises AwsError.
    """
    parser = _read(_config_file(environ), "AWS config")
    sections = _sections_in_use(parser, environ)
    credentials = configparser.RawConfigParser(default_section="\0")
    with contextlib.suppress(AwsError):  # the CLI reports it if it needs that file
        credentials = _read(_credentials_file(environ), "AWS credentials file")
    carried = profile.reduce(parser, credentials, _with_current_names(environ))
    for section in sections:
        if not parser.has_section(section):
            parser.add_section(section)
        parser.set(section, "s3", _merged(parser.get(section, "s3", fallback=""), settings.as_config()))
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            parser.write(stream)
    except OSError as error:
        raise AwsError(
            f"cannot write {printable(str(target))}: {error.strerror} ({advice_for(error, 'set TMPDIR')})",
            id="aws.config-unwritable",
        ) from error
    return carried


def profile_value(environ: Mapping[str, str], key: str) -> str:
    """Return what the profile in use sets in the user's files; empty if it sets nothing, or they cannot be read."""
    found = []
    with contextlib.suppress(AwsError):
        config = _read(_config_file(environ), "AWS config")
        credentials = _read(_credentials_file(environ), "AWS credentials file")
        for name in profile.in_use(environ):
            found += [config.get(title, key, fallback="") for title in profile.profile_titles(config, name)]
            found.append(credentials.get(name, key, fallback=""))
    return next(filter(None, map(str.strip, found)), "")


def prefers_crt(environ: Mapping[str, str]) -> bool:
    """Return whether the user's config prefers the client in C, which `as_config` replaces."""
    return _pairs(profile_value(environ, "s3")).get("preferred_transfer_client") == "crt"


def wants_few_checksums(environ: Mapping[str, str]) -> bool:
    """Return whether the user wants checksums only where S3 requires them, as for servers without support."""
    name = "request_checksum_calculation"
    value = environ.get(f"AWS_{name.upper()}") or profile_value(environ, name)
    return value.lower() == "when_required"


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the credentials in the environment and in all profiles of the user's AWS files, longest first."""
    found = {environ.get(name, "") for name in _SECRET_VARIABLES}
    for path in (_config_file(environ), _credentials_file(environ)):
        with contextlib.suppress(AwsError):  # the CLI cannot read it either, so it cannot print it
            parser = _read(path, "AWS config")
            found |= {
                parser.get(section, key, fallback="") for section in parser.sections() for key in profile.SECRET_KEYS
            }
    found |= {line for secret in found for line in secret.split()}  # output has `\\n` for a line break
    found |= {quote(secret, safe="") for secret in found}  # as they appear in URLs
    return tuple(sorted((s for s in found if len(s) >= _MIN_SECRET_CHARS), key=lambda s: (-len(s), s)))


def private_paths(environ: Mapping[str, str]) -> dict[str, Path]:
    """Return the paths where the CLI reads and keeps secrets, each with what it is."""
    return {
        "the AWS config": _config_file(environ),
        "the AWS credentials file": _credentials_file(environ),
        "the folder of the AWS CLI's caches": _expanded("~/.aws"),
    }


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return text without these secrets, and without user and password in URLs (`https://user:password@proxy`)."""
    for secret in secrets:
        text = text.replace(secret, _REDACTED)
    return _URL_CREDENTIALS.sub(f"{_REDACTED}@", text)


def without_credentials(url: str) -> str:
    """Return a URL without user and password, which other users could see in the list of processes."""
    return _URL_CREDENTIALS.sub("", url)


def _config_file(environ: Mapping[str, str]) -> Path:
    return _expanded(environ.get("AWS_CONFIG_FILE", "~/.aws/config"))


def _credentials_file(environ: Mapping[str, str]) -> Path:
    return _expanded(environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")


def _expanded(path: str) -> Path:
    """Expand a path as the CLI does. Unlike Path.expanduser, this does not fail without a home folder."""
    return Path(os.path.expanduser(os.path.expandvars(path)))


def _read(path: Path, what: str) -> configparser.RawConfigParser:
    """Parse a file as the CLI does: without interpolation, and without a special section. Raises AwsError."""
    parser = configparser.RawConfigParser(default_section="\0")
    if not os.path.isfile(path):  # Path.is_file raises if a folder on the way cannot be entered
        return parser
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as stream:
            parser.read_file(stream, source=str(path))
    except OSError as error:
        raise AwsError(
            f"cannot read the {what} {printable(str(path))}: {error.strerror}"
            f" ({advice_for(error, 'check its permissions')})",
            id="aws.config-unreadable",
        ) from error
    except configparser.Error as error:
        first_line = printable(str(error).splitlines()[0])
        raise AwsError(
            f"cannot parse the {what} {printable(str(path))}: {first_line} (fix the file)", id="aws.bad-config"
        ) from error
    return parser


def _sections_in_use(parser: configparser.RawConfigParser, environ: Mapping[str, str]) -> list[str]:
    """Return the sections of the profile in use, and `default`; also a new one for a profile of the credentials file.

    A profile that does not exist gets none, since the CLI's own error is the right one.
    """
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
    """Return a nested `s3` value with these settings replaced or added."""
    merged = _pairs(nested) | dict(settings)
    return "".join(f"\n{name} = {value}" for name, value in merged.items())


def _pairs(nested: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in nested.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}
