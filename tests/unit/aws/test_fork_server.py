"""The process of the AWS CLI that forks for each command."""

from __future__ import annotations

import sys

import pytest

from s3sync.aws import fork_server


def test_no_module_is_loaded_from_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 2 of the CLI takes the name that version 1 needs for a folder to load modules from."""
    monkeypatch.delenv(fork_server.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, fork_server.__name__])
    fork_server.awscli_initialize(None)
    assert fork_server.__name__ not in sys.path


class Loader:
    """What the CLI reads descriptions with; `calls` are those that read them."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def list_all(self, type_name: str) -> list[str]:
        self.calls.append(type_name)
        return [type_name]


def test_descriptions_are_read_once_however_they_are_requested() -> None:
    loader = Loader()
    remembering = fork_server._remembering(Loader.list_all, lambda _loader, type_name: type_name)
    assert [remembering(loader, "a"), remembering(loader, type_name="a"), remembering(loader, "b")] == [
        ["a"],
        ["a"],
        ["b"],
    ]
    assert loader.calls == ["a", "b"]


def test_a_cli_whose_parameters_have_other_names_reads_as_usual() -> None:
    loader = Loader()
    remembering = fork_server._remembering(Loader.list_all, lambda _loader, kind: kind)
    assert [remembering(loader, type_name="a") for _ in range(2)] == [["a"], ["a"]]
    assert loader.calls == ["a", "a"]
