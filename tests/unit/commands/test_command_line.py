"""The command line: mistakes are named in one line with an id, and both spellings of an option are the same."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from s3sync import config
from s3sync.commands import command_line, locations, options, run_argument
from s3sync.errors import RunError, S3SyncError, UsageError
from tests.helpers.errors import raises_error

UPLOAD = ("upload", "RUN", "--bucket", "lab-runs")


@pytest.mark.parametrize(
    ("argv", "id_", "said"),
    [
        (["uplaod"], "usage.unknown-command", "did you mean `s3sync upload`?"),
        (["list"], "usage.unknown-command", "did you mean `s3sync status`?"),
        (["frobnicate"], "usage.unknown-command", "`s3sync --help` lists them"),
        (["upload", "--bukcet", "b"], "usage.unknown-option", "no option --bukcet (did you mean --bucket?)"),
        (["upload", "--local_pth=R"], "usage.unknown-option", "did you mean --local-path?"),
        (["status", "--frobnicate"], "usage.unknown-option", "see `s3sync status --help`"),
        ([*UPLOAD, "--cores", "0"], "usage.invalid-value", "--cores: '0' is neither a whole number"),
        ([*UPLOAD, "--threads", "-1"], "usage.invalid-value", "'-1' is not a whole number of 1 or more"),
        ([*UPLOAD, "--threads=-1"], "usage.invalid-value", "--threads: '-1' is not a whole number of 1 or more"),
        ([*UPLOAD, "--threads", "four"], "usage.invalid-value", "'four' is not a whole number of 1 or more"),
        ([*UPLOAD, "--nice", "20"], "usage.invalid-value", "'20' is not a whole number from 0 to 19"),
        (
            [*UPLOAD, "--max_bandwidth", "50"],
            "usage.invalid-value",
            "--max-bandwidth: '50' is not a rate with its unit",
        ),
        ([*UPLOAD, "--stall-minutes", "nan"], "usage.invalid-value", "'nan' is not a number of minutes above 0"),
        ([*UPLOAD, "--expected-bucket-owner", "1"], "usage.invalid-value", "'1' is not an account id of 12 digits"),
        ([*UPLOAD, "--on-complete", ""], "usage.invalid-value", "--on-complete: is empty"),
        ([*UPLOAD, "--on-complete", "'"], "usage.invalid-value", "is not a command"),
        ([*UPLOAD, "--on-complete", "/no/such/program"], "usage.invalid-value", "no such program: /no/such/program"),
        ([*UPLOAD, "--log-dir", "~/log"], "usage.invalid-value", "expands `~` only outside quotes"),
        ([*UPLOAD, "--readback", "fast"], "usage.invalid-choice", "'fast' is not one of auto, head-object"),
        ([*UPLOAD, "--json=yes"], "usage.unexpected-value", "--json takes no value"),
        ([*UPLOAD, "--bucket"], "usage.missing-value", "--bucket needs a value"),
        (["cleanup", "--older-than", "30"], "usage.invalid-value", "'30' is not an age in days or hours"),
        (["report"], "usage.missing-argument", "missing: --output"),
        (["monitor", __file__], "usage.unexpected-argument", f"for a config write --config {__file__}"),
        (["status", "-x"], "usage.unexpected-argument", "unexpected argument: -x"),
        (["--frobnicate"], "usage.unknown-option", "s3sync has no option --frobnicate"),
    ],
)
def test_a_mistake_is_named_in_one_line(argv: list[str], id_: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        command_line.parse(argv)
    assert refused.value.id == id_
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_both_spellings_of_an_option_are_the_same() -> None:
    hyphens = command_line.parse([*UPLOAD, "--log-dir", "a_b-c", "--dry-run"])
    underscores = command_line.parse([*UPLOAD, "--log_dir=a_b-c", "--dry_run"])
    assert hyphens == underscores
    assert hyphens.log_dir == "a_b-c"


def test_nothing_is_changed_behind_two_hyphens() -> None:
    args = command_line.parse(["verify", "--bucket", "b", "--", "--sbatch_options", "--dry-run"])
    assert args.run == ["--sbatch_options", "--dry-run"]


def test_runs_may_come_before_and_after_options() -> None:
    assert command_line.parse(["status", "A", "--json", "B"]).run == ["A", "B"]


@pytest.mark.parametrize(("argv", "program"), [(["help"], "s3sync "), (["help", "upload"], "s3sync upload ")])
def test_help_is_a_command_too(argv: list[str], program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.parse(argv)
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {program}")


def test_a_command_for_programs_is_not_listed() -> None:
    assert "    task" not in command_line.build_parser().format_help()


def test_all_and_numbers_are_cores() -> None:
    assert (options.cores("all"), options.cores("3")) == (None, 3)


# Which run, and where


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs in a folder, which is the current one."""
    for name in ("RUN", "RUN2"):
        (tmp_path / name / "Data").mkdir(parents=True)
        (tmp_path / name / "RunInfo.xml").touch()
    (tmp_path / "RUN" / "Analysis" / "1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "url"),
    [
        (["RUN", "--bucket", "lab-runs"], "s3://lab-runs/RUN/"),
        (["--local-path", "RUN", "--bucket", "lab-runs", "--remote-path", "/2026"], "s3://lab-runs/2026/RUN/"),
        (["RUN", "s3://lab-runs"], "s3://lab-runs/RUN/"),
        (["RUN", "--cores", "2", "s3://lab-runs/a/b/"], "s3://lab-runs/a/b/RUN/"),
    ],
)
def test_the_run_and_its_place_in_s3(folder: Path, argv: list[str], url: str) -> None:
    args = command_line.parse(["upload", *argv])
    run = run_argument.find_run(args)
    assert run == "RUN"
    assert run_argument.find_destination(args, run).url("RUN") == url


@pytest.mark.parametrize(
    ("argv", "id_", "said"),
    [
        ([], "usage.no-run", "s3sync upload RUN --bucket B"),
        (["--exclude-patterns", "x", "RUN"], "usage.no-run", "--exclude-patterns took RUN as a pattern"),
        (["RUN", "RUN2"], "usage.several-runs", "for many use `s3sync monitor`"),
        (["RUN", "--local-path", "RUN2"], "usage.several-runs", "2 runs given"),
        (["RUN", "lab-runs"], "usage.several-runs", "if lab-runs is the bucket, write --bucket lab-runs"),
        (["RUN"], "usage.no-bucket", "add --bucket B"),
        (["RUN", "s3://lab-runs", "--bucket", "b"], "usage.several-destinations", "leave out one of them"),
        (["RUN", "s3://lab-runs", "s3://lab-runs"], "usage.several-destinations", "two URLs"),
        (["RUN", "s3://lab-runs/a/RUN"], "usage.run-in-url", "which s3sync adds by itself"),
        (["*", "--bucket", "b"], "usage.quoted-pattern", "expands patterns only outside quotes"),
        (["RUN/RunInfo.xml", "--bucket", "b"], "usage.file-as-run", "is a file, not a run folder (did you mean /"),
    ],
)
def test_a_run_or_place_that_cannot_be_meant(folder: Path, argv: list[str], id_: str, said: str) -> None:
    args = command_line.parse(["upload", *argv])
    with pytest.raises(S3SyncError) as refused:
        run_argument.find_destination(args, run_argument.find_run(args))
    assert refused.value.id == id_
    assert said in str(refused.value)


def test_a_part_of_a_run_is_not_taken_for_a_run(folder: Path) -> None:
    for whole in ("RUN", "RUN/Analysis/1", str(folder)):
        run_argument.require_not_inside_run(whole)
    with raises_error(RunError, "usage.part-of-run", "RUN/Data ", f" {folder}/RUN "):
        run_argument.require_not_inside_run("RUN/Data")


def test_the_folder_around_runs_is_warned_of(folder: Path) -> None:
    warning = run_argument.warning_of_inner_runs(str(folder))
    assert warning
    assert "has 2 runs in it, such as RUN" in warning.text
    assert run_argument.warning_of_inner_runs("RUN") is run_argument.warning_of_inner_runs("RUN/Data") is None


def test_a_config_that_is_given_in_the_place_of_a_run_is_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "default_path", lambda _environ: None)
    for run, fact in (("lab.yaml", "--config lab.yaml"), ("RUN", "s3sync init")):
        with raises_error(UsageError, "usage.no-config", fact):
            locations.config_path(argparse.Namespace(config=None, run=[run]))
