"""Parse what `aws s3 cp` prints about the files of a batch."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from s3sync.aws import causes, client, diagnosis
from s3sync.aws.destination import Destination
from s3sync.transfer.batches import Batch

MAX_CONSECUTIVE_FAILURES = 20  # then the batch is ended: each failure may cost minutes of timeouts
_MAX_FAILURES_WITHOUT_S3 = 4  # if S3 cannot be reached, which affects all files alike
_CANCELLED = " AWS_ERROR_S3_CANCELED"  # from the client in C, for files that it drops when it is terminated
_KEPT_LINES = 20  # error lines of a batch that are searched for a cause


class FailureLines:
    """Finds the lines `upload failed: FILE to s3://BUCKET/KEY REASON` for the files of a batch.

    Lines are parsed as they were printed, because file names are; `sanitize` makes a reason safe to show.
    """

    def __init__(self, destination: Destination, run_id: str, batch: Batch, sanitize: Callable[[str], str]) -> None:
        self.by_path: dict[str, str] = {}
        self.error_lines: deque[diagnosis.ErrorLine] = deque(maxlen=_KEPT_LINES)  # the last ones, without file names
        self.unreachable = ""  # the last line about S3 being out of reach; empty once it was reached again
        self.in_a_row = 0  # failures since the last file that was uploaded
        self._denied_in_a_row = 0  # of these, how many S3 may deny because of their keys
        self._last = ""
        self._sanitize = sanitize
        self._paths = {file.path for file in batch.files}
        # The CLI prints a line break in a name as it is, so the rest of the name looks like another line.
        self._torn = tuple(part for path in self._paths if "\n" in path for part in path.split("\n")[1:] if part)
        url = re.escape(destination.url(run_id))
        self._line = re.compile(rf"upload failed: .* to {url}(?P<rest>.*)")

    def note_success(self) -> None:
        """Note that a file was uploaded."""
        self.unreachable = ""
        self.in_a_row = self._denied_in_a_row = 0

    def parse(self, line: str) -> bool:
        """Parse a line; return whether it reports the failure of a file."""
        match = self._line.match(line)
        if not match:
            if not line.startswith(self._torn):
                self._note(diagnosis.parse_line(self._sanitize(line)), is_about_file=False)
            return False
        rest = match["rest"]
        if _CANCELLED in rest:
            return False
        self.in_a_row += 1
        ends = (blank.start() for blank in re.finditer(" ", rest))
        end = max((end for end in ends if rest[:end] in self._paths), default=None)
        if end is not None:
            self._last = self.by_path[rest[:end]] = self._sanitize(rest[end + 1 :])
            self._note(diagnosis.parse_text(diagnosis.strip_prefix(self._last)))
        return True

    @property
    def is_hopeless(self) -> bool:
        """Return whether too many files failed in a row to try the rest of the batch.

        Denials do not count: they are quick, and the next files may be allowed.
        """
        limit = _MAX_FAILURES_WITHOUT_S3 if self.unreachable else MAX_CONSECUTIVE_FAILURES
        return self.in_a_row - self._denied_in_a_row >= limit

    def fatal_cause(self) -> tuple[causes.Cause | None, str]:
        """Return a cause that makes sending more futile, and the CLI's message about it."""
        cause, message = diagnosis.fatal_error(self.error_lines)
        if not cause and self._all_match(diagnosis.CHECKSUM_MISMATCH):
            return causes.CHECKSUMS, self.error_lines[-1].text
        return cause, message

    def last_error(self, ended: client.AwsResult) -> str:
        """Return the reason for files that no line names, with the last failure if it was why we ended the process."""
        return f"{ended.reason}: {self._last}" if ended.killed_reason and self._last else ended.reason

    def futile_cause(self, ended: client.AwsResult) -> causes.Cause:
        """Return why we ended a process before it uploaded a file."""
        if self.unreachable or diagnosis.unreachable_cause(ended.errors):
            return causes.UNREACHABLE
        return causes.ALL_REJECTED if self.in_a_row >= MAX_CONSECUTIVE_FAILURES else causes.NO_RESPONSE

    def _all_match(self, pattern: re.Pattern[str]) -> bool:
        """Return whether there are several files, and all failed for a reason that matches."""
        reasons = self.by_path.values()
        return len(reasons) == len(self._paths) > 1 and all(pattern.search(reason) for reason in reasons)

    def _note(self, line: diagnosis.ErrorLine | None, *, is_about_file: bool = True) -> None:
        """Note an error. A line that is not about a file is no sign that S3 was reached."""
        if line:
            self.error_lines.append(line)
            cause, _ = diagnosis.fatal_error([line])
            if not cause and diagnosis.is_unreachable(line):
                self.unreachable = line.text
            elif is_about_file:
                self.unreachable = ""
            self._denied_in_a_row += bool(is_about_file and cause and cause.may_be_one_key)
