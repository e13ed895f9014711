"""What the user names on the command line: a run of the config, a place in S3, a folder that is not meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3sync.commands import locations
from tests.helpers.lab import BUCKET, Lab
from tests.helpers.s3server import S3Server


def test_verify_knows_the_place_of_a_run_that_the_config_watches(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    entry = {"remote_path": "/2026", "exclude_patterns": ["second"]}
    config = lab.config_for(tiny_run, entry)
    assert lab.run("monitor", "--config", config).code == 0

    result = lab.run("verify", tiny_run.name, "--config", config, "--json")
    by_default = lab.run("verify", str(tiny_run), "--json", env={"S3SYNC_CONFIG": config})
    unknown = lab.run("verify", "nothing", "--config", config)

    for found in (result, by_default):
        assert (found.code, found.json["url"]) == (0, f"s3://{BUCKET}/2026/{tiny_run.name}/"), found.err
        assert (found.json["identical"], found.json["excluded_files"]) == (True, 1)
    assert unknown.code == 2
    assert "[usage.not-monitored]" in unknown.err


def test_verify_asks_which_of_several_places_is_meant(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    config = Path(lab.config_for(tiny_run))
    places = f'{{"monitored_directories": ["{tiny_run.parent}"], "bucket": "{BUCKET}", "remote_path": "/b"}}, '
    config.write_text(config.read_text().replace('"monitor": [', f'"monitor": [{places}'))

    result = lab.run("verify", tiny_run.name, "--config", str(config))
    chosen = lab.run(
        "verify", tiny_run.name, "--config", str(config), "--bucket", BUCKET, "--remote-path", "b", "--json"
    )

    assert result.code == 2
    assert "[usage.several-destinations]" in result.err
    assert chosen.json["url"] == f"s3://{BUCKET}/b/{tiny_run.name}/"


def test_a_url_names_bucket_and_path(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    url, log_dir = f"s3://{BUCKET}/2026", ("--log-dir", str(lab.log_dir))

    assert lab.run("upload", str(tiny_run), url, *log_dir).code == 0
    verified = lab.run("verify", str(tiny_run), url)

    assert f"2026/{tiny_run.name}/CopyComplete.txt" in server.objects(BUCKET)
    assert verified.out.startswith("4 of 4 files"), verified.err


def test_runs_in_a_folder_that_is_uploaded_as_it_is_are_warned_of(lab: Lab, tiny_run: Path) -> None:
    options = ("--bucket", BUCKET, "--log-dir", str(lab.log_dir), "--dry-run")

    whole = lab.run("upload", str(tiny_run.parent), "--skip-check", *options)
    part = lab.run("upload", str(tiny_run / "Data"), *options)

    assert whole.code == 0
    assert (
        f"warning: {tiny_run.parent} is not a run, and has 1 run in it, such as {tiny_run.name} [upload.runs-inside]\n"
        in whole.err
    )
    assert part.code == 1
    assert part.error_ids == ["usage.part-of-run"]
    assert f"{tiny_run}/Data " in part.err
    assert f" {tiny_run} (" in part.err


def test_the_page_is_not_written_over_a_file(lab: Lab, tiny_run: Path) -> None:
    page = lab.root / "index.html"
    page.write_text("mine")

    result = lab.run("report", "--config", lab.config_for(tiny_run), "--output", str(page))

    assert (result.code, page.read_text()) == (2, "mine")
    assert "[usage.output-is-file]" in result.err


def test_check_sends_a_trial_message_only_if_asked(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    config = lab.config_for(tiny_run, webhook="http://127.0.0.1:9/nobody")
    Path(config).chmod(0o600)  # it has a secret now

    silent = lab.run("check", "--config", config, "--json")
    tried = lab.run("check", "--config", config, "--notify", "--json")

    assert "trial message" not in {finding["what"] for finding in silent.json["findings"]}
    (trial,) = [finding for finding in tried.json["findings"] if finding["what"] == "trial message"]
    assert (tried.code, trial["ok"], trial["id"]) == (1, False, "notify.trial-failed")


def test_a_dry_run_warns_of_what_the_upload_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    (warning,) = locations.warn_of_unwritable(tmp_path / "file" / "log")

    assert warning.startswith("warning: would fail without --dry-run: ")
    assert locations.warn_of_unwritable(tmp_path / "log") == []


@pytest.mark.parametrize(
    "argv",
    [
        ("upload",),
        ("upload", "--bucket", BUCKET),
        ("upload", "--local_path", "x"),
        ("upload", "--local_path", "x", "--bucket", BUCKET, "--cores", "0"),
        ("upload", "--local_path", "x", "--bucket", BUCKET, "--threads", "many"),
        ("upload", "--local_path", "x", "--bucket", BUCKET, "--no_such_option"),
        ("upload", "--local_path", "x", "--bucket", "s3://lab-runs"),
        ("upload", "--local_path", "x", "--bucket", "x"),
        ("upload", "--local_path", "x", "--bucket", BUCKET, "--remote_path", "a/../b"),
        ("upload", "--local_path", "x", "--bucket", BUCKET, "--exclude_patterns", "["),
        ("nothing",),
        (),
    ],
)
def test_wrong_arguments_are_usage_errors(lab: Lab, argv: tuple[str, ...]) -> None:
    result = lab.run(*argv)

    assert (result.code, result.out) == (2, "")
    assert "Traceback" not in result.err
    assert result.err.startswith(("usage: s3sync", "s3sync: "))
