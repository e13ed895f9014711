"""Write the verified files to a table and a list for `md5sum -c`, which outlive the run folder."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from s3sync import files
from s3sync.errors import UsageError, explained
from s3sync.runs import off_limits
from s3sync.text import printable

_COLUMNS = ("path", "size", "md5", "etag", "key")
_MD5SUM_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r"})
_TABLE_ESCAPES = {**_MD5SUM_ESCAPES, ord("\t"): r"\t"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A file that S3 holds. `path` is relative to the run folder, `size` in bytes, `md5` of the whole file."""

    path: str
    size: int
    md5: str
    etag: str  # without quotes


def table(rows: Iterable[Row], prefix: str) -> bytes:
    r"""Return a table in UTF-8: a header, and a tab-separated line for each file. `prefix` begins every key.

    Backslash, tab, line feed and carriage return in names are `\\`, `\t`, `\n` and `\r`.
    """
    columns = ((row.path, str(row.size), row.md5, row.etag, prefix + row.path) for row in rows)
    return _encoded(map(_table_line, chain((_COLUMNS,), columns)))


def md5sums(rows: Iterable[Row]) -> bytes:
    """Return a list for `md5sum -c` in the run folder, with the escapes of GNU's md5sum."""
    return _encoded(map(_md5sum_line, rows))


def require_place(path: Path, run_path: Path) -> None:
    """Check before a long comparison that the manifest can be written. Raises UsageError, StateError."""
    where = printable(str(path))
    if not path.parent.is_dir():
        raise UsageError(f"no such folder for --manifest: {where} (create it first)", id="usage.no-manifest-folder")
    if off_limits.find_enclosing_folder(path.parent, [run_path]):
        raise UsageError(
            f"--manifest would become a file of the run: {where} (give a place outside the run folder)",
            id="usage.manifest-inside-run",
        )
    both = (path, _md5sums_path(path))
    if any(os.path.lexists(one) and (one.is_symlink() or not one.is_file()) for one in both):
        raise UsageError(
            f"--manifest takes a file, and {where} is something else (give another name)", id="usage.manifest-no-file"
        )
    advice = "give a writable folder with --manifest"
    with explained("write", path, advice, id="state.manifest-unwritable"):
        files.check_writable(both[1])  # the longer name


def write(path: Path, rows: Sequence[Row], prefix: str) -> None:
    """Write the table to `path` and the list to `path.md5`, replacing each as a whole. Raises OSError."""
    files.atomic_write(_md5sums_path(path), md5sums(rows))
    files.atomic_write(path, table(rows, prefix))


def _md5sums_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.md5")


def _table_line(columns: Iterable[str]) -> str:
    return "\t".join(column.translate(_TABLE_ESCAPES) for column in columns)


def _md5sum_line(row: Row) -> str:
    """Return a line, which starts with a backslash if the name has escapes."""
    name = row.path.translate(_MD5SUM_ESCAPES)
    flag = "\\" if name != row.path else ""
    if name == "-":
        name = "./-"  # md5sum reads `-` as its standard input
    return f"{flag}{row.md5}  {name}"


def _encoded(lines: Iterable[str]) -> bytes:
    """Encode the lines one by one: there may be a million."""
    stream = io.BytesIO()
    stream.writelines(f"{line}\n".encode() for line in lines)
    return stream.getvalue()
