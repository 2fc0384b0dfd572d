"""From a save to the new answer, while developing."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.contenders.base import Program
from bench.contenders.home import home
from bench.figures import ratios, spread
from bench.measures.serve import serving
from bench.plan import Plan
from bench.results import Table

#: The size of `examples/fastapi_app.py`; its first line, VERSION, is what is edited.
SCRIPT = """
{imports}
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

import homeport

app = homeport.App("library")


class Book(BaseModel):
    title: str = Field(min_length=1)
    year: int = Field(ge=1450, le=2100)


@asynccontextmanager
async def lifespan(_web: FastAPI):
    yield {{"books": {{1: Book(title="A Room of One's Own", year=1929)}}}}


web = FastAPI(title="Library", lifespan=lifespan)


@web.get("/")
async def version() -> int:
    return VERSION


@web.get("/books/{{number}}")
async def read(number: int, request: Request) -> Book:
    try:
        return request.state.books[number]
    except KeyError:
        raise HTTPException(404, f"no book {{number}}") from None


@app.function(max_containers=1)
@homeport.concurrent(max_inputs=100)
@homeport.asgi_app()
def library():
    return web
"""
KINDS = {
    "a script as `examples/fastapi_app.py`": "",
    "and it imports scikit-learn": "import sklearn.linear_model",
}
PATIENCE_S = 30.0


class Reloading(Program):
    """`uvicorn --reload`."""

    name = "uvicorn --reload"
    told = ""
    packages = []

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def argv(self, port: int) -> list[str]:
        words = [sys.executable, "-m", "uvicorn", "script:web", "--port", str(port), "--reload"]
        return [*words, "--app-dir", str(self._folder), "--reload-dir", str(self._folder)]


def measure(plan: Plan) -> None:
    """Each edit is saved under both, in turn."""
    rows = []
    for title, imports in KINDS.items():
        with _project(plan, imports) as ours, _project(plan, imports) as theirs, home() as terminal:
            uvicorn = Reloading(theirs.parent)
            with (
                plan.folder() as folder,
                uvicorn.start(folder) as beside,
                serving(terminal, ours) as (url, _),
            ):
                pairs = [
                    (
                        _reload_ms(theirs, imports, number, beside.url),
                        _reload_ms(ours, imports, number, url),
                    )
                    for number in range(2, 2 + plan.times(10, 2))
                ]
        told = [spread(own for _, own in pairs), spread(one for one, _ in pairs)]
        rows.append([title, *map(str, told), f"**{ratios(pairs)}**"])
    plan.findings.tables.append(
        Table(
            title="From a save to the new answer",
            told="Milliseconds until the new version answers, asked every 2 ms. Lower is better.",
            columns=["ms", "`homeport serve`", "`uvicorn --reload`", "ratio"],
            rows=rows,
        )
    )


@contextmanager
def _project(plan: Plan, imports: str) -> Iterator[Path]:
    with plan.folder() as folder:
        script = folder / "script.py"
        _save(script, imports, 1)
        yield script


def _save(script: Path, imports: str, version: int) -> None:
    text = SCRIPT.format(imports=imports)
    # by renaming, as editors do: nobody reads a half of it
    new = script.with_suffix(".new")
    new.write_text(f"VERSION = {version}\n{text}")
    os.replace(new, script)


def _reload_ms(script: Path, imports: str, version: int, url: str) -> float:
    time.sleep(1.0)  # whoever watches has settled
    began = time.perf_counter()
    _save(script, imports, version)
    _until(lambda: _version(url) == version, f"version {version} at {url}")
    return (time.perf_counter() - began) * 1000


def _version(url: str) -> int:
    with contextlib.suppress(httpx.HTTPError, ValueError):
        return int(httpx.get(url, trust_env=False, timeout=PATIENCE_S).text)
    return 0


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.perf_counter() + PATIENCE_S
    while time.perf_counter() < deadline:
        if condition():
            return
        time.sleep(0.002)
    raise TimeoutError(f"no {what} within {PATIENCE_S:.0f} s")
