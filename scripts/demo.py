"""Shows the main job on this machine alone: an embedded S3 server, a simulated run, uploaded twice.

Run it with `make demo`. Everything it makes is in one temporary folder, gone at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.simulate_run import make_run  # noqa: E402 - found only by the line above

BUCKET = "demo-runs"
CYCLES = (51, 8, 8, 51)  # a short paired-end run: some 2,000 files
SCALE = 1 / 600  # of a real run's size
_START_SECONDS = 60


def main() -> int:
    """Returns the exit code of the last step that failed, else 0."""
    with tempfile.TemporaryDirectory(prefix="s3sync-demo-") as name, embedded_s3(Path(name)) as environ:
        folder = Path(name)
        say(f"An embedded S3 server listens at {environ['AWS_ENDPOINT_URL']}. No account is used.")
        run = simulate(folder)
        os.chdir(folder)  # so that the commands shown are short
        upload = [sys.executable, "-m", "s3sync", "upload", "--local_path", run.name, "--bucket", BUCKET]
        upload += ["--log_dir", "log"]
        aws = str(Path(sys.executable).with_name("aws"))
        code = (
            step("Upload it:", upload, environ)
            or show_log(next(Path("log/uploads").glob("*.json")))
            or step("What the bucket holds:", [aws, "s3", "ls", f"s3://{BUCKET}/{run.name}/"], environ)
            or step("Upload it again: nothing is sent.", upload, environ)
        )
        os.chdir(ROOT)
    say("Everything the demo made is removed." if code == 0 else "The demo FAILED.")
    return code


@contextlib.contextmanager
def embedded_s3(folder: Path) -> Iterator[dict[str, str]]:
    """Moto on a free loopback port, with one bucket; gives the environment to reach it, free of the user's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {name: value for name, value in os.environ.items() if not name.upper().startswith("AWS_")}
    environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(folder / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
            env=environ,
        )
    try:
        wait_until_it_answers(port, server, folder / "server.log")
        make_bucket(port)
        yield environ
    finally:
        server.terminate()
        server.wait()


def wait_until_it_answers(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit(f"the embedded S3 server did not start:\n{log.read_text(errors='replace')}")


def make_bucket(port: int) -> None:
    request = f"PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request.encode())
        if b" 200 " not in connection.recv(100):
            raise SystemExit("the embedded S3 server made no bucket")


def simulate(parent: Path) -> Path:
    say("A simulated NovaSeq 6000 run:")
    run = make_run(parent, "novaseq6000", cycles=CYCLES, scale=SCALE)
    # A real CBCL has about 80 MB: one of that kind, so that a multipart upload is part of the show.
    cbcl = run / "Data/Intensities/BaseCalls/L001/C1.1/L001_1.cbcl"
    with cbcl.open("r+b") as stream:
        stream.truncate(40_000_000)
    sizes = [path.stat().st_size for path in run.rglob("*") if path.is_file()]
    print(f"  {run.name}: {len(sizes):,} files, {sum(sizes) / 1e6:,.0f} MB, the largest {max(sizes) / 1e6:.0f} MB")
    return run


def step(title: str, words: list[str], environ: Mapping[str, str]) -> int:
    """Show a command and run it; gives its exit code."""
    say(title)
    print("$ " + shlex.join([Path(words[0]).name, *words[1:]]), flush=True)
    return subprocess.run(words, env=dict(environ), check=False).returncode


def show_log(path: Path) -> int:
    say(f"The state log, shortened ({path.name}):")
    log = json.loads(path.read_text())
    etags = log.pop("uploaded_files")
    for key in ("local_files", "verified_by_exceptions", "failed_reasons"):
        log.pop(key)
    for key, value in log.items():
        print(f"  {key}: {json.dumps(value)}")
    multipart = [item for item in etags.items() if "-" in item[1]]
    print(f"  uploaded_files: {len(etags):,} entries, among them")
    for file, etag in [*list(etags.items())[:2], *multipart[:1]]:
        print(f"    {Path(file).name}: {etag}")
    return 0 if log["completed"] else 1


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
