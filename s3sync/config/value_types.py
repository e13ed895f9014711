"""Types of values in the config, with their validators. No message quotes a value that could be a secret."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, SecretStr, Strict
from pydantic import StrictInt as Int
from pydantic import StrictStr as Text
from pydantic import WithJsonSchema as Schema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from s3sync.aws import destination as aws_destination
from s3sync.aws.destination import ACCOUNT, REGION, STORAGE_CLASSES, Destination
from s3sync.errors import UsageError
from s3sync.patterns import Pattern
from s3sync.slurm import client
from s3sync.text import printable
from s3sync.transfer.request import bandwidth
from s3sync.transfer.request.storage_classes import ClassRule

MAX_REGEX = 1000  # characters
MAX_PATH_BYTES = 4095  # Linux's limit


def invalid(text: str, *, id: str) -> PydanticCustomError:  # noqa: A002
    """Return the error of a value, for a validator to raise."""
    return PydanticCustomError(id, "{text}", {"text": text})


def _absolute(text: str) -> str:
    if text.startswith("~"):
        where = printable(os.path.expanduser(text))
        advice = f"write the whole path, e.g. {where}" if where.startswith("/") else "write the whole path"
        raise invalid(f"must be an absolute path: `~` is not expanded here ({advice})", id="config.tilde-in-path")
    if text.startswith("$"):
        what = "must be an absolute path: variables are not expanded here (write the whole path)"
        raise invalid(what, id="config.variable-in-path")
    if not text.startswith("/"):
        raise invalid("must be an absolute path (begin it with `/`)", id="config.relative-path")
    if not text.isprintable():
        raise invalid("must not contain control characters", id="config.control-character")
    if len(text.encode()) > MAX_PATH_BYTES:
        raise invalid(f"must be at most {MAX_PATH_BYTES:,} bytes long", id="config.path-too-long")
    return text


def _regex(text: str) -> Pattern:
    if not text:
        raise invalid("must not be empty: the empty pattern matches everything (remove it)", id="config.empty-regex")
    if len(text) > MAX_REGEX:
        raise invalid(f"must be at most {MAX_REGEX:,} characters long", id="config.regex-too-long")
    try:
        return Pattern(text)
    except ValueError as error:
        if ending := text.lstrip("*") if text.startswith("*") else "":
            what = f"is a file pattern, not a regular expression (write '{printable(re.escape(ending))}$')"
            raise invalid(what, id="config.glob-as-regex") from None
        raise invalid(f"must be a regular expression: {printable(str(error))}", id="config.bad-regex") from None


def non_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values; raise if there are none. pydantic's min_length would also reject lists of invalid values."""
    if not values:
        raise invalid("must not be empty", id="config.empty-list")
    return values


def _destination(bucket: str, remote_path: str = "/") -> Destination:
    if "://" in bucket:
        what = "must be the name of the bucket, not a URL (put the path into remote_path)"
        raise invalid(what, id="config.bucket-is-url")
    try:
        return aws_destination.parse_destination(bucket, remote_path)
    except UsageError as error:
        text = re.sub(r"--(bucket|remote-path)", lambda option: option[1].replace("-", "_"), str(error))
        raise invalid(text, id="config.bad-destination") from None


def _url(text: str) -> SecretStr | None:
    try:
        parts = urlsplit(text)
        is_url = bool(re.fullmatch(r"https?://[!-~]+", text) and parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if text and not is_url:
        raise invalid("must be a URL: https://... or http://...", id="config.bad-url")
    return SecretStr(text) if text else None


def _from_text(parse: Callable[[str], Any]) -> BeforeValidator:
    """Parse texts; leave all other values to pydantic."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _argument(text: str) -> str:
    if "\0" in text:
        raise invalid("must not contain NUL characters", id="config.control-character")
    return text


def _command(argv: tuple[str, ...]) -> tuple[str, ...]:
    if argv:
        _absolute(argv[0])
    return argv


def one_of(values: Sequence[str]) -> Callable[[str], str]:
    """Return a validator that accepts these texts and the empty one."""

    def check(text: str) -> str:
        if text and text not in values:
            raise invalid(f"must be one of {', '.join(values)}", id="config.unknown-value")
        return text

    return check


def _matching(pattern: re.Pattern[str], what: str, *, id: str) -> AfterValidator:  # noqa: A002
    """Accept the empty text, and texts that match the pattern from beginning to end."""

    def check(text: str) -> str:
        if text and not pattern.fullmatch(text):
            raise invalid(what, id=id)
        return text

    return AfterValidator(check)


def _class_name(text: str) -> str:
    if text not in STORAGE_CLASSES:
        what = f"must be a storage class that the AWS CLI supports: {', '.join(STORAGE_CLASSES)}"
        raise invalid(what, id="config.unknown-value")
    return text


def _profile_name(text: str) -> str:
    if not text.isprintable():
        raise invalid("must be the name of a profile in the AWS config", id="config.control-character")
    return text


def _sbatch_options(text: Any) -> tuple[str, ...]:
    if not isinstance(text, str):
        raise invalid("must be one text in quotes, e.g. '--qos=low --mem=4G'", id="config.bad-slurm-options")
    try:
        options = client.parse_options(text)
    except UsageError as error:
        raise invalid(f"has {error}", id="config.bad-slurm-options") from None
    return tuple(map(_argument, options))


def _schedule(limit: Any) -> bandwidth.BandwidthSchedule | None:
    by_time = isinstance(limit, dict) and all(isinstance(rate, str) for rate in limit.values())
    if not isinstance(limit, str) and not by_time:
        what = "must be a rate such as 50MB/s, or rates by time, e.g. {'08:00-18:00': 50MB/s}"
        raise invalid(what, id="config.bad-rate")
    try:
        return bandwidth.parse_schedule(limit) if limit else None
    except ValueError as error:
        raise invalid(f"has {error}", id="config.bad-rate") from None


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
Regex = Annotated[Pattern, _from_text(_regex), Schema({**_REGEX_SCHEMA, "minLength": 1})]
OptionalRegex = Annotated[
    Pattern | None, _from_text(lambda text: _regex(text) if text else None), Schema(_REGEX_SCHEMA)
]
_ClassName = Annotated[Text, AfterValidator(_class_name)]


@dataclass(frozen=True, slots=True)
class PairsFromMap:
    """Read a map as a tuple of pairs, which is frozen, in the order of the file."""

    key: Any  # the type of the keys
    value: Any  # the type of the values
    pair: Callable[[Any, Any], tuple[Any, Any]] = lambda key, value: (key, value)

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic check each key and value separately, so that errors name them."""
        write = core_schema.plain_serializer_function_ser_schema(
            lambda pairs: {getattr(key, "pattern", key): value for key, value in pairs}
        )
        return core_schema.no_info_after_validator_function(
            lambda values: tuple(self.pair(key, value) for key, value in values.items()),
            handler.generate_schema(dict[self.key, self.value]),  # type: ignore[name-defined]
            serialization=write,
        )


StorageClasses = Annotated[
    tuple[ClassRule, ...],
    PairsFromMap(Regex, _ClassName, ClassRule),
    Schema(
        {
            "type": "object",
            "propertyNames": {**_REGEX_SCHEMA, "minLength": 1},
            "additionalProperties": {"enum": list(STORAGE_CLASSES)},
        }
    ),
]
_RATE_SCHEMA = {"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)? ?[kKMG]?B/s)?$"}
Bandwidth = Annotated[
    bandwidth.BandwidthSchedule | None,
    BeforeValidator(_schedule),
    Schema({"title": "Bandwidth", "oneOf": [_RATE_SCHEMA, {"type": "object", "additionalProperties": _RATE_SCHEMA}]}),
]
Account = Annotated[
    Text,
    _matching(ACCOUNT, "must be the 12 digits of an AWS account (in quotes)", id="config.bad-account"),
    Schema({"type": "string", "pattern": f"^({ACCOUNT.pattern})?$"}),
]
ProfileName = Annotated[Text, AfterValidator(_profile_name)]
Region = Annotated[
    Text,
    _matching(REGION, "must be an AWS region such as eu-west-2", id="config.bad-region"),
    Schema({"type": "string", "pattern": f"^({REGION.pattern})?$"}),
]
SecretUrl = Annotated[SecretStr | None, _from_text(_url), Schema({"type": "string", "pattern": "^(https?://.+)?$"})]
Command = Annotated[
    tuple[Annotated[Text, AfterValidator(_argument)], ...],
    AfterValidator(_command),
    Schema({"type": "array", "items": {"type": "string"}}),
]
_SLURM_VALUE = re.compile("[!-,.-~][!-~]*")  # printable ASCII that cannot be taken for an option
SlurmValue = Annotated[
    Text,
    _matching(_SLURM_VALUE, "must not contain spaces, or begin with `-`", id="config.bad-slurm-value"),
    Schema({"type": "string", "pattern": f"^({_SLURM_VALUE.pattern})?$"}),
]
SbatchOptions = Annotated[tuple[Text, ...], BeforeValidator(_sbatch_options), Schema({"type": "string"})]
