"""Calls of functions: what one costs, how many there are in a second, and the first one."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from tests.waiting import wait_for

from bench import processes
from bench.contenders import callers
from bench.contenders.base import APPS
from bench.contenders.home import Server, home, label
from bench.figures import spread
from bench.plan import Plan
from bench.results import DASH, Table

MAPPED = 10_000
STORED = 5000  # calls, and operations of a Dict
PATHS = {"spawned": "spawn", "spawned_at_once": "spawn-at-once", "operations": "operations"}
OURS = ("HAProxy", "control plane")
TITLES = {
    "remote_ms": "a warm `.remote()`, more than a local call (ms)",
    "cpu_us": "CPU of HAProxy and the control plane for it (µs)",
    "mapped": "`.map()` of trivial inputs over 4 containers (calls a second)",
    "spawned": "`.spawn()` from one caller, one after the other, each on the disk (calls accepted a second)",
    "spawned_at_once": "`.spawn()`, 32 at once (calls accepted a second)",
    "operations": "a `Dict` set and read by ten callers (operations a second)",
    "cold_ms": "a cold `.remote()` (ms)",
}


def measure(plan: Plan) -> None:
    """From inside a container, as a function's own code sees it."""
    calls = plan.times(3000, 300)
    latency_ms, cpu_us = [], []
    with home() as terminal, httpx.Client(timeout=600, trust_env=False) as client:
        url = terminal.deploy(APPS / "homeport_calls.py")["caller"]
        server = Server(terminal)

        def ask(path: str) -> Any:
            return client.get(f"{url}/{path}").raise_for_status().json()

        ask(f"remote/{calls}")
        for _ in range(plan.times(8, 3)):
            cpu = processes.Cpu([server.pid], label)
            local_ms = ask(f"local/{calls}") * 1000
            latency_ms.append(statistics.median(ask(f"remote/{calls}")) * 1000 - local_ms)
            spent = cpu.seconds()
            cpu_us.append(sum(spent.get(name, 0.0) for name in OURS) / calls * 1e6)
        ask("map/1000")
        inputs = plan.times(MAPPED, 2000)
        ours = {"remote_ms": latency_ms, "cpu_us": cpu_us, "cold_ms": []}
        ours["mapped"] = [ask(f"map/{inputs}") for _ in range(plan.times(5, 2))]
        for what, path in PATHS.items():
            count = plan.times(STORED, 500)
            ask(f"{path}/100")  # the containers are there
            ours[what] = [ask(f"{path}/{count}") for _ in range(plan.times(5, 2))]
        for _ in range(plan.times(12, 3)):
            wait_for(_has_no_container(server), "no container of `cold`")
            ours["cold_ms"].append(ask("cold") * 1000)
    found = {"homeport": ours, **_peers(plan)}
    plan.findings.tables.append(
        Table(
            title="Calls of functions",
            told="From a function in a container to another function, whose container is there but for the last line. "
            + " ".join(f"{each.name}: {each.told}." for each in callers.everyone()),
            columns=["", *found],
            rows=[
                [title, *(_cell(of.get(what, ())) for of in found.values())]
                for what, title in TITLES.items()
            ],
        )
    )


def _peers(plan: Plan) -> dict[str, callers.Told]:
    found: dict[str, callers.Told] = {}
    for peer in callers.everyone():
        try:
            with plan.folder() as folder:
                found[peer.name] = peer.measure(
                    folder, plan.times(1000, 100), plan.times(MAPPED, 1000), plan.times(6, 2)
                )
        except Exception as error:
            plan.failed(f"calls, {peer.name}", error)
    return found


def _cell(values: Sequence[float]) -> str:
    return str(spread(values)) if values else DASH


def _has_no_container(server: Server) -> Callable[[], bool]:
    return lambda: not any(each["function"] == "cold" for each in server.containers("calls"))
