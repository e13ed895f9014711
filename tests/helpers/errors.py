"""Say which error it is by its id, which stays the same when its message is reworded."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TypeVar

import pytest

from s3sync.errors import S3SyncError

Error = TypeVar("Error", bound=S3SyncError)

_ID_AT_THE_END = re.compile(r" \[([a-z0-9]+\.[a-z0-9-]+)\]$", re.MULTILINE)


def error_ids(text: str) -> list[str]:
    """The ids at the ends of the lines of what a command printed, in their order."""
    return _ID_AT_THE_END.findall(text)


@contextlib.contextmanager
def raises_error(kind: type[Error], error_id: str, *facts: str) -> Iterator[pytest.ExceptionInfo[Error]]:
    """Expect an error with this id, whose message has these facts: names, numbers, what to type."""
    with pytest.raises(kind) as caught:
        yield caught
    assert caught.value.id == error_id, caught.value
    for fact in facts:
        assert fact in str(caught.value)
