"""The values of the configuration as they are typed. A message never quotes what could be a secret."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, Strict
from pydantic import StrictInt as Int
from pydantic import StrictStr as Text
from pydantic import WithJsonSchema as Schema

from s3sync.aws import Destination, argv, destination
from s3sync.errors import UsageError
from s3sync.slurm import client
from s3sync.text import printable
from s3sync.transfer import bandwidth

MAX_REGEX = 1000  # characters
MAX_PATH_BYTES = 4095  # Linux's limit


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("must be an absolute path (begin it with `/`; `~` means nothing here)")
    if not text.isprintable():
        raise ValueError("must be a path without control characters")
    if len(text.encode()) > MAX_PATH_BYTES:
        raise ValueError(f"must be a path of at most {MAX_PATH_BYTES:,} bytes")
    return text


def _regex(text: str) -> re.Pattern[str]:
    if not text:
        raise ValueError("must not be empty: nothing matches everything (remove it)")
    if len(text) > MAX_REGEX:
        raise ValueError(f"must be a regular expression of at most {MAX_REGEX:,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Python may read differently one day
            return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression: {printable(str(error))}") from None


def filled(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list that is not empty, else ValueError; pydantic's min_length calls one empty in which all is wrong."""
    if not values:
        raise ValueError("must not be empty")
    return values


def _destination(bucket: str, remote_path: str = "/") -> Destination:
    if "://" in bucket:
        raise ValueError("must be the bucket's name alone, not a URL (the path goes into remote_path)")
    try:
        return destination.parse_destination(bucket, remote_path)
    except UsageError as error:
        raise ValueError(re.sub(r"--(?=bucket|remote_path)", "", str(error))) from None


def _url(text: str) -> SecretStr | None:
    try:
        parts = urlsplit(text)
        is_url = bool(re.fullmatch(r"https?://[!-~]+", text) and parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if text and not is_url:
        raise ValueError("must be a URL: https://... or http://...")
    return SecretStr(text) if text else None


def _from_text(parse: Callable[[str], Any]) -> BeforeValidator:
    """What is no text is left to pydantic to take or to refuse."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _word(text: str) -> str:
    if "\0" in text:
        raise ValueError("must be words without NUL characters")
    return text


def _command(words: tuple[str, ...]) -> tuple[str, ...]:
    if words:
        _absolute(words[0])
    return words


def one_of(values: Sequence[str]) -> Callable[[str], str]:
    """A validator that takes these texts and the empty one; raises ValueError."""

    def check(text: str) -> str:
        if text and text not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return text

    return check


def _account(text: str) -> str:
    if text and not argv.ACCOUNT.fullmatch(text):
        raise ValueError("must be the 12 digits of an AWS account (in quotes)")
    return text


def _slurm_word(text: str) -> str:
    if text.startswith("-") or not re.fullmatch(r"[!-~]*", text):
        raise ValueError("must be one word as sbatch takes it, without spaces, that begins with no `-`")
    return text


def _sbatch_options(text: Any) -> tuple[str, ...]:
    try:
        words = client.parse_options(text) if isinstance(text, str) else None
    except UsageError as error:
        raise ValueError(f"has {error}") from None
    if words is None:
        raise ValueError("must be text as for a shell, e.g. '--qos=low --mem=4G'")
    return tuple(map(_word, words))


def _timetable(limit: Any) -> bandwidth.BandwidthSchedule | None:
    by_time = isinstance(limit, dict) and all(isinstance(rate, str) for rate in limit.values())
    if not isinstance(limit, str) and not by_time:
        raise ValueError("must be a rate such as 50MB/s, or rates by time, e.g. {'08:00-18:00': 50MB/s}")
    try:
        return bandwidth.parse_schedule(limit) if limit else None
    except ValueError as error:
        raise ValueError(f"has {error}") from None


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_PATH_SCHEMA = Schema({"type": "string", "pattern": "^/"})
_REGEX_SCHEMA = {"type": "string", "format": "regex", "maxLength": MAX_REGEX}

Count = Annotated[Int, Field(ge=1)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    _from_text(str.upper),
    Schema({"enum": [*_LEVELS, *map(str.lower, _LEVELS)]}),
]
AbsoluteText = Annotated[Text, AfterValidator(_absolute), _PATH_SCHEMA]
AbsolutePath = Annotated[Path, _from_text(_absolute), _PATH_SCHEMA]
Bucket = Annotated[Text, AfterValidator(lambda text: _destination(text) and text)]
RemotePath = Annotated[Text, AfterValidator(lambda text: _destination("any", text) and text)]
Regex = Annotated[re.Pattern[str], _from_text(_regex), Schema({**_REGEX_SCHEMA, "minLength": 1})]
OptionalRegex = Annotated[
    re.Pattern[str] | None, _from_text(lambda text: _regex(text) if text else None), Schema(_REGEX_SCHEMA)
]
_RATE_SCHEMA = {"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)? ?[kKMG]?B/s)?$"}
Bandwidth = Annotated[
    bandwidth.BandwidthSchedule | None,
    BeforeValidator(_timetable),
    Schema({"title": "Bandwidth", "oneOf": [_RATE_SCHEMA, {"type": "object", "additionalProperties": _RATE_SCHEMA}]}),
]
Account = Annotated[Text, AfterValidator(_account), Schema({"type": "string", "pattern": "^([0-9]{12})?$"})]
SecretUrl = Annotated[SecretStr | None, _from_text(_url), Schema({"type": "string", "pattern": "^(https?://.+)?$"})]
Command = Annotated[
    tuple[Annotated[Text, AfterValidator(_word)], ...],
    AfterValidator(_command),
    Schema({"type": "array", "items": {"type": "string"}}),
]
SlurmWord = Annotated[Text, AfterValidator(_slurm_word), Schema({"type": "string", "pattern": "^([!-,.-~][!-~]*)?$"})]
SbatchOptions = Annotated[tuple[Text, ...], BeforeValidator(_sbatch_options), Schema({"type": "string"})]
