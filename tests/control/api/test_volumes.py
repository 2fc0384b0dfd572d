"""Files of volumes over HTTP: streams, names, and odd files that containers have made."""

import contextlib
import json
import os

import httpx
import pytest

from homeport.contract.capacity import Capacity
from homeport.contract.manifest import VolumeMount
from tests.control.api.served import on_a_socket
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode

NODE = Capacity(cores=4, memory_mib=4096, has_mounts=True)


@contextlib.asynccontextmanager
async def volume(home):
    """A volume `v`: its caller, its directory and the plane."""
    plane = Plane(home, FakeNode(0.01, capacity=NODE))
    async with plane, on_a_socket(plane, home):
        row = await plane.volumes.create("v")
        transport = httpx.AsyncHTTPTransport(uds=str(plane.settings.control_socket))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://homeport/v1/volumes/v", timeout=60
        ) as http:
            yield http, plane.volumes.directory(row) / "files", plane


def said(answer: httpx.Response) -> tuple[str, str]:
    error = answer.json()["error"]
    return error["kind"], error["message"]


async def test_a_large_file_goes_in_and_out_in_pieces(tmp_path):
    async with volume(tmp_path) as (http, files, _plane):
        piece = os.urandom(1024**2)

        async def content():
            for _ in range(20):
                yield piece

        put = await http.put("/file?path=a/big&mode=640", content=content())
        assert 204 == put.status_code
        assert 0o640 == (files / "a/big").stat().st_mode & 0o777
        received = 0
        async with http.stream("GET", "/file?path=a/big") as answer:
            assert str(20 * len(piece)) == answer.headers["content-length"]
            async for chunk in answer.aiter_bytes():
                received += len(chunk)
        assert 20 * len(piece) == received
        assert piece == (files / "a/big").read_bytes()[-len(piece) :]


async def test_an_upload_that_is_cut_off_leaves_nothing(tmp_path):
    async with volume(tmp_path) as (http, files, _plane):

        async def content():
            yield b"x" * 3 * 1024**2
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await http.put("/file?path=a", content=content())
        while list((files.parent / "staging").iterdir()):
            await http.get("/files")  # until the server has noticed

        assert [] == list(files.iterdir())


async def test_a_file_that_exists_is_kept(tmp_path):
    async with volume(tmp_path) as (http, files, _plane):
        await http.put("/file?path=a", content=b"first")
        refused = await http.put("/file?path=a", content=b"second")
        kept = (files / "a").read_bytes()
        await http.put("/file?path=a&force=1", content=b"third")

        assert (409, "AlreadyExists") == (refused.status_code, said(refused)[0])
        assert (b"first", b"third") == (kept, (files / "a").read_bytes())


@pytest.mark.parametrize(
    "path", ["../../../secret", "link", "up/secret", "/../staging", "%00", "fifo", "dir", "none"]
)
async def test_nothing_but_files_of_the_volume_can_be_read(tmp_path, path):
    (tmp_path / "secret").write_text("secret")
    async with volume(tmp_path) as (http, files, _plane):
        (files / "link").symlink_to(tmp_path / "secret")
        (files / "up").symlink_to(tmp_path)
        os.mkfifo(files / "fifo")
        (files / "dir").mkdir()

        for method, route in (("GET", "file"), ("DELETE", "file"), ("PUT", "file")):
            if path in ("link", "fifo") and method != "GET":
                continue  # they belong to the container, and may be removed
            answer = await http.request(method, f"/{route}?path={path}", content=b"x")
            if (method, path) == ("PUT", "none"):
                assert 204 == answer.status_code
                continue
            assert answer.status_code in (400, 404, 409), (method, answer.text)
            assert "secret" not in answer.text.replace(path, "")
        assert "secret" == (tmp_path / "secret").read_text()


async def test_a_listing_tells_of_names_that_are_not_text(tmp_path):
    async with volume(tmp_path) as (http, files, _plane):
        (files / os.fsdecode(b"\xff\x1b[31m")).write_text("x")
        for number in range(1200):  # more than are read at once
            (files / f"f{number}").touch()
        lines = [json.loads(line) for line in (await http.get("/files")).text.split("\n") if line]
        missing = await http.get("/files?path=none")

        assert 1201 == len(lines)
        assert "\\xff\x1b[31m" in {line["path"] for line in lines}
        assert (404, "NotFound") == (missing.status_code, said(missing)[0])


async def test_a_volume_in_use_is_not_deleted(tmp_path):
    async with volume(tmp_path) as (http, files, plane):
        mount = VolumeMount(path="/data", name="v")
        await plane.deploy(manifest(function("f", volumes=(mount,))))
        refused = await http.delete("http://homeport/v1/volumes/v")

        assert (400, ("BadRequest", "the volume `v` is used by `shop`")) == (
            refused.status_code,
            said(refused),
        )
        assert files.is_dir()


async def test_a_manifest_cannot_name_a_directory_itself(tmp_path):
    async with volume(tmp_path) as (http, _files, _plane):
        mount = {"path": "/data", "name": "v", "key": "../../.."}
        spec = {"name": "f", "module": "m", "qualname": "f", "volumes": [mount]}
        spec["web"] = [{"tag": "f", "attribute": "f", "kind": "fastapi_endpoint"}]
        body = {"manifest": {"app_name": "shop", "functions": [spec]}}
        answer = await http.post("http://homeport/v1/apps/shop/deploy", json=body)

        assert "the server itself says which volume a name means" in answer.text
