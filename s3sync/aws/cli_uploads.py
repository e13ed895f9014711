"""Send the small files of `aws s3 cp` in the CLI's own process, without the objects that s3transfer makes for each.

`cli_plugin` puts this in front of the CLI's transfer manager. The CLI decides what is sent, prepares it, and takes the
result; in between, a thread reads the file and sends it on the fast path. Files that are not small, or that the fast
path cannot send, go to the CLI's transfer manager as usual, as does the first: its request is the template.

This file is copied into a private folder beside `cli_plugin`, with the same rules.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

_SMALL = 1024 * 1024  # bytes of a file that is read at once
_MAX_QUEUED = 1000  # files, so that a long list takes no memory
_QUEUE_POLL_SECONDS = 0.005
_LESSON_SECONDS = 2.0  # how long the other files wait for the answer to the first one, which may be stuck
_PREPARING = frozenset(("ProvideSizeSubscriber", "ProvideETagSubscriber", "ProvideUploadContentTypeSubscriber"))
_REPORTING = frozenset(
    ("UploadResultSubscriber", "QueuedResultSubscriber", "ProgressResultSubscriber", "DoneResultSubscriber")
)


class SmallUpload:
    """One file, as the CLI's subscribers see it: a future that has succeeded, and what they ask of it."""

    def __init__(
        self, fileobj: str, bucket: str, key: str, extra_args: Mapping[str, Any], subscribers: Sequence[Any]
    ) -> None:
        self.fileobj = fileobj
        self.bucket = bucket
        self.key = key
        self.extra_args = dict(extra_args)
        self.subscribers = subscribers
        self.request = (bucket, extra_args)  # the same for all small files of a process
        self.size: int | None = None
        self.etag: str | None = None
        self.transfer_id = 0  # each has its own subscribers
        self.user_context: dict[str, Any] = {}

    @property
    def meta(self) -> SmallUpload:
        """Return this object, which has the metadata, too."""
        return self

    @property
    def call_args(self) -> SmallUpload:
        """Return this object, which has the arguments of `upload`, too."""
        return self

    def provide_transfer_size(self, size: int) -> None:
        """Take the size in bytes."""
        self.size = size

    def provide_object_etag(self, etag: str | None) -> None:
        """Take the ETag, which files do not have."""
        self.etag = etag

    def done(self) -> bool:
        """Return whether it has ended."""
        return True

    def result(self) -> None:
        """Raise nothing, since it has succeeded."""

    def prepare(self) -> bool:
        """Let the CLI add size and content type; return whether the file is small and has no other subscribers."""
        for subscriber in self.subscribers:
            name = type(subscriber).__name__
            if name in _PREPARING:
                subscriber.on_queued(future=self)
            elif name not in _REPORTING:
                return False
        return isinstance(self.size, int) and self.size <= _SMALL

    def report(self) -> None:
        """Let the CLI take the result."""
        for event in ("on_queued", "on_done"):
            for subscriber in self.subscribers:
                if type(subscriber).__name__ in _REPORTING and hasattr(subscriber, event):
                    getattr(subscriber, event)(future=self)

    def read(self) -> bytes | None:
        """Return the content; None if the file has become shorter, or cannot be read."""
        assert self.size is not None
        blocks = []
        left = self.size
        try:
            descriptor = os.open(self.fileobj, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            while left:
                block = os.read(descriptor, left)
                if not block:
                    return None
                blocks.append(block)
                left -= len(block)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)


class Lesson:
    """A subscriber to a file that the CLI sends, whose request may become the template."""

    def __init__(self, uploads: SmallUploads, upload: SmallUpload) -> None:
        self._uploads = uploads
        self._upload = upload

    def on_done(self, **_more: Any) -> None:
        """Note that the CLI has sent the file, or has failed."""
        self._uploads.end_lesson(self._upload)


class SmallUploads:
    """The CLI's transfer manager, with a separate path for small files."""

    def __init__(self, manager: Any, client: Any) -> None:
        """`client` is the client of `cli_plugin`. Raises any exception if the manager is not as expected."""
        self._manager = manager
        self._client = client
        self._max_threads = int(manager.config.max_request_concurrency)
        self._threshold = int(manager.config.multipart_threshold)
        if manager._bandwidth_limiter is not None:  # noqa: SLF001 -- it counts what s3transfer reads
            raise ValueError("the bandwidth is limited")
        client.limit(self._max_threads)  # the manager has its own threads, as many
        self._queue: queue.SimpleQueue[SmallUpload | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._delegating = threading.Lock()  # the manager counts its transfers without one
        self._changed = threading.Condition()
        self._is_learning = False
        self._is_cancelled = False
        self._error: BaseException | None = None  # the first error of a thread
        self._learned: tuple[str, Mapping[str, Any]] | None = None  # the requests that the template is of

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def __enter__(self) -> Self:
        self._manager.__enter__()
        return self

    def __exit__(self, kind: object, *error: object) -> Any:
        if kind:
            self._cancel()
        try:
            self._wait()
        except BaseException:  # also Ctrl-C
            self._cancel()
            self._manager.__exit__(*sys.exc_info())
            self._join()
            raise
        finally:
            self._client.flush()
        return self._manager.__exit__(kind, *error)

    def upload(
        self,
        fileobj: Any,
        bucket: str,
        key: str,
        extra_args: Mapping[str, Any] | None = None,
        subscribers: Sequence[Any] | None = None,
    ) -> Any:
        """Upload a file; return a future."""
        upload = SmallUpload(fileobj, bucket, key, extra_args or {}, subscribers or ())
        if not self._client.is_fast or not isinstance(fileobj, str) or not self._is_small(upload):
            return self._delegate(upload)
        while self._queue.qsize() >= _MAX_QUEUED:
            time.sleep(_QUEUE_POLL_SECONDS)
        self._queue.put(upload)
        if len(self._threads) < self._max_threads:
            self._threads.append(threading.Thread(target=self._work, daemon=True))
            self._threads[-1].start()
        return upload

    def end_lesson(self, upload: SmallUpload) -> None:
        """Note that the CLI has sent a file, or has failed to."""
        with self._changed:
            if self._client.has_learned_from(upload.key):
                self._learned = upload.request
            self._is_learning = False
            self._changed.notify_all()

    def _is_small(self, upload: SmallUpload) -> bool:
        return upload.prepare() and upload.size is not None and upload.size < self._threshold

    def _work(self) -> None:
        for upload in iter(self._queue.get, None):
            try:
                if not self._is_cancelled:
                    self._send(upload)
            except BaseException as error:
                self._error = self._error or error
                self._cancel()

    def _send(self, upload: SmallUpload) -> None:
        if self._may_be_fast(upload):
            data = upload.read()
            if data is not None and self._client.send(upload.key, data, upload.extra_args.get("ContentType")):
                upload.report()
                return
        if not self._is_cancelled:
            self._delegate(upload)

    def _may_be_fast(self, upload: SmallUpload) -> bool:
        """Return whether there is a template for this file, once it is known; if not, this file will become it."""
        if self._learned is None:
            with self._changed:
                while self._is_learning and not self._is_cancelled:
                    if not self._changed.wait(_LESSON_SECONDS):
                        break
                if not self._client.is_fast:  # there is nothing to learn
                    return False
                if self._learned is None:
                    self._is_learning = not self._is_cancelled
                    upload.subscribers = [*upload.subscribers, Lesson(self, upload)]
                    self._client.leave_to_cli(upload.key)  # there may be a template: of a file that is not small
                    return False
        return self._learned == upload.request

    def _delegate(self, upload: SmallUpload) -> Any:
        """Let the CLI upload the file in its own way."""
        bucket, extra_args = upload.request
        with self._delegating:
            return self._manager.upload(upload.fileobj, bucket, upload.key, dict(extra_args), list(upload.subscribers))

    def _cancel(self) -> None:
        with self._changed:
            self._is_cancelled = True
            self._changed.notify_all()

    def _wait(self) -> None:
        """Wait for all files; raise the error of a thread."""
        for _ in self._threads:
            self._queue.put(None)
        self._join()
        if self._error:
            raise self._error

    def _join(self) -> None:
        """Wait for the threads; after a cancellation, only for the files that are being sent."""
        for thread in self._threads:
            thread.join()
