"""Limits that the kernel enforces: `uv run python -m tests.soak.cgroups`, where cgroups (v2) may be used.

That is at the root cgroup where nothing else manages cgroups (a bare virtual machine), and in a
delegated one: `systemd-run --user --scope -p Delegate=yes uv run python -m tests.soak.cgroups`.
Elsewhere it says why not. Nobody but a person runs it. Exit code 1 where a promise was broken, 2
where there is nothing to try.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from tests import processes, waiting
from tests.journeys import conftest
from tests.journeys.conftest import Terminal
from tests.ports import free_port
from tests.waiting import wait_for

KINDS = {"forked": "1024", "fresh": "0"}  # -> HOMEPORT_ZYGOTE_MIB
TOO_MUCH_MIB = 400
BURN_S = 4.0
SETTINGS = {
    "cpu.weight": "50",
    "cpu.max": "50000 100000",
    "memory.low": str(64 << 20),
    "memory.max": str(200 << 20),
    "memory.oom.group": "1",
}
WHY = "it needed more memory than its limit of 200 MiB"
APP = """
    import os, subprocess, sys, time

    def answer(path):
        name, _, number = path.strip("/").partition("/")
        if name == "eat":
            eaten = bytearray(b"x" * (int(number) << 20))
            return str(len(eaten))
        if name == "eat-in-a-child":
            code = f"import time; x = bytearray(b'x' * ({number} << 20)); time.sleep(600)"
            subprocess.run([sys.executable, "-c", code])
        if name == "burn":
            began, used = time.monotonic(), time.process_time()
            while time.monotonic() - began < float(number):
                pass
            return str((time.process_time() - used) / (time.monotonic() - began))
        if name == "stray":  # a daemon's way to leave everybody behind
            code = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(600)"
            subprocess.run([sys.executable, "-c", code])
        return subprocess.run(["cat", "/proc/self/cgroup"], capture_output=True, text=True).stdout

    if __name__ == "__main__":  # in a process that `server` starts
        from http.server import BaseHTTPRequestHandler, HTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = answer(self.path).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()

    import modal

    app = modal.App("kept")
    asks = dict(memory=(64, 200), cpu=(0.5, 0.5), scaledown_window=1200)

    @app.function(**asks)
    @modal.asgi_app()
    def asgi():
        async def web(scope, receive, send):
            body = answer(scope["path"]).encode()
            head = [(b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": body})

        return web

    @app.function(**asks)
    @modal.web_server(PORT, startup_timeout=300)
    def server():
        subprocess.Popen([sys.executable, __file__])
"""


class Promises:
    """The promises that were checked, and the number of broken ones."""

    def __init__(self) -> None:
        self.broken = 0

    def keep(self, what: str, kept: bool, seen: object = "") -> None:
        """Print a promise and whether it was kept."""
        self.broken += not kept
        print(f"{'kept  ' if kept else 'BROKEN'} {what}: {seen}", flush=True)


def main() -> int:
    """Return 0 if every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds, for a slow machine")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    given = parser.parse_args()
    waiting.PATIENCE_S = conftest.PATIENCE_S = given.patience
    told = json.loads(_asked("homeport.node.limits.cgroups", os.environ.get("HOMEPORT_CGROUP", "")))
    if not told["used"]:
        print(f"no cgroups to try: {told.get('why')}")
        return 2
    promises = Promises()
    for kind in given.kinds:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            terminal = Terminal(Path(folder) / "home")
            terminal.home.mkdir(mode=0o700)
            terminal.environ["HOMEPORT_ZYGOTE_MIB"] = KINDS[kind]
            if "HOMEPORT_CGROUP" in os.environ:
                terminal.environ["HOMEPORT_CGROUP"] = os.environ["HOMEPORT_CGROUP"]
            script = Path(folder) / "script.py"
            script.write_text(textwrap.dedent(APP).replace("PORT", str(free_port())))
            try:
                _try(terminal, script, kind, promises)
            finally:
                terminal.close()
    print(f"{promises.broken} broken")
    return 1 if promises.broken else 0


def _try(terminal: Terminal, script: Path, kind: str, promises: Promises) -> None:
    urls = terminal.deploy(script)
    root = Path()
    for tag, url in urls.items():
        name = f"{kind} {tag}"
        child = cgroup_in(visit(url))  # brings it up where it is not
        container = the(terminal, tag)
        directory = cgroup_of(container["pid"])
        root = directory.parent
        promises.keep(f"{name}: is in its cgroup", directory.name == container["id"], directory)
        promises.keep(f"{name}: its children are", child == directory, child)
        there = {file: _read(directory / file) for file in SETTINGS}
        promises.keep(f"{name}: has what it asked for", there == SETTINGS, there)
        share = float(visit(f"{url}/burn/{BURN_S}"))
        promises.keep(f"{name}: has half a core", 0.4 < share < 0.6, f"{share:.2f} cores")
        for word in ("eat", "eat-in-a-child"):
            visit(url)
            _eat(terminal, tag, f"{url}/{word}/{TOO_MUCH_MIB}", f"{name}: {word}", promises)
    _leave_a_stray(terminal, urls["asgi"], f"{kind} asgi", promises)
    for url in urls.values():
        visit(url)
    sums = {
        "cpu.weight": str(50 * len(urls)),
        "memory.low": str((64 << 20) * len(urls)),
    }
    there = {file: _read(root / file) for file in sums}
    promises.keep(f"{kind}: all of them weigh what each does", there == sums, there)
    before = {tag: the(terminal, tag) for tag in urls}
    psutil.Process(terminal.status()["pid"]).kill()
    terminal.run("up")
    kept = {tag: cgroup_of(the(terminal, tag)["pid"]).name for tag in urls}
    same = {tag: container["id"] for tag, container in before.items()}
    promises.keep(f"{kind}: after kill -9 and up they keep theirs", kept == same, kept)
    log = (terminal.home / "server.log").read_text()  # where there is none, it says so
    promises.keep(f"{kind}: the next server has cgroups", "the kernel's" not in log)
    asgi = urls["asgi"]
    _eat(terminal, "asgi", f"{asgi}/eat/{TOO_MUCH_MIB}", f"{kind}: adopted", promises)
    visit(asgi)
    terminal.run("down")
    promises.keep(f"{kind}: nothing stays after down", gone(root), root)


def _eat(terminal: Terminal, tag: str, url: str, name: str, promises: Promises) -> None:
    """Use too much memory: the whole container ends, and the reason says so."""
    container = the(terminal, tag)
    directory = cgroup_of(container["pid"])
    members = [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]
    try:
        told = str(httpx.get(url, timeout=conftest.PATIENCE_S, trust_env=False).status_code)
    except httpx.TransportError as error:
        told = type(error).__name__
    promises.keep(f"{name}: the request failed", not told.startswith("2"), told)
    promises.keep(f"{name}: its cgroup goes", gone(directory), directory.name)
    alive = [pid for pid in members if processes.lives(pid)]
    promises.keep(f"{name}: it ended as a whole", not alive, f"{len(members)} processes, {alive}")

    def why() -> list[str]:
        lines = terminal.run("app", "logs", "kept").stdout.splitlines()
        return [line for line in lines if WHY in line and container["id"] in line]

    said = until(why)
    promises.keep(f"{name}: the log says why", bool(said), said)


def _leave_a_stray(terminal: Terminal, url: str, name: str, promises: Promises) -> None:
    """A daemon that left its session and its parents ends with the container all the same."""
    visit(f"{url}/stray")
    container = the(terminal, "asgi")
    directory = cgroup_of(container["pid"])
    members = [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]
    terminal.run("container", "stop", "--yes", container["id"])
    promises.keep(f"{name}: its cgroup goes with a daemon inside", gone(directory))
    alive = [pid for pid in members if processes.lives(pid)]
    promises.keep(f"{name}: so does the daemon", len(members) > 1 and not alive, alive)


def visit(url: str) -> str:
    """Wait until a URL answers; return the answer."""

    def answer() -> str:
        try:
            told = httpx.get(url, timeout=conftest.PATIENCE_S, trust_env=False)
        except httpx.TransportError:
            return ""
        return told.text if told.status_code == 200 else ""

    return str(wait_for(answer, url))


def the(terminal: Terminal, tag: str) -> dict:
    """Return the function's container."""

    def ready() -> dict | None:
        told = terminal.json("container", "list")
        there = [c for c in told if c["function"] == tag and c["state"] == "ready"]
        return there[0] if there else None

    found = wait_for(ready, f"a container of {tag}")
    assert isinstance(found, dict)
    return found


def until(condition: Callable[[], object]) -> object:
    """Return the condition's first true value, or its last value."""
    try:
        return wait_for(condition, "")
    except AssertionError:
        return condition()


def gone(directory: Path) -> bool:
    """Return whether a directory is removed."""
    return bool(until(lambda: not directory.exists()))


def cgroup_of(pid: int) -> Path:
    """Return the directory of a process's cgroup."""
    return cgroup_in(Path(f"/proc/{pid}/cgroup").read_text())


def cgroup_in(lines: str) -> Path:
    """The directory, of what /proc/<pid>/cgroup says."""
    path = next(line[3:] for line in lines.splitlines() if line.startswith("0::"))
    return mount() / path.lstrip("/")


def mount() -> Path:
    """Return where cgroup2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return Path(before.split()[4])
    raise AssertionError("no cgroup2")


def _read(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def _asked(module: str, *words: str) -> str:
    argv = [sys.executable, "-m", module, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
