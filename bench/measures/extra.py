"""What each further container of a function costs in memory."""

from tests.waiting import wait_for

from bench import load, processes
from bench.contenders.base import APPS, answered
from bench.contenders.home import Server, home
from bench.contenders.uvicorn import Uvicorn
from bench.figures import number, spread
from bench.plan import Plan
from bench.results import Table

COUNT = 8


def measure(plan: Plan) -> None:
    """FastAPI hello in several containers that have answered; beside one uvicorn."""
    with home() as terminal, plan.folder() as folder:
        script = folder / "extra.py"
        text = (APPS / "cold_hello.py").read_text()
        asked = f"min_containers={COUNT}, max_containers={COUNT}"
        script.write_text(text)
        (url,) = terminal.deploy(script).values()
        server = Server(terminal)
        answered(url)
        server.wait_empty()  # and a zygote has learned what the first one imported
        script.write_text(text.replace("scaledown_window=2, max_containers=1", asked))
        terminal.deploy(script)

        def ready() -> list[int]:
            found = [c["pid"] for c in server.containers() if c["state"] == "ready"]
            return found if len(found) == COUNT else []

        pids = wait_for(ready, f"{COUNT} containers")
        # what a first request imports and allocates belongs to it
        load.run(load.argv(url, connections=4 * COUNT, seconds=1))
        each = [processes.tree(pid) for pid in pids]
        uss = [processes.uss_mib(tree) for tree in each]
        pss = [processes.pss_mib(tree) for tree in each]
    with plan.folder() as folder, Uvicorn().start(folder) as running:
        load.run(load.argv(running.url, connections=4, seconds=1))
        beside = (processes.uss_mib(running.tree()), processes.pss_mib(running.tree()))
    plan.findings.tables.append(
        Table(
            title="Memory of a further container",
            told=f"MiB of each of {COUNT} containers of a FastAPI hello that was served before. Private (USS) is what goes "
            "when it ends; proportional (PSS) has its share of what it shares.",
            columns=["MiB", "private", "proportional"],
            rows=[
                ["homeport", str(spread(uss)), str(spread(pss))],
                ["uvicorn", *map(number, beside)],
            ],
        )
    )
