"""Remember in LOG_DIR which files are verified, and let only one process write there."""

from s3sync.state import identity, journal, lock, log_dir, restored, run_state, summary, thaw_log, waiting
from s3sync.state.run_state import Proof, RunState
from s3sync.state.store import StateStore

__all__ = [
    "Proof",
    "RunState",
    "StateStore",
    "identity",
    "journal",
    "lock",
    "log_dir",
    "restored",
    "run_state",
    "summary",
    "thaw_log",
    "waiting",
]
