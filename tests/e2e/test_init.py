"""`init`: the config that it writes works, and what a user may answer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from s3sync.config import load_config
from tests.helpers.conversation import END, INTERRUPT, converse
from tests.helpers.lab import BUCKET, Lab
from tests.helpers.s3server import S3Server


@pytest.fixture
def home(lab: Lab) -> Path:
    """A home directory, whose config is used without --config."""
    home = lab.root / "user"
    home.mkdir()
    lab.env |= {"HOME": str(home), "S3SYNC_CONFIG": str(home / ".config" / "s3sync.yaml")}
    return home


def options(lab: Lab, run: Path) -> tuple[str, ...]:
    return ("--directory", str(run.parent), "--bucket", BUCKET, "--log-dir", str(lab.log_dir))


def test_the_config_that_is_written_works(lab: Lab, server: S3Server, tiny_run: Path, home: Path) -> None:
    """For all commands, without --config."""
    result = lab.run("init", *options(lab, tiny_run), stdin=subprocess.DEVNULL)

    config = home / ".config" / "s3sync.yaml"
    assert (result.code, result.err) == (0, "")
    assert f"written: {config}\n" in result.out
    assert "ok       bucket: " in result.out
    assert "monitor --dry-run` shows what would be uploaded" in result.out
    (entry,) = load_config(config, {}).monitor
    assert (entry.bucket, entry.remote_path) == (BUCKET, "/")
    assert lab.run("monitor").code == 0
    assert f"{tiny_run.name}/CopyComplete.txt" in server.objects(BUCKET)
    assert "1 run: 1 uploaded" in lab.run("status").out


def test_a_config_is_never_overwritten(lab: Lab, tiny_run: Path, home: Path) -> None:
    config = lab.root / "mine.yaml"
    config.write_text("mine")

    result = lab.run("init", "--config", str(config), *options(lab, tiny_run))

    assert result.code == 2
    assert "[usage.config-exists]" in result.err
    assert config.read_text() == "mine"


def test_a_person_is_asked_until_the_answers_can_be_used(lab: Lab, tiny_run: Path, home: Path) -> None:
    odd = tiny_run.parent.rename(lab.root / "it's: a [folder]")
    folder, bucket, logs = "Folder that contains the run folders", "Bucket (or", "Folder for logs ["
    code, shown = converse(
        lab,
        ["init"],
        [
            (folder, ""),
            (folder, str(lab.root / "nothing")),
            (folder, str(odd / tiny_run.name)),
            (folder, str(odd)),
            (bucket, "No_Bucket!"),
            (bucket, f"s3://{BUCKET}/2026/"),
            (logs, str(odd / "log")),
            (logs, str(lab.log_dir)),
        ],
    )

    assert code == 0, shown
    for complaint in ("give a folder", "there is no folder", "is itself a run folder", "is inside"):
        assert complaint in shown
    config = load_config(home / ".config" / "s3sync.yaml", {})
    (entry,) = config.monitor
    assert [str(each) for each in entry.monitored_directories] == [str(odd)]
    assert (entry.bucket, entry.remote_path, config.log_dir) == (BUCKET, "/2026", lab.log_dir)


@pytest.mark.parametrize(("answer", "code", "said"), [(INTERRUPT, 130, "interrupted"), (END, 2, "[usage.no-answer]")])
def test_without_all_answers_no_config_is_written(lab: Lab, home: Path, answer: str, code: int, said: str) -> None:
    ended, shown = converse(lab, ["init"], [("Folder that contains the run folders: ", answer)])

    assert ended == code
    assert said in shown
    assert "no config was written" in shown
    assert list(home.iterdir()) == []


def test_without_a_terminal_what_is_missing_is_named(lab: Lab, tiny_run: Path, home: Path) -> None:
    result = lab.run("init", "--directory", str(tiny_run.parent), stdin=subprocess.DEVNULL)

    assert (result.code, result.out, result.error_ids) == (2, "", ["usage.missing-argument"])
    assert result.err.startswith("s3sync: --bucket ")
    assert list(home.iterdir()) == []


def test_yes_takes_the_default_log_directory(lab: Lab, tiny_run: Path, home: Path) -> None:
    place = home / "no folder" / "s3sync.yaml"
    options = ("--config", str(place), "--directory", str(tiny_run.parent), "--bucket", BUCKET, "--remote-path", "a/b")

    result = lab.run("init", *options, "--yes", "--json")

    assert result.json["exit_code"] == result.code
    (entry,) = load_config(place, {}).monitor
    assert entry.remote_path == "/a/b"


def test_problems_that_check_finds_come_before_the_next_step(lab: Lab, tiny_run: Path, home: Path) -> None:
    result = lab.run(
        "init", "--directory", str(tiny_run.parent), "--bucket", "no-such-bucket", *options(lab, tiny_run)[4:]
    )

    assert result.code == 1
    assert "PROBLEM  bucket: " in result.out
    assert "next: fix the problems above, then `" in result.out
    assert (home / ".config" / "s3sync.yaml").exists()
