"""Machines that lose their power, or are cut off, while visitors ask: others take their containers' place, and nothing runs twice."""

import http.client
import threading
import time
import urllib.parse
from typing import Self

import psutil
import pytest

from tests import namespaces
from tests.journeys import machines
from tests.journeys.machines import GONE, READY, Cluster, On
from tests.waiting import PATIENCE_S, wait_for

VISITORS = 2  # for each function that is asked
GIVES_UP_S = 30.0  # of a visitor: longer than any request may have to wait
SOON_S = 10.0  # for other containers to answer: 5 s are promised, and CI may be busy
OFF_S = 60  # how far the clock of a machine is off
ONES = ("first", "second", "third")  # each has one container
FUNCTION = """
@app.function(min_containers={least})
@homeport.concurrent(max_inputs=20)
@homeport.fastapi_endpoint()
async def {name}():
    await asyncio.sleep(0.02)
    return os.environ["MODAL_TASK_ID"]


"""
SCRIPT = "import asyncio\nimport os\n\nimport homeport\n\napp = homeport.App('spread')\n\n\n" + (
    "".join(FUNCTION.format(name=name, least=1) for name in ONES)
    + FUNCTION.format(name="everywhere", least=3)
)


class Answer:
    """What a visitor got, and when."""

    def __init__(self, began: float, status: int, text: str) -> None:
        self.began, self.ended = began, time.monotonic()
        self.status, self.container = status, text

    def __repr__(self) -> str:
        return f"{self.ended - self.began:.2f} s: {self.status} {self.container[:200]}"


class Visitors:
    """They ask one function again and again, on the machine of the control plane."""

    def __init__(self, first: On, url: str) -> None:
        self._first, self._url = first, urllib.parse.urlsplit(url)
        self.answers: list[Answer] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(VISITORS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: len(self.answers) > 10 * VISITORS, "answers")
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _ask(self) -> None:
        while not self._ended.is_set():
            self.answers.append(self.ask())

    def ask(self) -> Answer:
        """Ask once."""
        began = time.monotonic()
        with self._first.machine.inside():
            connection = http.client.HTTPConnection("127.0.0.1", self._url.port, timeout=GIVES_UP_S)
            try:
                connection.request("GET", "/", headers={"Host": self._url.netloc})
                response = connection.getresponse()
                return Answer(began, response.status, response.read().decode().strip(chr(34)))
            except (OSError, http.client.HTTPException) as error:  # or it was cut after its fields
                return Answer(began, 0, repr(error))
            finally:
                connection.close()

    def failed(self, since: float) -> list[Answer]:
        """Return the requests that failed since this time."""
        return [a for a in self.answers if a.status != 200 and a.ended >= since]

    def first_of_another(self, dead: set[str], since: float) -> float:
        """Ask once, after the death of containers; return after how many seconds another one has answered."""
        answer = self.ask()
        assert (answer.status, answer.container in dead) == (200, False), answer
        return answer.ended - since


class Spread:
    """The app, over three machines."""

    def __init__(self, cluster: Cluster, script) -> None:
        self.cluster, self.first = cluster, cluster.first
        script.write_text(SCRIPT)
        self.first.run("deploy", script)
        self.urls = self.first.urls()
        wait_for(lambda: len(self.ready("everywhere")) == 3, "three containers")

    def ready(self, function: str, node: str = "") -> set[str]:
        """Return the containers of a function that are ready, on any machine or on one."""
        return {
            each["id"]
            for each in self.first.json("container", "list")
            if each["function"] == function
            and each["state"] == "ready"
            and node in ("", each["node"])
        }

    def one_of(self, node: str) -> str:
        """Return a function whose only container is on this machine."""
        return next(name for name in ONES if self.ready(name, node))

    def processes(self, node: str) -> dict[str, psutil.Process]:
        """Return the process of each container that a machine has; the processes have its id in their command line."""
        containers = self.first.json("container", "list")
        ids = {each["id"] for each in containers if each["node"] == node}
        found = {}
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or ()).split()
            if words[:1] == ["homeport.runner"] and words[1] in ids:
                found[words[1]] = process
        assert found.keys() == ids
        return found


@pytest.fixture
def cluster(tmp_path):
    with machines.cluster(tmp_path / "cluster") as made:
        yield made


def test_a_machine_without_power_is_replaced_and_one_that_was_cut_off_runs_nothing_twice(
    cluster, tmp_path
):
    # The clock of one machine is wrong: times that count are those of the control plane.
    late = namespaces.FAKETIME.exists()
    cluster.join("b", namespaces.later({}, OFF_S) if late else None)
    cluster.join("c")
    spread = Spread(cluster, tmp_path / "spread.py")
    one, cut = spread.one_of("b"), spread.one_of("c")
    urls = spread.urls
    with (
        Visitors(cluster.first, urls[one]) as ones,
        Visitors(cluster.first, urls["everywhere"]) as all_,
        Visitors(cluster.first, urls[cut]) as cuts,
    ):
        # A machine loses its power. Only requests inside it fail, and another machine's container answers soon.
        dead = spread.ready(one) | spread.ready("everywhere", "b")
        died = time.monotonic()
        cluster.kill_machine("b")
        took_s = ones.first_of_another(dead, died)
        cluster.until("b", GONE)
        wait_for(lambda: len(spread.ready("everywhere") - dead) == 3, "three containers")
        print(f"a container in place of the dead one answered after {took_s:.2f} s")
        assert took_s < SOON_S
        for visitors in (ones, all_):
            assert len(visitors.failed(died)) <= VISITORS, visitors.failed(died)
            # They do not hang until the function's `timeout`.
            assert all(a.ended - a.began < GIVES_UP_S for a in visitors.failed(died))
        assert [] == cuts.failed(died)

        # A machine is cut off for so long that it is given up. It ends its containers before any gets a request again.
        before = spread.ready(cut) | spread.ready("everywhere", "c")
        running = spread.processes("c")
        assert len(before) >= 2
        assert before <= running.keys()
        cut_at = time.monotonic()
        cluster.machines.cut(cluster.nodes["c"].machine)
        took_s = cuts.first_of_another(before, cut_at)
        print(f"a container in place of the one that was cut off answered after {took_s:.2f} s")
        assert took_s < SOON_S
        cluster.until("c", GONE)
        cluster.machines.heal()
        cluster.until("c", READY)
        healed = time.monotonic()
        wait_for(
            lambda: not any(p.is_running() for p in running.values()),
            "the end of what was replaced",
        )
        answers = [a for v in (all_, cuts) for a in v.answers if a.began > healed]
        assert not running.keys() & {answer.container for answer in answers}
        for visitors in (all_, cuts):
            assert len(visitors.failed(cut_at)) <= VISITORS, visitors.failed(cut_at)


def test_after_a_short_cut_containers_serve_again(cluster, tmp_path):
    cluster.join("b")
    cluster.join("c")
    spread = Spread(cluster, tmp_path / "spread.py")
    one = spread.one_of("b")
    before, running = spread.ready(one), spread.processes("b")
    with Visitors(cluster.first, spread.urls[one]) as ones:
        cut_at = time.monotonic()
        cluster.machines.cut(cluster.nodes["b"].machine)
        ones.first_of_another(before, cut_at)
        cluster.machines.heal()
        cluster.until("b", READY)
        healed = len(ones.answers)
        wait_for(lambda: len(spread.ready(one)) == 1, "one container")

        assert len(ones.failed(cut_at)) <= VISITORS, ones.failed(cut_at)
        assert [] == [a for a in ones.answers[healed:] if a.status != 200]
    ended = running.keys() - spread.processes("b").keys()
    assert [] == [name for name in ended if running[name].is_running()]
