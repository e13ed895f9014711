"""Read the text of the config file."""

from __future__ import annotations

import errno
import os
import re
import shlex
from pathlib import Path

from s3sync.errors import ConfigError
from s3sync.files import read_limited
from s3sync.text import printable

MAX_CONFIG_BYTES = 256 * 1024
_LINE_SEPARATORS = re.compile("[\x85\u2028\u2029]")  # YAML ends a line there, editors do not


def read_config(path: Path) -> tuple[str, int]:
    """Return the text of the file, and the mode bits of its group and others. Raises ConfigError."""
    file = printable(str(path))
    try:
        content = read_limited(path, MAX_CONFIG_BYTES)
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise _unreadable(path, file, error) from None
    if len(content) > MAX_CONFIG_BYTES:
        size = f"{MAX_CONFIG_BYTES:,} bytes"
        raise ConfigError(f"{file}: is larger than {size} (is this the config file?)", id="config.too-large")
    return _decode(content, file), mode & 0o077


def _unreadable(path: Path, file: str, error: OSError | ValueError) -> ConfigError:
    number, why = None, str(error)
    if isinstance(error, OSError):
        number, why = error.errno, error.strerror or why
    if number in (errno.ENOENT, errno.ENOTDIR):
        return ConfigError(f"{file}: no such file (check --config; `s3sync init` writes one)", id="config.missing")
    if number == errno.EISDIR or os.path.isdir(path):
        return ConfigError(f"{file}: is a folder (give the config file in it)", id="config.is-folder")
    if number == errno.EINVAL:
        return ConfigError(f"{file}: is not a regular file (give the config file)", id="config.not-a-file")
    if number in (errno.EACCES, errno.EPERM):
        advice = f"run s3sync as the owner of the file, or see `namei -l {shlex.quote(file)}`"
        return ConfigError(f"{file}: cannot be read: {why} ({advice})", id="config.permission-denied")
    return ConfigError(f"{file}: cannot be read: {why} (check --config)", id="config.unreadable")


def _decode(content: bytes, file: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
        raise ConfigError(f"{file}: is UTF-16, or not text (save it as UTF-8)", id="config.not-text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}:1: is not UTF-8 (save the file as UTF-8)", id="config.not-utf8") from None
    if found := _LINE_SEPARATORS.search(text):
        line, name = text.count("\n", 0, found.start()) + 1, f"U+{ord(found[0]):04X}"
        what = f"has the invisible line separator {name} (delete it)"
        raise ConfigError(f"{file}:{line}:1: {what}", id="config.line-separator")
    return text
