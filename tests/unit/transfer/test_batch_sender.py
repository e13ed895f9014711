"""How a batch gets to the CLI: by a list if it can take one, else by a folder of links."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from s3sync.transfer.batch_sender import BatchSender


@pytest.mark.parametrize(
    ("sends_list", "sends_links", "ways"),
    [
        (True, True, ["list", "list"]),
        (False, True, ["list", "links", "links"]),
        (False, False, ["list", "links", "list", "links"]),  # both were empty: all files have changed
    ],
)
def test_lists_are_given_up_only_if_links_send_what_a_list_did_not(
    sends_list: bool, sends_links: bool, ways: list[str]
) -> None:
    sender: Any = object.__new__(BatchSender)
    sender._aws = SimpleNamespace(may_take_lists=True, may_be_fast=True)
    sender._can_list = None
    used = []

    def run_staged(_batch: object, process: Any, _config: object, *, as_list: bool) -> object:
        used.append("list" if as_list else "links")
        process.has_sent = sends_list if as_list else sends_links
        return SimpleNamespace(succeeded=True)

    sender._run_staged = run_staged
    for _ in range(2):
        sender._run_aws(None, SimpleNamespace(has_sent=False), None)
    assert used == ways
