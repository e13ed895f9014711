"""`s3sync task`: do a part of an upload on a node of a cluster."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from s3sync.errors import EXIT_DONE, EXIT_FAILED
from s3sync.signals import StopRequest, stop_on_signals
from s3sync.slurm import finalizer, task, work_folder

USAGE = "FOLDER"
DESCRIPTION = "Do a part of an upload on a node. Slurm runs this; you do not need it."
EXAMPLES = """\
examples:
  s3sync upload --local-path /data/RUN --bucket lab-runs --executor slurm
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("folder", metavar="FOLDER", help="the upload's work folder, LOG_DIR/slurm/...")


def run(args: argparse.Namespace) -> int:
    """Do the task that Slurm names in the environment, or the finalizer job, and return the exit code."""
    os.umask(0o077)
    folder, number = work_folder.WorkFolder(Path(args.folder)), os.environ.get("SLURM_ARRAY_TASK_ID")
    stop = StopRequest()
    with stop_on_signals(stop):
        if number is None:
            finalizer.run_finalizer(folder, os.environ, stop)
            return EXIT_DONE
        return EXIT_DONE if task.run_task(folder, int(number), os.environ, stop) else EXIT_FAILED
