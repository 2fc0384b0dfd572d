"""Containers with their own networks: several servers on one port, and no container reaches another one."""

import os
import signal
import textwrap

import pytest

from tests import isolation
from tests.waiting import wait_for

APP = """
    import modal, json, socket
    app = modal.App("nets")
    PROGRAM = '''
    import http.server, sys, urllib.request
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            text = sys.argv[1]
            if text.startswith("http"):
                text = "it said " + urllib.request.urlopen(text).read().decode()
            self.wfile.write(text.encode())
    http.server.HTTPServer(("127.0.0.1", 8000), Page).serve_forever()
    '''

    def serve(text):
        import subprocess, sys, textwrap
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(PROGRAM), text])

    def calls():
        with socket.socket(socket.AF_UNIX) as ingress:
            try:
                ingress.connect("/run/homeport/calls.sock")
            except OSError as error:
                return type(error).__name__
            ingress.sendall(b"GET / HTTP/1.1\\r\\nHost: calls\\r\\nConnection: close\\r\\n\\r\\n")
            return ingress.makefile().readline().split()[1]

    @app.function(restrict_modal_access=True)
    @modal.fastapi_endpoint()
    def restricted():
        return calls()

    @app.function()
    @modal.web_server(8000)
    def one():
        serve("one VERSION")

    @app.function()
    @modal.web_server(8000)
    def two():
        serve("two")

    @app.function()
    @modal.web_server(8000)
    def curious():
        serve(two.get_web_url())

    @app.function()
    @modal.fastapi_endpoint()
    def usual():
        import urllib.request
        return urllib.request.urlopen(two.get_web_url()).read().decode()

    @app.function(block_network=True)
    @modal.web_server(8000)
    def alone():
        serve("alone")

    @app.function(block_network=True)
    @modal.fastapi_endpoint()
    def blocked(port: int):
        found = {}
        for where in (("127.0.0.1", port), ("192.0.2.1", 80)):
            try:
                socket.create_connection(where, 5).close()
                found[where[0]] = "reached"
            except OSError as error:
                found[where[0]] = type(error).__name__
        found["calls"] = calls()
        with open("/proc/net/dev") as file:
            found["interfaces"] = [line.split(":")[0].strip() for line in file if ":" in line]
        return found
"""


REFUSED = """
    import modal
    app = modal.App("nets")

    @app.function(OPTION)
    @modal.fastapi_endpoint()
    def alone(): ...
"""


@pytest.fixture(params=["root", "ordinary"])
def user(request):
    return request.getfixturevalue("terminal" if request.param == "root" else "ordinary")


@pytest.fixture
def isolated(user):
    isolation.needed("network")
    user.environ["HOMEPORT_ISOLATION"] = "on"
    return user


@pytest.fixture
def script(isolated):
    def script(version: int = 1):
        directory = isolated.home.parent / "app"
        directory.mkdir(exist_ok=True)
        path = directory / "script.py"
        path.write_text(textwrap.dedent(APP).replace("VERSION", str(version)))
        return path

    return script


def _main(terminal) -> str:
    """Return the address that all URLs share."""
    (url, *_) = [e["url"] for app in terminal.status()["apps"] for e in app["endpoints"]]
    return f"http://127.0.0.1:{url.rpartition(':')[2]}"


def test_every_server_has_port_8000_for_itself_and_versions_have_urls(isolated, script, visitor):
    urls = isolated.deploy(script())
    assert ["one 1", "two", "alone"] == [
        visitor.get(urls[tag]).text for tag in ("one", "two", "alone")
    ]
    isolated.deploy(script(2))

    assert "one 2" == visitor.get(urls["one"]).text
    earlier = visitor.get(_main(isolated), headers={"Host": "ada--nets-one-v1.localhost"})
    assert "one 1" == earlier.text


def test_a_container_reaches_the_urls_of_its_app_whatever_its_network(isolated, script, visitor):
    urls = isolated.deploy(script())

    assert "two" == visitor.get(urls["usual"]).json()
    assert "it said two" == visitor.get(urls["curious"]).text
    os.kill(isolated.status()["pid"], signal.SIGKILL)
    isolated.run("up")
    assert "it said two" == visitor.get(urls["curious"]).text  # by the new server's socket
    isolated.run("down")
    wait_for(lambda: [] == isolated.processes(), "the end of everything, of network helpers too")


def test_a_function_without_network_reaches_nobody_and_answers(isolated, script, visitor):
    urls = isolated.deploy(script())
    port = int(urls["one"].rpartition(":")[2])
    found = visitor.get(urls["blocked"], params={"port": port}).json()

    assert ["lo"] == found.pop("interfaces")
    assert "404" == found.pop("calls")  # functions can be called: that is not the internet
    assert "reached" not in found.values()


def test_a_function_that_may_call_none_has_no_way_to_the_ingress(isolated, script, visitor):
    url = isolated.deploy(script())["restricted"]

    assert "FileNotFoundError" == visitor.get(url).json()


@pytest.mark.parametrize("option", ["block_network=True", "restrict_modal_access=True"])
def test_without_isolation_what_only_a_cell_keeps_is_refused(isolated, option):
    isolated.environ["HOMEPORT_ISOLATION"] = "off"
    path = isolated.home.parent / "refused.py"
    path.write_text(textwrap.dedent(REFUSED.replace("OPTION", option)))
    done = isolated.run("deploy", path, check=False)

    assert 1 == done.returncode
    assert f"`alone` has `{option}`" in done.stderr
    assert "`homeport doctor`" in done.stderr
