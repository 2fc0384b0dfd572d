"""Draws charts as SVG: without a script, so that they are there at once, print, and scale.

Colour alone carries no meaning: each line has its own dashes and its name, and a table has the same numbers.
"""

import json
from collections.abc import Sequence

from markupsafe import Markup

from homeport.contract.dataclass import dataclass

WIDTH, HEIGHT = 440, 130
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 8
HIGH = HEIGHT - TOP - BOTTOM
APART, MOST_HIGH = 0.2, 5  # markers whose texts would overlap, and how many are below each other
Values = Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart."""

    name: str
    values: Values
    kind: str = "a"  # `a` to `f`: its colour and its dashes, in style.css


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """A moment that a chart shows, as a place between 0 and 1."""

    place: float
    text: str


def sparkline(values: Values, text: str) -> Markup:
    """Return a small line without axes; `text` says what it shows."""
    most = max((value for value in values if value), default=0) or 1
    points = _points(values, most, 0, 80, 1, 18)
    return Markup(
        '<svg class="spark" viewBox="0 0 80 20" width="80" height="20" role="img" aria-label="{}">'
        '<path d="{}"/></svg>'
    ).format(text, points)


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    unit: str,
    begin: float,
    step_s: float,
    markers: Sequence[Marker] = (),
    shown: str = "",
) -> Markup:
    """Return a chart of lines over time; `shown` is a sentence with the last numbers."""
    most = max((value for line in lines for value in line.values if value is not None), default=0)
    top = _round_up(most)
    steps = max((len(line.values) for line in lines), default=1)
    parts = [Markup("<title>{}</title>").format(title), *_grid(top), *_markers(markers)]
    parts += [
        Markup('<path class="line {}" d="{}"/>').format(
            line.kind, _points(line.values, top, LEFT, WIDTH - RIGHT, TOP, TOP + HIGH)
        )
        for line in lines
    ]
    legend = Markup("").join(
        Markup(
            '<li><svg width="22" height="8" aria-hidden="true"><path class="line {}" d="M0 4H22"/></svg>{}'
            " <b>{}</b></li>"
        ).format(line.kind, line.name, _last(line.values))
        for line in lines
    )
    return Markup(
        '<figure class="chart" data-begin="{:.0f}" data-step="{:g}" data-steps="{}" data-left="{}" data-right="{}" data-values="{}">'
        "<figcaption>{} <small>{}</small><output></output></figcaption>"
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
        '<ul class="legend">{}</ul>{}</figure>'
    ).format(
        begin, step_s, steps, LEFT / WIDTH, (WIDTH - RIGHT) / WIDTH, _values(lines),
        title, unit, WIDTH, HEIGHT, f"{title}: {shown}", Markup("").join(parts), legend,
        _table(title, lines, begin, step_s),
    )  # fmt: skip


def _grid(top: float) -> list[Markup]:
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = TOP + HIGH * (1 - share)
        lines.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text class="axis" x="{}" y="{:.1f}" text-anchor="end">{}</text>'
            ).format(LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4, _short(top * share))
        )
    return lines


def _markers(markers: Sequence[Marker]) -> list[Markup]:
    """Return the lines of markers; texts that are close are below each other."""
    lines, high, last = [], 0, -1.0
    for marker in sorted(markers, key=lambda marker_: marker_.place):
        high = (high + 1) % MOST_HIGH if marker.place - last < APART else 0
        last = marker.place
        lines.append(_marker(marker, high))
    return lines


def _marker(marker: Marker, high: int) -> Markup:
    x = LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, marker.place))
    side, gap = ("end", -3) if marker.place > 0.9 else ("start", 3)
    return Markup(
        '<g class="marker"><line x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>'
        '<text x="{:.1f}" y="{}" text-anchor="{}">{}</text></g>'
    ).format(x, x, TOP, TOP + HIGH, x + gap, TOP + 9 + 11 * high, side, marker.text)


def strip(begin: float, took: float, total: float) -> Markup:
    """Return one bar of a waterfall: when a part began and how long it took, in a whole of `total`."""
    scale = 1000 / (total or 1.0)
    wide = max(4.0, min(took * scale, 1000.0))
    return Markup(
        '<svg viewBox="0 0 1000 14" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="part" x="{:.1f}" width="{:.1f}" y="2" height="10"/></svg>'
    ).format(min(max(begin, 0.0) * scale, 1000 - wide), wide)


def _table(title: str, lines: Sequence[Line], begin: float, step_s: float) -> Markup:
    """Return the same numbers as text, of the last 30 steps; the page's script reads all of them for the pointer."""
    steps = max((len(line.values) for line in lines), default=0)
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(line.name) for line in lines)
    rows = []
    for at in range(max(0, steps - 30), steps):
        cells = Markup("").join(
            Markup('<td class="n">{}</td>').format(_value(line.values[at])) for line in lines
        )
        moment = begin + at * step_s
        rows.append(
            Markup('<tr><td><time data-at="{:.0f}"></time></td>{}</tr>').format(moment, cells)
        )
    return Markup(
        '<details><summary>As a table<span class="hidden">: {}</span></summary><div class="scroll"><table>'
        '<thead><tr><th scope="col">From</th>{}</tr></thead><tbody>{}</tbody></table></div></details>'
    ).format(title, head, Markup("").join(reversed(rows)))


def _points(values: Values, top: float, left: float, right: float, high: float, low: float) -> str:
    """Return a path through the values; where there is none, it has a gap."""
    steps = max(1, len(values) - 1)
    words, is_on = [], False
    for place, value in enumerate(values):
        if value is None:
            is_on = False
            continue
        x = left + (right - left) * place / steps
        y = low - (low - high) * min(1.0, value / (top or 1))
        is_alone = not is_on and (place + 1 == len(values) or values[place + 1] is None)
        # A point without neighbours is a small cross.
        cross = f"M{x - 2:.1f} {y:.1f}h4M{x:.1f} {y - 2:.1f}v4"
        words.append(cross if is_alone else f"{'L' if is_on else 'M'}{x:.1f} {y:.1f}")
        is_on = True
    return "".join(words)


def _round_up(value: float) -> float:
    """Return the next number that is easy to read.

    >>> [_round_up(each) for each in (0, 0.3, 7, 12, 430)]
    [1, 0.5, 10.0, 20.0, 500.0]
    """
    if value <= 0:
        return 1
    scale = 1.0
    while scale * 10 <= value:
        scale *= 10
    while scale > value:
        scale /= 10
    for step in (1, 2, 5, 10):
        if step * scale >= value:
            return round(step * scale, 9)
    return value


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _values(lines: Sequence[Line]) -> str:
    """Return all numbers as JSON, for the pointer."""
    series = [
        (line.name, [None if value is None else _value(value) for value in line.values])
        for line in lines
    ]
    return json.dumps(series, separators=(",", ":"))


def _last(values: Values) -> str:
    return next((_value(value) for value in reversed(values) if value is not None), "-")
