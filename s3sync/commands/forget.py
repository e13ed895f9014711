"""`s3sync forget`: set aside the state log of a run whose folder is gone."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from typing import Any

from s3sync.commands import locations, options, output
from s3sync.errors import EXIT_DONE
from s3sync.inventory import forget
from s3sync.text import printable

USAGE = "RUN ... [--config FILE] [--json]"
DESCRIPTION = "Set aside the state log of a run whose folder is gone. Nothing is deleted."
EXAMPLES = """\
examples:
  s3sync forget --config /etc/s3sync.yaml RUN
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("run", nargs="+", metavar="RUN", help="the runs that `status` shows as gone")
    options.add_config(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Set the state logs aside, and return the exit code."""
    os.umask(0o077)
    done = forget.forget_runs(locations.config_to_write(args), args.run)
    return output.show(args, result_lines(done), as_json(done), EXIT_DONE)


def result_lines(done: Iterable[forget.Forgotten]) -> list[str]:
    """Return a line for each run."""
    return [f"{run.key}: forgotten; its state log is kept as {printable(str(kept))}" for run, _, kept in done]


def as_json(done: Iterable[forget.Forgotten]) -> dict[str, Any]:
    """Return the logs that were set aside as one JSON object."""
    return {
        "forgotten": [
            {"run_id": run.run.run_id, "url": run.url, "log": str(log), "kept_as": str(kept)} for run, log, kept in done
        ]
    }
