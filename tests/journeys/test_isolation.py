"""Containers in cells: what an app sees and leaves behind, for each way to start its container and for each kind of user."""

import os
import shutil
import signal
import textwrap
from pathlib import Path

import pytest

from tests import isolation
from tests.journeys.conftest import PROBES, homes
from tests.waiting import wait_for

#: See tests/cell/test_escapes.py: the first two are limits that are kept outside the cell.
OPEN = {"memory", "disk", "host_loopback"}
APP = """
    import json, os
    import modal
    from fastapi import FastAPI, Request

    app = modal.App("world")
    web = FastAPI()

    def calls():
        import socket
        with socket.socket(socket.AF_UNIX) as ingress:
            ingress.connect("/run/homeport/calls.sock")
            ingress.sendall(b"GET / HTTP/1.1\\r\\nHost: calls\\r\\nConnection: close\\r\\n\\r\\n")
            return ingress.makefile().readline().split()[1]

    def look():
        return {
            "calls": calls(),
            "beside": os.listdir("/run/homeport"),
            "directory": os.getcwd(),
            "file": __file__,
            "user": os.getuid(),
            "processes": sorted(int(p) for p in os.listdir("/proc") if p.isdigit()),
            "new": [p for p in ("/root/new", "/tmp/new", "/etc/new", "/opt/new") if os.path.exists(p)],
            "shadow": os.path.exists("/etc/shadow"),
            "local": modal.is_local(),
        }

    def write():
        for path in ("/root/new", "/tmp/new", "/etc/new", "/opt/new"):
            with open(path, "w") as file:
                file.write("mine")
        return True

    async def probe(request: Request):
        import probes
        return probes.deployed(await request.json())

    web.get("/")(look)
    web.post("/write")(write)
    web.post("/probe")(probe)

    DECORATOR
    class Whole:
        @modal.enter(snap=SNAPSHOT)
        def begin(self):
            self.began = True

        @modal.asgi_app()
        def web(self):
            return web
"""
ADDS = """
    import json, os
    import modal

    app = modal.App("adds")
    places = ("/data.txt", "/etc/mine/x.conf", "/opt/a/b.txt", "/srv/c/d.txt")
    image = modal.Image.debian_slim()
    for place in ("/assets", "/usr/share/own"):
        image = image.add_local_dir("static", place)
    for place in places:
        image = image.add_local_file("static/css/a.css", place)

    @app.function(image=image)
    @modal.wsgi_app()
    def adds():
        def answer(environ, start):
            start("200 OK", [("Content-Type", "application/json")])
            open("/assets/new", "w").close()
            all = ("/assets/css/a.css", "/usr/share/own/css/a.css", *places)
            found = [open(path).read() for path in all]
            told = [found, os.listdir("/usr/share/zoneinfo")[:1], os.path.exists("/etc/hosts")]
            return [json.dumps(told).encode()]
        return answer
"""
DECORATORS = "@app.cls(scaledown_window=SECONDS, enable_memory_snapshot=SNAPSHOT)\n@modal.concurrent(max_inputs=10)"


#: An ordinary user's cells differ from root's, and not by how the container starts: the last two need `--soak`.
KINDS = [
    ("terminal", "forked"),
    ("terminal", "fresh"),
    ("terminal", "snapshot"),
    ("ordinary", "forked"),
    pytest.param(("ordinary", "fresh"), marks=pytest.mark.soak),
    pytest.param(("ordinary", "snapshot"), marks=pytest.mark.soak),
]


@pytest.fixture(params=KINDS, ids="-".join)
def isolated(request):
    """The terminal of a user, whose containers start in one way."""
    isolation.needed()
    account, origin = request.param
    user = request.getfixturevalue(account)
    user.environ["HOMEPORT_ISOLATION"] = "on"
    if origin == "fresh":
        user.environ["HOMEPORT_ZYGOTE_MIB"] = "0"
    user.origin = origin
    return user


@pytest.fixture
def script(isolated):
    def script(window_s: int = 60) -> Path:
        directory = isolated.home.parent / "app"
        directory.mkdir(exist_ok=True)
        decorators = DECORATORS.replace("SECONDS", str(window_s))
        path = directory / "script.py"
        text = textwrap.dedent(APP).replace("DECORATOR", decorators)
        text = text.replace("SNAPSHOT", str(isolated.origin == "snapshot"))
        path.write_text(text)
        shutil.copy(PROBES, directory)
        return path

    return script


def test_a_container_has_a_world_of_its_own(isolated, script, visitor):
    url = isolated.deploy(script())["Whole.web"]
    seen = visitor.get(url).json()

    assert ("/root", "/root/script.py", 0) == (seen["directory"], seen["file"], seen["user"])
    assert ([1, 2], [], False) == (seen["processes"], seen["new"], seen["shadow"])
    assert not seen["local"]
    assert ("404", ["calls.sock"]) == (seen["calls"], seen["beside"])
    starts = isolated.json("app", "cold-starts", "world")
    assert [isolated.origin] == list({start["origin"] for start in starts})


def test_files_are_added_at_any_path_beside_what_is_there(isolated, visitor):
    directory = isolated.home.parent / "adds"
    (directory / "static/css").mkdir(parents=True)
    (directory / "static/css/a.css").write_text("p {}")
    (directory / "script.py").write_text(textwrap.dedent(ADDS))
    url = isolated.deploy(directory / "script.py", cwd=directory)["adds"]
    found, others, hosts = visitor.get(url).json()

    assert ["p {}"] * 6 == found
    assert others
    assert hosts
    assert not Path("/assets").exists()


def written(terminal) -> list[str]:
    """Return where containers have written a file `new`; directories may go meanwhile."""
    cells = terminal.home / "run/cells"
    return [folder for folder, _, files in os.walk(cells) if "new" in files]


def test_files_that_a_container_writes_go_with_the_container(isolated, script, visitor):
    url = isolated.deploy(script(window_s=2))["Whole.web"]
    visitor.post(f"{url}/write")
    assert 4 == len(written(isolated))

    wait_for(lambda: not isolated.containers(), "no container")
    wait_for(lambda: not written(isolated), "what it wrote to go")
    assert [] == visitor.get(url).json()["new"]


def test_no_probe_gets_out_of_a_container(isolated, script, visitor, neighbour):
    url = isolated.deploy(script())["Whole.web"]
    told = {**neighbour, "homes": homes(isolated.home)}
    tried = visitor.post(f"{url}/probe", json=told, timeout=60).json()

    assert {name for name, (evidence, _) in tried.items() if evidence} <= OPEN


def test_a_container_outlives_its_control_plane_and_ends_with_its_server(isolated, script, visitor):
    url = isolated.deploy(script())["Whole.web"]
    assert visitor.get(url).is_success
    before = [container["id"] for container in isolated.json("container", "list")]
    os.kill(isolated.status()["pid"], signal.SIGKILL)
    assert visitor.get(url).is_success
    isolated.run("up")

    assert before == [container["id"] for container in isolated.json("container", "list")]
    assert "404" == visitor.get(url).json()["calls"]  # of the new server
    isolated.run("down")
    wait_for(lambda: not isolated.processes(), "everything to end")
    assert not list((isolated.home / "run/cells").glob("*"))
