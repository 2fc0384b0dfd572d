"""The first machine loses its power, or its database: a standby on another machine leads, and visitors at a third one wait for it."""

import time

import psutil
import pytest

from tests.journeys import machines
from tests.journeys.machines import On
from tests.journeys.test_entrances import Visitor
from tests.waiting import wait_for

ADDRESSES = "10.77.0.1,10.77.0.2"  # of the first two machines of a network (tests/namespaces.py)
SCRIPT = """
import os

import homeport

app = homeport.App("shop")


@app.function(min_containers=2)
@homeport.concurrent(max_inputs=20)
@homeport.fastapi_endpoint()
def shop():
    return os.environ["MODAL_TASK_ID"]
"""


@pytest.fixture
def environ(tmp_path, postgres):
    return {
        "HOMEPORT_HOST": "0.0.0.0",
        "HOMEPORT_HTTP_PORT": "8000",
        "HOMEPORT_STANDBY_ADDRESSES": ADDRESSES,
        "HOMEPORT_DATABASE": postgres.url_of(tmp_path / "cluster" / "first"),
    }


@pytest.fixture
def cluster(tmp_path, environ):
    with machines.cluster(tmp_path / "cluster", environ) as made:
        yield made


@pytest.fixture
def second(cluster, environ):
    """Another machine with the first one's home."""
    terminal = On(cluster.machines.add("second"), cluster.first.home, environ)
    yield terminal
    terminal.close()


@pytest.mark.parametrize("how", ["its power", pytest.param("its database", marks=pytest.mark.soak)])
def test_a_standby_on_another_machine_leads_and_visitors_at_an_entrance_wait_for_it(
    how, cluster, second, postgres, tmp_path
):
    b, elsewhere = cluster.join("b"), cluster.machines.add("elsewhere")
    script = tmp_path / "shop.py"
    script.write_text(SCRIPT)
    cluster.first.run("deploy", script)
    (shop,) = cluster.first.status()["apps"]
    visitor = Visitor(elsewhere, b.machine, shop["endpoints"][0]["url"])
    wait_for(
        lambda: (
            {c["node"] for c in cluster.first.containers() if c["state"] == "ready"}
            == {"here", "b"}
        ),
        "a container on each machine",
    )
    (there,) = [c["id"] for c in cluster.first.containers() if c["node"] == "b"]
    standby = second.start("up", "--standby")
    standby.wait_for("waiting as a standby")

    with visitor:
        if how == "its power":
            # Its server alone is killed: its ingress answers, so no second one may count the same slots.
            control_of(cluster.first).kill()
            visitor.more()
            cluster.first.run("up")
            cluster.until("b", machines.READY)
        died = time.monotonic()
        if how == "its power":
            cluster.first.machine.kill()
        else:
            lose_the_database(cluster.first, postgres, standby)
        standby.wait_for("homeport is up")
        print(f"the standby leads after {time.monotonic() - died:.2f} s")
        visitor.more()
        print(f"the longest request took {visitor.longest_s:.2f} s; failed: {visitor.failed}")
        failed = len(visitor.failed)
        wait_for(lambda: there == visitor.ask(), "the container that outlived the first machine")
        visitor.more()

    assert failed == len(visitor.failed) <= 1  # the one that was inside
    if how == "its database":
        # Nothing is left there that would answer visitors, or run twice.
        wait_for(lambda: cluster.first.machine.processes()[1:] == [], "the end of the first one")
    cluster.first = second
    assert {"b": machines.READY} == cluster.healths()


def control_of(first: On) -> psutil.Process:
    """Return the server of this machine; another one has the same home."""
    (control,) = (p for p in first.machine.processes() if "homeport.control" in p.cmdline())
    return control


def lose_the_database(first: On, postgres, standby) -> None:
    """End the sessions of the server that leads, which does not notice it before the standby does."""
    control = control_of(first)
    control.suspend()
    with postgres.connect() as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where pid in (select pid from pg_locks where locktype = 'advisory')"
        )
    standby.wait_for("the leader has lost the database")
    control.resume()
