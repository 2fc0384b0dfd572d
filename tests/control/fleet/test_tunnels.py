"""Tunnels get an endpoint in the ingress, and lose it when the container closes them or ends."""

import asyncio
import dataclasses

import pytest

from homeport.contract.container import Container, OpenTunnel, State
from homeport.contract.errors import NotFound, StartError, TooMany
from homeport.contract.scope import MAIN, Scope
from homeport.control.fleet import tunnels
from homeport.control.fleet.tunnels import Tunnels
from tests.fakes import FakeIngress
from tests.orders import order
from tests.waiting import until


def opened(number: int, port: int = 8000) -> OpenTunnel:
    return OpenTunnel(name=f"{number:020x}", port=port, address=f"unix:/doors/{number}")


def container(
    *open_: OpenTunnel, state: State = State.READY, id: str = "ta-1", within: Scope = MAIN
) -> Container:
    made = dataclasses.replace(order(id), within=within)
    return Container(order=made, state=state, tunnels=open_)


@pytest.fixture
def ingress():
    return FakeIngress()


@pytest.fixture
async def known(ingress):
    known = Tunnels(ingress, "example.com", lambda: ("http", 4663))
    yield known
    await known.end()


async def test_a_tunnel_has_a_url_as_long_as_the_node_reports_it(known, ingress):
    one = opened(1)
    known.changed(container(one))
    told = await known.opened(MAIN, one.name)

    assert ("http", ".example.com", 4663) == (told.scheme, told.host[27:], told.port)
    assert one.name not in told.host  # who knows the URL cannot close the tunnel
    (endpoint,) = ingress.endpoints.values()
    assert (told.host,) == endpoint.hosts
    known.changed(container())
    await until(lambda: not ingress.endpoints, "the endpoint to go")


async def test_a_tunnel_wants_a_certificate_before_it_answers_and_none_after_its_end(ingress):
    class Certificates:
        def __init__(self) -> None:
            self.covered: list[tuple[list[str], int]] = []  # the hosts, and how many URLs answered
            self.wanted: list[list[str]] = []  # at each wake

        async def cover(self, hosts) -> None:
            self.covered.append((list(hosts), len(ingress.endpoints)))

        def wake(self) -> None:
            self.wanted.append(known.hosts())

    certificates = Certificates()
    known = Tunnels(ingress, "example.com", lambda: ("https", 443), certificates)
    one = opened(1)
    known.changed(container(one))
    told = await known.opened(MAIN, one.name)
    during = known.hosts()
    await known.close(MAIN, one.name)
    await known.end()

    assert [([told.host], 0)] == certificates.covered
    assert ([told.host], [[]]) == (during, certificates.wanted)


@pytest.mark.parametrize("state", [State.GONE, State.FAILED, State.LOST])
async def test_a_container_that_ends_loses_its_tunnels(known, ingress, state):
    one, other = opened(1), opened(2)
    known.changed(container(one))
    known.changed(container(other, id="ta-2"))
    await known.opened(MAIN, one.name)
    stays = await known.opened(MAIN, other.name)
    known.changed(container(one, state=state))

    await until(lambda: 1 == len(ingress.endpoints), "the endpoint to go")
    assert [(stays.host,)] == [endpoint.hosts for endpoint in ingress.endpoints.values()]


async def test_no_container_can_have_the_url_of_another_ones_tunnel(known):
    one = opened(1)
    known.changed(container(one))
    first = await known.opened(MAIN, one.name)
    known.changed(container(one, id="ta-2"))  # it knows the name
    assert first == await known.opened(MAIN, one.name)
    await known.close(MAIN, one.name)
    known.changed(container())
    known.changed(container(one, id="ta-2"))

    assert first.host != (await known.opened(MAIN, one.name)).host


async def test_a_closed_tunnel_stays_closed_while_its_node_has_not_heard_of_it(known, ingress):
    one = opened(1)
    known.changed(container(one))
    await known.opened(MAIN, one.name)
    await known.close(MAIN, one.name)
    assert not ingress.endpoints
    known.changed(dataclasses.replace(container(one), held=1))

    with pytest.raises(NotFound):
        await known.close(MAIN, one.name)
    assert not ingress.endpoints


async def test_a_container_that_asks_first_waits_for_its_node(known):
    one = opened(1)
    asking = asyncio.ensure_future(known.opened(MAIN, one.name))
    await asyncio.sleep(0)
    known.changed(container(one))

    assert (await asking).host.endswith(".example.com")


async def test_an_unknown_tunnel_is_not_found(known, monkeypatch):
    monkeypatch.setattr(tunnels, "WAIT_S", 0.0)
    with pytest.raises(NotFound, match="does not know"):
        await known.opened(MAIN, "f" * 20)
    with pytest.raises(NotFound, match="no such tunnel"):
        await known.close(MAIN, "f" * 20)


async def test_the_number_of_tunnels_is_bounded(known, ingress, monkeypatch):
    monkeypatch.setattr(tunnels, "MAX_TUNNELS", 2)
    three = [opened(number) for number in range(3)]
    known.changed(container(*three))
    await known.opened(MAIN, three[1].name)
    with pytest.raises(TooMany, match="2 tunnels"):
        await known.opened(MAIN, three[2].name)

    known.changed(container())
    await until(lambda: not ingress.endpoints, "all endpoints to go")


async def test_an_ingress_that_fails_is_told_to_the_container(known, ingress, monkeypatch):
    async def refuse(*_args, **_kwargs):
        raise OSError("no room")

    monkeypatch.setattr(ingress, "attach", refuse)
    one = opened(1)
    known.changed(container(one))
    with pytest.raises(StartError, match="no room"):
        await known.opened(MAIN, one.name)


async def test_a_name_means_a_tunnel_of_ones_own_environment_alone(known, ingress, monkeypatch):
    monkeypatch.setattr(tunnels, "WAIT_S", 0.0)
    acme, one = Scope("acme"), opened(1)
    known.changed(container(one))
    with pytest.raises(NotFound):
        await known.opened(acme, one.name)
    with pytest.raises(NotFound):
        await known.close(acme, one.name)
    known.changed(container(one, id="ta-2", within=acme))  # who knows a name may take it too
    monkeypatch.undo()
    both = [(await known.opened(within, one.name)).host for within in (MAIN, acme)]
    await known.close(acme, one.name)

    assert both[0] != both[1]
    assert [(both[0],)] == [endpoint.hosts for endpoint in ingress.endpoints.values()]


async def test_one_of_several_workspaces_cannot_take_all_tunnels(ingress, monkeypatch):
    monkeypatch.setattr(tunnels, "MAX_TUNNELS", 4)
    known = Tunnels(ingress, "example.com", lambda: ("http", 80), alone=lambda: False)
    four = [opened(number) for number in range(4)]
    known.changed(container(*four))
    for each in four[2:]:
        with pytest.raises(TooMany, match="2 tunnels of this workspace"):
            await known.opened(MAIN, each.name)
    known.changed(container(four[0], id="ta-2", within=Scope("acme")))

    assert (await known.opened(Scope("acme"), four[0].name)).host
    await known.end()
