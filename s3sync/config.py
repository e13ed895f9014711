"""The configuration: a YAML or JSON file becomes one frozen `Config`, or one error that names all that is wrong.

Both formats become the same tree of nodes, each with its place in the file; pydantic types the values,
and its complaints are told with the places. Of YAML only what JSON has too is taken, plus comments,
bare words and aliases: `no` and `010` are the text that stands there, never False and 8.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import stat
import sys
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, Strict, ValidationError
from pydantic import StrictInt as Int
from pydantic import StrictStr as Text
from pydantic import WithJsonSchema as Schema

from s3sync.destination import Destination, parse_destination
from s3sync.errors import ConfigError, UsageError
from s3sync.readback import Readback, Verify
from s3sync.text import printable

MAX_CONFIG_BYTES = 1024 * 1024
MAX_VALUES = 10_000  # aliases count as often as they are used: a few lines of YAML can stand for billions
MAX_REGEX = 1000  # characters
MAX_PATH_BYTES = 4095  # Linux's limit

# The file as a tree: what stands where, whatever it means.

Loc = tuple[int | str, ...]  # of a value in the tree, as pydantic has it: ("monitor", 1, "bucket")
Place = tuple[int, int]  # in the file: line and column, from 1


class Problem(NamedTuple):
    """Something wrong. What comes from the environment has no place."""

    place: Place | None
    path: str
    what: str

    def line(self, file: str) -> str:
        """`FILE:LINE:COLUMN: monitor[1].bucket: what is wrong`."""
        where = f"{file}:{self.place[0]}:{self.place[1]}" if self.place else "environment"
        return ": ".join(part for part in (where, self.path, self.what) if part)


class _UnparsableError(Exception):
    def __init__(self, place: Place, what: str) -> None:
        super().__init__(what)
        self.problem = Problem(place, "", what)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # for the other end of a pipe


def _read(path: Path, file: str) -> tuple[str, bool]:
    """The text, and whether others than its owner may read it; raises ConfigError."""
    try:
        with open(path, "rb", opener=_without_waiting) as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{file}: is no regular file (give the configuration's file)")
            content = stream.read(MAX_CONFIG_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{file}: cannot be read: {why} (check --config and the modes on the way there)") from None
    if len(content) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{file}: is larger than {MAX_CONFIG_BYTES:,} bytes (is it the configuration?)")
    return _decoded(content, file), bool(mode & 0o077)


def _decoded(content: bytes, file: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
        raise ConfigError(f"{file}: is UTF-16, or no text (save it as UTF-8)")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}:1: this line is not UTF-8 (save the file as UTF-8)") from None
    if not text.strip():
        raise ConfigError(f"{file}:1:1: is empty")
    return text


class _Loader(yaml.SafeLoader):
    """Stops at too many values, and takes for numbers only what JSON does."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (as the base class has it)
    _count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _too_many(_place(self.peek_event()))  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


def _too_many(place: Place) -> _UnparsableError:
    return _UnparsableError(place, f"more than {MAX_VALUES:,} values (is it the configuration?)")


def _place(node: Any) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


_YAML = "tag:yaml.org,2002:"
_STR, _INT, _FLOAT, _BOOL, _NULL = (_YAML + name for name in ("str", "int", "float", "bool", "null"))
for _tag, _pattern, _first in (
    (_INT, r"-?(0|[1-9][0-9]*)\Z", "-0123456789"),
    (_FLOAT, r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z", "-0123456789"),
    (_BOOL, r"(true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    (_NULL, r"(~|null|Null|NULL)?\Z", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)
_SCALARS: dict[str, Callable[[str], Any]] = {_STR: str, _INT: int, _FLOAT: float, _BOOL: bool}  # none may be a bool


def _yaml_node(text: str) -> yaml.Node:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        since = f" that begins in line {error.context_mark.line + 1}" if error.context_mark else ""
        words = f"{error.context}{since}: {error.problem}" if error.context else f"{error.problem}"
        advice = " (indent with spaces, not with tabs)" if "'\\t'" in words else ""
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _UnparsableError(place, f"not YAML: {printable(words)}{advice}") from None
    except yaml.reader.ReaderError as error:
        place = _Lines(text).place(error.position)
        raise _UnparsableError(place, f"not YAML: it has a character {error.character:#x}") from None
    except (ValueError, OverflowError):  # "\UFFFFFFFF"
        raise _UnparsableError((1, 1), "not YAML: a number or the code of a character is too large") from None
    if node is None:
        raise _UnparsableError((1, 1), "is empty")
    return node


class _Lines:
    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, offset: int) -> Place:
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


# Of text that is known to be JSON, in which commas and colons tell nothing more.
_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]|[^\s{}\[\],:"]+')
_JSON_WORDS = {"true": _BOOL, "false": _BOOL, "null": _NULL}


def _json_node(text: str) -> yaml.Node:
    """The nodes that YAML would have, had it no rules for tabs, long keys and surrogates."""
    try:
        json.loads(text, parse_int=str)  # Python limits the digits of an int
    except json.JSONDecodeError as error:
        advice = "JSON has no comments, and no comma after the last item"
        raise _UnparsableError((error.lineno, error.colno), f"not JSON: {error.msg} ({advice})") from None
    tokens = list(_JSON_TOKEN.finditer(text))
    lines = _Lines(text)
    if len(tokens) > 2 * MAX_VALUES:
        raise _too_many(lines.place(tokens[2 * MAX_VALUES].start()))
    tokens.reverse()
    return _json_nodes(tokens, lines)


def _json_nodes(tokens: list[re.Match[str]], lines: _Lines) -> yaml.Node:
    """The next value; takes its tokens off the end of the list."""
    token = tokens.pop()
    word = token.group()
    line, column = lines.place(token.start())
    mark = yaml.Mark("", token.start(), line - 1, column - 1, None, 0)
    if word in "[{":
        end, values = "]" if word == "[" else "}", []
        while tokens[-1].group() != end:
            values.append(_json_nodes(tokens, lines))
        tokens.pop()
        if word == "[":
            return yaml.SequenceNode(_YAML + "seq", values, mark)
        return yaml.MappingNode(_YAML + "map", list(zip(values[::2], values[1::2], strict=True)), mark)
    if word.startswith('"'):
        return yaml.ScalarNode(_STR, json.loads(word), mark)
    return yaml.ScalarNode(_JSON_WORDS.get(word) or (_INT if re.fullmatch("-?[0-9]+", word) else _FLOAT), word, mark)


class Tree:
    """The values of the file, the place of each, and what is wrong that a value does not show."""

    def __init__(self, text: str, is_json: bool) -> None:
        self.places: dict[Loc, Place] = {}
        self.keys: dict[Loc, Place] = {}
        self.problems: list[Problem] = []
        try:
            self.value = self._value(_json_node(text) if is_json else _yaml_node(text), ())
        except RecursionError:
            raise _UnparsableError((1, 1), "values are nested too deeply") from None

    def place(self, loc: Loc) -> Place:
        """Of the value, or else of what it should be in."""
        while loc not in self.places:
            loc = loc[:-1]
        return self.places[loc]

    def _value(self, node: yaml.Node, loc: Loc) -> Any:
        self.places[loc] = _place(node)
        if len(self.places) > MAX_VALUES:
            raise _too_many(_place(node))
        if isinstance(node, yaml.MappingNode) and node.tag == _YAML + "map":
            return dict(self._items(node, loc))
        if isinstance(node, yaml.SequenceNode) and node.tag == _YAML + "seq":
            return [self._value(item, (*loc, number)) for number, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            try:
                return _SCALARS[node.tag](node.value)
            except ValueError:  # `!!int x`, a number of 5,000 digits
                self._wrong(node, loc, "is no number")
        elif node.tag == _NULL:
            self._wrong(node, loc, "has no value (give it one, or remove it)")
        else:
            self._wrong(node, loc, "has a tag of YAML's that means nothing here (remove the tag)")
        return None

    def _items(self, node: yaml.MappingNode, loc: Loc) -> Iterator[tuple[str, Any]]:
        for key_node, value_node in node.value:
            key = printable(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            here = (*loc, key)
            if here in self.keys:
                self._wrong(key_node, here, f"is here twice, first in line {self.keys[here][0]} (remove one)")
            else:
                self.keys[here] = _place(key_node)
                yield key, self._value(value_node, here)

    def _wrong(self, node: yaml.Node, loc: Loc, what: str) -> None:
        self.problems.append(Problem(_place(node), _path(loc), what))


def _path(loc: Loc) -> str:
    """`monitor[1].bucket`. What does not look like a key is cut: it could be a URL in the wrong place."""
    keys = (part if isinstance(part, int) or re.fullmatch(r"[\w$-]{1,40}", part) else f"{part[:20]!r}" for part in loc)
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


# The values as they are typed. A message never quotes what could be a secret.


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


def _filled(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Unlike pydantic's min_length, it does not call a list empty in which all is wrong."""
    if not values:
        raise ValueError("must not be empty")
    return values


def _destination(bucket: str, remote_path: str = "/") -> Destination:
    if "://" in bucket:
        raise ValueError("must be the bucket's name alone, not a URL (the path goes into remote_path)")
    try:
        return parse_destination(bucket, remote_path)
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
SecretUrl = Annotated[SecretStr | None, _from_text(_url), Schema({"type": "string", "pattern": "^(https?://.+)?$"})]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class MonitorEntry(_Model):
    """Folders that sequencers write their runs to, and the one place in S3 where these go."""

    monitored_directories: Annotated[tuple[AbsolutePath, ...], AfterValidator(_filled)] = Field(
        description="The folders that hold the run folders; absolute paths.", json_schema_extra={"minItems": 1}
    )
    bucket: Bucket = Field(description="The bucket's name, not a URL.")
    remote_path: RemotePath = Field(
        description="Where in the bucket; `/` is its root. Files go to remote_path/RUN/path/in/the/run."
    )
    regex: OptionalRegex = Field(
        default=None,
        alias="sample_regex",
        description="A regular expression that has to be found in the name of every sample in a run's samplesheet; "
        "other runs are left alone. Without it all runs are uploaded, and none needs a samplesheet.",
    )
    excludes: tuple[Regex, ...] = Field(
        default=(),
        alias="exclude_patterns",
        description="Files are left out if one of these regular expressions is found in RUN/path/in/the/run.",
    )

    @property
    def destination(self) -> Destination:
        """`bucket` and `remote_path`, typed."""
        return parse_destination(self.bucket, self.remote_path)


_SECRET = "A secret: chmod 600 this file, or set {} in the environment instead. Empty: none."  # noqa: S105


class Config(_Model):
    """What `s3sync monitor` uploads, where to, and whom it tells."""

    schema_url: Annotated[Text | None, AfterValidator(lambda _: None)] = Field(
        default=None, alias="$schema", repr=False, description="For editors; ignored."
    )
    max_cores: Count | None = Field(
        default=None, description="aws processes at once; by default one for each core that may be used."
    )
    max_threads: Count = Field(default=4, description="Requests at once in each aws process; more than 10 do not help.")
    max_age: Number = Field(
        default=72, gt=0, description="Hours since RunInfo.xml was written after which a run is no longer begun."
    )
    log_level: LogLevel = Field(default="INFO", description="The least severe messages that the log has.")
    log_dir: AbsolutePath = Field(
        default=Path("/var/log/s3_upload"), description="The folder of the log, and of what is known of each run."
    )
    slack_log_webhook: SecretUrl = Field(
        default=None,
        description="A Slack webhook that is told of uploads. " + _SECRET.format("S3SYNC_SLACK_LOG_WEBHOOK"),
    )
    slack_alert_webhook: SecretUrl = Field(
        default=None,
        description="A Slack webhook that is told of failures. " + _SECRET.format("S3SYNC_SLACK_ALERT_WEBHOOK"),
    )
    webhook: SecretUrl = Field(
        default=None, description="A URL that gets the reports as JSON. " + _SECRET.format("S3SYNC_WEBHOOK")
    )
    ping_url: SecretUrl = Field(
        default=None, description="A check of healthchecks.io or the like. " + _SECRET.format("S3SYNC_PING_URL")
    )
    verify: Verify = Field(
        default="etag", description="What proves a file: S3's ETag against the bytes on disk, or the size alone."
    )
    readback: Readback = Field(default="auto", description="How S3 is asked what it has; auto takes the cheaper.")
    aws_command: AbsoluteText | None = Field(
        default=None, description="The AWS CLI; by default the one beside this Python, else on PATH."
    )
    alert_after_busy_hours: Number = Field(
        default=24, gt=0, description="A call that is still at work after so many hours is told of."
    )
    quiet_minutes: Number = Field(
        default=60, ge=0, description="How long a run of an unknown instrument has to be unchanged to be complete."
    )
    monitor: Annotated[tuple[MonitorEntry, ...], AfterValidator(_filled)] = Field(
        description="What is uploaded where.", json_schema_extra={"minItems": 1}
    )


def json_schema() -> str:
    """The JSON schema of the file, for editors: what `conf/s3sync.schema.json` holds."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    for model in (schema, schema["$defs"]["MonitorEntry"]):
        for key, field in model["properties"].items():
            # None is the absence of a key: a null in the file is a mistake.
            facts = {**field, **field.get("anyOf", [{}])[0]}
            absent = {"anyOf", "default"} if facts.get("default", ...) is None else {"anyOf"}
            model["properties"][key] = {name: fact for name, fact in facts.items() if name not in absent}
    return json.dumps(schema, indent=2) + "\n"


# The door.


def load_config(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Raises ConfigError, whose text has a line for each mistake: `FILE:LINE:COLUMN: monitor[1].bucket: ...`.

    A secret that the file does not have is taken from the environment.
    """
    file = printable(str(path))
    text, is_shared = _read(path, file)
    try:
        tree = Tree(text, is_json=path.suffix.lower() == ".json")
    except _UnparsableError as error:
        raise ConfigError(error.problem.line(file)) from None
    config, problems = _typed(tree, _secrets_of(environ, tree.value))
    problems = [*tree.problems, *problems, *_fights(tree), *(_exposed(tree, file) if is_shared else ())]
    if config is None or problems:
        raise ConfigError("\n".join(problem.line(file) for problem in _in_order(problems)))
    return config


# By pydantic's names of errors.
_MESSAGES = {
    "missing": "is missing",
    "int_type": "must be a whole number (digits alone: no quotes, no leading zero)",
    "float_type": "must be a number such as 72 or 0.5 (without quotes)",
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    **dict.fromkeys(("string_type", "path_type", "pattern_type"), "must be text (put it into quotes)"),
    "tuple_type": "must be a list, e.g. {example}",
    "literal_error": "must be {expected}",
    "model_type": "must be keys with values, e.g. {example}",
    "value_error": "{error}",
}
_EXAMPLES = {
    "monitored_directories": "[/data]",
    "exclude_patterns": "['/Thumbnail_Images/']",
    "monitor": "[{monitored_directories: [/data], bucket: lab-runs, remote_path: /}]",
}
_SECRETS = {key: f"S3SYNC_{key.upper()}" for key in ("slack_log_webhook", "slack_alert_webhook", "webhook", "ping_url")}
_TOP_KEYS, _ENTRY_KEYS = (
    [field.alias or name for name, field in model.model_fields.items()] for model in (Config, MonitorEntry)
)


def _secrets_of(environ: Mapping[str, str], value: Any) -> dict[str, str]:
    """Those that the environment has and the file has not."""
    if not isinstance(value, dict):
        return {}
    found = {key: environ.get(name, "").strip() for key, name in _SECRETS.items() if not value.get(key)}
    return {key: secret for key, secret in found.items() if secret}


def _typed(tree: Tree, secrets: Mapping[str, str]) -> tuple[Config | None, list[Problem]]:
    """The configuration, if pydantic finds nothing wrong with the values."""
    value = {**tree.value, **secrets} if isinstance(tree.value, dict) else tree.value
    try:
        return Config.model_validate(value), []
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
    problems = []
    for item in wrong:
        kind, loc = item["type"], item["loc"]
        if loc and loc[0] in secrets:
            place, path = None, _SECRETS[str(loc[0])]
        else:
            place, path = tree.keys[loc] if kind == "extra_forbidden" else tree.place(loc), _path(loc)
        example = _EXAMPLES.get(str(loc[-1]) if loc else "", "{bucket: lab-runs, remote_path: /}")
        facts = {"example": example, "otherwise": item["msg"], **item.get("ctx", {})}
        what = _unknown(loc) if kind == "extra_forbidden" else _MESSAGES.get(kind, "{otherwise}").format(**facts)
        problems.append(Problem(place, path, what))
    return None, problems


def _unknown(loc: Loc) -> str:
    key = str(loc[-1])[:40]
    ours, others, there = (_TOP_KEYS, _ENTRY_KEYS, "into an entry of `monitor`")
    if len(loc) > 1:
        ours, others, there = (_ENTRY_KEYS, _TOP_KEYS, "to the top level")
    if key in others:
        return f"is no key here (move it {there})"
    if key == "<<":
        return "is no key: YAML's merging means nothing here (write the keys out)"
    close = difflib.get_close_matches(key.lower(), ours, n=1)
    return f"is no key (did you mean {close[0]}?)" if close else "is no key (remove it)"


def _fights(tree: Tree) -> Iterator[Problem]:
    """Folders that would go to one destination twice: the same keys in S3, with two opinions on what to upload."""
    taken: dict[tuple[Destination, Path], Loc] = {}
    above: dict[tuple[Destination, Path], Loc] = {}
    for loc, destination, folder in _folders(tree.value):
        real = Path(os.path.realpath(folder))
        at, *outer = [(destination, path) for path in (real, *real.parents)]
        fights = [("is the same folder as", taken[at])] if at in taken else []
        fights += [("lies in", taken[key]) for key in outer if key in taken]
        fights += [("has in it", above[at])] if at in above else []
        for words, first in fights[:1]:
            to = printable(f"s3://{destination.bucket}{destination.remote_path}")
            yield Problem(tree.place(loc), _path(loc), f"{words} {_path(first)}, and both go to {to} (remove one)")
        taken.setdefault(at, loc)
        above.update({key: loc for key in outer if key not in above})


def _folders(value: Any) -> Iterator[tuple[Loc, Destination, Path]]:
    """The folders of those entries that are right in themselves."""
    entries = value.get("monitor") if isinstance(value, dict) else None
    for number, raw in enumerate(entries if isinstance(entries, list) else []):
        try:
            entry = MonitorEntry.model_validate(raw)
        except ValidationError:
            continue
        for index, folder in enumerate(entry.monitored_directories):
            yield ("monitor", number, "monitored_directories", index), entry.destination, folder


def _exposed(tree: Tree, file: str) -> Iterator[Problem]:
    for key, name in _SECRETS.items():
        if isinstance(tree.value, dict) and tree.value.get(key):
            advice = f"chmod 600 {shlex.quote(file)}, or set {name} instead"
            yield Problem(tree.place((key,)), key, f"holds a secret and is readable by others ({advice})")


def _in_order(problems: list[Problem]) -> list[Problem]:
    """By place, one for each value: the first, which the others follow from."""
    first: dict[tuple[Place | None, str], Problem] = {}
    for problem in problems:
        first.setdefault((problem.place, problem.path), problem)
    return sorted(first.values(), key=lambda problem: (problem.place or (sys.maxsize, 0), problem.path))


if __name__ == "__main__":
    sys.stdout.write(json_schema())
