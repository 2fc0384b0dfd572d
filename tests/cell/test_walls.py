"""Each wall of a cell stands by itself: the mounts' options, the capabilities, the filter.

`test_escapes` tries to get out, and fails if one wall of several holds. Here a wall that has fallen is seen although another one stands.
"""

import json
import os

import pytest

from homeport.cell.description import Bind, Network
from homeport.contract import codec

#: What a process sees of itself and of pid 1: mounts (the last one at a place counts), rights, namespaces.
LOOK = """
import json, os
def status(pid):
    lines = [line.split(":", 1) for line in open(f"/proc/{pid}/status")]
    return {name: value.strip() for name, value in lines}
mounts = {}
for line in open("/proc/self/mountinfo"):
    words = line.split()
    mounts[words[4]] = sorted(words[5].split(","))
found = {"mounts": mounts, "own": status("self"), "init": status(1)}
if os.path.exists("/dev/pts/ptmx"):
    found["terminal"] = os.fstat(os.openpty()[1]).st_mode
found["cgroup"] = os.readlink("/proc/self/ns/cgroup")
try: found["exe of init"] = os.readlink("/proc/1/exe")
except OSError as error: found["exe of init"] = error.errno
print(json.dumps(found))
"""
#: In a base cell, below which a nested one looks at its own mounts.
NESTED = f"""
import os, sys
from homeport.cell import base, nested
from homeport.cell.description import Cell
from homeport.contract import codec
cell = codec.loads(Cell, sys.argv[1])
def main():
    if nested.fork(cell, "f1", [], writes=sys.argv[2] == "writes"):
        os.wait()
        return 0
    exec({LOOK!r})
    sys.stdout.flush()
    os._exit(0)
base.run(cell, main)
"""
#: Below /proc, as Docker hides them: what changes the machine is read-only, what tells of others is empty, or is /dev/null.
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger", "acpi", "scsi")
NULLED = ("kcore", "keys", "kmsg", "latency_stats", "sched_debug", "timer_list", "timer_stats")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
OPENED = {*(f"/dev/{name}" for name in DEVICES), *(f"/proc/{name}" for name in NULLED)}
#: Capabilities: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP.
KEPT, KILL = (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31), 5
WRITABLE = {"/", "/dev/shm", "/dev/mqueue", "/dev/pts", "/proc", *OPENED}
#: Memory of a base cell's own, and of a nested one's.
TMPS = {"/tmp", "/var/tmp"}


def seen(account, words: "list[str]", **options):
    finished = account.run(words, **options)
    assert (0, "") == (finished.returncode, finished.stderr)
    return json.loads(finished.stdout)


def check(mounts: "dict[str, list[str]]", writable: "set[str]") -> None:
    """Check the options of each mount that a process sees."""
    assert [] == [path for path, options in mounts.items() if "nosuid" not in options]
    with_devices = {path for path, options in mounts.items() if "nodev" not in options}
    assert set() == with_devices - OPENED - {"/dev/pts"}
    assert set() == {path for path, options in mounts.items() if "ro" not in options} - writable
    for path in ("/proc", "/dev/pts", "/dev/mqueue"):
        assert "noexec" in mounts.get(path, ["noexec"]), path


@pytest.mark.parametrize("root", ["overlay", "memory", "layers"])
def test_the_host_is_read_only_in_a_container_and_gives_it_no_rights(account, root, request):
    changes = {"overlay": root != "memory"}
    if root == "layers":
        changes["layers"] = request.getfixturevalue("layers")
    finished = account.inside(account.cell(**changes), [account.python, "-c", LOOK])
    assert (0, "") == (finished.returncode, finished.stderr)
    found = json.loads(finished.stdout)
    mounts = found["mounts"]

    check(mounts, WRITABLE)
    assert 0o20620 == found["terminal"], (
        "other users of a container write into no terminal of root's"
    )
    hidden = {f"/proc/{name}" for name in (*READ_ONLY, *NULLED) if os.path.exists(f"/proc/{name}")}
    assert set() == hidden - {*mounts}
    assert "/.cell" not in mounts
    assert {"/dev", "/dev/shm", "/dev/mqueue", "/dev/pts", "/proc"} <= {*mounts}


def test_a_mount_of_a_container_gives_no_rights_and_is_read_only_unless_it_was_asked_for(
    account,
):
    trees = {name: account.mkdir(name) for name in ("read", "private", "write", "merged")}
    (trees["merged"] / "srv").mkdir()
    (trees["merged"] / "srv/file").touch()
    (account.mkdir("package") / "inside").mkdir()
    # The cell shows a directory of the host below the target: it gets an overlay with a place for that.
    cell = account.cell(binds=[Bind(str(account.directory / "package"), "/root/package")])
    targets = {"read": "/root", "private": "/opt", "write": "/data", "merged": "/"}
    wanted = {targets[access]: [str(tree), access] for access, tree in trees.items()}
    finished = account.inside(cell, [account.python, "-c", LOOK], mounts=wanted)
    assert (0, "") == (finished.returncode, finished.stderr)
    mounts = json.loads(finished.stdout)["mounts"]

    assert {"/root", "/opt", "/data", "/srv", "/root/package"} <= {*mounts}
    check(mounts, {*WRITABLE, "/opt", "/data", "/srv"})


@pytest.mark.parametrize("kind", ["base", "nested", "nested, and writes"])
def test_the_host_is_read_only_for_a_zygote_and_gives_it_no_rights(account, kind):
    cell = account.cell()
    if kind == "base":
        finished = account.inside(cell, [account.python, "-c", LOOK], private=False)
        assert (0, "") == (finished.returncode, finished.stderr)
        mounts = json.loads(finished.stdout)["mounts"]
        # A base cell is trusted: what private cells are made of is there. A nested one is not.
        check(mounts, {*WRITABLE, *TMPS, *(path for path in mounts if path.startswith("/.cell"))})
        return
    how = "writes" if kind.endswith("writes") else "reads"
    mounts = seen(account, ["-c", NESTED, codec.dumps(cell), how])["mounts"]
    # Private cells are put together at `new`, where its own root was, too.
    check(mounts, {*WRITABLE, *TMPS, "/.cell/up", "/.cell/new"})
    assert "ro" in mounts["/.cell"]


@pytest.mark.parametrize("network", [Network.HOST, Network.NONE], ids=str)
def test_a_container_and_its_first_process_keep_few_rights_and_get_no_others(account, network):
    look = [account.python, "-c", LOOK]
    finished = account.inside(account.cell(network=network), look, umask=0o002)
    found = json.loads(finished.stdout)
    for process, numbers in {"own": KEPT, "init": [KILL]}.items():
        status, mask = found[process], f"{sum(1 << number for number in numbers):016x}"
        rights = {name: status[name] for name in status if name.startswith("Cap")}

        none = "0" * 16
        assert {
            "CapInh": none,
            "CapPrm": mask,
            "CapEff": mask,
            "CapBnd": mask,
            "CapAmb": none,
        } == rights
        assert ("1", "2", "0022") == (status["NoNewPrivs"], status["Seccomp"], status["Umask"])
    assert os.readlink("/proc/self/ns/cgroup") != found["cgroup"]
    assert 13 == found["exe of init"], "pid 1 may not be looked into"


GROUPS = """
import os, sys
from homeport.cell import base
from homeport.cell.description import Cell
from homeport.contract import codec

os.setgroups([4, 20])  # as a server that its administrator has started with groups of its own

def main():
    os.write(1, str(os.getgroups()).encode())
    return 0

base.run(codec.loads(Cell, sys.argv[1]), main)
"""


def test_a_cell_has_none_of_the_servers_other_groups(account):
    """One of them may read what a container must not, such as the machine's logs."""
    if account.name != "root":
        pytest.skip(
            "an ordinary user cannot take groups, and keeps its own where it has no range of ids"
        )
    done = account.run(["-c", GROUPS, codec.dumps(account.cell())])

    assert ("[]", "") == (done.stdout, done.stderr)
