"""Choose the log directory for this user, and explain why one cannot be used. Nothing here writes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from s3sync import files
from s3sync.errors import StateError
from s3sync.invocation import command_line_as
from s3sync.text import printable, summarize

DEFAULT = Path("/var/log/s3_upload")
_INNER = ("locks", "leases", "uploads", "slurm", "cleanups", "restores")
_READ, _WRITE = os.R_OK | os.X_OK, os.R_OK | os.W_OK | os.X_OK
_EFFECTIVE = os.access in os.supports_effective_ids
_MAX_NAMES = 3  # entries named in a message


class LogDir(NamedTuple):
    """A log directory. `note` is one line that explains why it is not the default; empty if it is."""

    path: Path
    note: str


class Obstacle(NamedTuple):
    """The folder that prevents this user from using a log directory: above it, itself, or in it."""

    path: Path
    reason: str
    is_missing: bool = False  # the log directory does not exist, and this user cannot create it in `path`


def for_upload(environ: Mapping[str, str]) -> LogDir:
    """Return the default, or a folder of this user if that cannot be written. Raises StateError if neither can."""
    obstacle = _obstacle(DEFAULT, _WRITE, inner=False)
    if obstacle is None:
        return LogDir(DEFAULT, "")
    verb = "make" if obstacle.is_missing else "write"
    why = f"this user cannot {verb} {printable(str(DEFAULT))}"
    own = own_folder(environ)
    if own is None:
        advice = f"give a folder with --log-dir, or set this one up once: `{_setup_command(DEFAULT)}`"
        raise StateError(
            f"no folder to keep the state logs in: {why}, nor in its home ({advice})", id="state.no-log-dir"
        )
    others = f"; uploads by {_owner(DEFAULT)} do not see uploads by this user, nor wait for them"
    where = f"{why}, so the state logs are in {printable(str(own))}"
    return LogDir(own, where + ("" if obstacle.is_missing else others))


def for_reading(environ: Mapping[str, str]) -> LogDir:
    """Return the default, or the folder of this user that `upload` uses if the default does not exist."""
    obstacle = _obstacle(DEFAULT, _WRITE, inner=False)
    own = own_folder(environ) if obstacle and obstacle.is_missing else None
    if own is None:
        return LogDir(DEFAULT, "")
    return LogDir(own, f"there is no {printable(str(DEFAULT))}: this user's state logs are in {printable(str(own))}")


def own_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder for state in this user's home, by the XDG specification; None if none can be written."""
    homes = filter(None, [environ.get("HOME"), _home()])
    bases = [environ.get("XDG_STATE_HOME", ""), *(os.path.join(home, ".local", "state") for home in homes)]
    places = (Path(base) / "s3sync" for base in bases if os.path.isabs(base))
    return next((place for place in places if _is_ours(place) and not _obstacle(place, _WRITE, inner=False)), None)


def require_readable(log_dir: Path) -> None:
    """Raise StateError, with what to do, if this user cannot read the log directory. It may be missing."""
    obstacle = _obstacle(log_dir, _READ)
    if obstacle and not obstacle.is_missing:
        raise StateError(
            f"cannot read {printable(str(log_dir))}: {_advice(log_dir, obstacle, '')}", id="state.log-dir-unreadable"
        )


def require_writable(log_dir: Path, config: Path | None = None) -> None:
    """Raise StateError, with the text of `unwritable`, if this user cannot write to the log directory."""
    if line := unwritable(log_dir, config):
        raise StateError(line, id="state.log-dir-unwritable")


def unwritable(log_dir: Path, config: Path | None = None) -> str:
    """Explain in one line why this user cannot write to the log directory, and what to do; empty if the user can.

    `config` is the file that sets the log directory; None if --log-dir does.
    """
    obstacle = _obstacle(log_dir, _WRITE)
    if obstacle is None:
        return ""
    elsewhere = _config_line(config, log_dir) if config else "give another folder with --log-dir"
    verb = "make" if obstacle.is_missing else "write"
    return f"cannot {verb} {printable(str(log_dir))}: {_advice(log_dir, obstacle, elsewhere)}"


def out_of_order(log_dir: Path) -> str:
    """Return why no user can create a file in the log directory, such as a full or read-only disk; empty if one can.

    The owner of the directory counts: only root may use the last blocks of some file systems.
    """
    while not os.path.lexists(log_dir):
        log_dir = log_dir.parent
    where = printable(str(log_dir))
    try:
        disk, owner = os.statvfs(log_dir), os.stat(log_dir).st_uid
    except OSError as error:
        return f"cannot use {where}: {error.strerror}"
    free = disk.f_bavail if owner else disk.f_bfree
    if disk.f_flag & os.ST_RDONLY:
        return f"cannot write {where}: {os.strerror(errno.EROFS)} (mount it writable, or move log_dir)"
    if (disk.f_blocks and not free) or (disk.f_files and not disk.f_ffree):  # 0: not limited
        return f"cannot write {where}: {os.strerror(errno.ENOSPC)} (make room)"
    return ""


def entries_of_others(log_dir: Path) -> str:
    """Explain in one line which files of a log directory this user cannot use, and what to do; empty if none."""
    found = [path for path, mode in _entries(log_dir) if not _may(path, mode)]
    if not found or _reason(log_dir) == os.strerror(errno.EROFS):  # on a read-only disk the owner does not matter
        return ""
    names = summarize((str(path.relative_to(log_dir)) for path in found), _MAX_NAMES)
    which = f"in {printable(str(log_dir))} this user cannot use {names}"
    if all(map(files.is_own, found)):
        return f"{which}, which belong to this user (`{_chmod_command(log_dir)}` makes all of it accessible)"
    owners = ", ".join(sorted({_owner(path) for path in found}))
    return f"{which}, which belong to {owners} (`{_chown_command(log_dir)}` gives all of it to this user)"


def _obstacle(log_dir: Path, mode: int, *, inner: bool = True) -> Obstacle | None:
    """Return the outermost folder that prevents this user from using the log directory; None if it can be used."""
    for folder in (*reversed(log_dir.parents), log_dir):
        if not os.path.lexists(folder):  # missing, in a folder that this user may enter
            return (
                None
                if _may(folder.parent, _WRITE)
                else Obstacle(folder.parent, _reason(folder.parent), is_missing=True)
            )
        if not _is_folder(folder):
            return Obstacle(folder, os.strerror(errno.ENOTDIR))
        if not _may(folder, mode if folder == log_dir else os.X_OK):
            return Obstacle(folder, _reason(folder))
    for folder in (log_dir / name for name in _INNER) if inner else ():
        if os.path.lexists(folder):
            if not _is_folder(folder):
                return Obstacle(folder, os.strerror(errno.ENOTDIR))
            if not _may(folder, mode):
                return Obstacle(folder, _reason(folder))
    return None


def _advice(log_dir: Path, obstacle: Obstacle, elsewhere: str) -> str:
    """Return the reason, and in parentheses what to do about it."""
    path, reason, is_missing = obstacle
    user, owner = _name(os.geteuid()), _owner(path)
    belongs = f"{'it' if path == log_dir else printable(str(path))} belongs to {owner}"
    if reason == os.strerror(errno.ENOTDIR):
        return (
            f"{printable(str(path))} is a file, not a folder (move it away{f', or {elsewhere}' if elsewhere else ''})"
        )
    if reason != os.strerror(errno.EACCES):
        return f"{reason}: {printable(str(path))} ({elsewhere or 'fix that first'})"
    ways = [elsewhere] if elsewhere else []
    if is_missing:
        ways.insert(0, f"set it up once: `{_setup_command(log_dir)}`")
    elif owner == user:
        return f"{reason}: {belongs}, who is this user (`chmod u+rwx {shlex.quote(str(path))}`)"
    elif log_dir in (path, *path.parents) and (owner == "root" or _owner(log_dir) == user):
        ways.insert(0, f"give it to this user: `{_chown_command(log_dir)}`")
        if path == log_dir:
            ways.insert(0, f"run this as {owner}: `{command_line_as(owner)}`")
    else:
        ways.insert(0, f"run this as that user: `{command_line_as(owner)}`")
    return f"{reason}: {belongs} ({', or '.join(ways)})"


def _config_line(config: Path, log_dir: Path) -> str:
    """Return advice: the line of the config that moves the log directory to where this user can write."""
    own = own_folder(os.environ)
    where = printable(str(config))
    if own is None or own == log_dir:
        return f"set another log_dir in {where}"
    value = json.dumps(str(own))
    line = f'"log_dir": {value},' if config.suffix == ".json" else f"log_dir: {value}"
    return f"move it by this line in {where}: `{line}`"


def _entries(log_dir: Path) -> Iterator[tuple[Path, int]]:
    """Yield the files and folders of this program in the log directory, with the access mode that it needs."""
    for folder in (log_dir, *(log_dir / name for name in _INNER)):
        with contextlib.suppress(OSError), os.scandir(folder) as found:
            for entry in found:
                is_ours = folder != log_dir or entry.name in _INNER or entry.name.endswith((".json", ".log"))
                if is_ours and not entry.name.startswith("."):
                    is_folder = entry.is_dir(follow_symlinks=False)
                    yield Path(entry.path), _WRITE if is_folder else os.R_OK | os.W_OK


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=_EFFECTIVE)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a link into a folder that this user may not pass
        return True


def _is_ours(path: Path) -> bool:
    """Return whether a path is this user's, or free: in a shared folder another user may have created it first."""
    try:
        return os.lstat(path).st_uid == os.geteuid()
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _reason(path: Path) -> str:
    """Return why this user may not write to a path, or read it."""
    with contextlib.suppress(OSError):
        if os.statvfs(path).f_flag & os.ST_RDONLY and _may(path, _READ):
            return os.strerror(errno.EROFS)
    return os.strerror(errno.EACCES)


def _setup_command(log_dir: Path) -> str:
    return shlex.join(["sudo", "install", "-d", "-m", "700", "-o", _name(os.geteuid()), str(log_dir)])


def _chown_command(log_dir: Path) -> str:
    return shlex.join(["sudo", "chown", "-R", f"{_name(os.geteuid())}:", str(log_dir)])


def _chmod_command(log_dir: Path) -> str:
    return shlex.join(["chmod", "-R", "u+rwX", str(log_dir)])


def _owner(path: Path) -> str:
    try:
        return _name(path.stat().st_uid)
    except OSError:
        return "another user"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""


def has_saved_since(log_dir: Path, moment: float) -> bool:
    """Return whether an upload has begun or ended since then (seconds since the epoch), as far as this user can see."""
    try:
        with os.scandir(log_dir / "uploads") as entries:
            return any(entry.name.endswith(".log.json") and entry.stat().st_mtime > moment for entry in entries)
    except OSError:
        return False
