"""Upload, verify and repair a simulated run against an S3 server on this machine.

Run it with `make demo`. Everything it makes is in one temporary folder, which it removes. With `make demo ARGS=--keep`
the server and the runs stay until Ctrl-C, to try the monitor and the other commands.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.simulate_run import make_run  # noqa: E402 - found only by the line above

BUCKET = "demo-runs"
CYCLES = (51, 8, 8, 51)  # a short paired-end run: some 2,000 files
BIN = Path(sys.executable).parent  # of the virtual environment
SCALE = 1 / 600  # of a real run's size
CONTRACT = ("total_failed_upload", "failed_upload_files")  # shown although they are empty


TO_TRY = """\
s3sync check
s3sync monitor --dry-run    # the second run would be uploaded, the third is still being sequenced
s3sync monitor              # what a timer or cron does every ten minutes
s3sync status
s3sync report --output page
s3sync cleanup --older-than 0h
aws s3 ls --recursive --summarize s3://{bucket}/"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo, and return the exit code of the step that failed, else 0."""
    parser = argparse.ArgumentParser("demo.py", description="Show an upload to an S3 server on this machine.")
    parser.add_argument("--keep", action="store_true", help="keep server and runs until Ctrl-C, and say what to try")
    parser.add_argument(
        "--latency", type=float, default=0, help="seconds that each request waits, as if S3 were far away"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="s3sync-demo-") as name, embedded_s3(Path(name), args.latency) as environ:
        folder = Path(name)
        say(f"An embedded S3 server listens at {environ['AWS_ENDPOINT_URL']}. No account is used.")
        run = simulate(folder / "runs")
        os.chdir(folder)  # so that the commands shown are short
        code = show(f"runs/{run.name}", environ)
        if code == 0 and args.keep:
            keep(folder, environ)
        os.chdir(ROOT)
    say("Everything the demo made is removed. Next: make install, and README.md" if code == 0 else "The demo FAILED.")
    return code


def show(run: str, environ: Mapping[str, str]) -> int:
    """Show the steps of the demo with this run, and return the exit code of the one that failed, else 0."""
    program, aws = str(BIN / "s3sync"), str(BIN / "aws")
    upload = [program, "upload", run, "--bucket", BUCKET, "--log-dir", "log"]
    verify = [program, "verify", run, "--bucket", BUCKET, "--log-dir", "log"]
    base_calls = f"s3://{BUCKET}/{Path(run).name}/Data/Intensities/BaseCalls/L001/C1.1/"
    lost = f"{base_calls}L001_1.cbcl"
    return (
        step("Upload it:", upload, environ)
        or show_log(next(Path("log/uploads").glob("*.json")))
        or step("What the bucket holds, for example:", [aws, "s3", "ls", "--recursive", base_calls], environ)
        or step("Upload it again: nothing is sent.", upload, environ)
        or step("May the local copy be deleted? Every byte on disk is compared with S3:", verify, environ)
        or step("Somebody deletes an object ...", [aws, "s3", "rm", lost], environ)
        or step("... and that does not go unnoticed:", verify, environ, expected=1)
        or step("Send what is missing:", [*upload, "--recheck"], environ)
    )


def keep(folder: Path, environ: Mapping[str, str]) -> None:
    """Make two more runs and a config, say what to try in another terminal, and wait for Ctrl-C."""
    make_run(folder / "runs", "miseq", cycles=(26, 8, 26), tiles=2)
    make_run(folder / "runs", "nextseq2000", cycles=(26, 8, 8, 26), complete=False)
    entry = {"monitored_directories": [str(folder / "runs")], "bucket": BUCKET, "remote_path": "/"}
    config = {"log_dir": str(folder / "log"), "max_age": 1_000_000, "monitor": [entry]}
    (folder / "s3sync.json").write_text(json.dumps(config, indent=2))
    settings = {name: value for name, value in environ.items() if name.startswith("AWS_") or name.lower() == "no_proxy"}
    settings |= {"S3SYNC_CONFIG": str(folder / "s3sync.json")}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    path = shlex.quote(str(BIN))
    (folder / "env.sh").write_text(
        "\n".join([*lines, f"export PATH={path}:$PATH", f"cd {shlex.quote(str(folder))}", ""])
    )
    say(f"Now try it yourself, in another terminal. Runs, logs and config are in {folder}\n")
    for line in [f". {folder}/env.sh", *TO_TRY.format(bucket=BUCKET).splitlines()]:
        print(f"    {line}")
    say("Ctrl-C here stops the server and removes everything.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


@contextlib.contextmanager
def embedded_s3(folder: Path, latency: float = 0) -> Iterator[dict[str, str]]:
    """Run the S3 server of the tests on a free loopback port, with one bucket; yields the environment to reach it."""
    argv = [sys.executable, str(ROOT / "tests" / "helpers" / "s3server.py"), "--bucket", BUCKET, f"--latency={latency}"]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL)
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
    """Return the environment to reach the server, without the user's own settings."""
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
    """Make a run with one large file, and return its folder."""
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


def step(title: str, argv: list[str], environ: Mapping[str, str], expected: int = 0) -> int:
    """Show a command and run it; return 0 if its exit code is as expected."""
    say(title)
    print("$ " + shlex.join([Path(argv[0]).name, *argv[1:]]), flush=True)
    code = subprocess.run(argv, env=dict(environ), check=False).returncode
    return 0 if code == expected else code or 1


def show_log(path: Path) -> int:
    """Show a state log, shortened; return 0 if its run is completed."""
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
    """Print a paragraph."""
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
