"""Hold the result of an `aws` process that has ended.

Output and exit code are hints, never proof: some versions exit with 0 after a failed PUT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from s3sync.aws.causes import Cause
from s3sync.aws.diagnosis import describe_exit_code, fatal_error_in, strip_prefix
from s3sync.errors import AwsError

CHECK_INSTALLATION = "check the installation, or --aws-command"
_SPACE = re.compile(r"[ \t\n\r]*")
_END_OF_LIST = re.compile(r"\][ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class AwsResult:
    """An `aws` process that has ended: its options, and its last lines of errors, printable and without secrets.

    `killed_reason` says why this program ended it, or is empty. A killed process may have done half of its work.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    errors: tuple[str, ...]
    killed_reason: str = ""

    @property
    def succeeded(self) -> bool:
        """Return whether it ended by itself and reports success. A killed process may report success, too."""
        return self.returncode == 0 and not self.killed_reason

    @property
    def reason(self) -> str:
        """Return why it was ended, or its last error, or what its exit code means."""
        if self.killed_reason:
            return f"aws {self.killed_reason}, so it was terminated"
        lines = (strip_prefix(line) for line in reversed(self.errors))
        return next(filter(None, lines), "") or describe_exit_code(self.returncode)

    def json(self) -> Any:
        """Return the JSON that it printed; None if it printed nothing. Raises AwsError for other text."""
        if not self.stdout.strip():
            return None
        try:
            return json.loads(self.stdout)
        except (ValueError, RecursionError) as error:
            raise self._not_json(error) from error

    def iterate_json(self) -> Iterator[Any]:
        """Yield the elements of the JSON list that it printed; nothing if it printed nothing, or null.

        Each is parsed when it is needed, because all of them take several times the memory of their text. Raises
        AwsError as `json` does, and TypeError for a value that cannot be iterated over.
        """
        try:
            text = self.stdout.decode("utf-8", "surrogatepass")  # as `json.loads` does
        except UnicodeDecodeError as error:
            raise self._not_json(error) from error
        if not text.lstrip().startswith("["):
            yield from self.json() or ()
            return
        decoder = json.JSONDecoder()
        position = _skip_space(text, text.index("[") + 1)
        is_over = text.startswith("]", position)
        try:
            while not is_over:
                element, position = decoder.raw_decode(text, position)
                yield element
                position = _skip_space(text, position)
                is_over = not text.startswith(",", position)
                position = position if is_over else _skip_space(text, position + 1)
        except (json.JSONDecodeError, RecursionError) as error:
            raise self._not_json(error) from error
        if not _END_OF_LIST.fullmatch(text, position):
            raise self._not_json(json.JSONDecodeError("Expecting ',' or ']', then the end", text, position))

    def to_error(self, target: str, fallback: Cause | None = None) -> AwsError:
        """Return the error of a failure that a retry would not change: its cause, else `fallback`, else its reason."""
        known, error = fatal_error_in(self.errors)
        if cause := known or fallback:
            return cause.to_error(target, error or self.reason)
        return AwsError(f"{self._command} failed for {target}: {self.reason}", id="aws.command-failed")

    def _not_json(self, error: Exception) -> AwsError:
        text = f"{self._command} printed something other than JSON: {error} ({CHECK_INSTALLATION})"
        return AwsError(text, id="aws.bad-output")

    @property
    def _command(self) -> str:
        return f"aws {' '.join(self.argv[:2])}"


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
