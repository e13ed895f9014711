"""How a batch gets to the CLI: by a list if it can take one, else by a folder of links."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s3sync.transfer.batch_sender import BatchSender


@pytest.mark.parametrize(
    ("path", "sends_list", "sends_links", "ways"),
    [
        ("/data/RUN", True, True, ["list", "list"]),
        ("/data/RUN", False, True, ["list", "links", "links"]),
        ("/data/RUN", False, False, ["list", "links", "list", "links"]),  # both were empty: all files have changed
        ("/da\nta/RUN", True, True, ["links", "links"]),  # lines of output would be torn
    ],
)
def test_lists_are_given_up_only_if_links_send_what_a_list_did_not(
    path: str, sends_list: bool, sends_links: bool, ways: list[str]
) -> None:
    sender: Any = object.__new__(BatchSender)
    sender._aws = SimpleNamespace(may_take_lists=True, may_be_fast=True)
    sender._can_list = None
    sender._run = SimpleNamespace(path=Path(path))
    used = []

    def run_staged(_batch: object, process: Any, _config: object, *, as_list: bool) -> object:
        used.append("list" if as_list else "links")
        process.has_sent = sends_list if as_list else sends_links
        return SimpleNamespace(succeeded=True)

    sender._run_staged = run_staged
    for _ in range(2):
        sender._run_aws(None, SimpleNamespace(has_sent=False), None)
    assert used == ways
