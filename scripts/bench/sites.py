"""Provide the destination of each upload: a fresh server on this machine, or a prefix in a real bucket."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from scripts.bench.server import BUCKET, Certificate, Network, Served, serving


class Place(NamedTuple):
    """Where one upload goes. `base` is a prefix without slashes at its ends; `pid` is the id of our own server, else 0.

    `stop` ends the server and says what it did; None where the server is not ours.
    """

    bucket: str
    base: str
    environ: Mapping[str, str]
    pid: int
    stop: Callable[[], Served | None]


class Site(Protocol):
    """Gives every upload its place."""

    def place(self, latency: float, tls: bool = False) -> contextlib.AbstractContextManager[Place]:
        """Provide a place during the `with`, with this `latency` in seconds and TLS, if they can be chosen."""
        ...


class LocalSite:
    """A server of this program on the loopback interface, and an environment without the user's AWS settings."""

    def __init__(self, folder: Path, certificate: Certificate | None, *, always_tls: bool = False) -> None:
        self._certificate = certificate
        self._always_tls = always_tls
        self.environ = {name: value for name, value in os.environ.items() if not name.upper().startswith("AWS_")}
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # programs that are installed are compiled
        self.environ |= {
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",  # what the tools in Go read
            "AWS_CONFIG_FILE": str(folder / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    @contextlib.contextmanager
    def place(self, latency: float, tls: bool = False) -> Iterator[Place]:
        """Provide an empty server."""
        certificate = self._certificate if tls or self._always_tls else None
        environ = dict(self.environ)
        if certificate:
            environ |= {"AWS_CA_BUNDLE": str(certificate.authority), "SSL_CERT_FILE": str(certificate.authority)}
        with serving(Network(latency, certificate)) as server:
            yield Place(BUCKET, "runs", {**environ, "AWS_ENDPOINT_URL": server.url}, server.pid, server.stop)


class BucketSite:
    """A new prefix in a bucket of the user, with the environment of the user."""

    def __init__(self, bucket: str, remote_path: str, aws: str) -> None:
        name = f"s3sync-benchmark-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
        self.bucket = bucket
        self.base = f"{remote_path.strip('/')}/{name}".lstrip("/")
        self.used = False
        self._aws = aws

    @property
    def url(self) -> str:
        """Return the URL that contains everything that is uploaded, with a slash at its end."""
        return f"s3://{self.bucket}/{self.base}/"

    @contextlib.contextmanager
    def place(self, latency: float, tls: bool = False) -> Iterator[Place]:  # noqa: ARG002 - it is as it is
        """Provide the same place each time; each upload adds a prefix."""
        self.used = True
        yield Place(self.bucket, self.base, dict(os.environ), 0, lambda: None)

    def remove(self) -> int:
        """Delete all that is under the prefix; gives the exit code of `aws s3 rm`."""
        argv = (self._aws, "s3", "rm", self.url, "--recursive", "--only-show-errors")
        return subprocess.run(argv, check=False).returncode


def count_objects(aws: str, place: Place, prefix: str) -> int:
    """Return how many objects are under a prefix; -1 if S3 does not say."""
    what = (f"--bucket={place.bucket}", f"--prefix={prefix}/", "--output=json", "--query=length(Contents[] || `[]`)")
    argv = (aws, "s3api", "list-objects-v2", *what)
    asked = subprocess.run(argv, env=place.environ, stdout=subprocess.PIPE, check=False)
    try:
        return int(asked.stdout)
    except ValueError:
        return -1
