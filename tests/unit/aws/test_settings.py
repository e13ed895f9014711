"""The private copy of the AWS config against what the CLI itself would write, and the children's environment."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from awscli.botocore.configloader import load_config  # type: ignore[import-untyped]
from awscli.botocore.session import Session  # type: ignore[import-untyped]
from awscli.customizations.configure import profile_to_section  # type: ignore[import-untyped]
from awscli.customizations.configure.writer import ConfigFileWriter  # type: ignore[import-untyped]

from s3sync.aws.etag import Multipart
from s3sync.aws.settings import CliSettings, child_environment, redact, secrets_of, write_config
from s3sync.errors import AwsError, S3SyncError
from tests.helpers.errors import error_ids, raises_error
from tests.helpers.unprivileged import run_unprivileged

pytestmark = pytest.mark.real_aws

SETTINGS = CliSettings(7, Multipart(threshold=9_000_000, part_size=10_000_000))
PINNED = {
    "max_concurrent_requests": "7",
    "multipart_threshold": "9000000",
    "multipart_chunksize": "10000000",
    "preferred_transfer_client": "default",
}

DEFAULT_ONLY = "[default]\nregion = eu-west-2\noutput = table\n"
SEVERAL = """\
[default]
region = eu-west-2

[profile lab]
region = us-east-1
role_arn = arn:aws:iam::123456789012:role/lab
source_profile = default

[profile other]
region=ap-southeast-2
"""
QUOTED = "[profile 'night shift']\nregion = eu-west-2\n"
DOUBLY_QUOTED = '[profile "night shift"]\nregion = eu-west-2\n'
SSO = """\
[profile lab]
sso_session = hospital
sso_account_id = 123456789012
sso_role_name = Uploader
services = local

[sso-session hospital]
sso_region = eu-west-2
sso_start_url = https://example.awsapps.com/start#/
sso_registration_scopes = sso:account:access

[services local]
s3 =
  endpoint_url = https://s3.example.org:9000
dynamodb =
  endpoint_url = https://dynamodb.example.org
"""
NESTED = """\
[default]
s3 =
    max_concurrent_requests = 100
    max_bandwidth = 50MB/s
    addressing_style=path
    preferred_transfer_client = crt
region = eu-west-2
[profile lab]
s3api =
    payload_signing_enabled = true
s3 =
    multipart_chunksize = 64MB
    use_accelerate_endpoint = true
"""
PERCENT = "[default]\nregion = eu-%(west)s-2\ncredential_process = /opt/get --format %d --half 50% $HOME\n"
COMMENTS = """\
# our config
; another comment
[default]
# region = us-east-1
region = eu-west-2 ; not a comment to the CLI
s3 =
    max_concurrent_requests = 3
    # fast
    use_dualstack_endpoint = true

[plugins]
endpoint = awscli_plugin_endpoint
[preview]
cloudfront = true
"""
UNICODE = "[default]\nregion = eu-west-2\nrole_session_name = Zoë\n"
COMMENT_FIRST = "[default]\ns3 =\n  # fast\n  max_concurrent_requests = 3\n\n  addressing_style = path\n"
NO_NEWLINE_AT_THE_END = "[profile lab]\nregion = eu-west-2"

CONFIGS = [
    pytest.param(None, "", id="none"),
    pytest.param("", "", id="empty"),
    pytest.param(DEFAULT_ONLY, "", id="default only"),
    pytest.param(SEVERAL, "", id="several, default"),
    pytest.param(SEVERAL, "lab", id="several, lab"),
    pytest.param(QUOTED, "night shift", id="quoted"),
    pytest.param(SSO, "lab", id="sso"),
    pytest.param(NESTED, "", id="nested, default"),
    pytest.param(NESTED, "lab", id="nested, lab"),
    pytest.param(PERCENT, "", id="percent"),
    pytest.param(COMMENTS, "", id="comments"),
    pytest.param(UNICODE, "", id="not ASCII"),
    pytest.param(NO_NEWLINE_AT_THE_END, "lab", id="no newline at the end"),
]
# where the CLI's writer gives the profile a second section, or ends with a traceback
BEYOND_THE_CLI = [
    pytest.param(DOUBLY_QUOTED, "night shift", id="double quotes"),
    pytest.param(COMMENT_FIRST, "", id="comment first"),
]


class Home:
    """A user's AWS files, and the copy that is made of them."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "config"
        self.credentials = folder / "credentials"
        self.copy = folder / "copy"
        self.environ = {"AWS_CONFIG_FILE": str(self.config), "AWS_SHARED_CREDENTIALS_FILE": str(self.credentials)}

    def copied(self, **environ: str) -> dict[str, Any]:
        """Make the copy, and give what botocore reads in it."""
        write_config({**self.environ, **environ}, SETTINGS, self.copy)
        return parsed(self.copy)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def parsed(path: Path) -> dict[str, Any]:
    """What botocore reads, and hands to the CLI."""
    read: dict[str, Any] = load_config(str(path))
    return read


def needed_by(profile: str, config: dict[str, Any]) -> dict[str, Any]:
    """Of a parsed config, what a profile needs: itself, its sources, and the sections that these name."""
    everything, names = config["profiles"], [profile]
    while (source := everything.get(names[-1], {}).get("source_profile")) and source not in names:
        names.append(source)
    profiles = {name: everything[name] for name in names if name in everything}
    kept = {"profiles": profiles}
    for kind, key in (("sso_sessions", "sso_session"), ("services", "services")):
        named = {values.get(key) for values in profiles.values()}
        kept[kind] = {name: values for name, values in config[kind].items() if name in named}
    return {**config, **kept}


def pinned_into(config: dict[str, Any], profile: str) -> dict[str, Any]:
    """A parsed config, as far as the profile needs it, with the settings in its `s3` section and in the default's."""
    needed = needed_by(profile, config)
    profiles = dict(needed["profiles"])
    for name in ("default", profile):
        values = profiles.get(name, {})
        profiles[name] = {**values, "s3": {**values.get("s3", {}), **PINNED}}
    return {**needed, "profiles": profiles}


def assert_as_if_set_by(oracle: Path, home: Home, profile: str) -> None:
    """For the profile in use; what no other profile says of it goes into the copy."""
    ours, theirs = parsed(home.copy), parsed(oracle)
    name = profile or "default"
    assert ours["profiles"][name] == theirs["profiles"][name]
    assert ours == pinned_into(theirs, name)


def write_user_config(home: Home, text: str | None) -> Path:
    """The user's file, and a second one for the oracle to change."""
    oracle = home.config.with_name("oracle")
    if text is not None:
        home.config.write_text(text, encoding="utf-8")
        shutil.copyfile(home.config, oracle)
    return oracle


@pytest.mark.parametrize(("text", "profile"), CONFIGS + BEYOND_THE_CLI)
def test_copy_is_the_users_config_and_the_settings(home: Home, text: str | None, profile: str) -> None:
    empty = home.config.with_name("empty")
    empty.touch()
    write_user_config(home, text)
    before = parsed(empty if text is None else home.config)
    assert home.copied(**({"AWS_PROFILE": profile} if profile else {})) == pinned_into(before, profile or "default")


@pytest.mark.parametrize(("text", "profile"), CONFIGS)
def test_copy_is_what_the_clis_writer_would_make(home: Home, text: str | None, profile: str) -> None:
    oracle = write_user_config(home, text)
    section = profile_to_section(profile) if profile else "default"
    for name, value in PINNED.items():
        ConfigFileWriter().update_config({"__section__": section, "s3": {name: value}}, str(oracle))
    home.copied(**({"AWS_PROFILE": profile} if profile else {}))
    assert_as_if_set_by(oracle, home, profile)


@pytest.mark.real
@pytest.mark.parametrize(("text", "profile"), [(NESTED, ""), (QUOTED, "night shift")], ids=["nested", "quoted"])
def test_copy_is_what_version_2_makes(home: Home, aws_v2: str, text: str, profile: str) -> None:
    """With version 1 its writer was asked itself, above."""
    oracle = write_user_config(home, text)
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(home.config.parent), "AWS_CONFIG_FILE": str(oracle)}
    options = ("--profile", profile) if profile else ()
    for name, value in PINNED.items():
        subprocess.run((aws_v2, "configure", "set", f"s3.{name}", value, *options), env=environ, check=True)
    home.copied(**({"AWS_PROFILE": profile} if profile else {}))
    assert_as_if_set_by(oracle, home, profile)


@pytest.mark.parametrize(("text", "profile"), CONFIGS + BEYOND_THE_CLI)
def test_the_users_file_stays_as_it_is(home: Home, text: str | None, profile: str) -> None:
    write_user_config(home, text)
    before = home.config.read_bytes() if text is not None else None
    home.copied(**({"AWS_PROFILE": profile} if profile else {}))
    assert (home.config.read_bytes() if home.config.exists() else None) == before


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_copy_is_for_this_user_alone(home: Home, umask: int) -> None:
    before = os.umask(umask)
    try:
        home.copied()
    finally:
        os.umask(before)
    assert stat.S_IMODE(home.copy.stat().st_mode) == 0o600


def test_copy_replaces_nothing(home: Home) -> None:
    home.copy.write_text("precious")
    with pytest.raises((S3SyncError, FileExistsError)):
        home.copied()
    assert home.copy.read_text() == "precious"


def test_a_copy_that_cannot_be_written_is_a_clear_error(home: Home) -> None:
    with raises_error(AwsError, "aws.config-unwritable", "gone"):
        write_config(home.environ, SETTINGS, home.copy.parent / "gone" / "copy")


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
@pytest.mark.parametrize("profile", ["lab", "night shift", "o'hara", "a#b;c"])
def test_a_profile_only_in_the_credentials_file_gets_a_section(home: Home, variable: str, profile: str) -> None:
    home.config.write_text(DEFAULT_ONLY)
    home.credentials.write_text(f"[default]\naws_access_key_id = A\n[{profile}]\naws_access_key_id = B\n")
    before = home.credentials.read_bytes()
    copied = home.copied(**{variable: profile})
    assert copied["profiles"].keys() == {"default", profile}
    assert copied["profiles"][profile] == {"s3": PINNED}
    assert home.credentials.read_bytes() == before
    assert "aws_access_key_id" not in home.copy.read_text()


@pytest.mark.parametrize("config", [None, DEFAULT_ONLY, SEVERAL])
@pytest.mark.parametrize("credentials", [None, "[default]\naws_access_key_id = A\n", "[elsewhere]\n"])
def test_a_profile_that_does_not_exist_is_not_invented(home: Home, config: str | None, credentials: str | None) -> None:
    if config is not None:
        home.config.write_text(config)
    if credentials is not None:
        home.credentials.write_text(credentials)
    assert "typo" not in home.copied(AWS_PROFILE="typo")["profiles"]


def test_both_spellings_of_the_default_profile(home: Home) -> None:
    home.config.write_text("[profile default]\nregion = eu-west-2\n")
    assert home.copied()["profiles"] == {"default": {"region": "eu-west-2", "s3": PINNED}}


def test_settings_written_in_capitals_are_found(home: Home) -> None:
    """The CLI reads option names in any case: `S3 =` beside our `s3 =` would be a duplicate to it."""
    home.config.write_text("[default]\nRegion = eu-west-2\nS3 =\n  addressing_style = path\n")
    assert home.copied()["profiles"]["default"] == {
        "region": "eu-west-2",
        "s3": {"addressing_style": "path", **PINNED},
    }


@pytest.mark.parametrize("name", ["x", "lab", "DEFAULT", "profile", "profile a b", "profile 'open"])
def test_sections_that_the_cli_does_not_read_stay_out_of_the_copy(home: Home, name: str) -> None:
    """`[lab]` without `profile` is a common mistake, and may have keys; `[DEFAULT]` has no meaning for the CLI."""
    home.config.write_text(f"[{name}]\naws_secret_access_key = precious-key\n[default]\nregion = eu-west-2\n")
    copied = home.copied()
    assert copied["profiles"] == {"default": {"region": "eu-west-2", "s3": PINNED}}
    assert "precious" not in home.copy.read_text()


def test_sections_of_a_plugin_are_kept_without_keys(home: Home) -> None:
    home.config.write_text(
        "[plugins]\nsaml = lab_saml\n[lab_saml]\nurl = https://idp\naws_secret_access_key = precious\n"
    )
    copied = home.copied()
    assert copied["plugins"] == {"saml": "lab_saml"}
    assert copied["lab_saml"] == {"url": "https://idp"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"region = eu-west-2\n", "no section headers"),
        (b"[default]\n[profile lab]\n[profile lab]\n", "already exists"),
        (b"[default]\nregion = a\nregion = b\n", "already exists"),
        (b"[default]\nregion\n", "parsing errors"),
        (b"\xff\xfe[\0d\0]\0", "no section headers"),
    ],
)
@pytest.mark.parametrize("which", ["config", "credentials"])
def test_a_file_that_cannot_be_parsed_is_named(home: Home, which: str, content: bytes, reason: str) -> None:
    path = getattr(home, which)
    path.write_bytes(content)
    with raises_error(AwsError, "aws.bad-config", reason, str(path)) as caught:
        home.copied(AWS_PROFILE="only-in-credentials")
    assert "\n" not in str(caught.value)
    assert not home.copy.exists()


UNREADABLE = """
import sys
from pathlib import Path
from s3sync.aws.settings import CliSettings, write_config
from s3sync.errors import AwsError
try:
    write_config({"AWS_CONFIG_FILE": sys.argv[1]}, CliSettings(1), Path(sys.argv[2]))
except AwsError as error:
    print(f"{error} [{error.id}]")
"""


def test_a_config_in_an_inaccessible_folder_counts_as_empty(home: Home) -> None:
    """As for the CLI."""
    closed = home.copy.parent / "closed"
    closed.mkdir()
    (closed / "config").write_text(DEFAULT_ONLY)
    closed.chmod(0)
    assert run_unprivileged(UNREADABLE, closed / "config", home.copy) == ""
    assert "eu-west-2" not in home.copy.read_text()


def test_a_config_that_may_not_be_read_is_named(home: Home) -> None:
    home.config.write_text(DEFAULT_ONLY)
    home.config.chmod(0)
    said = run_unprivileged(UNREADABLE, home.config, home.copy)
    assert (error_ids(said), said.count("\n")) == (["aws.config-unreadable"], 1)
    assert f" {home.config}: Permission denied " in said


def test_bytes_that_are_not_utf8_are_kept(home: Home) -> None:
    home.config.write_bytes(b"[default]\nrole_session_name = Zo\xeb\n")
    write_config(home.environ, SETTINGS, home.copy)
    assert b"role_session_name = Zo\xeb\n" in home.copy.read_bytes()


@pytest.mark.parametrize(
    "path", ["/dev/null", "~no-such-user/config", "/etc/hostname/config", "{tmp}/gone/config", "a" * 5000]
)
def test_a_config_file_that_is_not_there_is_an_empty_one(home: Home, path: str) -> None:
    """As for the CLI, which takes a path it cannot expand at its word."""
    assert home.copied(AWS_CONFIG_FILE=path.format(tmp=home.config.parent))["profiles"] == {"default": {"s3": PINNED}}


def test_paths_are_expanded_as_the_cli_expands_them(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home.config.parent))
    monkeypatch.setenv("LAB", str(home.config.parent))
    home.config.write_text(DEFAULT_ONLY)
    for number, path in enumerate(("~/config", "$LAB/config", "${LAB}/config")):
        home.copy = home.config.with_name(f"copy{number}")
        assert home.copied(AWS_CONFIG_FILE=path)["profiles"]["default"]["region"] == "eu-west-2", path


def test_without_a_variable_the_config_is_in_the_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home.config.parent))
    aws = home.config.parent / ".aws"
    aws.mkdir()
    (aws / "config").write_text(DEFAULT_ONLY)
    (aws / "credentials").write_text("[lab]\n")
    write_config({"AWS_PROFILE": "lab"}, SETTINGS, home.copy)
    assert parsed(home.copy)["profiles"] == {"default": {"s3": PINNED}, "lab": {"s3": PINNED}}


def test_an_empty_variable_is_not_a_config(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions of the CLI read nothing then, not the file in the home."""
    monkeypatch.setenv("HOME", str(home.config.parent))
    (home.config.parent / ".aws").mkdir()
    (home.config.parent / ".aws" / "config").write_text(DEFAULT_ONLY)
    assert home.copied(AWS_CONFIG_FILE="")["profiles"] == {"default": {"s3": PINNED}}


# Whose credentials

OTHERS = """
[profile stranger]
aws_access_key_id = STRANGERID
aws_secret_access_key = strangers-secret
[stranger-without-the-word]
aws_secret_access_key = strangers-secret
[sso-session strangers]
sso_start_url = https://strangers.example.org
[services strangers]
s3 =
  endpoint_url = https://strangers.example.org
"""
PAIR = "aws_access_key_id = CONFIGID\naws_secret_access_key = config/secret\n"
OWN_KEYS = f"[profile lab]\nregion = eu-west-2\n{PAIR}"
ROLE = "[profile lab]\nrole_arn = arn:aws:iam::123456789012:role/lab\nsource_profile = base\n"
CHAIN = (
    f"{ROLE}aws_access_key_id = UNUSED\naws_secret_access_key = unused-secret\n"
    f"[profile base]\n{PAIR}[default]\naws_secret_access_key = strangers-secret\n"
)
LONG_CHAIN = (
    f"{ROLE}[profile base]\nrole_arn = arn:aws:iam::123456789012:role/base\nsource_profile = root of all\n"
    f"[profile 'root of all']\n{PAIR}"
)
FROM_FILE = "[{}]\naws_access_key_id = FILEID\naws_secret_access_key = file/secret\n"
LAB = {"AWS_PROFILE": "lab"}
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "ENVID", "AWS_SECRET_ACCESS_KEY": "env/secret"}

# The config, the credentials file, the environment, and whether the copy has to have keys.
WHOSE = [
    pytest.param(f"[default]\n{PAIR}", "", {}, False, id="default"),
    pytest.param(f"[profile default]\n{PAIR}", "", {}, False, id="profile default"),
    pytest.param(OWN_KEYS, "", LAB, False, id="own keys"),
    pytest.param(OWN_KEYS, "", {"AWS_DEFAULT_PROFILE": "lab"}, False, id="own keys, other variable"),
    pytest.param(f"{OWN_KEYS}aws_session_token = a-token\n", "", LAB, False, id="token"),
    pytest.param(f"{OWN_KEYS}aws_security_token = a-token\n", "", LAB, False, id="old token"),
    pytest.param(OWN_KEYS, "", {**LAB, "AWS_SESSION_TOKEN": "stale"}, False, id="token of other keys"),
    pytest.param(OWN_KEYS, "", {**LAB, "AWS_ACCESS_KEY_ID": ""}, False, id="empty variable"),
    pytest.param(OWN_KEYS, "", {**LAB, **ENVIRONMENT}, False, id="environment first"),
    pytest.param(OWN_KEYS, FROM_FILE.format("lab"), LAB, False, id="credentials file first"),
    pytest.param("[profile lab]\nregion = eu-west-2\n", FROM_FILE.format("lab"), LAB, False, id="only in that file"),
    pytest.param(f"{OWN_KEYS}credential_process = cat {{given}}\n", "", LAB, False, id="process first"),
    pytest.param(CHAIN, "", LAB, True, id="role"),
    pytest.param(CHAIN, FROM_FILE.format("base"), LAB, False, id="role, source in that file"),
    pytest.param(f"[profile base]\n{PAIR}", ROLE.replace("profile lab", "lab"), LAB, True, id="role in that file"),
    pytest.param(LONG_CHAIN, "", LAB, True, id="role of a role"),
    pytest.param(f"{ROLE.replace('base', 'lab')}{PAIR}", "", LAB, True, id="role from its own keys"),
    pytest.param(CHAIN, "", {**LAB, **ENVIRONMENT}, False, id="environment instead of role"),
]


def credentials_of(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What botocore finds with such an environment; of a role, what it would be asked for with."""
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        found: dict[str, Any] = {}
        credentials = Session().get_credentials()
        while credentials.method == "assume-role":
            fetcher = credentials._refresh_using.__self__
            found.setdefault("roles", []).append(fetcher._role_arn)
            credentials = fetcher._source_credentials
        return {**found, **credentials.get_frozen_credentials()._asdict()}


@pytest.mark.parametrize(("config", "credentials", "environ", "keys_in_copy"), WHOSE)
def test_the_copy_gives_the_same_credentials_and_no_others(
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    credentials: str,
    environ: dict[str, str],
    keys_in_copy: bool,
) -> None:
    given = home.config.with_name("given.json")
    given.write_text(json.dumps({"Version": 1, "AccessKeyId": "PROCESSID", "SecretAccessKey": "process-secret"}))
    home.config.write_text(config.replace("{given}", str(given)) + OTHERS)
    home.credentials.write_text(credentials)
    environ = {**home.environ, "PATH": "/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED": "true", **environ}
    before = credentials_of(environ, monkeypatch)

    carried = write_config(environ, SETTINGS, home.copy)

    assert credentials_of(child_environment(environ, home.copy, carried), monkeypatch) == before
    copy = home.copy.read_text()
    assert "stranger" not in copy
    assert "unused" not in copy
    assert ("config/secret" in copy) is keys_in_copy


@pytest.mark.parametrize("half", ["aws_access_key_id = CONFIGID\n", "aws_secret_access_key = config/secret\n"])
def test_half_a_pair_of_keys_is_never_completed(home: Home, half: str) -> None:
    home.config.write_text(f"[default]\n{half}")
    assert write_config(home.environ, SETTINGS, home.copy) == {}


def test_two_variables_that_disagree_keep_both_profiles(home: Home) -> None:
    """The versions of the CLI do not agree which of them counts."""
    home.config.write_text(f"[profile a]\n{PAIR}[profile b]\n{PAIR}{OTHERS}")
    copied = home.copied(AWS_PROFILE="a", AWS_DEFAULT_PROFILE="b")
    assert copied["profiles"].keys() == {"a", "b", "default"}


# The environment

CONFIG = Path("/work/aws-config")
FIXED = {
    "AWS_CONFIG_FILE": "/work/aws-config",
    "AWS_PAGER": "",
    "AWS_CLI_AUTO_PROMPT": "off",
    "AWS_DEFAULT_OUTPUT": "json",
    "PYTHONUTF8": "1",
}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        dict.fromkeys(FIXED, "the user's"),
        {"AWS_CLI_FILE_ENCODING": "cp1252", "LANG": "de_DE.UTF-8"},
        {"PYTHONIOENCODING": "ascii", "PYTHONVERBOSE": "1", "PYTHONINSPECT": "1"},
    ],
)
def test_what_could_change_the_answers_is_pinned(environ: dict[str, str]) -> None:
    child = child_environment(environ, CONFIG)
    assert {name: child[name] for name in FIXED} == FIXED
    assert "AWS_CLI_FILE_ENCODING" not in child
    assert [name for name in child if name.startswith("PYTHON")] == ["PYTHONUTF8"]


def test_the_rest_is_the_users_own_and_stays_untouched() -> None:
    environ = {"PATH": "/bin", "AWS_PROFILE": "lab", "AWS_CA_BUNDLE": "/ca.pem", "LANG": "de_DE.UTF-8", "X": "1"}
    before = dict(environ)
    child = child_environment(environ, CONFIG)
    assert environ == before
    assert {name: child[name] for name in environ} == environ
    assert "LC_ALL" not in child


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({}, {}),
        ({"KEY": "old", "SECRET": "old"}, {"KEY_ID": "old", "SECRET_ACCESS": "old"}),
        ({"KEY": "old"}, {"KEY_ID": "old"}),
        ({"KEY_ID": "new", "SECRET_ACCESS": "new"}, {"KEY_ID": "new", "SECRET_ACCESS": "new"}),
        (
            {"KEY": "old", "SECRET": "old", "KEY_ID": "new", "SECRET_ACCESS": "new"},
            {"KEY_ID": "new", "SECRET_ACCESS": "new"},
        ),
        ({"KEY": "old", "SECRET": "old", "KEY_ID": "new"}, {"KEY_ID": "new"}),
        ({"KEY": "old", "SECRET": "old", "SECRET_ACCESS": "new"}, {"SECRET_ACCESS": "new"}),
    ],
)
def test_the_predecessors_names_of_the_keys(given: dict[str, str], seen: dict[str, str]) -> None:
    """Two halves of different credentials are never put together."""
    names = {
        "KEY": "AWS_ACCESS_KEY",
        "SECRET": "AWS_SECRET_KEY",
        "KEY_ID": "AWS_ACCESS_KEY_ID",
        "SECRET_ACCESS": "AWS_SECRET_ACCESS_KEY",
    }
    child = child_environment({names[short]: value for short, value in given.items()}, CONFIG)
    assert {short: child[name] for short, name in names.items() if name in child} == seen


@pytest.mark.parametrize(
    ("environ", "for_version_1"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": ""}, "eu-west-1"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-2"}, "us-east-2"),
        ({"AWS_DEFAULT_REGION": "us-east-2"}, "us-east-2"),
        ({"AWS_REGION": ""}, None),  # the profile's
        ({}, None),
    ],
)
def test_the_region_of_the_environment_is_passed_on_under_the_name_that_version_1_knows(
    environ: dict[str, str], for_version_1: str | None
) -> None:
    child = child_environment(environ, Path("/config"))
    assert child.get("AWS_DEFAULT_REGION") == for_version_1
    assert child.get("AWS_REGION") == environ.get("AWS_REGION")


@pytest.mark.parametrize(
    ("environ", "mode", "attempts"),
    [
        ({}, "standard", "4"),
        ({"AWS_RETRY_MODE": "adaptive"}, "adaptive", "4"),
        ({"AWS_MAX_ATTEMPTS": "9"}, "standard", "9"),
    ],
)
def test_retries_are_the_users_choice(environ: dict[str, str], mode: str, attempts: str) -> None:
    child = child_environment(environ, CONFIG)
    assert (child["AWS_RETRY_MODE"], child["AWS_MAX_ATTEMPTS"]) == (mode, attempts)


@pytest.mark.parametrize(
    ("environ", "lc_all"),
    [
        ({}, "C.UTF-8"),
        ({"LANG": ""}, "C.UTF-8"),
        ({"LANG": "C"}, "C.UTF-8"),
        ({"LANG": "POSIX"}, "C.UTF-8"),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "C"}, "C.UTF-8"),
        ({"LANG": "en_GB.UTF-8", "LC_CTYPE": "C"}, "C.UTF-8"),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "en_US.ISO-8859-15"}, "C.UTF-8"),
        ({"LANG": "C", "LC_CTYPE": "en_GB.UTF-8"}, None),
        ({"LANG": "en_GB.UTF-8"}, None),
        ({"LANG": "de_DE.utf8@euro"}, None),
        ({"LANG": "en_US"}, "C.UTF-8"),
        ({"LANG": "en_US.ISO-8859-1"}, "C.UTF-8"),
        ({"LANG": "C", "LC_ALL": "en_GB.UTF-8"}, "en_GB.UTF-8"),
    ],
)
def test_a_locale_without_utf8_is_replaced(environ: dict[str, str], lc_all: str | None) -> None:
    assert child_environment(environ, CONFIG).get("LC_ALL") == lc_all


# Secrets

NO_FILES = {"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}


@pytest.mark.parametrize(
    "name",
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_SECRET_KEY"],
)
def test_credentials_are_redacted(name: str) -> None:
    secret = "wJalr+XUtn/FEMI=="
    text = f"PUT failed for {secret}: '{secret}'"
    environ = {**NO_FILES, name: secret, "PATH": "/bin"}
    assert redact(text, secrets_of(environ)) == "PUT failed for [redacted]: '[redacted]'"


@pytest.mark.parametrize("environ", [{}, {"AWS_SECRET_ACCESS_KEY": ""}, {"AWS_SECRET_ACCESS_KEY": "testing"}])
def test_nothing_else_is_redacted(environ: dict[str, str]) -> None:
    text = "just testing s3://lab-runs/RUN/a@b to user@example.org"
    assert redact(text, secrets_of({**NO_FILES, **environ})) == text


@pytest.mark.parametrize("token", ["t0ken-abc+def\n", "t0ken-abc+def\r", " t0ken-abc+def", "t0ken-abc\nt0ken-def"])
def test_a_token_with_a_line_break_is_redacted_in_the_message_of_the_http_library(token: str) -> None:
    text = f"Invalid header value {token.encode()!r}"
    assert "t0ken" not in redact(text, secrets_of({**NO_FILES, "AWS_SESSION_TOKEN": token}))


def test_all_secrets_of_a_line_are_redacted() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "AKIA1234", "AWS_SECRET_ACCESS_KEY": "s3cr3t-key", "AWS_SESSION_TOKEN": "t0ken-abc"}
    secrets = secrets_of({**NO_FILES, **environ})
    assert redact("AKIA1234 s3cr3t-key t0ken-abc", secrets) == "[redacted] [redacted] [redacted]"
    longer = {**NO_FILES, "AWS_ACCESS_KEY_ID": "AKIA1234", "AWS_SECRET_ACCESS_KEY": "AKIA1234-and-more"}
    assert redact("AKIA1234-and-more", secrets_of(longer)) == "[redacted]", "the longest first"


def test_credentials_of_the_users_files_are_redacted_regardless_of_their_profile(tmp_path: Path) -> None:
    """Also as URLs spell them, and where a file cannot be read."""
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    config.write_text("[profile a]\naws_secret_access_key = in/config+file=\nregion = eu-west-2\n")
    credentials.write_text(
        "[a]\naws_access_key_id = AKIAINFILE\naws_secret_access_key=%(no)interpolation\n"
        "[b]\naws_session_token : t0ken/bb\n"
    )
    environ = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    text = "AKIAINFILE %(no)interpolation t0ken/bb t0ken%2Fbb in/config+file= in%2Fconfig%2Bfile%3D eu-west-2"
    assert redact(text, secrets_of(environ)) == "[redacted] " * 6 + "eu-west-2"
    config.write_text("no section")
    assert redact("AKIAINFILE", secrets_of(environ)) == "[redacted]"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('"https://user:pa55@proxy:3128/"', '"https://[redacted]@proxy:3128/"'),
        (
            "http://t0ken@s3.example.org and http://a:b@c@d/x@y",
            "http://[redacted]@s3.example.org and http://[redacted]@d/x@y",
        ),
        ("https://s3.example.org/x@y?z=a@b", "https://s3.example.org/x@y?z=a@b"),
    ],
)
def test_what_a_url_has_before_its_host_is_redacted(text: str, redacted: str) -> None:
    assert redact(text, ()) == redacted


@pytest.mark.parametrize(
    ("config", "environ", "expected"),
    [
        ("", {"REQUESTS_CA_BUNDLE": "/r.pem"}, "/r.pem"),
        ("", {"REQUESTS_CA_BUNDLE": "/r.pem", "AWS_CA_BUNDLE": "/a.pem"}, "/a.pem"),
        ("[default]\nca_bundle = /c.pem\n", {"REQUESTS_CA_BUNDLE": "/r.pem"}, None),
        ("", {}, None),
    ],
)
def test_certificates_are_named_by_the_variable_that_the_client_in_c_knows(
    home: Home, config: str, environ: dict[str, str], expected: str | None
) -> None:
    home.config.write_text(config)
    assert child_environment({**home.environ, **environ}, home.copy).get("AWS_CA_BUNDLE") == expected


def test_unsigned_payloads_are_the_users_choice_alone(home: Home) -> None:
    """They save CPU time over plain http, and let others on the way change the bytes."""
    write_config({**home.environ, "AWS_ENDPOINT_URL": "http://10.0.0.1:9000"}, SETTINGS, home.copy)
    assert "payload_signing_enabled" not in home.copy.read_text()
    home.copy.unlink()
    home.config.write_text("[default]\ns3 =\n  payload_signing_enabled = false\n")
    write_config(home.environ, SETTINGS, home.copy)
    assert "payload_signing_enabled = false" in home.copy.read_text()
