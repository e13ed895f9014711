"""The words of the command line: commands, options, and what `--help` says of them."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from typing import TypeAlias

from s3sync.aws import argv as aws_argv
from s3sync.aws import client
from s3sync.slurm import client as slurm_client
from s3sync.state import log_dir
from s3sync.text import printable
from s3sync.transfer import bandwidth, hook

DEFAULT_LOG_DIR = str(log_dir.DEFAULT)
SBATCH_OPTIONS = "--sbatch_options"
SHELLS = ("bash", "zsh", "tcsh")  # that words can be completed in

_DESCRIPTION = """\
Puts Illumina sequencing runs into AWS S3 with the AWS CLI, and proves that
every byte arrived.
"""
_EXIT_CODES = """\
exit codes:
  0    done, or nothing to do
  1    a run or file failed, or did not verify
  2    wrong usage
  75   that run is being uploaded already
  78   a mistake in the config
  130  interrupted by Ctrl-C (143 by SIGTERM, 129 by SIGHUP)
"""
_UPLOAD_EXAMPLES = """\
examples:
  s3sync upload --local_path /data/RUN --bucket lab-runs
  s3sync upload --local_path RUN --bucket lab-runs --remote_path /2026 --cores 8
  s3sync upload --local_path RUN --bucket lab-runs --exclude_patterns '\\.jpg$'
  s3sync upload --local_path RUN --bucket lab-runs --dry_run
"""
_VERIFY_EXAMPLES = """\
examples:
  s3sync verify /data/RUN --bucket lab-runs
  s3sync verify /data/RUN --bucket lab-runs --remote_path /2026 --json
  s3sync verify /data/RUN --bucket lab-runs --manifest /archive/RUN.tsv
"""
_MONITOR_EXAMPLES = """\
examples:
  s3sync monitor --config /etc/s3sync.yaml
  s3sync monitor --config /etc/s3sync.yaml --dry_run
"""
_STATUS_EXAMPLES = """\
examples:
  s3sync status --config /etc/s3sync.yaml
  s3sync status --config /etc/s3sync.yaml RUN
  s3sync status --config /etc/s3sync.yaml --json
"""
_REPORT_EXAMPLES = """\
examples:
  s3sync report --config /etc/s3sync.yaml --output /var/www/html/s3sync
"""
_CHECK_EXAMPLES = """\
examples:
  s3sync check --config /etc/s3sync.yaml
  s3sync check --config /etc/s3sync.yaml --write
  s3sync check --config /etc/s3sync.yaml --submit
  s3sync check --config /etc/s3sync.yaml --cron
"""
_CLEANUP_EXAMPLES = """\
examples:
  s3sync cleanup --config /etc/s3sync.yaml                  (only lists)
  s3sync cleanup --config /etc/s3sync.yaml --older_than 90d --delete
  s3sync cleanup --config /etc/s3sync.yaml RUN --delete --yes
"""
_FORGET_EXAMPLES = """\
examples:
  s3sync forget --config /etc/s3sync.yaml RUN
"""
_TASK_EXAMPLES = """\
examples:
  s3sync upload --local_path /data/RUN --bucket lab-runs --executor slurm
"""
_ACL_HELP = f"the canned ACL, where the bucket's policy requires one: {', '.join(aws_argv.ACLS)}"
_STORAGE_HELP = "STANDARD (default), STANDARD_IA, INTELLIGENT_TIERING, GLACIER_IR, DEEP_ARCHIVE, ..."
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no other name


def parser() -> argparse.ArgumentParser:
    """Of the whole command line; what it parses has the command's name in `command`."""
    words = argparse.ArgumentParser(
        prog="s3sync",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    words.add_argument("--version", action="store_true", help="show the versions of s3sync, Python and the AWS CLI")
    words.add_argument("--print_completion", choices=SHELLS, help="print the script that completes words in a shell")
    commands = words.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    _add_upload(commands)
    _add_verify(commands)
    _add_monitor(commands)
    _add_status(commands)
    _add_report(commands)
    _add_check(commands)
    _add_cleanup(commands)
    _add_forget(commands)
    _add_task(commands)
    return words


def _add_command(commands: Commands, name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=description[0].lower() + description[1:].split(".")[0],
        description=description,
        epilog=f"{epilog}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_monitor(commands: Commands) -> None:
    parser = _add_command(
        commands, "monitor", "Upload every new run that is complete. This is what cron runs.", _MONITOR_EXAMPLES
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="JSON or YAML; see conf/s3sync.sample.yaml")
    parser.add_argument("--dry_run", action="store_true", help="say what would be uploaded, and why not the rest")
    parser.add_argument("--json", action="store_true", help="what came of it as one JSON object on stdout")


def _add_status(commands: Commands) -> None:
    parser = _add_command(commands, "status", "Show all runs: their state and the reason.", _STATUS_EXAMPLES)
    parser.add_argument("run", nargs="*", metavar="RUN", help="all there is to know of these runs")
    parser.add_argument("--config", required=True, metavar="FILE", help="the monitor's config")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_report(commands: Commands) -> None:
    parser = _add_command(
        commands, "report", "Write a page that shows all runs: how they are, and how it went lately.", _REPORT_EXAMPLES
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the monitor's config")
    parser.add_argument(
        "--output",
        type=_path,
        required=True,
        metavar="DIR",
        help="the folder that gets index.html, for all users to read",
    )
    parser.add_argument("--json", action="store_true", help="what came of it as one JSON object on stdout")


def _add_check(commands: Commands) -> None:
    parser = _add_command(
        commands, "check", "Look whether all is right for the monitor, before cron does.", _CHECK_EXAMPLES
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the monitor's config")
    parser.add_argument(
        "--write", action="store_true", help="also begin and abort a multipart upload at each destination"
    )
    parser.add_argument(
        "--submit",
        action="store_true",
        help="also submit a job to each node of the Slurm cluster that looks around there",
    )
    parser.add_argument("--cron", action="store_true", help="look with the environment that cron gives to the monitor")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_cleanup(commands: Commands) -> None:
    parser = _add_command(
        commands, "cleanup", "List the runs that S3 holds for certain, and delete them here.", _CLEANUP_EXAMPLES
    )
    parser.add_argument("run", nargs="*", metavar="RUN", help="only these runs")
    parser.add_argument("--config", required=True, metavar="FILE", help="the monitor's config")
    parser.add_argument(
        "--older_than", type=_age, default="30d", metavar="AGE", help="completed so long ago: 30d (default), 72h"
    )
    parser.add_argument("--delete", action="store_true", help="delete what is identical in S3 now; asks first")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="what came of it as one JSON object on stdout")


def _add_forget(commands: Commands) -> None:
    parser = _add_command(
        commands,
        "forget",
        "Set the state log of a run aside whose folder is gone. Nothing is deleted.",
        _FORGET_EXAMPLES,
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="the runs that `status` shows as gone")
    parser.add_argument("--config", required=True, metavar="FILE", help="the monitor's config")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_task(commands: Commands) -> None:
    parser = _add_command(
        commands, "task", "Do a part of an upload on a node. This is what Slurm runs, not for people.", _TASK_EXAMPLES
    )
    parser.add_argument("folder", metavar="FOLDER", help="the upload's work folder, LOG_DIR/slurm/...")
    parser.set_defaults(json=False)


def _add_upload(commands: Commands) -> None:
    parser = _add_command(
        commands, "upload", "Put one run into a bucket, and prove that every file arrived.", _UPLOAD_EXAMPLES
    )
    add = parser.add_argument
    add(
        "--local_path",
        type=_path,
        required=True,
        metavar="RUN",
        help="the run folder, or an analysis in it: RUN/Analysis/1",
    )
    _add_common(parser)
    add("--threads", type=_positive, default=4, metavar="N", help="requests at once in each process (default 4)")
    add(
        "--max_processes",
        type=_positive,
        metavar="N",
        help="aws processes at once while that leaves the CPU idle (default four times --cores)",
    )
    add("--skip_check", action="store_true", help="upload the folder even if it is no complete run")
    add("--recheck", action="store_true", help="ask S3 although the log says completed; what differs is sent again")
    _add_log_dir(parser)
    add(
        "--verify",
        choices=("etag", "size"),
        default="etag",
        help="what proves a file: S3's ETag against the bytes on disk (default), or the size alone",
    )
    add(
        "--readback",
        choices=("auto", "head-object", "list-objects-v2"),
        default="auto",
        help="how S3 is asked what it has (default auto: the cheaper)",
    )
    _add_storage(parser)
    add(
        "--max_bandwidth",
        type=_rate,
        metavar="RATE",
        help="what all processes together may send, e.g. 50MB/s (default: no limit)",
    )
    add(
        "--transfer_client",
        choices=("default", "crt"),
        default="default",
        help="crt: the one in C of the AWS CLI version 2, which takes less CPU (default: default)",
    )
    add(
        "--stall_minutes",
        type=_minutes,
        default=client.STALL_SECONDS / 60,
        metavar="N",
        help="end an aws process that moves no bytes for so long (default %(default)g)",
    )
    add(
        "--nice",
        type=int,
        choices=range(20),
        default=0,
        metavar="N",
        help="step back at the CPU, 0 to 19 (default 0)",
    )
    add(
        "--io_priority",
        choices=("normal", "low", "idle"),
        default="normal",
        help="step back at the disks (default normal)",
    )
    add(
        "--completion_object",
        action="store_true",
        help="at the end write s3sync.complete.json into the run's prefix: files, sizes, ETags, verdict",
    )
    add(
        "--on_complete",
        type=_hook,
        metavar="COMMAND",
        help="run this at the end, without a shell: the run is in S3SYNC_RUN_ID and the like, the log is its stdin",
    )
    add(
        "--executor",
        choices=("local", "slurm"),
        default="local",
        help="slurm: send it from nodes of the cluster that this machine belongs to (default local)",
    )
    add("--nodes", type=_positive, metavar="N", help=f"nodes at once for it (default {slurm_client.DEFAULT_NODES})")
    add(SBATCH_OPTIONS, metavar="WORDS", help="more for sbatch, as one word: '--partition=short --time=4:00:00'")
    add("--dry_run", action="store_true", help="say what would be sent; write nothing")


def _add_verify(commands: Commands) -> None:
    parser = _add_command(
        commands, "verify", "Compare a run on disk with S3, now, whatever the log says.", _VERIFY_EXAMPLES
    )
    parser.add_argument("run", type=_path, metavar="RUN", help="the run folder, or an analysis in it")
    _add_common(parser)
    _add_log_dir(parser)
    parser.add_argument("--skip_check", action="store_true", help="compare the folder even if it is no run")
    parser.add_argument(
        "--manifest",
        type=_path,
        metavar="FILE",
        help="write path, size, MD5, ETag and key of what is proven; FILE.md5 is for md5sum -c",
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    """What `upload` and `verify` share."""
    add = parser.add_argument
    add("--bucket", required=True, metavar="B", help="the bucket's name")
    add("--remote_path", default="/", metavar="PATH", help="where in the bucket (default /): PATH/RUN/...")
    add("--cores", type=_cores, metavar="N", help="aws processes at once (default ALL that may be used)")
    add(
        "--exclude_patterns",
        nargs="+",
        action="extend",
        default=[],
        metavar="RE",
        help="leave out files whose RUN/path/in/run one of these regular expressions is found in",
    )
    add(
        "--expected_bucket_owner",
        type=_account,
        default="",
        metavar="ACCOUNT",
        help="the 12 digits of the account that has to own the bucket",
    )
    add("--aws_command", metavar="FILE", help="the AWS CLI (default: beside this Python, else on PATH)")
    add("--json", action="store_true", help="the result as one JSON object on stdout")


def _add_log_dir(parser: argparse.ArgumentParser) -> None:
    otherwise = "where this user cannot write that, ~/.local/state/s3sync"
    parser.add_argument(
        "--log_dir", type=_path, metavar="DIR", help=f"state logs (default {DEFAULT_LOG_DIR}; {otherwise})"
    )


def _add_storage(parser: argparse.ArgumentParser) -> None:
    """How S3 is to store the objects."""
    add = parser.add_argument
    add("--sse", choices=aws_argv.SSE, default="", help="how S3 is to encrypt them (default: as the bucket does)")
    add("--sse_kms_key_id", default="", metavar="KEY", help="the KMS key for --sse aws:kms")
    add("--storage_class", choices=aws_argv.STORAGE_CLASSES, default="", metavar="CLASS", help=_STORAGE_HELP)
    add("--acl", choices=aws_argv.ACLS, default="", metavar="ACL", help=_ACL_HELP)


def _path(text: str) -> str:
    """One that is empty, as of a variable that is not set in a script, would be the current folder."""
    if not text:
        raise ValueError
    return text


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _cores(text: str) -> int | None:
    return None if text.upper() == "ALL" else _positive(text)


def _rate(text: str) -> bandwidth.BandwidthSchedule:
    return bandwidth.parse_schedule(text)


def _minutes(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def _age(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,6})([dh])", text)
    if not match:
        raise ValueError
    return int(match[1]) * (86400.0 if match[2] == "d" else 3600.0)


def _account(text: str) -> str:
    if text and not aws_argv.ACCOUNT.fullmatch(text):  # the default comes by here, too
        raise ValueError
    return text


def _hook(text: str) -> hook.Hook:
    """Words as a shell would part them; the program by its path, or found on PATH."""
    program, *words = shlex.split(text)
    found = shutil.which(program)
    if not found:
        raise argparse.ArgumentTypeError(f"no such program: {printable(program)} (give its path)")
    return hook.Hook((os.path.abspath(found), *words))


_hook.__name__ = "command"
_path.__name__ = "path"
_rate.__name__ = "rate such as 50MB/s"  # argparse names the type in its complaint
_age.__name__ = "age such as 30d or 72h"
_minutes.__name__ = "number of minutes"
_account.__name__ = "account of 12 digits"
_positive.__name__ = _cores.__name__ = "number of 1 or more"


def underscored(argv: Sequence[str]) -> list[str]:
    """`--local-path` is as good as `--local_path`: hyphens in the names of options become underscores.

    The word after `--sbatch_options` is joined to it as it is: argparse would take `--time=1-0` for an option of ours.
    """
    words: list[str] = []
    for word in argv:
        if words and words[-1] == SBATCH_OPTIONS:
            words[-1] += f"={word}"
            continue
        name, equals, value = word.partition("=")
        is_option = name.startswith("--") and len(name) > 2
        words.append("--" + name[2:].replace("-", "_") + equals + value if is_option else word)
    return words
