"""A registry for the tests, and small images in it: Debian's `docker-registry`, filled by skopeo."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.waiting import wait_for

USER, PASSWORD = "captain", "hold-fast"
#: bcrypt of the password, as `htpasswd -nbB` writes it.
HTPASSWD = f"{USER}:$2b$05$ogrVGIHJ5CHElNCA1ramHui9EqUm8UXqEM9JhtRVG2elAex96FIE2\n"
#: Files of a small root file system; those that this machine lacks are left out.
PROGRAMS = (
    "sh",
    "cat",
    "chmod",
    "cp",
    "env",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "touch",
    "sleep",
    "head",
    "rmdir",
    "stat",
)
#: Further files, which uv and the resolver of host names need.
OF_UV = (
    "libgcc_s.so.1",
    "librt.so.1",
    "libpthread.so.0",
    "libdl.so.2",
    "libm.so.6",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libresolv.so.2",
)
CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {storage}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
AUTH = "auth: {{htpasswd: {{realm: homeport, path: {file}}}}}\n"


@dataclass
class Registry:
    """A running registry and its address."""

    host: str
    directory: Path
    private: bool = False
    pushed: list[str] = field(default_factory=list)

    def push(self, name: str, layers: Sequence[bytes], **config: object) -> str:
        """Push an image; return its reference by tag. `config` has options such as `Env=[…]`."""
        layout = self.directory / name.replace("/", "-").replace(":", "-")
        digest = write_layout(layout, layers, config)
        words = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
        words += ["--dest-creds", f"{USER}:{PASSWORD}"] if self.private else []
        reference = f"{self.host}/{name}"
        subprocess.run([*words, f"oci:{layout}:image", f"docker://{reference}"], check=True)
        self.pushed.append(digest)
        return reference


@contextlib.contextmanager
def running(directory: Path, *, private: bool = False) -> Iterator[Registry]:
    """Run a registry until the block ends; skip the test if its program is missing."""
    program = shutil.which("docker-registry")
    if program is None or shutil.which("skopeo") is None:
        pytest.skip(
            "there is no docker-registry or no skopeo: apt-get install docker-registry skopeo"
        )
    directory.mkdir()
    port = free_port()
    text = CONFIG.format(storage=directory / "storage", port=port)
    if private:
        (directory / "htpasswd").write_text(HTPASSWD)
        text += AUTH.format(file=directory / "htpasswd")
    (directory / "config.yml").write_text(text)
    # Without the home of the test that runs now: whatever names that home ends with that test.
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HOMEPORT_")}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", directory / "config.yml"], stdout=log, stderr=log, env=environ
        )
    try:
        _wait(f"http://127.0.0.1:{port}/v2/", process, directory / "log")
        yield Registry(f"127.0.0.1:{port}", directory, private)
    finally:
        process.kill()
        process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return True  # it wants a password, so it answers
        except OSError:
            return False
        return True

    wait_for(answers, "the registry")


def write_layout(layout: Path, layers: Sequence[bytes], config: dict[str, object]) -> str:
    """Write an OCI layout with one image; return its manifest's digest."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    base = "application/vnd.oci.image"
    described = [blob(layer, f"{base}.layer.v1.tar{_suffix(layer)}") for layer in layers]
    plain = [f"sha256:{hashlib.sha256(_plain(layer)).hexdigest()}" for layer in layers]
    told = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": plain},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{base}.manifest.v1+json",
        "config": blob(json.dumps(told).encode(), f"{base}.config.v1+json"),
        "layers": described,
    }
    entry = blob(json.dumps(manifest).encode(), f"{base}.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "image"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(entry["digest"])


def layer(files: dict[str, str | bytes], *, executables: Iterable[str] = ()) -> bytes:
    """Return a compressed layer with these files; names that begin with `.wh.` are whiteouts."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755 if name in executables else 0o644
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(out.getvalue(), 1)


def system(python: str | None = "/usr/bin/python3") -> bytes:
    """Return a layer with a shell, a few programs and optionally a Python of this machine."""
    out = io.BytesIO()
    added: set[str] = set()
    with tarfile.open(fileobj=out, mode="w") as tar:

        def add(path: str) -> None:
            if path not in added and os.path.lexists(path):
                added.add(path)
                tar.add(os.path.realpath(path), path, filter=_of_root)

        for top in ("bin", "lib", "lib64", "sbin"):
            if os.path.islink(f"/{top}"):
                below = tarfile.TarInfo(os.readlink(f"/{top}"))
                below.type, below.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(below)
                tar.add(f"/{top}", top, filter=_of_root)
        programs = [p for name in PROGRAMS if (p := shutil.which(name, path="/usr/bin:/bin"))]
        for path in programs:
            add(path)
            for needed in _libraries(path):
                add(needed)
        for name in OF_UV:
            for path in Path("/lib").glob(f"*-linux-gnu/{name}"):  # uv wants it, and name services
                add(str(path))
        if python is not None:
            _add_python(tar, add, os.path.realpath(python))
        _text(tar, "etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        _text(tar, "etc/group", "root:x:0:\n")
    return gzip.compress(out.getvalue(), 1)


def _add_python(tar: tarfile.TarFile, add, python: str) -> None:
    code = (
        "import sys,sysconfig,glob,json; d=sysconfig.get_path('stdlib');"
        "print(json.dumps([sys.prefix, d, glob.glob(d+'/lib-dynload/*.so')]))"
    )
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    prefix, library, modules = json.loads(done.stdout)
    add(python)
    for path in (python, *modules):
        for needed in _libraries(path):
            add(needed)
    tar.add(library, library, filter=_small)
    for name in ("python3", "python"):
        place = f"{prefix}/bin/{name}"
        link = tarfile.TarInfo(place)
        link.type, link.linkname = tarfile.SYMTYPE, os.path.basename(python)
        if place != python:
            tar.addfile(link)


def _small(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    left_out = ("/test", "/tests", "/idlelib", "/__pycache__", "/site-packages", "/dist-packages")
    left_out += ("/tkinter", "/ensurepip", "/lib2to3", "/turtledemo", "/EXTERNALLY-MANAGED")
    if f"/{member.name}".endswith(left_out) or "/config-3" in member.name:
        return None
    return _of_root(member)


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _libraries(path: str) -> list[str]:
    done = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    words = [word for line in done.stdout.splitlines() for word in line.split()]
    return [word for word in words if word.startswith("/")]


def _text(tar: tarfile.TarFile, name: str, content: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content.encode()))


def _suffix(layer: bytes) -> str:
    return "+gzip" if layer[:2] == b"\x1f\x8b" else "+zstd" if layer[:2] == b"\x28\xb5" else ""


def _plain(layer: bytes) -> bytes:
    if _suffix(layer) == "+gzip":
        return gzip.decompress(layer)
    if _suffix(layer) == "+zstd":
        try:
            from compression import zstd
        except ImportError:
            from backports import zstd
        return zstd.decompress(layer)
    return layer
