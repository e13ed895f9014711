"""The contract: options, config keys, logs, JSON, exit codes, S3 keys and metrics are as the golden files have them.

The program is looked at from outside alone: as a process, and by what it leaves.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as families_in

from tests.helpers.golden_files import assert_golden, normalised
from tests.helpers.lab import BUCKET, Lab, Result, modes_below
from tests.helpers.s3server import S3Server
from tests.helpers.slurm_double import slurm_double

pytestmark = [
    pytest.mark.xdist_group("golden"),  # the labs are shared
    pytest.mark.timeout(900),  # of the test that happens to make them: on a busy machine that takes minutes
]

RUN_INFO = (  # no cycles, so that no base calls have to be there
    '<RunInfo><Run Id="{}" Number="7"><Flowcell>HFAULTDRX7</Flowcell><Instrument>{}</Instrument>'
    '<Reads><Read NumCycles="0"/></Reads></Run></RunInfo>'
)
DAY = 24 * 3600
MARKERS = ("RTAComplete.txt", "CopyComplete.txt")
LAST = "Data/Secondary_Analysis_Complete.txt"
NOVASEQ_X = "LH00130"  # which analyses its runs itself
NOT_OURS = ("out/", "progress/")  # in the work folder on a cluster: what Slurm writes, and what is there at times
COMMANDS = ("upload", "verify", "monitor", "status", "report", "check", "cleanup", "forget", "task")

# Runs the program once for each line of stdin, an argv; prints what its parser knows, and what it printed.
SPY = """
import argparse, contextlib, io, json, runpy, sys

known = {}

def facts(action):
    choices = action.choices if action.choices is None else [str(choice) for choice in action.choices]
    return {
        "spellings": sorted({spelling(text) for text in action.option_strings}),
        "metavar": action.metavar, "nargs": action.nargs, "choices": choices,
        "required": action.required if action.option_strings else action.nargs not in ("*", "?"),
        "default": action.default if isinstance(action.default, (str, int, float, list, type(None))) else "<value>",
        "repeats": type(action).__name__ in ("_AppendAction", "_ExtendAction"),
    }

def spelling(text):
    return "--" + text[2:].replace("-", "_") if text.startswith("--") else text

def look(parser, name):
    known[name] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, below in action.choices.items():
                look(below, command)
        else:
            longest = max(map(spelling, action.option_strings), key=len, default=action.metavar)
            known[name][longest] = facts(action)

plain = argparse.ArgumentParser.parse_known_args
def parse_known_args(self, args=None, namespace=None):
    if not known:
        look(self, "s3sync")
    return plain(self, args, namespace)
argparse.ArgumentParser.parse_known_args = parse_known_args

said = []
for line in sys.stdin:
    sys.argv = ["s3sync", *json.loads(line)]
    out = io.StringIO()
    try:
        with contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
            runpy.run_module("s3sync", run_name="__main__")
    except SystemExit as ended:
        said.append([ended.code, out.getvalue()])
print(json.dumps({"known": known, "said": said}))
"""

# A command for on_complete: writes its arguments, environment and stdin into a file beside it.
ON_COMPLETE = """#!{python}
import json, os, sys
facts = {{name: value for name, value in os.environ.items() if name.startswith("S3SYNC_")}}
report = {{"argv": sys.argv[1:], "environment": facts, "stdin": json.load(sys.stdin)}}
open(sys.argv[0] + ".json", "w").write(json.dumps(report))
sys.exit({code})
"""


def make_run(folder: Path, number: int, *, complete: bool = True, instrument: str = "A01234") -> Path:
    """A run of as few files as there are kinds, of a NovaSeq 6000, or of another instrument."""
    run = folder / f"261123_{instrument}_{number:04}_AHFAULTDRX7"
    (run / "Data").mkdir(parents=True)
    (run / "RunInfo.xml").write_text(RUN_INFO.format(run.name, instrument))
    for name in ("first", "second"):
        (run / "Data" / f"{name}.cbcl").write_text(f"the {name} file of data\n")
    for name in MARKERS if complete else ():
        (run / name).write_text("")
    return run


def make_analysis(run: Path) -> Path:
    """An analysis of a file in the run, complete."""
    folder = run / "Analysis" / "1"
    (folder / "Data").mkdir(parents=True)
    (folder / "Data" / "a.fastq.gz").write_text("reads\n")
    (folder / LAST).write_text("")
    manifest = [f"{name}\t{zlib.crc32((folder / name).read_bytes()):08x}\n" for name in ("Data/a.fastq.gz", LAST)]
    (folder / "Manifest.tsv").write_text("".join(manifest))
    (folder / "CopyComplete.txt").write_text("")
    return folder


@dataclass
class Site:
    """A machine with s3sync on it, and the results of the commands that were run there."""

    lab: Lab
    server: S3Server
    runs: Path
    results: dict[str, Result] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    def run(self, what: str, *argv: str, **options: Any) -> Result:
        """Run s3sync, and keep the result under the name of this situation."""
        self.results[what] = result = self.lab.run(*argv, **options)
        return result

    def upload(self, what: str, run: Path, *argv: str, **options: Any) -> Result:
        return self.run(what, *self.lab.upload_argv(run, "--cores", "1", *argv), **options)

    def plain(self, value: Any) -> Any:
        """Without what varies."""
        root = str(self.lab.root)
        value = json.loads(json.dumps(value))
        return normalised(value, {root: "LAB", self.server.url: "http://S3", sys.executable: "PYTHON"})

    def documents(self) -> dict[str, Any]:
        """What was printed as JSON, by situation, with the exit code."""
        return {
            f"{what}: {result.code}": self.plain(result.json)
            for what, result in self.results.items()
            if result.out.startswith("{")
        }

    def codes(self) -> dict[str, int]:
        return {what: result.code for what, result in self.results.items()}

    def log(self, run: Path) -> tuple[list[str], Any]:
        """The keys of a state log in order, since the first are read without the rest; the log."""
        log = self.lab.log(run)
        return list(log), self.plain(log)

    def files(self, folder: Path | None = None) -> dict[str, str]:
        """The names in the log directory, without those of runs, and the permissions of each file."""
        folder = folder or self.lab.log_dir
        found = {}
        for path, mode in modes_below(folder).items():
            name = re.sub(r"\d{6}_[A-Z0-9]+_\d{4}_[A-Z0-9]+", "RUN", str(path.relative_to(folder)))
            name = re.sub(r"(?<=[./-])[0-9a-f]{8,32}(?=[./-]|$)", "HASH", name)
            name = re.sub(r"\d{8}T\d{6}|\d{4}-\d\d-\d\dT\d{6}", "TIME", name)
            found[name + ("/" if stat.S_ISDIR(mode) else "")] = f"{mode & 0o777:o}"
        return found


def site_in(folder: Path, server: S3Server) -> Site:
    (folder / "instrument").mkdir(parents=True)
    lab = Lab(folder, server.url)
    lab.env |= {"COLUMNS": "80", "no_proxy": "127.0.0.1"}
    return Site(lab, server, folder / "instrument")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@contextlib.contextmanager
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.create_bucket(BUCKET)
        yield server


def puts(server: S3Server) -> list[str]:
    return [r.key for r in server.requests if r.operation == "PutObject" and r.status == 200]


# One upload after the other


@pytest.fixture(scope="module")
def uploads(folder: Path) -> Iterator[Site]:
    """Uploads of single runs, and what `verify` says of them."""
    with s3() as server:
        site = site_in(folder / "uploads", server)
        run = make_run(site.runs, 7)
        for code, name in ((0, "lims"), (3, "no-lims")):
            script = site.lab.root / name
            script.write_text(ON_COMPLETE.format(python=sys.executable, code=code))
            script.chmod(0o755)
        lims, place = str(site.lab.root / "lims"), ("--remote_path", "a/b")
        site.upload("upload, dry run", run, *place, "--dry_run", "--json")
        site.found["after a dry run"] = site.files(site.lab.log_dir) if site.lab.log_dir.exists() else {}
        site.upload("upload", run, *place, "--json", "--completion_object", "--on_complete", f"{lims} --from s3sync")
        site.found["completed"] = site.log(run)
        site.found["puts"] = puts(server)
        key = f"a/b/{run.name}/s3sync.complete.json"
        site.found["completion object"] = site.plain(json.loads(server.objects(BUCKET)[key].body or b""))
        site.upload("upload, done already", run, *place, "--json")
        where = ("--bucket", BUCKET, "--log_dir", str(site.lab.log_dir), "--cores", "1", "--json")
        manifest = site.lab.root / "manifest.tsv"
        site.run("verify", "verify", str(run), *where, *place, "--manifest", str(manifest))
        site.found["manifest"] = [manifest.read_text(), Path(f"{manifest}.md5").read_text()]
        site.run("verify, nothing is there", "verify", str(run), *where)
        server.put(BUCKET, f"a/b/{run.name}/Data/first.cbcl", b"something else")
        server.put(BUCKET, f"a/b/{run.name}/Data/more.cbcl", b"more")
        site.run("verify, a file differs", "verify", str(run), *where, *place)
        failing = make_run(site.runs, 8)
        (failing / "Data" / "out").symlink_to("/etc/hostname")
        site.upload("upload, dry run of a run with a file that cannot be sent", failing, "--dry_run", "--json")
        site.upload("upload, a file failed", failing, "--json", "--exclude_patterns", "second")
        site.found["failed"] = site.log(failing)
        site.upload(
            "upload, its command failed", make_run(site.runs, 9), "--json", "--on_complete", f"{lims[:-4]}no-lims"
        )
        with_analysis = make_run(site.runs, 10, instrument=NOVASEQ_X)
        make_analysis(with_analysis)
        site.upload("upload, with an analysis", with_analysis, "--json", "--remote_path", "/")
        site.upload("upload, verified by size", make_run(site.runs, 11), "--json", "--verify", "size", "--recheck")
        site.upload("upload, under KMS", make_run(site.runs, 12), "--json", "--sse", "aws:kms")
        site.found["an analysis"] = site.log(Path(f"{with_analysis}.Analysis.1"))
        verified = [site.lab.log(run) for run in sorted(site.runs.iterdir())]
        site.found["verified by"] = {log["run_id"]: log["verified_by"] for log in verified}
        site.found["files"] = site.files()
        yield site


def report_of(site: Site, name: str) -> Any:
    value = json.loads((site.lab.root / f"{name}.json").read_text())
    return site.plain({**value, "stdin": sorted(value["stdin"]), "log": value["stdin"]["on_complete"]})


def test_s3_keys(uploads: Site) -> None:
    """Where files go, and that the markers go after the data, and the completion object after all."""
    order: list[list[str]] = []
    for key in uploads.found["puts"]:
        step = "marker" if key.endswith(MARKERS) else "last" if key.endswith(".json") else "data"
        if not order or order[-1][0] != step:
            order.append([step])
        order[-1].append(key)
    found = {
        "order of an upload to a/b": [[step, *sorted(keys)] for step, *keys in order],
        "all": sorted(uploads.server.objects(BUCKET)),
    }
    assert_golden("s3_keys", found)


def test_json_of_uploads(uploads: Site) -> None:
    assert_golden("json_upload_and_verify", uploads.documents())


def test_state_logs(uploads: Site, interrupted: Site, streaming: Site) -> None:
    logs = {name: uploads.found[name] for name in ("completed", "failed", "an analysis")}
    logs |= {"interrupted": interrupted.found["log"], "streaming": streaming.found["log"]}
    orders = [list(order) for order in sorted({tuple(order) for order, _ in logs.values()})]
    found = {"logs": {name: log for name, (_, log) in logs.items()}, "order": orders}
    more = {"verified by": uploads.found["verified by"], "journal": interrupted.found["journal"]}
    assert_golden("state_log", {**found, **more})


def test_environment_and_stdin_of_on_complete(uploads: Site) -> None:
    assert_golden("on_complete", {"done": report_of(uploads, "lims"), "failed": report_of(uploads, "no-lims")})


def test_the_completion_object(uploads: Site) -> None:
    assert_golden("completion_object", uploads.found["completion object"])


def test_the_manifest(uploads: Site) -> None:
    assert_golden("manifest", uploads.found["manifest"])


# While one is at work


@pytest.fixture(scope="module")
def interrupted(folder: Path) -> Iterator[Site]:
    """Uploads that are interrupted before the markers are sent, each in another way; a second one meanwhile."""
    with s3() as server:
        site = site_in(folder / "interrupted", server)
        run = make_run(site.runs, 7)
        config = site.lab.config_for(run)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            gate = server.hold(key_contains="Complete.txt")
            with site.lab.start(*site.lab.upload_argv(run, "--cores", "1", "--json")) as process, gate:
                gate.wait_held()
                if signum == signal.SIGTERM:
                    look_at_work(site, run, config)
                process.send_signal(signum)
                out, err = process.communicate(timeout=120)
            site.results[f"upload, interrupted by {signum.name}"] = Result(process.returncode, out, err)
            site.found.setdefault("log", site.log(run))
        site.found["files"] = site.files()
        gate = server.hold(key_contains="Complete.txt")
        with site.lab.start("monitor", "--config", config, "--json") as process, gate:
            gate.wait_held()
            site.run("monitor, another one is at work", "monitor", "--config", config, "--json")
            site.run("status, while a scan is at work", "status", "--config", config, "--json")
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=120)
        site.results["monitor, interrupted by SIGTERM"] = Result(process.returncode, out, err)
        site.run("status, of a run that was interrupted", "status", "--config", config, "--json")
        yield site


def look_at_work(site: Site, run: Path, config: str) -> None:
    """The files of an upload that is sending the markers."""
    site.upload("upload, another one is at work", run, "--json")
    site.run("status, while a run is uploaded", "status", "--config", config, "--json", run.name)
    site.run("monitor, while a run is uploaded", "monitor", "--config", config, "--json")
    site.run("verify, while a run is uploaded", "verify", str(run), "--bucket", BUCKET, "--json")
    site.found["files at work"] = site.files()
    (journal,) = (site.lab.log_dir / "uploads").glob("*journal*")
    lines = [json.loads(line) for line in journal.read_text().replace("journal of", "journal-of").splitlines() if line]
    site.found["journal"] = sorted((site.plain(line) for line in lines), key=str)
    (lease,) = (site.lab.log_dir / "leases").glob(f"{run.name}*/[0-9]*")  # beside which a beat may be written just now
    site.found["lease"] = site.plain(json.loads(lease.read_text()))


def test_json_of_what_is_interrupted(interrupted: Site) -> None:
    assert_golden("json_interrupted", interrupted.documents())


# Unattended


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted to it: the path, and the body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str, str]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,)).start()

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()

    def env(self) -> dict[str, str]:
        """The environment that has its addresses."""
        names = {"slack_log": "SLACK_LOG_WEBHOOK", "slack_alert": "SLACK_ALERT_WEBHOOK"}
        names |= {"webhook": "WEBHOOK", "ping": "PING_URL"}
        return {f"S3SYNC_{name}": f"http://127.0.0.1:{self.server_port}/{path}" for path, name in names.items()}


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the library has it
        """Keep the log off the stderr of the tests."""


@pytest.fixture(scope="module")
def unattended(folder: Path) -> Iterator[Site]:
    """The monitor over a folder of runs, each in another state, and the commands around it; at last `cleanup`."""
    receiver = Receiver()
    with s3() as server, contextlib.closing(receiver):
        site = site_in(folder / "unattended", server)
        site.found["received"] = []
        good, failing = make_run(site.runs, 1, instrument=NOVASEQ_X), make_run(site.runs, 2)
        make_analysis(good)
        (failing / "Data" / "out").symlink_to("/etc/hostname")
        make_run(site.runs, 3, complete=False)
        old = make_run(site.runs, 4)
        for path in (*old.iterdir(), old):
            os.utime(path, (time.time() - 9 * DAY,) * 2)
        prom = site.lab.root / "s3sync.prom"
        keys: dict[str, Any] = {
            "max_age": 72,
            "metrics_file": str(prom),
            "report_dir": str(site.lab.root / "page"),
            "max_cores": 1,
        }
        config = ("--config", site.lab.config_for(good, **keys))
        site.run("status, before the first scan", "status", *config, "--json")

        def scan(what: str) -> None:
            site.run(what, "monitor", *config, "--json", env=receiver.env())
            site.found["received"] += [[what, *each] for each in receiver.received]
            receiver.received.clear()

        site.run("monitor, dry run", "monitor", *config, "--dry_run", "--json")
        scan("monitor, a run uploaded and one failed")
        version = site.run("--version", "--version").out.split()[1]
        site.found["metrics"] = json.loads(json.dumps(site.plain(samples(prom))).replace(version, "VERSION"))
        site.run("status", "status", *config, "--json")
        site.run("status, of one run", "status", *config, "--json", failing.name)
        site.run("status, of a run that is not there", "status", *config, "--json", "nothing")
        site.run("report", "report", *config, "--output", str(site.lab.root / "page"), "--json")
        (failing / "Data" / "out").unlink()
        site.lab.config_for(good, **keys, alert_free_percent=99.999)
        scan("monitor, recovered, with an alert")
        site.lab.config_for(good, **keys)
        scan("monitor, nothing to do")
        site.run("cleanup, nothing is old enough", "cleanup", *config, "--json")
        site.run("cleanup, a list", "cleanup", *config, "--json", "--older_than", "0h")
        site.found["files before cleanup"] = site.files()
        (good / "Data" / "first.cbcl").write_text("another")
        options = ("--older_than", "0h", "--delete", "--yes", "--json")
        site.run("cleanup, one deleted and one differs", "cleanup", *config, *options)
        site.found["files after cleanup"] = site.files()
        records = (site.lab.log_dir / "cleanups").glob("*.json")
        site.found["records"] = [site.plain(json.loads(path.read_text())) for path in sorted(records)]
        lost = make_run(site.runs, 5)
        (lost / "Data" / "out").symlink_to("/etc/hostname")
        site.upload("upload, of a run that is lost then", lost, "--json")
        shutil.rmtree(lost)
        site.run("status, of a run that is gone", "status", *config, "--json", lost.name)
        site.run("forget", "forget", *config, lost.name, "--json")
        site.run("forget, nothing to forget", "forget", *config, lost.name, "--json")
        site.found["files after forget"] = site.files()
        yield site


def samples(path: Path) -> dict[str, Any]:
    """Types of all metrics, and values of the samples."""
    families = list(families_in(path.read_text()))
    return {
        "types": {family.name: family.type for family in families},
        "samples": {
            f"{sample.name} {json.dumps(sample.labels)}": sample.value
            if re.search("_seconds$|free_bytes", sample.name)
            else int(sample.value)
            for family in families
            for sample in family.samples
        },
    }


def test_json_of_the_monitor_and_the_commands_around_it(unattended: Site) -> None:
    documents = unattended.documents()
    for what in documents:
        if what.startswith("report"):  # the verdict of its page is prose
            documents[what] |= {"bytes": "number", "closed": "text", "verdict": "<text>"}
    assert_golden("json_unattended", documents)


def test_metrics(unattended: Site) -> None:
    assert_golden("metrics", unattended.found["metrics"])


def test_notifications(unattended: Site) -> None:
    """Which recipient gets what; the JSON webhook's document."""
    found = [
        [what, path, unattended.plain(json.loads(body)) if body.startswith("{") else "<text>" if body else ""]
        for what, path, body in unattended.found["received"]
    ]
    assert_golden("notifications", found)


def test_records_of_cleanups(unattended: Site) -> None:
    assert_golden("cleanup_record", unattended.found["records"])


@pytest.fixture(scope="module")
def streaming(folder: Path) -> Iterator[Site]:
    """A run that is uploaded while it is written."""
    with s3() as server:
        site = site_in(folder / "streaming", server)
        run = make_run(site.runs, 7, complete=False)
        config = site.lab.config_for(run, {"stream": True}, settle_minutes=0, max_cores=1)
        site.run("monitor, of a run that is written", "monitor", "--config", config, "--json")
        site.found["log"] = site.log(run)
        site.run("status, of a run that is written", "status", "--config", config, "--json")
        site.run("check", "check", "--config", config, "--json")
        yield site


def test_json_of_streaming(streaming: Site) -> None:
    assert_golden("json_streaming", streaming.documents())


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Site]:
    """A run that is sent from a node of a cluster, up to its markers."""
    with s3() as server:
        site = site_in(folder / "cluster", server)
        run = make_run(site.runs, 7)
        gate = server.hold(key_contains="Complete.txt")
        with slurm_double(site.lab.tmp, ("n1",)) as slurm:
            site.lab.env |= slurm.env
            argv = site.lab.upload_argv(run, "--executor", "slurm", "--nodes", "1", "--json")
            with site.lab.start(*argv) as process, gate:
                gate.wait_held()
                (work,) = (site.lab.log_dir / "slurm").iterdir()
                ours = {name: mode for name, mode in site.files(work).items() if not name.startswith(NOT_OURS)}
                site.found["files"] = ours
                gate.release()
                out, err = process.communicate(timeout=120)
        site.results["upload, from a cluster"] = Result(process.returncode, out, err)
        yield site


def test_an_upload_from_a_cluster(cluster: Site) -> None:
    assert_golden("cluster", {"work folder": cluster.found["files"], "json": cluster.documents()})


def test_files_in_the_log_directory(uploads: Site, interrupted: Site, unattended: Site) -> None:
    found = {
        "after a dry run": uploads.found["after a dry run"],
        "after uploads": uploads.found["files"],
        "while one is at work": interrupted.found["files at work"],
        "after interruptions": interrupted.found["files"],
        "of the monitor": unattended.found["files before cleanup"],
        "after cleanup": unattended.found["files after cleanup"],
        "after forget": unattended.found["files after forget"],
        "a lease": interrupted.found["lease"],
    }
    assert_golden("log_dir", found)


# Without S3


def test_exit_codes(uploads: Site, interrupted: Site, unattended: Site, streaming: Site, odd: Site) -> None:
    found: dict[str, int] = {}
    for site in (uploads, interrupted, unattended, streaming, odd):
        assert not found.keys() & site.codes().keys()
        found |= site.codes()
    assert_golden("exit_codes", found)


@pytest.fixture(scope="module")
def odd(folder: Path) -> Iterator[Site]:
    """Refused command lines, each in a process."""
    with s3() as server:
        site = site_in(folder / "odd", server)
        run, growing = make_run(site.runs, 7), make_run(site.runs, 8, complete=False)
        (site.lab.root / "a file").write_text("")
        (site.lab.root / "wrong.yaml").write_text("no_such_key: 1\nmonitor: []\n")
        config = site.lab.config_for(run)
        nowhere = site.lab.config_for(run, {"bucket": "no-such-bucket"})
        no_aws = ("--aws_command", str(site.lab.root / "nothing"))
        site.run("monitor, no such bucket", "monitor", "--config", nowhere, "--json")
        site.run("check, no such bucket", "check", "--config", nowhere, "--json")
        site.run("cleanup, of no run", "cleanup", "--config", config, "nothing", "--json")
        site.upload("upload, no such bucket", run, "--json", "--bucket", "no-such-bucket")
        site.upload("upload, no such folder", site.runs / "nothing", "--json")
        site.upload("upload, not complete", growing, "--json")
        site.upload("upload, not complete, without the check", growing, "--skip_check", "--json")
        site.upload("upload, no AWS CLI", run, "--json", *no_aws)
        site.upload("upload, the log directory is a file", run, "--json", "--log_dir", str(site.lab.root / "a file"))
        site.upload("upload, an option without the one that it needs", run, "--json", "--sse_kms_key_id", "key")
        site.upload("upload, a value that is none", run, "--cores", "none")
        site.upload("upload, a pattern that is none", run, "--json", "--exclude_patterns", "(")
        site.upload("upload, a bucket that is none", run, "--json", "--bucket", "s3://bucket")
        site.upload("upload, for people", run)
        site.run("verify, no such folder", "verify", str(site.runs / "nothing"), "--bucket", BUCKET, "--json")
        site.run("no command", env={})
        site.run("no such command", "download")
        site.run("no such option", "status", "--config", config, "--frobnicate")
        site.run("a required option is missing", "status")
        site.run("--help", "--help")
        site.run("monitor, no config", "monitor", "--config", str(site.lab.root / "nothing"), "--json")
        site.run("monitor, a wrong config", "monitor", "--config", str(site.lab.root / "wrong.yaml"), "--json")
        site.run("status, a wrong config", "status", "--config", str(site.lab.root / "wrong.yaml"), "--json")
        site.run("check, a wrong config", "check", "--config", str(site.lab.root / "wrong.yaml"), "--json")
        site.run("report, into a run", "report", "--config", config, "--output", str(run / "Data"), "--json")
        site.run("task, no such folder", "task", str(site.lab.root / "nothing"))
        with site.lab.start("status", "--help") as process:
            assert process.stdout
            process.stdout.close()
            process.stdout = None
            process.communicate(timeout=120)
        site.results["the reader of the output is gone"] = Result(process.returncode, "", "")
        yield site


def test_json_of_errors(odd: Site) -> None:
    assert_golden("json_errors", odd.documents())


def test_command_line(folder: Path) -> None:
    """Commands and options, and that each option is known in both spellings."""
    lab = site_in(folder / "command line", S3Server()).lab
    first = asked(lab, [["--help"]])
    commands = [name for name in first["known"] if name != "s3sync"]
    argvs = [all_options(name, first["known"][name], mark) for name in commands for mark in "_-"]
    refused = [
        [argv[0], code, sorted({word.replace("-", "_") for word in re.findall(r"(?<!\S)--[\w-]+(?!\S)", text)})]
        for argv, (code, text) in zip(argvs, asked(lab, argvs)["said"], strict=True)
    ]
    found = {"commands": first["known"], "of all options in either spelling the ones that are not known": refused}
    assert set(first["known"]) >= {"s3sync", *COMMANDS}
    assert_golden("command_line", found)


def asked(lab: Lab, argvs: list[list[str]]) -> Any:
    lines = "".join(json.dumps(argv) + "\n" for argv in argvs)
    env = {**lab.env, "COLUMNS": "80"}
    run = subprocess.run([sys.executable, "-c", SPY], input=lines, env=env, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def all_options(command: str, known: Mapping[str, Any], mark: str) -> list[str]:
    """An argv with all options of a command, in one of both spellings, and one that no command has."""
    values = {"N": "1", "RATE": "1MB/s", "ACCOUNT": "123456789012", "AGE": "1d", "COMMAND": "/bin/true", "RE": "."}
    argv = [command]
    for name, facts in known.items():
        if name in ("--help", "--version", "--print_completion"):
            continue
        value = [(facts["choices"] or [values.get(facts["metavar"], "x")])[0]] if facts["nargs"] != 0 else []
        argv += [f"--{name[2:].replace('_', mark)}", *value] if name.startswith("--") else value
    return [*argv, "--no-such-option"]


def test_config_keys(request: pytest.FixtureRequest) -> None:
    schema = json.loads((request.config.rootpath / "conf" / "s3sync.schema.json").read_text())
    assert_golden("config_keys", dict(keys_of(schema, schema, "")))


def keys_of(node: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Every key below a node of a JSON schema, by its path: without titles and descriptions."""
    for name, about in node.get("properties", {}).items():
        inner = resolved(about, schema)
        yield f"{path}{name}", {"required": name in node.get("required", ()), **without_prose(about)}
        yield from keys_of(inner, schema, f"{path}{name}.")
        if "items" in inner:
            yield from keys_of(resolved(inner["items"], schema), schema, f"{path}{name}[].")


def resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = node.get("$ref") or next((each.get("$ref") for each in node.get("allOf", ())), None)
    return schema["$defs"][reference.rpartition("/")[2]] if reference else node


def without_prose(about: Any) -> Any:
    """Remove what only people read, and the names of the definitions that a node refers to."""
    if isinstance(about, list):
        return [without_prose(each) for each in about]
    if not isinstance(about, dict):
        return about
    return {
        key: "<definition>" if key == "$ref" else without_prose(value)
        for key, value in about.items()
        if key not in ("title", "description", "examples", "markdownDescription")
    }


def test_environment_variables(request: pytest.FixtureRequest) -> None:
    """All names that the program reads, or gives to the command after a run."""
    sources = (request.config.rootpath / "s3sync").rglob("*.py")
    names = {name for path in sources for name in re.findall(r"S3SYNC_[A-Z_]+[A-Z]", path.read_text())}
    assert_golden("environment", sorted(names))
