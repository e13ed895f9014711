"""Compare what S3 already has of a run with the files on disk, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping

from s3sync.aws import objects
from s3sync.errors import Notice, RunError
from s3sync.runs import run_folder
from s3sync.state import Proof
from s3sync.text import pluralize
from s3sync.transfer import batches
from s3sync.transfer.context import UploadContext
from s3sync.transfer.passes import FileUploader
from s3sync.transfer.selection import UploadSelection


class RemoteRun:
    """The objects of one run when a call of `upload` began."""

    def __init__(self, context: UploadContext, uploader: FileUploader) -> None:
        self._context = context
        self._uploader = uploader
        self._objects: Mapping[str, objects.RemoteObject] | None = {}  # by path; None: they may not be listed

    def read(self, *, is_known: bool) -> None:
        """List the objects or, where the log is known to have them all, only find out whether S3 answers.

        Raises AwsError for anything that would make the whole upload fail.
        """
        reader = self._uploader.reader
        if is_known:
            self._uploader.probe_s3(reader.check_access)
        else:
            self._objects = self._uploader.probe_s3(reader.list_run)

    def drop_proofs_of_missing(self) -> None:
        """Drop the proofs of files that S3 no longer has, or has differently: they are uploaded again."""
        if self._objects is None:
            return
        proofs = self._uploader.verified.values()
        lost = {proof.path for proof in proofs if _is_missing_or_different(proof, self._objects.get(proof.path))}
        if lost:
            if not self._objects:
                self._uploader.reader.require_s3()
            files = f"{pluralize(len(lost), 'file')} in the log {'is' if len(lost) == 1 else 'are'}"
            text = f"{files} missing or different in S3, and uploaded again"
            self._context.display.print(Notice(text, id="upload.lost-in-s3").line)
            self._uploader.distrust_etags()
            self._uploader.forget_proofs(lost)

    def compare(self, selection: UploadSelection, *, resumed: bool) -> None:
        """Verify, without sending them, the files that S3 has already. Raises RunError if it has another run there.

        Where objects may not be listed, S3 is asked about single files only if an earlier call may have sent them.
        """
        pending = batches.pending(selection.files, self._uploader.verified)
        if self._objects is not None:
            self._uploader.compare(pending, self._objects)
            self._require_same_run(selection, self._objects)
            self._note_other_classes(self._objects)
        elif resumed:
            self._uploader.head_large_files(pending)

    def has_unverified(self, selection: UploadSelection) -> bool:
        """Return whether S3 has, or may have, files of the run that are not verified as they are now."""
        if self._objects is None:
            return True
        files = (*selection.files, *selection.waiting)
        return any(file.path in self._objects and file.path not in self._uploader.verified for file in files)

    def _require_same_run(self, selection: UploadSelection, remote: Mapping[str, objects.RemoteObject]) -> None:
        """Refuse to mix two runs of one name: another one may have been uploaded with another log directory."""
        theirs = remote.get(run_folder.RUN_INFO)
        ours = next((file for file in selection.files if file.path == run_folder.RUN_INFO), None)
        has_ours = any(proof.size for proof in self._uploader.verified.values())
        if self._context.request.recheck or has_ours or not theirs or not ours or theirs.size == ours.size:
            return
        sizes = f"{run_folder.RUN_INFO} has {theirs.size:,} bytes there and {ours.size:,} here"
        advice = "use another remote_path; `upload --recheck` replaces what is there"
        raise RunError(
            f"{self._context.url} has a different run with this name: {sizes} ({advice})", id="upload.other-run-in-s3"
        )

    def _note_other_classes(self, remote: Mapping[str, objects.RemoteObject]) -> None:
        """Note that verified files stay in the storage class that they were sent to."""
        choice = self._context.request.class_choice(self._context.run)
        if others := choice.count_in_others(self._uploader.verified, remote):
            files = f"{pluralize(others, 'verified file')} {'is' if others == 1 else 'are'}"
            self._context.display.print(
                f"note: {self._context.target}: {files} in another storage class than the patterns now say,"
                " and not sent again"
            )


def _is_missing_or_different(proof: Proof, remote: objects.RemoteObject | None) -> bool:
    return remote is None or remote.etag != proof.etag
