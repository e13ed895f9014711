"""Which AWS CLI is used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from s3sync.aws.installation import find_aws, packaged_version
from s3sync.errors import AwsError
from tests.helpers.errors import raises_error
from tests.helpers.programs import program


def test_the_given_cli_comes_first(tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(python.with_name("aws"))
    program(tmp_path / "path" / "aws")
    given = program(tmp_path / "given" / "my-aws")
    environ = {"PATH": str(tmp_path / "path")}
    assert find_aws(given, environ) == given
    monkeypatch.chdir(tmp_path)
    assert find_aws("given/my-aws", environ) == given
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_aws("~/given/my-aws", environ) == given
    assert find_aws("aws", environ) == str(tmp_path / "path" / "aws"), "a bare name is searched for"


def test_the_cli_beside_this_python_comes_before_the_one_on_path(tmp_path: Path, python: Path) -> None:
    on_path = program(tmp_path / "path" / "aws")
    environ = {"PATH": f"{tmp_path / 'empty'}:{tmp_path / 'path'}"}
    assert find_aws(None, environ) == on_path
    beside = program(python.with_name("aws"))
    assert find_aws(None, environ) == beside
    python.with_name("aws").chmod(0o644)
    assert find_aws(None, environ) == on_path, "one that cannot be run is none"


@pytest.mark.parametrize("command", [None, "", "no-such-aws", "/no/such/aws", "/", "\x1b[31m"])
def test_none_is_an_error_that_says_what_to_do(tmp_path: Path, python: Path, command: str | None) -> None:
    error_id = "aws.no-such-command" if command else "aws.not-installed"
    with raises_error(AwsError, error_id, "--aws-command") as caught:
        find_aws(command, {"PATH": str(tmp_path)})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("first_line", ["#!/usr/bin/python3", "#!/bin/sh", "", "no script"])
def test_a_cli_that_another_python_runs_is_asked(
    tmp_path: Path, first_line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "aws"
    script.write_text(f"{first_line}\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert packaged_version(str(script)) == ""
