"""What machines say of themselves, asked by a clock of the test's."""

import asyncio

from homeport.contract.errors import NodeLost
from homeport.contract.traffic import Peer
from homeport.control.fleet.facts import MOST_PORTS, REASON_CHARS, VERSION_CHARS, Facts
from homeport.link.calls import About
from tests.ports import free_port

ABOUT = About(now=1003.0, homeport="1.2", free_bytes=5, certificate_until=9.0)


class Remote:
    """A machine that says what it is told to."""

    def __init__(self, name: str, about: About = ABOUT) -> None:
        self.name, self.said = name, about
        self.connected = asyncio.Event()
        self.connected.set()

    async def about(self) -> About:
        if self.name == "lost":
            raise NodeLost("it is lost")
        return self.said


async def test_a_clock_is_compared_with_the_middle_of_there_and_back():
    times = iter((1000.0, 1002.0))
    facts = Facts({"a": Remote("a")}, lambda: next(times))
    await facts.look()
    fact = facts.of("a")

    assert ("1.2", 2.0, 5, 9.0) == (
        fact.version,
        fact.clock_off_s,
        fact.free_bytes,
        fact.certificate_until,
    )


async def test_a_machine_that_does_not_answer_keeps_no_other_from_it_and_a_removed_one_is_forgotten():
    remotes = {"lost": Remote("lost"), "a": Remote("a"), "away": Remote("away")}
    remotes["away"].connected.clear()
    facts = Facts(remotes)
    await facts.look()
    assert [True, False, False] == [facts.of(name) is not None for name in ("a", "lost", "away")]
    del remotes["a"]
    await facts.look()

    assert facts.of("a") is None


async def test_a_report_is_not_taken_for_one_of_a_later_machine_of_that_name():
    later, learned = Remote("a"), []

    class Leaving(Remote):
        async def about(self) -> About:
            remotes["a"] = later  # it is removed, and the other one joins
            return self.said

    remotes = {"a": Leaving("a", About(now=0.0, homeport="old", free_bytes=5, certificate_until=9.0))}  # fmt: skip
    facts = Facts(remotes, learned=learned.append)
    await facts.look()
    assert (None, []) == (facts.of("a"), learned)
    await facts.look()

    assert ("1.2", ["a"]) == (facts.of("a").version, learned)


async def test_the_report_of_a_machine_is_bounded():
    said = About(
        now=0.0,
        homeport="1\x1b[31m" + "x" * 100,
        free_bytes=-1,
        certificate_until=0.0,
        entrance=tuple(range(100)),
        no_entrance="port 80: \x1b[31m" + "x" * 500,
    )
    facts = Facts({"a": Remote("a", said)})
    await facts.look()
    fact = facts.of("a")

    assert (VERSION_CHARS, 0, True) == (
        len(fact.version),
        fact.free_bytes,
        fact.version.isprintable(),
    )
    assert (MOST_PORTS, REASON_CHARS) == (len(fact.entrance), len(fact.no_entrance))
    assert fact.no_entrance.isprintable()


async def test_an_agent_that_connects_is_asked_at_once():
    remotes = {}
    facts = Facts(remotes)
    looking = asyncio.create_task(facts.look_again_and_again())
    remotes["a"] = Remote("a")
    facts.wake()
    async with asyncio.timeout(5):
        while facts.of("a") is None:
            await asyncio.sleep(0)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_a_machine_whose_port_is_closed_is_told_apart_from_one_that_listens():
    async def hang_up(_reader, writer):
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        peers = {
            "open": Peer(host="127.0.0.1", port=port, name="open"),
            "shut": Peer(host="127.0.0.1", port=free_port(), name="shut"),
        }
        facts = Facts({n: Remote(n) for n in ("open", "shut", "none")}, peer_of=peers.get)
        await facts.look()

    assert ("", "") == (facts.of("open").unreached, facts.of("none").unreached)
    shut = peers["shut"]
    assert f"{shut.host}:{shut.port}: Connection refused" == facts.of("shut").unreached
