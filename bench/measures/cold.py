"""From no container to the whole answer; beside a plain Python that imports and serves the same."""

import http.client
import math
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.contenders.base import APPS, Contender
from bench.contenders.home import Server, home
from bench.contenders.uvicorn import Uvicorn
from bench.figures import number, spread
from bench.plan import Plan
from bench.results import DASH, Table

WARM_UP_S = 0.5  # what the snapshot class does before its snapshot
IMPORTS = {
    "hello": "import fastapi, uvicorn, httptools, uvloop",
    "sklearn": "import fastapi, uvicorn, httptools, uvloop, sklearn.linear_model",
}
IMPORTS["snapshot"] = f"{IMPORTS['sklearn']}, time; time.sleep({WARM_UP_S})"
TITLES = {
    "hello": "FastAPI hello",
    "sklearn": "scikit-learn class",
    "snapshot": f"snapshot class (its `enter(snap=True)` takes {WARM_UP_S} s)",
}
PATIENCE_S = 60.0
EACH = 4  # cold starts of homeport for a plain one, which takes many times as long
ENOUGH, SLOW_S = 2, 15.0  # starts of a peer that takes that long


class PlainModel(Uvicorn):
    """The same classes under plain uvicorn."""

    def __init__(self, model: Path, warm_up_s: float) -> None:
        super().__init__()
        self._environ = {"MODEL": str(model), "WARM_UP_S": str(warm_up_s)}

    def argv(self, port: int) -> list[str]:
        return ["plain_sklearn:web" if word == "web:web" else word for word in super().argv(port)]

    def environ(self, _root: Path) -> dict[str, str]:
        return self._environ


def measure(plan: Plan) -> None:
    """homeport's cold starts in turn with the plain ones; then those of the peers."""
    model = plan.root / "model.pkl"
    model.write_bytes(_model())
    plain: dict[str, Contender] = {
        "hello": Uvicorn(),
        "sklearn": PlainModel(model, 0.0),
        "snapshot": PlainModel(model, WARM_UP_S),
    }
    took_ms: dict[str, dict[str, list[float]]] = {
        tag: {"homeport": [], "import": [], "uvicorn": []} for tag in IMPORTS
    }
    with home() as terminal, plan.folder() as folder:
        urls = terminal.deploy(APPS / "cold_hello.py")
        script = folder / "cold_classes.py"
        script.write_text(
            (APPS / script.name)
            .read_text()
            .replace('MODEL = b""', f"MODEL = {model.read_bytes()!r}")
            .replace("WARM_UP_S = 0.5", f"WARM_UP_S = {WARM_UP_S}")
        )
        urls |= terminal.deploy(script)
        server = Server(terminal)
        for number in range(plan.times(20, 3)):
            for tag, url in _by_tag(urls).items():
                server.wait_empty()
                took_ms[tag]["homeport"].append(timed_ms(lambda url=url: ask(url)))
            if number % EACH == 0:
                for tag, code in IMPORTS.items():
                    took_ms[tag]["import"].append(timed_ms(lambda code=code: _import(code)))
                    with plan.folder() as own, plain[tag].start(own) as running:
                        took_ms[tag]["uvicorn"].append(running.first_answer_s * 1000)
    plan.findings.tables += [_table(took_ms)]
    plan.findings.series["cold_ms"] = {
        f"{tag}: {what}": values for tag, of in took_ms.items() for what, values in of.items()
    }
    hello = took_ms["hello"]
    plan.findings.headlines.append(
        f"From no container to a FastAPI app's whole answer: {spread(hello['homeport'])} ms; "
        f"plain uvicorn from its command: {spread(hello['uvicorn'])} ms."
    )
    _peers(plan)


def _peers(plan: Plan) -> None:
    """From their command to their first answer: they have no zero to start from."""
    for contender in plan.peers():
        try:
            while len(contender.first_answers_s) < plan.times(3, 1):
                if (
                    len(contender.first_answers_s) == ENOUGH
                    and contender.first_answers_s[0] > SLOW_S
                ):
                    break
                with plan.folder() as folder, contender.start(folder):
                    pass
        except Exception as error:
            plan.failed(f"cold, {contender.name}", error)
    rows = [
        [each.name, str(spread(s * 1000 for s in each.first_answers_s))]
        if each.first_answers_s
        else [each.name, (DASH, "it did not start: see the end of this page")]
        for each in plan.peers()
    ]
    plan.findings.tables.append(
        Table(
            title="From stopped to the first answer",
            told="Milliseconds from the command to the first answer of those that cannot scale to "
            "zero, FastAPI hello. Lower is better.",
            columns=["ms", "first answer"],
            rows=rows,
        )
    )


def _table(took_ms: dict[str, dict[str, list[float]]]) -> Table:
    rows = []
    for tag, of in took_ms.items():
        told = {what: spread(values) for what, values in of.items()}
        ratio = told["homeport"].median / told["uvicorn"].median
        cells = [str(told[what]) for what in ("homeport", "import", "uvicorn")]
        cells.insert(1, percentile(of["homeport"]))
        rows.append([TITLES[tag], *cells, f"**{ratio:.2f}**", str(len(of["homeport"]))])
    return Table(
        title="Cold starts",
        told="Milliseconds. homeport: from no container to the whole answer; isolation is on where the machine allows it. `python -c`: its imports "
        "(and warm-up) alone. uvicorn: from the command to the first answer of the same app. "
        "Lower is better.",
        columns=[
            "ms",
            "homeport",
            "90 %",
            "`python -c`",
            "uvicorn",
            "homeport / uvicorn",
            "starts",
        ],
        rows=rows,
    )


def _by_tag(urls: dict[str, str]) -> dict[str, str]:
    return {
        tag: next(url for found, url in urls.items() if tag in found.lower()) for tag in IMPORTS
    }


def _model() -> bytes:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    return pickle.dumps(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)))


def ask(url: str) -> None:
    """One request on a connection of its own; `ConnectionError` unless it is answered by 200."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    connection.request("GET", "/")
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise ConnectionError(f"{answer.status}: {body[:200]!r}")


def _import(code: str) -> None:
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environ)


def percentile(values: list[float], share: float = 0.9) -> str:
    """What that share of the values did not exceed, as text."""
    ordered = sorted(values)
    return number(ordered[max(0, math.ceil(share * len(ordered)) - 1)])


def timed_ms(do: Callable[[], None]) -> float:
    """How long it takes, in milliseconds."""
    began = time.perf_counter()
    do()
    return (time.perf_counter() - began) * 1000
