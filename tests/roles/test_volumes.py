"""Volumes in the containers of a real node: writes are seen at once, read-only mounts stay read-only, and both hold in snapshots too."""

import json
import os
import textwrap

import pytest

from homeport.contract.container import State
from homeport.contract.manifest import VolumeMount, WebKind, WebMethod
from homeport.node.agent import Agent
from homeport.settings import Settings
from homeport.state.volumes import _root_in_containers as root_in_containers
from tests import isolation
from tests.node.test_agent import Watched
from tests.orders import order

SCRIPT = """
    import json, os
    import modal

    app = modal.App("app")
    volume = modal.Volume.from_name("v")

    def attempt(work):
        try:
            return work()
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    @app.function(volumes={"/data": volume})
    @modal.wsgi_app()
    def writer():
        with open("/data/one", "w") as file:
            file.write("one")
        os.symlink("/etc/passwd", "/data/evil")
        with volume.batch_upload() as batch:
            batch.put_file("/data/one", "sub/two")
        volume.commit()
        return lambda environ, start: []

    @app.cls(volumes={"/usr/share/there": volume.read_only()}, enable_memory_snapshot=True)
    class Reader:
        @modal.enter(snap=True)
        def begin(self):
            self.begun = attempt(lambda: sorted(os.listdir("/usr/share/there")))

        @modal.wsgi_app()
        def web(self):
            told = {
                "begun": self.begun,
                "one": attempt(lambda: open("/usr/share/there/one").read()),
                "write": attempt(lambda: open("/usr/share/there/new", "w")),
                "listed": attempt(lambda: sorted(e.path for e in volume.iterdir("/"))),
                "evil": attempt(lambda: list(volume.read_file("evil"))),
                "owner": os.stat("/usr/share/there/one").st_uid,
                "beside": attempt(lambda: os.listdir("/part")),
                "reload": attempt(volume.reload),
            }
            with open("/root/out/told", "w") as file:
                json.dump(told, file)
            return lambda environ, start: []
"""


@pytest.fixture
async def node(tmp_path):
    """An agent that isolates containers, what it reports, and the source tree of the functions."""
    isolation.needed()
    (tmp_path / "app").mkdir()
    (tmp_path / "app/script.py").write_text(textwrap.dedent(SCRIPT))
    settings = Settings(home=tmp_path / "home", isolation="on")
    settings.socket_dir.mkdir(parents=True)
    agent, watched = Agent(settings, tied=True), Watched()
    agent.watch(watched.changed, watched.said)
    await agent.open()
    yield agent, watched, settings.volumes_dir
    await agent.close()


def files(volumes, key: str):
    """Make a volume's directory, as the state does."""
    directory = volumes / key / "files"
    directory.mkdir(parents=True)
    if owner := root_in_containers():
        os.chown(directory, *owner)
    return directory


async def test_containers_share_a_volume(node, tmp_path):
    agent, watched, volumes = node
    shared, out = files(volumes, "main/main/vo-1"), files(volumes, "main/main/vo-2")

    async def run(name: str, function: str, **rest) -> None:
        web = WebMethod(tag=function, attribute=rest.pop("attribute"), kind=WebKind.WSGI)
        rest |= {"module": "script", "source": str(tmp_path / "app"), "web": (web,)}
        await agent.start(order(name, function=function, **rest), {})
        container = await watched.until(State.READY, State.FAILED)
        assert State.READY == container.state, (container.reason, container.traceback)
        await agent.stop(name, grace_s=10)
        await watched.until(State.GONE)

    data = VolumeMount(path="/data", name="v", key="main/main/vo-1")
    await run("ta-1", "writer", attribute="writer", volumes=(data,))
    there = VolumeMount(path="/usr/share/there", name="v", read_only=True, key=data.key)
    part = VolumeMount(path="/part", name="w", sub_path="sub", key=data.key)
    kept = VolumeMount(path="/root/out", name="out", key="main/main/vo-2")
    mounts = {"volumes": (there, part, kept), "enable_memory_snapshot": True, "is_class": True}
    await run("ta-2", "Reader", attribute="web", **mounts)
    told = json.loads((out / "told").read_text())

    assert ["evil", "one", "sub"] == told["begun"]
    assert "one" == told["one"] == (shared / "one").read_text()
    assert "Read-only file system" in told["write"]
    assert ["evil", "one", "sub", "sub/two"] == told["listed"]
    assert "leads out of the volume" in told["evil"]
    assert (0, ["two"], None) == (told["owner"], told["beside"], told["reload"])
    assert {root_in_containers() or (os.getuid(), os.getgid())} == {
        (path.stat().st_uid, path.stat().st_gid) for path in (shared / "one", shared / "sub/two")
    }
    assert not (tmp_path / "app/out/told").exists()


async def test_a_volume_that_is_gone_fails_the_start_with_its_name(node, tmp_path):
    agent, watched, _volumes = node
    web = WebMethod(tag="writer", attribute="writer", kind=WebKind.WSGI)
    gone = VolumeMount(path="/data", name="models", key="main/main/vo-9")
    rest = {"module": "script", "source": str(tmp_path / "app"), "web": (web,)}
    await agent.start(order("ta-1", function="writer", volumes=(gone,), **rest), {})
    container = await watched.until(State.FAILED)

    assert "`models`" in container.reason
