"""The loop that keeps certificates, with a source in memory and a real database."""

import asyncio
import dataclasses
import time
from pathlib import Path

import pytest
from acme import messages

from homeport.contract.errors import BadRequest, IngressError, NotFound
from homeport.control.certificates import orders
from homeport.control.certificates.acme.client import _as_failure
from homeport.control.certificates.keeper import Keeper
from homeport.control.certificates.orders import DAY_S, name_of
from homeport.control.certificates.problems import OrderFailed
from homeport.control.certificates.situation import Decision, Kind, Policy, Situation
from homeport.state.certificates import Certificates
from tests import databases
from tests.certificates import Authority
from tests.fakes import FakeIngress
from tests.waiting import until

AWAY = OrderFailed("the CA is away", everywhere=True)
POLICY = Policy(domain="apps.test", wildcards=False)
AUTHORITY = Authority()


class Source:
    """Issues certificates at once, or fails."""

    def __init__(self, name: str = "acme:1", *, at_once: bool = False) -> None:
        self.name = name
        self.at_once = at_once
        self.asked: list[tuple[str, ...]] = []
        self.failure: Exception | None = None
        self.failures: dict[str, Exception] = {}  # of single hosts
        self.orders: dict[str, bytes] = {}  # until they are forgotten
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self) -> None:
        pass

    async def decide(self, situation: Situation) -> Decision:
        return orders.decide(situation, POLICY)

    def covering(self, host: str) -> tuple[str, ...]:
        return (host,)

    def refusal(self) -> str:
        return ""

    async def issue(self, name: str, hosts: tuple[str, ...]) -> bytes:
        self.asked.append(hosts)
        await self.gate.wait()
        if (failure := self.failures.get(hosts[0], self.failure)) is not None:
            raise failure
        return self.orders.setdefault(name, AUTHORITY.pem(*hosts))

    def forget(self, name: str) -> None:
        self.orders.pop(name, None)


def problem(code: str, *, retry_after_s: float = 0.0) -> OrderFailed:
    """Return what the client makes of an answer of a CA."""
    error = messages.Error(typ=f"urn:ietf:params:acme:error:{code}", detail="no")
    error.__dict__["retry_at"] = time.time() + retry_after_s
    return _as_failure(error, "https://ca.test/dir")


class House:
    def __init__(self, home) -> None:
        self.database = databases.opened(home)
        self.rows = Certificates(self.database)
        self.ingress = FakeIngress()
        self.source = Source()
        self.wanted = {"a.test": Kind.MAIN}
        self.now = time.time()
        self.kept: dict[str, Path] | None = None
        self.keeper = self.new()

    def new(self) -> Keeper:
        keeper = Keeper(
            self.rows,
            self.ingress,
            self.source,
            stored=lambda: self.kept,
            clock=lambda: self.now,
        )
        keeper.wants(lambda: self.wanted)
        return keeper

    async def until(self, host: str, state: str):
        await until(lambda: self.keeper.state(host).state == state, f"{host} is {state}")
        return self.keeper.state(host)

    async def idle(self) -> None:
        """Wait for the end of the orders: a row is saved after the certificate is in use."""
        await until(lambda: not self.keeper._running, "the end of the orders")

    async def again(self) -> None:
        """Start another keeper, as a restart does."""
        await self.idle()
        await self.keeper.close()
        self.keeper = self.new()
        await self.keeper.start()
        self.keeper.open()


@pytest.fixture
async def house(tmp_path):
    house = House(tmp_path)
    await house.keeper.start()
    house.keeper.open()
    yield house
    await house.keeper.close()
    await house.database.close()


async def test_a_wanted_host_gets_a_certificate_which_the_ingress_and_the_rows_have(house):
    state = await house.until("a.test", "valid")

    (row,) = await until(house.rows.all, "the row")
    assert (row.name, row.serial) == (state.name, state.serial)
    assert ("a.test",) == house.ingress.certificates[state.name][1]


async def test_a_restart_orders_nothing_that_is_held_and_all_whose_file_has_gone(house):
    await house.until("a.test", "valid")
    await house.again()
    house.wanted["b.test"] = Kind.MAIN
    house.keeper.wake()
    await house.until("b.test", "valid")
    assert [("a.test",), ("b.test",)] == house.source.asked

    house.kept = {}
    await house.again()
    await house.until("a.test", "valid")

    assert 2 <= house.source.asked.count(("a.test",))


async def test_a_failure_is_told_and_waits_and_renew_tries_at_once(house):
    house.source.failure = OrderFailed("no record", hint="add it", validated=True)
    house.wanted = {"b.test": Kind.MAIN}
    house.keeper.wake()
    state = await house.until("b.test", "failed")
    assert ("no record", "add it") == (state.error, state.hint)
    assert state.next_try > house.now
    await house.again()
    assert "failed" == house.keeper.state("b.test").state

    house.source.failure = None
    await house.keeper.renew("b.test")
    await house.until("b.test", "valid")
    await house.idle()

    assert [] == await house.rows.tries()


async def test_a_ca_that_is_away_stops_all_orders_and_blames_no_host(house):
    await house.until("a.test", "valid")
    await house.idle()
    house.source.failure = OrderFailed("the CA is away", everywhere=True)
    house.wanted["b.test"] = Kind.MAIN
    house.keeper.wake()
    state = await house.until("b.test", "failed")
    house.wanted["c.test"] = Kind.MAIN
    house.keeper.wake()
    await house.until("c.test", "failed")

    assert "the CA is away" == state.error
    assert [] == await house.rows.tries()
    assert ("c.test",) not in house.source.asked


async def test_after_a_pause_the_others_come_before_those_whose_order_failed(house):
    await house.until("a.test", "valid")
    await house.idle()
    house.source.failures = {f"b{n}.test": AWAY for n in range(orders.AT_ONCE)}
    house.wanted = dict.fromkeys([*house.source.failures, "c.test", "d.test"], Kind.MAIN)
    house.keeper.wake()
    await house.until("b0.test", "failed")
    await house.idle()
    before = len(house.source.asked)
    house.now += 3600
    house.keeper.wake()
    await house.until("d.test", "valid")

    assert [("c.test",), ("d.test",)] == house.source.asked[before : before + 2]


async def test_a_limit_for_one_host_stops_no_other(house):
    limited = problem("rateLimited", retry_after_s=7 * DAY_S)
    house.source.failures = {f"b{n}.test": limited for n in range(orders.AT_ONCE)}
    house.wanted = dict.fromkeys([*house.source.failures, "c.test"], Kind.MAIN)
    house.keeper.wake()

    await house.until("c.test", "valid")
    await house.idle()
    assert house.keeper.state("b0.test").next_try > house.now + 6 * DAY_S


async def test_a_renewal_keeps_the_name_and_changes_the_serial(house):
    before = await house.until("a.test", "valid")
    house.now += 65 * DAY_S
    house.keeper.wake()
    await until(lambda: house.keeper.state("a.test").serial != before.serial, "a renewal")

    assert before.name == house.keeper.state("a.test").name


async def test_a_host_that_nobody_wants_keeps_its_certificate_a_week(house):
    state = await house.until("a.test", "valid")
    house.wanted = {}
    house.keeper.wake()
    await house.until("a.test", "unwanted")
    with pytest.raises(BadRequest, match="no app wants"):
        await house.keeper.renew("a.test")
    house.now += 8 * DAY_S
    house.keeper.wake()

    await until(lambda: not house.keeper.states(), "the end of the certificate")
    assert state.name not in house.ingress.certificates


async def test_an_order_is_seen_while_it_runs_and_no_unknown_host_is_renewed(house):
    house.source.gate.clear()
    house.wanted["b.test"] = Kind.MAIN
    house.keeper.wake()
    await house.until("b.test", "ordering")
    house.source.gate.set()
    await house.until("b.test", "valid")

    with pytest.raises(NotFound):
        await house.keeper.renew("x.test")


async def test_a_certificate_for_other_hosts_is_never_given_to_the_ingress(house):
    async def wrong(_name: str, _hosts: tuple[str, ...]) -> bytes:
        return AUTHORITY.pem("other.test")

    house.source.issue = wrong
    house.wanted["b.test"] = Kind.MAIN
    house.keeper.wake()
    state = await house.until("b.test", "failed")

    assert "not for all hosts" in state.error
    assert "b.test" not in {h for _, hosts in house.ingress.certificates.values() for h in hosts}


async def test_a_certificate_that_the_ingress_does_not_take_is_not_ordered_again(house):
    take = house.ingress.certificate

    async def refuse(*_: object) -> None:
        raise IngressError("no space left")

    house.ingress.certificate = refuse
    house.wanted = {"b.test": Kind.MAIN}
    house.keeper.wake()
    await house.until("b.test", "failed")
    await house.idle()
    (kept,) = (pem for name, pem in house.source.orders.items() if name == name_of(["b.test"]))
    house.ingress.certificate = take
    await house.keeper.renew("b.test")
    await house.until("b.test", "valid")
    await house.idle()

    assert kept == house.ingress.certificates[name_of(["b.test"])][0]
    assert name_of(["b.test"]) not in house.source.orders


async def test_an_order_that_was_not_forgotten_gives_no_old_certificate_again(house):
    before = await house.until("a.test", "valid")
    await house.idle()
    house.source.orders[before.name] = house.ingress.certificates[before.name][0]
    await house.keeper.renew("a.test")
    await until(lambda: house.keeper.state("a.test").serial != before.serial, "a renewal")


async def test_another_ca_orders_all_anew_and_the_certificates_before_stay_until_then(house):
    before = await house.until("a.test", "valid")
    await house.idle()
    house.source = Source("acme:2")
    house.source.gate.clear()
    await house.again()
    during = house.keeper.state("a.test")
    house.source.gate.set()
    await until(lambda: house.keeper.state("a.test").source == "acme:2", "the other CA's")

    assert ("acme:1", "valid", before.serial) == (during.source, during.state, during.serial)
    assert before.name == house.keeper.state("a.test").name
    await house.idle()
    assert [False] == [i.renewal for i in await house.rows.issues(0) if i.source == "acme:2"]


async def test_refusals_and_certificates_of_another_ca_do_not_count(house):
    house.source.failure = problem("rateLimited", retry_after_s=7 * DAY_S)
    house.wanted = {"b.test": Kind.MAIN}
    house.keeper.wake()
    await house.until("b.test", "failed")
    house.source = Source("acme:2")
    await house.again()

    await house.until("b.test", "valid")


async def test_rows_of_an_earlier_homeport_are_of_the_present_ca(house):
    await house.until("a.test", "valid")
    await house.idle()
    (row,) = await house.rows.all()
    await house.rows.put(dataclasses.replace(row, source="acme"))
    await house.again()

    assert "acme:1" == house.keeper.state("a.test").source


async def test_renew_waits_as_long_as_the_ca_has_asked_for(house):
    house.source.failures = {"b.test": problem("rateLimited", retry_after_s=DAY_S)}
    house.wanted["b.test"] = Kind.MAIN
    house.keeper.wake()
    await house.until("b.test", "failed")
    await house.again()  # also if that was before a restart
    house.source.failures.clear()
    state = await house.keeper.renew("b.test")
    await house.until("b.test", "failed")

    assert state.next_try > house.now + DAY_S / 2
    asked = house.source.asked.count(("b.test",))
    assert 1 == asked
    house.now += DAY_S + 3600
    house.keeper.wake()
    await house.until("b.test", "valid")


async def test_renew_ends_no_pause_of_the_whole_ca(house):
    await house.until("a.test", "valid")
    await house.idle()
    house.source.failure = OrderFailed("away", everywhere=True, retry_at=house.now + DAY_S)
    house.wanted["b.test"] = Kind.MAIN
    house.keeper.wake()
    await house.until("b.test", "failed")
    await house.idle()
    house.source.failure = None
    state = await house.keeper.renew("b.test")

    assert house.now + DAY_S == state.next_try


async def test_an_issued_certificate_counts_though_the_ingress_does_not_take_it(house):
    async def refuse(*_: object) -> None:
        raise IngressError("no space left")

    house.ingress.certificate = refuse
    house.wanted = {"b.test": Kind.MAIN}
    house.keeper.wake()
    await house.until("b.test", "failed")
    await house.again()
    await house.keeper.renew("b.test")
    await until(lambda: 2 == house.source.asked.count(("b.test",)), "another try")
    await house.idle()

    assert [("b.test",)] == [i.hosts for i in await house.rows.issues(0) if "b.test" in i.hosts]


async def test_a_file_without_a_row_is_used_until_the_source_has_replaced_it(house, tmp_path):
    await house.until("a.test", "valid")
    await house.idle()
    await house.keeper.close()  # it would order for b.test, which would wait for the gate
    path = tmp_path / "local-1.pem"
    path.write_bytes(AUTHORITY.pem("b.test"))
    (tmp_path / "other.pem").write_bytes(b"damaged")
    house.wanted = {"b.test": Kind.MAIN}
    house.source.gate.clear()
    house.kept = {"local-1": path, "other": tmp_path / "other.pem"}
    await house.again()
    assert "valid" == house.keeper.state("b.test").state
    house.source.gate.set()

    await until(lambda: house.keeper.state("b.test").source == "acme:1", "its certificate")
    assert ["local-1"] == [n for n, (_, h) in house.ingress.certificates.items() if "b.test" in h]


async def test_a_source_that_needs_nobody_covers_a_host_before_it_answers(house):
    house.source = Source("local:1", at_once=True)
    await house.again()
    await house.keeper.cover(["A.test", "b.test"])

    assert {"a.test", "b.test"} <= {
        h for _, hosts in house.ingress.certificates.values() for h in hosts
    }
    assert [] == [i for i in await house.rows.issues(0) if i.source == "local:1"]
