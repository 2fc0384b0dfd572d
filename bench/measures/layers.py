"""A cold start with a root file system of three layers; beside one on this machine's own files."""

import platform
import shutil

from tests import registries
from tests.journeys.conftest import Terminal

from bench.contenders.base import APPS
from bench.contenders.home import Server, home
from bench.figures import spread
from bench.measures.cold import ask, percentile, timed_ms
from bench.plan import Plan
from bench.results import Table

BUILD_S = 300
PACKAGES = ("fastapi[standard]", "uvicorn[standard]")
IMAGE = """
image = (
    modal.Image.from_registry({tag!r})
    .uv_pip_install({packages})
    .run_commands("echo a layer more > /srv-layer")
)
app = modal.App("cold-layers", image=image)
"""
HOST, LAYERS = "this machine's files", "three layers"


def measure(plan: Plan) -> None:
    """Both in turn: a base from a registry of our own, packages, and a command."""
    took_ms: dict[str, list[float]] = {HOST: [], LAYERS: []}
    with plan.folder() as folder, home("on") as terminal:
        script = folder / "cold_hello.py"
        shutil.copy(APPS / script.name, script)
        (plain,) = terminal.deploy(script).values()
        with registries.running(folder / "registry") as registry:
            tag = registry.push("base:1", [registries.system()], Env=["PATH=/usr/bin:/bin"])
            urls = {HOST: plain, LAYERS: _deploy(terminal, script, tag)}
        server = Server(terminal)
        for _ in range(plan.times(20, 5)):
            for name, url in urls.items():
                server.wait_empty()
                took_ms[name].append(timed_ms(lambda url=url: ask(url)))
    plan.findings.tables.append(
        Table(
            title="A cold start with a root file system of its own",
            told="Milliseconds from no container to the whole answer, FastAPI hello, in turn; isolation is on. The three "
            f"layers are a small base with Python {platform.python_version()} from a registry, packages, and a "
            "command. Lower is better.",
            columns=["ms", "median (least-most)", "90 %", "starts"],
            rows=[
                [name, str(spread(values)), percentile(values), str(len(values))]
                for name, values in took_ms.items()
            ],
        )
    )


def _deploy(terminal: Terminal, script, tag: str) -> str:
    packages = ", ".join(map(repr, PACKAGES))
    text = script.read_text().replace(
        'app = modal.App("cold-hello")\n', IMAGE.format(tag=tag, packages=packages)
    )
    # FastAPI is imported where the image has it, whatever this machine's Python has.
    rooted = script.with_name("cold_layers.py")
    rooted.write_text(text)
    (url,) = terminal.deploy(rooted, timeout=BUILD_S).values()
    return url
