"""Draw a bar chart as SVG that the dashboard's security policy allows: no style attributes, scripts or resources."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 840, 170  # in the units of the SVG
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 6, 12, 24  # margins, with room for the labels of the axes
_INNER_WIDTH, _INNER_HEIGHT = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the chart."""

    name: str  # on the axis
    value: float
    text: str  # when the pointer is on the bar


def bars(title: str, summary: str, values: Sequence[Bar], unit: Callable[[float], str]) -> str:
    """Return the SVG of a chart with these bars; `unit` formats the values on the axis."""
    top = _round_up(max((bar.value for bar in values), default=0))
    step = _INNER_WIDTH / max(len(values), 1)
    drawn = "".join(_bar(bar, _LEFT + number * step, step, top) for number, bar in enumerate(values) if bar.value)
    nothing = f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT / 2:.0f}" text-anchor="middle">nothing to show yet</text>'
    shares = (0.0, 0.5, 1.0) if drawn else (0.0,)
    lines = "".join(_line(share, unit(top * share).replace(".0 ", " ")) for share in shares)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="chart-title chart-desc">'
        f'<title id="chart-title">{escape(title)}</title><desc id="chart-desc">{escape(summary)}</desc>'
        f"{lines}{drawn or nothing}{_ends([bar.name for bar in values])}</svg>"
    )


def _bar(bar: Bar, left: float, step: float, top: float) -> str:
    height = max(bar.value / top * _INNER_HEIGHT, 1.5)  # small values stay visible
    x, y = left + step * 0.12, _TOP + _INNER_HEIGHT - height
    return (
        f'<rect class="mark" x="{x:.1f}" y="{y:.1f}" width="{step * 0.76:.1f}" height="{height:.1f}" rx="1">'
        f"<title>{escape(bar.text)}</title></rect>"
    )


def _line(share: float, text: str) -> str:
    y = _TOP + _INNER_HEIGHT * (1 - share)
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
    )


def _ends(names: Sequence[str]) -> str:
    """Return the first and the last name, at the ends of the axis."""
    ends = [(names[0], _LEFT, "start"), (names[-1], WIDTH - _RIGHT, "end")] if names else []
    return "".join(
        f'<text x="{x}" y="{HEIGHT - 6}" text-anchor="{anchor}">{escape(name)}</text>' for name, x, anchor in ends
    )


def _round_up(value: float) -> float:
    """Return the next number that is 1, 2, 4 or 6 times a power of ten; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 4, 6, 10, 20) if factor * power >= value)
