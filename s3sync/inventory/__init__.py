"""List every run that the config refers to, with its status and the reason."""

from s3sync.inventory import discovery, forget, history, order, restores, states, statuses
from s3sync.inventory.history import History
from s3sync.inventory.problems import Problem
from s3sync.inventory.requests import request_for
from s3sync.inventory.states import RunStatus

__all__ = [
    "History",
    "Problem",
    "RunStatus",
    "discovery",
    "forget",
    "history",
    "order",
    "request_for",
    "restores",
    "states",
    "statuses",
]
