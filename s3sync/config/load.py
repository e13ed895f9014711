"""Load the config file: return frozen values, or raise one error that names every mistake."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from s3sync.config import keys
from s3sync.config.checks import insecure_commands, insecure_secrets, misplaced_files, overlapping_folders
from s3sync.config.file import read_config
from s3sync.config.model import SECRETS, Config
from s3sync.config.parsed import ParsedConfig
from s3sync.config.problem import KeyPath, Problem, UnparsableError, to_error
from s3sync.text import printable


class _Kind(NamedTuple):
    text: str
    id: str


_TEXT = _Kind("must be text (put it into quotes)", id="config.wrong-type")
# By pydantic's types of errors; the types of errors from our own validators are ids already.
_KINDS = {
    "int_type": _Kind("must be a whole number (digits only: no quotes, no leading zero)", id="config.wrong-type"),
    "float_type": _Kind("must be a number such as 72 or 0.5 (without quotes)", id="config.wrong-type"),
    "bool_type": _Kind("must be true or false (without quotes)", id="config.wrong-type"),
    "string_type": _TEXT,
    "path_type": _TEXT,
    "pattern_type": _TEXT,
    "tuple_type": _Kind("must be a list, e.g. {example}", id="config.wrong-type"),
    "dict_type": _Kind("must be keys with values, e.g. {example}", id="config.wrong-type"),
    "model_type": _Kind("must be keys with values, e.g. {example}", id="config.wrong-type"),
    "finite_number": _Kind("must be a finite number", id="config.out-of-range"),
    "greater_than": _Kind("must be more than {gt:g}", id="config.out-of-range"),
    "greater_than_equal": _Kind("must be {ge:g} or more", id="config.out-of-range"),
    "less_than_equal": _Kind("must be {le:g} or less", id="config.out-of-range"),
    "literal_error": _Kind("must be {expected}", id="config.unknown-value"),
    "missing": _Kind("is missing (e.g. {key}: {example})", id="config.missing-key"),
}
_KEY = "[key]"  # ends pydantic's path if an error concerns a key and not its value
_OTHER = _Kind("{message}", id="config.bad-value")


def load_config(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the config, with secrets from the environment if the file has none.

    Raises ConfigError, whose text has a line for each mistake: `FILE:LINE:COLUMN: monitor[1].bucket: ...`.
    """
    file = printable(str(path))
    text, mode_of_others = read_config(path)
    try:
        parsed = ParsedConfig(text, is_json=path.suffix.lower() == ".json")
    except UnparsableError as error:
        raise to_error([error.problem], file) from None
    config, problems = _validate(parsed, environ)
    problems = [*parsed.problems, *problems, *overlapping_folders(parsed)]
    problems += misplaced_files(parsed, config, path, environ) if config else ()
    problems += insecure_secrets(parsed, file) if mode_of_others else ()
    problems += insecure_commands(parsed, file) if mode_of_others & 0o022 else ()
    if config is None or problems:
        raise to_error(problems, file)
    return config


def _validate(parsed: ParsedConfig, environ: Mapping[str, str]) -> tuple[Config | None, list[Problem]]:
    """Return the config, or None and the problems of its values."""
    value, secrets = parsed.value, _missing_secrets(parsed.value, environ)
    try:
        return Config.model_validate({**value, **secrets} if isinstance(value, dict) else value), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    return None, [_problem(parsed, secrets, dict(detail)) for detail in details]


def _missing_secrets(value: Any, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets that are in the environment but not in the file."""
    if not isinstance(value, dict):
        return {}
    found = {key: environ.get(name, "").strip() for key, name in SECRETS.items() if not value.get(key)}
    return {key: secret for key, secret in found.items() if secret}


def _problem(parsed: ParsedConfig, secrets: Mapping[str, str], detail: Mapping[str, Any]) -> Problem:
    """Return the problem that an error of pydantic describes."""
    path: KeyPath = detail["loc"]
    is_about_key = path[-1:] == (_KEY,)
    path = path[:-1] if is_about_key else path
    if detail["type"] == "extra_forbidden":
        advice = keys.explain_unknown(path)
        return Problem(position=parsed.key_positions[path], keys=path, text=advice.text, id=advice.id)
    key = str(path[-1]) if path else ""
    default = _Kind(_OTHER.text, detail["type"]) if detail["type"].startswith("config.") else _OTHER
    kind = _KINDS.get(detail["type"], default)
    facts = {"key": key, "example": keys.example_of(key), "message": detail["msg"], **detail.get("ctx", {})}
    text = kind.text.format(**facts)
    if path and path[0] in secrets:
        return Problem(position=None, keys=(SECRETS[str(path[0])],), text=text, id=kind.id)
    if is_about_key:
        return Problem(position=parsed.key_positions[path], keys=path, text=text, id=kind.id)
    return parsed.problem(path, text, id=kind.id)
