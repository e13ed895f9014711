"""The way into cron and through it: `make install-cron`, a real cron daemon, `scripts/monitor.sh`."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from s3sync.commands import cron_environment
from s3sync.errors import StateError
from scripts import install_cron
from tests.helpers.errors import error_ids, raises_error
from tests.helpers.lab import BUCKET, skip_or_fail, tree
from tests.helpers.s3server import S3Server
from tests.helpers.site import Site, stored_under

ROOT = Path(__file__).resolve().parents[2]
EVERY_MINUTE = "* * * * *"


@pytest.fixture
def site(tmp_path: Path, server: S3Server, aws_of_lab: str) -> Site:
    return Site(tmp_path, server.url, aws_of_lab)


@pytest.fixture
def fake_crontab(site: Site) -> Path:
    """A `crontab` whose table is this file."""
    table = site.root / "crontab.txt"
    script = site.root / "bin" / "crontab"
    script.parent.mkdir()
    script.write_text(
        f"#!/bin/sh\ncase $1 in\n-l) [ -f {table} ] && cat {table} || {{ echo 'no crontab for you' >&2; exit 1; }} ;;\n"
        f"*) cat >{table} ;;\nesac\n"
    )
    script.chmod(0o755)
    site.env["PATH"] = f"{script.parent}:/usr/bin:/bin"
    return table


SETTINGS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")


def settings_of(site: Site) -> str:
    """The sources of credentials, as lines of a crontab."""
    return "".join(f"{name}={site.env[name]}\n" for name in SETTINGS)


def make(site: Site, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *argv], cwd=ROOT, env=site.env, capture_output=True, text=True, check=False
    )


def test_install_twice_is_one_line_and_uninstall_leaves_the_rest(site: Site, fake_crontab: Path) -> None:
    before = f"MAILTO=lab@example.org\n{settings_of(site)}5 4 * * * backup\n"
    fake_crontab.write_text(before)

    first = make(site, "install-cron", f"CONFIG={site.config}")
    second = make(site, "install-cron", f"CONFIG={site.config}", f"SCHEDULE={EVERY_MINUTE}")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    line = f"{EVERY_MINUTE} {ROOT}/scripts/monitor.sh {site.config} # s3sync:{site.config}"
    assert f"\ninstalled: {line}\nnext: `s3sync status" in second.stdout
    assert fake_crontab.read_text() == f"{before}{line}\n"
    removed = make(site, "uninstall-cron", f"CONFIG={site.config}")
    assert (removed.returncode, removed.stdout) == (0, "removed: 1 line of the crontab\n")
    assert fake_crontab.read_text() == before
    assert make(site, "uninstall-cron").stdout == "removed: 0 lines of the crontab\n"


def test_a_config_that_check_refuses_is_not_installed(site: Site, fake_crontab: Path) -> None:
    site.write([site.entry(bucket="no-such-bucket")])
    fake_crontab.write_text(settings_of(site))

    result = make(site, "install-cron", f"CONFIG={site.config}")

    assert result.returncode == 2  # make's own code for a failed recipe
    (problem,) = [line for line in result.stdout.splitlines() if line.startswith("PROBLEM")]
    assert (error_ids(problem), "no-such-bucket" in problem) == (["s3.no-bucket"], True), problem
    assert "not installed: fix the problems above first" in result.stderr
    assert fake_crontab.read_text() == settings_of(site)


def test_what_only_this_shell_has_is_not_installed(site: Site, fake_crontab: Path) -> None:
    fake_crontab.write_text('AWS_EC2_METADATA_DISABLED=true\nAWS_DEFAULT_REGION=elsewhere\nMAILTO=""\n')
    script = site.root / "quick-aws"
    script.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo aws-cli/1.0 && exit\necho "$HOME $AWS_ENDPOINT_URL" >&2; exit 1\n'
    )
    script.chmod(0o755)
    site.write([site.entry()], aws_command=str(script))
    for name in ("AWS_MAX_ATTEMPTS", "S3SYNC_RETRY_DELAYS"):  # the tests' own
        site.env.pop(name, None)

    result = make(site, "install-cron", f"CONFIG={site.config}")

    lines = result.stdout.splitlines()
    names = "AWS_ACCESS_KEY_ID, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL, AWS_SECRET_ACCESS_KEY"
    (missing,) = [line for line in lines if line.startswith("warning  environment: ")]
    assert (error_ids(missing), f": {names} (" in missing) == (["monitor.not-in-cron"], True), missing
    (mail,) = [line for line in lines if "notifications" in line]
    assert (mail.startswith("warning  notifications: "), error_ids(mail)) == (True, ["notify.no-channel"]), mail
    assert "cron sends no mail" in mail
    (bucket,) = [line for line in lines if "bucket" in line]
    assert bucket.endswith(f": {pwd.getpwuid(os.geteuid()).pw_dir} [aws.command-failed]"), (
        "cron's HOME, and no endpoint"
    )
    assert (result.returncode, "not installed" in result.stderr) == (2, True)


CRONTAB = """\
# AWS_PROFILE=comment
AWS_PROFILE = "lab runs"
  'HTTPS_PROXY'=http://proxy:3128
MAILTO=
* * * * * backup --of=x
* * * * * /opt/s3sync/scripts/monitor.sh /etc/s3sync.yaml # s3sync:/etc/s3sync.yaml
AWS_PROFILE=later
"""


def test_the_crontab_sets_the_variables_above_the_line_of_the_monitor() -> None:
    found = cron_environment.assignments(CRONTAB.splitlines(), Path("/etc/s3sync.yaml"))

    assert found == {"AWS_PROFILE": "lab runs", "HTTPS_PROXY": "http://proxy:3128", "MAILTO": ""}
    assert cron_environment.assignments(CRONTAB.splitlines(), Path("/etc/other.yaml"))["AWS_PROFILE"] == "later"


def test_a_user_without_a_name_has_no_crontab(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> NoReturn:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with raises_error(StateError, "monitor.no-cron-user"):
        cron_environment.build({})


def test_cron_has_a_home_a_name_a_shell_and_the_path_of_monitor_sh() -> None:
    built = cron_environment.build({"AWS_PROFILE": "lab", "PATH": "/elsewhere"})

    assert set(built) == {"HOME", "LOGNAME", "USER", "SHELL", "PATH", "AWS_PROFILE"}
    script = (ROOT / "scripts" / "monitor.sh").read_text()
    assert built["PATH"].split(":", 1)[1] in script.replace("$home/.venv/bin:", "")


@pytest.mark.parametrize(
    ("name", "is_said"),
    [
        ("AWS_PROFILE", True),
        ("AWS_CA_BUNDLE", True),
        ("https_proxy", True),
        ("NO_PROXY", True),
        ("SSL_CERT_FILE", True),
        ("REQUESTS_CA_BUNDLE", True),
        ("S3SYNC_WEBHOOK", True),
        ("LANG", False),
        ("MY_AWS_PROFILE", False),
    ],
)
def test_check_names_the_variables_that_credentials_and_network_come_from(name: str, is_said: bool) -> None:
    assert (cron_environment.relevant_names({name: "x", "HOME": "/root"}) == [name]) == is_said
    assert cron_environment.relevant_names({name: ""}) == []


@pytest.mark.parametrize(
    "schedule", ["every minute", "* * * *", "*/10 * * * * rm", "@sometimes", "* * * * *\n* * * * * x"]
)
def test_a_wrong_schedule_is_named(schedule: str, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert install_cron.main(["install", "--config", str(site.config), "--schedule", schedule]) == 2
    assert f"{schedule!r} is not a schedule of cron" in capsys.readouterr().err


def test_percent_signs_and_spaces_survive_cron() -> None:
    line = install_cron.cron_line(Path("/etc/100% lab.yaml"), EVERY_MINUTE)

    assert line.startswith(EVERY_MINUTE)
    assert r"'/etc/100\% lab.yaml'" in line
    assert install_cron.without([line, "x"], Path("/etc/100% lab.yaml")) == ["x"]


def test_a_crontab_that_cannot_be_read_is_not_replaced(site: Site, fake_crontab: Path) -> None:
    broken = site.root / "bin" / "crontab"
    broken.write_text("#!/bin/sh\necho 'crontab: permission denied' >&2\nexit 1\n")

    result = make(site, "install-cron", f"CONFIG={site.config}")

    assert result.returncode == 2
    assert "cannot read the crontab: crontab: permission denied" in result.stderr


def test_monitor_sh_passes_the_exit_code_on(site: Site) -> None:
    script = str(ROOT / "scripts" / "monitor.sh")
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(site.home)}

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([script, *argv], cwd=site.root, env=bare, capture_output=True, text=True, check=False)

    assert run().returncode == 2
    assert run("no-such-config.yaml").returncode == 78
    quiet = run(site.config.name)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert (site.log_dir.stat().st_mode & 0o777, (site.log_dir / "s3_upload.log").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )
    site.write([site.entry(monitored_directories=[str(site.root / "gone")])])
    assert run(site.config.name).returncode == 1


@contextlib.contextmanager
def cron_daemon() -> Iterator[None]:
    """Debian's cron while inside, and this user's crontab as it was afterwards."""
    before = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
    with subprocess.Popen(["cron", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        try:
            yield
        finally:
            daemon.kill()
            if before.returncode == 0:
                subprocess.run(["crontab", "-"], input=before.stdout, text=True, check=True)
            else:
                subprocess.run(["crontab", "-r"], capture_output=True, check=False)


@pytest.mark.real
@pytest.mark.timeout(400)
def test_a_real_cron_uploads_a_run(site: Site, server: S3Server) -> None:
    if not shutil.which("cron") or os.geteuid() != 0:
        skip_or_fail("needs Debian's cron, and root to start it")
    run = site.run_folder("250101_M01234_0001_AAAAA")
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "TMPDIR")
    settings = "".join(f"{name}={site.env[name]}\n" for name in names)
    with cron_daemon():
        subprocess.run(["crontab", "-"], input=settings, text=True, check=True)
        site.env["PATH"] = os.environ["PATH"]
        installed = make(site, "install-cron", f"CONFIG={site.config}", f"SCHEDULE={EVERY_MINUTE}")
        assert installed.returncode == 0, installed.stdout + installed.stderr
        last = f"runs/{run.name}/RTAComplete.txt"
        server.wait_for(lambda request: request.key == last and request.status == 200, timeout=300)
        server.wait_for(lambda request: request.operation == "ListObjectsV2", count=3, timeout=120)

    assert stored_under(server, f"runs/{run.name}/") == tree(run)
    assert BUCKET in site.config.read_text()
