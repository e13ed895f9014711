"""Describe, as values, problems that belong to no run: of directories, logs and nodes."""

from __future__ import annotations

from typing import NamedTuple

from s3sync.config import Config
from s3sync.slurm import broken_nodes as slurm_broken_nodes


class Problem(NamedTuple):
    """Something wrong, or worth knowing: `key` names what it concerns, `text` says what happened and what to do.

    `id` stays the same when the text is reworded. In a note `key` and `text` make a sentence.
    """

    key: str
    text: str
    id: str = ""

    @property
    def text_with_id(self) -> str:
        """The text, followed by the id in brackets."""
        return f"{self.text} [{self.id}]"


def broken_nodes(config: Config) -> list[Problem]:
    """Return the nodes of a cluster on which this program could not start, until a job has run there."""
    known = slurm_broken_nodes.known(config.log_dir)
    return [Problem(node, text, id="slurm.broken-node") for node, text in known.items()]
