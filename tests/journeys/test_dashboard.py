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


def test_home_is_live(terminal, write, visitor, browser):
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
