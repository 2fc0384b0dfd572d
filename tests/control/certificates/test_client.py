"""The client with a real CA that refuses nonces by chance, and a real name server."""

import asyncio
import http.server
import json
import stat
import time

import dns.asyncquery
import dns.message
import pytest
import requests
from cryptography import x509

from homeport.control.certificates.acme import network
from homeport.control.certificates.acme.client import Client
from homeport.control.certificates.dns.hook import Hook
from homeport.control.certificates.dns.rfc2136 import Rfc2136
from homeport.control.certificates.problems import OrderFailed
from tests import web
from tests.control.certificates import authority
from tests.ports import free_port


class Port80:
    """Answers HTTP-01, as the ingress does, and TXT records by a name server."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.records = None
        self.crash_at = ""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = outer.answers.get(self.path.rsplit("/", 1)[-1])
                self.send_response(404 if answer is None else 200)
                self.end_headers()
                self.wfile.write((answer or "").encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def kind(self, host: str) -> str:
        return "dns-01" if host.startswith("*.") else "http-01"

    async def present(self, host: str, token: str, answer: str) -> None:
        if self.crash_at == "present":
            raise asyncio.CancelledError
        if token:
            self.answers[token] = answer
        else:
            await self.records.add(f"_acme-challenge.{host}", answer)

    async def remove(self, host: str, token: str, answer: str) -> None:
        if token:
            self.answers.pop(token, None)
        else:
            await self.records.remove(f"_acme-challenge.{host}", answer)


@pytest.fixture(scope="module")
def port80():
    port80 = Port80()
    with web.serving(port80.server):
        yield port80


@pytest.fixture(scope="module")
def ca(tmp_path_factory, port80):
    folder = tmp_path_factory.mktemp("ca")
    with authority.running(folder, port80.server.server_port) as running:
        yield running


@pytest.fixture
def client(ca, tmp_path):
    return Client(ca.directory, "ops@example.test", tmp_path / "acme", bundle=str(ca.bundle))


def server_of(ca) -> Rfc2136:
    return Rfc2136("127.0.0.1", port=ca.dns_port, key_name=authority.KEY_NAME, secret=authority.KEY)


async def values(ca, name: str) -> list[str]:
    query = dns.message.make_query(name, "TXT")
    answer = await dns.asyncquery.udp(query, "127.0.0.1", port=ca.dns_port, timeout=10)
    return sorted(text.decode() for rrset in answer.answer for r in rrset for text in r.strings)


def names(pem: bytes) -> list[str]:
    (leaf, *_) = x509.load_pem_x509_certificates(pem)
    extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return sorted(extension.value.get_values_for_type(x509.DNSName))


async def test_a_host_is_validated_over_http_and_nothing_stays(client, port80, tmp_path):
    pem = await client.issue("a", ("a.example.test",), port80)

    assert ["a.example.test"] == names(pem)
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert {} == port80.answers
    assert pem == await client.issue("a", ("a.example.test",), port80)  # until it is forgotten
    client.forget("a")
    assert [] == list((tmp_path / "acme" / "orders").iterdir())


async def test_the_key_of_the_account_is_for_nobody_else_and_finds_the_account_again(
    client, port80, ca, tmp_path
):
    await client.issue("a", ("b.example.test",), port80)
    again = Client(ca.directory, "", tmp_path / "acme", bundle=str(ca.bundle))
    await again.issue("a", ("c.example.test",), port80)

    (account,) = (tmp_path / "acme").glob("account-*.pem")
    assert 0o600 == stat.S_IMODE(account.stat().st_mode)


async def test_a_ca_that_has_lost_the_account_gets_another_one_with_the_next_order(client, port80):
    """A private CA may be set up anew while the server runs."""
    await client.issue("a", ("lost.example.test",), port80)
    network = client._opening.result().net
    network.account = network.account.update(uri=f"{network.account.uri}0000")
    with pytest.raises(OrderFailed, match="accountDoesNotExist"):
        await client.issue("b", ("lost.example.test",), port80)

    assert b"CERTIFICATE" in await client.issue("b", ("lost.example.test",), port80)


async def test_a_wildcard_and_its_domain_need_two_values_of_one_record(client, port80, ca):
    port80.records = server_of(ca)
    port80.kind = lambda _host: "dns-01"
    try:
        pem = await client.issue("w", ("*.apps.example.test", "apps.example.test"), port80)
    finally:
        del port80.kind

    assert ["*.apps.example.test", "apps.example.test"] == names(pem)
    assert [] == await values(ca, "_acme-challenge.apps.example.test")


async def test_removing_one_value_leaves_the_other(ca):
    server = server_of(ca)
    for value in ("one", "two"):
        await server.add("_acme-challenge.twice.example.test", value)
    await server.remove("_acme-challenge.twice.example.test", "one")

    assert ["two"] == await values(ca, "_acme-challenge.twice.example.test")


async def test_a_wrong_key_is_told_with_what_to_check(ca):
    server = Rfc2136("127.0.0.1", port=ca.dns_port, key_name="homeport", secret="d3Jvbmc=")

    with pytest.raises(OrderFailed, match=r"127\.0\.0\.1") as failed:
        await server.add("_acme-challenge.example.test", "x")

    assert "check the key's name" in failed.value.hint


async def test_an_order_that_was_interrupted_goes_on(client, port80, ca, tmp_path):
    port80.crash_at = "present"
    with pytest.raises(asyncio.CancelledError):
        await client.issue("k", ("k.example.test",), port80)
    port80.crash_at = ""
    folder = tmp_path / "acme" / "orders" / "k"
    url, key = (
        json.loads((folder / "order.json").read_text())["url"],
        (folder / "key.pem").read_bytes(),
    )

    seen = []
    again = Client(ca.directory, "", tmp_path / "acme", bundle=str(ca.bundle))
    remember = again._remember
    again._remember = lambda *args: seen.append(args) or remember(*args)
    pem = await again.issue("k", ("k.example.test",), port80)

    assert url
    assert [] == seen  # no second order
    assert pem.startswith(key)


async def test_a_failed_validation_names_the_host_and_says_what_to_do(client, port80, tmp_path):
    class Silent:
        kind = port80.kind

        async def present(self, *_: str) -> None: ...
        async def remove(self, *_: str) -> None: ...

    with pytest.raises(OrderFailed) as failed:
        await client.issue("n", ("n.example.test",), Silent())

    assert ("n.example.test",) == failed.value.hosts
    assert failed.value.validated
    assert "port 80" in failed.value.hint
    assert not (tmp_path / "acme" / "orders" / "n").exists()


async def test_a_name_that_the_ca_refuses_is_no_fault_of_others(client, port80):
    with pytest.raises(OrderFailed, match=r"blocked\.test") as failed:
        await client.issue("x", ("blocked.test",), port80)

    assert not failed.value.everywhere


async def test_a_ca_that_is_away_or_not_trusted_is_everywhere(ca, port80, tmp_path):
    away = Client(f"https://127.0.0.1:{free_port()}/dir", "", tmp_path / "1")
    stranger = Client(ca.directory, "", tmp_path / "2")

    with pytest.raises(OrderFailed, match="does not answer") as first:
        await away.issue("x", ("x.example.test",), port80)
    with pytest.raises(OrderFailed, match="is not trusted") as second:
        await stranger.issue("x", ("x.example.test",), port80)

    assert first.value.everywhere
    assert second.value.everywhere


async def test_a_hook_gets_name_and_value_and_no_password(tmp_path, monkeypatch):
    monkeypatch.setenv("HOMEPORT_TOKEN", "secret")
    script = tmp_path / "hook"
    script.write_text(
        f'#!/bin/sh\necho "$1 $2 $3 $HOMEPORT_DNS_ACTION [$HOMEPORT_TOKEN]" >> {tmp_path}/seen\n'
    )
    script.chmod(0o755)
    await Hook(str(script)).add("_acme-challenge.a.test", "-v")
    await Hook(str(script)).remove("_acme-challenge.a.test", "-v")

    assert [
        "set _acme-challenge.a.test -v set []",
        "remove _acme-challenge.a.test -v remove []",
    ] == (tmp_path / "seen").read_text().splitlines()


async def test_a_hook_that_fails_or_hangs_is_ended_and_told(tmp_path):
    script = tmp_path / "hook"
    script.write_text(
        "#!/bin/sh\nif [ $1 = set ]; then echo no such zone; exit 3; fi\nsleep 600 & wait\n"
    )
    script.chmod(0o755)

    with pytest.raises(OrderFailed, match="status 3: no such zone"):
        await Hook(str(script)).add("n", "v")
    with pytest.raises(OrderFailed, match="has not ended"):
        await Hook(str(script), time_s=0.2).remove("n", "v")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120.0), (" 0 ", 0.0), ("9" * 5000, network.MAX_RETRY_S)],
)
def test_seconds_that_a_ca_asks_to_wait_count_from_now(text, seconds):
    response = requests.Response()
    response.headers["Retry-After"] = text
    before = time.time()

    assert before + seconds <= network.retry_at(response) <= time.time() + seconds


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1445412480.0),
        ("Thu, 01 Jan 1960 00:00:00 GMT", 0.0),
        ("soon", 0.0),
        ("\u00b2", 0.0),
        ("-5", 0.0),
        ("", 0.0),
    ],
)
def test_a_date_of_a_ca_is_that_moment_and_nonsense_is_none(text, at):
    response = requests.Response()
    response.headers["Retry-After"] = text

    assert at == network.retry_at(response)
