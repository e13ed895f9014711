"""What a kill must leave behind wherever it hits, and what it costs: for each kill of test_crashes.py."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from s3sync.aws import etag
from s3sync.aws.destination import parse_destination
from s3sync.runs import local_files, run_folder
from s3sync.runs.run_folder import Run
from s3sync.state.log_format import parse_log
from s3sync.state.run_state import Proof
from s3sync.state.store import LoadedState, StateStore
from s3sync.transfer import batches
from tests.helpers.lab import BUCKET, Lab, send_to_all, tree
from tests.helpers.promise import is_verified
from tests.helpers.s3server import Request, S3Server
from tests.helpers.state_logs import CONTRACT, OURS

Log = Literal["old", "begun", "completed"]


def orphans_of(lab: Lab) -> list[psutil.Process]:
    """Return the living processes of a lab, by the TMPDIR that each inherits: the argv of some says nothing of it."""
    return [process for process in psutil.process_iter() if _is_of(lab, process)]


def _is_of(lab: Lab, process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.environ().get("TMPDIR") == str(lab.tmp) and process.status() != psutil.STATUS_ZOMBIE
    return False


def wait_for_orphans(lab: Lab) -> None:
    """Block until what a killed s3sync left has come to its end."""
    psutil.wait_procs(orphans_of(lab), timeout=120)
    assert orphans_of(lab) == []


class Before(NamedTuple):
    """What an upload finds: the folder of state logs by name, and the bytes of S3's objects by key."""

    logs: Mapping[str, bytes] = {}
    objects: Mapping[str, bytes] = {}


class Cost(NamedTuple):
    """Of one kill: the state log that it left, how much was in flight, and how much of that was sent again.

    Requests are single PUTs and parts.
    """

    log: Log  # the old one, the one with which the killed call began, or the one with which it ended
    objects_in_flight: int
    requests_in_flight: int
    objects_again: int
    requests_again: int


def summary(costs: list[Cost]) -> dict[str, int]:
    """The figures of many kills; for `record_property("figures", ...)`."""
    most = {f"most {name.replace('_', ' ')}": max(getattr(cost, name) for cost in costs) for name in Cost._fields[1:]}
    logs = Counter(cost.log for cost in costs)
    return {"kills": len(costs), **{f"left the {log} log": number for log, number in sorted(logs.items())}, **most}


@dataclass
class Scene:
    """One kill, with its own machine and server: what was there before, and what must be there after."""

    lab: Lab
    server: S3Server
    run: Path
    before: Before
    options: tuple[str, ...]
    most_requests: int  # at once
    known: Mapping[str, Proof]  # what log and journal said before of the files as they are now, by path in the run
    _stored_parts: Counter[str] = field(default_factory=Counter)  # by key, of multipart uploads left open

    @property
    def argv(self) -> tuple[str, ...]:
        """Those of the upload that is killed, and of the next one."""
        return self.lab.upload_argv(self.run, "--skip_check", *self.options)

    def snapshot(self) -> Before:
        """What the next upload will find."""
        objects = {key: stored.body or b"" for key, stored in self.server.objects(BUCKET).items()}
        return Before({path.name: path.read_bytes() for path in self._uploads().iterdir()}, objects)

    def kill(self, process: subprocess.Popen[str], *, children_too: bool) -> bool:
        """SIGKILL to s3sync alone or, as at the end of a container, to its children as well.

        Says whether it was still at work.
        """
        process.kill()
        process.communicate()
        if children_too:
            send_to_all(signal.SIGKILL, orphans_of(self.lab))
        return process.returncode < 0

    def check(self) -> Cost:
        """After a kill: the log and the journal tell no lies, and the next upload completes the run at no more cost
        than what was in flight."""
        wait_for_orphans(self.lab)
        self.server.wait_disconnected()
        log = self._check_log()
        self._check_claims(log)
        self._stored_parts = Counter({u.key: len(u.parts) for u in self.server.uploads(BUCKET) if u.parts})
        self._check_next()
        return self._cost(log)

    def _uploads(self) -> Path:
        return self.lab.log_dir / "uploads"

    def _check_log(self) -> Log:
        """It is the old one, byte for byte, or a whole new one."""
        path = self.lab.log_path(self.run)
        old = self.before.logs.get(path.name)
        content = path.read_bytes() if path.exists() else None
        if content is None and old is not None:  # a corrupt one
            (aside,) = self._uploads().glob(f"{path.name}.corrupt-*")
            content = aside.read_bytes()
        if content == old:
            return "old"
        assert content is not None
        log = json.loads(content)
        types = {
            key: type(value) for key, value in log.items() if key not in ("watched", "folders")
        }  # of completed runs
        assert types == CONTRACT | OURS
        assert len(log["uploaded_files"]) == log["total_uploaded_files"] == len(log["local_files"])
        assert log["total_local_files"] == len(tree(self.run))
        assert parse_log(content).completed is log["completed"]
        assert bool(log["finished"]) is log["completed"]
        if log["completed"]:
            assert log["uploaded_files"].keys() == {str(self.run / path) for path in tree(self.run)}
            return "completed"
        assert log["uploaded_files"] == {str(self.run / path): proof.etag for path, proof in self.known.items()}
        return "begun"

    def _check_claims(self, log: Log) -> None:
        """What log and journal say together, which is what the next upload goes by, is so."""
        state, warnings = load(self.lab, self.run)
        assert [warning for warning in warnings if warning.id != "state.corrupt"] == []
        if state is None:
            return
        assert state.verified.keys() >= self.known.keys(), "nothing that was known is forgotten"
        claimed = _of_files(self.run, state.verified)
        objects = self.server.objects(BUCKET)
        for path in claimed:
            there = objects[f"{self.run.name}/{path}"]
            assert (there.etag, there.body) == (claimed[path].etag, (self.run / path).read_bytes())
        assert log != "completed" or claimed.keys() == tree(self.run).keys()
        assert log != "begun" or not state.completed

    def _check_next(self) -> None:
        result = self.lab.run(*self.argv)
        assert result.code == 0, result.out + result.err
        is_verified(self.lab, self.run, self.server)
        names = {path.name for path in self._uploads().iterdir() if ".corrupt-" not in path.name}
        assert names == {self.lab.log_path(self.run).name}, "neither journal nor temporary file is left"
        assert not list(self.lab.tmp.glob("s3sync-work-*")), "nor a temporary folder"
        assert self.server.uploads(BUCKET) == [], "nor parts in S3"

    def _cost(self, log: Log) -> Cost:
        """Nothing is sent twice but what was cut off by the kill, or is a part of what was never put together."""
        requests = [r for r in self.server.requests if r.operation in ("PutObject", "UploadPart")]
        cut = Counter(r.key for r in requests if r.status == 0)
        in_flight = cut + self._stored_parts
        sent = Counter(r.key for r in requests)
        needed = {key: self._needed(key) for key in sent}
        again = Counter({key: sent[key] - needed[key] for key in sent if sent[key] > needed[key]})
        assert again <= in_flight
        assert cut.total() <= self.most_requests
        stored = Counter(r.key for r in self.server.requests if _stores(r))
        assert set(stored.values()) <= {1}, "no object that S3 had is sent again"
        return Cost(log, len(in_flight), in_flight.total(), len(again), again.total())

    def _needed(self, key: str) -> int:
        """Requests that bring the file of this key into S3, which had it before or not."""
        path = self.run / key.removeprefix(f"{self.run.name}/")
        if self.before.objects.get(key) == path.read_bytes():
            return 0
        size = path.stat().st_size
        part_size = etag.DEFAULT_MULTIPART.part_size_for(size)
        return -(-size // part_size) if part_size else 1


@contextlib.contextmanager
def scene(
    folder: Path,
    run: Path,
    before: Before | None = None,
    *,
    cores: int = 1,
    threads: int = 4,
    latency: float = 0,
    aws: str = "",
) -> Iterator[Scene]:
    """A fresh machine in `folder`, which must not exist, and a server (latency in seconds), both as they were
    `before`. `aws` is the CLI as `Lab` takes it: "quick" where s3sync's own steps alone matter."""
    before = before or Before()
    folder.mkdir()
    with S3Server(latency=latency) as server:
        server.create_bucket(BUCKET)
        for key, body in before.objects.items():
            server.put(BUCKET, key, body)
        lab = Lab(folder, server.url, aws)
        if before.logs:
            os.makedirs(lab.log_dir / "uploads", mode=0o700)
        for name, content in before.logs.items():
            (lab.log_dir / "uploads" / name).write_bytes(content)
        options = ("--cores", str(cores), "--threads", str(threads))
        state, _ = load(lab, run)
        known = _of_files(run, state.verified) if state else {}
        yield Scene(lab, server, run, before, options, cores * threads, known)


def load(lab: Lab, run: Path) -> LoadedState:
    """Log and journal as the next upload will read them; nothing is written."""
    return StateStore(lab.log_dir, _opened(run), parse_destination(BUCKET)).load(set_aside=False)


def _of_files(run: Path, verified: Mapping[str, Proof]) -> dict[str, Proof]:
    """The proofs that are of the run's files as they are now."""
    files = local_files.list_files(_opened(run)).files
    return {file.path: verified[file.path] for file in files if batches.is_verified(file, verified)}


def _opened(run: Path) -> Run:
    return run_folder.open_run(run, need_run_info=False)


def _stores(request: Request) -> bool:
    return request.operation in ("PutObject", "CompleteMultipartUpload") and request.status == 200
