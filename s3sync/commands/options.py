"""Define the options that several commands share, and the types of their values."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import shutil
from collections.abc import Callable
from typing import Any, TypeAlias

from s3sync.aws import destination as aws_destination
from s3sync.aws import settings
from s3sync.patterns import Pattern
from s3sync.state import log_dir
from s3sync.text import printable
from s3sync.transfer.request import bandwidth, hook, storage_classes

DEFAULT_LOG_DIR = str(log_dir.DEFAULT)


Container: TypeAlias = "argparse._ActionsContainer"  # noqa: SLF001 - a parser, or a group of its options


def adder(container: Container) -> Callable[..., argparse.Action]:
    """Return a function that adds an option like `add_argument`; `--dry-run` can also be written `--dry_run`."""

    def add(name: str, **settings: Any) -> argparse.Action:
        return container.add_argument(*dict.fromkeys((name, f"--{name[2:].replace('-', '_')}")), **settings)

    return add


def add_config(
    container: Container,
    help: str = "the config (default: $S3SYNC_CONFIG, else ~/.config/s3sync.yaml, else /etc/s3sync.yaml)",  # noqa: A002
) -> None:
    """Add --config."""
    container.add_argument("--config", type=path, metavar="FILE", help=help)


def add_json(container: Container) -> None:
    """Add --json."""
    container.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")


def add_destination(container: Container) -> None:
    """Add the options that name a place in S3."""
    add = adder(container)
    add("--bucket", metavar="B", help="the bucket's name")
    add(
        "--remote-path",
        default="/",
        metavar="PATH",
        help="where in the bucket (default /): PATH/RUN/...",
    )
    add(
        "--expected-bucket-owner",
        type=account,
        default="",
        metavar="ACCOUNT",
        help="the 12 digits of the AWS account that must own the bucket",
    )
    add("--profile", type=profile_name, default="", metavar="NAME", help="the profile of the AWS config to use")
    add("--region", type=region, default="", metavar="REGION", help="the AWS region of the bucket")


def profile_of(
    args: argparse.Namespace, usual: aws_destination.Profile = aws_destination.FROM_ENVIRONMENT
) -> aws_destination.Profile:
    """Return --profile and --region together; `usual` provides what the user left out."""
    return aws_destination.Profile(args.profile or usual.name, args.region or usual.region)


def add_exclude_patterns(container: Container) -> None:
    """Add --exclude-patterns."""
    adder(container)(
        "--exclude-patterns",
        nargs="+",
        action="extend",
        default=[],
        metavar="RE",
        help="leave out files if one of these regular expressions is found in their RUN/path/in/run",
    )


def add_cores(container: Container) -> None:
    """Add --cores."""
    container.add_argument(
        "--cores", type=cores, metavar="N", help="aws processes at once (default ALL: one for each usable core)"
    )


def add_max_bandwidth(container: Container, verb: str) -> None:
    """Add --max-bandwidth; `verb` is what the processes do with the bytes."""
    adder(container)(
        "--max-bandwidth",
        type=rate,
        metavar="RATE",
        help=f"what all processes together may {verb}, e.g. 50MB/s (default: no limit)",
    )


def add_stall_minutes(container: Container) -> None:
    """Add --stall-minutes."""
    adder(container)(
        "--stall-minutes",
        type=minutes,
        default=settings.STALL_SECONDS / 60,
        metavar="N",
        help="terminate an aws process that transfers nothing for this long (default %(default)g)",
    )


def add_nice(container: Container) -> None:
    """Add --nice."""
    container.add_argument(
        "--nice",
        type=niceness,
        choices=range(20),
        default=0,
        metavar="N",
        help="lower the CPU priority: 0 to 19 (default 0)",
    )


def add_program(container: Container) -> None:
    """Add the options for logs, the AWS CLI and the output."""
    otherwise = "where this user cannot write that, ~/.local/state/s3sync"
    add = adder(container)
    add(
        "--log-dir",
        type=path,
        metavar="DIR",
        help=f"state logs (default {DEFAULT_LOG_DIR}; {otherwise})",
    )
    add(
        "--aws-command",
        metavar="FILE",
        help="the AWS CLI (default: beside this Python, else on PATH)",
    )
    add_json(container)


def path(text: str) -> str:
    """Parse a path. An empty one or a literal `~` must be a mistake: they would name the current folder and `./~`."""
    if not text:
        raise argparse.ArgumentTypeError("is empty (is a variable not set?)")
    if text.startswith("~") and not os.path.lexists(text):
        raise argparse.ArgumentTypeError(f"{text!r}: the shell expands `~` only outside quotes (use $HOME inside)")
    return text


def positive(text: str) -> int:
    """Parse a whole number of 1 or more."""
    if not re.fullmatch(r"\+?[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def cores(text: str) -> int | None:
    """Parse a number of cores; ALL gives None."""
    if text.upper() == "ALL":
        return None
    if not re.fullmatch(r"\+?[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number of 1 or more, nor ALL")
    return int(text)


def niceness(text: str) -> int:
    """Parse a niceness."""
    if not re.fullmatch(r"[0-9]{1,2}", text) or int(text) > 19:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 19")
    return int(text)


def rate(text: str) -> bandwidth.BandwidthSchedule:
    """Parse a rate such as 50MB/s."""
    try:
        return bandwidth.parse_schedule(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate with its unit, such as 50MB/s") from None


def minutes(text: str) -> float:
    """Parse a number of minutes."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")
    return number


def age(text: str) -> float:
    """Parse an age such as 30d or 72h; returns seconds."""
    match = re.fullmatch(r"([0-9]{1,6})([dh])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age in days or hours, such as 30d or 72h")
    return int(match[1]) * (86400.0 if match[2] == "d" else 3600.0)


def account(text: str) -> str:
    """Parse the id of an AWS account, which may be empty."""
    if text and not aws_destination.ACCOUNT.fullmatch(text):  # argparse parses the default, too
        raise argparse.ArgumentTypeError(f"{text!r} is not an account id of 12 digits")
    return text


def profile_name(text: str) -> str:
    """Parse the name of a profile; an empty one leaves it to the environment."""
    if not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a profile in the AWS config")
    return text


def region(text: str) -> str:
    """Parse the name of a region; an empty one leaves it to the profile or the environment."""
    if text and not aws_destination.REGION.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an AWS region such as eu-west-2")
    return text


def class_rule(text: str) -> storage_classes.ClassRule:
    """Parse a regular expression and a storage class: RE=CLASS."""
    pattern, _, name = text.rpartition("=")
    if name not in aws_destination.STORAGE_CLASSES:
        known = ", ".join(aws_destination.STORAGE_CLASSES)
        raise argparse.ArgumentTypeError(f"{text!r} does not end in = and a class that the AWS CLI knows: {known}")
    if not pattern:
        raise argparse.ArgumentTypeError(
            f"{text!r} has no regular expression before the = (for all files, use --storage-class)"
        )
    try:
        return storage_classes.ClassRule(Pattern(pattern), name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{pattern!r} is not a regular expression: {error}") from None


def command(text: str) -> hook.Hook:
    """Split a command as a shell would; its program is a path, or found on PATH."""
    try:
        argv = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a command: {error}") from None
    if not argv:
        raise argparse.ArgumentTypeError("is empty (is a variable not set?)")
    program, *arguments = argv
    found = shutil.which(program)
    if not found:
        raise argparse.ArgumentTypeError(f"no such program: {printable(program)} (give its path)")
    return hook.Hook((os.path.abspath(found), *arguments))
