"""Take webhooks and pings."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from s3sync.monitor.notify import Channels

if TYPE_CHECKING:
    from typing_extensions import Self


class Hooks:
    """An HTTP server that takes webhooks and pings."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        taken = self.taken

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                taken.append((self.path, body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def new(self) -> list[tuple[str, str]]:
        """What came since the last look."""
        return [self.taken.pop(0) for _ in range(len(self.taken))]  # while others may arrive


SECRET = "S3CRET"  # in every URL, in no log line


class Received(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        assert set(self.json) == {"text"}
        return str(self.json["text"])


class Handler(BaseHTTPRequestHandler):
    """Keeps what comes; a path with a misbehaviour gets that for an answer."""

    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(Received(self.command, self.path, dict(self.headers), body))
        with contextlib.suppress(OSError):
            self.server.misbehaviours.get(self.path.split("?")[0], Handler.accept)(self)

    do_GET = do_POST  # noqa: N815 - the name that the library wants

    def accept(self, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the library has it
        """Keep the log off the stderr of the tests."""


class Receiver(ThreadingHTTPServer):
    """Listens on the loopback interface until the test is over."""

    daemon_threads = False  # so that closing waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[Received] = []
        self.misbehaviours: dict[str, Callable[[Handler], object]] = {}
        self.over = threading.Event()
        self.scheme = "http"

    def url(self, name: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}{path_of(name)}"

    def channels(self, *names: str) -> Channels:
        return Channels(**{name: self.url(name) for name in names})

    def take(self, name: str) -> list[Received]:
        """What this channel received since it was last asked."""
        taken = [each for each in tuple(self.received) if each.path.startswith(path_of(name))]
        for each in taken:
            self.received.remove(each)  # in place: others may arrive meanwhile
        return taken

    def texts(self, name: str) -> list[str]:
        return [each.text for each in self.take(name)]

    def answers(self, name: str, misbehaviour: Callable[[Handler], object] | int, ending: str = "") -> None:
        """From now on, this channel answers so, or with this status."""
        if isinstance(misbehaviour, int):
            self.misbehaviours[path_of(name)] = partial(Handler.accept, status=misbehaviour)
        else:
            self.misbehaviours[path_of(name) + ending] = misbehaviour


def path_of(name: str) -> str:
    return f"/{name}/{SECRET}"


@contextlib.contextmanager
def running(receiver: Receiver) -> Iterator[Receiver]:
    thread = threading.Thread(target=receiver.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        receiver.shutdown()
        thread.join()
        receiver.server_close()
        for left_behind in [thread for thread in threading.enumerate() if thread.name == "notify"]:
            left_behind.join(120)
            assert not left_behind.is_alive()


def check_log_for_secrets(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Yield while a test runs; then see that no line of the log has a secret, an address or a traceback."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.get_records("call"):
        assert SECRET not in record.getMessage()
        assert "://" not in record.getMessage()
        assert record.exc_info is None
