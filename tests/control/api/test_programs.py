"""Programs in containers over the API: who may run them, what they are told, and how long their container stays."""

import asyncio
import json

import pytest
from websockets.asyncio.client import unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from homeport.client import Client
from homeport.contract import calls
from homeport.contract.api.audit import AuditQuery
from homeport.contract.programs import OUT, Order
from homeport.contract.scope import MAIN
from homeport.control.api.access import Inside
from homeport.control.api.bearer import Bearer
from homeport.control.api.listener import listening, unix_socket
from homeport.control.api.programs import AHEAD, PATH, TAKEN
from homeport.state.api_tokens import ApiTokens
from tests.control.api import served
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode
from tests.waiting import until

KEYED = {calls.KEY: "the key of an environment"}
ORDER = {"argv": ["cat"], "terminal": [24, 80], "environ": {"TERM": "xterm"}}


@pytest.fixture
async def plane(tmp_path):
    plane = Plane(tmp_path, FakeNode(0.0))
    async with plane:
        spec = function("f", secret="sesame", scaledown_window_s=2.0)
        await plane.deploy(manifest(spec))
        yield plane


@pytest.fixture
async def connect(plane, tmp_path):
    async with served.on_a_socket(plane, tmp_path) as server:

        def connect(query: str):
            return unix_connect(str(plane.settings.control_socket), f"ws://homeport{PATH}?{query}")

        connect.api, connect.audit = server.api, server.audit
        yield connect


async def told(socket) -> dict:
    return json.loads(await received(socket))


async def received(socket) -> str | bytes:
    """Receive the next message that does not only say that input was taken."""
    while (message := await socket.recv()) == TAKEN:
        pass
    return message


async def test_a_program_gets_input_sizes_and_signals_in_a_container_that_is_started_for_it(
    plane, connect
):
    async with connect("app=shop&function=f") as socket:
        await socket.send(json.dumps(ORDER))
        container = (await told(socket))["started"]
        await socket.send(b"typed")
        echoed = await received(socket)
        await socket.send(json.dumps({"resize": [41, 97]}))
        await socket.send(json.dumps({"signal": 2}))
        await socket.send(json.dumps({"signal": 99}))
        await socket.send(b"")
        code = await told(socket)
        with pytest.raises(ConnectionClosed):
            await received(socket)

    (name, order, environ) = plane.node.executed[0]
    assert container == name
    assert ({"KEY": "sesame"}, {"TERM": "xterm"}) == (environ, order.environ)
    assert (b"\x01typed", {"code": 0}) == (echoed, code)
    (program,) = plane.node.programs
    assert [(24, 80), (41, 97)] == program.sizes
    assert [2] == program.signals, "a signal that the terminal cannot send is ignored"


async def test_a_program_that_reads_no_input_gets_signals_and_ends_with_its_socket(plane, connect):
    """Else Ctrl-C would have no effect, and its container would stay."""
    async with connect("app=shop&function=f") as socket:
        await socket.send(json.dumps({**ORDER, "argv": ["sleep"], "terminal": None}))
        name = (await told(socket))["started"]
        for _ in range(3):
            await socket.send(b"not read")
        await socket.send(json.dumps({"signal": 2}))
        (program,) = plane.node.programs
        await until(lambda: program.signals == [2], "the signal")
        assert not program.is_closed
    await until(lambda: program.is_closed, "the program's end")
    pool = plane.pools.of_container(name)
    await until(lambda: not pool.members[name].programs, "the container to be free")


async def test_input_that_a_program_does_not_take_is_not_sent_so_that_a_signal_overtakes_it(
    plane, connect
):
    api = Client(plane.settings)
    order = Order(argv=("sleep",), terminal=None)
    async with api.programs.run(order, app="shop", function="f") as running:
        for _ in range(AHEAD):
            await running.write(b"x")
        more = asyncio.create_task(running.write(b"more"))
        await running.signal(2)
        (program,) = plane.node.programs
        await until(lambda: program.signals == [2], "the signal")

        assert not more.done()
        more.cancel()


async def test_input_of_any_length_reaches_a_program_that_takes_it(plane, connect):
    api = Client(plane.settings)
    pieces = [str(number).encode() for number in range(3 * AHEAD)]
    async with api.programs.run(Order(argv=("cat",)), app="shop", function="f") as running:

        async def feed():
            for piece in (*pieces, b""):
                await running.write(piece)

        feeding = asyncio.create_task(feed())
        outputs = [output async for output in running.outputs()]
        await feeding

    assert [*((OUT, piece) for piece in pieces), (0, b"0")] == outputs


async def test_the_audit_log_says_which_program_ran_where_and_not_its_arguments(connect):
    with_password = {**ORDER, "argv": ["psql", "postgres://ada:s3cret@db"]}
    async with connect("app=shop&function=f") as socket:
        await socket.send(json.dumps(with_password))
        name = (await told(socket))["started"]
    async with connect("container=ta-9") as socket:
        await socket.send(json.dumps(with_password))
        with pytest.raises(ConnectionClosed):
            while True:
                await socket.recv()
    rows = await connect.audit.last(AuditQuery(), None)

    assert [
        ("container exec", "shop", f"{name} psql", "ok"),
        ("container exec", "", "ta-9 psql", "NotFound"),
    ] == [(row.action, row.app, row.target, row.result) for row in rows]


async def test_a_container_stays_as_long_as_a_program_runs_in_it(plane, connect):
    async with connect("app=shop&function=f") as socket:
        await socket.send(json.dumps(ORDER))
        name = (await told(socket))["started"]
        pool = plane.pools.of_container(name)
        assert 1 == pool.members[name].programs
        assert [] == [member.id for member in pool.idle()]
        assert 0 == pool.floor
    await until(lambda: not pool.members[name].programs, "the program's end")

    assert [name] == [member.id for member in pool.idle()]


@pytest.mark.parametrize(
    ("query", "order", "text"),
    [
        ("container=ta-9", ORDER, "there is no container `ta-9`"),
        ("app=shop&function=g", ORDER, "no app `shop` that serves has a function `g`"),
        ("app=shop&function=f&session=x", ORDER, "no app `shop` that serves"),
        ("container=ta-9", {"argv": []}, "`argv` must be a list of words"),
        ("container=ta-9", {"argv": [""]}, "`argv` must be a list of words"),
        ("container=ta-9", {"argv": ["a\0b"]}, "`argv` must be a list of words"),
        ("container=ta-9", {"argv": ["a"], "environ": {"A=B": "c"}}, "`environ` must be"),
        ("container=ta-9", {"argv": ["a"], "environ": ["A"]}, "`environ` must be"),
        ("container=ta-9", {"argv": ["a"], "terminal": [0, 1]}, "a terminal has from 1 to"),
        ("container=ta-9", {"argv": ["a"], "terminal": [True, 1]}, "a terminal has from 1 to"),
        ("container=ta-9", [], "is a JSON object"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused_in_words(connect, query, order, text):
    async with connect(query) as socket:
        await socket.send(json.dumps(order))
        answer = await told(socket)

    assert text in answer["error"]["message"]


async def test_no_container_and_nobody_without_the_token_may_run_programs(plane, connect, tmp_path):
    inside = unix_socket(tmp_path / "inside")
    outside = unix_socket(tmp_path / "tcp")
    async with (
        listening(Inside(connect.api.inside(), lambda _key: MAIN), inside),
        listening(Inside(connect.api.app(), lambda _key: MAIN), unix_socket(tmp_path / "wrong")),
        listening(
            Bearer(connect.api.app(), ApiTokens(plane.database), first="correct-horse"), outside
        ),
    ):
        for name, headers in (
            ("inside", {}),
            ("inside", KEYED),
            ("tcp", {}),
            ("tcp", {"Authorization": "Bearer wrong"}),
        ):
            with pytest.raises(InvalidStatus, match="403"):
                await unix_connect(
                    str(tmp_path / name),
                    f"ws://homeport{PATH}?app=shop&function=f",
                    additional_headers=headers,
                )
        # Also if the routes were mixed up, a container's listener names its caller.
        async with unix_connect(
            str(tmp_path / "wrong"),
            f"ws://homeport{PATH}?app=shop&function=f",
            additional_headers=KEYED,
        ) as socket:
            assert "Unauthorized" == (await told(socket))["error"]["kind"]
        right = {"Authorization": "Bearer correct-horse"}
        async with unix_connect(
            str(tmp_path / "tcp"),
            f"ws://homeport{PATH}?app=shop&function=f",
            additional_headers=right,
        ) as socket:
            await socket.send(json.dumps(ORDER))
            assert "started" in await told(socket)

    assert 1 == len(plane.node.executed)


async def test_a_socket_that_ends_ends_its_program(plane, connect):
    async with connect("app=shop&function=f") as socket:
        await socket.send(json.dumps(ORDER))
        name = (await told(socket))["started"]
        transport = socket.transport
        transport.abort()
    pool = plane.pools.of_container(name)

    await until(lambda: not pool.members[name].programs, "the program's end")
