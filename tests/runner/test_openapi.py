"""FastAPI's pages load their files from the app itself, wherever it is mounted; an app's own pages stay as they are."""

import gzip
import re
import sys
import warnings

import httpx
import pytest
from fastapi import FastAPI
from fastapi.openapi import docs
from fastapi.responses import HTMLResponse

from homeport.contract.openapi import FOLDER, KINDS
from homeport.node import openapi as node
from homeport.runner import openapi, webapp

ABSOLUTE = re.compile(r"""(?:src|href)="(https?://[^"]*)""")
OWN = re.compile(r"""(?:src|href)="(\?[^"]*)""")


@pytest.fixture
def laid(tmp_path, monkeypatch):
    """The files, as the node lays them."""
    node.lay(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return tmp_path / FOLDER


async def get(app, path: str, **fields: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.get(path, headers=fields)


def behind_a_proxy() -> FastAPI:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of FastAPI discourage `root_path`
        return FastAPI(root_path="/proxy")


def mounted() -> FastAPI:
    app, other = FastAPI(), FastAPI(docs_url="/help")
    app.mount("/api", other)
    return app


@pytest.mark.parametrize(
    ("app", "path", "names"),
    [
        (FastAPI(), "/docs", {"swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"}),
        (FastAPI(), "/redoc", {"redoc.standalone.js", "favicon.png"}),
        (behind_a_proxy(), "/docs", {"swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"}),
        (mounted(), "/api/help", {"swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"}),
        (mounted(), "/docs", {"swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"}),
        (webapp.build(lambda: 1, method="GET", docs=True), "/docs", {"swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"}),
    ],
)  # fmt: skip
async def test_a_page_loads_all_its_files_from_its_own_address(laid, app, path, names):
    openapi.localize(app)
    page = await get(app, path)
    own = OWN.findall(page.text)
    files = {url.rpartition("/")[2]: await get(app, f"{path}{url}") for url in own}

    assert [] == ABSOLUTE.findall(page.text)
    assert names == set(files)
    for name, file in files.items():
        assert KINDS[name] in file.headers["content-type"]
        assert file.content == gzip.decompress((laid / f"{name}.gz").read_bytes())
        assert "immutable" in file.headers["cache-control"]


async def test_a_client_without_gzip_gets_the_file_itself(laid):
    app = FastAPI()
    openapi.localize(app)
    plain = await get(app, "/docs?homeport=1/swagger-ui.css", **{"accept-encoding": "identity"})
    packed = await get(app, "/docs?homeport=1/swagger-ui.css", **{"accept-encoding": "gzip, br"})

    assert plain.content == packed.content
    assert "content-encoding" not in plain.headers
    assert "gzip" == packed.headers["content-encoding"]


@pytest.mark.parametrize("asked", ["", "1/../../etc/passwd", "1/other.js", "swagger-ui.css.gz"])
async def test_a_query_for_any_other_file_gets_the_page_itself(laid, asked):
    app = FastAPI(title="Shop")
    openapi.localize(app)
    page = await get(app, f"/docs?homeport={asked}")

    assert "<title>Shop - Swagger UI</title>" in page.text


async def test_a_page_of_the_apps_own_stays_as_it_is(laid):
    app = FastAPI(docs_url=None)

    @app.get("/docs")
    async def own() -> HTMLResponse:
        return docs.get_swagger_ui_html(openapi_url="/o", title="t", swagger_js_url="/mine.js")

    before = await get(app, "/docs")
    openapi.localize(app)

    assert before.text == (await get(app, "/docs")).text


async def test_addresses_that_an_app_has_chosen_stay(laid, monkeypatch):
    def chosen(**given):
        return docs.get_swagger_ui_html(
            **given,
            swagger_js_url="https://cdn.mine/a.js",
            swagger_css_url="https://cdn.mine/a.css",
        )

    monkeypatch.setattr("fastapi.applications.get_swagger_ui_html", chosen)
    app = FastAPI()
    openapi.localize(app)

    page = await get(app, "/docs")
    assert {"https://cdn.mine/a.js", "https://cdn.mine/a.css"} == set(ABSOLUTE.findall(page.text))


async def test_without_the_files_the_page_is_fastapis_own():
    app = FastAPI()
    before = await get(app, "/docs")
    openapi.localize(app)

    assert before.text == (await get(app, "/docs")).text


def test_an_app_without_pages_and_another_callable_are_left_alone(laid):
    app = FastAPI(docs_url=None, redoc_url=None)
    before = list(app.router.routes)
    openapi.localize(app)
    openapi.localize(lambda _scope, _receive, _send: None)

    assert before == app.router.routes
