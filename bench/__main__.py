"""What homeport costs beside the app server alone, in one run: `uv run python -m bench`.

Measures CPU time per request from /proc (steadier than wall time on a noisy machine) for the same
FastAPI app under plain uvicorn and behind homeport, each in turn, several times; the added latency
at one connection; cold starts from zero; what an idle endpoint costs. Writes bench/RESULTS.md.
"""

import argparse
import datetime as dt
import http.client
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from tests.journeys.conftest import Terminal, wait_for

WEB = """
from fastapi import FastAPI

web = FastAPI()

@web.get("/")
async def hello(name: str = "World"):
    return {"message": f"Hello, {name}!"}
"""
SCRIPT = (
    "import modal\n"
    + WEB
    + """
app = modal.App("bench")

@app.function(scaledown_window=2)
@modal.concurrent(max_inputs=100)
@modal.asgi_app()
def hello_app():
    return web
"""
)
ROUNDS = 5
REQUESTS = 2000
COLD_STARTS = 15
IDLE_S = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        home = root / "home"
        home.mkdir(mode=0o700)
        terminal = Terminal(home)
        try:
            lines = [*overhead(terminal, root), *cold_starts(terminal), *idle(terminal)]
        finally:
            terminal.close()
    text = "\n".join([*_head(), *lines, ""])
    given.out.write_text(text)
    print(text)


def overhead(terminal: Terminal, root: Path) -> list[str]:
    """CPU time and latency of a warm request, direct and behind homeport."""
    (root / "web.py").write_text(WEB)
    script = root / "script.py"
    script.write_text(SCRIPT)
    url = terminal.deploy(script)["hello_app"]
    port = int(url.rpartition(":")[2])
    rows: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        with _uvicorn(root) as (process, direct):
            cpu, p50 = _measure(direct, [process])
        rows.setdefault("direct uvicorn: CPU us a request", []).append(cpu[process.pid])
        rows.setdefault("direct uvicorn: p50 us at one connection", []).append(p50)
        _get(http.client.HTTPConnection("127.0.0.1", port))
        status = terminal.status()
        container = status["apps"][0]["containers"][0]["pid"]
        parts = {
            "container": container,
            "HAProxy": status["ingress_pid"],
            "control plane": status["pid"],
        }
        cpu, p50 = _measure(port, [psutil.Process(pid) for pid in parts.values()])
        for name, pid in parts.items():
            rows.setdefault(f"homeport, {name}: CPU us a request", []).append(cpu[pid])
        rows.setdefault("homeport: CPU us a request, together", []).append(sum(cpu.values()))
        rows.setdefault("homeport: p50 us at one connection", []).append(p50)
    return ["## A warm request", "", "| | median | least | most |", "|---|---|---|---|"] + [
        f"| {name} | {statistics.median(values):.0f} | {min(values):.0f} | {max(values):.0f} |"
        for name, values in rows.items()
    ]


def cold_starts(terminal: Terminal) -> list[str]:
    """From no container to the whole answer."""
    (url,) = terminal.urls().values()
    port = int(url.rpartition(":")[2])
    took_ms = []
    for _ in range(COLD_STARTS):
        wait_for(lambda: not terminal.json("container", "list"), "no container")
        began = time.perf_counter()
        _get(http.client.HTTPConnection("127.0.0.1", port))
        took_ms.append((time.perf_counter() - began) * 1000)
    began = time.perf_counter()
    words = [sys.executable, "-c", "import fastapi, uvicorn, httptools, uvloop"]
    subprocess.run(words, check=True)
    imports_ms = (time.perf_counter() - began) * 1000
    told = (
        f"From zero containers to the whole answer, {COLD_STARTS} times: median "
        f"{statistics.median(took_ms):.0f} ms, least {min(took_ms):.0f}, most {max(took_ms):.0f}. "
        f"`python -c 'import fastapi, uvicorn, …'` alone: {imports_ms:.0f} ms."
    )
    return [
        "",
        "## A cold start",
        "",
        told,
    ]


def idle(terminal: Terminal) -> list[str]:
    """What a server costs when nobody asks."""
    (url,) = terminal.urls().values()
    port = int(url.rpartition(":")[2])
    server = psutil.Process(terminal.status()["pid"])
    wait_for(lambda: not terminal.json("container", "list"), "no container")
    asleep = _share(server)
    stop = time.monotonic() + IDLE_S
    connection = http.client.HTTPConnection("127.0.0.1", port)
    before = _cpu_s(server)
    began = time.monotonic()
    while time.monotonic() < stop:  # one request a second keeps the container
        _get(connection)
        time.sleep(1.0)
    awake = 100 * (_cpu_s(server) - before) / (time.monotonic() - began)
    mib = server.memory_info().rss / 2**20
    told = (
        f"The control plane takes {asleep:.1f} % of a core with no container, {awake:.1f} % with one "
        f"that is asked once a second, and {mib:.0f} MiB."
    )
    return [
        "",
        "## Idle",
        "",
        told,
    ]


def _measure(port: int, processes: list[psutil.Process]) -> tuple[dict[int, float], float]:
    """CPU microseconds a request by process, and the median latency in microseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for _ in range(200):
        _get(connection)
    before = {process.pid: _cpu_s(process) for process in processes}
    took = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        _get(connection)
        took.append(time.perf_counter() - began)
    cpu = {p.pid: (_cpu_s(p) - before[p.pid]) * 1e6 / REQUESTS for p in processes}
    connection.close()
    return cpu, statistics.median(took) * 1e6


def _get(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status


class _uvicorn:
    """The same app under uvicorn alone, as its users run it."""

    def __init__(self, root: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "web:web", "--port", str(self._port),
             "--log-level", "warning", "--no-access-log"],
            cwd=root,
        )  # fmt: skip

    def __enter__(self) -> tuple[psutil.Process, int]:
        def answers() -> bool:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
            except OSError:
                return False
            return True

        wait_for(answers, "uvicorn")
        return psutil.Process(self._process.pid), self._port

    def __exit__(self, *_args: object) -> None:
        self._process.terminate()
        self._process.wait()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _share(process: psutil.Process) -> float:
    before = _cpu_s(process)
    time.sleep(IDLE_S)
    return 100 * (_cpu_s(process) - before) / IDLE_S


def _head() -> list[str]:
    cores = os.cpu_count()
    memory_gib = psutil.virtual_memory().total / 2**30
    return [
        "# Figures",
        "",
        f"`uv run python -m bench`, {dt.datetime.now(dt.UTC).date()}, {platform.system()}",
        f"{platform.machine()}, {cores} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}.",
        "",
    ]


if __name__ == "__main__":
    main()
