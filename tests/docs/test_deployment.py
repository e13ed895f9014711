"""The service files in conf/, and docs/how-to/deploy.md, carried out in a throwaway copy of this machine."""

from __future__ import annotations

import configparser
import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from s3sync.commands import command_line, options
from tests.helpers.lab import BUCKET, Lab, skip_or_fail, tree
from tests.helpers.s3server import S3Server
from tests.helpers.throwaway import ROOT, Throwaway, copy_of_the_checkout, network_settings

pytestmark = pytest.mark.real_aws

CONF = ROOT / "conf"
DEPLOYMENT = (ROOT / "docs" / "how-to" / "deploy.md").read_text()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def unit(name: str) -> configparser.ConfigParser:
    """A unit file; keys keep their case."""
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string((CONF / name).read_text())
    return parsed


def exec_start() -> list[str]:
    return shlex.split(unit("s3sync.service")["Service"]["ExecStart"])


def cron_line() -> tuple[str, str, str]:
    """Schedule, user and command of the sample for /etc/cron.d."""
    (line,) = (line for line in (CONF / "s3sync.cron").read_text().splitlines() if re.match(r"[*\d@]", line))
    *schedule, user, command = line.split(maxsplit=6)
    return " ".join(schedule), user, command


class Block(NamedTuple):
    """Commands of docs/how-to/deploy.md, and the heading above them."""

    heading: str
    commands: str


def blocks(heading: str) -> list[Block]:
    """Return the indented commands under a heading; what is in a list is no command."""
    section = DEPLOYMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^ {4}\S.*\n(?:^ {4,}\S.*\n)*)", section, re.MULTILINE)
    return [Block(heading, re.sub(r"^ {4}", "", block, flags=re.MULTILINE)) for block in found]


def commands(heading: str) -> str:
    return "".join(block.commands for block in blocks(heading))


# What the files say


def test_the_service_runs_a_scan_with_known_options() -> None:
    program, *argv = exec_start()
    args = command_line.build_parser().parse_args(argv)
    assert (program, args.command, args.config) == ("/opt/s3sync/.venv/bin/s3sync", "monitor", "/etc/s3sync.yaml")


def test_what_the_service_writes_is_what_the_program_writes_by_default() -> None:
    service = unit("s3sync.service")["Service"]
    assert f"/var/log/{service['LogsDirectory']}" == options.DEFAULT_LOG_DIR
    assert service["Environment"] == f"HOME=/var/lib/{service['StateDirectory']}"
    assert (service["UMask"], service["LogsDirectoryMode"], service["StateDirectoryMode"]) == ("0077", "0700", "0700")


def test_cron_and_timer_start_the_same_equally_often() -> None:
    schedule, user, command = cron_line()
    assert schedule == "*/10 * * * *"
    assert unit("s3sync.timer")["Timer"]["OnCalendar"] == "*:0/10"
    assert user == unit("s3sync.service")["Service"]["User"]
    assert f"/opt/s3sync/scripts/monitor.sh {exec_start()[-1]} " in command
    assert "%" not in command, "a line break for cron"
    log = re.search(r"tee -a (\S+)", command)
    assert log is not None
    assert f"\n{log[1]} {{\n" in (CONF / "s3sync.logrotate").read_text()


@pytest.mark.real
def test_systemd_finds_no_fault_in_the_units_and_little_exposure(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        skip_or_fail("needs systemd-analyze")
    for name in ("s3sync.service", "s3sync.timer"):
        text = (CONF / name).read_text().replace(exec_start()[0], sys.executable)
        (tmp_path / name).write_text(text)
    units = [tmp_path / "s3sync.service", tmp_path / "s3sync.timer"]
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=120, check=False
    )
    assert (checked.returncode, [line for line in checked.stderr.splitlines() if "s3sync" in line]) == (0, [])

    argv = ("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", CONF / "s3sync.service")
    scored = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert scored.returncode == 0, scored.stdout[-200:]  # the threshold is ten times the score


# docs/how-to/deploy.md


SCRIPT = r"""
step() { echo "step: $*"; }
printf '#!/bin/sh\necho "systemctl $*"\n' > /usr/local/sbin/systemctl
chmod 0755 /usr/local/sbin/systemctl
rm -rf /var/log/s3_upload  # somebody may have uploaded on the machine that this is a copy of
cp -r "$SHARED/data" /data
groupadd lab
chgrp -R lab /data && chmod -R u=rwX,g=rX,o= /data

step install
git config --global --add safe.directory '*'
@PROGRAM@
usermod -aG lab s3sync
cp "$SHARED/s3sync.yaml" /etc/s3sync.yaml
install -m 0600 "$SHARED/s3sync.env" /etc/s3sync.env

step check
set -a; . /etc/s3sync.env; set +a
@CHECK@

step systemd
@SYSTEMD@
cd /etc/systemd/system
systemd-analyze verify --man=no s3sync.service s3sync.timer 2>&1 | grep s3sync && exit 1

step scan
mkdir /run/private-tmp
unshare --mount bash -euc '
    for folder in /var/log/s3_upload /var/lib/s3sync; do mount --bind $folder $folder; done
    mount -t tmpfs -o mode=1777 none /tmp
    mount -o remount,bind,ro /
    umask 0077
    cd /
    exec nice -n 10 ionice -c 2 -n 7 setpriv --reuid=s3sync --regid=s3sync --init-groups --no-new-privs \
        --bounding-set=-all --inh-caps=-all --ambient-caps=-all \
        env -i PATH="$PATH" HOME=/var/lib/s3sync $(cat /etc/s3sync.env) \
        strace -f -qq -o /var/lib/s3sync/trace "$@"' scan @EXEC_START@
mv /var/lib/s3sync/trace "$SHARED/trace"
cp -r /var/log/s3_upload "$SHARED/log"
find /var/log/s3_upload /var/lib/s3sync -printf '%u %m %P\n' > "$SHARED/modes"
find /data ! -user root -o -newer /etc/s3sync.env | sed 's/^/touched: /'

step status
runuser -u s3sync -- s3sync status --config /etc/s3sync.yaml --json

step cron
@CRON@
runuser -u s3sync -- env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/var/lib/s3sync SHELL=/bin/sh \
    $(cat /etc/s3sync.env) /bin/sh -c @CRON_LINE@
logrotate -d /etc/logrotate.d/s3sync 2>&1 | grep -i error && exit 1
runuser -u s3sync -- sh -c 'echo said > /var/log/s3_upload/cron.log'
logrotate -f -s /var/lib/logrotate.test /etc/logrotate.d/s3sync
stat -c 'rotated: %U %a %n' /var/log/s3_upload/cron.log*

step terminal
mkdir -p /usr/share/bash-completion/completions
@TERMINAL@

step upgrade
git -C "$SHARED/origin" -c user.name=a -c user.email=a@b commit -q --allow-empty -m 'another version'
@UPGRADE@
s3sync --version

step uninstall
@UNINSTALL@
! ls -d /etc/systemd/system/s3sync* /etc/cron.d/s3sync /etc/logrotate.d/s3sync /opt/s3sync /usr/local/bin/s3sync
"""


def script() -> str:
    """All commands of the document as they are, and the steps that a person takes between them."""
    program = "".join(block.commands for block in blocks("Program, user, config"))
    (check,) = (b.commands for b in blocks("Credentials") if b.commands.startswith("runuser"))
    person = commands("Completion and manual page").replace("man s3sync", "true")
    texts = {
        "PROGRAM": re.sub(r"<[^>]+>", '"$SHARED/origin"', program),
        "CHECK": check,
        "SYSTEMD": blocks("systemd")[0].commands,
        "EXEC_START": shlex.join(exec_start()),
        "CRON": commands("cron"),
        "CRON_LINE": shlex.quote(cron_line()[2]),
        "TERMINAL": person + "mkdir -p /usr/local/share/man/man1\n"
        "ln -s /opt/s3sync/docs/s3sync.1 /usr/local/share/man/man1/\nman --where s3sync\n",
        "UPGRADE": commands("Upgrade"),
        "UNINSTALL": commands("Uninstall"),
    }
    return re.sub("@([A-Z_]+)@", lambda name: texts[name[1]], SCRIPT)


@pytest.fixture
def copied(tmp_path: Path) -> Throwaway:
    return Throwaway(tmp_path / "throwaway")


@pytest.mark.real
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("install")
def test_the_document_installs_it_on_a_server_and_removes_it(
    copied: Throwaway, lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    """The unit's scan runs as its user, without capabilities, on a machine that it can only read."""
    for tool in ("git", "logrotate", "man", "strace", "systemd-analyze", "/usr/bin/python3"):
        if not shutil.which(tool):
            skip_or_fail(f"needs {tool}")
    shared = copied.shared
    origin = copy_of_the_checkout(shared / "origin")
    for argv in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *argv], cwd=origin, check=True)
    shutil.copytree(tiny_run, shared / "data" / tiny_run.name)
    watched = {"monitored_directories": ["/data"], "bucket": BUCKET, "remote_path": "/"}
    (shared / "s3sync.yaml").write_text(json.dumps({"max_age": 1e6, "monitor": [watched]}))
    settings = {name: value for name, value in lab.env.items() if name.startswith("AWS_")}
    (shared / "s3sync.env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    done = copied.run(script(), {"PATH": PATH, "HOME": "/root", "SHARED": str(shared), **network_settings()})

    assert done.returncode == 0, done.stdout + done.stderr
    said = {part.partition("\n")[0]: part.partition("\n")[2] for part in done.stdout.split("step: ")[1:]}
    assert "PROBLEM" not in said["check"]
    assert said["check"].count("ok       ") >= 5
    assert said["scan"] == "", "silent, and nothing of the data is another's or newer"
    assert server.objects(BUCKET).keys() == {f"{tiny_run.name}/{path}" for path in tree(tiny_run)}
    state = json.loads((shared / "log" / "uploads" / f"{tiny_run.name}.upload.log.json").read_text())
    assert (state["completed"], state["run_path"]) == (True, f"/data/{tiny_run.name}")
    private = re.compile(r"s3sync (700( uploads)?|700 |600 .+|700 .+)")
    assert [line for line in (shared / "modes").read_text().splitlines() if not private.match(line)] == []
    (run,) = json.loads(said["status"])["runs"]
    assert run["state"] == "uploaded"
    rotated = "".join(f"rotated: s3sync 600 /var/log/s3_upload/cron.log{end}\n" for end in ("", ".1"))
    assert said["cron"] == rotated, "a scan with nothing to do is silent"
    assert said["terminal"] == "/opt/s3sync/docs/s3sync.1\n", "where the link leads that man found"
    assert "s3sync 0." in said["upgrade"]
    assert "systemctl disable --now s3sync.timer" in said["uninstall"]
    assert calls_in(shared / "trace") - allowed() == set()
    families = set(re.findall(r"\bsocket\((AF_\w+)", (shared / "trace").read_text()))
    refused = families - set(unit("s3sync.service")["Service"]["RestrictAddressFamilies"].split())
    assert refused <= {"AF_NETLINK"}, "the C library asks it for the addresses, and does without"


def calls_in(trace: Path) -> set[str]:
    return set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))


def allowed() -> set[str]:
    """The system calls of the unit's filter."""
    names: set[str] = set()
    wanted = unit("s3sync.service")["Service"]["SystemCallFilter"].split()
    while wanted:
        asked = subprocess.run(
            ["systemd-analyze", "syscall-filter", "--no-pager", wanted.pop()],
            capture_output=True,
            text=True,
            check=True,
        )
        inside = re.findall(r"^    ([@\w-]+)$", asked.stdout, re.MULTILINE)
        wanted += [name for name in inside if name.startswith("@")]
        names.update(name for name in inside if not name.startswith("@"))
    return names


# conf/Dockerfile


def instructions() -> Iterator[tuple[str, str]]:
    """Each instruction of the Dockerfile with its arguments; continued lines are joined."""
    text = re.sub(r"^#.*\n", "", (CONF / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, arguments = line.partition(" ")
            yield name, arguments.strip()


def context(folder: Path) -> Path:
    """What the builder would be sent: the checkout without what is to be ignored; the last line that fits counts."""
    rules = [line for line in (CONF / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    checkout = copy_of_the_checkout(folder)
    for path in [path for path in checkout.rglob("*") if path.is_file()]:
        name = str(path.relative_to(checkout))
        fitting = [rule for rule in rules if fnmatch.fnmatchcase(name, rule.removeprefix("!"))]
        if fitting and not fitting[-1].startswith("!"):
            path.unlink()
    return checkout


def built(context: Path) -> tuple[str, dict[str, Any]]:
    """The shell commands that the Dockerfile is, from COPY and RUN; and what else it says of the image."""
    lines: list[str] = []
    said: dict[str, Any] = {}
    for name, arguments in instructions():
        if name == "WORKDIR":
            lines.append(f"mkdir -p {arguments} && cd {arguments}")
        elif name == "COPY":
            *sources, target = arguments.split()
            for source in (context / source for source in sources):
                into = f"{target}/{source.name}" if target.endswith("/") or len(sources) > 1 else target
                lines.append(f"mkdir -p $(dirname {into}) && cp -r {source} {into}")
        elif name == "RUN":
            lines.append(arguments)
        elif name in ("ENTRYPOINT", "CMD"):
            said[name] = json.loads(arguments)
        else:
            assert name in ("FROM", "USER", "ENV", "VOLUME")
            said[name] = arguments
    return "\n".join(lines), said


def test_the_image_has_a_python_that_the_package_may_run_on_and_another_user_than_root() -> None:
    _, said = built(ROOT)
    args = command_line.build_parser().parse_args(said["CMD"])
    assert (said["ENTRYPOINT"], args.command, args.config) == (["s3sync"], "monitor", "/etc/s3sync.yaml")
    assert said["USER"] == "10001:10001"
    assert re.fullmatch(r"python:3\.1[0-9]-slim", said["FROM"])
    assert said["VOLUME"] == options.DEFAULT_LOG_DIR


@pytest.mark.real
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("install")
def test_the_image_uploads_as_its_user(copied: Throwaway, lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """Run its instructions in a copy of this machine, with the Python here instead of the one of its base."""
    shared = copied.shared
    build, said = built(context(shared / "context"))
    assert {name.split("/")[0] for name in tree(shared / "context")} == {
        *("LICENSE", "README.md", "docs", "pyproject.toml", "requirements.txt", "s3sync")
    }
    shutil.copytree(tiny_run, shared / "data" / tiny_run.name)
    watched = {"monitored_directories": ["/data"], "bucket": BUCKET, "remote_path": "/"}
    (shared / "s3sync.yaml").write_text(json.dumps({"max_age": 1e6, "monitor": [watched]}))
    user, group = said["USER"].split(":")
    start = f"""
rm -rf /var/log/s3_upload  # of the machine that this is a copy of
{sys.executable} -m venv /image
export PATH=/image/bin:$PATH
{build}
cp {shared}/s3sync.yaml /etc/s3sync.yaml
cp -r {shared}/data /data
unshare --mount bash -euc '
    mount --bind /var/log/s3_upload /var/log/s3_upload
    mount -t tmpfs -o mode=1777 none /tmp
    mount -o remount,bind,ro /
    exec setpriv --reuid={user} --regid={group} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
        env {said["ENV"]} "$@"' start {shlex.join([*said["ENTRYPOINT"], *said["CMD"]])}
runuser -u s3sync -- cat /var/log/s3_upload/uploads/*.json
"""
    settings = {name: value for name, value in lab.env.items() if name.startswith("AWS_")}

    done = copied.run(start, {"PATH": PATH, "HOME": "/root", **settings, **network_settings()})

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout[done.stdout.index("{") :])["completed"] is True
    assert server.objects(BUCKET).keys() == {f"{tiny_run.name}/{path}" for path in tree(tiny_run)}
