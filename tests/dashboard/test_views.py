"""Each page shows what is there: the API of a plane has one of everything, and the pages are asked over HTTP."""

import dataclasses
import html
import os
import pickle
import re
import time

import httpx
import pytest

from homeport.contract import codec, frames
from homeport.contract.api.alerts import NewAlert
from homeport.contract.api.secrets import NewSecret
from homeport.contract.api.shared import NewObject
from homeport.contract.api.volumes import NewVolume
from homeport.contract.container import LogLine
from homeport.contract.permissions import Permission
from homeport.contract.scope import MAIN
from homeport.control.api.access import OwnSocket
from homeport.dashboard import render
from homeport.dashboard.pages import PAGES
from homeport.dashboard.pages.requests import SHOWN
from homeport.state.requests import Place
from tests.control.plane import function, manifest
from tests.dashboard.served import ORIGIN, dashboard
from tests.recorded import words

SECRET = "a value that no page shows"


class House:
    """A dashboard, its visitor, and the API below it."""

    def __init__(self, served, visitor, api):
        self.served, self.visitor, self.api = served, visitor, api

    async def make(self, method, path, body=None, content=b""):
        """Change something over the API."""
        content = content if body is None else codec.dumps(body).encode()
        answer = await self.api.request(method, path, content=content)
        assert answer.is_success, answer.text

    async def text(self, page, status=200, /, **query):
        """Return the words of a page's middle."""
        answer = await self.visitor.get(page, params=query, headers={"X-Part": "main"})
        assert status == answer.status_code, answer.text
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())

    async def deploy(self, version=1):
        code = manifest(function("hello", timeout_s=version), app="shop")
        await self.served.plane.deployer.deploy(
            MAIN, "shop", code, tag="", strategy="rolling", say=lambda _text: None
        )

    def record(self, *lines, app="shop"):
        """Record requests to a function `hello`."""
        self.served.server.requests.add(
            lines, lambda _endpoint: Place(MAIN, app, "hello"), lambda _container: ""
        )


@pytest.fixture
async def house(home):
    async with dashboard(home) as served:
        token = await served.token(scopes=(Permission.ADMIN,))
        transport = httpx.ASGITransport(OwnSocket(served.server.api.app()))
        async with (
            served.visitor(token, Origin=ORIGIN) as visitor,
            httpx.AsyncClient(transport=transport, base_url="http://homeport") as api,
        ):
            yield House(served, visitor, api)


@pytest.mark.parametrize("path", sorted({page.path for page in PAGES if page.method == "GET"}))
async def test_each_page_answers_without_anything_to_show(house, path):
    answer = await house.visitor.get(path)

    assert answer.status_code in (200, 404), answer.text
    assert "error of homeport" not in answer.text


async def test_the_first_page_counts_the_requests_and_the_failures_of_the_last_minutes(house):
    await house.deploy()
    quiet = await house.text("/")
    now = f"{time.time() * 1000:.0f}"
    house.record(words(id="1", ended=now, status="500"), words(id="2", ended=now))
    later = await house.text("/")

    assert "Problems 0" in quiet
    assert "failed" not in quiet
    assert "Problems 1" in later
    assert "1 of 2 requests failed" in later


async def test_an_endpoints_page_shows_its_url_and_its_requests_and_stays_the_same(house):
    await house.deploy()
    house.record(words(id="1b0c", method="PUT", target="/x?q=1", status="503"))
    page = await house.text("/endpoint", app="shop", tag="hello")

    assert "http://me--shop-hello.localhost" in page
    assert "PUT /x" in page
    assert "503" in page
    query = {"app": "shop", "tag": "hello"}
    part = {"X-Part": "main"}
    first = await house.visitor.get("/endpoint", params=query, headers=part)
    part["If-None-Match"] = first.headers["etag"]
    again = await house.visitor.get("/endpoint", params=query, headers=part)
    assert 304 == again.status_code
    house.record(words(id="1b0d"))
    later = await house.visitor.get("/endpoint", params=query, headers=part)
    assert 200 == later.status_code


async def test_an_endpoint_that_is_gone_says_where_to_look(house):
    await house.deploy()

    assert "see the app's page" in await house.text("/endpoint", 404, app="shop", tag="gone")


async def test_requests_are_listed_the_newest_first_up_to_a_number(house):
    house.record(*(words(id=f"{n:036x}", target=f"/number/{n}/") for n in range(SHOWN + 1)))
    page = await house.text("/requests")

    assert f"At most {SHOWN} are shown" in page
    assert SHOWN == len(re.findall(r"/number/\d+/", page))
    assert page.index(f"/number/{SHOWN}/") < page.index("/number/1/")
    assert "/number/0/" not in page


async def test_a_function_of_an_app_with_a_dot_is_named_as_commands_take_it(house):
    house.record(words(id="1b0c"), app="my.app")
    alert = NewAlert(name="a", kind="errors", app="my.app", tag="hello", url="https://hook.test/")
    await house.make("POST", "/v1/alerts", alert)

    assert "my.app/hello" in await house.text("/requests")
    assert "my.app/hello" in await house.text("/machine")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status": "5xx"}, {"/bad"}),
        ({"method": "post"}, {"/post"}),
        ({"path": "/slow"}, {"/slow"}),
        ({"slower": "500"}, {"/slow"}),
        ({"container": "ta-7"}, {"/post"}),
        ({"failed": "1"}, {"/bad"}),
        ({"cold": "1"}, {"/cold"}),
        ({"app": "other"}, set()),
        ({"tag": "hello"}, {"/bad", "/post", "/slow", "/cold"}),
        ({"slower": "²"}, {"/bad", "/post", "/slow", "/cold"}),
    ],
)
async def test_requests_are_chosen_by_what_a_visitor_asks_for(house, query, expected):
    house.record(
        words(id="1", target="/bad", status="500"),
        words(id="2", target="/post", method="POST", container="ta-7"),
        words(id="3", target="/slow", first="700", total="720"),
        words(id="4", target="/cold", parked="5"),
    )
    page = await house.text("/requests", **query)

    assert expected == set(re.findall(r"/(?:bad|post|slow|cold)\b", page))


async def test_a_volume_shows_its_directories_first_and_gives_its_files(house):
    await house.make("POST", "/v1/volumes", NewVolume(name="models"))
    for path in ("b/x", "a.txt"):
        await house.make("PUT", f"/v1/volumes/models/file?path={path}", content=b"<b>hello</b>")
    listed, page = await house.text("/volumes"), await house.text("/volume", name="models")
    inner = await house.text("/volume", name="models", path="/b/")
    file = await house.visitor.get("/volume/file", params={"name": "models", "path": "b/x"})

    assert re.search(r"models \d+ KiB 2 ", listed)
    assert page.index(" b directory") < page.index(" a.txt file")
    assert "x file" in inner
    assert "a.txt" not in inner
    assert b"<b>hello</b>" == file.content
    assert "application/octet-stream" == file.headers["content-type"]
    assert "attachment; filename*=UTF-8''x" == file.headers["content-disposition"]
    assert "12" == file.headers["content-length"]
    assert "not" in await house.text("/volume", 404, name="models", path="c")


async def test_a_dict_and_a_queue_show_their_values_and_keep_them(house):
    for kind in ("dicts", "queues"):
        await house.make("POST", f"/v1/{kind}", NewObject(name="x"))
    pair = frames.pack([pickle.dumps("a key"), pickle.dumps({"n": 7})])
    values = frames.pack([pickle.dumps("first"), pickle.dumps("y" * 600)])
    await house.make("POST", "/v1/dicts/x/put", content=pair)
    await house.make("POST", "/v1/queues/x/put", content=values)
    for _ in range(2):
        dict_page = await house.text("/object", kind="dict", name="x")
        queue_page = await house.text("/object", kind="queue", name="x")

        assert "'a key' {'n': 7}" in dict_page
        assert "The first 2 of 2." in queue_page
        assert "1 'first' 2 'yyy" in queue_page
        assert "y…" in queue_page
        assert "y" * 500 not in queue_page


async def test_a_secret_shows_its_names_and_no_value(house):
    body = NewSecret(name="db", values={"PASSWORD": SECRET, "USER": SECRET})
    await house.make("POST", "/v1/secrets", body)
    answer = await house.visitor.get("/secrets")

    assert "PASSWORD, USER" in await house.text("/secrets")
    assert SECRET not in answer.text


async def test_an_apps_pages_show_its_versions_and_what_differs(house):
    await house.deploy(1)
    await house.deploy(2)
    app, changes = (
        await house.text("/app", name="shop"),
        await house.text("/app/changes", name="shop"),
    )

    assert "Version v2" in app
    assert "timeout_s hello 1.0 2.0" in changes
    assert "shop deployed v2" in await house.text("/deploys")


@pytest.mark.parametrize("version", ["x", "²", "-1", "1" * 5000])
async def test_a_version_that_is_no_number_is_refused(house, version):
    await house.deploy()
    answer = await house.visitor.post("/app/rollback", data={"name": "shop", "version": version})

    assert 400 == answer.status_code
    assert "is a number" in answer.text


async def test_a_rollback_and_a_stop_say_what_happened(house):
    await house.deploy(1)
    await house.deploy(2)
    back = await house.visitor.post("/app/rollback", data={"name": "shop", "version": "1"})
    assert 200 == back.status_code
    assert "shop was rolled back" in back.text
    assert "Version v3" in await house.text("/app", name="shop")

    stopped = await house.visitor.post("/app/stop", data={"name": "shop"})
    assert (303, "/app?name=shop") == (stopped.status_code, stopped.headers["location"])
    assert "Version v3" not in await house.text("/", 200)


async def test_lines_of_a_log_are_those_since_a_moment_of_what_is_asked_for(house):
    await house.deploy()
    now = time.time()
    line = LogLine(at=now, app="shop", function="hello", container="ta-1", text="first")
    others = (
        dataclasses.replace(line, at=now + 1, text="second", request="r1"),
        dataclasses.replace(line, at=now + 2, text="third", container="ta-2"),
    )
    for each in (line, *others):
        house.served.server.logs.write(each)

    async def texts(**query):
        answer = await house.visitor.get("/logs/lines", params={"app": "shop", **query})
        assert "application/x-ndjson" == answer.headers["content-type"]
        return [codec.loads(LogLine, line).text for line in answer.text.splitlines()]

    assert ["first", "second", "third"] == await texts()
    assert ["third"] == await texts(since=f"{now + 1.5}")
    assert ["first", "second", "third"] == await texts(since="nan")
    assert ["third"] == await texts(container="ta-2")
    assert ["second"] == await texts(request="r1")
    assert [] == await texts(function="other")


async def test_a_browser_keeps_a_style_for_a_year_as_another_version_has_another_address(house):
    answer = await house.visitor.get(f"/static/style.css?{render.STAMP}")

    assert "public, max-age=31536000, immutable" == answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/css")
    assert 404 == (await house.visitor.get("/static/other.css")).status_code


async def test_no_page_with_what_a_token_shows_is_kept_by_a_browser(house):
    answer = await house.visitor.get("/")

    assert "no-store" == answer.headers["cache-control"]


async def test_the_page_of_the_machine_has_the_facts_of_its_server(house):
    text = await house.text("/machine")
    settings = house.served.plane.settings

    assert f"Home {settings.home}" in text
    assert f"Server pid {os.getpid()} " in text, "and it outlives its command"
    assert "HAProxy pid 1 " in text
    assert "Address 127.0.0.1:4663 Domain" in text, "without HTTPS"
