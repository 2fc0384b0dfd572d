"""The dashboard in a real browser, on a real homeport."""

from urllib.parse import urlsplit

import pytest

from tests import chromium

pytestmark = pytest.mark.skipif(chromium.lacks() != "", reason=chromium.lacks())

EVIL = "<img src=x onerror='document.title=1'>"
APP = f"""
    import modal

    app = modal.App("shop")

    @app.function()
    @modal.fastapi_endpoint()
    def hello(name: str = "you"):
        print("hello {EVIL}", name)
        return {{"hello": name}}

    @app.function()
    @modal.fastapi_endpoint()
    def broken():
        raise ValueError("broken by design")
"""


@pytest.fixture
def browser(tmp_path):
    home = tmp_path / "ada"
    home.mkdir()
    with chromium.running(home) as browser:
        browser.look(wide=1600)
        yield browser


def enter(terminal, browser):
    """Open the link that `homeport dashboard` prints, and press Enter."""
    link = terminal.run("dashboard", "--no-open").stdout.strip()
    assert "" == browser.open(link)
    browser.wait("document.activeElement.id === 'enter'")
    assert "#" not in browser.ask("location.href"), "the code is not in the history"
    browser.press("Enter")
    browser.wait("!!document.querySelector('#endpoints, .empty')", "the first page")


def rows(browser):
    return browser.ask("[...document.querySelectorAll('tbody tr th')].map(each => each.innerText)")


def hosts(browser):
    """Return every host that the page has asked for something."""
    return set(
        browser.ask("performance.getEntriesByType('resource').map(each => new URL(each.name).host)")
    )


def test_the_first_page_changes_without_a_reload(terminal, write, visitor, browser):
    urls = terminal.deploy(write(APP))
    enter(terminal, browser)
    own = browser.ask("location.host")

    assert "homeport--dashboard.localhost" == urlsplit(f"//{own}").hostname
    assert ["shop.broken", "shop.hello"] == [text.split("\n")[0] for text in rows(browser)]

    # A failure comes first, without a reload.
    browser.ask("window.mine = document.querySelector('tbody tr:last-child'); 1")
    visitor.get(urls["hello"])
    assert 500 == visitor.get(urls["broken"]).status_code
    browser.wait(
        "document.querySelectorAll('tr.bad').length === 1 && !!document.querySelector('svg.spark')"
    )
    assert "1 of 1 requests failed" in rows(browser)[0]
    assert browser.ask("window.mine.isConnected"), "a row that is there stays the same row"

    # The search is at one key, and stays through the next answer.
    browser.ask("document.activeElement.blur(); 1")
    browser.press("/")
    for key in "hello":
        browser.press(key)
    visible = "[...document.querySelectorAll('tbody tr')].filter(each => !each.hidden).length"
    assert 1 == browser.wait(visible)
    visitor.get(urls["hello"])
    asked = browser.ask("performance.getEntriesByType('resource').length")
    browser.wait(f"performance.getEntriesByType('resource').length > {asked + 1}")
    assert 1 == browser.ask(visible)

    # Nothing is asked while nobody looks, and nothing comes from another host.
    browser.hide(hidden=True)
    assert {own} == hosts(browser)
    assert "dashboard session" in terminal.run("token", "list").stdout
    assert [] == [each for each in terminal.containers() if each["app"] == "dashboard"]


def test_a_session_ends_with_its_logout(terminal, write, browser):
    terminal.deploy(write(APP))
    enter(terminal, browser)
    browser.ask("document.querySelector('form[action=\"/logout\"] button').click(); 1")
    browser.wait("location.pathname === '/login'")

    assert "dashboard session" not in terminal.run("token", "list").stdout
    browser.open(browser.ask("location.origin") + "/")
    assert "/login" == browser.ask("location.pathname")


def go(browser, path):
    assert "" == browser.open(browser.ask("location.origin") + path)


def browser_href(browser, page, link):
    """Return where a link of a page leads."""
    go(browser, page)
    found = f"[...document.querySelectorAll('a')].find(each => each.innerText === {link!r})"
    return browser.ask(f"(({found}) || {{}}).href.replace(location.origin, '')")


def text(browser):
    return browser.ask("document.querySelector('main').innerText")


def test_the_pages_of_an_endpoint_show_its_requests_and_its_log_and_call_it(
    terminal, write, visitor, browser
):
    urls = terminal.deploy(write(APP))
    visitor.get(urls["hello"])
    enter(terminal, browser)
    browser.ask(
        "[...document.querySelectorAll('th a')].find(each => each.innerText === 'shop.hello').click(); 1"
    )
    browser.wait(
        "location.pathname === '/endpoint' && document.querySelectorAll('figure.chart').length > 1"
    )

    # The log has what the app prints, as text, and follows.
    lines = (
        "[...document.querySelectorAll('.log li:not([hidden]) .text')].map(each => each.innerText)"
    )
    browser.wait(f"{lines}.some(each => each.includes(`hello {EVIL}`))")
    visitor.get(urls["hello"], params={"name": "later"})
    browser.wait(f"{lines}.some(each => each.endsWith('later'))")
    browser.ask(
        "const box = document.querySelector('[data-log-find]'); box.value = 'later'; box.dispatchEvent(new Event('input')); 1"
    )
    assert 1 == len(browser.ask(lines))
    assert "shop.hello · homeport" == browser.ask("document.title"), "no script of a line has run"

    # A request has its waterfall.
    browser.wait("document.querySelectorAll('td a[href^=\"/request?\"]').length === 2")
    browser.ask("[...document.querySelectorAll('td a[href^=\"/request?\"]')].at(-1).click(); 1")
    browser.wait(
        "location.pathname === '/request' && document.querySelectorAll('rect.part').length > 0"
    )
    assert "until the first byte of its response" in text(browser)

    # One that is tried answers.
    go(browser, "/try?app=shop&tag=hello")
    browser.ask(
        "document.getElementById('path').value = '/?name=Ada'; document.querySelector('form.try').requestSubmit(); 1"
    )
    answer = browser.wait(
        "document.getElementById('answer') && document.getElementById('answer').innerText"
    )
    assert '"hello": "Ada"' in answer


def test_a_rollback_and_a_stop_are_confirmed(terminal, write, browser):
    terminal.deploy(write(APP))
    terminal.deploy(write(APP.replace("by design", "again")))
    enter(terminal, browser)
    go(browser, "/app?name=shop")
    browser.ask("document.querySelector('[data-dialog=\"back-1\"]').click(); 1")
    assert browser.ask("document.getElementById('back-1').open")
    browser.ask("document.querySelector('#back-1 button.main').click(); 1")
    browser.wait("document.body.innerText.includes('It serves v3 now')")

    go(browser, "/deploys")
    shown = text(browser)
    assert ("rollback of shop" in shown, "deploy of shop" in shown) == (True, True)
    go(browser, "/app/changes?name=shop&before=1&after=2")
    assert '+    raise ValueError("broken again")' in text(browser)
    go(browser, browser_href(browser, "/deploys", "rollback of shop"))
    assert "`hello` is ready" in text(browser)

    go(browser, "/app?name=shop")
    browser.ask("document.querySelector('[data-dialog=stop]').click(); 1")
    browser.press("Enter")  # the button that stops nothing has the focus
    browser.wait("!document.getElementById('stop').open")
    assert "deployed" == terminal.status()["apps"][0]["state"]
    browser.ask(
        "document.querySelector('[data-dialog=stop]').click(); document.querySelector('#stop .danger').click(); 1"
    )
    browser.wait("document.querySelector('.state.stopped') !== null")
    assert "stopped" == terminal.status()["apps"][0]["state"]


KEPT = """
    import modal

    app = modal.App("keeper")
    volume = modal.Volume.from_name("models", create_if_missing=True)
    settings = modal.Dict.from_name("settings", create_if_missing=True)
    jobs = modal.Queue.from_name("jobs", create_if_missing=True)

    @app.function(volumes={"/data": volume}, schedule=modal.Period(days=1))
    def fill():
        text = "<img src=x onerror='document.title=1'>"
        settings[text] = text
        jobs.put(text)
        with open(f"/data/{text.replace('/', '')}.txt", "w") as file:
            file.write("weights")

    @app.local_entrypoint()
    def main():
        fill.spawn().get()
"""
#: Page -> what it shows.
PAGES = {
    "/calls": "keeper.fill",
    "/volumes": "models",
    "/volume?name=models": ".txt",
    "/objects": "settings",
    "/object?kind=dict&name=settings": EVIL,
    "/object?kind=queue&name=jobs": EVIL,
    "/secrets": "PASSWORD",
    "/tokens": "dashboard session",
    "/images": "Images",
    "/certificates": "Certificates",
    "/audit": "dashboard login",
    "/machine": "Findings",
    "/deploys": "keeper",
    "/requests": "Requests",
    "/logs?app=keeper": "Logs",
}


def test_each_of_the_other_pages_shows_what_is_there(terminal, write, browser):
    script = write(KEPT)
    terminal.deploy(script)
    terminal.run("run", script)
    terminal.run("secret", "create", "db", "PASSWORD=hidden-value")
    enter(terminal, browser)
    for path, shown in PAGES.items():
        go(browser, path)
        seen = text(browser)
        assert shown in seen, path
        assert "hidden-value" not in seen
        assert browser.ask("document.title").endswith("· homeport"), f"a script has run: {path}"
        for wide in (400, 1600):
            browser.look(wide=wide)
            assert not browser.ask("document.documentElement.scrollWidth > innerWidth"), (
                path,
                wide,
            )

    go(browser, "/volume?name=models")
    got = browser.ask(
        "fetch(document.querySelector('tbody th a').href).then(async each => [each.headers.get('content-disposition'), await each.text()])"
    )
    assert got[0].startswith("attachment;")
    assert "weights" == got[1]


def test_a_token_that_may_only_read_sees_what_is_missing(terminal, write, browser):
    terminal.deploy(write(APP))
    secret = terminal.json("token", "create", "--name", "eye", "--scope", "read")["secret"]
    link = terminal.run("dashboard", "--no-open").stdout.strip()
    browser.open(link.partition("#")[0])
    browser.ask(
        f"document.getElementById('token').value = '{secret}'; document.getElementById('by-token').requestSubmit(); 1"
    )
    browser.wait("!!document.querySelector('#endpoints')")
    for path in ("/secrets", "/tokens", "/audit"):
        go(browser, path)
        assert "this needs a token with the scope" in text(browser), path
    go(browser, "/app?name=shop")
    browser.ask(
        "document.querySelector('[data-dialog=stop]').click(); document.querySelector('#stop .danger').click(); 1"
    )
    browser.wait(
        "document.body.innerText.includes('You may not see this') || document.body.innerText.includes('needs a token with the scope')"
    )
    assert "deployed" == terminal.status()["apps"][0]["state"]


TAKES = """
    import socket
    import modal
    from homeport.sdk import context

    app = modal.App("thief")

    @app.function()
    def ask(path: str, token: str, method: str = "GET", body: str = ""):
        reach = context.reach()
        fields = [f"X-Homeport-Key: {reach.key}", f"Authorization: Bearer {token}", "X-Homeport-Visitor: 192.0.2.1"]
        head = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", "Connection: close", *fields]
        with socket.socket(socket.AF_UNIX) as wire:
            wire.connect(reach.socket)
            wire.sendall(("\\r\\n".join(head) + "\\r\\n\\r\\n" + body).encode())
            return wire.recv(100).split()[1].decode()

    @app.local_entrypoint()
    def main(token: str, code: str):
        for path in ("/v1/identity", "/v1/tokens", "/v1/apps", "/v1/status"):
            print(ask.remote(path, token))
        print(ask.remote("/v1/dashboard/session", token, "POST", '{"code": "' + code + '"}'))
"""


def test_a_container_of_another_app_may_do_no_more_by_the_dashboards_socket(
    terminal, write, browser
):
    """It has a token of an admin, and the code of a link that nobody has used."""
    token = terminal.json("token", "create", "--name", "ci", "--scope", "admin")["secret"]
    link = terminal.run("dashboard", "--no-open").stdout.strip()
    code = link.partition("#")[2]
    told = terminal.run("run", write(TAKES), f"--token={token}", f"--code={code}").stdout

    assert ["404"] * 5 == told.split()[-5:]
    browser.open(link)
    browser.wait("document.activeElement.id === 'enter'")
    browser.press("Enter")
    browser.wait("!!document.querySelector('.empty')", "the first page: the code was not used up")
