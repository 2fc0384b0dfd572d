"""What `homeport doctor` says about cells on this machine."""

import errno
import json
import os
import re
import shutil
import subprocess

import pytest

from homeport.cell import report
from tests import isolation

APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
NAMES = ("possible", "overlay", "network")
REFUSED = OSError(errno.EPERM, "Operation not permitted", "unshare 0x10000000")


@pytest.mark.parametrize(
    ("files", "error", "why", "hint"),
    [
        (
            {"/proc/sys/kernel/unprivileged_userns_clone": "0"},
            REFUSED,
            "kernel.unprivileged_userns_clone is 0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            {"/proc/sys/user/max_user_namespaces": "0"},
            OSError(errno.ENOSPC, "No space left on device", "unshare 0x10000000"),
            "user.max_user_namespaces is 0",
            "sysctl -w user.max_user_namespaces=15000",
        ),
        (
            {
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
                "/proc/self/attr/current": "python3 (enforce)",
            },
            OSError(errno.EACCES, "Permission denied", "mount none on /"),
            "profile `python3 (enforce)`; kernel.apparmor_restrict_unprivileged_userns is 1",
            "the rule `userns,`",
        ),
        (
            {},
            OSError(errno.EPERM, "Operation not permitted", "mount proc on /tmp/root/proc"),
            "hides parts of /proc",
            "systempaths=unconfined",
        ),
        (
            {"/proc/self/status": "Name:\tx\nSeccomp:\t2\n"},
            REFUSED,
            "refuses system calls",
            "seccomp",
        ),
        (
            {},
            REFUSED,
            "the kernel refused it: [Errno 1] Operation not permitted: 'unshare",
            "CONFIG",
        ),
    ],
)
def test_the_report_names_the_obstacle_and_what_to_do(files, error, why, hint, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    told = report.obstacle(error, lambda path: files.get(path, ""))

    assert why in told[0]
    assert hint in told[1]


#: In namespaces that util-linux has made: what a cell needs besides, each by its name.
NEEDS = """
mount --make-rprivate / && mount -t tmpfs none /mnt && mkdir /mnt/a /mnt/b /mnt/c /mnt/d && echo possible
mount -t overlay none /mnt/d -o lowerdir=/mnt/a,upperdir=/mnt/b,workdir=/mnt/c,userxattr && echo overlay
unshare --net true && echo network
"""


def test_a_machine_that_allows_namespaces_allows_cells():
    """Else a fault of ours would let each test of isolation be skipped, and each container run without a cell."""
    version = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
    if version < (5, 16) or shutil.which("unshare") is None:
        pytest.skip("a kernel of Linux 5.16 and the program `unshare` are needed")
    if os.getuid() and report._read(APPARMOR) == "1":
        pytest.skip("AppArmor gives `unshare` other rights than Python")
    words = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"]
    made = subprocess.run([*words, "sh", "-c", NEEDS], capture_output=True, text=True, check=False)
    answer = isolation.report()

    assert set(made.stdout.split()) <= {name for name in NAMES if getattr(answer, name)}, answer


def test_a_machine_that_allows_cells_says_what_they_have(account):
    finished = account.run(["-m", "homeport.cell.report"])
    told = json.loads(finished.stdout)

    assert told["possible"], told
    assert (1 if account.ids is None else 65536) == told["ids"]
    assert told["network"]


@pytest.mark.parametrize(("abi", "are_apart"), [(0, False), (5, False), (6, True), (7, True)])
def test_abstract_sockets_are_kept_apart_from_the_landlock_on_that_can(account, abi, are_apart):
    code = f"""
from homeport.cell import kernel, report
import dataclasses, json
kernel.landlock_abi = lambda: {abi}
print(json.dumps(dataclasses.asdict(report.report())))
"""
    finished = account.run(["-c", code])

    assert are_apart is json.loads(finished.stdout)["abstract_sockets"]


def test_a_machine_that_forbids_user_namespaces_says_so(account):
    """In a user namespace whose own limit of them is 0: the sysctl counts for each."""
    code = """
from homeport.cell import kernel, namespaces, report
import dataclasses, json, os
child = namespaces.fork(namespaces.Network.HOST, None if os.geteuid() else namespaces.Ids(users=((0, 0, 1),), groups=((0, 0, 1),)))
if child: os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
kernel.mount("proc", "/proc", "proc")
open("/proc/sys/user/max_user_namespaces", "w").write("0")
print(json.dumps(dataclasses.asdict(report.report())), flush=True)
os._exit(0)
"""
    finished = account.run(["-c", code])
    told = json.loads(finished.stdout)

    assert not told["possible"]
    assert "user.max_user_namespaces is 0: nobody may make user namespaces" == told["why"]


@pytest.mark.parametrize(
    ("failures", "possible", "trials"),
    [
        ([OSError(errno.EBUSY, "busy", "mount")], True, 2),
        ([OSError(0, "the trial ended without an answer", "cell")] * 2, True, 3),
        ([OSError(errno.ENOMEM, "memory", "clone")] * 9, False, 3),
        ([OSError(errno.EPERM, "Operation not permitted", "unshare")], False, 1),
    ],
)
def test_an_error_that_may_pass_is_tried_again_before_it_is_reported(
    monkeypatch, failures, possible, trials
):
    waiting = list(failures)
    asked = []

    def one_trial(*_args, overlay):
        asked.append(overlay)
        return waiting.pop(0) if waiting else None

    monkeypatch.setattr(report, "_one_trial", one_trial)
    monkeypatch.setattr(report, "WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert (None if possible else failures[-1]) == report._trial_error(
        "/nowhere", report.Network.HOST, None, overlay=False
    )
    assert trials == len(asked)
