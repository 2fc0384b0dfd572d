"""A node of another machine, as the control plane takes it: its agent says what the test wants."""

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from homeport.contract.capacity import Capacity, Usage
from homeport.contract.container import Container, LogLine, State
from homeport.contract.errors import NodeLost
from homeport.contract.listing import Change, Listing, Mark
from homeport.contract.traffic import Peer
from homeport.link import calls
from homeport.link.messages import Changed, Kept, Logs
from homeport.link.pace import Pace
from homeport.link.remote import MOST_GENERATIONS, RemoteNode
from homeport.link.seals import Sealer
from homeport.link.session import Session
from tests.link.pairs import End, streams
from tests.orders import order
from tests.waiting import until

THERE = Peer(host="127.0.0.1", port=7601, name="a")
ELSEWHERE = "ta-of-another"


class Agent:
    """The other end; `answers` has what it says when it is asked."""

    def __init__(self, end: End, answers: dict[str, Any]) -> None:
        self.end, self.answers, self.asked = end, answers, list[tuple[str, dict[str, Any]]]()

    def say(self, number: int, *texts: str) -> None:
        lines = (
            LogLine(at=0.0, app="x", function="y", container="ta-1", text=text) for text in texts
        )
        self.end.session.send(Logs(number=number, lines=tuple(lines)))

    async def kept(self, count: int) -> list[int]:
        """Return the answers to lines of logs, as soon as there are so many."""
        await until(lambda: len(self.end.heard) >= count, "the answers to lines")
        assert all(isinstance(message, Kept) for message in self.end.heard)
        return [message.number for message in self.end.heard]


@pytest.fixture
def node(tmp_path):
    return RemoteNode(
        "a",
        tmp_path,
        Sealer(b"key", "a"),
        is_elsewhere=lambda container: container == ELSEWHERE,
    )


@pytest.fixture
async def connect(node):
    """Connect an agent to the node; it is another process of the agent with another `run`."""
    async with contextlib.AsyncExitStack() as opened:
        running = list[asyncio.Task[None]]()

        async def connect(run: str = "one", there: Peer | None = THERE, **answers: Any) -> Agent:
            of_control, of_agent = await opened.enter_async_context(streams())

            async def serve(name: str, given: dict[str, Any], _say: Any) -> Any:
                agent.asked.append((name, given))
                return agent.answers.get(name)

            async def none(_name: str, _given: dict[str, Any], _say: Any) -> None:
                raise AssertionError("an agent asked")

            session = Session(
                *of_control,
                asks=calls.OF_NODE,
                serves=calls.OF_CONTROL,
                serve=none,
                hear=node.hear,
                pace=Pace(asyncio.get_running_loop().time()),
            )
            heard = list[Any]()
            there_session = Session(
                *of_agent,
                asks=calls.OF_CONTROL,
                serves=calls.OF_NODE,
                serve=serve,
                hear=heard.append,
            )
            end = End(there_session)
            end.heard = heard
            agent = Agent(end, answers)
            end.running = asyncio.create_task(there_session.run())
            running.extend((end.running, asyncio.create_task(session.run())))
            node.attach(session, run, there)
            return agent

        yield connect
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def container(name: str) -> Container:
    return Container(order=order(name), state=State.READY, node="a")


def listing(*names: str, places: int = 5, generation: int = 0) -> Listing:
    return Listing(
        mark=Mark(run="one"),
        capacity=Capacity(cores=1, memory_mib=1, places=places, has_mounts=True),
        generation=generation,
        containers=tuple(map(container, names)),
    )


async def test_lines_are_taken_once_whatever_is_sent_again_and_those_of_another_agent_too(
    node, connect
):
    said = list[str]()
    node.watch(lambda _change: None, lambda line: said.append(line.text))
    agent = await connect()
    await node.start(order("ta-1", source=""), {})
    agent.say(0, "first", "second")
    agent.say(1, "third")
    assert [0, 1] == await agent.kept(2)
    again = await connect()  # the answer to the last lines was lost with the connection
    again.say(1, "third")
    again.say(2, "fourth")
    assert [1, 2] == await again.kept(2)
    other = await connect(run="two")  # its numbers begin again
    other.say(0, "fifth")
    assert [0] == await other.kept(1)

    assert ["first", "second", "third", "fourth", "fifth"] == said


async def test_a_container_that_was_never_ordered_is_told_to_end_however_it_is_reported(
    node, connect, caplog
):
    changes = list[Change]()
    node.watch(changes.append, lambda _line: None)
    agent = await connect(list=listing("ta-9"))
    agent.end.session.send(
        Changed(change=Change(mark=Mark(run="one"), container=container("ta-8")))
    )
    assert () == (await node.list()).containers
    await until(lambda: len([name for name, _ in agent.asked if name == "stop"]) == 2, "both")

    assert [] == changes
    assert {"ta-8", "ta-9"} == {given["container"] for name, given in agent.asked if name == "stop"}
    assert 1 == caplog.text.count("never ordered there")


async def test_a_node_says_nothing_about_a_container_of_another_one(node, connect):
    usage = Usage(cpu_s=1.0, memory_mib=1)
    agent = await connect(list=listing("ta-1", ELSEWHERE), usage={"ta-1": usage, ELSEWHERE: usage})
    await node.start(order("ta-1", source=""), {})

    assert ["ta-1"] == [known.id for known in (await node.list()).containers]
    assert {"ta-1": usage} == await node.usage()
    assert ELSEWHERE not in {given.get("container") for _, given in agent.asked}
    agent.end.session.send(
        Changed(change=Change(mark=Mark(run="one"), container=container(ELSEWHERE)))
    )
    await agent.end.lost()


@pytest.mark.parametrize(
    ("there", "shares", "places", "expected"),
    [
        (THERE, True, 5, (5, True)),
        (THERE, False, 5, (5, False)),
        (THERE, True, -5, (0, True)),
        (None, True, 5, (0, True)),
    ],
    ids=["usual", "its volumes are its own", "nonsense", "not reached by the ingress"],
)
async def test_a_node_has_room_only_for_containers_that_work_there(
    node, connect, there, shares, places, expected
):
    node.shares_volumes = shares
    await connect(there=there, list=listing(places=places))
    capacity = (await node.list()).capacity

    assert expected == (capacity.places, capacity.has_mounts)


async def test_a_generation_from_which_nobody_can_count_on_is_not_believed(node, connect):
    await connect(list=listing(generation=2**62))

    assert MOST_GENERATIONS == (await node.list()).generation


async def test_without_a_connection_each_call_fails_at_once(node, connect):
    with pytest.raises(NodeLost, match="is not connected"):
        await node.mark()
    await connect()
    session = node.session
    node.detach(session)

    assert not node.connected.is_set()
    with pytest.raises(NodeLost, match="is not connected"):
        await node.stop("ta-1")


async def test_a_connection_that_another_one_has_replaced_takes_nothing_along(node, connect):
    await connect()
    first = node.session
    await connect()
    node.detach(first)

    assert node.connected.is_set()
    assert node.session is not first


async def test_a_machine_lives_while_its_port_takes_connections(node, connect):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        await connect(there=None)
        assert not await node.lives()
        await connect(there=Peer(host="127.0.0.1", port=port, name="a"))
        assert await node.lives()

    assert not await node.lives()
