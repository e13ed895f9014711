"""Small files on the fast path: the CLI prepares them and takes the result, and sends what the fast path cannot."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from awscli.customizations.s3.results import (  # type: ignore[import-untyped]
    QueuedResult,
    SuccessResult,
    UploadResultSubscriber,
)
from awscli.customizations.s3.utils import (  # type: ignore[import-untyped]
    DeleteSourceFileSubscriber,
    ProvideSizeSubscriber,
    ProvideUploadContentTypeSubscriber,
)

from s3sync.aws import cli_plugin, cli_uploads
from s3sync.aws.cli_uploads import SmallUploads

MIB = 1024 * 1024


class Manager:
    """A transfer manager that ends each transfer at once."""

    def __init__(self, limiter: object = None) -> None:
        self.config = SimpleNamespace(max_request_concurrency=4, multipart_threshold=8 * MIB)
        self._bandwidth_limiter = limiter
        self.uploaded: list[str] = []
        self.exceptions: list[type[BaseException] | None] = []
        self.on_upload: Callable[[str], None] = lambda key: None

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, *_more: object) -> None:
        self.exceptions.append(kind)

    def upload(self, fileobj: str, bucket: str, key: str, extra_args: dict[str, str], subscribers: list[Any]) -> None:
        assert (bucket, extra_args) == ("lab-runs", {"ACL": "private"})
        self.uploaded.append(key)
        self.on_upload(key)
        for subscriber in subscribers:
            if type(subscriber).__name__ == "Lesson":
                subscriber.on_done(future=None)


class Client:
    """A client that has learned from the files in `lessons`, and cannot send those in `refused`."""

    def __init__(self, *lessons: str, refused: tuple[str, ...] = ()) -> None:
        self.is_fast = True
        self.is_flushed = False
        self.most_requests = 0
        self.left_to_cli: list[str] = []
        self.sent: dict[str, tuple[bytes, str | None]] = {}
        self._lessons = lessons
        self._refused = refused

    def has_learned_from(self, key: str) -> bool:
        return key in self._lessons

    def leave_to_cli(self, key: str) -> None:
        self.left_to_cli.append(key)

    def limit(self, requests: int) -> None:
        self.most_requests = requests

    def send(self, key: str, data: bytes, content_type: str | None) -> bool:
        if key in self._refused:
            return False
        self.sent[key] = (data, content_type)
        return True

    def flush(self) -> None:
        self.is_flushed = True


class Files:
    """Files that the CLI uploads, and its results."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.results: queue.Queue[Any] = queue.Queue()

    def upload(self, uploads: SmallUploads, name: str, *more: Any, size: int | None = None) -> None:
        path = self._folder / name
        path.write_bytes(name.encode())
        subscribers = [ProvideSizeSubscriber(len(name) if size is None else size), ProvideUploadContentTypeSubscriber()]
        results = UploadResultSubscriber(self.results)
        uploads.upload(str(path), "lab-runs", f"RUN/{name}", {"ACL": "private"}, [*subscribers, *more, results])

    def reported(self) -> list[Any]:
        return [self.results.get_nowait() for _ in range(self.results.qsize())]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_the_cli_sends_the_first_file_and_takes_the_results_of_the_others(files: Files) -> None:
    manager, client = Manager(), Client("RUN/a.txt")
    with SmallUploads(manager, client) as uploads:
        for name in ("a.txt", "b.txt", "c"):
            files.upload(uploads, name)
    assert manager.uploaded == ["RUN/a.txt"]
    assert client.sent == {"RUN/b.txt": (b"b.txt", "text/plain"), "RUN/c": (b"c", None)}
    reported = files.reported()
    assert {result.dest for result in reported} == {"s3://lab-runs/RUN/b.txt", "s3://lab-runs/RUN/c"}
    assert [type(result) for result in reported].count(SuccessResult) == 2
    assert [type(result) for result in reported].count(QueuedResult) == 2


def test_the_first_small_file_is_always_sent_by_the_cli(files: Files) -> None:
    """Else it could not become the template: a larger file would send it, and each small one would be the first."""
    manager, client = Manager(), Client("RUN/b")
    with SmallUploads(manager, client) as uploads:
        files.upload(uploads, "a", size=MIB + 1)
        for name in ("b", "c"):
            files.upload(uploads, name)
    assert manager.uploaded == ["RUN/a", "RUN/b"]
    assert client.left_to_cli == ["RUN/b"]


def test_both_ways_together_have_no_more_requests_at_once_than_the_config_allows() -> None:
    manager, client = Manager(), Client()
    SmallUploads(manager, client)
    assert client.most_requests == manager.config.max_request_concurrency
    has_room: list[bool] = []

    def send(*_arguments: object, **_params: object) -> dict[str, str]:
        has_room.append(limited._requests.acquire(blocking=False))
        return {"etag": "1"}

    fast: Any = SimpleNamespace(is_on=False, put_bytes=send)
    limited = cli_plugin.Client(SimpleNamespace(put_object=send, upload_part=send), cli_plugin.Receipts({}), fast)
    limited.limit(1)
    limited.put_object()
    limited.upload_part()
    limited.send("RUN/a", b"", None)
    assert has_room == [False] * 3


def test_the_cli_sends_what_the_fast_path_cannot(files: Files) -> None:
    manager, client = Manager(), Client("RUN/a", refused=("RUN/b",))
    with SmallUploads(manager, client) as uploads:
        for name in ("a", "b", "c"):
            files.upload(uploads, name)
    assert sorted(manager.uploaded) == ["RUN/a", "RUN/b"]
    assert list(client.sent) == ["RUN/c"]


def test_if_nothing_is_learned_from_a_file_the_next_one_is_the_lesson(files: Files) -> None:
    manager, client = Manager(), Client("RUN/c")
    with SmallUploads(manager, client) as uploads:
        for name in ("a", "b", "c", "d"):
            files.upload(uploads, name)
    assert "RUN/c" in manager.uploaded
    assert sorted([*manager.uploaded, *client.sent]) == ["RUN/a", "RUN/b", "RUN/c", "RUN/d"]


def test_files_do_not_wait_for_a_fast_path_that_ended_with_the_first_file(files: Files) -> None:
    manager, client = Manager(), Client()
    all_queued = threading.Event()
    lessons: list[str] = []

    def end_fast_path(_key: str) -> None:
        assert all_queued.wait(120)
        client.is_fast = False

    manager.on_upload = end_fast_path
    uploads = SmallUploads(manager, client)
    end_lesson = uploads.end_lesson

    def note_lesson(upload: cli_uploads.SmallUpload) -> None:
        lessons.append(upload.key)
        end_lesson(upload)

    uploads.end_lesson = note_lesson  # type: ignore[method-assign]
    with uploads:
        for name in ("a", "b", "c", "d"):
            files.upload(uploads, name)
        all_queued.set()
    assert len(manager.uploaded) == 4
    assert len(lessons) == 1


def test_the_others_do_not_wait_forever_for_the_first(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_uploads, "_LESSON_SECONDS", 0.0)
    manager, client = Manager(), Client()
    others = threading.Event()
    manager.on_upload = lambda key: others.set() if key != "RUN/a" else None
    uploads = SmallUploads(manager, client)
    uploads.end_lesson = lambda upload: None  # type: ignore[method-assign]
    with uploads:
        files.upload(uploads, "a")
        files.upload(uploads, "b")
        assert others.wait(120)
    assert sorted(manager.uploaded) == ["RUN/a", "RUN/b"]


@pytest.mark.parametrize("size", [MIB + 1, None])
def test_the_cli_sends_files_that_are_not_small_or_that_others_want_to_know_of(files: Files, size: int | None) -> None:
    manager, client = Manager(), Client("RUN/a")
    with SmallUploads(manager, client) as uploads:
        files.upload(uploads, "a")
        files.upload(uploads, "b", *([] if size else [DeleteSourceFileSubscriber()]), size=size)
    assert sorted(manager.uploaded) == ["RUN/a", "RUN/b"]
    assert not client.sent


def test_the_cli_sends_a_file_that_became_shorter(files: Files) -> None:
    manager, client = Manager(), Client("RUN/a")
    with SmallUploads(manager, client) as uploads:
        files.upload(uploads, "a")
        files.upload(uploads, "b", size=2)
    assert sorted(manager.uploaded) == ["RUN/a", "RUN/b"]
    assert not client.sent


def test_without_the_fast_path_the_cli_sends_all(files: Files) -> None:
    manager, client = Manager(), Client()
    client.is_fast = False
    with SmallUploads(manager, client) as uploads:
        files.upload(uploads, "a")
    assert manager.uploaded == ["RUN/a"]


def test_with_a_bandwidth_limit_s3transfer_sends_all() -> None:
    with pytest.raises(ValueError, match="bandwidth"):
        SmallUploads(Manager(limiter=object()), Client())


def test_an_interrupt_ends_the_manager_of_the_cli() -> None:
    manager, client = Manager(), Client()
    uploads = SmallUploads(manager, client)
    with pytest.raises(KeyboardInterrupt), uploads:
        raise KeyboardInterrupt
    assert manager.exceptions == [KeyboardInterrupt]
    assert not manager.uploaded


def test_an_error_in_a_thread_is_the_error_of_the_command(files: Files) -> None:
    def fail(_key: str) -> None:
        raise MemoryError

    manager, client = Manager(), Client()
    manager.on_upload = fail
    uploads = SmallUploads(manager, client)
    with pytest.raises(MemoryError), uploads:
        files.upload(uploads, "a")
    assert manager.exceptions == [MemoryError]
    assert client.is_flushed
