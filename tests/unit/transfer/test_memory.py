"""What a file of a large run takes of this program's memory."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from s3sync.aws.destination import Destination
from s3sync.aws.remote_object import parse_listing
from s3sync.aws.result import AwsResult
from s3sync.runs import LocalFile, local_files
from s3sync.state import Proof, RunState
from s3sync.state.log_format import to_json, to_pieces
from tests.helpers.state_logs import run_at

T = TypeVar("T")

FILES = 2000


def paths_of(files: int = FILES) -> list[str]:
    return [f"Data/Intensities/L001/C{number:05}.1/s_1_1101.cbcl" for number in range(files)]


def measured(work: Callable[[], T]) -> tuple[T, float, float]:
    """Return a result, and the bytes for each file: those that it keeps, and the most that were needed."""
    gc.collect()
    tracemalloc.start()
    try:
        result = work()
        gc.collect()
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return result, kept / FILES, most / FILES


def test_a_second_listing_of_the_folder_shares_the_files_of_the_first(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    for path in paths_of():
        (run.path / path).parent.mkdir(parents=True, exist_ok=True)
        (run.path / path).touch()
    first, kept, _ = measured(lambda: local_files.list_files(run))
    (run.path / paths_of()[0]).write_text("changed")
    (run.path / "new").touch()
    second, more, _ = measured(lambda: local_files.list_files(run, first.files))
    assert second.files == local_files.list_files(run).files
    assert len({id(file) for file in second.files} & {id(file) for file in first.files}) == FILES - 1
    assert more < kept - 150


def test_a_listing_of_s3_is_parsed_object_by_object() -> None:
    entries = [
        [f"RUN/{path}", 5, f'"{number:032x}"', "2026-11-28T10:00:00+00:00", "STANDARD"]
        for number, path in enumerate(paths_of())
    ]
    result = AwsResult(("s3api", "list-objects-v2"), 0, json.dumps(entries, indent=4).encode(), ())
    text = len(result.stdout) / FILES
    listed, kept, most = measured(lambda: parse_listing(result))
    assert len(listed) == FILES
    assert kept < 500
    assert most < kept + 1.2 * text, "beside what is kept only the text"


def test_a_log_is_written_in_pieces() -> None:
    proofs = {path: Proof.of(LocalFile(path, 5, 1_700_000_000_000_000_000), "a" * 32, "etag") for path in paths_of()}
    state = RunState(run_id="RUN", run_path="/data/RUN", verified=proofs)
    where = (Path("/data/RUN"), Destination("lab-runs", ""))
    log = to_json(state, *where)
    size, _, most = measured(lambda: sum(len(piece) for piece in to_pieces(state, *where)))
    assert size == len(log)
    assert most * FILES < len(log)
