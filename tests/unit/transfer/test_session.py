"""What a call of `upload` leaves behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from s3sync.transfer.upload.session import UploadSession


@pytest.mark.parametrize("error", [MemoryError(), OSError("no descriptor"), KeyError("a bug")])
def test_an_unexpected_error_leaves_no_thread_that_reads_the_run(error: Exception) -> None:
    closed: list[str] = []

    def fail(**_options: object) -> None:
        raise error

    session: Any = object.__new__(UploadSession)
    session._state = None
    session._upload_in_stages = fail
    session._store = SimpleNamespace(begin=lambda _state: None, close=lambda: closed.append("store"))
    session._uploader = SimpleNamespace(close=lambda: closed.append("uploader"))
    with pytest.raises(type(error)):
        session.run_stages(resumed=False)
    assert closed == ["uploader", "store"]
