"""Many endpoints: what each costs while nobody asks, and whether the others feel it."""

import time
from pathlib import Path

import httpx

from bench import load, processes
from bench.contenders.home import Server, home, label
from bench.figures import number
from bench.plan import Plan
from bench.results import DASH, Table

COUNTS = (1, 100, 1000)
APP = 50  # functions of one app
HEAD = 'import modal\n\napp = modal.App("{name}")\n'
FUNCTION = """
@app.function(scaledown_window=2, max_containers=1)
@modal.concurrent(max_inputs=1000)
@modal.fastapi_endpoint()
def f{number}(name: str = "World"):
    return {{"message": f"Hello, {{name}}!"}}
"""
SETTLE_S = 5.0
IDLE_S = 10.0


def measure(plan: Plan) -> None:
    """Deploy more and more; each count is measured once all are at zero, and then with one awake."""
    rows = []
    with home() as terminal, plan.folder() as folder:
        there, first = 0, 0.0
        urls: dict[str, str] = {}
        server = None
        for count in COUNTS[: plan.times(3, 2)]:
            began = time.perf_counter()
            while there < count:
                size = min(APP, count - there)
                urls |= terminal.deploy(_script(folder, f"many{there}", size))
                there += size
            deploy_s = time.perf_counter() - began
            server = server or Server(terminal)
            server.wait_empty()
            time.sleep(SETTLE_S)
            tree = processes.tree(server.pid)
            memory = processes.pss_mib(tree)
            first = first or memory
            cpu = processes.Cpu([server.pid], label)
            time.sleep(plan.times(IDLE_S, 3.0))
            idle = {
                part: took / plan.times(IDLE_S, 3.0) * 100 for part, took in cpu.seconds().items()
            }
            each = (memory - first) * 1024 / (count - 1) if count > 1 else 0
            began = time.perf_counter()
            url = urls["f0"]
            httpx.get(url, timeout=60, trust_env=False).raise_for_status()
            cold_ms = (time.perf_counter() - began) * 1000
            cpu = processes.Cpu([server.pid], label)
            seen = load.run(load.argv(url, connections=1, seconds=plan.times(5, 1)))
            control = cpu.seconds()
            rows.append(
                [
                    f"{count:,}",
                    number(memory),
                    number(each) if count > 1 else DASH,
                    ", ".join(f"{part} {number(share)}" for part, share in idle.items()) or "0",
                    number(deploy_s),
                    number(cold_ms),
                    number(seen.p50_us),
                    number(seen.p99_us),
                    number(sum(control.values()) * 1e6 / seen.requests),
                ]
            )
            plan.say(f"  {rows[-1]}")
    plan.findings.tables.append(
        Table(
            title="Many endpoints",
            told=f"Functions of their own, {APP} in an app, all at zero: memory (PSS) of all of "
            "homeport's processes, and what they take of a core when nobody asks. Then one is asked: "
            "a cold start, and its latency at one connection.",
            columns=[
                "endpoints", "memory, MiB", "each, KiB", "idle, %", "deploys took, s",
                "cold start, ms", "p50, us", "p99, us", "CPU, us a request",
            ],
            rows=rows,
        )
    )  # fmt: skip


def _script(folder: Path, name: str, size: int) -> Path:
    script = folder / f"{name}.py"
    functions = "\n".join(FUNCTION.format(number=number) for number in range(size))
    script.write_text(HEAD.format(name=name) + functions)
    return script
