"""Add the monitor to this user's crontab, or remove it; there is never more than one line per config.

`make install-cron CONFIG=FILE [SCHEDULE='*/10 * * * *']`, `make uninstall-cron [CONFIG=FILE]`.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARK = "# s3sync:"
_SCHEDULE = re.compile(r"@(hourly|daily|midnight|weekly|monthly|annually|yearly|reboot)|[\w*/,-]+( +[\w*/,-]+){4}")
_USAGE = "usage: make install-cron CONFIG=FILE [SCHEDULE='*/10 * * * *']"


class CronError(Exception):
    """An error in reading or writing the crontab."""


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if the crontab is as wanted, 2 for wrong usage, else 1 or the exit code of `check`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("install", "uninstall"))
    parser.add_argument("--config", default="", help="the monitor's config; without it, uninstall removes all")
    parser.add_argument("--schedule", default="*/10 * * * *", help="as in crontab(5); default every ten minutes")
    args = parser.parse_args(argv)
    try:
        return install(args.config, args.schedule) if args.action == "install" else uninstall(args.config)
    except CronError as error:
        print(f"install_cron: {error}", file=sys.stderr)
        return 1


def install(config: str, schedule: str) -> int:
    """Write the line, unless `check` finds a problem; return the exit code of `check` then."""
    if not config:
        print(f"install_cron: no config given ({_USAGE})", file=sys.stderr)
        return 2
    if not _SCHEDULE.fullmatch(schedule.strip()):
        advice = "five fields as in crontab(5), such as '*/10 * * * *', or @hourly"
        print(f"install_cron: {schedule!r} is not a schedule of cron (give {advice})", file=sys.stderr)
        return 2
    path = Path(config).resolve()
    read_crontab()  # if it cannot be read, there is nothing to check
    argv = ["check", "--config", str(path), "--cron"]  # a config that works in this shell may fail under cron
    checked = subprocess.run([sys.executable, "-m", "s3sync", *argv], cwd=ROOT, check=False)
    if checked.returncode:
        print("install_cron: not installed: fix the problems above first", file=sys.stderr)
        return checked.returncode
    line = cron_line(path, schedule)
    write_crontab([*without(read_crontab(), path), line])
    print(f"installed: {line}")
    print(f"next: `s3sync status --config {shlex.quote(str(path))}` shows what the first scan did")
    return 0


def uninstall(config: str) -> int:
    """Remove the line of this config, or of all configs."""
    before = read_crontab()
    after = without(before, Path(config).resolve() if config else None)
    if after != before:
        write_crontab(after)
    removed = len(before) - len(after)
    print(f"removed: {removed} line{'' if removed == 1 else 's'} of the crontab")
    return 0


def cron_line(config: Path, schedule: str) -> str:
    """Return the crontab line. Cron turns bare percent signs into line breaks, so they are escaped."""
    script = ROOT / "scripts" / "monitor.sh"
    command = f"{shlex.quote(str(script))} {shlex.quote(str(config))}".replace("%", r"\%")
    if not command.isprintable():
        raise CronError(f"a path in a crontab cannot have control characters: {command!r} (rename it)")
    return f"{schedule.strip()} {command} {mark(config)}"


def mark(config: Path) -> str:
    """Return what tells our line from others: a comment for the shell that cron starts."""
    return MARK + str(config).replace("%", r"\%")


def without(lines: Sequence[str], config: Path | None) -> list[str]:
    """Return the lines that are not ours, for this config or for any."""
    if config is None:
        return [line for line in lines if MARK not in line]
    return [line for line in lines if not line.endswith(mark(config))]


def read_crontab() -> list[str]:
    """Return the lines of the user's crontab; raises CronError if it cannot be read, which does not mean empty."""
    asked = _crontab("-l")
    if asked.returncode == 0:
        return asked.stdout.splitlines()
    if "no crontab" in asked.stderr.lower():
        return []
    raise CronError(f"cannot read the crontab: {asked.stderr.strip() or 'crontab -l failed'}")


def write_crontab(lines: Sequence[str]) -> None:
    """Replace the user's crontab. Raises CronError."""
    done = _crontab("-", text="".join(f"{line}\n" for line in lines))
    if done.returncode:
        raise CronError(f"cannot write the crontab: {done.stderr.strip()}")


def _crontab(word: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["crontab", word], input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CronError("no `crontab` on this machine (install cron, or use a systemd timer)") from None


if __name__ == "__main__":
    sys.exit(main())
