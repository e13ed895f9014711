"""Write problems into the main log: most at every scan, notes and alerts once while they last."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from s3sync.monitor import notifications
from s3sync.monitor.notifications import Topic
from s3sync.monitor.problems import ONCE_KINDS, Problem

LOG = logging.getLogger(__name__)


def log_problems(log_dir: Path, topic: Topic, problems: Sequence[Problem], *, is_patient: bool = True) -> None:
    """Log problems; notes and alerts that were logged by an earlier scan are left out.

    Without patience, raises BusyError if another process uses the memory, StateError if nothing can be remembered.
    """
    once = {problem.key for problem in problems if problem.kind in ONCE_KINDS}
    known = _replace_logged(log_dir, topic, once, is_patient)
    for problem in problems:
        if problem.kind not in ONCE_KINDS:
            LOG.error("%s: %s", problem.key, problem.text_with_id)
        elif problem.key not in known:
            LOG.warning("%s%s %s", problem.key, ":" if problem.kind == "alert" else "", problem.text_with_id)


def _replace_logged(log_dir: Path, topic: Topic, keys: set[str], is_patient: bool) -> set[str]:
    """Remember that these keys are in the log; returns those that were before."""
    memory = notifications.peek(log_dir)
    if memory and memory.logged.get(topic, set()) == keys:
        return keys
    with notifications.opened(log_dir, is_patient=is_patient) as memory:
        known = memory.logged.get(topic, set())
        memory.logged[topic] = keys
        return known
