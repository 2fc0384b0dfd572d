"""One container and three, of a handler that does nothing and of one that needs the CPU, beside replicas of Ray Serve."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from bench import load, processes
from bench.contenders.base import APPS, Contender, Running, answered
from bench.contenders.home import Server, home
from bench.contenders.home import label as label_of
from bench.contenders.ray_serve import RayServe, RayServeHaproxy
from bench.figures import number, spread
from bench.plan import Plan
from bench.results import Table

COUNTS = {"one": 1, "three": 3}
CONNECTIONS = 32
PATHS = {"hello": "/", "CPU": "/work"}


class Replicas(RayServeHaproxy):
    """Ray Serve with HAProxy, with so many replicas."""

    def __init__(self, beside: Contender, count: int) -> None:
        super().__init__()
        assert isinstance(beside, RayServe)
        self.folder, self._count = beside.folder, count

    def argv(self, port: int) -> list[str]:
        return [str(self.folder / "bin" / "python"), "ray_replicas.py", str(port), str(self._count)]


def measure(plan: Plan) -> None:
    """homeport, and Ray Serve if it was installed; one after the other, because both need all cores."""
    ray = next((each for each in plan.contenders if each.name == RayServeHaproxy.name), None)
    rows = []
    for name, count in COUNTS.items():
        with _ours(plan, name, count) as running:
            rows.append([f"homeport, {count}", *_row(plan, running)])
        if ray is None:
            continue
        with plan.folder() as folder, Replicas(ray, count).start(folder) as running:
            rows.append([f"{ray.name}, {count}", *_row(plan, running)])
        plan.say(f"  {rows[-2]} {rows[-1]}")
    plan.findings.tables.append(
        Table(
            title="One container and three, on one machine",
            told=f"Requests a second at {CONNECTIONS} connections, to a handler that does nothing and to one that needs the CPU, and the memory (PSS) of all "
            "processes after that. The containers, what leads requests to them, and the client share the cores of one machine: with two cores three containers "
            "can answer no more than two that have a core each. Higher is better, but for memory.",
            columns=["containers or replicas", "hello/s", "p50 (ms)", "CPU/s", "p50 (ms)", "MiB"],
            rows=rows,
        )
    )


@contextmanager
def _ours(plan: Plan, name: str, count: int) -> Iterator[Running]:
    with plan.folder() as folder, home() as terminal:
        for file in ("homeport_two.py", "two.py"):
            shutil.copy(APPS / file, folder)
        (url,) = terminal.deploy(f"{folder / 'homeport_two.py'}::{name}").values()
        answered(url)
        server = Server(terminal)
        while len(server.containers()) < count:
            answered(url)
        yield Running(
            name="homeport", url=url, roots=[server.pid], label=label_of, first_answer_s=0.0
        )


def _row(plan: Plan, running: Running) -> list[str]:
    cells = []
    for path in PATHS.values():
        url = running.url.rstrip("/") + path
        answered(url)
        words = load.argv(url, connections=CONNECTIONS, seconds=plan.times(4, 1))
        load.run(words)  # warms up
        runs = [load.run(words) for _ in range(plan.times(5, 1))]
        if failed := sum(run.errors for run in runs):
            raise RuntimeError(f"{running.name}: {failed} requests failed")
        cells += [
            str(spread([run.per_s for run in runs])),
            str(spread([run.p50_us / 1000 for run in runs])),
        ]
    return [*cells, number(processes.pss_mib(running.tree()))]
