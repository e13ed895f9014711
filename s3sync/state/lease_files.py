"""Read and write the files of a lease, which are numbered; each is created only once among all hosts.

Other hosts, and other versions of this program, write these files too, so they may contain anything.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from s3sync import files
from s3sync.text import printable

KEEP_GENERATIONS = 8  # files that stay, so that a host with an outdated listing does not create one of them again
_MAX_BYTES = 4096  # largest file that is read; a usual one has about 300
_MAX_CHARS = 160  # longest value in a file
_HOST_CHARS, _ID_CHARS = 64, 16  # kept of host name and machine id in a lock domain, so that it fits into _MAX_CHARS
_NUMBER = re.compile(r"[1-9][0-9]*")
_TEMPORARY = re.compile(r"\.([1-9][0-9]*)\..*\.tmp")
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The holder of a lease as its file names it; every text is printable."""

    host: str
    pid: int
    since: str
    lock_domain: str  # where its `flock` counts
    is_released: bool
    pid_namespace: str = ""  # where its process id counts

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class LeaseFiles:
    """The files of a lease: one for each time that it was acquired. The one with the highest number counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Make the folder. Raises OSError."""
        files.make_private_folder(self._folder)

    def highest(self) -> int:
        """Return the number that counts; 0 if the lease was never acquired. Raises OSError."""
        return max((int(name) for name in os.listdir(self._folder) if _NUMBER.fullmatch(name)), default=0)

    def read(self, number: int) -> bytes:
        """Return the content of a file, or its inode and mtime if this user cannot read it. Raises OSError."""
        path = self.path(number)
        try:
            with files.opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as descriptor:
                return os.read(descriptor, _MAX_BYTES)
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            status = os.lstat(path)
            return f"{status.st_ino} {status.st_mtime_ns}".encode()

    def others(self) -> dict[Path, bytes]:
        """Return the other leases that seem to be held: the file that counts, and its content."""
        found = {}
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder.parent):
                with contextlib.suppress(OSError):
                    other = LeaseFiles(self._folder.with_name(name))
                    highest = other.highest()
                    content = other.read(highest) if highest else b""
                    holder = parse(content)
                    if holder and not holder.is_released:
                        found[other.path(highest)] = content
        return found

    def is_still(self, number: int, content: bytes) -> bool:
        """Return whether this file still counts and has this content, according to the file server.

        An NFS client may show a folder as it was a minute ago, until it changes something in it.
        """
        with contextlib.suppress(OSError):
            files.check_writable(self._folder / "probe")
            return self.highest() == number and self.read(number) == content
        return False

    def create(self, number: int, content: bytes, token: str) -> bool:
        """Create the file with this number. Return False if another host has created it. Raises OSError.

        Only a hard link is created exactly once among all NFS clients. Its answer may get lost, but then the temporary
        file has two names.
        """
        temporary = self._write_temporary(number, content, token)
        try:
            os.link(temporary, self.path(number))
        except OSError as error:
            if _has_two_names(temporary):
                return True
            if isinstance(error, FileExistsError):
                return False
            raise
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        return True

    def replace(self, number: int, content: bytes, token: str) -> None:
        """Replace the content of a file that this process has created. Raises OSError."""
        temporary = self._write_temporary(number, content, token)
        try:
            temporary.rename(self.path(number))
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def discard(self, number: int) -> None:
        """Remove a file of this process that never counted. Raises OSError."""
        self.path(number).unlink(missing_ok=True)

    def prune(self, number: int) -> None:
        """Remove all but the last few files, and temporary files of killed processes. Raises OSError."""
        for name in os.listdir(self._folder):
            found = _NUMBER.fullmatch(name) or _TEMPORARY.fullmatch(name)
            if found and int(found[found.lastindex or 0]) <= number - KEEP_GENERATIONS:
                with contextlib.suppress(OSError):
                    (self._folder / name).unlink()

    def path(self, number: int) -> Path:
        """Return the path of the file with this number."""
        return self._folder / str(number)

    def _write_temporary(self, number: int, content: bytes, token: str) -> Path:
        temporary = self._folder / f".{number}.{token}.tmp"
        descriptor = files.open_private(temporary, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
        try:
            files.write_all(descriptor, content)
        except OSError:  # each scan on a full disk would leave one, until the inodes are used up as well
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        finally:
            os.close(descriptor)
        return temporary


def find_remote_holder(folder: Path, seconds: float) -> Holder | None:
    """Return the probable holder on another machine, for display only: it renewed the lease within `seconds`.

    The result depends on the clocks of both machines. Only reads.
    """
    holder = _find_holder(folder, seconds)
    return holder if holder and not _is_of_this_machine(holder) else None


def is_held_here(folder: Path, seconds: float) -> bool:
    """Return whether a live process of this machine probably holds the lease, renewed within `seconds`. Only reads.

    For file systems whose locks the kernel lists under another device number. A process whose id has no meaning here,
    such as one in another container, counts as alive.
    """
    holder = _find_holder(folder, seconds)
    if holder is None or not _is_of_this_machine(holder):
        return False
    return holder.pid_namespace != pid_namespace() or os.path.exists(f"/proc/{holder.pid}")


def _find_holder(folder: Path, seconds: float) -> Holder | None:
    with contextlib.suppress(OSError):
        lease_files = LeaseFiles(folder)
        highest = lease_files.highest()
        holder = parse(lease_files.read(highest)) if highest else None
        if holder and not holder.is_released:
            age = time.time() - os.lstat(lease_files.path(highest)).st_mtime
            return holder if abs(age) <= seconds else None
    return None


def _is_of_this_machine(holder: Holder) -> bool:
    return holder.lock_domain.rpartition(" ")[0] == machine()


def parse(content: bytes) -> Holder | None:
    """Return the holder that the content of a lease names; None if it is no lease."""
    try:
        values = json.loads(content)
        return Holder(
            host=_sanitize(values["host"]),
            pid=int(values["pid"]),
            since=_sanitize(values["since"]),
            lock_domain=_sanitize(values["place"]),
            is_released=values["released"] is True,
            pid_namespace=_sanitize(values.get("pids", "")),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def find_lock_domain(descriptor: int) -> str:
    """Return where the `flock` of an open file counts: this machine since its start, and this mount of the share."""
    return f"{machine()} {os.fstat(descriptor).st_dev:x}"


def machine() -> str:
    """Return an id of this machine since its start: boot id, host name and machine id.

    The boot id is not enough: virtual machines that were resumed from one snapshot share it until they boot.
    """
    host = printable(socket.gethostname()).replace(" ", "-")[:_HOST_CHARS]
    machine_id = _first_word(Path("/etc/machine-id"))[:_ID_CHARS]
    return f"{_first_word(Path('/proc/sys/kernel/random/boot_id'))} {host} {machine_id}"


def pid_namespace() -> str:
    """Return the namespace in which the process ids of this process count; empty if it is unknown."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _sanitize(value: object) -> str:
    return printable(str(value))[:_MAX_CHARS]


def _first_word(path: Path) -> str:
    """Return the first word of a file; `-` without one."""
    with contextlib.suppress(OSError):
        return next(iter(path.read_text("ascii", "replace").split()), "-")
    return "-"


def _has_two_names(path: Path) -> bool:
    """Return whether a file has two names. Opens it, so that the file server answers and not a cache."""
    with contextlib.suppress(OSError), files.opened(path, os.O_RDONLY | os.O_NOFOLLOW) as descriptor:
        return os.fstat(descriptor).st_nlink == 2
    return False
