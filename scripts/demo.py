"""Upload, verify and repair a simulated run against an S3 server on this machine.

Run it with `make demo`. Everything it makes is in one temporary folder, which it removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.simulate_run import make_run  # noqa: E402 - found only by the line above

BUCKET = "demo-runs"
CYCLES = (51, 8, 8, 51)  # a short paired-end run: some 2,000 files
BIN = Path(sys.executable).parent  # of the virtual environment
SCALE = 1 / 600  # of a real run's size
CONTRACT = ("total_failed_upload", "failed_upload_files")  # shown although they are empty


def main() -> int:
    """Returns the exit code of the last step that failed, else 0."""
    with tempfile.TemporaryDirectory(prefix="s3sync-demo-") as name, embedded_s3(Path(name)) as environ:
        folder = Path(name)
        say(f"An embedded S3 server listens at {environ['AWS_ENDPOINT_URL']}. No account is used.")
        run = simulate(folder)
        os.chdir(folder)  # so that the commands shown are short
        program = str(BIN / "s3sync")
        upload = [program, "upload", "--local_path", run.name, "--bucket", BUCKET, "--log_dir", "log"]
        verify = [program, "verify", run.name, "--bucket", BUCKET, "--log_dir", "log"]
        aws = str(BIN / "aws")
        base_calls = f"s3://{BUCKET}/{run.name}/Data/Intensities/BaseCalls/L001/C1.1/"
        lost = f"{base_calls}L001_1.cbcl"
        code = (
            step("Upload it:", upload, environ)
            or show_log(next(Path("log/uploads").glob("*.json")))
            or step("What the bucket holds, for example:", [aws, "s3", "ls", "--recursive", base_calls], environ)
            or step("Upload it again: nothing is sent.", upload, environ)
            or step("May the local copy be deleted? Every byte on disk is compared with S3:", verify, environ)
            or step("Somebody deletes an object ...", [aws, "s3", "rm", lost], environ)
            or step("... and that does not go unnoticed:", verify, environ, expected=1)
            or step("Send what is missing:", [*upload, "--recheck"], environ)
        )
        os.chdir(ROOT)
    say("Everything the demo made is removed. Next: make install, and README.md" if code == 0 else "The demo FAILED.")
    return code


@contextlib.contextmanager
def embedded_s3(folder: Path) -> Iterator[dict[str, str]]:
    """The S3 server of the tests on a free loopback port, with one bucket; gives the environment to reach it."""
    words = [sys.executable, str(ROOT / "tests" / "helpers" / "s3server.py"), "--bucket", BUCKET]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().decode().partition(" ")[2].strip()  # listening http://127.0.0.1:40123
        if not url:
            log_text = (folder / "server.log").read_text(errors="replace")
            raise SystemExit(f"the embedded S3 server did not start:\n{log_text}")
        yield environment(url, folder)
    finally:
        server.terminate()
        server.communicate()


def environment(url: str, folder: Path) -> dict[str, str]:
    """To reach the server, free of the user's own settings."""
    environ = {name: value for name, value in os.environ.items() if not name.upper().startswith("AWS_")}
    return environ | {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(folder / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",  # so that messages call the command as the demo does
    }


def simulate(parent: Path) -> Path:
    say("A simulated NovaSeq 6000 run:")
    run = make_run(parent, "novaseq6000", cycles=CYCLES, scale=SCALE)
    # A real CBCL has about 80 MB: one of that kind, so that a multipart upload is part of the show.
    cbcl = run / "Data/Intensities/BaseCalls/L001/C1.1/L001_1.cbcl"
    with cbcl.open("r+b") as stream:
        stream.truncate(40_000_000)
    (run / "CopyComplete.txt").touch()  # as an instrument does: after everything else
    sizes = [path.stat().st_size for path in run.rglob("*") if path.is_file()]
    print(f"  {run.name}: {len(sizes):,} files, {sum(sizes) / 1e6:,.0f} MB, the largest {max(sizes) / 1e6:.0f} MB")
    return run


def step(title: str, words: list[str], environ: Mapping[str, str], expected: int = 0) -> int:
    """Show a command and run it; gives 0 if its exit code is as expected."""
    say(title)
    print("$ " + shlex.join([Path(words[0]).name, *words[1:]]), flush=True)
    code = subprocess.run(words, env=dict(environ), check=False).returncode
    return 0 if code == expected else code or 1


def show_log(path: Path) -> int:
    say(f"The state log, shortened ({path.name}):")
    log = json.loads(path.read_text())
    etags = log.pop("uploaded_files")
    log.pop("local_files")
    for key, value in log.items():
        if value or value is False or key in CONTRACT:
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
