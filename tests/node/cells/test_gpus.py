"""A container with a GPU finds the machine's driver in an image's own root; one without finds nothing."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homeport.cell import identity
from homeport.cell.report import Report
from homeport.contract import codec
from homeport.node.cells.gpus import Gpus
from homeport.node.cells.sandboxes import Cells
from homeport.node.cells.trees import Trees
from homeport.node.images.made import Made
from homeport.node.limits import driver
from homeport.node.limits.gpus import Files
from tests import isolation, registries
from tests.node.limits import libraries
from tests.node.limits.libraries import ANSWER, VERSION

#: A program that loads a library by its short name, without a single variable.
LOADS = """
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **words) {
  void *library = dlopen(words[1], RTLD_NOW);
  if (!library) { puts("none"); return 0; }
  printf("%d\\n", ((int (*)(unsigned))dlsym(library, "cuInit"))(0));
}
"""
LOOK = """
cd /
loads libcuda.so.1
env -i /usr/bin/loads libcuda.so.1
env -i LD_LIBRARY_PATH=/usr/local/nvidia/lib64 /usr/bin/loads libnvidia-nvvm.so.4
nvidia-smi || echo no program
(echo > /usr/local/nvidia/lib64/libcuda.so.VERSION) 2>/dev/null && echo written
ls /usr/local/nvidia/lib64 2>/dev/null | head -1
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A root file system with a shell and `loads`, and the folder of a driver."""
    import gzip
    import io
    import tarfile

    directory = tmp_path_factory.mktemp("root")
    directory.chmod(0o755)
    (root := directory / "files").mkdir()
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(registries.system(None)))) as tar:
        tar.extractall(root, filter="tar")
    libraries.compiled(root / "usr/bin/loads", LOADS)
    if (ids := identity.own()) is not None and os.getuid() == 0:
        first = str(ids.users[0][1])
        subprocess.run(["chown", "-R", "-h", f"{first}:{first}", root], check=True)
    folder = libraries.build(directory / "nvidia")
    return Made(key="x", python="/usr/bin/loads", directory=directory, lowers=(str(root),)), folder


@pytest.fixture
def cells(tmp_path):
    """Makes cells on a machine with this driver."""
    told = isolation.needed("overlay")
    opened = []

    def make(folder: Path, told: Report = told) -> Cells:
        for name in ("cells", "lib"):
            (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / "params").write_text("A: 1\nModifyDeviceFiles: 1\nDeviceFileUID: 0\n")
        gpus = Gpus(
            Files(("/dev/null",), {"GPU-0": ("/dev/zero",)}),
            tmp_path,
            find=lambda: driver.find({"PATH": ""}, [str(folder)], cached=[]),
            parameters=str(tmp_path / "params"),
        )
        opened.append(Cells(tmp_path / "cells", tmp_path / "lib", told, gpus=gpus))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def looked(cells: Cells, made: Made, devices: "list[str]", code: str = LOOK) -> "list[str]":
    """What a shell prints in a container with these devices."""
    with contextlib.closing(Trees(cells._opener)) as trees:
        links = cells._gpus.add_driver(trees) if devices else {}
        order = {
            "cell": codec.encode(cells.sandbox(made).cell),
            "argv": ["/bin/sh", "-c", code.replace("VERSION", VERSION)],
            "cwd": "/",
            "trees": [*zip(trees.request(), trees.descriptors, strict=True)],
            "links": links,
        }
        environ = {**os.environ, "PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": ""}
        done = subprocess.run(
            [sys.executable, "-m", "homeport.cell", json.dumps(order)],
            capture_output=True,
            text=True,
            pass_fds=trees.descriptors,
            check=False,
            env=environ,
        )
    assert 0 == done.returncode or "cannot be made" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def test_a_container_with_a_gpu_loads_the_driver_of_this_machine(cells, made):
    image, folder = made

    answer, first = str(ANSWER), "libcuda.so.1"
    expected = [answer, answer, answer, f"GPU 0: of driver {VERSION}", first]
    assert expected == looked(cells(folder), image, ["GPU-0"])


def test_a_container_without_one_sees_none_of_it(cells, made):
    image, folder = made

    assert ["none", "none", "none", "no program"] == looked(cells(folder), image, [])


def test_the_machines_driver_is_found_before_what_the_image_brings(cells, made, tmp_path):
    image, folder = made
    code = """
    for place in /usr/lib/*-linux-gnu /usr/lib64; do
      [ -e $place/libc.so.6 ] && cat $place/libcuda.so.1 > /dev/null && ls -l $place/libcuda.so.1
    done
    loads libcuda.so.1
    """
    with stale(image):
        told = looked(cells(folder), image, ["GPU-0"], code)

    assert f"/usr/local/nvidia/lib64/libcuda.so.{VERSION}" in told[0]
    assert str(ANSWER) == told[-1]


@contextlib.contextmanager
def stale(image: Made):
    """Leave in the image what a `docker commit` leaves there: an empty library, and a link to nothing."""
    root = Path(image.lowers[0])
    (libc,) = {path.parent for path in root.glob("usr/lib*/**/libc.so.6")}
    left = [libc / "libcuda.so.1", libc / "libnvidia-ml.so.1"]
    left[0].touch()
    left[1].symlink_to("libnvidia-ml.so.535.1.2")
    owner = root.stat()
    for path in left:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    yield
    for path in left:
        path.unlink()


def test_a_driver_that_is_replaced_while_the_server_runs_is_found_again(cells, made, tmp_path):
    image, folder = made
    shutil.copytree(folder.parent, tmp_path / "nvidia", symlinks=True)
    (mine, here) = (tmp_path / "nvidia/lib64", cells(tmp_path / "nvidia/lib64"))
    assert str(ANSWER) in looked(here, image, ["GPU-0"])
    for path in mine.glob(f"*.so.{VERSION}"):
        path.rename(path.with_name(path.name.replace(VERSION, "585.1.2")))
    told = looked(here, image, ["GPU-0"], "loads libcuda.so.1; ls /usr/local/nvidia/lib64")

    assert str(ANSWER) == told[0]
    assert "libcuda.so.585.1.2" in told


def test_a_library_that_disappears_just_now_is_left_out(cells, made, caplog, monkeypatch):
    image, folder = made
    gone = f"{folder}/libnvidia-nvvm.so.{VERSION}"
    add = Trees.add

    def fails(self, path, mount, **how):
        if path == gone:
            raise FileNotFoundError(2, "No such file or directory")
        add(self, path, mount, **how)

    monkeypatch.setattr(Trees, "add", fails)
    told = looked(cells(folder), image, ["GPU-0"], "loads libcuda.so.1; loads libnvidia-nvvm.so.4")

    assert [str(ANSWER), "none"] == told
    assert f"a container does not see {gone}: No such file or directory" in caplog.text


def test_libraries_must_not_touch_the_device_files_of_a_container(cells, made, tmp_path):
    here = cells(made[1])
    with contextlib.closing(Trees(here._opener)) as trees:
        links = here._gpus.add(trees, ["GPU-0"], rooted=False)
        paths = [mount["target"] for mount in trees.request()]

    assert {} == links  # with this machine's /usr the driver is there
    assert {"/dev/null", "/dev/zero", str(tmp_path / "params")} == set(paths)
    text = (tmp_path / "nvidia-params").read_text()
    assert "A: 1\nModifyDeviceFiles: 0\nDeviceFileUID: 0\n" == text


def test_only_a_root_of_its_own_needs_a_variable_for_the_loader(cells, made):
    image, folder = made
    here = cells(folder)
    plain = Made(key="y", python=sys.executable, directory=image.directory)

    place = "/usr/local/nvidia/lib64"
    assert place == here.environ({}, image)["LD_LIBRARY_PATH"]
    before = here.environ({"LD_LIBRARY_PATH": f"/opt/lib:{place}"}, image)["LD_LIBRARY_PATH"]
    assert f"/opt/lib:{place}" == before
    assert "LD_LIBRARY_PATH" not in here.environ({}, plain)


def test_a_driver_outside_usr_is_shown_to_images_with_this_machines_files(cells, made):
    image, folder = made
    plain = Made(key="y", python=sys.executable, directory=image.directory)
    shown = {bind.place for bind in cells(folder).sandbox(plain).cell.binds}

    assert {str(folder), str(folder.parent / "bin")} <= shown


def test_without_a_driver_nothing_is_looked_for(tmp_path):
    gpus = Gpus(Files(), tmp_path, find=lambda: 1 / 0)

    assert ((), (), {"A": "1"}) == (gpus.points, gpus.folders, gpus.environ({"A": "1"}))
    with contextlib.closing(Trees(None)) as trees:
        assert ({}, {}) == (gpus.add(trees, ["GPU-0"], rooted=True), gpus.add_driver(trees))
