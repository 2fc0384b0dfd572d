"""Several machines, as namespaces of this one: what the way to another machine costs, its cold starts, and more machines."""

import http.client
import shlex
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
from tests import namespaces
from tests.journeys import machines
from tests.journeys.machines import Cluster, On
from tests.waiting import wait_for

from bench.figures import number, spread
from bench.measures import replicas
from bench.plan import Plan
from bench.results import Limit, Table

COLD_AIM_MS = 60
VISITORS = 8
OTHERS = ("b", "c", "d")
APP = """
import homeport

app = homeport.App("machines")


@app.function(region="first", min_containers=1)
@homeport.concurrent(max_inputs=100)
@homeport.fastapi_endpoint()
async def here():
    return "hello"


@app.function(region="b", min_containers=1)
@homeport.concurrent(max_inputs=100)
@homeport.fastapi_endpoint()
async def there():
    return "hello"


@app.function(region="first", scaledown_window=2)
@homeport.fastapi_endpoint()
def cold_here():
    return "hello"


@app.function(region="b", scaledown_window=2)
@homeport.fastapi_endpoint()
def cold_there():
    return "hello"


def work():
    return sum(number * number for number in range(200_000))


@app.function(region="b", min_containers=2, max_containers=2)
@homeport.fastapi_endpoint()
def one():
    return work()


@app.function(region=["b", "c", "d"], min_containers=6, max_containers=6)
@homeport.fastapi_endpoint()
def three():
    return work()
"""


def measure(plan: Plan) -> None:
    """Requests and cold starts here and there, and one machine beside three."""
    if why := namespaces.lacks():
        raise RuntimeError(why)
    with plan.folder() as root, machines.cluster(root / "c", {"HOMEPORT_REGION": "first"}) as made:
        for name in OTHERS:
            made.join(name)
            made.first.run("node", "label", name, f"region={name}")
        script = root / "machines.py"
        script.write_text(APP)
        made.first.run("deploy", script)
        wait_for(lambda: len(made.first.containers()) >= 10, "the containers")
        urls = made.first.urls()
        with made.first.machine.inside():
            _warm(plan, made, urls)
            _cold(plan, made.first, urls)
        _throughput(plan, made.first, urls)
    replicas.measure(plan)


def _warm(plan: Plan, made: Cluster, urls: dict[str, str]) -> None:
    fronts = made.first.processes("haproxy-")
    backs = made.nodes["b"].processes("haproxy-")
    rows, requests = [], plan.times(2000, 200)
    for name in ("here", "there"):
        runs = []
        for _ in range(plan.times(5, 1)):
            with _asking(urls[name]) as ask:
                ask()
                before = _cpu_s(fronts), _cpu_s(backs)
                took = sorted(_took_ms(ask) for _ in range(requests))
                after = _cpu_s(fronts), _cpu_s(backs)
            cpu = [(b - a) / requests * 1e6 for a, b in zip(before, after, strict=True)]
            runs.append((took[len(took) // 10], took[len(took) // 2], *cpu))
        rows.append([name, *(str(spread(values)) for values in zip(*runs, strict=True))])
    plan.findings.tables.append(
        Table(
            title="A container of another machine, warm",
            told=f"{requests:,} requests on one connection, from the first machine. The machines are namespaces of this one, and their wire is a "
            "thread that carries packets, so the milliseconds have its time too; CPU time is that of HAProxy alone.",
            columns=[
                "the container is",
                "fastest tenth (ms)",
                "median (ms)",
                "CPU of the ingress (us)",
                "CPU of its machine's HAProxy (us)",
            ],
            rows=rows,
        )
    )


def _cold(plan: Plan, first: On, urls: dict[str, str]) -> None:
    rows, found = [], {}
    for name in ("cold_here", "cold_there"):
        times = []
        for _ in range(plan.times(10, 2) + 1):
            wait_for(lambda: not _of(first, name), f"no container of `{name}`")  # noqa: B023 - called at once
            with _asking(urls[name]) as ask:
                times.append(_took_ms(ask))
        found[name] = spread(times[1:])  # the first one makes the function's zygote
        rows.append([name.removeprefix("cold_"), str(found[name]), number(min(times[1:]))])
    plan.findings.tables.append(
        Table(
            title="A container of another machine, cold",
            told="A request to a function without a container, whose zygote is warm: until the answer.",
            columns=["the container is", "median (ms)", "least (ms)"],
            rows=rows,
        )
    )
    plan.findings.limits.append(
        Limit(
            what="a cold start on another machine (ms)",
            now=number(found["cold_there"].median),
            beside=f"here {number(found['cold_here'].median)}",
            goal=f"{COLD_AIM_MS}",
        )
    )


def _throughput(plan: Plan, first: On, urls: dict[str, str]) -> None:
    rows = []
    for name, count in (("one", 1), ("three", 3)):
        runs = [_rate(first, urls[name], plan.times(300, 40)) for _ in range(plan.times(3, 1))]
        rows.append([str(count), str(spread(runs))])
    plan.findings.tables.append(
        Table(
            title="A handler that needs the CPU, on more machines",
            told=f"{VISITORS} visitors at once, two containers on each machine. All machines share the cores of this one: what this shows is what more "
            "machines cost, and not what they bring.",
            columns=["machines", "requests a second"],
            rows=rows,
        )
    )


def _rate(first: On, url: str, requests: int) -> float:
    def visit(_number: int) -> None:
        with first.machine.inside(), _asking(url) as ask:
            for _ in range(requests // VISITORS):
                ask()

    began = time.monotonic()
    with ThreadPoolExecutor(VISITORS) as pool:
        list(pool.map(visit, range(VISITORS)))
    return requests // VISITORS * VISITORS / (time.monotonic() - began)


@contextmanager
def _asking(url: str) -> Iterator["_Ask"]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        yield _Ask(connection)
    finally:
        connection.close()


class _Ask:
    """Asks once on a connection."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def __call__(self) -> None:
        self._connection.request("GET", "/")
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {shlex.quote(text.decode())}")


def _took_ms(ask: _Ask) -> float:
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1000


def _of(first: On, function: str) -> list[dict[str, object]]:
    return [each for each in first.containers() if each["function"] == function]


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    """Return the CPU time of processes; one that has ended uses none any more."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
