"""Ceph's radosgw, a real S3 server, from Debian's packages: one monitor, one in-memory store, one gateway.

It checks what other test servers do not: signatures, payload hashes, the client's clock; and it lists
multipart uploads that were left behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "ceph-authtool", "monmaptool")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_START_SECONDS = 120

_CONFIG = """\
[global]
fsid = {fsid}
mon initial members = a
mon host = {monitor}
public network = 127.0.0.0/8
keyring = {folder}/keyring
run dir = {folder}/run
log file = {folder}/run/$name.log
admin socket = {folder}/run/$name.asok
pid file =
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
paxos propose interval = 0.05
mon data avail crit = 1
[mon]
mon data = {folder}/mon
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
[client.rgw.a]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
"""


class Gateway(NamedTuple):
    """Where it listens, and the keys of its one user."""

    url: str
    access_key: str
    secret_key: str


def why_not() -> str:
    """Empty if it can be started here."""
    missing = [program for program in PROGRAMS if not shutil.which(program, path=_PATH)]
    return f"not installed: {', '.join(missing)}" if missing else ""


@contextlib.contextmanager
def radosgw(folder: Path) -> Iterator[Gateway]:
    """A gateway on a free loopback port while inside; its data is in memory."""
    port, v2, v1 = free_ports(3)
    monitor = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    for name in ("mon", "osd", "rgw", "run"):
        (folder / name).mkdir()
    config = folder / "ceph.conf"
    config.write_text(_CONFIG.format(fsid=fsid, monitor=monitor, folder=folder, port=port))
    _make_keys(folder)
    _run("monmaptool", "--create", "--addv", "a", monitor, "--fsid", fsid, str(folder / "monmap"))
    _run("ceph-mon", "-c", str(config), "-i", "a", "--mkfs", "--monmap", str(folder / "monmap"))
    with contextlib.ExitStack() as daemons:
        daemons.enter_context(_daemon(folder, "ceph-mon", "-c", str(config), "-i", "a"))
        _run("ceph", "-c", str(config), "--connect-timeout", "30", "osd", "new", osd, "0")
        _run("ceph-osd", "-c", str(config), "-i", "0", "--mkfs", "--osd-uuid", osd)
        _run("ceph", "-c", str(config), "osd", "crush", "add", "osd.0", "1", "root=default", "host=here")
        daemons.enter_context(_daemon(folder, "ceph-osd", "-c", str(config), "-i", "0"))
        daemons.enter_context(_daemon(folder, "radosgw", "-c", str(config), "-n", "client.rgw.a"))
        _wait_until_it_answers(port, folder)
        keys = ("--access-key=tester", "--secret-key=tester-secret-key")
        user = ("user", "create", "--uid=tester", "--display-name=tester")
        _run("radosgw-admin", "-c", str(config), *user, *keys)
        yield Gateway(f"http://127.0.0.1:{port}", "tester", "tester-secret-key")


def _make_keys(folder: Path) -> None:
    everything = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
    new_key = ("ceph-authtool", str(folder / "keyring"), "--gen-key")
    _run(*new_key, "-C", "-n", "mon.", "--cap", "mon", "allow *")
    for name in ("client.admin", "client.rgw.a", "osd.0"):
        _run(*new_key, "-n", name, *everything)


@contextlib.contextmanager
def _daemon(folder: Path, *argv: str) -> Iterator[None]:
    with (folder / "run" / f"{argv[0]}.out").open("wb") as out:
        process = subprocess.Popen(
            [*argv, "--foreground"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_environment()
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _run(*argv: str) -> None:
    done = subprocess.run(argv, env=_environment(), capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} failed: {done.stderr}")


def _environment() -> dict[str, str]:
    return {"PATH": _PATH, "HOME": os.environ.get("HOME", "/")}


def _wait_until_it_answers(port: int, folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    output = "".join(path.read_text(errors="replace")[-2000:] for path in (folder / "run").glob("*.out"))
    raise RuntimeError(f"radosgw did not start:\n{output}")


def free_ports(count: int) -> list[int]:
    """Return free ports below those that the kernel hands out, so that no connection takes one before its daemon."""
    first, last = 15_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    with contextlib.ExitStack() as sockets:
        for port in random.sample(range(first, last), last - first):
            with contextlib.suppress(OSError):
                sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError(f"fewer than {count} free ports from {first} to {last}")
