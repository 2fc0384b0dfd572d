"""How long a deploy takes."""

import time

from bench.contenders.base import APPS
from bench.contenders.home import home
from bench.contenders.uvicorn import Uvicorn
from bench.figures import number, spread
from bench.plan import Plan
from bench.results import Limit, Table


def measure(plan: Plan) -> None:
    """The whole command: the first ever, a changed script, one that has not changed."""
    took: dict[str, list[float]] = {}
    text = (APPS / "cold_hello.py").read_text()
    beside_s = []
    for _ in range(plan.times(3, 1)):
        with plan.folder() as folder, Uvicorn().start(folder) as running:
            beside_s.append(running.first_answer_s)
        with home() as terminal, plan.folder() as folder:
            script = folder / "hello.py"

            def deploy(what: str, version: int, script=script, terminal=terminal) -> None:
                script.write_text(text.replace("Hello", f"Hello {version}"))
                began = time.perf_counter()
                terminal.run("deploy", script)
                took.setdefault(what, []).append((time.perf_counter() - began) * 1000)

            deploy("the first, which starts the server too", 1)
            for version in range(2, 2 + plan.times(3, 1)):
                deploy("a change", version)
            deploy("no change", version)
    beside = f"uvicorn to its first answer {number(spread(beside_s).median)}"
    for what, most_s in (("no change", 0.6), ("a change", 1.0)):
        now = spread(ms / 1000 for ms in took[what])
        plan.findings.limits.append(
            Limit(
                what=f"`homeport deploy`, {what}, s",
                now=str(now),
                beside=beside,
                goal=f"at most {most_s}",
            )
        )
    plan.findings.tables.append(
        Table(
            title="A deploy",
            told="Milliseconds of `homeport deploy`, until the new version has taken over.",
            columns=["ms", "took"],
            rows=[[what, str(spread(values))] for what, values in took.items()],
        )
    )
