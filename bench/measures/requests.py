"""Requests a second, latency and CPU time, at 1, 32 and 256 connections."""

import time
from collections.abc import Sequence

from bench import load, processes
from bench.contenders.base import Running
from bench.figures import differences, number, ratios, spread
from bench.pairs import Measure, Pairs, Sample
from bench.plan import Plan
from bench.results import DASH, Table

CONNECTIONS = (1, 32, 256)
IDLE_S = 5.0


class Requests(Measure):
    """By wrk."""

    name = "requests"
    rounds = (4, 1)
    connections: Sequence[int] = CONNECTIONS

    def __init__(self) -> None:
        self._idled: set[str] = set()  # once is enough for what each takes when nobody asks

    def sample(self, running: Running, plan: Plan) -> Sample:
        seconds = 1 if plan.quick else 2
        script = None
        if running.method == "POST":
            script = plan.root / "post.lua"
            script.write_text(load.POST)
        found: Sample = {}
        if running.name not in self._idled:
            self._idled.add(running.name)
            found["idle"] = _idle(running)
        for count in self.connections:
            words = load.argv(running.url, connections=count, seconds=seconds, script=script)
            cpu = processes.Cpu(running.roots, running.label)
            seen = load.run(words)
            spent = cpu.seconds()
            found[f"per_s@{count}"] = seen.per_s
            found[f"p50_us@{count}"] = seen.p50_us
            found[f"p99_us@{count}"] = seen.p99_us
            found[f"errors@{count}"] = seen.errors
            for part, took in spent.items():
                found[f"cpu_us@{count}:{part}"] = took * 1e6 / seen.requests
            found[f"cpu_us@{count}"] = sum(spent.values()) * 1e6 / seen.requests
        found["pss_mib"] = processes.pss_mib(running.tree())
        return found

    def tables(self, pairs: Pairs) -> list[Table]:
        return [self.throughput(pairs), self.latency(pairs), self.cpu(pairs)]

    def throughput(self, pairs: Pairs, title: str = "Requests a second") -> Table:
        """And the ratios."""
        rows = []
        for name in pairs.names():
            cells: list[str | tuple[str, str]] = [name]
            for count in self.connections:
                values = pairs.own(name, f"per_s@{count}")
                if not values:
                    cells += [(DASH, pairs.without[name]), DASH]
                    continue
                errors = sum(pairs.own(name, f"errors@{count}"))
                told = str(spread(values))
                cells.append((told, f"{errors:,.0f} errors at {count}") if errors else told)
                compared = pairs.figure(name, f"per_s@{count}")
                cells.append(f"**{ratios(compared)}**" if compared else "1")
            rows.append(cells)
        columns = [""]
        for count in self.connections:
            columns += [f"{count} conn.", f"/ {pairs.reference}"]
        return Table(
            title=title,
            told=f"And the ratio to {pairs.reference}, pair by pair. Higher is better.",
            columns=columns,
            rows=rows,
        )

    def latency(self, pairs: Pairs) -> Table:
        """Of answers, as wrk saw it."""
        rows = []
        for name in pairs.names():
            cells: list[str | tuple[str, str]] = [name]
            added = [own - one for one, own in pairs.figure(name, "p50_us@1")]
            for count in self.connections:
                for quantile in ("p50", "p99"):
                    values = pairs.own(name, f"{quantile}_us@{count}")
                    if values:
                        cells.append(number(spread(values).median / 1000))
                    else:
                        cells.append((DASH, pairs.without[name]))
            cells.append(str(spread(added)) if added else DASH)
            rows.append(cells)
        columns = ["ms"] + [
            f"{q}, {count} conn." for count in self.connections for q in ("p50", "p99")
        ]
        return Table(
            title="Latency",
            told=f"Milliseconds; the last column is what p50 at one connection is above "
            f"{pairs.reference}'s, pair by pair, in microseconds. Lower is better.",
            columns=[*columns, "added, us"],
            rows=rows,
        )

    def cpu(self, pairs: Pairs, title: str = "CPU time a request") -> Table:
        """By process."""
        rows = []
        for name in pairs.names():
            cells: list[str | tuple[str, str]] = [name]
            for count in self.connections:
                values = pairs.own(name, f"cpu_us@{count}")
                if not values:
                    cells.append((DASH, pairs.without[name]))
                    continue
                cells.append(str(spread(values)))
            above = pairs.figure(name, "cpu_us@32")
            cells.append(f"**{differences(above)}**" if above else DASH)
            cells.append(_parts(pairs, name))
            for figure in ("idle", "pss_mib"):
                values = pairs.own(name, figure)
                cells.append(number(spread(values).median) if values else DASH)
            rows.append(cells)
        return Table(
            title=title,
            told="Microseconds of all processes of a contender, from /proc; steadier than wall time. "
            "Idle is what they take when nobody asks, in percent of a core; memory is proportional "
            "(PSS), all processes, after the load. Lower is better.",
            columns=[
                "us",
                *(f"{count} conn." for count in self.connections),
                f"above {pairs.reference}, 32",
                "by process, 32",
                "idle %",
                "MiB",
            ],
            rows=rows,
        )


def cpu_parts(pairs: Pairs, name: str, connections: int) -> dict[str, list[float]]:
    """Process -> its CPU time a request, of each round; the largest first."""
    head = f"cpu_us@{connections}:"
    if name == pairs.reference:
        samples = [reference for of in pairs.of.values() for reference, _ in of]
    else:
        samples = [own for _, own in pairs.of.get(name, [])]
    found = {figure.removeprefix(head) for s in samples for figure in s if figure.startswith(head)}
    parts = {part: [s.get(head + part, 0.0) for s in samples] for part in found}
    return dict(sorted(parts.items(), key=lambda each: -spread(each[1]).median))


def _parts(pairs: Pairs, name: str) -> str:
    parts = {part: spread(v).median for part, v in cpu_parts(pairs, name, 32).items()}
    return ", ".join(f"{part} {number(median)}" for part, median in parts.items() if median >= 0.5)


def _idle(running: Running) -> float:
    """Percent of a core."""
    cpu = processes.Cpu(running.roots, running.label)
    time.sleep(IDLE_S)
    return 100 * sum(cpu.seconds().values()) / IDLE_S
