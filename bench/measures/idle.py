"""What a server takes that nobody asks: memory with nothing deployed and with one app, CPU with many warm containers."""

import time

import httpx
from tests.waiting import wait_for

from bench import processes
from bench.contenders.base import APPS, SETTLE_S, answered
from bench.contenders.home import Server, home, label, many
from bench.contenders.uvicorn import Uvicorn
from bench.figures import number
from bench.plan import Plan
from bench.results import Limit, Table
from homeport.control.fleet.resting import AFTER_S

WARM = 50
PAUSE_S = 2.0  # between two requests to one of many warm containers
SECONDS = 20
OPTIONS = "min_containers=1, max_containers=1"


def measure(plan: Plan) -> None:
    """One server after the other; uvicorn's memory beside them."""
    with plan.folder() as folder, Uvicorn().start(folder) as running:
        time.sleep(SETTLE_S)
        beside_mib = processes.pss_mib(running.tree())
        beside_idle = _share(processes.Cpu(running.roots, running.label), plan)
    nothing_mib, warm_mib = _memory(plan)
    shares = _many(plan)
    plan.findings.limits += [
        Limit(
            what="memory with nothing deployed, MiB",
            now=number(nothing_mib),
            beside=f"uvicorn {number(beside_mib)}",
            goal="at most 70",
        ),
        Limit(
            what="memory with one warm app, MiB",
            now=number(warm_mib),
            beside=f"uvicorn {number(beside_mib)}",
            goal="at most 110",
        ),
        Limit(
            what=f"CPU with {WARM} warm containers that nobody asks, % of a core",
            now=number(sum(shares["nobody asks"].values())),
            beside=f"uvicorn {number(sum(beside_idle.values()))}, one server",
            goal="at most 0.5",
        ),
    ]
    plan.findings.tables.append(
        Table(
            title="A server that nobody asks",
            told=f"Percent of a core with {WARM} functions of one warm container each.",
            columns=["%", "all", "by process"],
            rows=[
                [
                    what,
                    number(sum(parts.values())),
                    ", ".join(f"{part} {number(share)}" for part, share in parts.items()) or "0",
                ]
                for what, parts in shares.items()
            ],
        )
    )


def _memory(plan: Plan) -> tuple[float, float]:
    """PSS of all processes with nothing deployed, once the server rests, and with one warm app."""
    with home() as terminal, plan.folder() as folder:
        terminal.run("up")
        server = Server(terminal)
        time.sleep(AFTER_S)
        wait_for(lambda: len(processes.tree(server.pid)) == 2, "a server at rest")
        nothing_mib = processes.pss_mib(processes.tree(server.pid))
        script = folder / "warm.py"
        text = (APPS / "cold_hello.py").read_text()
        script.write_text(text.replace("scaledown_window=2, max_containers=1", "min_containers=1"))
        (url,) = terminal.deploy(script).values()
        answered(url)
        time.sleep(SETTLE_S)
        return nothing_mib, processes.pss_mib(processes.tree(server.pid))


def _many(plan: Plan) -> dict[str, dict[str, float]]:
    """The percent of a core by process: nobody asks, and one request now and then to one of the containers."""
    with home() as terminal, plan.folder() as folder, httpx.Client() as client:
        url = terminal.deploy(many(folder, "warm", WARM, OPTIONS))["f0"]
        server = Server(terminal)
        wait_for(lambda: len(server.containers()) == WARM, f"{WARM} containers")
        answered(url)
        time.sleep(2 * SETTLE_S)  # compiled files of the packages are written meanwhile
        idle = _share(processes.Cpu([server.pid], label), plan)
        cpu = processes.Cpu([server.pid], label)
        asked_s = plan.times(SECONDS, 4)
        until = time.monotonic() + asked_s
        while time.monotonic() < until:
            client.get(url).raise_for_status()
            time.sleep(PAUSE_S)
        asked = {part: took / asked_s * 100 for part, took in cpu.seconds().items()}
        return {"nobody asks": idle, f"a request each {number(PAUSE_S)} s": asked}


def _share(cpu: processes.Cpu, plan: Plan) -> dict[str, float]:
    """Wait; return the percent of a core by process since then."""
    time.sleep(seconds := plan.times(SECONDS, 4))
    return {part: took / seconds * 100 for part, took in cpu.seconds().items()}
