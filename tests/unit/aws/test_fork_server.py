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
