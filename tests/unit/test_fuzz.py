"""Whatever bytes come from outside: each parser returns a value or raises the one error that it promises, printable.

Arbitrary bytes, real samples with damage, and values that are right in form and hostile in content: what they
have in common stands first.
"""

from __future__ import annotations

import configparser
import contextlib
import dataclasses
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from s3sync.aws import multipart
from s3sync.aws.client import AwsCli, AwsResult, RemoteFolder
from s3sync.aws.destination import BucketRef, Destination
from s3sync.aws.diagnosis import fatal_cause, has_empty_error_body, unreachable_cause
from s3sync.aws.digests import Sums
from s3sync.aws.etag import likely_part_sizes
from s3sync.aws.launcher import Launcher
from s3sync.aws.objects import Absent, ObjectReader, Readback, RemoteObject, Unknown
from s3sync.aws.settings import CliSettings, write_config
from s3sync.commands import run_details, status
from s3sync.commands.overview import load_overview
from s3sync.config import Config, load_config
from s3sync.config.model import json_schema
from s3sync.errors import AwsError, ConfigError, RunError, StateError
from s3sync.inventory import log_rules
from s3sync.monitor import messages, notifications
from s3sync.monitor.problems import Problem
from s3sync.runs.completion import check_completion
from s3sync.runs.local_files import LocalFile
from s3sync.runs.run_folder import Run, RunInfo, RunParameters, read_run_info, read_run_parameters
from s3sync.runs.sheet_parser import SheetError, read_samples
from s3sync.signals import StopRequest
from s3sync.state.journal import count_journaled, journal_head, parse_journal
from s3sync.state.log_format import parse_log, to_json
from s3sync.state.log_head import LogSummary, destination_of_log, read_head
from s3sync.state.run_state import Proof
from s3sync.transfer.batches import Batch
from s3sync.transfer.cp_output import FailureLines
from s3sync.transfer.proof import verify_object
from tests.helpers.state_logs import finished, put_log, state_of, store_for

fuzz = settings(
    deadline=None,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "80")),  # .ci/run sets more
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
T = TypeVar("T")
CONF = Path(__file__).parents[2] / "conf"

# What is hostile

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252")
NASTY = (
    *(
        "",
        " ",
        "\0",
        "\r",
        "a\nb",
        "a\r\nb",
        "\x1b[31mred",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\x7f",
        "\u2028",
        "\u202egpj",
    ),
    *("\ud800", "\udcff", "\ufeff", "\U000e0001", "²", "٣", "NaN", "-0", "1e999", "9" * 5000, "-1", "../../etc/passwd"),
    *("$(touch x)", "`x`", "; x", "--debug", "%s%n", "{0}", "&e;", "<!--", "]]>", "'", '"', "\\", "a" * 3000),
)
TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(NASTY)
BYTES = st.binary(max_size=200)


def encoded(text: str, encoding: str = "utf-8") -> bytes:
    """In this encoding as far as it goes; halves of surrogate pairs become what UTF-8 forbids."""
    try:
        return text.encode(encoding, "surrogatepass")
    except UnicodeEncodeError:
        return text.encode(encoding, "replace")


@st.composite
def damaged(draw: st.DrawFn, *samples: str) -> bytes:
    """A sample in some encoding, with a few pieces cut out, put in or repeated."""
    content = encoded(draw(st.sampled_from(samples)), draw(st.sampled_from(("utf-8", *ENCODINGS))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        until = draw(st.integers(at, min(len(content), at + 30)))
        content = content[:at] + draw(BYTES | TEXTS.map(encoded)) + content[until:]
    return content


def any_bytes(*samples: str) -> st.SearchStrategy[bytes]:
    return BYTES | TEXTS.map(encoded) | damaged(*samples)


MD5 = "a" * 32
# JSON as text: what no `json.dumps` writes, too (keys twice, numbers without end, halves of pairs, no JSON at all).
ODD_NUMBERS = ("-1", "1.5", "1e999", "NaN", "-Infinity", str(2**63), "9" * 400, "9" * 5000, "true", '"5"')
ODD_STRINGS = (
    *(
        '""',
        r'"\ud800"',
        r'"\u001b[31m\r\n"',
        r'"\u202e\u0000\u009b"',
        '"x',
        json.dumps("x" * 3000),
        json.dumps("../" * 9),
    ),
    *(
        '"0001-01-01T00:00:00"',
        '"9999-12-31T23:59:59+00:00"',
        json.dumps(f'"{MD5}-{"9" * 5000}"'),
        json.dumps(f'"{MD5}-²"'),
    ),
)
ODD_SHAPES = (
    "null",
    "[]",
    "{}",
    "[1,]",
    '{"a": 1, "a": 2}',
    '[["a"]]',
    '{"a": [1, null]}',
    "[" * 500 + "]" * 500,
    "[" * 5000,
)
ODD_JSON = (*ODD_NUMBERS, *ODD_STRINGS, *ODD_SHAPES)


def json_object(pairs: Sequence[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"


def json_array(items: Sequence[str]) -> str:
    return f"[{', '.join(items)}]"


json_texts: st.SearchStrategy[str] = st.sampled_from(ODD_JSON) | st.recursive(
    st.sampled_from(ODD_JSON) | TEXTS.map(json.dumps) | st.integers().map(str) | st.floats().map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=4).map(json_array)
        | st.lists(st.tuples(TEXTS.map(json.dumps), inner), max_size=4).map(json_object)
    ),
    max_leaves=6,
)


def odd_like(value: object) -> st.SearchStrategy[str]:
    """Mostly of the same type, so that it comes past the first look."""
    if isinstance(value, int):
        return st.sampled_from(ODD_NUMBERS)
    if isinstance(value, str):
        return st.sampled_from(ODD_STRINGS) | TEXTS.map(json.dumps)
    return st.sampled_from(ODD_SHAPES)


@st.composite
def spoilt(draw: st.DrawFn, good: dict[str, Any]) -> bytes:
    """A JSON object with a few values replaced, keys removed or doubled, as bytes in some encoding."""
    pairs = [(json.dumps(key), json.dumps(value)) for key, value in good.items()]
    for key in draw(st.lists(st.sampled_from(sorted(good)), max_size=4)):
        at = next((number for number, pair in enumerate(pairs) if pair[0] == json.dumps(key)), 0)
        change = draw(st.sampled_from(["odd", "odd", "odd", "any", "double", "remove"]))
        if change == "double":
            pairs.append((json.dumps(key), draw(json_texts)))
        elif change == "remove":
            del pairs[at : at + 1]
        else:
            pairs[at : at + 1] = [(json.dumps(key), draw(odd_like(good[key]) if change == "odd" else json_texts))]
    return encoded(json_object(pairs), draw(st.sampled_from(("utf-8",) * 8 + ENCODINGS)))


def row_of(*values: object) -> st.SearchStrategy[str]:
    """A JSON array of these values, of which some are replaced."""
    cells = [st.just(json.dumps(value)) | odd_like(value) for value in values]
    return st.tuples(*cells).map(json_array) | st.lists(json_texts, max_size=6).map(json_array)


def is_printable(text: str) -> bool:
    """Safe for terminals and logs: one line without control characters, and UTF-8."""
    return text.isprintable() and bool(text.encode() or not text)


def tried(parse: Callable[[], T], expected: type[Exception]) -> tuple[T | None, str]:
    """Return its result, or the printable message of the only error that it may raise."""
    try:
        return parse(), ""
    except expected as error:
        message = str(error)
    assert message
    assert all(map(is_printable, message.split("\n")))
    return None, message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples: they replace each other's files."""
    return tmp_path_factory.mktemp("fuzz")


# The configuration

SAMPLES = [(CONF / name).read_text() for name in ("s3sync.sample.yaml", "s3sync.sample.json")]
CONFIG_NAMES = st.sampled_from(["c.yaml", "c.json"])
ENTRY = {"monitored_directories": ["/data"], "bucket": "lab-runs", "remote_path": "/"}
YAML_PIECES = (
    *(
        "monitor:",
        "\n",
        "\n  ",
        "- ",
        ": ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "!x ",
        "!!python/object ",
    ),
    *(
        "|",
        ">-",
        "? ",
        "%YAML 1.1\n---\n",
        "%TAG ! tag:x,2000:\n---\n",
        "---\n",
        "...\n",
        "# x",
        "\t",
        "\u00a0",
        "\x85",
    ),
    *("bucket", "remote_path", "max_age", "webhook", "0x1f", "1_000", "1:30", ".inf", ".nan", "~", "on", "2020-01-01"),
    *('"\\ud800"', '"\\UFFFFFFFF"', "'a'", "[" * 3000, "- " * 1000, "{a: " * 500),
)
yaml_texts = st.lists(st.sampled_from(YAML_PIECES) | TEXTS, max_size=12).map("".join)
configs = (
    any_bytes(*SAMPLES)
    | yaml_texts.map(encoded)
    | json_texts.map(encoded)
    | spoilt(dict.fromkeys(json.loads(json_schema())["properties"], 1) | {"monitor": [ENTRY]})
    | spoilt({**ENTRY, "sample_regex": "a", "exclude_patterns": ["b"]}).map(
        lambda entry: b'{"monitor": [' + entry + b"]}"
    )
)


@fuzz
@given(content=configs, name=CONFIG_NAMES)
@example(content=b"%YAML 1.99999999999999999999\n---\na: 1", name="c.yaml")
@example(content=b"%TAG ! tag:%ff,2000:\n---\n!x a: 1", name="c.yaml")
@example(content=b"%YAML 1." + b"9" * 5000 + b"\n---\na: 1", name="c.yaml")
def test_any_file_is_a_configuration_or_a_config_error(folder: Path, content: bytes, name: str) -> None:
    path = folder / name
    path.write_bytes(content)
    path.chmod(0o600)
    config, message = tried(lambda: load_config(path, {}), ConfigError)
    assert config is None or isinstance(config, Config)
    assert all(line.startswith(str(path)) for line in message.split("\n") if message)


# What the instrument writes

RUN_INFO = """\
<?xml version="1.0" encoding="utf-8"?>
<RunInfo xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" Version="6">
  <Run Id="20231002_LH00130_0061_A22CC55LT4" Number="61">
    <Flowcell>22CC55LT4</Flowcell>
    <Instrument>LH00130</Instrument>
    <Date>2023-10-02T10:11:12Z</Date>
    <Reads>
      <Read Number="1" NumCycles="151" IsIndexedRead="N" IsReverseComplement="N"/>
      <Read Number="2" NumCycles="10" IsIndexedRead="Y" IsReverseComplement="Y"/>
    </Reads>
  </Run>
</RunInfo>
"""
RUN_PARAMETERS = """\
<?xml version="1.0"?>
<RunParameters>
  <ApplicationVersion>4.1.0</ApplicationVersion>
  <MCSVersion>2.6.2.1</MCSVersion>
  <Side>A</Side>
  <ExperimentName>Run 61, "exomes"</ExperimentName>
  <RecipeName>10B Sequencing</RecipeName>
  <FlowCellType>10B</FlowCellType>
</RunParameters>
"""
XML_ENCODINGS = (
    "utf-8",
    "utf-16",
    "utf-7",
    "utf-32",
    "idna",
    "punycode",
    "undefined",
    "rot13",
    "hex",
    "big5",
    "x" * 50,
)


def xml_with(sample: str, words: Sequence[str]) -> st.SearchStrategy[bytes]:
    """The sample with some of its words replaced: by character references, entities, elements, hostile text."""
    references = st.sampled_from(
        ["&#155;31m", "&#8238;", "&#13;&#10;", "&#xD800;", "&#0;", "&e;", "&lt;", "<a/>", "<!--"]
    )
    depth = st.sampled_from(["<a>" * 2000 + "</a>" * 2000, "<![CDATA[\n]]>", '<!DOCTYPE R [<!ENTITY e "x">]>'])
    pairs = st.lists(st.tuples(st.sampled_from(words), references | depth | TEXTS), max_size=3)

    def build(changes: list[tuple[str, str]], encoding: str, declared: str) -> bytes:
        text = sample.replace("utf-8", declared)
        for word, new in changes:
            text = text.replace(word, new)
        return encoded(text, encoding)

    return st.builds(build, pairs, st.sampled_from(("utf-8",) * 4 + ENCODINGS), st.sampled_from(XML_ENCODINGS))


run_infos = any_bytes(RUN_INFO) | xml_with(
    RUN_INFO, ["LH00130", "22CC55LT4", "151", "2023-10-02T10:11:12Z", "Run", "<?xml"]
)
run_parameters = any_bytes(RUN_PARAMETERS) | xml_with(RUN_PARAMETERS, ["4.1.0", "2.6.2.1", "10B", "Side", "<?xml"])


@fuzz
@given(run_infos)
@example(f"<R><Run><Reads><Read NumCycles='{'9' * 5000}'/></Reads></Run></R>".encode())
@example("<R><Run><Reads><Read NumCycles='²'/><Read NumCycles='٣'/></Reads></Run></R>".encode())
def test_any_run_info_is_parsed_or_a_run_error(folder: Path, content: bytes) -> None:
    path = folder / "RunInfo.xml"
    path.write_bytes(content)
    parsed, message = tried(lambda: read_run_info(path), RunError)
    assert parsed is None or all(0 <= cycles < 10**9 for cycles in parsed.cycles)
    assert "\n" not in message


@fuzz
@given(run_parameters)
def test_any_run_parameters_are_read_as_far_as_they_go(folder: Path, content: bytes) -> None:
    (folder / "RunParameters.xml").write_bytes(content)
    parsed = read_run_parameters(folder)
    assert isinstance(parsed, RunParameters)
    assert all(isinstance(text, str) for text in dataclasses.astuple(parsed))


@fuzz
@given(
    info=run_infos,
    parameters=run_parameters,
    instrument=st.sampled_from(["M00146", "NB551051", "A01295", "X1"]) | TEXTS,
    markers=st.sets(
        st.sampled_from(["RTAComplete.txt", "rtacomplete.XML", "CopyComplete.txt", "RunCompletionStatus.xml"])
    ),
    newest=st.sampled_from([0.0, -1e18, 1.8e9, 1e300]),
)
def test_any_run_is_complete_or_not_for_a_printable_reason(
    tmp_path: Path, info: bytes, parameters: bytes, instrument: str, markers: set[str], newest: float
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        run = Path(name)
        (run / "RunInfo.xml").write_bytes(info)
        (run / "runParameters.xml").write_bytes(parameters)
        for marker in markers:
            (run / marker).touch()
        with contextlib.suppress(RunError):
            instrument = read_run_info(run / "RunInfo.xml").instrument
        found = check_completion(
            Run(path=run, run_id=run.name, info=RunInfo(instrument=instrument)), lambda: newest, now=1_800_000_000.0
        )
    assert is_printable(found.reason)
    assert len(found.reason) < 1000


# Samplesheets

SHEET_V1 = "[Header]\nIEMFileVersion,4\n\n[Reads]\n151\n\n[Data]\nSample_ID,Sample_Name,index\nS1,N1,ACGT\nS2,N2,TTTT\n"
SHEET_V2 = (
    "[Header]\r\nFileFormatVersion,2\r\n[BCLConvert_Data]\r\nLane,Sample_ID,Index\r\n1,S1,ACGT\r\n1,S2,TTTT\r\n"
    "[Cloud_Data]\r\nSample_ID,ProjectName\r\nS1,P\r\n"
)
SHEET_PIECES = [
    "[Data]",
    "[",
    "]",
    "Sample_ID",
    "Sample_Name",
    ",",
    ";",
    "\t",
    '"',
    "\n",
    "\r",
    "S1",
    "\0",
    " ",
    "é",
    "\x85",
]
sheets = any_bytes(SHEET_V1, SHEET_V2, SHEET_V1.replace(",", ";")) | st.lists(
    st.sampled_from(SHEET_PIECES) | TEXTS, max_size=20
).map(lambda parts: encoded("".join(parts)))


@fuzz
@given(sheets)
@example(b"[Data]\n\xff\xfeSample_ID\n\x81")
@example(b"\xff\xfe\x00\xd8")
def test_any_sheet_has_samples_or_is_a_sheet_error(content: bytes) -> None:
    samples, message = tried(lambda: read_samples(content), SheetError)
    assert len(message) < 200
    if samples is not None:
        assert len(set(samples)) == len(samples) > 0
        assert all(sample.sample_id == sample.sample_id.strip() != "" for sample in samples)


# State log and journal

LAB = Destination("lab-runs", "")
LOG = {
    "run_id": "RUN",
    "run_path": "/runs/RUN",
    "completed": False,
    "total_local_files": 3,
    "total_uploaded_files": 1,
    "total_failed_upload": 1,
    "version": 1,
    "bucket": "lab-runs",
    "remote_path": "/",
    "started": "2026-11-23T01:02:03+00:00",
    "finished": "2026-11-23T01:25:23+00:00",
    "bytes": 5,
    "aws": "aws-cli/1.46.3",
    "attempts": 1,
    "verified_by": "etag",
    "failed_upload_files": ["/runs/RUN/b"],
    "failed_reasons": {"/runs/RUN/b": "not in S3"},
    "uploaded_files": {"/runs/RUN/a": "0" * 32},
    "verified_by_exceptions": {},
    "local_files": {"a": [5, 1_700_000_000]},
}
state_logs = any_bytes(json.dumps(LOG), json.dumps(LOG, indent=1)) | json_texts.map(encoded) | spoilt(LOG)


@fuzz
@given(state_logs)
def test_any_state_log_is_read_or_set_aside_and_another_can_be_written(content: bytes) -> None:
    """It raises nothing but StateError, and believes in completion only where the log says so validly."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        path = put_log(root, content)
        if destination_of_log(path) not in (None, LAB):
            return  # another destination's, and none of our business
        loaded, _ = tried(store_for(root).load, StateError)
        if loaded is None:
            return
        if loaded.state is None:
            (kept,) = path.parent.iterdir()
            assert kept.read_bytes() == content
            assert all(is_printable(warning.text) for warning in loaded.warnings)
            assert loaded.warnings
        else:
            log = json.loads(content)
            assert loaded.state.completed is log["completed"]
            prefix = log["run_path"].rstrip("/") + "/"
            assert loaded.state.verified.keys() == {path.removeprefix(prefix) for path in log["uploaded_files"]}
        state = loaded.state or state_of(root, "a")
        finished(store_for(root), state)
        again = store_for(root).load().state
        assert again is not None
        assert again.completed is state.completed


@fuzz
@given(state_logs)
def test_the_head_of_any_log_is_one_or_a_value_error(folder: Path, content: bytes) -> None:
    path = folder / "log"
    path.write_bytes(content)
    destination_of_log(path)
    with contextlib.suppress(ValueError, RecursionError):
        head = LogSummary.of(read_head(path))
        assert all(is_printable(text) for text in [log_rules._due_by_log(head, is_corrupt=False).reason])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A configuration with one run folder, whose log and files the examples replace."""
    folder = tmp_path_factory.mktemp("site")
    run = folder / "runs" / "RUN"
    run.mkdir(parents=True)
    (run / "RTAComplete.txt").touch()
    path, log_dir = folder / "site.json", folder / "log"
    entry = {**ENTRY, "monitored_directories": [str(run.parent)], "sample_regex": "^S"}
    path.write_text(json.dumps({"log_dir": str(log_dir), "max_age": 1e6, "monitor": [entry]}))
    (log_dir / "uploads").mkdir(parents=True)
    return load_config(path, {})


@fuzz
@given(
    log=state_logs | spoilt(LOG) | spoilt(LOG),
    info=st.just(RUN_INFO.encode()) | xml_with(RUN_INFO, ["LH00130"]) | run_infos,
    parameters=st.just(RUN_PARAMETERS.encode()) | run_parameters,
    sheet=st.just(SHEET_V1.encode()) | sheets,
)
def test_status_shows_any_run_in_printable_text(
    site: Config, log: bytes, info: bytes, parameters: bytes, sheet: bytes
) -> None:
    run = Path(site.monitor[0].monitored_directories[0]) / "RUN"
    (run / "RunInfo.xml").write_bytes(info)
    (run / "RunParameters.xml").write_bytes(parameters)
    (run / "SampleSheet.csv").write_bytes(sheet)
    (site.log_dir / "uploads" / "RUN.upload.log.json").write_bytes(log)
    found = load_overview(site)
    (row,) = found.rows
    assert found.problems == []
    assert all(map(is_printable, [*status.problem_lines(found), status.scan_line(found)]))
    assert is_printable(row.reason)
    with contextlib.suppress(StateError):
        assert all(map(is_printable, run_details.detail_lines(row, site)))
        json.dumps(status.as_json(found, site, detailed=True), allow_nan=False)
    cells = [str(cell) for column in status.table(found.rows).columns for cell in column.cells]
    assert all(is_printable(line) for cell in cells for line in cell.split("\n"))


PROOF = Proof(path="Data/a", size=5, mtime_ns=1_700_000_000, etag="0" * 32, verified_by="etag")
journal_lines = (
    row_of(*astuple(PROOF))
    | json_texts
    | st.just(json.dumps(astuple(PROOF)))
    | st.just(journal_head(LAB).decode())
    | st.just(journal_head(Destination("other", "")).decode())
)
journals = any_bytes(journal_head(LAB).decode() + json.dumps(astuple(PROOF)) + "\n") | st.lists(
    journal_lines, max_size=5
).map(lambda lines: encoded(journal_head(LAB).decode() + "\n".join(lines)))


@fuzz
@given(journals)
def test_any_journal_has_proofs_that_can_be_written_and_torn_lines(content: bytes) -> None:
    proofs, torn = parse_journal(content, LAB)
    assert 0 <= torn <= content.count(b"\n")
    assert count_journaled(content) <= content.count(b"[")
    state = parse_log(json.dumps(LOG).encode())
    state = replace(state, verified={proof.path: proof for proof in proofs})
    again = parse_log(to_json(state, Path("/runs/RUN"), LAB))
    assert len(again.verified) == len(state.verified)


@fuzz
@given(st.lists(BYTES, max_size=5))
def test_no_garbage_in_a_journal_costs_a_proof(lines: list[bytes]) -> None:
    good = json.dumps(astuple(PROOF)).encode() + b"\n"
    assert parse_journal(b"\n".join((journal_head(LAB), good, *lines, good)), LAB)[0] == [PROOF, PROOF]


# What `aws` prints

FILES = (LocalFile("Data/a", 5, 1_700_000_000), LocalFile("b", 0, 1))
LISTED = ("RUN/Data/a", 5, f'"{MD5}"')
HEAD = (5, f'"{MD5}"', "AES256", None, "AAAAAA==")
listings = any_bytes(json.dumps([LISTED, ["RUN/b", 0, f'"{MD5}-2"']])) | st.lists(row_of(*LISTED), max_size=4).map(
    lambda rows: encoded(json_array(rows))
)
heads = any_bytes(json.dumps(HEAD)) | (row_of(*HEAD) | row_of(5, f'"{MD5}"', "aws:kms", "AES256", "AAAAAA==")).map(
    encoded
)
asked: st.SearchStrategy[tuple[Readback, bytes]] = st.tuples(st.just("list-objects-v2"), listings) | st.tuples(
    st.just("head-object"), heads
)  # type: ignore[assignment]
COMPLAINTS = (
    "An error occurred (AccessDenied) when calling the ListObjectsV2 operation: Access Denied",
    "An error occurred (404) when calling the HeadObject operation: Not Found",
    "fatal error: Unable to locate credentials",
    "aws: [ERROR]: An error occurred (ExpiredToken) when calling the PutObject operation: The provided token",
    "upload failed: ../../tmp/work/batch-000001/Data/a to s3://lab-runs/RUN/Data/a An error occurred (SlowDown): no",
    'Could not connect to the endpoint URL: "https://user:pa55word@s3.example.org/lab-runs"',
    "argument of type 'NoneType' is not iterable",
    "The config profile (lab) could not be found",
    "Error loading SSO Token: Token for x does not exist, expired or invalid",
)
stderrs = any_bytes(*COMPLAINTS) | st.lists(st.sampled_from(COMPLAINTS) | TEXTS, max_size=4).map(
    lambda lines: encoded("\n".join(lines))
)


class Printing:
    """An `aws` that prints this, whatever it is asked."""

    def __init__(self, stdout: bytes, returncode: int, errors: tuple[str, ...]) -> None:
        self.asked: list[Sequence[str]] = []
        self._stdout, self._returncode, self._errors = stdout, returncode, errors

    def run(self, argv: Sequence[str]) -> AwsResult:
        self.asked.append(argv)
        return AwsResult(tuple(argv), self._returncode, self._stdout, self._errors)

    def run_despite_stop(self, argv: Sequence[str], _seconds: float) -> AwsResult:
        return self.run(argv)


class Bytes:
    """What can be computed of the local files."""

    def checksum(self, _file: LocalFile, _name: str) -> Sums:
        return Sums("AAAAAA==", "AAAAAA==-1")

    def match_other_part_size(self, file: LocalFile, etag: str) -> str | None:
        assert all(part is None or part > 0 for part in likely_part_sizes(file.size, etag))
        return None


@fuzz
@given(
    asked=asked,
    returncode=st.sampled_from([0, 0, 0, 1, 254, -9]),
    errors=st.lists(st.sampled_from(COMPLAINTS), max_size=2),
)
def test_any_output_of_aws_about_objects_is_parsed_or_an_aws_error(
    asked: tuple[Readback, bytes], returncode: int, errors: list[str]
) -> None:
    mode, stdout = asked
    reader = ObjectReader(
        RemoteFolder(cast("AwsCli", Printing(stdout, returncode, tuple(errors))), BucketRef("lab-runs"), "RUN/"),
        mode,
        1,
    )
    reader.set_expected_paths(file.path for file in FILES)
    looked, _ = tried(lambda: reader.get_many(FILES), AwsError)
    if looked is None:
        return
    assert list(looked) == [file.path for file in FILES]
    for file, seen, expected in itertools.product(FILES, looked.values(), (MD5, None)):
        assert isinstance(seen, RemoteObject | Absent | Unknown)
        assert not isinstance(seen, RemoteObject) or is_printable(seen.etag + seen.crc32)
        verdict = verify_object(file, seen, expected, Bytes())
        assert isinstance(verdict, Proof) or is_printable(verdict)


UPLOAD = ("RUN/Data/a", "id", "2026-11-23T01:02:03.000Z")


@fuzz
@given(
    stdout=any_bytes(json.dumps([UPLOAD])) | st.lists(row_of(*UPLOAD), max_size=3).map(json_array).map(encoded),
    returncode=st.sampled_from([0, 0, 0, 254]),
    since=st.sampled_from(["", "2026-11-23T01:02:03+00:00", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00"]),
)
@example(stdout=b'[["RUN/Data/a", "id", "0001-01-01T00:00:00+14:00"]]', returncode=0, since="")
@example(stdout=b'[["RUN/Data/a", "id", "9999-12-31T23:59:59+00:00"]]', returncode=0, since="0001-01-01T00:00:00+00:00")
@example(stdout=b"7", returncode=0, since="")
def test_with_any_output_of_aws_only_our_uploads_are_aborted(stdout: bytes, returncode: int, since: str) -> None:
    aws = Printing(stdout, returncode, ("An error occurred (AccessDenied): \\x1b",))
    uploads = multipart.IncompleteUploads(RemoteFolder(cast("AwsCli", aws), BucketRef("lab-runs"), "RUN/"))
    swept = uploads.abort({"RUN/Data/a"}, since)
    aborts = [argv for argv in aws.asked if "abort-multipart-upload" in argv]
    assert swept.aborted <= len(aborts)
    assert all("--key=RUN/Data/a" in argv for argv in aborts)
    assert is_printable(swept.problem)


@fuzz
@given(BYTES | json_texts.map(encoded))
def test_any_output_of_aws_is_json_or_an_aws_error(stdout: bytes) -> None:
    tried(lambda: AwsResult(("s3api", "x"), 0, stdout, ()).json(), AwsError)


AWS = AwsCli(
    Launcher("/bin/aws", {"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}), StopRequest()
)


@fuzz
@given(stderrs)
def test_errors_of_aws_are_shown_printable(content: bytes) -> None:
    errors = AWS.last_errors(content.splitlines())
    assert all(map(is_printable, errors))
    ended = AwsResult(("s3", "cp"), 1, b"", errors)
    assert is_printable(ended.reason)
    assert is_printable(str(ended.to_error("s3://lab-runs", unreachable_cause(errors))))
    assert has_empty_error_body(errors) in (True, False)
    cause = fatal_cause(errors)
    assert cause is None or cause.what


@fuzz
@given(stderrs, st.sampled_from(["Data/a", "a b", "to s3://lab-runs/RUN/x y", "new\nline", "-"]))
def test_any_complaint_is_of_a_file_of_the_batch_or_of_none(content: bytes, path: str) -> None:
    complaints = FailureLines(LAB, "RUN", Batch(1, (LocalFile(path, 5, 1),)), AWS.sanitize)
    for line in content.splitlines():
        complaints.parse(line.decode("utf-8", "replace"))
    complaints.parse(f"upload failed: x to s3://lab-runs/RUN/{path} \x1b[31mreason\r")
    assert set(complaints.by_path) <= {path}
    assert all(map(is_printable, complaints.by_path.values()))


# The user's AWS config

AWS_CONFIG = """\
[default]
region = eu-west-2
output = table
s3 =
  max_concurrent_requests = 20
  addressing_style = path

[profile lab]
role_arn = arn:aws:iam::123456789012:role/lab
source_profile = default

[sso-session hospital]
sso_region = eu-west-2
"""
INI_PIECES = [
    "[",
    "]",
    "[default]",
    "[profile ",
    "'",
    '"',
    "s3",
    "=",
    ":",
    "\n",
    "\n  ",
    "\n\t",
    "#",
    ";",
    "%(x)s",
    "default",
    "\r",
]
aws_configs = any_bytes(AWS_CONFIG) | st.lists(st.sampled_from(INI_PIECES) | TEXTS, max_size=15).map(
    lambda parts: encoded("".join(parts))
)


@fuzz
@given(config=aws_configs, credentials=aws_configs, profile=st.sampled_from(["", "default", "lab", "no body", "x]"]))
def test_any_aws_config_has_a_copy_or_is_an_aws_error(
    folder: Path, config: bytes, credentials: bytes, profile: str
) -> None:
    theirs, keys, ours = (folder / name for name in ("aws-config", "credentials", "copy"))
    theirs.write_bytes(config)
    keys.write_bytes(credentials)
    ours.unlink(missing_ok=True)
    environ = {"AWS_CONFIG_FILE": str(theirs), "AWS_SHARED_CREDENTIALS_FILE": str(keys), "AWS_PROFILE": profile}
    _, message = tried(lambda: write_config(environ, CliSettings(4), ours), AwsError)
    if message:
        return
    parser = configparser.RawConfigParser(default_section="\0")
    parser.read_string(ours.read_bytes().decode("utf-8", "surrogateescape"))
    assert any("max_concurrent_requests = 4" in parser.get(s, "s3", fallback="") for s in parser.sections())


# Which notifications were sent

SENT = {"slack_alert": {"RUN": {"text": "failed", "kind": "run", "at": 1.8e9}}}
MEMORY = {"version": 1, "sent": {"scan": SENT}, "logged": {"scan": ["RUN"]}}
memories = (
    any_bytes(json.dumps(MEMORY))
    | json_texts.map(encoded)
    | spoilt(MEMORY)
    | json_texts.map(lambda inner: b'{"version": 1, "logged": {}, "sent": {"scan": ' + encoded(inner) + b"}}")
    | json_texts.map(lambda inner: b'{"version": 1, "sent": {}, "logged": {"scan": ' + encoded(inner) + b"}}")
    | spoilt({"text": "a", "kind": "note", "at": 1}).map(
        lambda entry: b'{"version": 1, "logged": {}, "sent": {"scan": {"webhook": {"RUN": ' + entry + b"}}}}"
    )
)
OLD_MEMORY = {"version": 1, "recipients": {"slack_alert": {"RUN": {"text": "failed", "kind": "run", "told": 1.8e9}}}}
old_memories = (
    any_bytes(json.dumps(OLD_MEMORY))
    | json_texts.map(encoded)
    | spoilt(OLD_MEMORY)
    | spoilt({"a": 1}).map(lambda inner: b"[" + inner + b"]")
)


@fuzz
@given(
    st.sampled_from([("notifications.json", memories), ("notified.json", old_memories), ("noted.json", old_memories)]),
    st.data(),
)
def test_any_memory_of_notifications_is_read_or_counts_as_none(
    folder: Path, kind: tuple[str, st.SearchStrategy[bytes]], data: st.DataObject
) -> None:
    name, contents = kind
    (folder / name).write_bytes(data.draw(contents))
    memory = notifications.read(folder) or notifications.Memory()
    for recipients in memory.sent.values():
        for sent in recipients.values():
            update = messages.Update(problems=(Problem("RUN", "failed", "run"),))
            for message in messages.messages_for(sent, update, 1.8e9):
                json.dumps(messages.json_payload(message, 1.8e9))
                text = messages.slack_payload(message, 1.8e9)["text"]
                assert all(is_printable(line.strip("\t")) for line in text.split("\n"))
    assert all(isinstance(key, str) for keys in memory.logged.values() for key in keys)
    notifications._dump(memory)
