"""The config key `storage_classes`: an ordered map of patterns to classes, with the place of each mistake."""

from __future__ import annotations

from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from s3sync.aws.destination import STORAGE_CLASSES, Storage
from s3sync.config import Config, load_config
from s3sync.config.model import json_schema
from s3sync.errors import ConfigError
from s3sync.patterns import Pattern

ENTRY = "monitor:\n- monitored_directories: [/data]\n  bucket: lab-runs\n  remote_path: /\n"


def load(tmp_path: Path, more: str) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(f"{ENTRY}{more}")
    path.chmod(0o600)
    return load_config(path, {})


def test_patterns_and_classes_keep_their_order(tmp_path: Path) -> None:
    (entry,) = load(
        tmp_path,
        "  storage_class: STANDARD_IA\n  storage_classes:\n    '\\.cbcl$': DEEP_ARCHIVE\n    InterOp/: STANDARD\n"
        "    '.': GLACIER\n",
    ).monitor
    assert [tuple(rule) for rule in entry.class_rules] == [
        (Pattern(r"\.cbcl$"), "DEEP_ARCHIVE"),
        (Pattern("InterOp/"), "STANDARD"),
        (Pattern("."), "GLACIER"),
    ]
    assert entry.storage == Storage(storage_class="STANDARD_IA")
    assert [each.storage_class for each in entry.storages] == ["STANDARD_IA", "DEEP_ARCHIVE", "STANDARD", "GLACIER"]


def test_without_the_key_nothing_changes(tmp_path: Path) -> None:
    (entry,) = load(tmp_path, "").monitor
    assert (entry.class_rules, entry.storages) == ((), (Storage(),))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("'[': GLACIER", "6:5: monitor[0].storage_classes.'[': must be a regular expression"),
        ("'': GLACIER", "6:5: monitor[0].storage_classes.'': must not be empty"),
        ("'*.cbcl': GLACIER", "6:5: monitor[0].storage_classes.'*.cbcl': is a file pattern"),
        ("x: COLD", "6:8: monitor[0].storage_classes.x: must be a storage class that the AWS CLI supports"),
        ("x: glacier", "6:8: monitor[0].storage_classes.x: must be a storage class that the AWS CLI supports"),
        ("x: ''", "6:8: monitor[0].storage_classes.x: must be a storage class that the AWS CLI supports"),
        ("x: [GLACIER]", "6:8: monitor[0].storage_classes.x: must be text"),
        ("- x", "6:5: monitor[0].storage_classes: must be keys with values, e.g. {'\\.cbcl$': DEEP_ARCHIVE}"),
        ("x: GLACIER\n    x: STANDARD", "7:5: monitor[0].storage_classes.x: is a duplicate"),
    ],
)
def test_each_mistake_has_its_place(tmp_path: Path, line: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"  storage_classes:\n    {line}\n")
    assert str(caught.value).startswith(f"{tmp_path}/c.yaml:{expected}")
    assert "\n" not in str(caught.value)


def test_an_unknown_class_is_answered_with_those_of_the_cli(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "  storage_classes: {x: COLD}\n")
    assert all(name in str(caught.value) for name in STORAGE_CLASSES)


@pytest.mark.parametrize(
    ("value", "is_right"), [("{a: GLACIER}", True), ("{}", True), ("{a: COLD}", False), ("[a]", False)]
)
def test_the_schema_agrees(value: str, is_right: bool) -> None:
    config = yaml.safe_load(f"{ENTRY}  storage_classes: {value}\n")
    validator = jsonschema.Draft202012Validator(yaml.safe_load(json_schema()))
    assert validator.is_valid(config) is is_right
