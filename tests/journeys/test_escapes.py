"""Every way out that we know of, tried in deployed containers of the kinds that tests/journeys/test_isolation.py lacks."""

import shutil
import textwrap

import pytest

from tests import isolation
from tests.journeys.conftest import PROBES, homes

#: Limits that are kept outside the cell: see tests/cell/test_escapes.py.
OPEN = {"memory", "disk"}
APP = """
    import json
    import modal

    app = modal.App("escapes")
    PROGRAM = (
        "import script, wsgiref.simple_server as simple;"
        "simple.make_server('127.0.0.1', 8000, script.wsgi).serve_forever()"
    )

    @app.function(block_network=True)
    @modal.wsgi_app()
    def blocked():
        return wsgi

    @app.function()
    @modal.web_server(8000)
    def server():
        import subprocess, sys
        subprocess.Popen([sys.executable, "-c", PROGRAM])

    def wsgi(environ, start):
        import probes
        v = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(probes.deployed(v)).encode()]
"""
ROOTED = """
    import json
    import modal

    app = modal.App("escapes", image=IMAGE)

    @app.function()
    @modal.wsgi_app()
    def plain():
        return wsgi

    def wsgi(environ, start):
        import probes
        v = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(probes.deployed(v)).encode()]
"""


@pytest.fixture(params=["root", "ordinary"])
def isolated(request):
    user = request.getfixturevalue("terminal" if request.param == "root" else "ordinary")
    isolation.needed()
    user.environ["HOMEPORT_ISOLATION"] = "on"
    return user


@pytest.fixture
def probe(isolated, visitor, neighbour):
    """Return what gets out of a function's container."""

    def probe(url: str) -> set[str]:
        told = {**neighbour, "homes": homes(isolated.home)}
        tried = visitor.post(url, json=told, timeout=60).json()
        return {name for name, (evidence, _) in tried.items() if evidence}

    return probe


def deploy(isolated, app: str, image: str = "") -> dict[str, str]:
    directory = isolated.home.parent / "app"
    directory.mkdir()
    (directory / "script.py").write_text(textwrap.dedent(app).replace("IMAGE", image))
    shutil.copy(PROBES, directory)
    return isolated.deploy(directory / "script.py")


def test_no_probe_gets_out_of_a_container_with_another_network(isolated, probe):
    isolation.needed("network")
    urls = deploy(isolated, APP)

    assert probe(urls["blocked"]) == OPEN
    has_way_out = shutil.which("pasta" if hasattr(isolated, "words") else "nft")
    assert probe(urls["server"]) == (OPEN if has_way_out else {*OPEN, "host_loopback"})


@pytest.mark.timeout(200)
def test_no_probe_gets_out_of_a_container_with_a_root_of_its_own(isolated, probe, small):
    urls = deploy(isolated, ROOTED, small)
    own = {"interpreter", "system_directories"}  # it may change them, for itself

    assert probe(urls["plain"]) <= {*OPEN, *own, "host_loopback"}
