"""Draw the ratios; the only user of matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scripts.bench.contenders import FIRST
from scripts.bench.tables import Summary
from scripts.bench.workloads import Workload

_WIDTH = 0.85  # of a group of bars
_INK = "#444444"


class Bar(NamedTuple):
    """Of a contender, in the group of the workload with this number."""

    place: int
    label: str
    height: float


def draw(summaries: Mapping[Workload, Sequence[Summary]], target: Path) -> None:
    """Grouped bars, a panel for wall time and one for CPU time: ratios to the first contender, or seconds without it.

    Raises ImportError where matplotlib is not installed.
    """
    from matplotlib.figure import Figure  # not pyplot: no window system is needed

    labels = list(dict.fromkeys(one.label for group in summaries.values() for one in group))
    figure = Figure(figsize=(max(8.0, 2.5 + 0.42 * len(labels) * len(summaries)), 7.5), layout="constrained")
    panels = _panels(summaries)
    for axes, (title, bars) in zip(figure.subplots(len(panels), 1), panels.items(), strict=True):
        _draw_panel(axes, labels, bars)
        axes.set_title(f"{title} (less is better)", loc="left", fontsize=10)
        axes.set_xticks(range(len(summaries)), [_name(workload) for workload in summaries])
    legend = axes.get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=min(len(labels), 8), frameon=False)
    figure.savefig(target, dpi=150)


def _panels(summaries: Mapping[Workload, Sequence[Summary]]) -> dict[str, list[Bar]]:
    """Return what each panel shows, by its title."""
    placed = [(place, one) for place, group in enumerate(summaries.values()) for one in group]
    ratios = [(place, one.label, one.ratio, one.cpu_ratio) for place, one in placed]
    if any(wall is None for _, _, wall, _ in ratios):
        return {
            "wall time in seconds": [Bar(place, one.label, one.seconds) for place, one in placed],
            "CPU time in seconds": [Bar(place, one.label, one.cpu_seconds) for place, one in placed],
        }
    return {
        f"wall time, {FIRST} = 1": [Bar(place, label, wall or 0) for place, label, wall, _ in ratios],
        f"CPU time, {FIRST} = 1": [Bar(place, label, cpu or 0) for place, label, _, cpu in ratios],
    }


def _draw_panel(axes: Any, labels: Sequence[str], bars: Sequence[Bar]) -> None:
    width = _WIDTH / len(labels)
    for number, label in enumerate(labels):
        shown = [bar for bar in bars if bar.label == label]
        places = [bar.place - _WIDTH / 2 + (number + 0.5) * width for bar in shown]
        drawn = axes.bar(places, [bar.height for bar in shown], width * 0.92, label=label, color=f"C{number}")
        axes.bar_label(drawn, fmt="%.2f", fontsize=7, color=_INK, padding=1)
    axes.spines[["top", "right"]].set_visible(False)


def _name(workload: Workload) -> str:
    latency = f", {workload.latency * 1000:g} ms" if workload.latency else ""
    return f"{workload.name}\n{len(workload.files):,} files, {workload.size / 1e6:,.0f} MB{latency}"
