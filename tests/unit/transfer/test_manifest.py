"""The two files of a manifest: the table by an independent reading, the list by the real md5sum."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3sync.errors import StateError, UsageError
from s3sync.transfer.verify.manifest import Row, md5sums, require_place, table, write
from tests.helpers.errors import error_ids, raises_error
from tests.helpers.hostile_names import HOSTILE_NAMES
from tests.helpers.tables import read_table
from tests.helpers.unprivileged import run_unprivileged

NAMES = st.text(st.one_of(st.sampled_from("\\\t\n\r-* \x0b\x85\u2028"), st.characters(codec="utf-8")), min_size=1)


def row_of(path: str) -> Row:
    content = path.encode()
    return Row(path=path, size=len(content), md5=hashlib.md5(content).hexdigest(), etag="e-2")


@given(names=st.lists(NAMES, unique=True))
def test_the_table_gives_back_what_it_was_given(names: list[str]) -> None:
    rows = [row_of(name) for name in names]
    head, *lines = read_table(table(rows, "2026\t/run/"))
    assert head == ["path", "size", "md5", "etag", "key"]
    assert lines == [[r.path, str(r.size), r.md5, r.etag, f"2026\t/run/{r.path}"] for r in rows]


def test_lines_of_the_table() -> None:
    rows = [Row(path="a b", size=3, md5="f" * 32, etag="e-2"), Row(path="x\ty\\", size=0, md5="0" * 32, etag="1")]
    assert table(rows, "r/") == (
        b"path\tsize\tmd5\tetag\tkey\n"
        b"a b\t3\tffffffffffffffffffffffffffffffff\te-2\tr/a b\n"
        b"x\\ty\\\\\t0\t00000000000000000000000000000000\t1\tr/x\\ty\\\\\n"
    )


def md5sum(*argv: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(("md5sum", *argv), cwd=cwd, capture_output=True, check=False, env={"LC_ALL": "C.UTF-8"})


def test_md5sum_accepts_hostile_names_and_writes_the_same(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "[dir] *").mkdir(parents=True)
    names = [*HOSTILE_NAMES, "\\", "\\n", "\nboth\\ends\n", "# no comment", "*star", "d41d8cd98f00b204e9800998ecf8427e"]
    paths = sorted([*names, *(f"[dir] */{name}" for name in names)])
    for path in paths:
        (run / path).write_text(path)
    rows = [row_of(path) for path in paths]

    write(tmp_path / "manifest", rows, "run/")

    checked = md5sum("--check", "--strict", "../manifest.md5", cwd=run)
    assert (checked.returncode, checked.stderr) == (0, b"")
    assert checked.stdout.count(b": OK\n") == len(paths)
    assert md5sum("--", *paths, cwd=run).stdout == (tmp_path / "manifest.md5").read_bytes() == md5sums(rows)
    (run / "new\nline").write_text("other")
    assert md5sum("--check", "../manifest.md5", cwd=run).returncode == 1


def test_names_that_md5sum_takes_in_its_own_way(tmp_path: Path) -> None:
    """A lone dash would be its standard input. Older versions know no `\\r`."""
    names = ["-", "carriage\rreturn", "return\r"] if b"\\r" in md5sum_of(tmp_path, "a\r") else ["-"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "list").write_bytes(md5sums(row_of(name) for name in names))

    checked = md5sum("--check", "--strict", "list", cwd=tmp_path)

    assert (checked.returncode, checked.stderr) == (0, b"")
    assert md5sums([row_of("a\r")]) == b"\\" + hashlib.md5(b"a\r").hexdigest().encode() + b"  a\\r\n"


def md5sum_of(folder: Path, name: str) -> bytes:
    (folder / name).write_text(name)
    return md5sum(name, cwd=folder).stdout


def test_it_is_private_and_replaces_what_was_there(tmp_path: Path) -> None:
    for _ in range(2):
        write(tmp_path / "m", [row_of("a")], "run/")
        assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {"m": 0o600, "m.md5": 0o600}
    write(tmp_path / "m", [], "run/")
    assert ((tmp_path / "m").read_bytes(), (tmp_path / "m.md5").read_bytes()) == (b"path\tsize\tmd5\tetag\tkey\n", b"")


# Where it may be


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a folder, a link to it, a manifest of before, and a few things that are no manifest."""
    run = tmp_path / "run"
    (run / "Data").mkdir(parents=True)
    (tmp_path / "link").symlink_to("run/Data")
    (tmp_path / "run.tsv").write_text("of before")
    (tmp_path / "to_file").symlink_to("run.tsv")
    (tmp_path / "folder.md5").mkdir()
    return run


@pytest.mark.parametrize("place", ["run.tsv", "run.tsv2", "run2"])
def test_places_that_are_right(run: Path, place: str) -> None:
    before = sorted(run.parent.iterdir())
    require_place(run.parent / place, run)
    assert sorted(run.parent.iterdir()) == before
    assert (run.parent / "run.tsv").read_text() == "of before"


@pytest.mark.parametrize(
    ("place", "error_id"),
    [
        ("run/m.tsv", "usage.manifest-inside-run"),
        ("run/Data/m.tsv", "usage.manifest-inside-run"),
        ("link/m.tsv", "usage.manifest-inside-run"),
        ("nowhere/m.tsv", "usage.no-manifest-folder"),
        ("run.tsv/m.tsv", "usage.no-manifest-folder"),
        ("run", "usage.manifest-no-file"),
        ("to_file", "usage.manifest-no-file"),
        ("folder", "usage.manifest-no-file"),  # folder.md5 is one
    ],
)
def test_places_that_are_wrong(run: Path, place: str, error_id: str) -> None:
    with raises_error(UsageError, error_id, "--manifest"):
        require_place(run.parent / place, run)


def test_a_run_may_be_given_by_a_link(run: Path) -> None:
    (run.parent / "other name").symlink_to(run)
    with raises_error(UsageError, "usage.manifest-inside-run"):
        require_place(run / "m.tsv", run.parent / "other name")


def test_a_name_that_is_too_long_is_reported_before_the_work(run: Path) -> None:
    with raises_error(StateError, "state.manifest-unwritable", ": File name too long"):
        require_place(run.parent / ("m" * 253), run)


READ_ONLY = """
import os, sys
from pathlib import Path
from s3sync.errors import StateError
from s3sync.transfer.verify.manifest import require_place
os.chmod(sys.argv[1], 0o500)
try:
    require_place(Path(sys.argv[1], "m"), Path(sys.argv[2]))
except StateError as error:
    print(f"{error} [{error.id}]")
"""


def test_an_unwritable_folder_is_reported_before_the_work(run: Path) -> None:
    archive = run.parent / "archive"
    archive.mkdir()
    said = run_unprivileged(READ_ONLY, archive, run)
    assert (error_ids(said), said.count("\n")) == (["state.manifest-unwritable"], 1), said
    assert (f" {archive}/m: Permission denied " in said, "--manifest" in said) == (True, True), said
