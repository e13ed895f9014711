"""Write problems to the main log: notes and alerts once while they last, all others at every scan."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from s3sync.monitor import notifications
from s3sync.monitor.notifications import Topic
from s3sync.monitor.problems import ONCE_KINDS, Problem

LOG = logging.getLogger(__name__)


def log_problems(log_dir: Path, topic: Topic, problems: Sequence[Problem], *, wait: bool = True) -> None:
    """Log problems, except notes and alerts that an earlier scan has logged.

    Without `wait`, raises BusyError if another process has locked the memory, StateError if it cannot be used.
    """
    once = {problem.key for problem in problems if problem.kind in ONCE_KINDS}
    known = _replace_logged(log_dir, topic, once, wait=wait)
    for problem in problems:
        if problem.kind not in ONCE_KINDS:
            LOG.error("%s: %s", problem.key, problem.text_with_id)
        elif problem.key not in known:
            LOG.warning("%s%s %s", problem.key, ":" if problem.kind == "alert" else "", problem.text_with_id)


def _replace_logged(log_dir: Path, topic: Topic, keys: set[str], *, wait: bool) -> set[str]:
    """Remember that the log has these keys; return the keys from before."""
    memory = notifications.read(log_dir)
    if memory and memory.logged.get(topic, set()) == keys:
        return keys
    with notifications.open_for_update(log_dir, wait=wait) as memory:
        known = memory.logged.get(topic, set())
        memory.logged[topic] = keys
        return known
