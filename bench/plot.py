"""RESULTS.png: the four figures that say the most, with every round's value as a dot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.figures import number, spread
from bench.results import Findings

OURS, REFERENCE, OTHERS, DOT = "#2a6fdb", "#444444", "#b9bec7", "#111111"
#: Of the parts of a contender's CPU time, the largest first.
SHADES = (1.0, 0.7, 0.45, 0.3)
Values = Mapping[str, Sequence[float]]


def draw(findings: Findings, path: Path) -> None:
    """Panels of what was not measured stay away; no figure at all, no picture."""
    panels = [
        (figure, draw_one)
        for figure, draw_one in (
            ("ratio@32", _throughput),
            ("cpu_us@32", _cpu),
            ("added_us@1", _added),
            ("cold_ms", _cold),
        )
        if findings.series.get(figure)
    ]
    if not panels:
        return
    rows = -(-len(panels) // 2)
    figure, axes = plt.subplots(rows, min(2, len(panels)), figsize=(14, 4.4 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (name, draw_one) in zip(axes.flat, panels, strict=False):
        draw_one(axis, findings.series[name])
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontweight("bold")
    figure.tight_layout(pad=2.0)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _throughput(axis: Axes, values: Values) -> None:
    _bars(axis, values)
    axis.axvline(1.0, color=REFERENCE, linewidth=1.2)
    axis.set_title("Requests a second, 32 connections, uvicorn = 1 (higher is better)")


def _added(axis: Axes, values: Values) -> None:
    _bars(axis, values)
    axis.set_title("Latency above uvicorn's, p50 at one connection, µs (lower is better)")


def _cpu(axis: Axes, values: Values) -> None:
    """Stacked: `contender: process` -> values."""
    names = list(dict.fromkeys(key.partition(": ")[0] for key in values))
    for row, name in enumerate(names):
        parts = {k.partition(": ")[2]: v for k, v in values.items() if k.startswith(f"{name}: ")}
        left = 0.0
        for shade, of in enumerate(parts.values()):
            width = spread(of).median
            alpha = SHADES[min(shade, len(SHADES) - 1)]
            axis.barh(row, width, left=left, color=_colour(name), alpha=alpha, edgecolor="white")
            left += width
        told = " + ".join(part for part, of in parts.items() if spread(of).median >= 0.02 * left)
        axis.text(left, row, f"  {number(left)}  {told}", va="center", fontsize=9)
    _rows(axis, names, room=1.75)
    axis.set_title("CPU time a request, 32 connections, µs (lower is better)")


def _cold(axis: Axes, values: Values) -> None:
    _bars(axis, values)
    axis.set_title("Cold start, ms (lower is better)")


def _bars(axis: Axes, values: Values) -> None:
    for row, (name, of) in enumerate(values.items()):
        median = spread(of).median
        axis.barh(row, median, color=_colour(name))
        axis.plot(of, [row] * len(of), ".", color=DOT, markersize=4, alpha=0.6)
        axis.annotate(
            number(median),
            (max(of), row),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    _rows(axis, list(values), room=1.15)


def _rows(axis: Axes, names: list[str], *, room: float) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlim(right=axis.get_xlim()[1] * room)


def _colour(name: str) -> str:
    if "homeport" in name:
        return OURS
    return REFERENCE if "uvicorn" in name else OTHERS
