"""The files of leases: numbered, each made only once for all hosts. What they hold may be anything."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import time
from pathlib import Path
from typing import NamedTuple

from s3sync import files
from s3sync.text import printable

KEPT = 8  # numbers that stay, so that an outdated listing leads nobody to make one of them anew
_MAX_BYTES = 4096  # of a lease, which has some 300
_SHOWN_CHARS = 160  # of what it says, which may be anything
_NAME_CHARS, _ID_CHARS = 64, 16  # of a host name and of a machine id in a place: with a boot id, less than is shown
_NUMBER = re.compile(r"[1-9][0-9]*")
_TEMPORARY = re.compile(r"\.([1-9][0-9]*)\..*\.tmp")
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO)


class Holder(NamedTuple):
    """What a lease says of its holder; all of it printable. `place` is where its `flock` means something, `pids` where
    its process id does.
    """

    host: str
    pid: int
    since: str
    place: str
    released: bool
    pids: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class Numbers:
    """The files of a lease: one for each time that it was taken."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Make the folder; raises OSError."""
        files.make_private_folder(self._folder)

    def highest(self) -> int:
        """The one that counts, 0 if it was never taken; raises OSError."""
        return max((int(name) for name in os.listdir(self._folder) if _NUMBER.fullmatch(name)), default=0)

    def read(self, number: int) -> bytes:
        """What a file holds; of what cannot be read, something that changes when it does. Raises OSError."""
        path = self.path(number)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return os.read(descriptor, _MAX_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            status = os.lstat(path)
            return f"{status.st_ino} {status.st_mtime_ns}".encode()

    def others(self) -> dict[Path, bytes]:
        """The leases beside this one that are held, or seem to be: the file that counts of each, and what it holds."""
        found = {}
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder.parent):
                with contextlib.suppress(OSError):
                    other = Numbers(self._folder.with_name(name))
                    highest = other.highest()
                    content = other.read(highest) if highest else b""
                    holder = parse(content)
                    if holder and not holder.released:
                        found[other.path(highest)] = content
        return found

    def is_still(self, number: int, content: bytes) -> bool:
        """Whether this is the file that counts and it holds this, as the file server has it: a client of NFS may show a
        folder as it was a minute ago, until it changes something in it.
        """
        with contextlib.suppress(OSError):
            files.check_writable(self._folder / "look")
            return self.highest() == number and self.read(number) == content
        return False

    def create(self, number: int, content: bytes, token: str) -> bool:
        """Make a file with this number, unless it is there; whether it was made here. Raises OSError.

        Only a link is made once for all clients of NFS, and the answer to that may get lost: two names tell it.
        """
        temporary = self._written(number, content, token)
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
        """Give a file of one's own new content; raises OSError."""
        temporary = self._written(number, content, token)
        try:
            temporary.rename(self.path(number))
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def withdraw(self, number: int) -> None:
        """Remove a file of one's own that never counted; raises OSError."""
        self.path(number).unlink(missing_ok=True)

    def tidy(self, number: int) -> None:
        """Remove what is older than the last few before this one, with what kills have left of them; raises OSError."""
        for name in os.listdir(self._folder):
            found = _NUMBER.fullmatch(name) or _TEMPORARY.fullmatch(name)
            if found and int(found[found.lastindex or 0]) <= number - KEPT:
                with contextlib.suppress(OSError):
                    (self._folder / name).unlink()

    def path(self, number: int) -> Path:
        """Where the file with this number is."""
        return self._folder / str(number)

    def _written(self, number: int, content: bytes, token: str) -> Path:
        temporary = self._folder / f".{number}.{token}.tmp"
        descriptor = files.open_private(temporary, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
        try:
            files.write_all(descriptor, content)
        finally:
            os.close(descriptor)
        return temporary


def holder_elsewhere(folder: Path, seconds: float) -> Holder | None:
    """Who seems to hold the lease somewhere else, to be shown and nothing more: by this machine's clock, which may be
    wrong, it was renewed within so many seconds. Reads only.
    """
    holder = _shown_holder(folder, seconds)
    return holder if holder and not _is_of_this_machine(holder) else None


def is_held_here(folder: Path, seconds: float) -> bool:
    """Whether a live process of this machine seems to hold the lease, renewed within so many seconds; reads only.

    For file systems whose `flock` the kernel's list shows under another number. A process whose id means nothing here,
    as in another container, is taken to live.
    """
    holder = _shown_holder(folder, seconds)
    if holder is None or not _is_of_this_machine(holder):
        return False
    return holder.pids != pid_namespace() or os.path.exists(f"/proc/{holder.pid}")


def _shown_holder(folder: Path, seconds: float) -> Holder | None:
    with contextlib.suppress(OSError):
        numbers = Numbers(folder)
        highest = numbers.highest()
        holder = parse(numbers.read(highest)) if highest else None
        if holder and not holder.released:
            age = time.time() - os.lstat(numbers.path(highest)).st_mtime
            return holder if abs(age) <= seconds else None
    return None


def _is_of_this_machine(holder: Holder) -> bool:
    return holder.place.rpartition(" ")[0] == machine()


def parse(content: bytes) -> Holder | None:
    """What a lease says; None if that is no lease."""
    try:
        told = json.loads(content)
        host, since, place = (_shown(told[key]) for key in ("host", "since", "place"))
        return Holder(host, int(told["pid"]), since, place, told["released"] is True, _shown(told.get("pids", "")))
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return None


def place_of(descriptor: int) -> str:
    """Where the `flock` of an open file means something: this boot of this machine, and this mount of a share there."""
    return f"{machine()} {os.fstat(descriptor).st_dev:x}"


def machine() -> str:
    """This machine since it was started, by all that may tell it from others: virtual machines that were resumed from
    the same snapshot have the same boot id until they boot, and get names of their own before that.
    """
    return f"{_boot()} {_named()}"


def pid_namespace() -> str:
    """Where the process ids of this process mean something; empty where that cannot be seen."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _shown(text: object) -> str:
    return printable(str(text))[:_SHOWN_CHARS]


def _boot() -> str:
    """The kernel's id of this start of the machine; `-` where there is none."""
    return _first_word(Path("/proc/sys/kernel/random/boot_id"))


def _named() -> str:
    """The host name and the beginning of the machine id, since a clone may have the one or the other anew."""
    host = printable(socket.gethostname()).replace(" ", "-")[:_NAME_CHARS]
    return f"{host} {_first_word(Path('/etc/machine-id'))[:_ID_CHARS]}"


def _first_word(path: Path) -> str:
    with contextlib.suppress(OSError):
        return next(iter(path.read_text("ascii", "replace").split()), "-")
    return "-"


def _has_two_names(path: Path) -> bool:
    """Asked of the file server, by opening it: what is remembered of a file may be outdated."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.fstat(descriptor).st_nlink == 2
        finally:
            os.close(descriptor)
    return False
