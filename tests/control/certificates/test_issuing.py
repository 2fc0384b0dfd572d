"""The local CA's certificates: before a URL answers, and while the server runs."""

import pytest

from homeport.contract.errors import IngressError
from homeport.control.certificates.issuing import RENEW_S, Issuing
from homeport.control.certificates.local import Local
from tests.fakes import FakeIngress


@pytest.fixture
def make(tmp_path):
    """Make what covers hosts of a homeport with this domain."""

    def make(ingress: FakeIngress, domain: str = "localhost", **more) -> Issuing:
        return Issuing(Local(tmp_path / "local-ca" / "ca.pem", domain), ingress, domain, **more)

    return make


def hosts(ingress: FakeIngress) -> list[tuple[str, ...]]:
    return sorted(names for _, names in ingress.certificates.values())


async def test_each_endpoint_gets_one_certificate_once(make):
    ingress = FakeIngress()
    issuing = make(ingress)
    await issuing.start()
    for _ in range(2):
        await issuing.cover(("A.localhost", "shop.test"))
        await issuing.cover(("a.localhost",))

    assert [("a.localhost", "shop.test"), ("localhost",)] == hosts(ingress)


async def test_a_wildcard_is_for_all_hosts_of_a_domain(make):
    ingress = FakeIngress()
    issuing = make(ingress, "apps.example.com")
    await issuing.start()
    await issuing.cover(("ada--shop.apps.example.com",))

    assert [("*.apps.example.com", "apps.example.com")] == hosts(ingress)


async def test_a_foreign_host_stays_without_and_stops_nothing(make, caplog):
    ingress = FakeIngress()
    issuing = make(ingress)
    await issuing.start()
    for _ in range(2):
        await issuing.cover(("shop.example.com", "a.localhost"))

    assert [("a.localhost",), ("localhost",)] == hosts(ingress)
    assert 1 == caplog.text.count("shop.example.com gets no certificate")


async def test_a_refusal_of_the_ingress_stops_no_deploy_and_is_tried_again(make):
    ingress = FakeIngress()
    issuing = make(ingress)
    await issuing.start()

    async def refuse(call: str, _what: str, _when: str) -> None:
        if call == "certificate":
            raise IngressError("no")

    ingress.fault, usual = refuse, ingress.fault
    await issuing.cover(("a.localhost",))
    before = hosts(ingress)
    ingress.fault = usual
    await issuing.cover(("a.localhost",))

    assert ([("localhost",)], [("a.localhost",), ("localhost",)]) == (before, hosts(ingress))


async def test_a_certificate_is_renewed_after_two_thirds_and_stale_ones_are_removed(make):
    ingress, now = FakeIngress(), [0.0]
    ingress.certificates["local-stale"] = b"", ("gone.localhost",)
    issuing = make(ingress, known=["local-stale"], clock=lambda: now[0])
    await issuing.start()
    await issuing.open()
    await issuing.close()
    (first,) = ingress.certificates.values()
    now[0] = RENEW_S - 1
    await issuing.renew()
    (same,) = ingress.certificates.values()
    now[0] = RENEW_S
    await issuing.renew()
    (second,) = ingress.certificates.values()

    assert first == same
    assert first[0] != second[0]
    assert first[1] == second[1]
