"""Let `aws s3 cp --recursive` take its files from a list, instead of walking over a folder of links to them.

`S3SYNC_FILE_LIST` is the path of the list: the folder that the command names, the folder that has the files, both with
a slash at the end, and the paths of the files below it, each followed by a null byte. Each file passes the CLI's own
checks. This file is copied into a private folder beside `cli_plugin`, with the same rules.
"""

# ruff: noqa: SLF001 -- a plugin of the CLI works with what the CLI has

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

VARIABLE = "S3SYNC_FILE_LIST"


def install(environ: Mapping[str, str]) -> None:
    """Make the CLI upload the files of the list, if there is one. Raises any exception for an unexpected CLI."""
    generator: Any = importlib.import_module("awscli.customizations.s3.filegenerator").FileGenerator
    submitter: Any = importlib.import_module("awscli.customizations.s3.s3handler").UploadRequestSubmitter
    walk, file_of = generator.list_files, submitter._get_filein
    for name in ("should_ignore_file", "_safely_get_file_stats"):
        getattr(generator, name)
    if not environ.get(VARIABLE):
        return
    named, real, *paths = _read(environ[VARIABLE])

    def list_files(self: Any, path: str, dir_op: bool) -> Iterator[Any]:
        if path != named:
            yield from walk(self, path, dir_op)
            return
        for below in paths:
            if not self.should_ignore_file(real + below):
                stats = self._safely_get_file_stats(real + below)
                if stats:
                    yield named + below, stats[1]

    def get_filein(self: Any, fileinfo: Any) -> Any:
        source = file_of(self, fileinfo)
        return real + source[len(named) :] if source.startswith(named) else source

    generator.list_files, submitter._get_filein = list_files, get_filein


def _read(path: str) -> list[str]:
    with open(path, "rb") as stream:
        return [os.fsdecode(part) for part in stream.read().split(b"\0")[:-1]]
