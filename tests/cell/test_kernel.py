"""An error of a system call says what was tried; and importing `homeport.cell` stays cheap."""

import errno
import os
import subprocess
import sys

import pytest

from homeport.cell import identity, keeper, kernel


@pytest.mark.parametrize(
    ("call", "number", "what"),
    [
        (
            lambda: kernel.mount("none", "/no/such", "tmpfs"),
            errno.ENOENT,
            "mount tmpfs on /no/such",
        ),
        (lambda: kernel.umount("/no/such"), errno.ENOENT, "umount /no/such"),
        (lambda: kernel.open_tree("/no/such"), errno.ENOENT, "open_tree /no/such"),
        (lambda: kernel.move_mount(-1, "/"), errno.EBADF, "move_mount to /"),
        (lambda: kernel.setns(-1), errno.EBADF, "setns"),
        (lambda: kernel.prctl(9999), errno.EINVAL, "prctl 9999"),
    ],
)
def test_an_error_says_what_was_tried(call, number, what):
    if os.geteuid() != 0:
        pytest.skip("an ordinary user gets EPERM for each")
    with pytest.raises(OSError) as raised:
        call()

    assert (number, what) == (raised.value.errno, raised.value.filename)


def test_a_call_that_a_machine_has_no_number_for_is_an_error(monkeypatch):
    monkeypatch.setattr(kernel.platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="not known on riscv64"):
        kernel.number("pivot_root")


def test_rights_that_a_program_would_inherit_are_given_up_with_the_others():
    """An ambient capability passes to each program; it goes with the inheritable one (man 7 capabilities)."""
    if os.geteuid() != 0:
        pytest.skip("an ordinary user has none to give up")
    code = """
import struct
from homeport.cell import kernel
kill, all_three = 1 << 5, 1 << 5 | 1 << 8 | 1 << 10
data = struct.pack("<6I", all_three, all_three, all_three, 0, 0, 0)
kernel._libc.capset(struct.pack("<Ii", kernel.CAPABILITY_VERSION_3, 0), data)
for number in (5, 8, 10):
    kernel.prctl(47, 2, number)  # PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE
def sets():
    lines = [line.split() for line in open("/proc/self/status")]
    return [int(line[1], 16) for line in lines if line[0] in ("CapInh:", "CapEff:", "CapAmb:")]
print(*sets())
kernel.set_capabilities(kill)
print(*sets())
"""
    words = [sys.executable, "-c", code]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()

    assert ["1312 1312 1312", "0 32 0"] == told


def test_a_fork_that_is_refused_raises_in_the_caller(account):
    code = """
import os
from homeport.cell import namespaces
from homeport.cell.description import Ids, Network
try:
    namespaces.fork(Network.HOST, Ids(users=((0, 0, 1), (0, 5, 1)), groups=((0, 0, 1),)))
except OSError as error:
    print(error)
try: os.wait()
except ChildProcessError: print("nobody is left")
"""
    finished = account.run(["-c", code])

    assert "nobody is left" == finished.stdout.splitlines()[-1]
    assert len(finished.stdout.splitlines()) > 1
    assert "" == finished.stderr


def test_a_child_of_new_namespaces_is_its_callers_own(account):
    code = """
import os
from homeport.cell import namespaces
from homeport.cell.description import Network
child = namespaces.fork(Network.HOST, None if os.geteuid() else namespaces.Ids(users=((0, 300000, 1),), groups=((0, 300000, 1),)))
if child == 0: os._exit(40 + os.getpid())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

    assert "41\n" == account.run(["-c", code]).stdout


def test_a_child_may_be_tied_to_its_caller_at_once(account):
    """PR_SET_PDEATHSIG, set before the go-between had gone, ended some children with it."""
    code = """
import os
from homeport.cell import kernel, namespaces
from homeport.cell.description import Network
for _ in range(30):
    ids = None if os.geteuid() else namespaces.Ids(users=((0, 300000, 1),), groups=((0, 300000, 1),))
    child = namespaces.fork(Network.HOST, ids)
    if child == 0:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

    assert {"0"} == set(account.run(["-c", code]).stdout.split())


def test_a_keeper_opens_what_its_user_may_see_and_says_why_not(account):
    (directory := account.mkdir("open")).joinpath("file").write_text("x")
    code = f"""
import os
from homeport.cell import keeper
opener = keeper.Opener()
tree = opener.open({str(directory)!r})
print(os.listdir(f"/proc/self/fd/{{tree}}"))
try: opener.open("/no/such/place")
except OSError as error: print(error)
opener.close()
"""
    finished = account.run(["-c", code])

    assert ["['file']", "[Errno 2] No such file or directory: 'open_tree /no/such/place'"] == (
        finished.stdout.splitlines()
    )


def test_the_ranges_of_ids_come_from_the_users_own_lines(tmp_path):
    file = tmp_path / "subuid"
    file.write_text("other:1:2\n# note\nsailor:100000:70000\n1000:5:6\n")

    assert (1, 100000, 65535) == identity._lent(str(file), {"sailor"})
    assert (1, 5, 6) == identity._lent(str(file), {"1000"})
    assert identity._lent(str(file), {"nobody"}) is None
    assert identity._lent(str(tmp_path / "missing"), {"sailor"}) is None


def test_the_modules_of_cell_that_a_container_imports_cost_little():
    """No subprocess, no pathlib: what only the node needs is imported there."""
    code = "import sys, homeport.cell.private, homeport.cell.seal; print(*sys.modules)"
    words = [
        sys.executable,
        "-S",
        "-I",
        "-c",
        f"import sys; sys.path.insert(0, {_source()!r}); {code}",
    ]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()

    assert set() == {"subprocess", "pathlib", "asyncio", "tempfile"} & set(loaded)
    assert keeper.__name__ not in loaded


def _source() -> str:
    return os.path.dirname(os.path.dirname(os.path.dirname(kernel.__file__)))
