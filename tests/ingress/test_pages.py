"""What a visitor reads after an error: a line of text, or a page if the client is a browser."""

import asyncio
import html
import re
from html.parser import HTMLParser

import pytest

from homeport.contract.traffic import PoolKey
from tests.ingress.conftest import POOL, routed

BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
HOSTILE = "<script>alert(1)</script>&\"'"


class Page(HTMLParser):
    """A page as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data.strip())


def say(text: str):
    async def answer(_pool: str) -> str:
        return text

    return answer


def check_page(answer, status: int, words: str) -> None:
    page = Page(answer.text)
    assert status == answer.status_code
    assert "text/html; charset=utf-8" == answer.headers["content-type"]
    assert words in html.unescape(answer.text)
    assert answer.headers["x-request-id"] in page.words
    assert str(status) in page.words
    assert [] == page.links
    assert "script" not in page.tags
    assert not re.search(r"%[0-9A-F]{2}|\{\{", answer.text)


@pytest.mark.parametrize("status", [404, 429, 503])
async def test_a_refusal_of_the_activator_is_a_page_for_a_browser_and_text_for_others(
    ingress, activator, visitor, status
):
    url = await routed(ingress)
    activator.answer = say(f"no {status} {HOSTILE}")
    text = await visitor.get(url)
    check_page(await visitor.get(url, headers=BROWSER), status, HOSTILE)

    assert f"homeport: {HOSTILE}\n" == text.text
    assert text.headers["content-type"].startswith("text/plain")


async def test_a_refusal_of_haproxy_itself_is_a_page_for_a_browser(ingress, upstream, visitor):
    protected = await routed(ingress, protected=True)
    check_page(await visitor.get(protected, headers=BROWSER), 401, "missing credentials")
    url = await routed(ingress, timeout_s=0.05)
    many = {**BROWSER, **{f"X-{n}": "x" * 4000 for n in range(9)}}
    check_page(await visitor.get(url, headers=many), 431, "larger than 32 KiB")
    one = await upstream("one")
    one.release.clear()
    await ingress.attach(POOL, "one", one.address, 2)
    check_page(await visitor.get(url, headers=BROWSER), 504, "did not answer in time")
    other = await routed(ingress, pool=PoolKey("app", "dies", "rv-1"))
    dies = await asyncio.start_unix_server(die, path=str(one.address[5:] + "2"))
    await ingress.attach(PoolKey("app", "dies", "rv-1"), "dies", f"{one.address}2", 1)
    check_page(await visitor.get(other, headers=BROWSER), 502, "ended before it answered")
    dies.close()


async def die(reader, writer):
    await reader.readline()
    writer.close()


async def test_an_unknown_host_is_a_page_with_the_list_for_who_is_here(ingress, activator, visitor):
    await routed(ingress, hosts=("hello.localhost",))
    url = f"http://127.0.0.1:{ingress.http_port}/"
    check_page(await visitor.get(url, headers=BROWSER), 404, "hello.localhost")


async def test_the_answer_of_an_app_stays_as_it_is(ingress, upstream, visitor):
    url = await routed(ingress)
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)

    assert "application/json" in (await visitor.get(url, headers=BROWSER)).headers["content-type"]


OURS = ["127.0.0.1", "localhost", "[::1]", "LOCALHOST:1", "typo.localhost", "127.0.0.1:80"]
OTHERS = ["evil.example", "localhost.evil.example", "10.0.0.1", "evillocalhost", "127.0.0.1.nip.io"]


@pytest.mark.parametrize("host", OURS + OTHERS)
async def test_the_list_of_endpoints_needs_a_host_of_ours(ingress, activator, visitor, host):
    await routed(ingress, hosts=("hello.localhost",))
    url = f"http://127.0.0.1:{ingress.http_port}"
    answer = await visitor.get(f"{url}/", headers={"Host": host})
    metrics = await visitor.get(f"{url}/metrics", headers={"Host": host})

    assert 404 == answer.status_code
    assert (host in OURS) == ("hello.localhost" in answer.text)
    # Nobody answers at the control plane's socket here.
    assert (503 if host in OURS else 404) == metrics.status_code


async def test_a_domain_of_ones_own_has_the_list_too(start, activator, visitor):
    ingress = await start(domain="apps.example.com")
    await routed(ingress, hosts=("a.apps.example.com",))
    url = f"http://127.0.0.1:{ingress.http_port}/"
    told = {
        host: "a.apps.example.com" in (await visitor.get(url, headers={"Host": host})).text
        for host in ("apps.example.com", "typo.apps.example.com", "example.com")
    }

    assert [True, True, False] == list(told.values())
