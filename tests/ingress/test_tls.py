"""HTTPS by a real HAProxy: certificates that come, are renewed and go, and the rules between HTTP and HTTPS."""

import asyncio
import os
import ssl
import stat

import httpx
import pytest

from homeport.contract.errors import BadRequest, IngressError, StorageError
from homeport.contract.traffic import Endpoint
from homeport.ingress.haproxy import HAProxy
from tests.certificates import Authority
from tests.ingress.conftest import POOL
from tests.waiting import until

AUTHORITY = Authority()
A, B = "a.localhost", "b.localhost"


@pytest.fixture
async def secure(start, upstream):
    """Start an ingress with TLS, and an app that answers at two hosts."""

    async def secure(**changes) -> HAProxy:
        ingress = await start(**{"tls": "files", "https_port": 0, **changes})
        app = await upstream("one")
        await ingress.attach(POOL, "one", app.address, 10)
        for host in (A, B, "x.apps.test"):
            name = host.replace(".", "-")
            await ingress.route(Endpoint(id=name, pool=POOL, hosts=(host,)))
        return ingress

    return secure


async def connect(ingress: HAProxy, name: str | None, *protocols: str):
    """Return a connection by TLS to the ingress."""
    return await asyncio.open_connection(
        "127.0.0.1", ingress.https_port, ssl=AUTHORITY.context(*protocols), server_hostname=name
    )


async def ask(ingress: HAProxy, name: str, *, host: str = "", path: str = "/", fields: str = ""):
    """Return the head and the body of an answer over TLS, in one connection; `name` is for the handshake."""
    reader, writer = await connect(ingress, name)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host or name}\r\n{fields}Connection: close\r\n\r\n".encode()
    )
    answer = await reader.read()
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head.lower(), body


async def serial(ingress: HAProxy, name: str) -> str:
    """Return the serial number of the certificate that this name gets."""
    _, writer = await connect(ingress, name)
    found = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    return found


async def plain(ingress: HAProxy, host: str, path: str = "/", **kwargs) -> httpx.Response:
    """Return the answer over HTTP."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        return await client.request(
            kwargs.pop("method", "GET"),
            f"http://127.0.0.1:{ingress.http_port}{path}",
            headers={"Host": host, **kwargs},
        )


async def test_a_certificate_comes_is_renewed_and_goes_without_another_process(secure):
    ingress = await secure()
    pid = ingress.pid
    with pytest.raises((ssl.SSLError, OSError)):
        await connect(ingress, A)
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    head, body = await ask(ingress, A)
    reader, writer = await connect(ingress, A)
    first = await serial(ingress, A)
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    second = await serial(ingress, A)
    writer.write(f"GET / HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n".encode())
    still = await reader.read()
    writer.close()
    await ingress.remove_certificate("a")
    await ingress.remove_certificate("unknown")

    assert head.startswith("http/1.1 200")
    assert '"x-forwarded-proto": "https"' in body
    assert f'"x-forwarded-port": "{ingress.https_port}"' in body
    assert first != second
    assert still.startswith(b"HTTP/1.1 200")
    with pytest.raises((ssl.SSLError, OSError)):
        await connect(ingress, A)
    assert pid == ingress.pid
    assert [] == list(ingress._settings.certificates_dir.iterdir())


async def test_certificates_outlive_a_process_and_a_control_plane(secure, make_settings, start):
    ingress = await secure(https_port=0)
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    before = await serial(ingress, A)
    pid = ingress.pid
    os.kill(pid, 9)
    await until(lambda: ingress.pid not in (0, pid), "another process")

    assert before == await serial(ingress, A)
    directory = ingress._settings.certificates_dir
    assert [0o700, 0o600] == [
        stat.S_IMODE(path.stat().st_mode) for path in (directory, directory / "a.pem")
    ]


async def test_h2_is_offered_and_old_protocols_are_refused(secure):
    ingress = await secure()
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    _, writer = await connect(ingress, A, "h2", "http/1.1")
    chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.close()
    old = AUTHORITY.context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1

    assert "h2" == chosen
    with pytest.raises((ssl.SSLError, OSError)):
        await asyncio.open_connection("127.0.0.1", ingress.https_port, ssl=old, server_hostname=A)


async def test_http_leads_to_https_once_the_host_has_a_certificate(secure):
    ingress = await secure(trusted_proxies="10.0.0.0/8")
    before = await plain(ingress, A, "/x?y=1")
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    await ingress.certificate("wild", AUTHORITY.pem("*.apps.test"), ["*.apps.test"])
    after = await plain(ingress, A.upper(), "/x?y=1", method="POST")
    wild = await plain(ingress, "x.apps.test", "//evil.test/%0d%0a?q")
    other = await plain(ingress, B)

    assert 200 == before.status_code
    assert (308, f"https://{A}:{ingress.https_port}/x?y=1") == (
        after.status_code,
        after.headers["location"],
    )
    assert (
        f"https://x.apps.test:{ingress.https_port}//evil.test/%0d%0a?q" == wild.headers["location"]
    )
    assert 200 == other.status_code
    assert "strict-transport-security" not in {*before.headers, *after.headers, *other.headers}


async def test_local_ports_and_metrics_stay_plain(secure):
    ingress = await secure()
    port = await ingress.free_port()
    await ingress.route(Endpoint(id="a-localhost", pool=POOL, hosts=(A,), local_port=port))
    await ingress.certificate("a", AUTHORITY.pem(A, "localhost"), [A, "localhost"])
    async with httpx.AsyncClient(trust_env=False) as client:
        local = await client.get(f"http://127.0.0.1:{port}/", headers={"Host": A})
    metrics = await plain(ingress, "localhost", "/metrics")

    assert 200 == local.status_code
    assert 308 != metrics.status_code


async def test_a_protected_endpoint_asks_for_no_credentials_in_plain(secure):
    ingress = await secure()
    await ingress.route(Endpoint(id="a-localhost", pool=POOL, hosts=(A,), protected=True))
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    head, _ = await ask(ingress, A)

    assert 308 == (await plain(ingress, A)).status_code
    assert head.startswith("http/1.1 401")


async def test_another_host_on_a_connection_needs_the_same_certificate(secure):
    ingress = await secure()
    await ingress.certificate("both", AUTHORITY.pem(A, B), [A, B])
    await ingress.certificate("wild", AUTHORITY.pem("*.apps.test"), ["*.apps.test"])
    heads = [
        (await ask(ingress, name, host=host))[0].split()[1]
        for name, host in [
            (A, B),
            (A, A.upper()),
            (A, f"{A}:1"),
            ("other.apps.test", "x.apps.test"),
            (A, "x.apps.test"),
            ("x.apps.test", A),
            (A, "unknown.test"),
        ]
    ]

    assert ["200", "200", "200", "200", "421", "421", "421"] == heads


@pytest.mark.parametrize(("tls", "lasts"), [("files", True), ("local", False)])
async def test_browsers_remember_a_public_certificate_alone(secure, tls, lasts):
    ingress = await secure(tls=tls)
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    head, _ = await ask(ingress, A)

    assert lasts == ("strict-transport-security: max-age=31536000" in head)


async def test_an_acme_challenge_is_answered_in_plain_at_any_host_until_it_is_forgotten(secure):
    ingress = await secure()
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    await ingress.challenge("t0ken-_", "t0ken-_.thumb")
    answers = [
        await plain(ingress, host, "/.well-known/acme-challenge/t0ken-_")
        for host in (A, "unknown.test")
    ]
    wrong = await plain(ingress, "unknown.test", "/.well-known/acme-challenge/other")
    await ingress.challenge("t0ken-_", None)
    gone = await plain(ingress, A, "/.well-known/acme-challenge/t0ken-_")

    assert [(200, "t0ken-_.thumb")] * 2 == [(a.status_code, a.text) for a in answers]
    assert (404, 308) == (wrong.status_code, gone.status_code)
    with pytest.raises(ValueError):
        await ingress.challenge("a; b", "c")


@pytest.mark.parametrize("trusted", ["127.0.0.0/8", "10.0.0.0/8"])
async def test_a_trusted_proxy_is_not_led_elsewhere(secure, trusted):
    ingress = await secure(trusted_proxies=trusted)
    await ingress.certificate("a", AUTHORITY.pem(A, B), [A, B])
    answer = await plain(ingress, A, **{"X-Forwarded-Proto": "https"})
    _, body = await ask(ingress, A)

    assert (200 if trusted.startswith("127") else 308) == answer.status_code
    if trusted.startswith("127"):
        assert "https" == answer.json()["headers"]["x-forwarded-proto"]
    assert '"x-forwarded-proto": "https"' in body


async def test_a_pem_that_is_damaged_leaves_the_one_before(secure, tmp_path):
    ingress = await secure()
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    before, pid = await serial(ingress, A), ingress.pid
    good = AUTHORITY.pem(A)
    stranger = AUTHORITY.pem(A)
    key, mark, _ = good.partition(b"-----BEGIN CERTIFICATE")
    for pem, hosts in [
        (b"", [A]),
        (good[:-80], [A]),
        (key, [A]),
        (good[len(key) :], [A]),
        (stranger.partition(mark)[0] + mark + good.partition(mark)[2], [A]),
        (good, [B]),
        (good, ["a.localhost; help"]),
        (good * 200, [A]),
    ]:
        with pytest.raises(BadRequest):
            await ingress.certificate("a", pem, hosts)
    for name in ("", "../a", "a b", "a\n", ".a"):
        with pytest.raises(BadRequest):
            await ingress.certificate(name, good, [A])

    assert (before, pid) == (await serial(ingress, A), ingress.pid)
    assert ["a.pem"] == [path.name for path in ingress._settings.certificates_dir.iterdir()]


@pytest.mark.parametrize("step", ["new ssl", "set ssl", "commit ssl", "add ssl"])
async def test_a_refused_step_leaves_nothing_of_a_new_certificate(secure, step):
    ingress = await secure()
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    before = await serial(ingress, A)
    runtime = type(ingress._supervisor.runtime)
    send = runtime._send

    async def refuse(self, line):
        return "No." if line.decode().startswith(step) else await send(self, line)

    runtime._send = refuse
    try:
        with pytest.raises(IngressError):
            await ingress.certificate("b", AUTHORITY.pem(B), [B])
    finally:
        runtime._send = send
    await until(lambda: not ingress._supervisor._astray.is_set(), "the process with the picture")

    assert before == await serial(ingress, A)
    with pytest.raises((ssl.SSLError, OSError)):
        await connect(ingress, B)
    await ingress.certificate("b", AUTHORITY.pem(B), [B])
    assert (await ask(ingress, B))[0].startswith("http/1.1 200")


async def test_a_full_disk_leaves_the_certificate_before(secure, monkeypatch):
    ingress = await secure()
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    before = await serial(ingress, A)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        await ingress.certificate("a", AUTHORITY.pem(A), [A])

    assert before == await serial(ingress, A)
    assert ["a.pem"] == [path.name for path in ingress._settings.certificates_dir.iterdir()]


async def test_other_hosts_for_a_known_name_replace_the_earlier_ones(secure):
    ingress = await secure()
    await ingress.certificate("a", AUTHORITY.pem(A), [A])
    await ingress.certificate("a", AUTHORITY.pem(B), [B])

    async def has_moved() -> bool:
        # The process before may accept a connection until it has read its signal.
        try:
            (await connect(ingress, A))[1].close()
        except OSError:
            return (await ask(ingress, B))[0].startswith("http/1.1 200")
        return False

    await until(has_moved, "the other host's certificate")


async def test_a_damaged_file_is_left_out_and_the_others_serve(make_settings, secure, caplog):
    directory = make_settings().certificates_dir
    directory.mkdir()
    (directory / "broken.pem").write_text("not a certificate")
    (directory / "half.pem").write_bytes(AUTHORITY.pem(A)[:-40])
    ingress = await secure()
    await ingress.certificate("b", AUTHORITY.pem(B), [B])

    assert (await ask(ingress, B))[0].startswith("http/1.1 200")
    assert 2 == caplog.text.count("is left out")
