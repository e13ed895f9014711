"""One line of what the AWS CLI complained of: S3's own code, or the CLI's text, without the names in front of it.

Names of files, keys and buckets may contain any text: `NoCredentials.txt`, `Forbidden/`, `SlowDown`. So a complaint is
recognized by its code or by how its text begins, and never by what stands somewhere in a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_PREFIX = re.compile(r"^(aws: \[ERROR\]: ?|fatal error: )+")
_FAILED = "upload failed: "
_TO = " to s3://"
_API = re.compile(
    r"An error occurred \((?P<code>[\w.-]+)\)(?: when calling the (?P<operation>\w+) operation)?"
    r"(?: \(reached max retries: \d+\))?:? ?(?P<message>.*)"
)
_XML = re.compile(  # S3's own answer, as the client in C has it
    r"(?:AWS_ERROR_S3_[^<]*)?<(?:\?xml|Error).*?<Code>(?P<code>[\w.-]+)</Code>(?:.*?<Message>(?P<message>[^<]*))?"
)
_NO_COMPLAINT = ("warning: ", "upload: ")


class ErrorLine(NamedTuple):
    """What was said: by S3 or another service (`code`, and which operation it refused), or by the CLI itself.

    `text` is all of it; `message` what stands behind a code. Without a code both are the same.
    """

    text: str
    message: str
    code: str = ""
    operation: str = ""


def parse_line(line: str) -> ErrorLine | None:
    """The complaint in a line that the CLI printed; None if there is none, or if it cannot be told from a name."""
    text = strip_prefix(line)
    if text.startswith(_NO_COMPLAINT):
        return None
    if text.startswith(_FAILED):
        text = strip_prefix(_behind_names(text))
    return parse_text(text) if text else None


def parse_text(text: str) -> ErrorLine:
    """A complaint that stands alone, without a name in front of it."""
    if match := _API.match(text):
        return ErrorLine(text, match["message"], match["code"], match["operation"] or "")
    if match := _XML.match(text):
        return ErrorLine(text, match["message"] or "", match["code"])
    return ErrorLine(text, text)


def error_codes(errors: Sequence[str]) -> set[str]:
    """The codes that S3 gave, e.g. `AccessDenied`; the number of the status where an answer had no body."""
    return {complaint.code for complaint in map(parse_line, errors) if complaint} - {""}


def strip_prefix(line: str) -> str:
    """Newer versions 2 put `aws: [ERROR]: ` before their complaints."""
    return _PREFIX.sub("", line).strip()


def _behind_names(failed: str) -> str:
    """The reason in `upload failed: FILE to s3://BUCKET/KEY REASON`; empty if it is not clear where it begins.

    The key ends as the file's path does, so it ends where most of the two is the same.
    """
    file, found, rest = failed.partition(_TO)  # no path has two slashes in a row
    ends = [
        match.start() for match in re.finditer(" ", rest) if file.endswith(rest[: match.start()].rpartition("/")[2])
    ]
    path = file.removeprefix(_FAILED).split("/")
    most, end = max(((_in_common(path, rest[:end].split("/")), -end) for end in ends), default=(0, 0))
    return rest[1 - end :] if found and most else ""


def _in_common(path: Sequence[str], key: Sequence[str]) -> int:
    """So many names at the end of both are the same."""
    pairs = enumerate(zip(reversed(path), reversed(key), strict=False))
    return next((number for number, (one, other) in pairs if one != other), min(len(path), len(key)))
