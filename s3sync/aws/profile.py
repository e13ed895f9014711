"""Reduce an AWS config to what the profile in use needs, without the credentials that the environment can carry.

As in botocore, a profile needs itself, the profiles that it takes its credentials from (`source_profile`), and the
`sso-session` and `services` sections that these name. All functions are pure.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from configparser import RawConfigParser
from typing import NamedTuple

PROFILE_VARIABLES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
SECRET_KEYS = ("aws_secret_access_key", "aws_session_token", "aws_security_token", "aws_access_key_id")
TOKEN_VARIABLES = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")  # version 1 reads only the second
CREDENTIAL_VARIABLES = (  # the CLI prefers them to the profile that AWS_PROFILE names
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", *TOKEN_VARIABLES),
    *("AWS_ACCESS_KEY", "AWS_SECRET_KEY"),  # the predecessor's names
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"),
)

_DEFAULT = "default"
_KINDS = ("profile", "sso-session", "services")
_READ_BY_THE_CLI = ("plugins", "preview")  # sections that are no profiles
# The CLI prefers each of these to the keys in the config file.
_PREFERRED_SOURCES = ("role_arn", "web_identity_token_file", "credential_process", "login_session")
_SSO = "sso_"


class Section(NamedTuple):
    """The title of a section: `[profile lab]` is of the kind `profile` and has the name `lab`."""

    kind: str
    name: str


def section_of(title: str) -> Section | None:
    """Return the section with this title, as botocore reads it; None for other kinds of sections."""
    if title == _DEFAULT:
        return Section("profile", _DEFAULT)
    kind = next((kind for kind in _KINDS if title.startswith(kind)), None)
    try:
        parts = shlex.split(title)
    except ValueError:
        return None
    return Section(kind, parts[1]) if kind and len(parts) == 2 else None


def in_use(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the profile in use; both, if two variables differ, since versions of the CLI prefer different ones."""
    named = dict.fromkeys(environ[name] for name in PROFILE_VARIABLES if environ.get(name))
    return tuple(named) or (_DEFAULT,)


def reduce(config: RawConfigParser, credentials: RawConfigParser, environ: Mapping[str, str]) -> dict[str, str]:
    """Remove what the profile in use does not need from `config`; return the variables that carry its credentials.

    `credentials` is the user's other file, which the CLI reads itself. `environ` is that of the `aws` processes.
    """
    used = in_use(environ)
    by_environment = bool(environ.get("AWS_ACCESS_KEY_ID"))  # the CLI prefers these keys to all files
    needed = used if by_environment else _with_sources(used, config, credentials)
    values = [_merged(name, config, credentials) for name in needed]
    kept = {
        "profile": set(needed),
        "sso-session": {value.get("sso_session", "") for value in values},
        "services": {value.get("services", "") for value in values},
    }
    carried = {} if by_environment or len(used) > 1 else _carried(used[0], config, credentials, environ)
    has_plugins = config.has_section("plugins")
    for title in config.sections():
        section = section_of(title)
        if section is None:
            if title not in _READ_BY_THE_CLI and (not has_plugins or title.startswith(_KINDS)):
                config.remove_section(title)
            else:
                _remove_keys(config, title)
        elif section.name not in kept[section.kind]:
            config.remove_section(title)
        elif by_environment or not _needs_keys(section.name, used, config, credentials):
            _remove_keys(config, title)
    return carried


def _with_sources(used: Sequence[str], config: RawConfigParser, credentials: RawConfigParser) -> tuple[str, ...]:
    found: list[str] = []
    open_ones = list(used)
    while open_ones:
        name = open_ones.pop()
        if name not in found:
            found.append(name)
            values = _merged(name, config, credentials)
            if "role_arn" in values and values.get("source_profile"):
                open_ones.append(values["source_profile"])
    return tuple(found)


def _needs_keys(name: str, used: Sequence[str], config: RawConfigParser, credentials: RawConfigParser) -> bool:
    """Return whether the CLI takes keys of this profile from the config, and the environment cannot carry them."""
    if credentials.has_option(name, "aws_access_key_id"):
        return False  # the CLI prefers these
    values = _merged(name, config, credentials)
    is_source = name not in used or ("role_arn" in values and values.get("source_profile") == name)
    return is_source or len(used) > 1 or not _are_complete(values)


def _carried(
    name: str, config: RawConfigParser, credentials: RawConfigParser, environ: Mapping[str, str]
) -> dict[str, str]:
    values = _merged(name, config, credentials)
    before = any(key in values for key in _PREFERRED_SOURCES) or any(key.startswith(_SSO) for key in values)
    elsewhere = credentials.has_option(name, "aws_access_key_id") or environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if before or elsewhere or not _are_complete(values):
        return {}
    token = values.get("aws_security_token", values.get("aws_session_token"))
    account = values.get("aws_account_id")
    return {
        "AWS_ACCESS_KEY_ID": values["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": values["aws_secret_access_key"],
        **({"AWS_SESSION_TOKEN": token} if token else {}),
        **({"AWS_ACCOUNT_ID": account} if account else {}),
    }


def _are_complete(values: Mapping[str, str]) -> bool:
    """Return whether there is a pair of keys. Half a pair stays in the config, where the CLI reports it."""
    return bool(values.get("aws_access_key_id") and values.get("aws_secret_access_key"))


def _merged(name: str, config: RawConfigParser, credentials: RawConfigParser) -> dict[str, str]:
    values: dict[str, str] = {}
    for title in profile_titles(config, name):
        values = dict(config.items(title))
    return {**values, **(dict(credentials.items(name)) if credentials.has_section(name) else {})}


def _remove_keys(config: RawConfigParser, title: str) -> None:
    for key in SECRET_KEYS:
        config.remove_option(title, key)


def profile_titles(config: RawConfigParser, name: str) -> Iterator[str]:
    """Return the titles of a profile's sections. Titles may be quoted differently; the CLI uses the last one."""
    return (title for title in config.sections() if section_of(title) == Section("profile", name))
