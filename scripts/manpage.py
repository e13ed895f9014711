"""Generate docs/s3sync.1, the manual page, from the argument parser: `make man`.

The page is made from what the parser holds, not from what it prints: that depends on Python and on the terminal.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from s3sync.commands.command_line import build_parser, subparsers  # noqa: E402

PAGE = ROOT / "docs" / "s3sync.1"
_OPTIONAL = {"*": "[{} ...]", "?": "[{}]", "+": "{} ..."}  # how often a word may come, and how that is written
_ESCAPES = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "~": r"\(ti", "^": r"\(ha"})
_HEADER = r""".\" Made by `make man` from the help of the command line: change those, not this file.
.TH S3SYNC 1 "" "s3sync" "User Commands"
.ad l
.nh
.SH NAME
s3sync \- upload Illumina sequencing runs to AWS S3, and prove that every byte arrived
.SH SYNOPSIS
"""
_FOOTER = r""".SH ENVIRONMENT
Credentials and settings are those of the AWS CLI: the environment, profiles, SSO, roles of the instance.
.TP
.BR AWS_ACCESS_KEY_ID ", " AWS_SECRET_ACCESS_KEY ", " AWS_SESSION_TOKEN
Credentials.
.B AWS_ACCESS_KEY
and
.B AWS_SECRET_KEY
are understood, too.
.TP
.BR AWS_PROFILE ", " AWS_CONFIG_FILE ", " AWS_SHARED_CREDENTIALS_FILE
The profile, and where it stands. These files are only read.
.TP
.B AWS_ENDPOINT_URL
Another server than that of AWS.
.TP
.B HTTPS_PROXY
The proxy on the way to it.
.TP
.BR S3SYNC_SLACK_LOG_WEBHOOK ", " S3SYNC_SLACK_ALERT_WEBHOOK ", " S3SYNC_WEBHOOK ", " S3SYNC_PING_URL
Whom the monitor tells, instead of in its config. These URLs are secrets.
.TP
.B TMPDIR
Where the folders of links and the lists are made that the AWS CLI uploads; they hold no data.
.SH FILES
.TP
.I LOG_DIR/uploads/RUN.upload.log.json
The state of a run: which of its files are verified in S3. LOG_DIR is by default
.IR /var/log/s3_upload .
.TP
.I LOG_DIR/s3_upload.log
The log of the monitor, rotated at midnight; five old ones are kept.
.TP
.I /etc/s3sync.yaml
The config of the monitor, by custom: it is named by
.BR \-\-config .
.TP
.IR ~/.aws/config ", " ~/.aws/credentials
Profiles and settings of the AWS CLI.
.SH SEE ALSO
.BR aws (1),
.BR md5sum (1)
"""


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(build_parser()))
    return 0


def page(parser: argparse.ArgumentParser) -> str:
    """Return the manual page of a command line, in the language of man(7)."""
    return _HEADER + "\n".join(_lines(parser)) + "\n" + _FOOTER


def _lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    commands = subparsers(parser)
    for name in commands:
        yield f".B s3sync {name}"
        yield _usage(commands[name])
        yield ".br"
    yield ".B s3sync"
    yield " | ".join(_bold(_name(action)) for action in _options(parser))
    yield ".SH DESCRIPTION"
    yield _text(parser.description or "")
    yield "Options can be written with underscores, too:"
    yield rf"{_bold('--dry_run')} is {_bold('--dry-run')}."
    yield from _list_of(_options(parser))
    yield ".SH COMMANDS"
    for name, command in commands.items():
        yield from _command(name, command)
    yield ".SH EXIT STATUS"
    for code, meaning in re.findall(r"^  (\d+) +(.+)$", parser.epilog or "", re.MULTILINE):
        yield from (".TP", f".B {code}", _text(meaning))


def _command(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    yield f".SS s3sync {name}"
    yield _text(command.description or "")
    yield from _list_of([*_places(command), *_options(command)])
    examples = re.findall(r"^  (s3sync .+)$", command.epilog or "", re.MULTILINE)
    if examples:
        yield from (".PP", "For example:", ".PP", ".nf", ".RS 2")
        yield from (_text(example) for example in examples)
        yield from (".RE", ".fi")


def _list_of(actions: list[argparse.Action]) -> Iterator[str]:
    for action in actions:
        values = _values(action)
        yield from (".TP", _bold(_name(action)) + (f" {values}" if values else ""))
        yield _text(_help(action) + (" (required)" if action.option_strings and action.required else ""))


def _usage(command: argparse.ArgumentParser) -> str:
    """Return the required options, and a placeholder for the others."""
    required = [f"{_bold(_name(a))} {_values(a)}" for a in _options(command) if a.required]
    places = [_OPTIONAL.get(str(a.nargs), "{}").format(_italic(_name(a))) for a in _places(command)]
    return " ".join([*places, *required, "[options]"])


def _options(command: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the options, without --help."""
    return [action for action in command._actions if action.option_strings and action.dest != "help"]  # noqa: SLF001


def _places(command: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in command._actions if not action.option_strings]  # noqa: SLF001


def _name(action: argparse.Action) -> str:
    return action.option_strings[0] if action.option_strings else str(action.metavar or action.dest)


def _values(action: argparse.Action) -> str:
    """Return the names of an option's values."""
    if action.nargs == 0 or not action.option_strings:
        return ""
    if action.metavar is None and action.choices:
        return "|".join(_italic(str(choice)) for choice in action.choices)
    return _italic(str(action.metavar or action.dest.upper())) + (" ..." if action.nargs == "+" else "")


def _help(action: argparse.Action) -> str:
    return (action.help or "") % {**vars(action), "prog": "s3sync"}


def _bold(text: str) -> str:
    return rf"\fB{_text(text)}\fR"


def _italic(text: str) -> str:
    return rf"\fI{_text(text)}\fR"


def _text(text: str) -> str:
    """Return a text as one line in which roff sees no commands."""
    line = " ".join(text.split()).translate(_ESCAPES)
    return rf"\&{line}" if line.startswith(".") else line


if __name__ == "__main__":
    sys.exit(main())
