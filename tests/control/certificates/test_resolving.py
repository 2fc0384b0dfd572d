"""Look-ups in DNS, with a name server of the test's own."""

import asyncio
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from homeport.control.certificates import resolving
from homeport.control.certificates.resolving import LONGEST_S, Resolver
from tests.waiting import until


class NameServer(asyncio.DatagramProtocol):
    """Knows `good.test`, and keeps silent about names that begin with `dead` until it is told to refuse them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silent: list[tuple[dns.message.Message, tuple]] = []

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.address = "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, sender: tuple) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append(f"{name} {dns.rdatatype.to_text(question.rdtype)}")
        if name.startswith("dead"):
            self.silent.append((query, sender))
            return
        self._answer(
            query, sender, dns.rcode.NOERROR if name == "good.test" else dns.rcode.NXDOMAIN
        )

    def refuse(self) -> None:
        """Answer what it has kept silent about, and from now on."""
        for query, sender in self.silent:
            self._answer(query, sender, dns.rcode.REFUSED)

    def _answer(self, query, sender, code) -> None:
        answer = dns.message.make_response(query)
        answer.set_rcode(code)
        (question,) = query.question
        if code == dns.rcode.NOERROR and question.rdtype == dns.rdatatype.A:
            answer.answer.append(dns.rrset.from_text(question.name, 20, "IN", "A", "192.0.2.7"))
        self.transport.sendto(answer.to_wire(), sender)


@pytest.fixture
async def server():
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    yield server
    transport.close()


async def test_names_without_an_answer_hold_up_neither_others_nor_any_thread(server):
    resolver = Resolver(server.address)
    await resolver.addresses("good.test")  # the library is imported
    before = threading.active_count()
    dead = [asyncio.create_task(resolver.addresses(f"dead{n}.test")) for n in range(40)]
    await until(lambda: len(server.silent) >= 40, "the questions")
    other = await resolver.addresses("other.test")
    waiting = sum(not task.done() for task in dead)
    during = threading.active_count()
    server.refuse()

    assert ((), 40) == (other, waiting)
    assert during <= before
    assert {None} == {await task for task in dead}


async def test_an_answer_is_kept_as_long_as_dns_says_and_asked_for_once(server):
    now = [0.0]
    resolver = Resolver(server.address, clock=lambda: now[0])
    both = await asyncio.gather(*(resolver.addresses("good.test") for _ in range(2)))
    now[0] = 19.0
    kept = await resolver.addresses("good.test")
    asked = list(server.asked)
    now[0] = 21.0
    await resolver.addresses("good.test")

    assert [("192.0.2.7",)] * 3 == [*both, kept]
    assert ["good.test A", "good.test AAAA"] == asked
    assert 4 == len(server.asked)


async def test_a_bad_answer_is_kept_for_a_moment_only(server):
    now = [0.0]
    resolver = Resolver(server.address, clock=lambda: now[0])
    assert () == await resolver.addresses("missing.test")
    now[0] = resolving.BAD_S
    assert () == await resolver.addresses("missing.test")

    assert 4 == len(server.asked)
    assert resolving.BAD_S < LONGEST_S


async def test_no_more_answers_are_kept_than_there_is_room_for(server, monkeypatch):
    monkeypatch.setattr(resolving, "MOST", 3)
    resolver = Resolver(server.address)
    for number in range(5):
        await resolver.addresses(f"n{number}.test")

    assert len(resolver._answers) <= 3


async def test_a_wildcard_leads_where_some_name_below_it_does(server):
    await Resolver(server.address).addresses("*.good.test")

    assert all(each.endswith((".good.test A", ".good.test AAAA")) for each in server.asked)
    assert not server.asked[0].startswith(("*", "good"))


async def test_the_machines_own_list_of_hosts_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(resolving, "HOSTS", tmp_path / "hosts")
    (tmp_path / "hosts").write_text("# 192.0.2.8 shop.test\n192.0.2.9 a.test Shop.test # mine\n")

    assert ("192.0.2.9",) == await Resolver().addresses("shop.test")
