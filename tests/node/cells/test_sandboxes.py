"""What a node's cells contain, and how the files that they wrote are removed."""

import contextlib
import dataclasses
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from homeport.cell.report import Report
from homeport.contract import codec
from homeport.contract.errors import BadRequest
from homeport.node.cells import sandboxes
from homeport.node.cells.gpus import Gpus
from homeport.node.cells.sandbox import Sandbox
from homeport.node.cells.sandboxes import Cells, end_left, imported_from
from homeport.node.cells.trees import Trees
from homeport.node.images.made import Made
from homeport.node.limits.gpus import Files
from tests import isolation
from tests.orders import launch

IMPOSSIBLE = Report(possible=False, why="the sysctl x is 0", hint="`sysctl -w x=1`")
POSSIBLE = Report(possible=True, overlay=True, ids=65536, network=True)


@pytest.fixture
def cells(tmp_path):
    cells = Cells.open("on", tmp_path / "cells", tmp_path / "lib", lambda _root: POSSIBLE)
    assert cells is not None
    yield cells
    cells.close()


@pytest.fixture
def sandbox(cells, tmp_path) -> Sandbox:
    (tmp_path / "lib").mkdir()
    return cells.sandbox(Made(key="default", python=sys.executable, directory=tmp_path / "none"))


def test_without_user_namespaces_on_refuses_to_start_and_says_what_is_missing(tmp_path):
    with pytest.raises(BadRequest, match="the sysctl x is 0") as refused:
        Cells.open("on", tmp_path / "cells", tmp_path, lambda _root: IMPOSSIBLE)

    assert "`sysctl -w x=1`" == refused.value.hint


def test_without_user_namespaces_auto_goes_on_with_one_warning(tmp_path, caplog):
    found = Cells.open("auto", tmp_path / "cells", tmp_path, lambda _root: IMPOSSIBLE)

    assert found is None
    assert ["containers are not isolated: the sysctl x is 0. Hint: `sysctl -w x=1`"] == [
        record.getMessage() for record in caplog.records
    ]


def test_off_asks_nothing(tmp_path):
    assert Cells.open("off", tmp_path / "cells", tmp_path, lambda _root: 1 / 0) is None


def test_a_cell_shows_the_interpreter_and_homeport_and_not_the_home(sandbox, tmp_path):
    shown = [bind.place for bind in sandbox.cell.binds]

    assert {"/usr", str(Path(sys.executable).parent.parent), str(tmp_path / "lib")} <= set(shown)
    assert not any(tmp_path.is_relative_to(place) for place in shown)


def test_modules_that_a_pth_file_adds_are_imported_in_a_cell_too():
    found = imported_from(sys.executable)

    assert any(path.endswith("site-packages") for path in found)
    assert os.getcwd() not in found or os.getcwd() in sys.path[1:]


def test_variables_are_those_of_the_cell(cells):
    given = {"HOME": "/home/me", "USER": "me", "TMPDIR": "/run/x", "A": "1"}
    found = cells.environ(given, Made(key="x", python=sys.executable, directory=Path("/none")))

    told = {name: found[name] for name in ("HOME", "USER", "TMPDIR", "A")}
    assert {"HOME": "/root", "USER": "root", "TMPDIR": "/tmp", "A": "1"} == told


def test_packages_of_the_servers_user_are_found_unless_the_image_has_its_own(cells, monkeypatch):
    monkeypatch.setattr(sandboxes.site, "ENABLE_USER_SITE", True)
    monkeypatch.setattr(sandboxes.site, "getuserbase", lambda: "/home/me/.local")
    image = Made(key="x", python=sys.executable, directory=Path("/none"))

    assert "/home/me/.local" == cells.environ({}, image)["PYTHONUSERBASE"]
    assert "/its" == cells.environ({"PYTHONUSERBASE": "/its"}, image)["PYTHONUSERBASE"]
    assert "PYTHONUSERBASE" not in cells.environ({"VIRTUAL_ENV": "/layers/x"}, image)


def test_a_removed_container_takes_empty_directories_along_and_nothing_else(cells, sandbox):
    nested = sandbox.below("f1")
    for directory in (nested.storage / "1", nested.storage / "2"):
        (directory / "root").mkdir(parents=True)

    cells.remove(str(nested.storage / "1"))
    assert ["2"] == os.listdir(nested.storage)
    sandbox.release()
    nested.release()
    assert ["2"] == os.listdir(nested.storage)
    cells.remove(str(nested.storage / "2"))
    assert not sandbox.storage.exists()
    assert sandbox.storage.parent.exists()


def test_a_directory_stays_while_its_zygote_may_fork(cells, sandbox):
    nested = sandbox.below("f1")
    for _ in range(2):
        (nested.storage / "1").mkdir(parents=True, exist_ok=True)
        cells.remove(str(nested.storage / "1"))
        assert [] == os.listdir(nested.storage)
    nested.release()
    assert [] == os.listdir(sandbox.storage)
    sandbox.release()
    assert not sandbox.storage.exists()


def test_a_sweep_keeps_what_containers_still_write_in(cells, sandbox, tmp_path):
    other = cells.sandbox(Made(key="other", python=sys.executable, directory=tmp_path / "none"))
    (sandbox.storage / "1").mkdir()
    (other.storage / "1").mkdir()

    cells.sweep([str(sandbox.storage / "1")])
    assert (sandbox.storage / "1").exists()
    assert not other.storage.exists()


def test_the_disk_that_a_container_takes_is_what_it_has_written(cells, sandbox):
    (sandbox.storage / "1").mkdir()
    (sandbox.storage / "1/big").write_bytes(os.urandom(3 * 1024**2))

    assert 3.0 <= cells.disk_mib(str(sandbox.storage / "1")) < 3.2


def test_a_single_id_is_used_if_a_range_did_not_work(tmp_path):
    told = dataclasses.replace(POSSIBLE, ids=1)
    cells = Cells.open("on", tmp_path / "cells", tmp_path, lambda _root: told)
    assert cells is not None
    found = cells.sandbox(Made(key="x", python=sys.executable, directory=tmp_path)).cell.ids
    cells.close()

    assert found is None


@pytest.fixture
def left(tmp_path):
    """Start a cell's first process and its child, as if an earlier server had left them."""
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    order = json.dumps({"cell": {"storage": f"{tmp_path}/cells/4f"}})
    process = subprocess.Popen([sys.executable, "-c", code, order], start_new_session=True)
    first = psutil.Process(process.pid)
    while not first.children():
        process.poll()
    children = first.children()
    yield first
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.kill()
    process.wait()


def test_unrecorded_processes_of_an_earlier_server_end(left, tmp_path):
    (child,) = left.children()
    end_left(tmp_path / "cells", [])

    gone, _ = psutil.wait_procs([left, child], timeout=30)
    assert {left, child} == set(gone)


def test_a_container_that_goes_on_keeps_the_processes_above_it(left, tmp_path):
    (child,) = left.children()
    end_left(tmp_path / "cells", [child.pid])
    end_left(tmp_path / "elsewhere", [])

    assert child.is_running()
    assert left.is_running()


LOOK = """
import json, os, sys
found = {}
for path in sys.argv[1:]:
    try:
        device = os.fstat(os.open(path, os.O_RDWR)).st_rdev
        found[os.path.basename(path)] = [os.major(device), os.minor(device)]
    except OSError as error:
        found[os.path.basename(path)] = type(error).__name__
print(json.dumps(found))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may make a device")
def test_a_container_with_a_gpu_opens_its_own_and_no_other(tmp_path):
    told = isolation.needed()
    paths = {name: str(tmp_path / "dev" / name) for name in ("nvidiactl", "nvidia0", "nvidia1")}
    (tmp_path / "dev").mkdir()
    for minor, path in enumerate(paths.values(), 5):
        os.mknod(path, stat.S_IFCHR, os.makedev(1, minor))
        os.chmod(path, 0o666)
    own = {"GPU-0": (paths["nvidia0"],), "GPU-1": (paths["nvidia1"],)}
    cells = Cells(
        tmp_path / "cells",
        tmp_path / "lib",
        told,
        gpus=Gpus(Files((paths["nvidiactl"],), own), tmp_path, parameters=""),
    )
    (tmp_path / "cells").mkdir()
    (tmp_path / "lib").mkdir()
    made = Made(key="default", python=sys.executable, directory=tmp_path / "none")
    with contextlib.closing(Trees(cells._opener)) as trees:
        cells._gpus.add(trees, ["GPU-1"], rooted=False)
        pairs = zip(trees.request(), trees.descriptors, strict=True)
        order = {
            "cell": codec.encode(cells.sandbox(made).cell),
            "argv": [sys.executable, "-c", LOOK, *paths.values()],
            "trees": [*pairs],
        }
        words = [sys.executable, "-m", "homeport.cell", json.dumps(order)]
        done = subprocess.run(
            words, capture_output=True, text=True, pass_fds=trees.descriptors, check=False
        )
    cells.close()

    assert "" == done.stderr
    no_device = [0, 0]  # an empty file, where others' devices are mounted
    assert {"nvidiactl": [1, 5], "nvidia0": no_device, "nvidia1": [1, 7]} == json.loads(done.stdout)


@pytest.fixture
def zygote():
    """A process in a user namespace of its own, as a zygote is."""
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", "echo; cat"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, **pipes) as process:
        assert b"\n" == process.stdout.readline()
        yield process.pid
        process.stdin.close()


@pytest.mark.skipif(os.getuid() != 0, reason="root has the ids of the made-up zygote")
def test_a_container_joins_its_cgroup_by_a_descriptor(tmp_path, zygote):
    told = isolation.needed()
    for name in ("cells", "lib", "source", "group"):
        (tmp_path / name).mkdir()
    (
        tmp_path / "group/cgroup.procs"
    ).touch()  # stands for the kernel's file, which the cell does not show
    cells = Cells(tmp_path / "cells", tmp_path / "lib", told)
    made = Made(key="default", python=sys.executable, directory=tmp_path / "none")
    order = launch(source=str(tmp_path / "source"), cgroup=str(tmp_path / "group"))
    assert "" == cells.inside(order).cgroup
    reader, writer = os.pipe()
    with cells.for_container(order, writer, zygote) as handed:
        assert handed.request["cgroup"]
        assert len(handed.request["mounts"]) + 1 == len(handed.descriptors)
        cell = {
            "cell": codec.encode(cells.sandbox(made).cell),
            "argv": ["/bin/sh", "-c", "ls /proc/self/fd"],
            "cgroup": handed.descriptors[-1],
        }
        words = [sys.executable, "-m", "homeport.cell", json.dumps(cell)]
        done = subprocess.run(
            words, capture_output=True, text=True, pass_fds=handed.descriptors[-1:], check=False
        )
    for descriptor in (reader, writer):
        os.close(descriptor)
    cells.close()

    assert "" == done.stderr
    assert "0" == (tmp_path / "group/cgroup.procs").read_text()  # the process that writes
    assert str(cell["cgroup"]) not in done.stdout.split()  # and the program has nothing of it


@pytest.mark.parametrize(
    ("host", "is_name"),
    [
        ("me--shop-f.localhost", True),
        ("api.example.com", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("fe80::a", False),
        ("", False),
    ],
)
def test_only_names_of_hosts_are_written_into_a_cells_list_of_hosts(host, is_name):
    assert is_name is sandboxes._is_name(host)
