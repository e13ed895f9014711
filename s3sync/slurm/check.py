"""Check that Slurm answers and has nodes that are up and, on request, that uploads can run on each of them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from s3sync.aws import access
from s3sync.errors import ConfigError, SlurmError
from s3sync.signals import StopRequest
from s3sync.slurm import broken_nodes
from s3sync.slurm.client import Slurm, is_up
from s3sync.slurm.node_trial import ClusterUse, NodeTrials
from s3sync.slurm.results import no_answer, ok, problem
from s3sync.text import pluralize

__all__ = ["ClusterUse", "check_cluster"]


def check_cluster(
    use: ClusterUse, environ: Mapping[str, str], stop: StopRequest, *, submit: bool
) -> Iterator[access.CheckResult]:
    """Yield a result for Slurm and for each partition in use; with `submit`, also for each node, from a job there.

    The jobs leave nothing behind. Raises StoppedError.
    """
    if not use.clusters:
        if submit:
            yield ok("no entry has `executor: slurm`: there is nothing to submit")
        return
    try:
        slurm = Slurm(environ)
        yield ok(slurm.version())
        usable = set()
        for partition in dict.fromkeys(options.partition for options in use.clusters):
            wanted = max(options.nodes for options in use.clusters if options.partition == partition)
            result = _check_partition(slurm.nodes(partition), partition, wanted)
            usable |= {partition} if result.ok else set()
            yield result
    except ConfigError as error:
        yield problem(str(error), id=error.id)
        return
    except SlurmError as error:
        yield no_answer(error)
        return
    if submit:
        _forget_unused_nodes(use, slurm)
        for options in (options for options in use.clusters if options.partition in usable):
            yield from NodeTrials(use, options, slurm, stop).run()


def _forget_unused_nodes(use: ClusterUse, slurm: Slurm) -> None:
    """Forget broken nodes that are down: they no longer concern this program."""
    if broken := broken_nodes.names(use.log_dir):
        with contextlib.suppress(SlurmError):
            up = {name for name, state in slurm.nodes() if is_up(state)}
            broken_nodes.remember(use.log_dir, {}, set(broken) - up)


def _check_partition(nodes: Sequence[tuple[str, str]], partition: str, wanted: int) -> access.CheckResult:
    """Return the result for a partition, given the names and states of its nodes."""
    where = f"partition {partition}" if partition else "the cluster"
    if not nodes:
        return problem(f"{where} has no nodes (see `sinfo`, and correct `partition`)", id="slurm.no-nodes")
    up = [state for _, state in nodes if is_up(state)]
    states = ", ".join(f"{count} {state}" for state, count in sorted(Counter(state for _, state in nodes).items()))
    text = f"{where}: {len(up)} of {pluralize(len(nodes), 'node')} up ({states})"
    if not up:
        return problem(f"{text} (see `sinfo --list-reasons`)", id="slurm.no-node-up")
    return ok(f"{text}, but `nodes` is {wanted}" if len(up) < wanted else text)
