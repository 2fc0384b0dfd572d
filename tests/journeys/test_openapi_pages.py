"""`/docs` and `/redoc` of FastAPI apps in a browser that reaches no host but this machine."""

import pytest

from tests import chromium

APP = """
    import modal
    from fastapi import FastAPI

    app = modal.App("shop")
    web, admin = FastAPI(title="Shop"), FastAPI(title="Admin")
    web.mount("/admin", admin)

    @web.get("/pears")
    def pears():
        return 3

    @admin.get("/sales")
    def sales():
        return 5

    @app.function()
    @modal.asgi_app()
    def page():
        return web

    @app.function()
    @modal.fastapi_endpoint(docs=True)
    def price(fruit: str):
        return 7
"""
#: The operations that a page shows; below, the hosts that it has asked.
SHOWN = {
    "docs": "[...document.querySelectorAll('.opblock-summary-path')].map(each => each.textContent.trim())",
    "redoc": "[...document.querySelectorAll('h2')].map(each => each.textContent.trim()).filter(Boolean)",
}
#: An image within the page (`data:`) has no host.
HOSTS = "[...new Set(performance.getEntriesByType('resource').map(each => new URL(each.name).host))].filter(Boolean)"


@pytest.mark.skipif(chromium.lacks() != "", reason=chromium.lacks())
def test_the_pages_show_the_operations_without_the_internet(terminal, write, tmp_path):
    deployed = terminal.json("deploy", write(APP))["endpoints"]
    urls = {each["function"]: each["url"] for each in deployed}
    shown = {}
    with chromium.running(tmp_path, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE *.localhost") as browser:  # fmt: skip
        for name, page in (
            ("page", "docs"),
            ("page", "admin/docs"),
            ("page", "redoc"),
            ("price", "docs"),
            ("price", "redoc"),
        ):
            assert "" == browser.open(f"{urls[name]}/{page}")
            kind = page.rpartition("/")[2]
            operations = browser.wait(f"(found => found.length && found)({SHOWN[kind]})")
            hosts = browser.ask(HOSTS)
            shown[name, page] = (
                operations,
                {host for host in hosts if urls[name] != f"http://{host}"},
            )

    assert ["/pears"] == shown["page", "docs"][0]
    assert ["/sales"] == shown["page", "admin/docs"][0]
    assert ["/"] == shown["price", "docs"][0]
    assert "Pears" in " ".join(shown["page", "redoc"][0])
    assert "Price" in " ".join(shown["price", "redoc"][0])
    assert [set()] * 5 == [others for _, others in shown.values()]
