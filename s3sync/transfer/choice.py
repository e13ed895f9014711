"""Choose the evidence for each file: its ETag, whose MD5 takes CPU time, or S3's CRC-32, which may take a request."""

from __future__ import annotations

from collections.abc import Callable

from s3sync.aws.etag import Multipart
from s3sync.aws.objects import RemoteObject, Verify
from s3sync.errors import Notice
from s3sync.runs import LocalFile

_WORTH_A_REQUEST = 750_000_000  # bytes whose MD5 costs more CPU time than head-object, a separate process


class EvidenceChoice:
    """Chooses the evidence for the files of one destination. Any thread may call its methods.

    It learns from S3's answers: on a server without checksums, files are compared by ETags after the first one.
    """

    def __init__(self, verify: Verify, multipart: Multipart, show: Callable[[str], None] = lambda _line: None) -> None:
        self._verify = verify
        self._multipart = multipart
        self._show = show
        self._has_none = False  # the server stores no CRC-32, or the CLI sends none
        self._is_reported = False  # processes report the checksums that S3 stored, so that needs no request

    @property
    def compares_bytes(self) -> bool:
        """Return whether bytes are compared, not only sizes."""
        return self._verify != "size"

    def uses_checksum(self, file: LocalFile) -> bool:
        """Return whether this file is verified by its CRC-32, so that no MD5 is needed."""
        if self._has_none or self._verify in ("etag", "size"):
            return False
        if self._verify == "checksum":
            return True
        if self._is_reported:
            return self._multipart.part_size_for(file.size) is not None
        return file.size >= _WORTH_A_REQUEST

    def note_reported(self) -> None:
        """Note that a process reported the checksum that S3 stored."""
        self._is_reported = True

    def note_object(self, seen: RemoteObject) -> None:
        """Learn from head-object's answer about an object that this call has sent."""
        if seen.crc32 or seen.opaque_etag or self._has_none:
            return
        self._has_none = True
        if self._verify == "checksum":
            text = "S3 stores no checksums of uploaded files, so they are verified by their ETags"
            self._show(Notice(text, id="s3.no-checksums").line)
