"""A copy of this machine that is thrown away: what is installed, written or deleted in it is gone afterwards."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_ENTER = """
set -eu
layer=$1 shared=$2 root=$1/root
mount --make-rprivate /
mount -t tmpfs -o mode=0755 none "$layer"
mkdir "$layer/upper" "$layer/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" none "$root"
mount -t proc none "$root/proc"
for folder in dev sys; do mount --rbind "/$folder" "$root/$folder"; done
mkdir -p "$root$shared"
mount --bind "$shared" "$root$shared"
for folder in "$shared" "$3" "$4"; do  # other users may pass, in the copy alone
    while [ "$folder" != / ]; do
        chmod o+x "$root$folder"
        folder=$(dirname "$folder")
    done
done
exec chroot "$root" bash -euc "$5"
"""


_PROBE = """
mount --make-rprivate / && mount -t tmpfs none "$1" && mkdir "$1/upper" "$1/work" "$1/root" &&
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" none "$1/root" && chroot "$1/root" true
"""


@functools.cache
def why_not() -> str:
    """Empty if this machine can be copied so."""
    if os.geteuid() != 0:
        return "needs root"
    with tempfile.TemporaryDirectory() as folder:
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _PROBE, "probe", folder]
        tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    return f"no overlay may be mounted here: {tried.stderr.strip()}" if tried.returncode else ""


class Throwaway:
    """Runs one script after another, each in a fresh copy; only what it writes into `shared` stays."""

    def __init__(self, folder: Path) -> None:
        """A folder for the layers, in which nothing else may be."""
        if why := why_not():
            pytest.skip(why)  # what a machine's owner does not permit, no package brings
        self.shared = folder / "shared"
        self._layer = folder / "layer"
        self.shared.mkdir(parents=True)
        self._layer.mkdir()

    def run(self, script: str, env: Mapping[str, str], seconds: float = 1140) -> subprocess.CompletedProcess[str]:
        """Run a script of bash as root; its first failing command ends it. `shared` has the same path in it."""
        argv = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "enter")
        python = Path(sys.executable).resolve().parent
        arguments = (*argv, str(self._layer), str(self.shared), str(python), str(ROOT), script)
        return subprocess.run(
            arguments, cwd="/", env=dict(env), capture_output=True, text=True, timeout=seconds, check=False
        )


def copy_of_the_checkout(folder: Path) -> Path:
    """This checkout as git would clone it, with what is not committed yet; no caches, no virtual environment."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def network_settings() -> dict[str, str]:
    """What has to be known to reach the package index: the settings of pip, uv and the proxy; and their caches."""
    wanted = ("PIP_", "UV_", "SSL_", "REQUESTS_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    found = {name: value for name, value in os.environ.items() if name.upper().startswith(wanted)}
    for path in (Path.home() / ".config" / "pip" / "pip.conf", Path.home() / ".pip" / "pip.conf"):
        if path.exists():
            found.setdefault("PIP_CONFIG_FILE", str(path))
    return {"XDG_CACHE_HOME": str(Path.home() / ".cache"), **found}
