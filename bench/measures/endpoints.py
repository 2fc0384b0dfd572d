"""Many endpoints: what each costs while nobody asks, and whether the others feel it."""

import time

from bench import load, processes
from bench.contenders.base import answered
from bench.contenders.home import Server, home, label, many
from bench.contenders.uvicorn import Uvicorn
from bench.figures import Spread, differences, number, spread
from bench.plan import Plan
from bench.results import Limit, Table

COUNTS = (1, 100, 1000)
APP = 50  # functions of one app
OPTIONS = "scaledown_window=2, max_containers=1"
SETTLE_S = 5.0


def measure(plan: Plan) -> None:
    """Deploy more and more; each count is measured once all are at zero, and then with one awake."""
    rows = []
    cold_ms: dict[int, Spread] = {}
    with (
        home() as terminal,
        plan.folder() as folder,
        plan.folder() as other,
        Uvicorn().start(other) as beside,
    ):
        terminal.run("up")
        server = Server(terminal)
        there, urls, empty_mib = 0, dict[str, str](), _settled_mib(server)
        for count in COUNTS[: plan.times(3, 2)]:
            began = time.perf_counter()
            while there < count:
                size = min(APP, count - there)
                urls |= terminal.deploy(many(folder, f"many{there}", size, OPTIONS))
                there += size
            deploy_s = time.perf_counter() - began
            memory_mib = _settled_mib(server)
            cpu = processes.Cpu([server.pid], label)
            time.sleep(idle_s := plan.times(10, 3))
            idle = {part: took / idle_s * 100 for part, took in cpu.seconds().items()}
            cold_ms[count] = _cold_ms(plan, server, urls["f0"])
            rows.append(
                [
                    f"{count:,}",
                    number(memory_mib),
                    number((memory_mib - empty_mib) * 1024 / count),
                    ", ".join(f"{part} {number(share)}" for part, share in idle.items()) or "0",
                    number(deploy_s),
                    str(cold_ms[count]),
                    *_warm(plan, beside.url, urls["f0"], server.pid),
                ]
            )
            plan.say(f"  {', '.join(rows[-1])}")
    one, most = min(cold_ms), max(cold_ms)
    plan.findings.limits.append(
        Limit(
            what=f"cold start with {most:,} endpoints, ms",
            now=str(cold_ms[most]),
            beside=f"with one {cold_ms[one]}",
            goal=f"at most {number(1.05 * cold_ms[one].median)} (5 % more)",
        )
    )
    plan.findings.tables.append(
        Table(
            title="Many endpoints",
            told=f"Functions of their own, {APP} in an app, all at zero: memory (PSS) of all of "
            f"homeport's processes ({number(empty_mib)} MiB with none), and what they take of a core "
            "when nobody asks. Then the newest is asked: a cold start, and at one connection its "
            "latency above uvicorn's, in turn, and CPU time a request.",
            columns=[
                "endpoints", "memory, MiB", "each, KiB", "idle, %", "deploys took, s",
                "cold start, ms", "p50 above uvicorn's, us", "CPU us",
            ],
            rows=rows,
        )
    )  # fmt: skip


def _settled_mib(server: Server) -> float:
    """Once no container is left."""
    server.wait_empty()
    time.sleep(SETTLE_S)
    return processes.pss_mib(processes.tree(server.pid))


def _cold_ms(plan: Plan, server: Server, url: str) -> Spread:
    """The milliseconds of a request that finds no container; the first one, which has no zygote yet, is left out."""
    took = []
    for _ in range(plan.times(5, 1) + 1):
        server.wait_empty()
        began = time.perf_counter()
        answered(url)
        took.append((time.perf_counter() - began) * 1000)
    return spread(took[1:])


def _warm(plan: Plan, reference: str, url: str, pid: int) -> tuple[str, str]:
    """Latency above the reference's, and CPU time by process."""
    pairs = []
    spent: dict[str, float] = {}
    requests = 0
    for _ in range(plan.times(4, 1)):
        one = load.run(load.argv(reference, connections=1, seconds=2))
        cpu = processes.Cpu([pid], label)
        own = load.run(load.argv(url, connections=1, seconds=2))
        for part, took in cpu.seconds().items():
            spent[part] = spent.get(part, 0.0) + took
        requests += own.requests
        pairs.append((one.p50_us, own.p50_us))
    told = {part: took * 1e6 / requests for part, took in spent.items()}
    return str(differences(pairs)), ", ".join(f"{part} {number(us)}" for part, us in told.items())
