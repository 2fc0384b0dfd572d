"""The activator's protocol over its real socket: park, go, no, and a client that hangs up."""

import asyncio
from pathlib import Path

import pytest

from homeport.contract.container import LogLine
from homeport.contract.errors import PortTaken, StartError
from homeport.contract.manifest import FunctionSpec, Parameter
from homeport.contract.scope import MAIN
from homeport.contract.traffic import PoolKey
from homeport.control.fleet.activator import WITHHELD, Activator
from homeport.control.fleet.member import Member, Stage
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool, now
from homeport.control.fleet.pools import Pools
from tests.waiting import until

KEY = PoolKey("app", "hello", "rv-1")


class House:
    """An activator with one pool, and a record of its calls to others."""

    def __init__(self, directory: Path) -> None:
        self.pools = Pools()
        self.woken = asyncio.Event()
        self.roused: list[PoolKey] = []
        self.aliases: list[tuple[str, PoolKey]] = []
        self.socket = directory / "a.sock"
        self.lines: list[LogLine] = []
        self.alone = True
        self.activator = Activator(
            self.socket,
            self.pools,
            wake=lambda _pool: self.woken.set(),
            rouse=self.roused.append,
            alias=self.note_alias,
            say=self.lines.append,
            alone=lambda: self.alone,
        )

    async def note_alias(self, key: str, pool: PoolKey) -> None:
        self.aliases.append((key, pool))

    def add(self, *parameters: Parameter, ephemeral: bool = False) -> Pool:
        spec = FunctionSpec(name="hello", module="m", qualname="h", parameters=parameters)
        pool = Pool(
            key=KEY, function=spec, source="", owner=Owner.app(MAIN, "app"), ephemeral=ephemeral
        )
        self.pools.add(pool)
        return pool

    async def visit(self, line: str):
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        writer.write(f"{line}\n".encode())
        await writer.drain()
        return reader, writer

    async def ask(self, line: str) -> str:
        reader, writer = await self.visit(line)
        try:
            async with asyncio.timeout(60):
                return (await reader.read()).decode()
        finally:
            writer.close()
            await writer.wait_closed()


def make_ready(pool: Pool) -> None:
    pool.members["ta-1"] = Member(id="ta-1", stage=Stage.READY)


@pytest.fixture
async def house(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a short path: a socket's has room for 107 bytes
    house = House(Path())
    await house.activator.open()
    yield house
    await house.activator.close()


async def test_a_request_goes_at_once_where_a_container_is_ready(house):
    make_ready(house.add())

    assert await house.ask(f"park {KEY}") == "go\n"


async def test_a_parked_request_wakes_the_reconciler_and_goes_when_one_is_ready(house):
    pool = house.add()
    asking = asyncio.create_task(house.ask(f"park {KEY}"))
    await asyncio.wait_for(house.woken.wait(), 10)
    parked = pool.demand
    make_ready(pool)
    pool.succeeded(0.0)

    assert 1 == parked
    assert "go waited\n" == await asking
    assert 0 == pool.demand


async def test_nothing_is_told_to_this_machine_where_several_workspaces_have_code_on_it(house):
    told = [await house.ask("list")]
    pool = house.add(ephemeral=True)
    for _ in range(5):
        pool.failed(StartError("port 8000 is in use"), now())
    told.append(await house.ask(f"park {KEY} 0a-1 here"))
    house.alone = False
    told += [await house.ask("list"), await house.ask(f"park {KEY} 0a-1 here")]

    assert ["go\n", "no 503 port 8000 is in use\n"] == told[:2]
    assert ["no 403 the server has several workspaces\n", f"no 503 {WITHHELD}\n"] == told[2:]


async def test_a_developer_on_this_machine_reads_why_a_start_failed_on_one_line(house):
    pool = house.add(ephemeral=True)
    asking = asyncio.create_task(house.ask(f"park {KEY} 0a-1 here"))
    await asyncio.wait_for(house.woken.wait(), 10)
    pool.failed(StartError("no module\nnamed \x1b[2Jtorch"), 0.0)

    assert "no 503 no module named ?[2Jtorch\n" == await asking
    assert [] == house.lines


@pytest.mark.parametrize(
    ("ephemeral", "words"), [(True, "0a-1"), (False, "0a-1 here"), (False, "0a-1"), (True, "")]
)
async def test_a_visitor_from_elsewhere_reads_no_reason_and_the_log_has_it_once_a_second(
    house, ephemeral, words
):
    pool = house.add(ephemeral=ephemeral)
    for _ in range(5):
        pool.failed(PortTaken("port 8000 belongs to\n`f`"), now())
    answers = {await house.ask(f"park {KEY} {words}") for _ in range(3)}

    assert {f"no 503 {WITHHELD}\n"} == answers
    assert ["port 8000 belongs to `f`"] == [line.text.partition(": ")[2] for line in house.lines]
    assert ("app", "hello", "system") == (
        house.lines[0].app,
        house.lines[0].function,
        house.lines[0].source,
    )
    assert (words[:4] or "unknown") == house.lines[0].request


async def test_a_visitor_who_hangs_up_is_not_counted_any_more(house):
    pool = house.add()
    _, writer = await house.visit(f"park {KEY}")
    await asyncio.wait_for(house.woken.wait(), 10)
    assert 1 == pool.demand
    writer.close()
    await writer.wait_closed()

    await until(lambda: not pool.demand, "the request not to count")


async def test_while_starts_back_off_the_last_reason_is_given_at_once(house):
    pool = house.add(ephemeral=True)
    for _ in range(5):
        pool.failed(StartError("port 8000 is in use"), now())

    assert await house.ask(f"park {KEY} 0a-1 here") == "no 503 port 8000 is in use\n"


async def test_a_caller_is_told_why_a_start_failed_and_need_not_try_again(house):
    pool = house.add()
    for _ in range(5):
        pool.failed(StartError("import failed: no module named x"), now())

    assert await house.ask(f"park {KEY} 0a-1 call") == "no 500 import failed: no module named x\n"


async def test_bad_class_parameters_are_400(house):
    house.add(Parameter(name="size", type="int", required=True))

    assert (await house.ask(f"park {KEY}?size=x")).startswith("no 400 class parameter `size`")


async def test_the_ingress_learns_another_spelling_of_a_pool(house):
    house.add(Parameter(name="size", type="int", required=False, default=1))
    make_ready(house.pools.called_for(PoolKey("app", "hello", "rv-1", "size=7")))

    assert await house.ask(f"park {KEY}?size=07") == "go\n"
    assert [(f"{KEY}?size=07", PoolKey("app", "hello", "rv-1", "size=7"))] == house.aliases


@pytest.mark.parametrize("line", ["fetch x", "park ", "park a/b", "park", ""])
async def test_a_line_that_is_no_command_is_refused_and_harms_nobody(house, line):
    make_ready(house.add())
    answer = await house.ask(line)

    assert answer == "" or answer.startswith("no 4")
    assert await house.ask(f"park {KEY}") == "go\n"


async def test_closing_turns_away_everyone_who_waits(house):
    house.add()
    asking = asyncio.create_task(house.ask(f"park {KEY}"))
    await asyncio.wait_for(house.woken.wait(), 10)
    await house.activator.close()

    assert "" == await asking
