"""What deletes a run's files, on real folders. Things happen in `check_stop`, which is called before each step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3sync.cleanup.delete import DeletionRequest, DeletionResult, delete_run, identity_of
from s3sync.errors import InterruptedBySignal, RunError
from s3sync.runs.local_files import FileIdentity
from s3sync.signals import StopRequest
from tests.helpers.errors import raises_error

FILES = ("CopyComplete.txt", "Data/L001/a.cbcl", "Data/L001/b.cbcl", "Data/c.cbcl", "InterOp/x.bin", "RunInfo.xml")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make(tmp_path / "run", FILES)


def make(run: Path, paths: Iterable[str]) -> Path:
    for path in paths:
        (run / path).parent.mkdir(parents=True, exist_ok=True)
        (run / path).write_text(path)
    return run


def identities(run: Path, paths: Iterable[str] = FILES) -> dict[str, FileIdentity]:
    return {path: FileIdentity.of((run / path).lstat()) for path in paths}


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def at_step(number: int, act: Callable[[], object]) -> Callable[[], None]:
    """Does this once, before the step with this number."""
    steps = iter(range(1, 1_000_000))

    def check_stop() -> None:
        if next(steps) == number:
            act()

    return check_stop


def request_for(
    folder: Path, identity: tuple[int, int], files: dict[str, FileIdentity], kept: Iterable[str] = ()
) -> DeletionRequest:
    return DeletionRequest(folder=folder, identity=identity, files=files, kept=frozenset(kept))


def nothing() -> None:
    """Never ask for a stop."""


def test_all_verified_files_are_deleted_with_their_folders(run: Path) -> None:
    (run / "empty" / "in it").mkdir(parents=True)
    result = DeletionResult()

    delete_run(request_for(run, identity_of(run), identities(run), ()), nothing, result)

    assert not run.exists()
    assert result == DeletionResult(len(FILES), sum(map(len, FILES)), {}, is_gone=True)


def test_the_data_go_first_then_metadata_and_markers_and_runinfo_last(run: Path) -> None:
    order: list[str] = []
    known = files_of(run)

    def note() -> None:
        order.extend(sorted(known - files_of(run)))
        known.intersection_update(files_of(run))

    delete_run(request_for(run, identity_of(run), identities(run), ()), note, DeletionResult())

    assert order == ["Data/L001/a.cbcl", "Data/L001/b.cbcl", "Data/c.cbcl", "InterOp/x.bin", "CopyComplete.txt"]


def test_files_that_change_meanwhile_are_kept_and_the_run_can_be_recognised(run: Path, tmp_path: Path) -> None:
    """A folder that became a link leads nowhere, not even to the very files that were verified."""
    moved = tmp_path / "moved"
    (run / "Aa").write_text("deleted first, while no other folder is open")

    def change() -> None:
        times = (run / "Data/c.cbcl").stat()
        (run / "Data/c.cbcl").write_text("data/C.CBCL")
        os.utime(run / "Data/c.cbcl", ns=(times.st_atime_ns, times.st_mtime_ns))
        (run / "Data" / "L001").rename(moved)
        (run / "Data" / "L001").symlink_to(moved)
        (run / "new").write_text("new")

    result = DeletionResult()
    delete_run(request_for(run, identity_of(run), identities(run, (*FILES, "Aa")), ()), at_step(1, change), result)

    assert result.not_deleted == {
        "Data/c.cbcl": "changed since it was verified",
        "Data/L001": "appeared after the run was verified",
        "new": "appeared after the run was verified",
        "Data/L001/a.cbcl": "its folder cannot be opened: Not a directory",
        "Data/L001/b.cbcl": "its folder cannot be opened: Not a directory",
    }
    assert files_of(moved) == {"a.cbcl", "b.cbcl"}
    assert (result.deleted, result.is_gone) == (1, False)
    assert {"RunInfo.xml", "CopyComplete.txt", "InterOp/x.bin", "Data/c.cbcl", "new"} <= files_of(run)


def test_another_folder_in_the_runs_place_is_not_touched(run: Path, tmp_path: Path) -> None:
    identity, files = identity_of(run), identities(run)
    run.rename(tmp_path / "moved")
    run.symlink_to("moved")
    with raises_error(RunError, "cleanup.cannot-open", str(run)):
        delete_run(request_for(run, identity, files, ()), nothing, DeletionResult())
    run.unlink()
    run.mkdir()
    os.link(tmp_path / "moved" / "RunInfo.xml", run / "RunInfo.xml")
    with raises_error(RunError, "cleanup.other-folder", str(run)):
        delete_run(request_for(run, identity, files, ()), nothing, DeletionResult())
    assert files_of(run) == {"RunInfo.xml"}
    assert files_of(tmp_path / "moved") == set(FILES)


def test_all_names_of_a_file_are_deleted_unless_one_is_written_to(run: Path) -> None:
    for name in ("d", "e"):
        os.link(run / "Data" / "c.cbcl", run / "Data" / name)
    names = (*FILES, "Data/d", "Data/e")
    files, identity = identities(run, names), identity_of(run)

    result = DeletionResult()  # the steps: two in L001, then c.cbcl, d, e
    delete_run(
        request_for(run, identity, files, ()),
        at_step(5, lambda: (run / "Data" / "e").write_text("other bytes")),
        result,
    )

    assert result.not_deleted == {"Data/e": "changed since it was verified"}
    assert (run / "Data" / "e").read_text() == "other bytes"


def test_it_ends_between_two_files(run: Path) -> None:
    stop, result = StopRequest(), DeletionResult()
    stop_at_third = at_step(3, lambda: stop.request(15))

    def check() -> None:
        stop_at_third()
        stop.raise_if_requested()

    with pytest.raises(InterruptedBySignal):
        delete_run(request_for(run, identity_of(run), identities(run), ()), check, result)

    assert result.deleted == 2
    assert len(files_of(run)) == len(FILES) - 2


PATHS = st.lists(
    st.sampled_from([f"{a}/{b}" for a in ("x", "x/y", "z") for b in "abc"] + ["RunInfo.xml", "q"]), unique=True
)


@settings(max_examples=60, deadline=None)
@given(verified=PATHS, known=PATHS, strangers=PATHS, links=PATHS)
def test_only_verified_files_are_deleted(
    verified: list[str], known: list[str], strangers: list[str], links: list[str]
) -> None:
    with TemporaryDirectory() as folder:
        run = make(Path(folder) / "run", {*verified, *known, *strangers})
        run.mkdir(exist_ok=True)
        outside = make(Path(folder) / "outside", ["precious"])
        for link in {*links} - {*verified, *known, *strangers}:
            (run / link).parent.mkdir(parents=True, exist_ok=True)
            (run / link).symlink_to(outside / "precious")
        before = files_of(run)
        kept = {*known} - {*verified}
        result = DeletionResult()

        delete_run(request_for(run, identity_of(run), identities(run, verified), kept), nothing, result)

        others = before - {*verified}
        assert others <= files_of(run)
        assert files_of(outside) == {"precious"}
        if others <= kept:
            assert files_of(run) == others
            assert result.not_deleted == {}
            assert result.is_gone == (not others) == (not run.exists())
        else:
            assert {path for path in result.not_deleted if path not in kept} == others - kept
            assert "RunInfo.xml" not in verified or (run / "RunInfo.xml").exists()
