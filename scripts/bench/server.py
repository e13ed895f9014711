"""Start our S3 server as a fresh process for each measurement, so that counters and memory begin at zero."""

from __future__ import annotations

import ast
import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from scripts.bench.measure import end_all, wait_for

BUCKET = "benchmark"
_SCRIPT = Path(__file__).resolve().parents[2] / "tests" / "helpers" / "s3server.py"


class Certificate(NamedTuple):
    """Files in PEM: what the server shows, its key, and the authority that its clients have to trust."""

    chain: Path
    key: Path
    authority: Path


class Network(NamedTuple):
    """How the server is reached: what every request waits (seconds), and its certificate where it speaks TLS."""

    latency: float = 0.0
    certificate: Certificate | None = None


class Served(NamedTuple):
    """What a server did: finished requests by operation, and its CPU-seconds since it began to listen."""

    requests: Counter[str]
    cpu_seconds: float


class Server:
    """A running server with one empty bucket, which keeps hashes instead of bytes."""

    def __init__(self, network: Network) -> None:
        argv = [sys.executable, str(_SCRIPT), "--bucket", BUCKET, "--keep", "hashes", f"--latency={network.latency}"]
        if network.certificate:
            argv += [f"--tls_cert={network.certificate.chain}", f"--tls_key={network.certificate.key}"]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.pid = self._process.pid
        self.url = self._line().split()[-1]  # listening http://127.0.0.1:40123
        times = psutil.Process(self.pid).cpu_times()
        self._start_cost = times.user + times.system

    def stop(self) -> Served:
        """End it, and say what it did."""
        self._process.terminate()
        counters = ast.literal_eval(self._line().partition(" ")[2])  # answered {'PutObject': 4000}
        return Served(Counter(counters), max(0.0, wait_for(self._process).cpu_seconds - self._start_cost))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        if not line:
            raise RuntimeError("the S3 server has ended")
        return line

    def end(self) -> None:
        """End it if it is still there."""
        end_all([self._process])
        if self._process.stdout:
            self._process.stdout.close()


@contextlib.contextmanager
def serving(network: Network) -> Iterator[Server]:
    """Run a server during the `with`."""
    server = Server(network)
    try:
        yield server
    finally:
        server.end()


def make_certificate(folder: Path) -> Certificate:
    """Make a certificate for 127.0.0.1 in this folder. Raises ImportError if trustme is not installed."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    made = Certificate(folder / "chain.pem", folder / "key.pem", folder / "authority.pem")
    issued.cert_chain_pems[0].write_to_path(made.chain)
    issued.private_key_pem.write_to_path(made.key)
    authority.cert_pem.write_to_path(made.authority)
    return made
