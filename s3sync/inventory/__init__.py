"""List every run that the config refers to, with its status and the reason."""

from s3sync.inventory import discovery, forget, history, named, requests, survey
from s3sync.inventory.discovery import Candidate, Trouble
from s3sync.inventory.history import History
from s3sync.inventory.survey import Judged

__all__ = ["Candidate", "History", "Judged", "Trouble", "discovery", "forget", "history", "named", "requests", "survey"]
