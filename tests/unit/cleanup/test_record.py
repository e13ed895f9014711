"""The record of a cleanup: what is written can be read again, whatever the names, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from s3sync.cleanup import record as cleanup_record
from s3sync.cleanup.record import Record, RecordedFile, Target
from s3sync.errors import StateError

TARGETS = tuple(
    Target(url=f"s3://{bucket}/RUN/", state="uploaded", reason="", log="", completed="", verdict="identical")
    for bucket in ("one", "two")
)
RECORD = Record(
    run_id="RUN",
    run_path="/data/RUN",
    device=1,
    inode=2,
    user="lab",
    host="host",
    older_than_seconds=0,
    begun="2026-01-02T03:04:05+00:00",
    targets=TARGETS,
    kept=(),
)
NAMES = ["Data/a.cbcl", "\x1b[31m", "a\nb", "\udcff", "ä 💥"]


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    files = {name: RecordedFile(3, number, ("etag", None)) for number, name in enumerate(NAMES)}
    record = replace(RECORD, files=files, kept=tuple(NAMES), resumed_at=("then",), not_deleted={"x/": "why"})
    path = cleanup_record.path_for(tmp_path, Path(record.run_path))
    cleanup_record.save(path, record)
    assert cleanup_record.load(path) == record
    assert list(cleanup_record.unfinished(tmp_path)) == [path]
    cleanup_record.save(path, replace(record, finished="now"))
    assert list(cleanup_record.unfinished(tmp_path)) == []


def test_the_keys_of_the_file_keep_their_names(tmp_path: Path) -> None:
    path = tmp_path / "cleanups" / "RUN.cleanup.json"
    cleanup_record.save(path, RECORD)
    assert {"stays", "went_on", "left", "begun"} <= json.loads(path.read_text()).keys()


def test_etags_go_with_their_destination() -> None:
    record = replace(RECORD, files={"a": RecordedFile(3, 1, ("one", None))})
    assert record.etags_at(RECORD.targets[0].url) == {"a": (3, "one")}
    assert record.etags_at(RECORD.targets[1].url) == {}
    assert record.etags_at("s3://elsewhere/") == {}
    assert record.files_for([RECORD.targets[1].url, RECORD.targets[0].url])["a"].etags == (None, "one")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": 2}', '{"version": 1}'])
def test_a_record_that_cannot_be_read_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "RUN.cleanup.json"
    path.write_text(content)
    with pytest.raises(StateError) as error:
        cleanup_record.load(path)
    assert error.value.id == "cleanup.record-unreadable"
