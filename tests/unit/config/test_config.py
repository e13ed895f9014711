"""Every mistake in a config is reported with its place; what is right becomes values; no secret is shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from s3sync.aws.destination import Destination
from s3sync.config import Config, MonitorEntry, config_warnings, load_config
from s3sync.config.file import MAX_CONFIG_BYTES
from s3sync.config.model import json_schema
from s3sync.config.parsed import MAX_VALUES, ParsedConfig
from s3sync.errors import EXIT_CONFIG, ConfigError
from s3sync.patterns import Pattern
from s3sync.slurm.client import SlurmOptions
from tests.helpers.unprivileged import run_unprivileged

CONF = Path(__file__).parents[3] / "conf"
SAMPLE_YAML = CONF / "s3sync.sample.yaml"
SAMPLE_JSON = CONF / "s3sync.sample.json"
MINIMAL = CONF / "s3sync.minimal.yaml"

ENTRY = "monitor: [{monitored_directories: [/data], bucket: lab-runs, remote_path: /}]\n"
SECRET = "https://hooks.example.org/services/T0AG2K1C6/hush-hush"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration that its owner alone can read."""

    def written(content: str | bytes, name: str = "c.yaml", mode: int = 0o600) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        path.chmod(mode)
        return path

    return written


def error_lines(path: Path, **environ: str) -> list[str]:
    """The lines of the error, without the folder of the file."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ)
    assert caught.value.exit_code == EXIT_CONFIG == 78
    assert caught.value.__cause__ is None
    return str(caught.value).replace(f"{path.parent}/", "").split("\n")


_LINE = re.compile(
    r"[^:]*:(\d+):(\d+): (?:((?:[\w$.]|\[\d+\]|'[^']*')+): )?.*?(?: \[config\.([a-z0-9-]+)\])?", re.DOTALL
)


def mistakes(path: Path) -> list[str]:
    """Each line of the error as `LINE:COLUMN key id`, with `-` for no key; the ids without `config.`."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    found = []
    for line in str(caught.value).replace(f"{path.parent}/", "").split("\n"):
        match = _LINE.fullmatch(line)
        assert match, line
        found.append(f"{match[1]}:{match[2]} {match[3] or '-'} {match[4] or caught.value.id.removeprefix('config.')}")
    return found


def entry(**more: Any) -> dict[str, Any]:
    return {"monitored_directories": ["/data"], "bucket": "lab-runs", "remote_path": "/", **more}


# What is right


def test_defaults(write: Write) -> None:
    config = load_config(write(ENTRY), {})
    assert config == Config(
        max_cores=None,
        max_threads=None,
        max_age=72,
        log_level="INFO",
        log_dir=Path("/var/log/s3_upload"),
        slack_log_webhook=None,
        slack_alert_webhook=None,
        webhook=None,
        ping_url=None,
        verify="auto",
        readback="auto",
        aws_command=None,
        report_dir=None,
        metrics_file=None,
        alert_after_busy_hours=24,
        quiet_minutes=60,
        marker_wait_hours=24,
        require_whole_runs=True,
        monitor=(MonitorEntry(monitored_directories=(Path("/data"),), bucket="lab-runs", remote_path="/"),),
    )
    assert config.monitor[0].regex is None
    assert config.monitor[0].excludes == ()
    assert config.monitor[0].destination == Destination("lab-runs", "")


def test_typed_once_and_frozen(write: Write) -> None:
    more = entry(remote_path="//runs//2026/", sample_regex="_a_|_b_", exclude_patterns=[r"\.jpg$", "/T/"])
    config = load_config(write(json.dumps({"log_level": "debug", "max_age": 1, "monitor": [more]}), "c.json"), {})
    assert (config.log_level, config.max_age) == ("DEBUG", 1.0)
    assert config.monitor[0].regex == Pattern("_a_|_b_")
    assert config.monitor[0].excludes == (Pattern(r"\.jpg$"), Pattern("/T/"))
    assert config.monitor[0].destination == Destination("lab-runs", "runs/2026")
    assert hash(config)
    with pytest.raises(ValidationError):
        config.max_age = 2


def test_slurm_options(write: Write) -> None:
    """`slurm` may stand there while the executor is local: people go back and forth."""
    asked = {"nodes": 8, "partition": "a,b", "account": "lab", "time": "1-0", "options": "--qos=low --comment='a b'"}
    for executor in ("local", "slurm"):
        config = load_config(write(json.dumps({"monitor": [entry(executor=executor, slurm=asked)]}), "c.json"), {})
        assert hash(config)
        expected = (
            SlurmOptions(nodes=8, partition="a,b", account="lab", time="1-0", options=("--qos=low", "--comment=a b"))
            if executor == "slurm"
            else None
        )
        assert config.monitor[0].cluster == expected
    config = load_config(write(json.dumps({"monitor": [entry(executor="slurm")]}), "c.json"), {})
    assert config.monitor[0].cluster == SlurmOptions(nodes=4)
    assert config.monitor[0].cluster.sbatch_options() == ("--exclusive",)


def test_the_predecessors_configuration_is_read(write: Write) -> None:
    old = {
        "max_cores": 2,
        "max_threads": 8,
        "log_level": "INFO",
        "log_dir": "/var/log/s3_upload",
        "slack_log_webhook": SECRET,
        "slack_alert_webhook": "",
        "monitor": [
            entry(monitored_directories=["/seq/1", "/seq/2"], bucket="bucket_A", sample_regex="_one_|_two_"),
            entry(monitored_directories=["/seq/3"], bucket="bucket_B", remote_path="/seq_3_runs", sample_regex=""),
        ],
    }
    for indent in (None, 4, "\t"):
        config = load_config(write(json.dumps(old, indent=indent), "c.json"), {})
        assert (config.max_cores, config.max_threads, config.slack_alert_webhook) == (2, 8, None)
        assert config.slack_log_webhook
        assert config.slack_log_webhook.get_secret_value() == SECRET
        assert config.monitor[1].regex is None


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("no", "no"),
        ("off", "off"),
        ("0010", "0010"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
    ],
)
def test_bare_words_of_yaml_are_taken_literally(write: Write, value: str, meant: str) -> None:
    config = load_config(write(f"{ENTRY.rstrip()[:-2]}, sample_regex: {value}}}]\n"), {})
    assert config.monitor[0].regex == Pattern(meant)


def test_yamls_aliases_are_followed(write: Write) -> None:
    text = """\
monitor:
  - {monitored_directories: [/a], bucket: lab-runs, remote_path: /, exclude_patterns: &common [x, y]}
  - {monitored_directories: [/b], bucket: lab-runs, remote_path: /, exclude_patterns: *common}
"""
    first, second = load_config(write(text), {}).monitor
    assert first.excludes == second.excludes == (Pattern("x"), Pattern("y"))


def test_a_byte_order_mark_and_windows_line_ends(write: Write) -> None:
    load_config(write(b"\xef\xbb\xbf" + ENTRY.replace("\n", "\r\n").encode()), {})
    load_config(write(b"\xef\xbb\xbf" + json.dumps({"monitor": [entry()]}, indent=1).encode(), "c.json"), {})


# What is wrong

BAD_YAML = [
    # top level
    ("a: 1", ["1:1 a unknown-key", "1:1 monitor missing-key"]),
    ("text", ["1:1 - wrong-type"]),
    ("- 1", ["1:1 - wrong-type"]),
    ("1", ["1:1 - wrong-type"]),
    ("monitor: []", ["1:10 monitor empty-list"]),
    ("monitor: {}", ["1:10 monitor wrong-type"]),
    ("monitor: /data", ["1:10 monitor wrong-type"]),
    ("monitor:\n", ["1:9 monitor no-value"]),
    ("monitor: [1]", ["1:11 monitor[0] wrong-type"]),
    ('max_cores: "4"\n' + ENTRY, ["1:12 max_cores wrong-type"]),
    (
        "max_cores: 010\n" + ENTRY,
        ["1:12 max_cores wrong-type"],
    ),
    ("max_cores: true\n" + ENTRY, ["1:12 max_cores wrong-type"]),
    ("max_cores: 4.0\n" + ENTRY, ["1:12 max_cores wrong-type"]),
    ("max_cores: 0\n" + ENTRY, ["1:12 max_cores out-of-range"]),
    ("max_cores: null\n" + ENTRY, ["1:12 max_cores no-value"]),
    ("max_threads:\n" + ENTRY, ["1:13 max_threads no-value"]),
    ("max_threads: -1\n" + ENTRY, ["1:14 max_threads out-of-range"]),
    ("max_age: true\n" + ENTRY, ["1:10 max_age wrong-type"]),
    ("max_age: '72'\n" + ENTRY, ["1:10 max_age wrong-type"]),
    ("max_age: 0\n" + ENTRY, ["1:10 max_age out-of-range"]),
    (ENTRY.replace("/}", "/, stream: 'yes'}"), ["1:86 monitor[0].stream wrong-type"]),
    ("max_age: 1e999\n" + ENTRY, ["1:10 max_age out-of-range"]),
    ("max_age: .nan\n" + ENTRY, ["1:10 max_age wrong-type"]),
    (f"max_age: {'9' * 5000}\n" + ENTRY, ["1:10 max_age number-too-large"]),
    ("quiet_minutes: -1\n" + ENTRY, ["1:16 quiet_minutes out-of-range"]),
    ("marker_wait_hours: 0\n" + ENTRY, ["1:20 marker_wait_hours out-of-range"]),
    ("alert_after_busy_hours: 0\n" + ENTRY, ["1:25 alert_after_busy_hours out-of-range"]),
    ("log_level: LOUD\n" + ENTRY, ["1:12 log_level unknown-value"]),
    ("log_level: 10\n" + ENTRY, ["1:12 log_level unknown-value"]),
    ("log_dir: logs\n" + ENTRY, ["1:10 log_dir relative-path"]),
    ("log_dir: ~/logs\n" + ENTRY, ["1:10 log_dir tilde-in-path"]),
    ('log_dir: "/a\\0b"\n' + ENTRY, ["1:10 log_dir control-character"]),
    (f"log_dir: /{'x' * 5000}\n" + ENTRY, ["1:10 log_dir path-too-long"]),
    ("aws_command: aws\n" + ENTRY, ["1:14 aws_command relative-path"]),
    ("verify: md5\n" + ENTRY, ["1:9 verify unknown-value"]),
    ("readback: yes\n" + ENTRY, ["1:11 readback unknown-value"]),
    ("webhook: ftp://x\n" + ENTRY, ["1:10 webhook bad-url"]),
    ("webhook: [x]\n" + ENTRY, ["1:10 webhook wrong-type"]),
    ('"$schema": 1\n' + ENTRY, ["1:12 $schema wrong-type"]),
    # keys
    ("max_core: 4\n" + ENTRY, ["1:1 max_core unknown-key"]),
    ("Verify: etag\n" + ENTRY, ["1:1 Verify unknown-key"]),
    ("bucket: lab-runs\n" + ENTRY, ["1:1 bucket misplaced-key"]),
    ("1: 2\n" + ENTRY, ["1:1 1 unknown-key"]),
    ("? [a]\n: 1\n" + ENTRY, ["1:3 '?' unknown-key"]),
    ('"a b\\n": 1\n' + ENTRY, ["1:1 'a b\\\\n' unknown-key"]),
    ('"\\ud800": 1\n' + ENTRY, ["1:1 '\\\\ud800' unknown-key"]),
    ("max_age: 1\n" + ENTRY + "max_age: 2\n", ["3:1 max_age duplicate-key"]),
    ("<<: {max_age: 1}\n" + ENTRY, ["1:1 '<<' yaml-merge"]),
    # YAML
    ("max_age: !!binary eA==\n" + ENTRY, ["1:10 max_age yaml-tag"]),
    ("max_age: !mine 1\n" + ENTRY, ["1:10 max_age yaml-tag"]),
    ("max_age: !!int x\n" + ENTRY, ["1:10 max_age yaml-tag"]),
    ("log_dir: !!python/object/apply:os.system [id]\n" + ENTRY, ["1:10 log_dir yaml-tag"]),
    (
        "max_age: 1\n\tmax_cores: 2\n",
        ["2:1 - tab"],
    ),
    ("max_age: 1\n log_level: INFO\n", ["2:11 - indentation"]),
    ("monitor: [\n", ["2:1 - open-bracket"]),
    ("log_dir: 'x\n" + ENTRY, ["3:1 - open-quote"]),
    (ENTRY + "---\n" + ENTRY, ["2:1 - not-yaml"]),
    ("max_age: *a\n", ["1:10 - unquoted"]),
    ('log_dir: "\\UFFFFFFFF"\n', ["1:1 - not-yaml"]),
    ("log_dir: a\x07b\n", ["1:11 - control-character"]),
    ("max_age: &a [*a]\n" + ENTRY, ["1:1 - too-many-values"]),
    ("max_age: " + "[" * 5000 + "\n", ["1:1 - too-many-values"]),
    ("# nothing\n", ["1:1 - empty"]),
]


@pytest.mark.parametrize(("text", "expected"), BAD_YAML)
def test_mistakes_in_yaml(write: Write, text: str, expected: list[str]) -> None:
    assert mistakes(write(text)) == expected


BAD_ENTRIES = [
    ({"bucket": None}, "no-value", ".bucket"),
    ({"bucket": 2026}, "wrong-type", ".bucket"),
    ({"bucket": "s3://lab"}, "bucket-is-url", ".bucket"),
    ({"bucket": "x"}, "bad-destination", ".bucket"),
    ({"remote_path": "/a/../b"}, "bad-destination", ".remote_path"),
    ({"remote_path": "x" * 600}, "bad-destination", ".remote_path"),
    ({"remote_path": ["/"]}, "wrong-type", ".remote_path"),
    ({"monitored_directories": "/data"}, "wrong-type", ".monitored_directories"),
    ({"monitored_directories": []}, "empty-list", ".monitored_directories"),
    ({"monitored_directories": {"/data": 1}}, "wrong-type", ".monitored_directories"),
    ({"monitored_directories": ["/data", "runs"]}, "relative-path", ".monitored_directories[1]"),
    ({"monitored_directories": ["/data", 1]}, "wrong-type", ".monitored_directories[1]"),
    ({"monitored_directories": ["/data", "/data/"]}, "overlapping-folders", ".monitored_directories[1]"),
    ({"monitored_directories": ["/data", "/x/../data"]}, "overlapping-folders", ".monitored_directories[1]"),
    ({"monitored_directories": ["/data", "/data/x/y"]}, "overlapping-folders", ".monitored_directories[1]"),
    ({"monitored_directories": ["/data/x/y", "/data"]}, "overlapping-folders", ".monitored_directories[1]"),
    ({"sample_regex": "(a"}, "bad-regex", ".sample_regex"),
    ({"sample_regex": 12}, "wrong-type", ".sample_regex"),
    ({"sample_regex": "a{99999999999999999999}"}, "bad-regex", ".sample_regex"),
    ({"sample_regex": "x" * 1001}, "regex-too-long", ".sample_regex"),
    ({"exclude_patterns": "x"}, "wrong-type", ".exclude_patterns"),
    ({"exclude_patterns": [""]}, "empty-regex", ".exclude_patterns[0]"),
    ({"exclude_patterns": ["a", "*"]}, "bad-regex", ".exclude_patterns[1]"),
    ({"exclude_patterns": ["a", None]}, "no-value", ".exclude_patterns[1]"),
    ({"buckets": "x"}, "unknown-key", ".buckets"),
    ({"log_dir": "/x"}, "misplaced-key", ".log_dir"),
    ({"destination": "/x"}, "unknown-key", ".destination"),
    ({"regex": "/x"}, "unknown-key", ".regex"),
    ({"partition": "short"}, "misplaced-key", ".partition"),
    ({"executor": "Slurm"}, "unknown-value", ".executor"),
    ({"slurm": "short"}, "wrong-type", ".slurm"),
    ({"slurm": {"node": 2}}, "unknown-key", ".slurm.node"),
    ({"slurm": {"stream": True}}, "misplaced-key", ".slurm.stream"),
    ({"slurm": {"nodes": 0}}, "out-of-range", ".slurm.nodes"),
    (
        {"slurm": {"partition": "-short"}},
        "bad-slurm-value",
        ".slurm.partition",
    ),
    ({"slurm": {"account": "lab\nrun"}}, "bad-slurm-value", ".slurm.account"),
    ({"slurm": {"time": "1 hour"}}, "bad-slurm-value", ".slurm.time"),
    ({"slurm": {"time": 60}}, "wrong-type", ".slurm.time"),
    ({"slurm": {"options": "--mem='4G"}}, "bad-slurm-options", ".slurm.options"),
    (
        {"slurm": {"options": "-p x --array=0-9"}},
        "bad-slurm-options",
        ".slurm.options",
    ),
    (
        {"slurm": {"options": "short"}},
        "bad-slurm-options",
        ".slurm.options",
    ),
    ({"slurm": {"options": "--mem=4\0"}}, "control-character", ".slurm.options"),
]


@pytest.mark.parametrize("name", ["c.json", "c.yaml"])
@pytest.mark.parametrize(("change", "expected", "path"), BAD_ENTRIES)
def test_mistakes_in_an_entry(write: Write, name: str, change: dict[str, Any], expected: str, path: str) -> None:
    other = entry(monitored_directories=["/other"])
    text = json.dumps({"monitor": [other, entry(**change)]}, indent=2 if name == "c.yaml" else "\t")
    (mistake,) = mistakes(write(text, name))
    position, key, id_ = mistake.split(" ")
    assert (key, id_) == (f"monitor[1]{path}", expected)
    if "[" not in path:
        assert f'"{path.rpartition(".")[2]}"' in text.splitlines()[int(position.partition(":")[0]) - 1]


def load_or_refuse(path: Path) -> str:
    """The error, or nothing."""
    try:
        assert isinstance(load_config(path, {}), Config)
    except ConfigError as error:
        return str(error)
    return ""


BAD_JSON = [
    ("{", "1:2 - not-json"),
    ("{}{}", "1:3 - not-json"),
    ('{"max_age": 1,\n // hours\n}', "2:2 - not-json"),
    ("monitor: []", "1:1 - not-json"),
    ('{"log_dir": "a\tb"}', "1:15 - not-json"),
    ("null", "1:1 - no-value"),
    ("[]", "1:1 - wrong-type"),
    ("[" * 100_000, "1:1 - too-many-values"),
    ("[" * 900 + "]" * 900, "1:1 - too-many-values"),
    ('{\n\t"monitor": [],\n\t"monitor": []\n}', "2:13 monitor empty-list"),
    ('{"max_age": NaN}', "1:13 max_age wrong-type"),
    ('{"max_cores": Infinity}', "1:15 max_cores wrong-type"),
    ('{"max_cores": %s}' % ("9" * 5000), "1:15 max_cores number-too-large"),
    ('{"\\ud800": 1}', "1:2 '\\\\ud800' unknown-key"),
]


@pytest.mark.parametrize(("text", "expected"), BAD_JSON)
def test_mistakes_in_json(write: Write, text: str, expected: str) -> None:
    assert expected in mistakes(write(text, "c.json"))


def test_columns_count_characters(write: Write) -> None:
    text = '{"é": "\\"{[,:]}\\\\",\n "\U0001f9ec": 1, "max_age":\t"x"}'
    assert mistakes(write(text, "c.json")) == [
        "1:1 monitor missing-key",
        "1:2 é unknown-key",
        "2:2 '\U0001f9ec' unknown-key",
        "2:21 max_age wrong-type",
    ]


def test_all_mistakes_at_once_in_their_order(write: Write) -> None:
    text = """\
max_cores: 0
monitor:
  - monitored_directories: /data
    remote_path: /
    sample_regex: '('
  - monitored_directories:
      - /data
      - data
    bucket: lab-runs
    bucket: lab-runs
    remote_path: /
  - {monitored_directories: [/x], bucket: lab-runs, remote_path: /}
  - {monitored_directories: [/x], bucket: lab-runs, remote_path: //}
verify: [etag]
max_cores: 4
webhok: https://example.org/hush
"""
    assert mistakes(write(text)) == [
        "1:12 max_cores out-of-range",
        "3:5 monitor[0].bucket missing-key",
        "3:28 monitor[0].monitored_directories wrong-type",
        "5:19 monitor[0].sample_regex bad-regex",
        "8:9 monitor[1].monitored_directories[1] relative-path",
        "10:5 monitor[1].bucket duplicate-key",
        "13:30 monitor[3].monitored_directories[0] overlapping-folders",
        "14:9 verify unknown-value",
        "15:1 max_cores duplicate-key",
        "16:1 webhok unknown-key",
    ]


def test_a_deep_regular_expression(write: Write) -> None:
    path = write(json.dumps({"monitor": [entry(sample_regex="(" * 490 + ")" * 490)]}))
    assert re.fullmatch(r"|[^\n]+must be a regular expression: maximum recursion depth.*", load_or_refuse(path))


def test_duplicate_keys_in_json(write: Write) -> None:
    text = '{\n\t"monitor": [{\n\t\t"bucket": "lab-runs",\n\t\t"bucket": "lab-runs"}]\n}'
    assert error_lines(write(text, "c.json"))[-1] == (
        "c.json:4:3: monitor[0].bucket: is a duplicate of the key in line 3 (remove one) [config.duplicate-key]"
    )


# Two entries for one destination


def test_the_second_names_the_first(write: Write) -> None:
    text = json.dumps({"monitor": [entry(), entry(remote_path="//", sample_regex="x")]})
    assert error_lines(write(text))[0].endswith(
        "monitor[1].monitored_directories[0]: is the same folder as monitor[0].monitored_directories[0], "
        "and both go to s3://lab-runs/ (remove one)"
    )


def test_links_do_not_hide_overlapping_folders(write: Write, tmp_path: Path) -> None:
    (tmp_path / "real" / "in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    folders = [str(tmp_path / "real"), str(tmp_path / "link" / "in")]
    (line,) = error_lines(write(json.dumps({"monitor": [entry(monitored_directories=folders)]})))
    assert "monitor[0].monitored_directories[1]: is inside monitor[0].monitored_directories[0]" in line


@pytest.mark.parametrize(
    "other", [{"bucket": "other-runs"}, {"remote_path": "/x"}, {"monitored_directories": ["/data2", "/dat", "/x/data"]}]
)
def test_folders_that_do_not_overlap(write: Write, other: dict[str, Any]) -> None:
    load_config(write(json.dumps({"monitor": [entry(), entry(**other)]})), {})


# Secrets


def test_secrets_are_never_shown(write: Write) -> None:
    lines = [f"{key}: {SECRET}" for key in ("slack_log_webhook", "slack_alert_webhook", "webhook", "ping_url")]
    config = load_config(write("\n".join([*lines, ENTRY])), {})
    for text in (str(config), repr(config), f"{config!r}", config.model_dump_json(), str(config.model_dump())):
        assert "hush" not in text
    assert config.ping_url
    assert config.ping_url.get_secret_value() == SECRET


@pytest.mark.parametrize(
    "bad",
    [
        f"webhook: '{SECRET} '",
        f"webhook: [{SECRET}]",
        f"webhook: {{'{SECRET}': 1}}",
        f"{SECRET}: webhook",
        f"webhook: x{SECRET}",
        f"webhook: !x {SECRET}",
        f"webhook: {SECRET}\nwebhook: {SECRET}",
        f"webhook: {SECRET}\nmax_age: x",
        f"webhok: {SECRET}",
        f"webhook '{SECRET}'",
        f"webhook: \t'{SECRET}\n",
        f"log_level: {SECRET}",
        f"log_dir: {SECRET}",
        f"verify: {SECRET}",
        "webhook: 'https://hooks.example.org:99999/hush'",
        "webhook: 'https://[hush'",
        "webhook: 'https:///hush'",
        f"monitor: [{{monitored_directories: [{SECRET}], bucket: '{SECRET}', sample_regex: '{SECRET}('}}]\nx:",
    ],
)
def test_no_error_shows_a_secret(write: Write, bad: str) -> None:
    for name in ("c.yaml", "c.json"):
        text = "\n".join(
            error_lines(write(f"{bad}\n{ENTRY}", name), S3SYNC_PING_URL="hush-hush", S3SYNC_WEBHOOK=SECRET)
        )
        assert "hush" not in text


def test_secrets_from_the_environment(write: Write) -> None:
    environ = {
        "S3SYNC_SLACK_LOG_WEBHOOK": "https://example.org/log",
        "S3SYNC_SLACK_ALERT_WEBHOOK": "https://example.org/alert",
        "S3SYNC_WEBHOOK": "https://example.org/other\n",
        "S3SYNC_PING_URL": "",
    }
    text = f"slack_log_webhook: https://example.org/file\nslack_alert_webhook: ''\n{ENTRY}"
    config = load_config(write(text), environ)
    secrets = (config.slack_log_webhook, config.slack_alert_webhook, config.webhook, config.ping_url)
    assert [secret and secret.get_secret_value().rpartition("/")[2] for secret in secrets] == [
        "file",
        "alert",
        "other",
        None,
    ]


def test_a_bad_secret_of_the_environment(write: Write) -> None:
    assert error_lines(write(f"max_age: 0\n{ENTRY}"), S3SYNC_WEBHOOK="hush") == [
        "c.yaml:1:10: max_age: must be more than 0 [config.out-of-range]",
        "environment: S3SYNC_WEBHOOK: must be a URL: https://... or http://... [config.bad-url]",
    ]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_secret_needs_a_private_file(write: Write, mode: int) -> None:
    path = write(f"# mine\nwebhook: {SECRET}\n{ENTRY}", mode=mode)
    (line,) = error_lines(path)
    assert refusal(path)[0] == "config.secret-readable"
    assert line.startswith("c.yaml:2:10: webhook: ")
    assert "chmod 600 c.yaml" in line
    load_config(write(f"webhook: ''\n{ENTRY}", mode=mode), {"S3SYNC_WEBHOOK": SECRET})


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
def test_a_command_needs_a_file_that_nobody_else_can_write(write: Write, mode: int) -> None:
    """Any user who can write the file could make us run anything."""
    text = ENTRY.replace("remote_path: /", "remote_path: /, on_complete: [/bin/true]")
    path = write(text, mode=mode)
    (line,) = error_lines(path)
    assert refusal(path)[0] == "config.command-writable"
    assert line.startswith("c.yaml:1:")
    assert (" monitor[0].on_complete: " in line, "chmod go-w c.yaml" in line) == (True, True), line
    load_config(write(text, mode=0o644))
    load_config(write(ENTRY, mode=mode))


# Files that are none


def refusal(path: Path) -> tuple[str, str]:
    """The id of the error, and its text without the folder."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    return caught.value.id, str(caught.value).replace(f"{path.parent}/", "")


def test_files_that_cannot_be_read(write: Write, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    big = write(b"#" * (MAX_CONFIG_BYTES + 1), "big.yaml")
    missing = "none.yaml: no such file (check --config; `s3sync init` writes one)"
    assert refusal(tmp_path / "none.yaml") == ("config.missing", missing)
    assert refusal(big / "c.yaml")[0] == "config.missing"
    assert refusal(tmp_path / "a\nb\0")[0] == "config.unreadable"
    assert refusal(tmp_path)[0] == "config.is-folder"
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        assert refusal(path)[0] == "config.not-a-file"
    assert refusal(big)[0] == "config.too-large"


def test_a_file_that_may_not_be_read(write: Write) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from s3sync.config import load_config; from s3sync.errors import ConfigError\n"
        "try: load_config(Path(sys.argv[1]), {})\n"
        "except ConfigError as error: print(error.id, error)"
    )
    path = write(ENTRY, mode=0)
    assert run_unprivileged(code, path).startswith(
        f"config.permission-denied {path}: cannot be read: Permission denied ("
    )


@pytest.mark.parametrize(
    ("content", "expected", "place"),
    [
        (b"", "config.empty", ":1:1: "),
        (b"\xef\xbb\xbf \n\n", "config.empty", ":1:1: "),
        (ENTRY.encode("utf-16"), "config.not-text", ": "),
        (ENTRY.encode("utf-16-le"), "config.not-text", ": "),
        (b"a: 1\n# caf\xe9\n", "config.not-utf8", ":2:1: "),
        ("a: 1\n# caf\u2028\n".encode(), "config.line-separator", ":2:1: "),
    ],
)
def test_bytes_that_are_not_text(write: Write, content: bytes, expected: str, place: str) -> None:
    for name in ("c.yaml", "c.json"):
        id_, text = refusal(write(content, name))
        assert (id_, text[: len(name) + len(place)]) == (expected, name + place)


NO_PATH = "monitor: [{monitored_directories: [/d], bucket: b-1}]"
WITH_GLOB = ENTRY.replace("/}", "/, exclude_patterns: ['*.jpg']}")
# What newcomers write: (config, id, text that says what to type instead)
WRONG_LINES = [
    ("exclude_patterns:\n  - *.jpg", "2:6 - unquoted", "single quotes"),
    ("exclude_patterns:\n  - [0-9]+\\.tmp$", "2:10 - unquoted", "single quotes"),
    ('exclude_patterns:\n  - "\\.jpg$"', "2:7 - backslash", "use single quotes: '\\.jpg$'"),
    ("monitor:\n  - bucket: lab-runs\n     remote_path: /", "3:17 - indentation", "indent keys that belong together"),
    ("monitor:\n  - bucket: lab-runs\n   remote_path: /", "3:4 - indentation", "indent keys that belong together"),
    ("monitor:\n  - bucket:lab-runs\n    remote_path: /", "2:3 - colon-without-space", "`key: value`"),
    ("max_age:4\n" + ENTRY, "1:1 - colon-without-space", "`key: value`"),
    ("log_dir: /data: x", "1:15 - unquoted", "single quotes"),
    ("log_dir: 'x", "1:12 - open-quote", "close it"),
    ("exclude_patterns: [a-z", "1:23 - open-bracket", "close it"),
    ("\tmax_age: 4", "1:1 - tab", "indent with spaces"),
    ("log_dir: \u201c/var/log/s3sync\u201d\n" + ENTRY, "1:10 log_dir typographic-quotes", "type plain quotes"),
    ("log_dir: $HOME/logs\n" + ENTRY, "1:10 log_dir variable-in-path", "write the whole path"),
    ("log_dir: ~/logs\n" + ENTRY, "1:10 log_dir tilde-in-path", f"e.g. {Path.home()}/logs"),
    ("profile: lab\n" + ENTRY, "1:1 profile misplaced-key", "into an entry of `monitor`"),
    ("aws_profile: lab\n" + ENTRY, "1:1 aws_profile unknown-key", "use profile"),
    ("aws_region: eu-west-2\n" + ENTRY, "1:1 aws_region unknown-key", "use region"),
    ("email: me@lab.org\n" + ENTRY, "1:1 email set-in-environment", "MAILTO"),
    (
        "slack_webhook: x\n" + ENTRY,
        "1:1 slack_webhook unknown-key",
        "slack_log_webhook for uploads",
    ),
    (
        "monitor: [{monitored_directories: [/d], bucket: b-1}]",
        "1:11 monitor[0].remote_path missing-key",
        "remote_path: /",
    ),
    ("log_dir: /dev/null\n" + ENTRY, "1:10 log_dir not-a-folder", "is a file"),
    (
        ENTRY.replace("/}", "/, exclude_patterns: ['*.jpg']}"),
        "1:97 monitor[0].exclude_patterns[0] glob-as-regex",
        r"'\.jpg$'",
    ),
    ("", "1:1 - empty", "s3sync init"),
]


@pytest.mark.parametrize(("text", "expected", "advice"), WRONG_LINES)
def test_common_mistakes_are_answered_with_the_right_command(
    write: Write, text: str, expected: str, advice: str
) -> None:
    path = write(text)
    assert mistakes(path) == [expected]
    assert advice in refusal(path)[1]


def test_what_is_probably_a_mistake_is_a_warning(write: Write) -> None:
    unusual = ENTRY.replace("lab-runs", "Lab_Runs")
    config = load_config(write(f"max_threads: 100\nmax_cores: 1000\n{unusual}"), {})
    assert [(problem.path, problem.id) for problem in config_warnings(config)] == [
        ("max_threads", "config.many-threads"),
        ("max_cores", "config.many-cores"),
        ("monitor[0].bucket", "config.unusual-bucket"),
    ]
    assert config_warnings(load_config(write(ENTRY), {})) == []


@pytest.mark.timeout(120)
def test_bombs_do_not_go_off(write: Write) -> None:
    levels = [f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]" for below, name in pairwise("abcdefghi")]
    bombs = ["a: &a [x]\n" + "\n".join(levels), "- a\n" * 250_000, "[" + "1," * 500_000 + "1]", "#\n" * 500_000]
    bombs += ["{" + ",".join(f'"k{n}": 1' for n in range(MAX_VALUES // 2)) + "}"]
    bombs += ["[" * 5000, "&a [x, " + "[*a, " * 300, "a: '" + "x " * 500_000]
    for bomb in bombs:
        for name in ("c.yaml", "c.json"):
            error_lines(write(bomb, name))


# Any JSON


# without control characters and blanks, which keys do not keep
TEXTS = st.characters(blacklist_categories=["C", "Z"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(TEXTS, max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(TEXTS, max_size=5), inner, max_size=4),
    max_leaves=10,
)


@settings(deadline=None)
@given(value=VALUES, indent=st.sampled_from([None, 0, 3, "\t"]), ascii_only=st.booleans())
def test_json_means_what_it_means_elsewhere(value: Any, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    parsed = ParsedConfig(text, is_json=True)
    assert parsed.value == value
    lines = text.split("\n")
    for path, (line, column) in parsed.positions.items():
        found: Any = value
        for key in path:
            found = found[key]
        assert lines[line - 1][column - 1 :].startswith(json.dumps(found, ensure_ascii=ascii_only)[:1])


# The samples and the schema


def test_the_schema_is_of_this_code() -> None:
    assert (CONF / "s3sync.schema.json").read_text() == json_schema(), (
        "python -m s3sync.config > conf/s3sync.schema.json"
    )


def test_every_key_is_described() -> None:
    schema = json.loads(json_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    for model in (schema, *schema["$defs"].values()):
        for key, field in model["properties"].items():
            assert field["title"], key
            assert field["description"], key


def test_the_samples_are_right_and_alike() -> None:
    samples = yaml.safe_load(SAMPLE_YAML.read_text()), json.loads(SAMPLE_JSON.read_text())
    assert SAMPLE_YAML.read_text().startswith("# yaml-language-server: $schema=./s3sync.schema.json\n")
    assert samples[1].pop("$schema") == "./s3sync.schema.json"
    for sample in samples:
        jsonschema.validate(sample, json.loads(json_schema()))
    assert load_config(SAMPLE_YAML, {}) == load_config(SAMPLE_JSON, {})


def test_the_sample_as_it_is_changes_no_default() -> None:
    assert yaml.safe_load(SAMPLE_YAML.read_text()).keys() == {"monitor"}
    sample = load_config(SAMPLE_YAML, {})
    assert Config(monitor=sample.monitor) == sample
    required = {"monitored_directories", "bucket", "remote_path"}
    assert [entry.model_fields_set for entry in sample.monitor] == [required, required]


def test_the_sample_has_every_key_with_its_default_or_an_example(write: Write) -> None:
    text = re.sub(r"^( *)#(?=\S|  )", r"\1", SAMPLE_YAML.read_text(), flags=re.MULTILINE)  # "# " begins a remark
    config, values, schema = load_config(write(text), {}), yaml.safe_load(text), json.loads(json_schema())
    entry = values["monitor"][0]
    models = {"MonitorEntry": entry, "SlurmKeys": entry["slurm"], "PriceKeys": values["prices"]}
    for model, given_ in ((schema, values), *((schema["$defs"][name], value) for name, value in models.items())):
        assert given_.keys() == model["properties"].keys() - {"$schema"}
        for key, field in model["properties"].items():
            assert not field.get("default") or given_[key] in (field["default"], str(field["default"])), key
    assert config.monitor[1].model_fields_set == {"monitored_directories", "bucket", "remote_path"}


def test_the_minimal_sample_is_enough_and_has_nothing_else() -> None:
    config = load_config(MINIMAL, {})
    assert Config(log_dir=config.log_dir, monitor=config.monitor) == config
    assert yaml.safe_load(MINIMAL.read_text()).keys() == {"log_dir", "monitor"}


@pytest.mark.parametrize(
    "change",
    [
        {"max_cores": "4"},
        {"max_age": 0},
        {"log_level": "x"},
        {"verify": "x"},
        {"x": 1},
        {"monitor": []},
        {"max_age": None},
    ]
    + [{"monitor": [entry(**bad)]} for bad in ({"bucket": 1}, {"monitored_directories": "/x"}, {"sample_regex": None})]
    + [
        {"monitor": [entry(slurm={key: bad})]} for key, bad in (("nodes", 0), ("time", "-1"), ("options", []), ("x", 1))
    ],
)
def test_an_editor_finds_what_the_program_finds(write: Write, change: dict[str, Any]) -> None:
    value = {"monitor": [entry()], **change}
    error_lines(write(json.dumps(value), "c.json"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, json.loads(json_schema()))
