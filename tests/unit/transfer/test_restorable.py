"""Which objects are tried to find out whether a run could be restored."""

from __future__ import annotations

from s3sync.aws.objects import RemoteObject
from s3sync.transfer.verify.restorable import choose_sample


def test_a_few_of_each_storage_class_are_tried_from_all_over_the_run() -> None:
    cold = {f"Data/{number:03}": RemoteObject(1, "", storage_class="DEEP_ARCHIVE") for number in range(100)}
    warm = {"RunInfo.xml": RemoteObject(1, "", storage_class="STANDARD")}
    sample = choose_sample({**warm, **cold})
    assert [path for path, name in sample if name == "DEEP_ARCHIVE"] == ["Data/000", "Data/033", "Data/066", "Data/099"]
    assert [path for path, name in sample if name == "STANDARD"] == ["RunInfo.xml"]


def test_all_of_a_few_are_tried_once() -> None:
    assert choose_sample({"a": RemoteObject(1, ""), "b": RemoteObject(1, "")}) == [("a", ""), ("b", "")]
    assert choose_sample({}) == []
