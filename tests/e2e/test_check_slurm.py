"""What `check` says of the cluster: one line for each thing that is wrong, with what to do; and nothing stays."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from s3sync import __version__
from s3sync.aws.access import CheckResult
from s3sync.commands.check import slurm_uses
from s3sync.config import load_config
from s3sync.signals import StopRequest
from s3sync.slurm import broken_nodes, check, node_trial
from tests.helpers.errors import error_ids
from tests.helpers.fake_slurm import FakeSlurm
from tests.helpers.lab import BUCKET, Lab
from tests.helpers.slurm_cluster import SlurmCluster

RUN = "261123_A01234_0007_AHFAULTDRX7"
_AWS = """\
#!/bin/sh
case " $* " in *" head-object "*)
    echo "An error occurred (404) when calling the HeadObject operation: Not Found" >&2
    exit 254
esac
echo aws-cli/1.2.3 quick
"""


class Site:
    """A config with an entry for a cluster, and an `aws` that answers at once."""

    def __init__(self, folder: Path) -> None:
        self.log_dir = folder / "log"
        self.runs = folder / "runs"
        (self.runs / RUN).mkdir(parents=True)
        (self.runs / RUN / "RunInfo.xml").touch()
        self.aws = folder / "aws"
        self.aws.write_text(_AWS)
        self.aws.chmod(0o755)
        self._config = folder / "config.json"

    def config(self, *, executor: str = "slurm", slurm: dict[str, Any] | None = None, **keys: Any) -> Path:
        """The file; `keys` are more of its top level."""
        entry = {"monitored_directories": [str(self.runs)], "bucket": BUCKET, "remote_path": "/", "executor": executor}
        usual = {"log_dir": str(self.log_dir), "aws_command": str(self.aws)}
        self._config.write_text(json.dumps({**usual, **keys, "monitor": [{**entry, "slurm": slurm or {"nodes": 1}}]}))
        return self._config

    def findings(self, fake: FakeSlurm, *, submit: bool = False, **keys: Any) -> list[CheckResult]:
        """The findings about the cluster."""
        environ = {**os.environ, "PATH": f"{fake.bin}:/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
        config = load_config(self.config(**keys), {})
        return list(check.check_cluster(slurm_uses(config), environ, StopRequest(), submit=submit))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def fake(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path / "slurm")


@pytest.mark.parametrize(
    ("sinfo", "asked", "ok", "says"),
    [
        ("n1|idle\nn2|mixed\n", {"nodes": 2}, True, "the cluster: 2 of 2 nodes up (1 idle, 1 mixed)"),
        (
            "n1|idle\nn2|down*\nn3|drained\nn4|idle~\n",
            {"nodes": 4, "partition": "short"},
            True,
            "partition short: 2 of 4 nodes up (1 down*, 1 drained, 1 idle, 1 idle~), but `nodes` is 4",
        ),
        (
            "n1|idle*\nn2|draining\n",
            {"partition": "short"},
            False,
            "partition short: 0 of 2 nodes up (1 draining, 1 idle*) (see `sinfo --list-reasons`)",
        ),
        ("", {"partition": "shrot"}, False, "partition shrot has no nodes (see `sinfo`, and correct `partition`)"),
    ],
)
def test_the_nodes_are_counted(
    site: Site, fake: FakeSlurm, sinfo: str, asked: dict[str, Any], ok: bool, says: str
) -> None:
    """Nothing is submitted if no node is up."""
    fake.set("sinfo", f"printf '{sinfo}'")

    found = site.findings(fake, slurm=asked, submit=not ok)

    assert [(result.ok, result.what, result.text) for result in found] == [
        (True, "slurm", "slurm-wlm 1.2.3"),
        (ok, "slurm", says),
    ]
    assert bool(found[1].id) != ok
    assert (f"--partition={asked.get('partition')}" in fake.said("sinfo")[0]) == ("partition" in asked)
    assert not site.log_dir.exists()


def test_a_controller_that_does_not_answer(site: Site, fake: FakeSlurm) -> None:
    fake.set("sinfo", "echo 'slurm_load_partitions: Unable to contact slurm controller (connect failure)' >&2; exit 1")

    (*_, finding) = site.findings(fake, submit=True)

    why = "sinfo failed: slurm_load_partitions: Unable to contact slurm controller (connect failure)"
    assert (finding.ok, finding.what, finding.id) == (False, "slurm", "slurm.failed")
    assert (finding.text.startswith(f"{why} "), "`scontrol ping`" in finding.text) == (True, True), finding.text


@pytest.mark.parametrize(
    ("sbatch", "says"),
    [
        (
            "echo 'sbatch: error: Batch submission failed: Invalid account' >&2; exit 1",
            "sbatch failed: sbatch: error: Batch submission failed: Invalid account (correct `slurm` in the config)",
        ),
        (
            "for word; do :; done; (echo n9; echo /opt/python: not found) > $(dirname $word)/out.txt; echo 7",
            "program: /opt/python: not found (install s3sync there under the same path)",
        ),
        (
            "echo 7",
            "job 7 ended, but its results are not in LOG_DIR (put log_dir on a share that all nodes mount under",
        ),
        (
            "echo '7|PENDING||Resources' > FAKE/queue; echo 7",
            "job 7 still waits after 0.0 s (Resources): cancelled (try again when a node is free)",
        ),
        ("echo '7|RUNNING|n9|None' > FAKE/queue; echo 7", "job 7 still runs after 0.0 s on n9: cancelled (look at"),
    ],
)
def test_a_job_that_does_not_answer(
    site: Site, fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch, sbatch: str, says: str
) -> None:
    """With limits that expire at once. A remaining job is cancelled."""
    for name in ("_WAIT_SECONDS", "_RUN_SECONDS", "_SHOW_SECONDS", "_POLL_SECONDS"):
        monkeypatch.setattr(node_trial, name, 0.0)
    fake.set("sbatch", 'case "$1" in --version) exit ;; esac; ' + sbatch.replace("FAKE", str(fake.folder)))
    fake.set("squeue", f"[ ! -e {fake.folder}/queue ] || cat {fake.folder}/queue")
    fake.set("scancel", f"rm {fake.folder}/queue")

    (*_, finding) = site.findings(fake, submit=True)

    assert not finding.ok
    assert finding.text.startswith(says.replace("LOG_DIR", str(site.log_dir)))
    assert [argv[-1] for argv in fake.said("scancel")] == (["7"] if "queue" in sbatch else [])
    assert list(site.log_dir.iterdir()) == []


def test_findings_of_a_job(site: Site, fake: FakeSlurm) -> None:
    """For each thing that is asked of Slurm one job, as the uploads will be; the node is named with each finding."""
    fake.runs_jobs()

    found = site.findings(fake, submit=True, slurm={"nodes": 1, "options": "--qos=low"}, max_cores=3)

    assert [finding.text for finding in found if not finding.ok] == []
    assert [finding.what for finding in found] == ["slurm", "slurm", *["node n9"] * 6]
    things = ("log_dir", "program: s3sync", "directory", "temporary files", "aws", f"bucket: s3://{BUCKET}")
    assert [finding.text.startswith(thing) for finding, thing in zip(found[2:], things, strict=True)] == [True] * 6
    (argv,) = (argv for argv in fake.said("sbatch") if argv != ["--version"])
    assert argv[:2] == ["--cpus-per-task=3", "--qos=low"]
    assert [word.partition("-check-")[0] for word in argv if "--job-name" in word] == ["--job-name=s3sync"]
    assert list(site.log_dir.iterdir()) == []


_EACH = """
case "$1" in --version) exit ;; esac
for word; do case "$word" in --nodelist=*) node=${word#--nodelist=} ;; --output=*) out=${word#--output=} ;; esac; done
case $node in
n1) SLURMD_NODENAME=n1 sh "$word" > "$out" 2>&1; echo 1 ;;
n2) printf 'n2\\n/opt/python: not found\\n' > "$out"; echo 2 ;;
n3) echo 'sbatch: error: Requested node configuration is not available' >&2; exit 1 ;;
n4) echo 4 ;;
n5) echo 5 ;;
esac
"""


def test_each_node_that_is_up_is_tried_and_untried_ones_are_named(
    site: Site, fake: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is busy, or does not suit the options, is no problem; those that are excluded or down are not tried."""
    for name in ("_WAIT_SECONDS", "_RUN_SECONDS", "_POLL_SECONDS"):
        monkeypatch.setattr(node_trial, name, 0.0)
    states = {"n0": "idle", "n1": "idle", "n2": "mixed", "n3": "idle", "n4": "allocated", "n5": "mixed", "n6": "down*"}
    fake.set("sinfo", "; ".join(f"echo '{name}|{state}'" for name, state in states.items()))
    fake.set("sbatch", _EACH)
    fake.set("squeue", "echo '4|PENDING||Resources'; echo '5|RUNNING|n5|None'")
    fake.set("scancel", f"echo > {fake.bin}/squeue")  # an empty script
    broken = dict.fromkeys(("n1", "n2", "n6", "n99"), "not found")
    broken_nodes.remember(site.log_dir, broken, [])

    found = site.findings(fake, submit=True, slurm={"nodes": 1, "options": "-x n0"})

    assert {f.what for f in found if f.ok} == {"slurm", "node n1", "node n2"}
    assert [(f.what, f.text.partition(" (")[0]) for f in found if not f.ok] == [
        ("node n2", "program: /opt/python: not found"),
        ("node n5", "job 5 still runs after 0.0 s on n5: cancelled"),
    ]
    untried = [f.text.partition(" (")[0] for f in found if "was not tried" in f.text]
    refused = "Slurm: sbatch failed: sbatch: error: Requested node configuration is not available"
    assert untried == [
        f"node n3 was not tried: {refused}",
        "node n4 was not tried: job 4 still waits after 0.0 s",
    ]
    assert broken_nodes.names(site.log_dir) == ["n2"], "the others work again, or are out of use"
    assert not (site.log_dir / "slurm").exists()


def test_problems_of_a_node(site: Site, fake: FakeSlurm) -> None:
    """Another version; the folder is there, but nothing is mounted on it; no `aws`; no folder for temporary files."""
    hide = f"mv {site.runs}/{RUN} {site.runs}/away; mv {site.aws} {site.aws}.away"
    edit = f"sed -i s/{__version__}/0.0.1/ $(dirname $word)/asked.json"
    fake.runs_jobs(f"{hide}; {edit}", "TMPDIR=/nowhere")

    found = site.findings(fake, submit=True)

    facts = {
        "slurm.other-version": f"program: s3sync {__version__} ({sys.executable}), but 0.0.1 ",
        "slurm.directory-not-mounted": f"directory: {site.runs}: {RUN} ",
        "aws.no-such-command": f" {site.aws}: ",
    }
    problems = {finding.id: finding.text for finding in found if not finding.ok}
    assert list(problems) == list(facts)
    assert all(fact in problems[error_id] for error_id, fact in facts.items()), problems
    assert {finding.what for finding in found if not finding.ok} == {"node n9"}
    assert [finding.text.partition("; ")[2] for finding in found if "temporary" in finding.text] == [
        "TMPDIR=/nowhere is not writable there"
    ]


def checked(lab: Lab, *argv: str, **options: Any) -> list[str]:
    """The lines on the cluster."""
    result = lab.run("check", *argv, **options)
    return [line for line in result.out.splitlines() if " slurm: " in line]


def test_without_slurm_it_is_one_clear_line(lab: Lab, site: Site) -> None:
    """And no line at all if nothing uses Slurm."""
    nothing = {"PATH": str(site.runs)}
    (line,) = checked(lab, "--config", str(site.config()), "--submit", env=nothing)
    assert (line.startswith("PROBLEM  slurm: "), error_ids(line)) == (True, ["slurm.not-installed"])
    assert "sbatch, squeue, scancel, sinfo" in line
    config = str(site.config(executor="local"))
    assert checked(lab, "--config", config, env=nothing) == []
    assert checked(lab, "--config", config, "--submit", env=nothing) == [
        "ok       slurm: no entry has `executor: slurm`: there is nothing to submit"
    ]


def test_an_interrupted_check_leaves_no_job_and_no_folder(lab: Lab, site: Site, fake: FakeSlurm) -> None:
    queue, begun = fake.folder / "queue", fake.folder / "begun"
    os.mkfifo(begun)
    fake.set("sbatch", f"case $1 in --version) exit ;; esac; echo '7|PENDING||Priority' > {queue}; echo 7")
    fake.set("squeue", f"[ ! -e {queue} ] || cat {queue}; [ ! -e {begun} ] || {{ echo > {begun}; rm -f {begun}; }}")
    fake.set("scancel", f"rm {queue}")
    environ = {"PATH": f"{fake.bin}:/usr/bin:/bin"}

    with lab.start("check", "--config", str(site.config()), "--submit", env=environ) as process:
        begun.read_bytes()  # as soon as it looks at the queue
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)

    assert (process.returncode, error_ids(err), err.count("\n")) == (130, ["run.interrupted"], 1)
    assert "SIGINT" in err
    assert [argv[-1] for argv in fake.said("scancel")] == ["7"]
    assert list(site.log_dir.iterdir()) == []


@pytest.mark.real
@pytest.mark.xdist_group("slurm")
def test_a_real_cluster_is_checked(lab: Lab, tiny_run: Path, slurm: SlurmCluster) -> None:
    """Then the same while a node has another disk where the log directory is, and no mount where the runs are."""
    lab.env |= slurm.env
    argv = ("check", "--config", lab.config_for(tiny_run, {"executor": "slurm", "slurm": {"partition": "short"}}))

    good = lab.run(*argv, "--submit", "--json")
    slurm.mount("n1", tiny_run.parent)
    unmounted = lab.run(*argv, "--submit", "--json")
    slurm.mount("n1", lab.log_dir)
    unshared = lab.run(*argv, "--submit", "--json")

    found = [finding for finding in good.json["findings"] if finding["what"] == "node n1"]
    assert (good.code, [finding["text"] for finding in good.json["findings"] if not finding["ok"]]) == (0, [])
    assert f"bucket: s3://{BUCKET}: reachable with these credentials" in [finding["text"] for finding in found]
    wrong = [[finding for finding in result.json["findings"] if not finding["ok"]] for result in (unmounted, unshared)]
    assert [(finding["what"], finding["text"].partition(" (")[0]) for (finding,) in wrong] == [
        ("node n1", f"directory: {tiny_run.parent}: {tiny_run.name} is missing there"),
        ("node n1", f"job 3 ended, but its results are not in {lab.log_dir}"),
    ]
    assert list(lab.log_dir.iterdir()) == []
    slurm.wait_until(lambda: slurm.squeue() == [])


@pytest.mark.real
@pytest.mark.xdist_group("slurm")
def test_all_nodes_of_a_real_cluster_are_tried(lab: Lab, tiny_run: Path, slurm: SlurmCluster) -> None:
    """The program is missing on one of them."""
    lab.env |= slurm.env
    slurm.mount("n2", Path(sys.prefix))

    result = lab.run("check", "--config", lab.config_for(tiny_run, {"executor": "slurm"}), "--submit", "--json")

    found = [finding for finding in result.json["findings"] if finding["what"].startswith("node")]
    assert {finding["what"] for finding in found} == {"node n1", "node n2"}
    (wrong,) = (finding for finding in found if not finding["ok"])
    assert (wrong["what"], "program: " in wrong["text"], "not found" in wrong["text"]) == ("node n2", True, True)
    slurm.wait_until(lambda: slurm.squeue() == [])
