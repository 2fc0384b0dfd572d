"""The loop that keeps certificates, with a source in memory and a real database."""

import asyncio
import time

import pytest
from acme import messages

from homeport.contract.errors import BadRequest, IngressError, NotFound
from homeport.control.certificates import orders
from homeport.control.certificates.acme.client import _told
from homeport.control.certificates.keeper import Keeper
from homeport.control.certificates.orders import DAY_S, Kind, Policy, name_of
from homeport.control.certificates.problems import OrderFailed
from homeport.state.certificates import Certificates
from tests import databases
from tests.certificates import Authority
from tests.fakes import FakeIngress
from tests.waiting import until

AWAY = OrderFailed("the CA is away", everywhere=True)
POLICY = Policy(domain="apps.test", dns=False)
AUTHORITY = Authority()


class Source:
    """Issues certificates at once, or fails."""

    name = "acme"

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.failure: Exception | None = None
        self.failures: dict[str, Exception] = {}  # of single hosts
        self.orders: dict[str, bytes] = {}  # until they are forgotten
        self.gate = asyncio.Event()
        self.gate.set()

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
    return _told(error, "https://ca.test/dir")


class House:
    def __init__(self, home) -> None:
        self.database = databases.opened(home)
        self.rows = Certificates(self.database)
        self.ingress = FakeIngress()
        self.source = Source()
        self.wanted = {"a.test": Kind.MAIN}
        self.now = time.time()
        self.kept = True
        self.keeper = self.new()

    def new(self) -> Keeper:
        return Keeper(
            self.rows,
            self.ingress,
            self.source,
            POLICY,
            lambda: self.wanted,
            is_kept=lambda _name: self.kept,
            clock=lambda: self.now,
        )

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
        await self.keeper.load()
        self.keeper.open()


@pytest.fixture
async def house(tmp_path):
    house = House(tmp_path)
    await house.keeper.load()
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

    house.kept = False
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
    asked = len(house.source.asked)
    house.now += 3600
    house.keeper.wake()
    await house.until("d.test", "valid")

    assert [("c.test",), ("d.test",)] == house.source.asked[asked : asked + 2]


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
