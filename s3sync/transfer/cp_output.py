"""Read what `aws s3 cp` prints about the files of a batch."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from s3sync.aws import causes, client, diagnosis
from s3sync.aws.destination import Destination
from s3sync.transfer.batches import Batch

MAX_CONSECUTIVE_FAILURES = 20  # end a batch: each of these files may have cost minutes of timeouts
_MAX_FAILURES_WITHOUT_S3 = 4  # if S3 cannot be reached: that is the same for all files
_CANCELLED = " AWS_ERROR_S3_CANCELED"  # the client in C, of what it drops when it is ended: says nothing of the file
_KEPT_LINES = 20  # error lines of a batch among which a cause is searched


class FailureLines:
    """Finds the lines `upload failed: FILE to s3://BUCKET/KEY REASON` for the files of a batch.

    A line is parsed as it was printed, since file names are; `sanitize` makes its reason safe to show.
    """

    def __init__(self, destination: Destination, run_id: str, batch: Batch, sanitize: Callable[[str], str]) -> None:
        self.by_path: dict[str, str] = {}
        self.error_lines: deque[diagnosis.ErrorLine] = deque(maxlen=_KEPT_LINES)  # the last, without file names
        self.unreachable = ""  # the last line about S3 being out of reach, unless it was reached since
        self.in_a_row = 0  # failures since the last file that was uploaded
        self._denied_in_a_row = 0  # those of them that S3 may deny because of their keys
        self._last = ""
        self._sanitize = sanitize
        self._paths = {file.path for file in batch.files}
        # The CLI prints a name with a line break as it is: what follows may look like anything.
        self._torn = tuple(part for path in self._paths if "\n" in path for part in path.split("\n")[1:] if part)
        url = re.escape(destination.url(run_id))
        self._line = re.compile(rf"upload failed: .* to {url}(?P<rest>.*)")

    def note_success(self) -> None:
        """Note that a file was uploaded."""
        self.unreachable = ""
        self.in_a_row = self._denied_in_a_row = 0

    def parse(self, line: str) -> bool:
        """Take in a line; return whether it reports the failure of a file."""
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
        """Whether so many files failed in a row that the rest of the batch is not worth trying.

        Denials do not count: they are quick, and say nothing about the next files.
        """
        limit = _MAX_FAILURES_WITHOUT_S3 if self.unreachable else MAX_CONSECUTIVE_FAILURES
        return self.in_a_row - self._denied_in_a_row >= limit

    def fatal_cause(self) -> tuple[causes.Cause | None, str]:
        """Return a cause for which sending more is of no use, and the CLI's words for it."""
        cause, words = diagnosis.fatal_error(self.error_lines)
        if not cause and self._all_match(diagnosis.CHECKSUM_MISMATCH):
            return causes.CHECKSUMS, self.error_lines[-1].text
        return cause, words

    def last_error(self, ended: client.AwsResult) -> str:
        """Return the reason for files that no line names: the last failure if that made us end the process."""
        return f"{ended.reason}: {self._last}" if ended.killed_reason and self._last else ended.reason

    def futile_cause(self, ended: client.AwsResult) -> causes.Cause:
        """Return why a process was ended by us that had not uploaded a file."""
        if self.unreachable or diagnosis.unreachable_cause(ended.errors):
            return causes.UNREACHABLE
        return causes.ALL_REJECTED if self.in_a_row >= MAX_CONSECUTIVE_FAILURES else causes.NO_RESPONSE

    def _all_match(self, pattern: re.Pattern[str]) -> bool:
        """Return whether all files, if they are several, failed for a reason like this."""
        reasons = self.by_path.values()
        return len(reasons) == len(self._paths) > 1 and all(pattern.search(reason) for reason in reasons)

    def _note(self, line: diagnosis.ErrorLine | None, *, is_about_file: bool = True) -> None:
        """Note an error. A line about no file may be anything: it is no sign that S3 was reached."""
        if line:
            self.error_lines.append(line)
            cause, _ = diagnosis.fatal_error([line])
            if not cause and diagnosis.is_unreachable(line):
                self.unreachable = line.text
            elif is_about_file:
                self.unreachable = ""
            self._denied_in_a_row += bool(is_about_file and cause and cause.may_be_one_key)
