"""Machines of a Ray cluster become nodes and are forgotten; the process for Ray may end at any moment."""

import sys
from dataclasses import replace

import pytest

from homeport.contract import codec, node_types
from homeport.contract.errors import StorageError
from homeport.contract.growth import Bundle, RayMachine, Seen
from homeport.control.api import findings
from homeport.control.fleet.addable import Addable
from homeport.control.fleet.growing import Growing
from homeport.control.fleet.machines import Listens
from homeport.control.fleet.pools import Pools
from homeport.node.joined import dialing
from homeport.node.joined.place import Place, address
from tests.fakes import FakeNode
from tests.orders import order
from tests.waiting import PATIENCE_S, until

OWN = RayMachine(id="own", name="10.0.0.1", host="127.0.0.1", cpus=4.0, is_own=True)
OTHER = RayMachine(id="other", name="10.0.0.2", host="10.0.0.2", cpus=8.0)
NAME = "ray-10-0-0-2"
BOTH, ALONE = Seen(machines=(OWN, OTHER)), Seen(machines=(OWN,))


@pytest.fixture
def gone_s() -> float:
    return 0.1


@pytest.fixture
async def growing(tmp_path, nodes, machines):
    await machines.token(Listens(host="127.0.0.1", port=0))
    made = Growing("10.0.0.1:6379", Pools(), nodes, machines, log_file=tmp_path / "ray.log")
    yield made
    await made.close()


async def joined(growing, machines, tmp_path) -> None:
    """Do what the agent of the other machine does."""
    (joining,) = (await growing.wanted(BOTH)).joining
    place = Place(tmp_path / "other")
    await dialing.join(place, address(joining.address), joining.name, joining.token)
    await until(lambda: machines.every(), "the machine")


async def test_a_machine_is_told_once_how_to_join_and_the_control_planes_own_never(growing):
    first, second = await growing.wanted(BOTH), await growing.wanted(BOTH)

    assert [("other", NAME)] == [(joining.ray_id, joining.name) for joining in first.joining]
    assert first.joining == second.joining
    assert () == (await growing.wanted(ALONE)).busy


async def test_a_machine_with_containers_is_held_and_counts_as_full(
    growing, machines, nodes, tmp_path
):
    await joined(growing, machines, tmp_path)
    node = FakeNode(0.01)
    await node.start(order("ta-1"), {})
    (container,) = (await node.list()).containers
    nodes.mirrors[NAME].containers["ta-1"] = container
    wanted = await growing.wanted(BOTH)

    assert ("other",) == wanted.busy
    assert [Bundle(cpus=8.0), Bundle(cpus=4.0)] == [*wanted.bundles]


async def test_a_machine_has_the_region_of_its_type_unless_somebody_gave_it_one(
    growing, machines, nodes, tmp_path
):
    nodes.addable = Addable(types=node_types.read("far: cpu=8 region=eu-west"))
    await joined(growing, machines, tmp_path)
    seen = Seen(machines=(OWN, replace(OTHER, resources=("CPU", "far"))))
    await growing.wanted(seen)
    assert {"region": "eu-west"} == machines.every()[0].labels
    await machines.label(NAME, {"region": "us"})
    await growing.wanted(seen)

    assert {"region": "us"} == machines.every()[0].labels


async def test_a_machine_that_ray_has_removed_is_forgotten_once_it_does_not_answer(
    growing, machines, nodes, tmp_path
):
    await joined(growing, machines, tmp_path)
    await growing.wanted(ALONE)
    assert [NAME] == [row.name for row in machines.every()]
    nodes.mirrors[NAME].give_up()
    await growing.wanted(ALONE)

    assert [] == machines.every()


async def test_a_removed_machine_that_cannot_be_forgotten_is_tried_again(
    growing, machines, nodes, tmp_path, monkeypatch
):
    await joined(growing, machines, tmp_path)
    await growing.wanted(ALONE)
    nodes.mirrors[NAME].give_up()

    async def fail(_name: str) -> None:
        raise StorageError("the database does not answer")

    with monkeypatch.context() as broken:
        broken.setattr(machines, "remove", fail)
        with pytest.raises(StorageError):
            await growing.wanted(ALONE)
    await growing.wanted(ALONE)

    assert [] == machines.every()


async def test_a_process_for_ray_that_ends_is_started_again(tmp_path, nodes, machines):
    began = tmp_path / "began"
    line = codec.dumps(ALONE)
    code = f"open({str(began)!r}, 'a').write('x'); print({line!r})"
    growing = Growing(
        "10.0.0.1:6379",
        Pools(),
        nodes,
        machines,
        log_file=tmp_path / "ray.log",
        words=(sys.executable, "-c", code),
    )
    growing.open()
    await until(lambda: began.exists() and len(began.read_text()) > 1, "its second start")
    await growing.close()

    assert 1 == len(nodes.ready())


@pytest.mark.parametrize("code", ["import time; time.sleep(600)", "raise SystemExit(3)"])
async def test_a_cluster_that_does_not_answer_is_said_until_it_does(
    tmp_path, nodes, machines, code
):
    log_file = tmp_path / "ray.log"
    words = (sys.executable, "-c", code)
    growing = Growing(
        "10.0.0.1:6379", Pools(), nodes, machines, log_file=log_file, words=words, silent_s=0.1
    )
    growing.open()
    await until(lambda: machines.ray_trouble, "the trouble")
    (finding,) = findings.of_ray(machines.ray_trouble)
    assert "10.0.0.1:6379" in finding.text
    line = codec.dumps(ALONE)
    code = f"import sys; print({line!r}, flush=True); sys.stdin.read()"
    growing._words = (sys.executable, "-c", code)
    growing._silent_s = PATIENCE_S
    await until(lambda: not machines.ray_trouble, "an answer")
    await growing.close()

    assert [] == [*findings.of_ray(machines.ray_trouble)]


async def test_a_cluster_may_have_thousands_of_machines(tmp_path, nodes, machines):
    """One line has all of them."""
    began = tmp_path / "began"
    code = (
        f"import sys; open({str(began)!r}, 'a').write('.'); line = {codec.dumps(ALONE)!r}\n"
        "print(line[:-1] + ' ' * 2**20 + line[-1], flush=True); sys.stdin.readline()\n"
        f"open({str(began)!r}, 'a').write('asked')"
    )
    words = (sys.executable, "-c", code)
    log_file = tmp_path / "ray.log"
    growing = Growing("10.0.0.1:6379", Pools(), nodes, machines, log_file=log_file, words=words)
    growing.open()
    await until(lambda: began.exists() and len(began.read_text()) > 1, "an answer to the line")
    await growing.close()

    assert began.read_text().startswith(".asked")
