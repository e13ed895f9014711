"""Find out the environment in which cron runs the monitor, which differs from the shell that runs `check`."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from s3sync import processes
from s3sync.errors import StateError

_RELEVANT = re.compile(
    r"AWS_\w+|S3SYNC_\w+|(HTTPS?|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE", re.IGNORECASE
)
_ASSIGNMENT = re.compile(r"""\s*(["']?)(\w+)\1\s*=\s*(.*?)\s*""")
_SECONDS = 10.0  # for `crontab -l`
_MAIL_FOLDERS = "/usr/sbin:/usr/lib:/sbin"  # where sendmail is, besides PATH


def relevant_names(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the variables that set credentials, endpoint, proxy and the like."""
    return sorted(name for name, value in environ.items() if value and _RELEVANT.fullmatch(name))


def of_cron(environ: Mapping[str, str], config: Path) -> dict[str, str]:
    """Return the environment of a scan that cron starts from this user's crontab, or from /etc/cron.d.

    `scripts/monitor.sh` sets PATH.
    """
    settings = _pam(Path("/etc/environment")) | assignments(_crontab(environ), config)
    for path in sorted(Path("/etc/cron.d").glob("*")):
        with contextlib.suppress(OSError):
            lines = path.read_text("utf-8", "replace").splitlines()
            if any(str(config) in line for line in lines):
                settings |= assignments(lines, config)
    return build(settings)


def build(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with these settings of the machine and of the crontab; raises StateError."""
    try:
        user = pwd.getpwuid(os.geteuid())
    except KeyError:  # as in some containers
        raise StateError(
            f"user {os.geteuid()} has no name on this machine, so it has no crontab (use another user)",
            id="monitor.no-cron-user",
        ) from None
    usual = {"HOME": user.pw_dir, "LOGNAME": user.pw_name, "USER": user.pw_name, "SHELL": "/bin/sh"}
    return {**usual, **settings, "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}


def assignments(lines: Iterable[str], config: Path | None = None) -> dict[str, str]:
    """Return the variables that a crontab sets before the line for this config, or all of them without such a line."""
    found = {}
    for line in lines:
        if line.lstrip().startswith("#"):
            continue
        if config and str(config) in line.replace(r"\%", "%"):
            break
        if match := _ASSIGNMENT.fullmatch(line):
            value = match[3]
            is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            found[match[2]] = value[1:-1] if is_quoted else value
    return found


def can_mail(cron: Mapping[str, str], environ: Mapping[str, str]) -> bool:
    """Return whether cron can mail what a scan prints."""
    return cron.get("MAILTO") != "" and bool(
        shutil.which("sendmail", path=f"{environ.get('PATH', '')}:{_MAIL_FOLDERS}")
    )


def _crontab(environ: Mapping[str, str]) -> list[str]:
    with contextlib.suppress(OSError, ValueError, processes.TimeoutExpired):
        return processes.run_captured(["crontab", "-l"], environ, _SECONDS).stdout.splitlines()
    return []


def _pam(path: Path) -> dict[str, str]:
    """Return the variables that Debian's cron reads for all users, such as a proxy."""
    with contextlib.suppress(OSError):
        lines = (line.removeprefix("export ") for line in path.read_text("utf-8", "replace").splitlines())
        return {name: value for name, value in assignments(lines).items() if name != "PATH"}
    return {}
