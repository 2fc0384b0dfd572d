"""What a program finds in its cell, as root and as an ordinary user."""

import dataclasses
import json
import os
import secrets
import sys
from pathlib import Path

import pytest

from homeport.cell import host, mounts
from homeport.cell.description import Bind, Cell, Limits, Network


def python(account, cell: Cell, code: str, **given):
    """Return what the code prints as JSON when it runs in a cell."""
    finished = account.inside(cell, [account.python, "-c", f"import json, os\n{code}"], **given)
    assert (0, "") == (finished.returncode, finished.stderr)
    return json.loads(finished.stdout)


def test_a_program_is_root_of_a_machine_of_its_own(account):
    code = """
import socket
modes = [f"{os.stat(path).st_mode:o}" for path in ("/root", "/tmp", "/var/tmp", "/dev/shm")]
print(json.dumps([os.getuid(), os.getcwd(), socket.gethostname(), sorted(p for p in os.listdir("/proc") if p.isdigit()), modes]))
"""
    everybodys = "41777"

    assert [0, "/root", "homeport", ["1", "2"], ["40700", *[everybodys] * 3]] == (
        python(account, account.cell(), code)
    )


def test_the_exit_code_is_the_programs(account):
    cell = account.cell()

    assert 7 == account.inside(cell, ["sh", "-c", "exit 7"]).returncode
    cell = account.cell()
    assert 128 + 9 == account.inside(cell, ["sh", "-c", "kill -9 $$"]).returncode


def test_a_daemon_ends_with_its_container(account):
    marker = f"600.{secrets.randbelow(10**9)}"
    code = f"""
import subprocess
subprocess.Popen(["sleep", "{marker}"], start_new_session=True)
print(json.dumps(len([p for p in os.listdir("/proc") if p.isdigit()])))
"""
    started = python(account, account.cell(), code)

    assert 3 == started
    assert [] == [
        process
        for process in Path("/proc").glob("[0-9]*/cmdline")
        if marker.encode() in _content(process)
    ]


def test_files_that_a_program_writes_are_in_its_own_cell_alone(account):
    cell = account.cell()
    code = """
for path in ("/root/a", "/etc/hosts", "/tmp/b", "/opt/c/d"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").write("mine")
print(json.dumps([open(p).read() for p in ("/root/a", "/etc/hosts", "/tmp/b", "/opt/c/d")]))
"""

    assert ["mine"] * 4 == python(account, cell, code)
    assert "mine" != Path("/etc/hosts").read_text()
    there = {p.name for p in Path(cell.storage, "1/root/files").iterdir()}
    assert {"root", "etc", "tmp", "opt"} <= there
    assert 0o40700 == Path(cell.storage, "1").stat().st_mode


def test_a_root_in_memory_leaves_nothing_on_the_disk(account):
    cell = account.cell(overlay=False)
    code = 'open("/etc/new", "w").write("x"); print(json.dumps(os.path.exists("/etc/new")))'

    assert python(account, cell, code)
    assert [] == list(Path(cell.storage).rglob("new"))


def test_the_devices_of_a_cell_work(account):
    code = """
import multiprocessing
lock = multiprocessing.Lock()
master, other = os.openpty()
os.write(other, b"x")
with open("/dev/null", "w") as null: null.write("gone")
print(json.dumps([len(open("/dev/urandom", "rb").read(8)), os.read(master, 1).decode(), os.path.realpath("/dev/fd")[:5],
    sorted(os.listdir("/dev"))]))
"""
    length, echoed, descriptors, names = python(account, account.cell(), code)

    assert (8, "x", "/proc") == (length, echoed, descriptors)
    assert {"null", "zero", "full", "random", "urandom", "tty", "shm", "pts", "ptmx"} <= set(names)
    assert not [name for name in names if name.startswith(("sd", "vd", "nvme", "mem", "kmsg"))]


@pytest.mark.parametrize("network", [Network.NONE, Network.OWN], ids=str)
def test_a_loopback_of_its_own_lets_any_number_use_one_port(account, network):
    code = """
import socket
listener = socket.create_server(("127.0.0.1", 80))
visitor = socket.create_connection(("127.0.0.1", 80))
print(json.dumps(os.listdir("/sys/class/net") if os.path.isdir("/sys/class/net") else socket.if_nameindex()))
"""

    assert [[1, "lo"]] == python(account, account.cell(network=network), code)


def test_mounts_arrive_when_a_container_starts(account):
    source, data = account.mkdir("source"), account.mkdir("data")
    (source / "app.py").write_text("source")
    one = account.directory / "one.txt"
    one.write_text("one")
    for path in (source / "app.py", one):
        os.chown(path, account.user, account.user)
    if account.user == 0:  # a volume's files are the cell's own: see `mounts.opened`
        os.chown(data, account.ids.users[0][1], account.ids.groups[0][1])
    wanted = {
        "/root": [str(source), "private"],
        "/data/": [str(data), "write"],
        "/assets/deep/one.txt": [str(one), "read"],
    }
    code = """
import subprocess, sys
refused = None
open("/root/app.py", "a").write(" and more")
open("/data/new", "w").write("kept")
try: open("/assets/deep/one.txt", "w")
except OSError as error: refused = error.errno
again = subprocess.run([sys.executable, "-c", "import json, decimal; print(1)"], capture_output=True, text=True)
print(json.dumps([open("/root/app.py").read(), open("/assets/deep/one.txt").read(), refused, again.stdout, os.listdir("/.cell")]))
"""
    told = python(account, account.cell(), code, mounts=wanted)

    assert ["source and more", "one", 30, "1\n", []] == told
    assert "source" == (source / "app.py").read_text()
    assert "kept" == (data / "new").read_text()


def test_a_mount_below_a_read_only_directory_leaves_the_rest_of_it_in_sight(account):
    data = account.mkdir("data")
    (data / "there.txt").write_text("there")
    code = """
print(json.dumps([open("/usr/share/homeport/data/there.txt").read(), os.path.exists("/usr/share/zoneinfo")]))
"""
    told = python(
        account, account.cell(), code, mounts={"/usr/share/homeport/data": [str(data), "read"]}
    )

    assert ["there", os.path.exists("/usr/share/zoneinfo")] == told


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user's mounts are opened by the keeper")
def test_a_directory_inside_of_a_volume_is_found_without_leaving_it(tmp_path):
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "a/b").mkdir(parents=True)
    (outside / "b").mkdir(parents=True)
    (volume / "link").symlink_to("a")
    (volume / "up").symlink_to(outside)
    (volume / "a/b/mine").touch()
    for path in ("a/b", "link/b", "/a/b"):
        tree = mounts.opened(str(volume), writable=True, inside=path)
        assert ["mine"] == os.listdir(f"/proc/self/fd/{tree}")
        os.close(tree)
    for path in ("up/b", "../outside/b"):
        with pytest.raises(FileNotFoundError):
            mounts.opened(str(volume), writable=True, inside=path)


@pytest.mark.parametrize("access", ["private", "read"])
def test_a_tree_over_the_interpreter_does_not_hide_it(account, access):
    """As with /root, where pyenv and uv keep theirs."""
    package = account.mkdir("package")
    (package / "inside").mkdir()
    (package / "inside/there.txt").write_text("there")
    over = account.mkdir("over")
    cell = account.cell(binds=[Bind(str(package / "inside"), "/root/python/inside")])
    code = 'print(json.dumps([open("/root/python/inside/there.txt").read(), os.listdir("/root")]))'
    told = python(account, cell, code, mounts={"/root": [str(over), access]})

    assert "there" == told[0]
    assert "python" in told[1]


def test_a_directory_below_the_hosts_tmp_is_shown_as_well(account):
    kept = account.mkdir("kept")
    (kept / "there.txt").write_text("there")
    cell = account.cell(binds=[Bind(str(kept), "/tmp/kept"), Bind(str(kept), "/var/tmp/a/b")])
    code = (
        'print(json.dumps([open(p + "/there.txt").read() for p in ("/tmp/kept", "/var/tmp/a/b")]))'
    )

    assert ["there", "there"] == python(account, cell, code)


def test_the_layers_of_an_image_are_the_root_of_a_cell(account, layers):
    cell = account.cell(layers=layers)
    code = """
os.remove("/etc/passwd")
open("/etc/os-release", "a").write("mine")
print(json.dumps([open("/etc/os-release").read(), sorted(os.listdir("/etc"))]))
"""
    content, names = python(account, cell, code)

    assert "NAME=above\nmine" == content
    assert ["hostname", "hosts", "os-release", "resolv.conf"] == names
    assert (Path(layers[0]) / "etc/passwd").exists()
    assert "NAME=above\n" == (Path(layers[1]) / "etc/os-release").read_text()


def test_a_program_may_become_another_user_where_there_are_ids(account):
    code = """
try:
    os.setgid(1000); os.setuid(1000)
    print(json.dumps(os.getuid()))
except OSError as error:
    print(json.dumps(error.errno))
"""

    assert (22 if account.ids is None else 1000) == python(account, account.cell(), code)


def test_the_limits_of_a_cell_hold(account):
    code = """
import resource as r
print(json.dumps([r.getrlimit(x) for x in (r.RLIMIT_NPROC, r.RLIMIT_NOFILE, r.RLIMIT_CORE)]))
"""
    cell = account.cell(limits=Limits(processes=50, files=300))
    processes, files, core = python(account, cell, code)

    assert ([50, 50], 300, [0, 0]) == (processes, files[1], core)


def test_nothing_of_the_hosts_temporary_files_or_home_is_there(account):
    needed = (sys.prefix, sys.base_prefix, account.python, host.__file__)  # shown wherever they are
    places = [
        place
        for place in ("/home", "/opt", "/srv", "/tmp", "/var/tmp", "/run", "/mnt")
        if not any(str(path).startswith(f"{place}/") for path in needed)
    ]
    # Sockets are shown in these two.
    code = f"print(json.dumps([p for p in {places} if {{*os.listdir(p)}} - {{'homeport', 'homeport-urls'}}]))"

    assert places
    assert [] == python(account, account.cell(), code)


def test_a_place_that_is_not_there_is_left_out(account):
    cell = account.cell(binds=[Bind("/no/such/directory")])

    assert [False] == python(account, cell, 'print(json.dumps([os.path.exists("/no")]))')


def test_a_cell_that_cannot_be_made_says_what_failed(account):
    finished = account.inside(
        dataclasses.replace(account.cell(), layers=("/no/such/layer", "/etc")), ["true"]
    )

    assert 125 == finished.returncode
    assert "No such file or directory: 'open_tree /no/such/layer'" in finished.stderr


def test_files_of_a_container_are_never_owned_by_the_hosts_root():
    with pytest.raises(ValueError, match="writable"):
        Bind("/x", writable=True, owned=True)
    with pytest.raises(ValueError, match="own ids"):
        mounts.opened("/", writable=True, users=3)


def test_an_interpreter_is_all_that_its_links_lead_to(tmp_path):
    (tmp_path / "real/bin").mkdir(parents=True)
    (tmp_path / "real/bin/python3.11").touch()
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python3").symlink_to(tmp_path / "real/bin/python3.11")
    (tmp_path / "venv/bin/python").symlink_to("python3")

    assert [str(tmp_path / "venv"), str(tmp_path / "real")] == host.interpreter(
        str(tmp_path / "venv/bin/python")
    )
    assert [] == host.interpreter("/usr/bin/python3")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
