"""`release/Containerfile`: buildah makes the image, runc starts it, and an app that is deployed there answers.

The base image comes from Debian's packages, because a test must not need a registry of images.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import machines
from tests.waiting import PATIENCE_S, wait_for

ROOT = Path(__file__).parents[2]
NEEDED = ("mmdebstrap", "buildah", "runc", "nsenter", "curl")
LACKS = [program for program in NEEDED if shutil.which(program) is None]
NAME = "homeport-of-a-test"
SCRIPT = """
import modal

app = modal.App("hello")


@app.function()
@modal.fastapi_endpoint()
def hello():
    return "hello"
"""
#: Ports below 1024, as docs/contributing/release.md says it for podman.
SYSCTL = {"net.ipv4.ip_unprivileged_port_start": "80"}

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a base image"),
    pytest.mark.skipif(bool(LACKS), reason=f"not installed: {' '.join(LACKS)}"),
]


class Store:
    """Images of this test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str | Path, **kwargs) -> str:
        """Run buildah; return what it prints."""
        own = ["--root", self.folder / "images", "--runroot", self.folder / "mounts"]
        done = subprocess.run(
            ["buildah", *own, *words], capture_output=True, text=True, check=False, **kwargs
        )
        assert 0 == done.returncode, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def base(self) -> str:
        """Make an image with `python` and `pip`, as the official ones have them."""
        root = machines.debian(self.folder, "ca-certificates,python3,python3-pip")
        (root / "usr/bin/python").symlink_to("python3")
        for path in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            path.unlink()
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, root, "/")
        self.run("commit", "--quiet", "--rm", container, "base")
        return "localhost/base"


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    """A store of images; everything that is mounted is unmounted at the end."""
    store = Store(tmp_path)
    yield store
    subprocess.run(["runc", "delete", "--force", NAME], check=False, capture_output=True)
    store.run("rm", "--all")
    store.run("rmi", "--all", "--force")


def test_the_image_serves_an_app_and_ends_on_sigterm(store, tmp_path):
    (context := tmp_path / "context").mkdir()
    shutil.copytree(ROOT / "release", context / "release")
    wheel = ["uv", "build", "-q", "--wheel", "--out-dir", context / "dist", ROOT]
    subprocess.run(wheel, check=True)
    words = ["--isolation", "chroot", "--build-arg", f"BASE={store.base()}"]
    store.run(
        "build", *words, "--file", "release/Containerfile", "--tag", "homeport", ".", cwd=context
    )
    image = json.loads(store.run("inspect", "--type", "image", "localhost/homeport"))
    container = store.run("from", "localhost/homeport")
    root = Path(store.run("mount", container))
    (root / "home/homeport/hello.py").write_text(SCRIPT)
    bundle(tmp_path, root, image["OCIv1"]["config"])

    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            ["runc", "run", "--bundle", tmp_path, NAME], stdout=log, stderr=log
        )
    try:
        up = wait_for(lambda: "homeport is up" in (tmp_path / "log").read_text(), "the server")
        told = inside("homeport", "deploy", "hello.py", "--json")
        url = json.loads(told)["endpoints"][0]["url"]
        pid = json.loads(subprocess.check_output(["runc", "state", NAME]))["pid"]
        host = url.removeprefix("http://")
        asked = ["curl", "-s", "-H", f"Host: {host}", "http://127.0.0.1:80/"]
        answer = subprocess.check_output(["nsenter", "-t", str(pid), "-n", *asked], text=True)
        subprocess.run(["runc", "kill", NAME, image["OCIv1"]["config"]["StopSignal"]], check=True)
        code = server.wait(PATIENCE_S)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()

    assert up
    assert '"hello"' == answer
    assert 0 == code


def bundle(folder: Path, root: Path, config: dict) -> None:
    """Write what runc reads: the image's own command, user and variables, and no capabilities."""
    subprocess.run(["runc", "spec", "--bundle", folder], check=True)
    path = folder / "config.json"
    spec = json.loads(path.read_text())
    spec["root"] = {"path": str(root), "readonly": False}
    [user] = [
        line.split(":")
        for line in (root / "etc/passwd").read_text().splitlines()
        if line.startswith(f"{config['User']}:")
    ]
    spec["process"] |= {
        "terminal": False,
        "args": config["Cmd"],
        "user": {"uid": int(user[2]), "gid": int(user[3])},
        "cwd": config["WorkingDir"],
        "env": [*config["Env"], f"HOME={user[5]}"],
        "capabilities": {},
    }
    spec["linux"]["sysctl"] = SYSCTL
    path.write_text(json.dumps(spec))


def inside(*words: str) -> str:
    """Run a command in the container, as its user; return what it prints."""
    done = subprocess.run(
        ["runc", "exec", NAME, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout
