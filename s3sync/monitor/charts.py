"""Values into pictures: SVG that stands in a page, takes its colours from it, and reads as text where it is not seen.

No attribute `style`, no script, nothing to load: the page's security policy would not let them be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 420, 190  # of a chart, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 6, 12, 24  # room for the words at the axes
_INNER_WIDTH, _INNER_HEIGHT = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_DURATIONS = (1.0, 10.0, _MINUTE, 10 * _MINUTE, _HOUR, 6 * _HOUR, _DAY, 7 * _DAY, 30 * _DAY, 365 * _DAY)
_DURATION_WORDS = ("1 s", "10 s", "1 min", "10 min", "1 h", "6 h", "1 day", "7 days", "30 days", "1 year")


class Bar(NamedTuple):
    """A bar over a name on the axis; `text` is what it says of itself."""

    name: str
    value: float
    text: str


class Dot(NamedTuple):
    """A dot at a moment (seconds since the epoch)."""

    at: float
    value: float
    text: str


class Axis(NamedTuple):
    """Lines across a chart: their words, and how high each is (0 to 1); `height` of any value in the same way."""

    ticks: tuple[tuple[float, str], ...]
    height: Callable[[float], float]


def bars(key: str, title: str, summary: str, values: Sequence[Bar], unit: Callable[[float], str]) -> str:
    """A bar for each value, in order; `key` is this chart's name in the page, `summary` what it shows in words."""
    axis = _linear(max((bar.value for bar in values), default=0), unit)
    step = _INNER_WIDTH / max(len(values), 1)
    drawn = []
    for number, bar in enumerate(values):
        height = axis.height(bar.value) * _INNER_HEIGHT
        if bar.value:
            height = max(height, 1.5)  # little is not nothing
            x, y = _LEFT + number * step + step * 0.12, _TOP + _INNER_HEIGHT - height
            drawn.append(
                f'<rect class="mark" x="{x:.1f}" y="{y:.1f}" width="{step * 0.76:.1f}" height="{height:.1f}" rx="1">'
                f"<title>{escape(bar.text)}</title></rect>"
            )
    names = [bar.name for bar in values]
    return _chart(key, title, summary, axis, "".join(drawn), names[:1] + names[-1:] if len(names) > 1 else names)


def dots(key: str, title: str, summary: str, values: Sequence[Dot], axis: Axis, day: Callable[[float], str]) -> str:
    """A dot for each value over time; `day` names a moment at the ends of the time axis."""
    first, last = min((dot.at for dot in values), default=0), max((dot.at for dot in values), default=0)
    span = last - first
    drawn = []
    for dot in values:
        x = _LEFT + 4 + (_INNER_WIDTH - 8) * ((dot.at - first) / span if span else 0.5)
        y = _TOP + _INNER_HEIGHT * (1 - axis.height(dot.value))
        drawn.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(dot.text)}</title></circle>')
    names = list(dict.fromkeys((day(first), day(last)))) if values else []
    return _chart(key, title, summary, axis, "".join(drawn), names)


def linear_axis(values: Sequence[float], unit: Callable[[float], str]) -> Axis:
    """From 0 to a round number above them all."""
    return _linear(max(values, default=0), unit)


def duration_axis(values: Sequence[float]) -> Axis:
    """By powers, since seconds and days stand side by side: the lines are units that people use."""
    least, most = min(values, default=_MINUTE), max(values, default=_HOUR)
    low = max((tick for tick in _DURATIONS if tick <= least), default=_DURATIONS[0])
    high = min((tick for tick in _DURATIONS if tick >= most and tick > low), default=max(most, _DURATIONS[-1]))
    span = math.log(high / low)

    def height(value: float) -> float:
        return min(1.0, max(0.0, math.log(max(value, low) / low) / span))

    words = zip(_DURATIONS, _DURATION_WORDS, strict=True)
    return Axis(tuple((height(tick), word) for tick, word in words if low <= tick <= high), height)


def _linear(most: float, unit: Callable[[float], str]) -> Axis:
    top = _round_up(most)
    ticks = tuple((part, unit(top * part).replace(".0 ", " ")) for part in ((0.0, 0.5, 1.0) if most else (0.0,)))
    return Axis(ticks, lambda value: value / top)


def _round_up(value: float) -> float:
    """The next number that is 1, 2, 4 or 6 times a power of ten, or that of the next; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 4, 6, 10, 20) if factor * power >= value)


def _chart(key: str, title: str, summary: str, axis: Axis, drawn: str, names: Sequence[str]) -> str:
    lines = []
    for part, word in axis.ticks:
        y = _TOP + _INNER_HEIGHT * (1 - part)
        lines.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(word)}</text>'
        )
    anchors = ("start", "end") if len(names) > 1 else ("middle",)
    places = (_LEFT, WIDTH - _RIGHT) if len(names) > 1 else (_LEFT + _INNER_WIDTH / 2,)
    words = [
        f'<text x="{x:.0f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{escape(name)}</text>'
        for name, x, anchor in zip(names, places, anchors, strict=False)
    ]
    nothing = f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT / 2:.0f}" text-anchor="middle">nothing to show yet</text>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-desc">{escape(summary)}</desc>'
        f"{''.join(lines)}{drawn or nothing}{''.join(words)}</svg>"
    )
