"""Explain unknown keys, and give examples of known ones."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel

from s3sync.config.entry import MonitorEntry, SlurmKeys
from s3sync.config.model import Config
from s3sync.config.prices import PriceKeys
from s3sync.config.problem import KeyPath

# By the length of a path: (key), ("prices", key), ("monitor", 0, key) and ("monitor", 0, "slurm", key)
_LEVELS: Mapping[int, tuple[str, type[BaseModel]]] = {
    1: ("to the top level", Config),
    2: ("into `prices`", PriceKeys),
    3: ("into an entry of `monitor`", MonitorEntry),
    4: ("into `slurm` of an entry", SlurmKeys),
}
_KEYS = {
    level: [field.alias or name for name, field in model.model_fields.items()] for level, (_, model) in _LEVELS.items()
}
_EXAMPLES = {
    "monitored_directories": "[/data]",
    "bucket": "lab-runs",
    "remote_path": "/",
    "exclude_patterns": "['/Thumbnail_Images/']",
    "storage_classes": "{'\\.cbcl$': DEEP_ARCHIVE}",
    "currency": "USD",
    "prices": "{currency: USD, transfer_per_gb: 0.09}",
    "retrieval_per_gb": "{GLACIER/Bulk: 0.0025}",
    "requests_per_1000": "{STANDARD: 0.0004}",
    "on_complete": "[/usr/local/bin/tell-lims, --run]",
    "slurm": "{nodes: 4, partition: short}",
    "monitor": "[{monitored_directories: [/data], bucket: lab-runs, remote_path: /}]",
}


class Advice(NamedTuple):
    """The problem with a key, and what to do about it; `id` identifies the problem."""

    text: str
    id: str


_PROFILE = Advice("use profile, in an entry of `monitor`", id="config.unknown-key")
_MAIL = Advice("cron mails what s3sync prints: set MAILTO in the crontab", id="config.set-in-environment")
_REGION = Advice("use region, in an entry of `monitor`", id="config.unknown-key")
_ENDPOINT = Advice("set AWS_ENDPOINT_URL in the environment of s3sync", id="config.set-in-environment")
_SLACK = Advice("use slack_alert_webhook for problems, slack_log_webhook for uploads, or both", id="config.unknown-key")
_PATH = Advice("use remote_path", id="config.unknown-key")
_ADVICE = {  # by keys that people expect
    "aws_profile": _PROFILE,
    **dict.fromkeys(("email", "mail", "mailto", "e_mail"), _MAIL),
    **dict.fromkeys(("aws_region", "aws_default_region"), _REGION),
    **dict.fromkeys(("endpoint", "endpoint_url", "aws_endpoint_url"), _ENDPOINT),
    **dict.fromkeys(("slack_webhook", "slack", "slack_url"), _SLACK),
    **dict.fromkeys(("prefix", "path", "s3_path"), _PATH),
}


def example_of(key: str) -> str:
    """Return an example of the value of a key, as YAML."""
    return _EXAMPLES.get(key, "{bucket: lab-runs, remote_path: /}")


def explain_unknown(path: KeyPath) -> Advice:
    """Return what to do about a key that does not exist at its level."""
    key = str(path[-1])[:40]
    for level, (where, _) in _LEVELS.items():
        if key in _KEYS[level]:
            return Advice(f"is not a key here (move it {where})", id="config.misplaced-key")
    if key == "<<":
        return Advice("YAML merge keys are not supported (write the keys out)", id="config.yaml-merge")
    if known := _ADVICE.get(key.lower().replace("-", "_")):
        return Advice(f"is not a key ({known.text})", known.id)
    close = difflib.get_close_matches(key.lower(), _KEYS[len(path)], n=1)
    advice = f"did you mean {close[0]}?" if close else "remove it"
    return Advice(f"is not a key ({advice})", id="config.unknown-key")
