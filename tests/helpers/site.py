"""Set up a lab with a sequencer's folder and a config for the monitor."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from scripts.simulate_run import make_run
from tests.helpers.lab import BUCKET, Lab, Result
from tests.helpers.s3server import S3Server


class Site(Lab):
    """A lab with a sequencer's folder and a config for the monitor."""

    def __init__(self, root: Path, endpoint: str, aws: str = "quick") -> None:
        super().__init__(root, endpoint, aws)
        self.runs = root / "sequencer"
        self.runs.mkdir()
        self.config = root / "s3sync.json"
        self.write([self.entry()])

    def entry(self, **more: Any) -> dict[str, Any]:
        return {"monitored_directories": [str(self.runs)], "bucket": BUCKET, "remote_path": "/runs", **more}

    def write(self, monitor: list[dict[str, Any]], **more: Any) -> None:
        usual = {"log_dir": str(self.log_dir), "monitor": monitor, **self.cli_keys()}
        self.config.write_text(json.dumps({**usual, **more}))
        self.config.chmod(0o600)

    def scan(self, *argv: str, **options: Any) -> Result:
        return self.run("monitor", "--config", str(self.config), *argv, **options)

    def states(self) -> dict[str, str]:
        """State by run, and where a run goes to several destinations by `run bucket/path`."""
        runs = self.run("status", "--config", str(self.config), "--json").json["runs"]
        names = [run["run_id"] for run in runs]
        return {
            r["run_id"] if names.count(r["run_id"]) == 1 else f"{r['run_id']} {r['bucket']}{r['remote_path']}": r[
                "state"
            ]
            for r in runs
        }

    def run_folder(self, name: str, instrument: str = "miseq", samples: str = "", **options: Any) -> Path:
        """A tiny complete run with one sample sheet."""
        run = make_run(self.runs, instrument, cycles=(1, 1, 1), tiles=2, scale=0.00001, run_id=name, **options)
        for path in run.rglob("*.jpg"):
            path.unlink()
        if samples:
            sheet = "[Data]\nSample_ID,Sample_Name\n" + "".join(f"{name},\n" for name in samples.split())
            (run / "SampleSheet.csv").write_text(sheet)
        return run

    def log_text(self) -> str:
        return (self.log_dir / "s3_upload.log").read_text()


def stored_under(server: S3Server, prefix: str, bucket: str = BUCKET) -> dict[str, bytes | None]:
    objects = server.objects(bucket).items()
    return {key.removeprefix(prefix): item.body for key, item in objects if key.startswith(prefix)}


def began_on(log: Path, day: str) -> None:
    """Make it the log of this day."""
    log.write_text(re.sub(r"^\d{4}-\d\d-\d\d ", f"{day} ", log.read_text(), flags=re.MULTILINE))
