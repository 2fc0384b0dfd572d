"""Volumes: written by one function and read by another, after a redeploy and a restart; and by the command line."""

import os
import textwrap

import pytest

from tests import isolation
from tests.waiting import wait_for

APP = """
    import os
    import modal

    app = modal.App("vols", volumes={"/shared/": modal.Volume.from_name("shared", create_if_missing=True)})
    volume = modal.Volume.from_name("data", create_if_missing=True)

    @app.function(volumes={"/data": volume})
    @modal.fastapi_endpoint()
    def write(text: str):
        with open("/data/x", "a") as file:
            file.write(text)
        volume.commit()
        with volume.batch_upload(force=True) as batch:
            batch.put_file("/data/x", "put/y")
        for path, to in (("/data/evil", "/etc/passwd"), ("/data/up", "../..")):
            if not os.path.lexists(path):
                os.symlink(to, path)
        open("/shared/VERSION", "w").close()
        return sorted(entry.path for entry in volume.iterdir("/"))

    @app.cls(volumes={"/root/deep/er": volume.read_only()}, enable_memory_snapshot=SNAPSHOT)
    class Reader:
        @modal.enter(snap=SNAPSHOT)
        def begin(self):
            self.begun = os.listdir("/root/deep/er")

        @modal.fastapi_endpoint()
        def read(self):
            volume.reload()
            try:
                open("/root/deep/er/new", "w")
            except OSError as error:
                refused = error.strerror
            got = b"".join(volume.read_file("x")).decode()
            owner = os.stat("/root/deep/er/x").st_uid
            return [sorted(self.begun), open("/root/deep/er/x").read(), got, refused, owner]

    @app.function(volumes={"/usr/share/part": volume.with_mount_options(sub_path="put")})
    @modal.fastapi_endpoint()
    def part():
        return [os.listdir("/usr/share/part"), os.listdir("/shared"), os.path.exists("/usr/share/zoneinfo")]
"""


@pytest.fixture(params=["terminal", "ordinary"])
def isolated(request):
    isolation.needed()
    user = request.getfixturevalue(request.param)
    user.environ["HOMEPORT_ISOLATION"] = "on"
    return user


def script(terminal, *, version: str = "1", snapshot: bool = False):
    directory = terminal.home.parent / "app"
    directory.mkdir(exist_ok=True)
    path = directory / "script.py"
    text = textwrap.dedent(APP).replace("VERSION", version).replace("SNAPSHOT", str(snapshot))
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "snapshot", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["plain", "snapshot"]
)
def test_functions_share_a_volume_that_outlives_them(isolated, visitor, snapshot):
    def ask(tag, **query):
        answer = visitor.get(isolated.urls()[tag], params=query)
        assert 200 == answer.status_code, answer.text
        return answer.json()

    isolated.json("volume", "create", "data", "--json")
    isolated.deploy(script(isolated, snapshot=snapshot))

    assert ["evil", "put", "put/y", "up", "x"] == ask("write", text="one")
    begun, *told = ask("Reader.read")
    assert ["one", "one", "Read-only file system", 0] == told
    assert "put" in begun, "the volume was not there yet when the enter hook ran"
    isolated.deploy(script(isolated, version="2", snapshot=snapshot))
    ask("write", text=" two")
    assert "one two" == ask("Reader.read")[1]
    isolated.run("down")
    isolated.run("up")
    assert [["y"], ["1", "2"], True] == [
        sorted(x) if isinstance(x, list) else x for x in ask("part")
    ]
    assert "one two" == ask("Reader.read")[1]


@pytest.mark.parametrize(
    "isolated", ["terminal", pytest.param("ordinary", marks=pytest.mark.soak)], indirect=True
)
def test_the_command_line_lists_reads_and_deletes_files_of_a_volume(isolated):
    local = isolated.home.parent / "local"
    (local / "sub").mkdir(parents=True)
    (local / "sub/a").write_text("a")
    (local / "b").write_bytes(os.urandom(3_000_000))
    isolated.run("volume", "create", "data")
    isolated.run("volume", "put", "data", local, "/in")
    again = isolated.run("volume", "put", "data", local / "b", "/in/b", check=False)
    isolated.run("volume", "put", "data", local / "b", "/in/", "--force")
    isolated.run("volume", "cp", "data", "/in/b", "/copy")
    listed = isolated.json("volume", "ls", "data", "-r", "--json")
    (told,) = isolated.json("volume", "list", "--json")
    isolated.run("volume", "get", "data", "/in", isolated.home.parent / "out")
    shown = isolated.run("volume", "get", "data", "in/sub/a", "-").stdout
    isolated.run("volume", "rm", "data", "/in", "-r")
    isolated.run("volume", "rename", "data", "kept")
    unasked = isolated.run("volume", "delete", "kept", check=False)

    assert (1, True) == (again.returncode, "--force" in again.stderr)
    assert ["copy", "in", "in/b", "in/sub", "in/sub/a"] == [entry["path"] for entry in listed]
    assert ("data", 3) == (told["name"], told["files"])
    assert told["size_bytes"] > 6_000_000
    assert "a" == shown == (isolated.home.parent / "out/sub/a").read_text()
    assert (local / "b").read_bytes() == (isolated.home.parent / "out/b").read_bytes()
    assert "--yes" in unasked.stderr
    isolated.run("volume", "delete", "kept", "--yes")
    assert [] == isolated.json("volume", "list", "--json")


def test_a_volume_that_an_app_uses_is_kept_and_its_links_lead_nowhere(isolated, visitor):
    urls = isolated.deploy(script(isolated))
    visitor.get(urls["write"], params={"text": "x"})
    refused = isolated.run("volume", "delete", "data", "--yes", check=False)
    links = [
        isolated.run("volume", "get", "data", p, "-", check=False) for p in ("evil", "up/lock")
    ]
    isolated.run("app", "stop", "vols", "--yes")
    delete = ("volume", "delete", "data", "--yes")
    wait_for(lambda: isolated.run(*delete, check=False).returncode == 0, "the volume is free")

    assert "used by `vols`" in refused.stderr
    assert ["", ""] == [done.stdout for done in links]
    assert all("leads out of the volume" in done.stderr for done in links)


def test_without_isolation_a_deploy_says_what_to_do(terminal):
    terminal.environ["HOMEPORT_ISOLATION"] = "off"
    refused = terminal.run("deploy", script(terminal), check=False)

    assert 1 == refused.returncode
    assert "HOMEPORT_ISOLATION=auto" in refused.stderr
    assert "Traceback" not in refused.stderr
