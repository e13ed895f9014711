"""Scripts that stand for programs."""

from __future__ import annotations

from pathlib import Path


def program(path: Path, text: str = "#!/bin/sh\n") -> str:
    """Write a script that can be started; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)
