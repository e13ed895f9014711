"""Hold problems of directories, logs, nodes and restores, which belong to no run."""

from __future__ import annotations

from typing import NamedTuple

from s3sync.config import Config
from s3sync.slurm import broken_nodes as slurm_broken_nodes


class Problem(NamedTuple):
    """A problem, or a note: `key` names what it concerns, `text` says what happened and what to do.

    `id` stays the same when the text is reworded. `key` and `text` of a note form a sentence.
    """

    key: str
    text: str
    id: str = ""

    @property
    def text_with_id(self) -> str:
        """The text, followed by the id in brackets."""
        return f"{self.text} [{self.id}]"


def broken_nodes(config: Config) -> list[Problem]:
    """Return a problem for each node of a cluster where this program could not start and no job has run since."""
    known = slurm_broken_nodes.known(config.log_dir)
    return [Problem(node, text, id="slurm.broken-node") for node, text in known.items()]
