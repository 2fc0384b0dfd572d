"""Which requests are ordinary, and that no field slips through as part of one that looks so."""

import asyncio
import re

import pytest

from homeport.ingress import rules, unusual
from tests.ingress.conftest import POOL, opened_by, routed

SPECIAL = re.compile(f"(^|,)({'|'.join(unusual.NAMES)})(,|$)")
BROWSER = (
    "host,connection,sec-ch-ua,sec-ch-ua-mobile,sec-ch-ua-platform,upgrade-insecure-requests,user-agent,"
    "accept,sec-fetch-site,sec-fetch-mode,sec-fetch-user,sec-fetch-dest,accept-encoding,accept-language,"
    "cookie,content-type,content-length,authorization,origin,referer"
)


@pytest.mark.parametrize("name", rules.GONE)
@pytest.mark.parametrize("names", ["{}", "{},host", "host,{},accept", "host,accept,{}"])
def test_a_field_that_a_rule_removes_makes_a_request_unusual(names, name):
    assert SPECIAL.search(names.format(name))


@pytest.mark.parametrize(
    "name",
    [
        "expect",
        "upgrade",
        "max-forwards",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-homeport-host",
        "modal-function-call-id",
    ],
)
def test_a_field_that_a_rule_reads_makes_a_request_unusual(name):
    assert SPECIAL.search(f"host,{name},accept")


@pytest.mark.parametrize("between", ["", "accept,", "accept,cookie,accept,"])
def test_two_host_fields_make_a_request_unusual(between):
    assert SPECIAL.search(f"accept,host,{between}host,cookie")


def test_the_fields_that_browsers_send_are_ordinary():
    assert SPECIAL.search(BROWSER) is None
    assert SPECIAL.search("host,via-1,not-te,x-upgrade,hosts,expects,x-host,x-real-ip2") is None


@pytest.mark.parametrize("name", [name for name in rules.GONE if not name.startswith("x-homeport")])
@pytest.mark.parametrize("write", [str.title, str.upper, str.lower])
async def test_each_field_that_must_go_goes_alone(ingress, upstream, visitor, name, write):
    url = await routed(ingress)
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    answer = await visitor.get(url, headers={write(name): "1"})

    assert 200 == answer.status_code
    assert name not in answer.json()["headers"]


@pytest.mark.parametrize("name", ["X-Homeport-Method", "x-homeport-hops", "X-HOMEPORT-HOPS"])
async def test_no_visitor_writes_fields_of_homeport(ingress, upstream, visitor, name):
    url = await routed(ingress)
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    answer = await visitor.get(url, headers={name: "99"})

    assert name.lower() not in answer.json()["headers"]


@pytest.mark.parametrize("value", ["keep-alive", "Keep-Alive", "close"])
async def test_a_container_sees_no_field_about_the_visitors_connection(
    ingress, upstream, visitor, value
):
    url = await routed(ingress)
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    answer = await visitor.get(url, headers={"Connection": value})

    assert "connection" not in answer.json()["headers"]


async def test_each_request_of_a_connection_is_looked_at(ingress, upstream):
    """An ordinary request, and one with a token, say nothing of the next one on their connection."""
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    await routed(ingress, id="open", hosts=("open.localhost",))
    await routed(ingress, id="vault", hosts=("vault.localhost",), protected=True)
    await ingress.tokens({"wk-1": opened_by("ws-1")})
    token = {"Authorization": "Bearer wk-1.ws-1"}
    asked = [
        ("open", {}, 200),
        ("vault", {}, 401),
        ("vault", token, 200),
        ("vault", {}, 401),
        ("open", {"X-Homeport-Method": "wipe", "X-Real-IP": "1.2.3.4"}, 200),
        ("open", {}, 200),
        ("vault", {"X-Homeport-Host": "open.localhost"}, 401),
        ("unknown", {}, 404),
        ("open", {"X-Homeport-Call": "call-" + 32 * "0"}, 200),
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", ingress.http_port)
    seen = []
    for host, fields, _ in asked:
        lines = [f"GET /{host} HTTP/1.1", f"Host: {host}.localhost"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(re.search(r"content-length: (\d+)", head)[1])
        body = await reader.readexactly(length)
        seen.append((int(head.split()[1]), body))
    writer.close()

    assert [status for _, _, status in asked] == [status for status, _ in seen]
    assert not any(b"wipe" in body or b"1.2.3.4" in body or b"call-" in body for _, body in seen)
