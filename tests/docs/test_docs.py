"""README and docs/: links lead somewhere, and options, keys, ids of errors and the program are the same."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo

from s3sync.aws.destination import Destination
from s3sync.commands import (
    cleanup,
    command_line,
    monitor,
    report,
    restore_text,
    run_details,
    run_rows,
    status,
    upload_text,
    verify,
)
from s3sync.config import Config, MonitorEntry
from s3sync.config.entry import SlurmKeys
from s3sync.inventory import states
from s3sync.monitor import messages
from s3sync.state import log_format
from s3sync.state.run_state import RunState
from s3sync.transfer import completion_object
from s3sync.transfer.upload import completion_hook
from scripts import benchmark, simulate_run
from tests.helpers import error_page
from tests.helpers.pages import ROOT, text_of

DOCS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
PAGES = ["README.md", *DOCS, "scripts/bench/README.md"]
COMMANDS = next(a for a in command_line.build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices

COMMANDS_PAGE = "docs/reference/commands.md"  # options of `upload` in a table, of all others in their usage
FOREIGN = {"--recursive", "--only-show-errors", "--force-glacier-transfer", "--check", "--quiet"}  # of aws and md5sum
FOREIGN |= {"--debug", "--group-add", "--collector", "--port", "--keep"}  # of aws, docker, node_exporter, server, demo
# Exit codes and options of sbatch, as sbatch spells them.
FOREIGN |= {"--partition", "--time", "--qos", "--mem", "--array", "--dependency", "--export", "--job-name", "--wrap"}
FOREIGN |= {"--parsable", "--test-only", "--wait", "--exclusive", "--exclude"}
THEIRS = re.compile(r"(aws|uv|pip|pipx|useradd|usermod|docker|podman|systemctl|systemd-\w+|journalctl|runuser|cd) ")


def prose(page: str) -> str:
    """Without fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


# Links


def anchors(page: str) -> set[str]:
    """Those that GitHub makes of headings."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if not link.startswith("https://")]
    for link in links:
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.resolve().is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), link


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_ours_that_a_page_names_is_there(page: str) -> None:
    named = re.findall(r"`((?:docs|conf|scripts|tests|s3sync|\.ci)/[\w./-]+)`", text_of(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, todo = {"README.md"}, ["README.md"]
    while todo:
        page = todo.pop()
        for link in re.findall(r"\]\(([^)#\s]+\.md)", text_of(page)):
            target = str(((ROOT / page).parent / link).resolve().relative_to(ROOT))
            if target not in seen:
                seen.add(target)
                todo.append(target)
    assert seen == set(PAGES)


def test_the_readme_is_a_front_door() -> None:
    assert 700 <= len(text_of("README.md").split()) <= 900


def test_the_docs_can_be_read_in_an_afternoon() -> None:
    assert sum(len(text_of(page).split()) for page in DOCS) <= 15_000


@pytest.mark.parametrize("page", PAGES)
def test_every_row_belongs_to_a_table(page: str) -> None:
    above = ["", *prose(page).splitlines()]
    for before, line, after in zip(above, above[1:], [*above[2:], ""], strict=False):
        if line.startswith("|") and not before.startswith("|"):
            assert re.fullmatch(r"\|[ :|-]+\|", after), line


_NOT_OURS = re.compile(
    r"\b(mend\w*|told|whoever|so many|by now|ticks?|troubles?|complaints?|none of them|is no key|crowd)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("docs/CHANGELOG.md", "docs/CONTRIBUTING.md")])
def test_a_page_uses_the_terms_of_the_glossary(page: str) -> None:
    assert [match[0] for match in _NOT_OURS.finditer(re.sub(r"`[^`]+`", "", prose(page)))] == []


# Options


def canonical(option: str) -> str:
    """The spelling with hyphens: both are accepted."""
    return "--" + option[2:].replace("_", "-")


def options_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {canonical(option): a for a in parser._actions for option in a.option_strings if option.startswith("--")}


def commands_in(page: str) -> Iterator[str]:
    """Return what is in code: a line of a block, with its continuations, or some words in a sentence."""
    text = re.sub(r"\\\n *", " ", text_of(page))
    yield from re.findall(r"^(?: {4,}|\$ )(\S.*)$", text, re.MULTILINE)
    yield from re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_a_page_names_is_one(page: str) -> None:
    parsers = [command_line.build_parser(), *COMMANDS.values(), benchmark.build_parser(), simulate_run.build_parser()]
    known = {option for parser in parsers for option in options_of(parser)} | FOREIGN
    ours = [command for command in commands_in(page) if not THEIRS.match(command)]
    named = re.findall(r"(?<![\w-])--[a-z][\w-]*", "\n".join(ours))
    assert [option for option in named if canonical(option) not in known] == []


def rows(page: str, head: str) -> Iterator[list[str]]:
    """The cells of all tables that begin with this head; `|` in a cell is written `\\|`."""
    for table in re.findall(rf"^\| {head} \|.*\n\|[ -:|]+\n((?:\|.*\n)+)", text_of(page), re.MULTILINE):
        for line in table.splitlines():
            yield [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_options_of_upload_are_the_parsers() -> None:
    """In a table, or named where they mean what the config key of that name means."""
    documented = {cells[0].strip("`").split(" ")[0]: cells for cells in rows(COMMANDS_PAGE, "Option")}
    (same,) = re.findall(
        r"^These mean the same as the \[config key\].*?\n\n", text_of(COMMANDS_PAGE), re.DOTALL | re.MULTILINE
    )
    as_in_config = set(re.findall(r"`(--[\w-]+)", same))
    actions = {option: a for option, a in options_of(COMMANDS["upload"]).items() if option != "--help"}
    assert sorted([*documented, *as_in_config]) == sorted(actions)
    keys = {**keys_of(Config), **keys_of(MonitorEntry)}
    for option in as_in_config:
        default = keys[option[2:].replace("-", "_")].default
        assert (actions[option].default or None) == (default or None), option
    for option, (spelled, default, *_) in documented.items():
        action = actions[option]
        assert (default == "required") == action.required, option
        if action.choices and "|" in spelled:
            assert spelled.strip("`").split(" ")[1].split("|") == list(map(str, action.choices)), option
        if default.strip("`") not in ("required", "all", "") and not default.startswith("4 "):
            value = action.default
            assert default.strip("`") == (f"{value:g}" if isinstance(value, float) else str(value)), option


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"upload"}))
def test_the_usage_of_a_command_names_its_options(command: str) -> None:
    text = re.sub(r"\\\n *", "", text_of(COMMANDS_PAGE))
    lines = re.findall(rf"^    s3sync {command} .*", text, re.MULTILINE)
    assert lines
    named = re.findall(r"--[\w-]+", "\n".join(lines))
    assert set(named) == options_of(COMMANDS[command]).keys() - {"--help"}


# Keys


def keys_of(model: type[Config | MonitorEntry | SlurmKeys]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


_HEADS = ("Key", "Key of `slurm`")


def test_the_tables_of_config_keys_are_the_models() -> None:
    documented = [
        (cells[0].strip("`"), cells[1]) for head in _HEADS for cells in rows("docs/reference/config.md", head)
    ]
    fields = [*keys_of(MonitorEntry).items(), *keys_of(SlurmKeys).items(), *keys_of(Config).items()]
    assert sorted(key for key, _ in documented) == sorted(key for key, _ in fields)
    defaults = dict(documented)
    for key, field in fields:
        if field.is_required() or defaults[key] == "required":
            assert (field.is_required(), defaults[key]) == (True, "required"), key
        elif defaults[key].startswith("`") and field.default not in ("", None):
            assert defaults[key] == f"`{json.dumps(field.default, default=str)}`".replace('"', ""), key
        else:
            assert field.default in ("", None, ()), f"{key} has a default: tell it"


def test_the_readmes_config_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", text_of("README.md"), re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"^[ -]*(\w+):", text, re.MULTILINE))
    assert named <= keys_of(Config).keys() | keys_of(MonitorEntry).keys()


def first_cells(page: str, section: str) -> set[str]:
    """Return what is in backticks in the first cells of a section's table."""
    part = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text_of(page), re.DOTALL | re.MULTILINE)
    assert part, section
    return {
        word for line in re.findall(r"^\| (`.*?) \|", part[1], re.MULTILINE) for word in re.findall(r"`(\S+?)`", line)
    }


def test_the_keys_of_the_state_log_are_documented() -> None:
    log = json.loads(
        log_format.to_json(
            RunState(run_id="RUN", run_path="/data/RUN", watched={}, folders={"": 1}),
            Path("/data/RUN"),
            Destination("lab-runs", ""),
        )
    )
    assert first_cells("docs/reference/formats.md", "The state log") == log.keys()


def test_the_keys_of_the_completion_object_are_documented() -> None:
    keys = keys_made_by(completion_object._text) - {"path", "size", "etag", "verified_by", "mtime_ns"}
    assert first_cells("docs/reference/formats.md", "s3sync.complete.json") == keys | {"files", "folders"}


def keys_made_by(function: Callable[..., Any]) -> set[str]:
    """Of the object that the function gives, as they stand in its text."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    dicts = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    return {str(key.value) for node in dicts for key in node.keys if isinstance(key, ast.Constant)}


@pytest.mark.parametrize(
    ("command", "functions"),
    [
        ("upload", [upload_text.as_json]),
        ("upload --dry_run", [upload_text.preview_json]),
        ("verify", [verify.as_json]),
        ("monitor", [monitor.result_json, monitor._outcome]),
        ("status", [status.as_json, run_rows.run_json, status._row_json, run_details.details_json]),
        ("report", [report.as_json]),
        ("cleanup", [cleanup.as_json, cleanup._run_json]),
        ("restore", [restore_text.result_json]),
        ("restore --dry-run", [restore_text.preview_json]),
        ("restore --cancel", [restore_text.cancel_json]),
    ],
)
def test_the_keys_of_json_are_documented(command: str, functions: list[Callable[..., Any]]) -> None:
    made = set().union(*map(keys_made_by, functions))
    documented = {
        cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[1]))
        for cells in rows("docs/reference/formats.md", "Command")
    }
    nested = {"what", "text", "run_id", "instrument_done"} if command == "report" else {"url", "state", "log"}
    assert made - documented[command] <= (nested if command in ("report", "cleanup") else set())
    elsewhere = {"analyses", "completed", "reason", "reason_id", "state", "analysis_of", "closed", "log_dir_note"}
    assert documented[command] - made <= elsewhere, "no key that is not there"


def test_the_states_are_documented() -> None:
    documented = {cells[0].split("`")[1] for cells in rows("docs/reference/states.md", "State")}
    assert documented == set(get_args(states.State))


def test_the_events_of_the_webhook_are_documented() -> None:
    documented = {cells[0].strip("`") for cells in rows("docs/reference/formats.md", "`event`")}
    assert documented == {event for event, _ in messages.EVENTS.values()} | {"uploaded", "recovered", "trial"}


def test_the_environment_of_on_complete_is_documented() -> None:
    names = set(re.findall(r'"(S3SYNC_\w+)"', Path(completion_hook.__file__).read_text()))
    assert first_cells("docs/reference/formats.md", "The environment of on_complete") == names


# Errors

_ID = re.compile(r"[a-z0-9]+\.[a-z0-9]+(-[a-z0-9]+)*")


def test_every_id_is_well_formed() -> None:
    assert [name for name in error_page.ids() if not _ID.fullmatch(name)] == []


def test_an_id_means_one_kind_of_error() -> None:
    kinds = {
        name: sorted(kind for kind in classes if kind.endswith("Error")) for name, classes in error_page.ids().items()
    }
    assert {name: classes for name, classes in kinds.items() if len(classes) > 1} == {}


def test_every_id_is_explained_once_and_no_other() -> None:
    page = error_page.PAGE.read_text()
    assert page == error_page.rewritten(page), "python -m tests.helpers.error_page"


def test_the_ids_of_troubleshooting_exist() -> None:
    named = re.findall(rf"`((?:{'|'.join(error_page.AREAS)})\.[a-z0-9-]+)`", text_of("docs/how-to/troubleshooting.md"))
    assert set(named) - error_page.ids().keys() == set()
    assert len(named) > 10


# The house


def test_the_map_has_every_package() -> None:
    listed = list(rows("docs/CONTRIBUTING.md", "Package"))
    packages = {path.parent.name for path in (ROOT / "s3sync").glob("*/__init__.py")}
    assert {cells[0].strip("`") for cells in listed} == packages | {"root modules"}
    root = {path.stem for path in (ROOT / "s3sync").glob("[a-z]*.py")}
    assert set(re.findall(r"`([a-z]\w+)`", listed[0][1])) - {"subprocess"} == root


# Makefile


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_a_page_names_is_one(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named = re.findall(r"(?:^    |`)make ([a-z][a-z-]*)", text_of(page), re.MULTILINE)
    assert set(named) <= targets


# Speed


def test_the_speed_in_the_docs_was_measured() -> None:
    shown = list(rows("docs/explanation/performance.md", "Wall time \\(CPU time\\) in seconds, 2 cores"))
    assert len(shown) > 4
    names = ("s3sync", "predecessor, 2 x 8", "one plain `aws s3 cp --recursive`", "s5cmd")
    for workload, *figures in shown:
        table = rows("scripts/bench/README.md", rf"\w+: {workload.removesuffix(' away')}")
        measured = {cells[0]: f"{cells[1]} ({cells[3]})" for cells in table}
        assert figures == [measured.get(name, "") for name in names]
