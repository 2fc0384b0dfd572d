"""From the command to the first answer, while developing."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from tests.journeys.conftest import Command, Terminal

from bench.contenders.base import APPS, answered
from bench.contenders.home import home
from bench.contenders.uvicorn import Uvicorn
from bench.figures import number, ratios, spread
from bench.plan import Plan
from bench.results import Limit, Table

BUILD_S = 300
#: The same script with packages of its own.
WITH_PACKAGES = (
    'modal.App("cold-hello")',
    """modal.App(
    "cold-hello", image=modal.Image.debian_slim().uv_pip_install("fastapi[standard]")
)""",
)


def measure(plan: Plan) -> None:
    """`homeport serve` with no server running, and with one; `uvicorn` beside it."""
    took: dict[str, list[float]] = {}
    for _ in range(plan.times(5, 1)):
        with plan.folder() as folder, Uvicorn().start(folder) as running:
            took.setdefault("`uvicorn web:web`", []).append(running.first_answer_s * 1000)
        with home() as terminal, serving(terminal, APPS / "cold_hello.py") as (_, took_ms):
            took.setdefault("`homeport serve`, no server yet", []).append(took_ms)
        with home() as terminal:
            terminal.run("up")
            with serving(terminal, APPS / "cold_hello.py") as (_, took_ms):
                took.setdefault("`homeport serve`, beside a server", []).append(took_ms)
    plan.findings.limits += _limits(took)
    try:
        _cached(plan, took)
    except Exception as error:
        plan.failed("serve, cached image", error)
    plan.findings.tables.append(
        Table(
            title="From the command to the first answer",
            told="Milliseconds, FastAPI hello. Lower is better.",
            columns=["ms", "first answer"],
            rows=[[name, str(spread(values))] for name, values in took.items()],
        )
    )


def _limits(took: dict[str, list[float]]) -> list[Limit]:
    """Each beside the uvicorn of the same round."""
    uvicorn = took["`uvicorn web:web`"]
    beside = f"uvicorn {number(spread(uvicorn).median / 1000)} s"
    return [
        Limit(
            what=f"{name} / uvicorn",
            now=str(ratios(list(zip(uvicorn, took[name], strict=True)))),
            beside=beside,
            goal=goal,
        )
        for name, goal in (
            ("`homeport serve`, no server yet", "at most 1.3"),
            ("`homeport serve`, beside a server", "at most 1.0"),
        )
    ]


def _cached(plan: Plan, took: dict[str, list[float]]) -> None:
    """The same with an image of its own, which was built before."""
    with home() as cached, plan.folder() as built:
        image = built / "cold_hello.py"
        image.write_text((APPS / image.name).read_text().replace(*WITH_PACKAGES))
        cached.deploy(image, timeout=BUILD_S)
        for _ in range(plan.times(5, 1)):
            cached.run("down")
            with serving(cached, image) as (_, took_ms):
                took.setdefault("`homeport serve`, its image cached, no server yet", []).append(
                    took_ms
                )
            cached.run("up")
            with serving(cached, image) as (_, took_ms):
                took.setdefault("`homeport serve`, its image cached, beside a server", []).append(
                    took_ms
                )


@contextmanager
def serving(terminal: Terminal, script: Path) -> Iterator[tuple[str, float]]:
    """`homeport serve`: the local URL, and the milliseconds until it answered."""
    began = time.perf_counter()
    command: Command = terminal.start("serve", script)
    url = command.wait_for(r"http://127\.0\.0\.1:\d+")[0]
    answered(url)
    yield url, (time.perf_counter() - began) * 1000
    with contextlib.suppress(httpx.HTTPError):
        command.interrupt()
