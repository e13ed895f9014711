"""The config key `prices`: of the user, by storage class and tier."""

from __future__ import annotations

from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from s3sync.config import Config, load_config
from s3sync.config.model import json_schema
from s3sync.errors import ConfigError
from s3sync.transfer.restore.cost import Prices

ENTRY = "monitor: [{monitored_directories: [/data], bucket: lab-runs, remote_path: /}]\n"


def load(tmp_path: Path, prices: str) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(f"{ENTRY}prices:\n{prices}")
    path.chmod(0o600)
    return load_config(path, {})


def test_prices_are_numbers_by_class_and_tier(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "  currency: EUR\n  transfer_per_gb: 0.1\n  retrieval_per_gb: {STANDARD_IA: 1, DEEP_ARCHIVE/Bulk: 0.5}\n"
        "  requests_per_1000: {STANDARD: 0}\n",
    )
    assert config.prices is not None
    assert config.prices.for_restore == Prices(
        currency="EUR",
        transfer_per_gb=0.1,
        retrieval_per_gb={"STANDARD_IA": 1, "DEEP_ARCHIVE/Bulk": 0.5},
        requests_per_1000={"STANDARD": 0},
    )
    assert hash(config) == hash(config.model_copy())
    assert '"DEEP_ARCHIVE/Bulk":0.5' in config.model_dump_json()


def test_the_currency_is_enough(tmp_path: Path) -> None:
    prices = load(tmp_path, "  currency: USD\n").prices
    assert prices is not None
    assert prices.for_restore == Prices(currency="USD")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("  transfer_per_gb: 1\n", "3:3: prices.currency: is missing"),
        ("  currency: ''\n", "3:13: prices.currency: must be the name of a currency"),
        ("  currency: USD\n  transfer_per_gb: -1\n", "4:20: prices.transfer_per_gb: must be 0 or more"),
        ("  currency: USD\n  transfer_per_gb: '1'\n", "4:20: prices.transfer_per_gb: must be a number"),
        ("  currency: USD\n  transfer: 1\n", "4:3: prices.transfer: is not a key (did you mean transfer_per_gb?)"),
        ("  currency: USD\n  bucket: x\n", "4:3: prices.bucket: is not a key here"),
        ("  currency: USD\n  retrieval_per_gb: 1\n", "4:21: prices.retrieval_per_gb: must be keys with values"),
        (
            "  currency: USD\n  retrieval_per_gb: {COLD: 1}\n",
            "4:22: prices.retrieval_per_gb.COLD: must be CLASS, or CLASS/TIER",
        ),
        (
            "  currency: USD\n  retrieval_per_gb: {STANDARD/Bulk: 1}\n",
            "4:22: prices.retrieval_per_gb.'STANDARD/Bulk': must be CLASS, or CLASS/TIER",
        ),
        (
            "  currency: USD\n  requests_per_1000: {STANDARD: -1}\n",
            "4:33: prices.requests_per_1000.STANDARD: must be 0 or more",
        ),
    ],
)
def test_each_mistake_has_its_place(tmp_path: Path, lines: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, lines)
    assert str(caught.value).startswith(f"{tmp_path}/c.yaml:{expected}")
    config = yaml.safe_load(f"{ENTRY}prices:\n{lines}")
    assert not jsonschema.Draft202012Validator(yaml.safe_load(json_schema())).is_valid(config) or "''" in lines
