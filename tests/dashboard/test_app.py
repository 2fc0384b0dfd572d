"""Logging in, what a request must look like, and that no visitor sees what another one's token shows."""

import asyncio
import re

import pytest

from homeport.contract.permissions import Permission
from homeport.dashboard import render
from tests.control.plane import function, manifest
from tests.dashboard.served import HOST, ORIGIN, dashboard

READ = (Permission.READ,)


@pytest.fixture
async def served(tmp_path):
    async with dashboard(tmp_path) as served:
        yield served


async def link(served, token):
    """Return a code for a token, as `homeport dashboard` gets it."""
    from tests.control.api.test_dashboard import code

    return await code(served.server, token)


async def deploy(served, name="shop"):
    app = manifest(function("hello"), app=name)
    await served.plane.deployer.deploy(
        served.plane.store.scope, name, app, tag="", strategy="rolling", say=lambda _text: None
    )


async def test_a_link_logs_in_once(served):
    code = await link(served, await served.token(scopes=READ))
    async with served.visitor(Origin=ORIGIN) as visitor:
        answer = await visitor.post("/login", data={"code": code})
        cookie = answer.headers["set-cookie"]
        again = await visitor.post("/login", data={"code": code})

    assert (303, "/") == (answer.status_code, answer.headers["location"])
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert "Domain" not in cookie
    assert 401 == again.status_code
    assert "used already" in again.text


async def test_a_cookie_of_https_is_for_https_and_this_host_alone(served):
    code = await link(served, await served.token(scopes=READ))
    async with served.visitor(scheme="https", Origin=f"https://{HOST}") as visitor:
        cookie = (await visitor.post("/login", data={"code": code})).headers["set-cookie"]

    assert cookie.startswith("__Host-homeport=ak-")
    assert "Secure" in cookie


async def test_a_token_in_the_form_becomes_a_session(served):
    token = await served.token(scopes=READ)
    async with served.visitor(Origin=ORIGIN) as visitor:
        answer = await visitor.post("/login", data={"token": f" {token}\n"})
        cookie = answer.headers["set-cookie"]
        wrong = await visitor.post("/login", data={"token": "wrong\x00é"})

    assert token not in cookie, "the browser does not keep the token itself"
    assert "ak-" in cookie
    assert 401 == wrong.status_code


async def test_looking_at_a_link_uses_nothing_up(served):
    """A chat program that shows a preview asks for the address, which has no code: that is behind the `#`."""
    code = await link(served, await served.token(scopes=READ))
    async with served.visitor() as program:
        page = await program.get("/login")
        assert 200 == page.status_code
        assert "set-cookie" not in page.headers
    async with served.visitor(Origin=ORIGIN) as visitor:
        assert 303 == (await visitor.post("/login", data={"code": code})).status_code


@pytest.mark.parametrize(
    "origin", ["", "null", "http://evil.localhost:4663", "http://homeport--dashboard.localhost"]
)
async def test_another_page_changes_nothing(served, origin):
    """Other apps are on the same site, so the cookie's SameSite does not keep their pages out."""
    token = await served.token(scopes=READ)
    code = await link(served, token)
    headers = {"Origin": origin} if origin else {}
    async with served.visitor(token, **headers) as visitor:
        assert 403 == (await visitor.post("/login", data={"code": code})).status_code
        assert 403 == (await visitor.post("/logout")).status_code

    assert 1 == len(served.server.api_tokens.every(None))


@pytest.mark.parametrize("host", ["127.0.0.1:4664", "localhost:4664", "[::1]:4664"])
async def test_an_address_that_other_apps_share_has_no_session(served, host):
    """A browser sends a cookie to every port of a host."""
    token = await served.token(scopes=READ)
    async with served.visitor(token, host=host, Origin=f"http://{host}") as visitor:
        assert 303 == (await visitor.get("/")).status_code
        assert 403 == (await visitor.post("/login", data={"token": token})).status_code
        assert 'name="token"' not in (await visitor.get("/login")).text


async def test_a_logout_ends_the_session(served):
    token = await served.token(scopes=READ)
    async with served.visitor(Origin=ORIGIN) as visitor:
        cookie = (await visitor.post("/login", data={"token": token})).headers["set-cookie"]
        visitor.headers["Cookie"] = cookie.partition(";")[0]
        assert 200 == (await visitor.get("/")).status_code
        ended = await visitor.post("/logout")
        assert 'homeport-dashboard=""' in ended.headers["set-cookie"]
        assert "/login" == (await visitor.get("/")).headers["location"]

    assert 1 == len(served.server.api_tokens.every(None))


async def test_no_token_is_in_a_page_or_an_address(served):
    token = await served.token(scopes=READ)
    async with served.visitor(Origin=ORIGIN) as visitor:
        answer = await visitor.post("/login", data={"token": token})
        secret = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
        visitor.headers["Cookie"] = f"homeport-dashboard={secret}"
        page = await visitor.get("/")

    assert 200 == page.status_code
    assert "as-" not in page.text
    assert secret not in page.text + str(page.headers) + answer.headers["location"]


async def test_each_answer_has_the_policy(served):
    token = await served.token(scopes=READ)
    async with served.visitor(token, Origin=ORIGIN) as visitor:
        for path in ("/", "/login", "/nothing", f"/static/style.css?{render.STAMP}"):
            headers = (await visitor.get(path)).headers
            assert render.POLICY == headers["content-security-policy"], path
            assert "DENY" == headers["x-frame-options"]
        assert render.POLICY == (await visitor.post("/logout")).headers["content-security-policy"]

    assert not re.search(r"unsafe|https?:", render.POLICY)


async def test_two_visitors_see_each_their_own(served):
    """In one container, at the same moment."""
    await deploy(served)
    own = await served.token(scopes=READ)
    other = await served.token(scopes=READ, environments=("staging",))
    async with served.visitor(own) as ada, served.visitor(other) as eve:
        pages = await asyncio.gather(*(each.get("/") for each in (ada, eve) * 20))

    assert {(200, True), (403, False)} == {
        (page.status_code, "shop" in page.text) for page in pages
    }
    assert all("shop" in page.text for page in pages[::2])


async def test_a_page_says_which_part_a_token_may_not_see_and_shows_the_others(served):
    token = await served.token(scopes=READ, environments=("staging",))
    async with served.visitor(token) as visitor:
        page = await visitor.get("/")

    assert "not for the environment <code>main</code>" in page.text
    assert "You may not see this" in page.text
    assert "<nav" in page.text


async def test_a_deleted_token_leads_to_the_login(served):
    token = await served.token(scopes=READ)
    await served.server.api_tokens.delete(None, token.partition(".")[0])
    async with served.visitor(token) as visitor:
        whole = await visitor.get("/")
        part = await visitor.get("/", headers={"X-Part": "main"})

    assert (303, 401) == (whole.status_code, part.status_code)
    assert "Max-Age=0" in whole.headers["set-cookie"]


async def test_an_open_page_gets_its_middle_and_nothing_if_nothing_has_changed(served):
    await deploy(served)
    token = await served.token(scopes=READ)
    async with served.visitor(token, **{"X-Part": "main"}) as visitor:
        first = await visitor.get("/")
        again = await visitor.get("/", headers={"If-None-Match": first.headers["etag"]})

    assert "<html" not in first.text
    assert "shop" in first.text
    assert (304, b"") == (again.status_code, again.content)


async def test_a_server_that_does_not_answer_is_told(served):
    token = await served.token(scopes=READ)
    served.plane.settings.inside_socket.unlink()
    async with served.visitor(token) as visitor:
        page = await visitor.get("/")

    assert 502 == page.status_code
    assert "The server does not answer" in page.text


async def test_text_from_outside_is_text(served):
    await served.plane.environments.create(served.plane.store.scope.__class__("main", "staging"))
    token = await served.token(scopes=READ)
    async with served.visitor(token) as visitor:
        page = await visitor.get("/", params={"env": '"><img src=x onerror=alert(1)>'})

    assert "<img src=x" not in page.text
    assert "&lt;img src=x" in page.text


async def test_a_form_that_no_page_sends_is_refused(served):
    async with served.visitor(Origin=ORIGIN) as visitor:
        large = await visitor.post("/login", content=b"code=" + b"x" * 2_000_000)
        many = await visitor.post("/login", content=b"&".join([b"a=1"] * 1000))
        odd = await visitor.post("/login", content=b"code=\xff\xfe")

    assert [400, 400, 400] == [each.status_code for each in (large, many, odd)]


@pytest.mark.parametrize("name", ["é", "a\r\nX-Evil: 1", "\x00", "x" * 5000])
async def test_a_name_that_no_environment_can_have_is_told(served, name):
    token = await served.token(scopes=READ)
    async with served.visitor(token) as visitor:
        page = await visitor.get("/", params={"env": name})

    assert 404 == page.status_code
    assert "there is no environment" in page.text
