"""Plan one run of an instrument: its ids and date, from the seed or from a given name."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from scripts.simulate.instruments import INSTRUMENTS, Instrument

READ_NAMES = {1: "Read1", 2: "Read1 Read2", 3: "Read1 Index1 Read2", 4: "Read1 Index1 Index2 Read2"}
RUN_ID = re.compile(r"(\d{6,8})_([a-zA-Z\d-]+)_(\d{2,})_([A-Z\d-]+)")


@dataclass(frozen=True)
class Run:
    """One run of an instrument, as its run id and RunInfo.xml describe it."""

    instrument: Instrument
    seed: int
    run_id: str
    instrument_id: str
    number: int
    side: str  # A, B or nothing
    flowcell: str
    started: datetime

    @property
    def reads(self) -> list[tuple[str, int]]:
        """Return name (Read1, Index1, Index2, Read2) and cycles of each read, in the order of sequencing."""
        cycles = self.instrument.cycles
        return list(zip(READ_NAMES[len(cycles)].split(), cycles, strict=True))

    @property
    def axes(self) -> dict[str, Sequence[int | str]]:
        """Return the values of the parts of a path in {}; tile: surface, swath and two digits of tile."""
        made, last = self.instrument, sum(self.instrument.cycles)
        surfaces, swaths, tiles = (range(1, n + 1) for n in (made.surfaces, made.swaths, made.tiles))
        return {
            "lane": range(1, made.lanes + 1),
            "cycle": range(1, last + 1),
            "first_cycle": [1 + sum(made.cycles[:n]) for n in range(len(made.cycles))],
            "logged": range(0, last + 1, 5),
            "surface": surfaces,
            "tile": [f"{s}{w}{t:02}" for s, w, t in itertools.product(surfaces, swaths, tiles)],
            "surface_tile": range(made.swaths * made.tiles),
            "read": range(1, len(made.cycles) + 1),
            "base": "acgt",
            "cycle_metric": made.cycle_metrics.split(),
            "run_metric": made.run_metrics.split(),
        }

    def fill(self, template: str, **more: object) -> str:
        """Return the template with {run_id}, {flowcell} and the other facts of the run filled in."""
        ended = self.started + timedelta(hours=self.instrument.run_hours)
        return template.format(**{**vars(self), "ended": ended, "experiment": f"Pool{self.number}", **more})


def plan_run(
    instrument: str = "novaseq6000",
    *,
    seed: int = 1,
    cycles: tuple[int, ...] | None = None,
    lanes: int | None = None,
    tiles: int | None = None,
    run_id: str | None = None,
) -> Run:
    """Return the run that these options describe (cycles of each read, tiles of a swath). Raises ValueError."""
    if instrument not in INSTRUMENTS:
        raise ValueError(f"no such instrument: {instrument} (there are {', '.join(INSTRUMENTS)})")
    real = INSTRUMENTS[instrument]
    made = replace(
        real,
        cycles=real.cycles if cycles is None else cycles,
        lanes=real.lanes if lanes is None else lanes,
        tiles=real.tiles if tiles is None else tiles,
    )
    if len(made.cycles) not in READ_NAMES or not all(1 <= count <= 1000 for count in made.cycles):
        raise ValueError("cycles must be one to four numbers from 1 to 1000, such as 151,8,8,151")
    if not 1 <= made.lanes <= 8 or not 1 <= made.tiles <= 99:
        raise ValueError("lanes must be 1 to 8 and tiles 1 to 99")
    run = drawn_run(made, seed)
    return run if run_id is None else renamed(run, run_id)


def drawn_run(made: Instrument, seed: int) -> Run:
    """Return a run of this instrument, with ids and a date that depend on the seed."""
    rng = random.Random(f"{seed} {made.id_shape}")
    run = Run(
        instrument=made,
        seed=seed,
        run_id="",
        instrument_id=drawn(made.id_shape, rng),
        number=rng.randrange(10, 1000),
        side=rng.choice(made.sides or [""]),
        flowcell=drawn(made.flowcell_shape, rng),
        started=datetime(2025, 1, 6, tzinfo=timezone.utc) + timedelta(minutes=rng.randrange(500_000)),
    )
    return replace(run, run_id=run.fill(made.run_id_shape))


def drawn(shape: str, rng: random.Random) -> str:
    choices = {"#": "0123456789", "?": "BCDFGHJKLMNPQRSTVWXYZ2345679"}
    return "".join(rng.choice(choices.get(sign, sign)) for sign in shape)


def renamed(run: Run, run_id: str) -> Run:
    """Return the run with a given run id, and with the facts in that name. Raises ValueError."""
    if run_id in ("", ".", "..") or "/" in run_id or not run_id.isprintable():
        raise ValueError(f"run_id must be the name of a folder, not {run_id!r}")
    run, match = replace(run, run_id=run_id), RUN_ID.fullmatch(run_id)
    if match is None:
        return run
    date, instrument_id, number, flowcell = match.groups()
    with contextlib.suppress(ValueError):  # digits that are no date
        shape = "%Y%m%d" if len(date) == 8 else "%y%m%d"
        run = replace(run, started=datetime.strptime(date, shape).replace(tzinfo=timezone.utc))
    side = flowcell[0] if flowcell[0] in run.instrument.sides else ""
    flowcell = flowcell.removeprefix(side)
    return replace(run, instrument_id=instrument_id, number=int(number), side=side, flowcell=flowcell)
