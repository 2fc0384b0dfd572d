"""RESULTS.md: the tables, and under which conditions they came about."""

import datetime as dt
from collections.abc import Sequence

from bench import machine
from bench.contenders.base import Contender
from bench.results import Findings, at_the_limit, failures, render

HOW = """\
Everything here was measured in one run, on one machine, with the same client and the same FastAPI handler (an async
function that returns a small JSON). A contender is started once; then plain uvicorn and it are asked in turn, and ratios and
differences are those of each pair. Figures are medians, with (least-most) of the rounds. The client takes part of the same
cores. CPU time is that of a contender's whole process tree.
"""


def page(
    findings: Findings,
    there: Sequence[Contender],
    *,
    command: str,
    began: dt.datetime,
    took_s: float,
    busy: float,
) -> str:
    """The whole of it, in Markdown."""
    lines = ["# Figures", ""]
    if findings.headlines:
        lines += [*(f"- {headline}" for headline in findings.headlines), ""]
    lines += [HOW]
    lines += ["```", command, "```", ""]
    lines += [
        f"{began:%Y-%m-%d %H:%M} UTC, {took_s / 60:.0f} minutes. {machine.told()}.",
        f"Before it began, other work took {busy:.0f} % of the cores.",
        "",
        "homeport and uvicorn run in one environment: "
        + ", ".join(f"{name} {version}" for name, version in machine.ours().items())
        + ".",
        "",
        "| | versions | run as |",
        "| --- | --- | --- |",
    ]
    for contender in there:
        versions = ", ".join(f"{name} {version}" for name, version in contender.versions.items())
        lines.append(f"| {contender.name} | {versions} | {contender.told} |")
    lines.append("")
    if findings.series:
        lines += ["![Requests a second, CPU time, latency and cold starts](RESULTS.png)", ""]
    lines += at_the_limit(findings.limits)
    for table in findings.tables:
        lines += render(table)
    lines += failures(findings.failures)
    return "\n".join(lines).rstrip() + "\n"
