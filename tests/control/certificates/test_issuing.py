"""The local CA's certificates: before a URL answers, and while the server runs."""

import asyncio
import time

import pytest

from homeport.contract.errors import IngressError
from homeport.control.certificates.issuing import Issuing
from homeport.control.certificates.keeper import Keeper
from homeport.control.certificates.local import DAYS, Local
from homeport.control.certificates.situation import Kind
from homeport.state.certificates import Certificates
from tests import databases
from tests.fakes import FakeIngress
from tests.waiting import until


class House:
    def __init__(self, home, domain: str = "localhost") -> None:
        self.home = home
        self.database = databases.opened(home)
        self.ingress = FakeIngress()
        self.domain = domain
        self.wanted = {domain: Kind.MAIN}
        self.now = time.time()
        self.keeper = self.new()

    def new(self) -> Keeper:
        source = Issuing(Local(self.home / "local-ca" / "ca.pem", self.domain), self.domain)
        rows = Certificates(self.database)
        keeper = Keeper(rows, self.ingress, source, clock=lambda: self.now)
        keeper.wants(lambda: self.wanted)
        return keeper

    async def answers(self, *hosts: str) -> None:
        """Make hosts answer, as an endpoint's route does."""
        self.wanted |= dict.fromkeys(hosts, Kind.MAIN)
        await self.keeper.cover(hosts)

    def hosts(self) -> list[tuple[str, ...]]:
        return sorted(names for _, names in self.ingress.certificates.values())


@pytest.fixture
async def make(tmp_path):
    """Make a homeport with this domain."""
    houses = []

    async def make(domain: str = "localhost") -> House:
        houses.append(House(tmp_path, domain))
        await houses[-1].keeper.start()
        return houses[-1]

    yield make
    for house in houses:
        await house.keeper.close()
        await house.database.close()


async def test_each_host_gets_one_certificate_once(make):
    house = await make()
    for _ in range(2):
        await house.answers("A.localhost", "shop.test")
        await house.answers("a.localhost")

    assert [("a.localhost",), ("localhost",), ("shop.test",)] == house.hosts()
    assert 3 == len(house.ingress.calls)


async def test_a_wildcard_is_for_all_hosts_of_a_domain(make):
    house = await make("apps.example.com")
    await house.answers("ada--shop.apps.example.com")

    assert [("*.apps.example.com", "apps.example.com")] == house.hosts()


async def test_a_foreign_host_stays_without_stops_nothing_and_the_list_says_why(make, caplog):
    house = await make()
    for _ in range(2):
        await house.answers("shop.example.com", "a.localhost")
    house.keeper.open()
    await until(lambda: house.keeper.state("shop.example.com").error, "a look of the loop")

    assert [("a.localhost",), ("localhost",)] == house.hosts()
    assert 1 == caplog.text.count("shop.example.com gets no certificate")
    state = house.keeper.state("shop.example.com")
    assert ("waiting", True) == (state.state, "signs for names below" in state.error)
    assert "valid" == house.keeper.state("a.localhost").state


async def test_a_refusal_of_the_ingress_stops_no_deploy_and_is_tried_again(make):
    house = await make()

    async def refuse(call: str, _what: str, _when: str) -> None:
        if call == "certificate":
            raise IngressError("no")

    house.ingress.fault, usual = refuse, house.ingress.fault
    await house.answers("a.localhost")
    before = house.hosts()
    house.ingress.fault = usual
    house.now += 3600
    await house.answers("a.localhost")

    assert ([("localhost",)], [("a.localhost",), ("localhost",)]) == (before, house.hosts())


async def test_a_certificate_goes_with_its_host_and_is_back_with_it(make):
    house = await make()
    await house.answers("tunnel-1.localhost")
    house.keeper.open()
    del house.wanted["tunnel-1.localhost"]
    house.keeper.wake()
    await until(lambda: [("localhost",)] == house.hosts(), "the certificate to go")
    await house.answers("tunnel-1.localhost")

    assert [("localhost",), ("tunnel-1.localhost",)] == house.hosts()


async def test_a_certificate_is_renewed_after_two_thirds(make):
    house = await make()
    (first,) = house.ingress.certificates.values()
    house.keeper.open()
    house.now += DAYS * 24 * 3600 * 2 / 3
    house.keeper.wake()
    await until(lambda: [first] != [*house.ingress.certificates.values()], "a renewal")
    (second,) = house.ingress.certificates.values()

    assert first[1] == second[1]


async def test_a_restart_signs_nothing_anew_unless_the_ca_is_another_one(make, tmp_path):
    house = await make()
    await house.keeper.close()
    before = dict(house.ingress.certificates)
    house.keeper = house.new()
    await house.keeper.start()
    same = dict(house.ingress.certificates)
    await house.keeper.close()
    (tmp_path / "local-ca" / "ca.key").unlink()
    house.keeper = house.new()
    await house.keeper.start()
    house.keeper.open()
    await asyncio.sleep(0)

    assert before == same
    assert list(before) == list(house.ingress.certificates)
    assert before != house.ingress.certificates
