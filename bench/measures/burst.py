"""From a burst of requests to several containers that work."""

import threading
import time

import httpx

from bench.contenders.home import Server, home
from bench.figures import spread
from bench.plan import Plan
from bench.results import Table

REQUESTS = 64
CONTAINERS = 8
WORK_S = 0.5
SCRIPT = f"""
import os, time
import modal

app = modal.App("burst")

@app.function(scaledown_window=2, max_containers={CONTAINERS})
@modal.fastapi_endpoint()
def work():
    began = time.monotonic()
    time.sleep({WORK_S})
    return {{"container": os.environ["MODAL_TASK_ID"], "began": began}}
"""
STEPS = (1, 2, 4, CONTAINERS)


def measure(plan: Plan) -> None:
    """From none; the handler says when it began, by the clock that we read too."""
    found: dict[int, list[float]] = {step: [] for step in STEPS}
    lasts = []
    with home() as terminal, plan.folder() as folder:
        script = folder / "burst.py"
        script.write_text(SCRIPT)
        (url,) = terminal.deploy(script).values()
        server = Server(terminal)
        for _ in range(plan.times(5, 1)):
            server.wait_empty()
            began, answers = _burst(url)
            firsts: dict[str, float] = {}
            for answer in answers:
                container, at = answer["container"], answer["began"] - began
                firsts[container] = min(at, firsts.get(container, at))
            order = sorted(firsts.values())
            for step in STEPS:
                if len(order) >= step:
                    found[step].append(order[step - 1] * 1000)
            lasts.append(time.monotonic() - began)
    ideal = WORK_S * REQUESTS / CONTAINERS
    plan.findings.tables.append(
        Table(
            title=f"A burst of {REQUESTS}",
            told=f"Milliseconds from {REQUESTS} requests at once, with no container, until so many "
            f"containers work; one request at a time in each, {WORK_S} s each. With all "
            f"{CONTAINERS} there at once, the last would be answered after {ideal:.1f} s.",
            columns=["", *(f"{step} working, ms" for step in STEPS), "last answer, s"],
            rows=[
                ["homeport", *(str(spread(v)) if v else "never" for v in found.values()),
                 str(spread(lasts))]
            ],
        )
    )  # fmt: skip


def _burst(url: str) -> tuple[float, list[dict]]:
    """When it began, and what was answered."""
    answers: list[dict] = []
    problems: list[str] = []
    gate = threading.Barrier(REQUESTS + 1)

    def ask() -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            gate.wait()
            try:
                answers.append(client.get(url).raise_for_status().json())
            except httpx.HTTPError as error:
                problems.append(str(error))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(REQUESTS)]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    if problems:
        raise ConnectionError(f"{len(problems)} of {REQUESTS} failed, such as: {problems[0]}")
    return began, answers
