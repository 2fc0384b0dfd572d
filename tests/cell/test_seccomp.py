"""The filter, run by a small interpreter of classic BPF, for both kinds of machine."""

import errno
import re
import struct
from pathlib import Path

import pytest

from homeport.cell import seccomp, syscalls

ALLOWED = "allowed"
MACHINES = ["x86_64", "aarch64"]


def judge(machine: str, number: int, *args: int, arch: int | None = None) -> "str | int":
    """What the kernel would do with a call: allow it, or answer an errno."""
    arch = seccomp.AUDIT_ARCH[machine] if arch is None else arch
    data = struct.pack("<IIQ6Q", number, arch, 0, *args, *(6 - len(args)) * (0,))
    program = seccomp.program(machine)
    position, value = 0, 0
    while True:
        code, yes, no, k = struct.unpack_from("<HBBI", program, position * 8)
        position += 1
        if code == seccomp.LOAD:
            value = struct.unpack_from("<I", data, k)[0]
        elif code == seccomp.RETURN:
            return ALLOWED if k == seccomp.ALLOW else k & 0xFFFF
        else:
            hit = {
                seccomp.EQUAL: value == k,
                seccomp.AT_LEAST: value >= k,
                seccomp.ANY_BIT: bool(value & k),
            }[code]
            position += yes if hit else no


def number(machine: str, name: str) -> int:
    table = " ".join((*seccomp._ALLOWED, syscalls.JUDGED))
    return seccomp._numbers(table, machine)[name]


@pytest.mark.parametrize("machine", MACHINES)
def test_the_calls_of_the_table_are_allowed_and_no_others(machine):
    allowed = seccomp.allowed(machine)
    judged = set(seccomp._numbers(syscalls.JUDGED, machine).values())

    assert {ALLOWED} == {judge(machine, n) for n in allowed.values()}
    others = set(range(1000)) - set(allowed.values()) - judged
    assert {errno.EPERM} == {judge(machine, n) for n in others if n <= seccomp.NEWEST}
    assert {errno.ENOSYS} == {judge(machine, n) for n in others if n > seccomp.NEWEST}


#: What Docker refuses, too: it changes the machine, mounts, makes namespaces, or is a large part of the kernel.
REFUSED = """
acct add_key bpf clock_settime create_module delete_module fanotify_init finit_module fsconfig fsmount fsopen
fspick get_kernel_syms init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load
kexec_load keyctl lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr migrate_pages modify_ldt mount
mount_setattr move_mount move_pages nfsservctl open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root
process_madvise query_module quotactl quotactl_fd reboot request_key setdomainname sethostname setns settimeofday
statmount listmount swapoff swapon sysfs syslog _sysctl umount umount2 unshare uselib userfaultfd ustat vhangup vm86
vm86old vserver
"""


def test_no_call_that_changes_the_machine_is_in_the_table():
    table = " ".join((*seccomp._ALLOWED, syscalls.JUDGED))
    names = {word.partition(":")[0] for word in table.split()}

    assert set() == names & {*REFUSED.split()}


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_has_no_calls(machine):
    i386, arm = 0x40000003, 0x40000028

    assert errno.ENOSYS == judge(machine, 20, arch=i386)
    assert errno.ENOSYS == judge(machine, 20, arch=arm)
    assert errno.ENOSYS == judge(machine, 39 | seccomp.X32_BIT)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("family", "protocol", "expected"),
    [
        (1, 0, ALLOWED),  # AF_UNIX
        (2, 6, ALLOWED),
        (10, 17, ALLOWED),
        (16, 0, ALLOWED),  # NETLINK_ROUTE
        (16, 4, errno.EAFNOSUPPORT),  # NETLINK_SOCK_DIAG
        (17, 0, errno.EAFNOSUPPORT),  # AF_PACKET
        (38, 0, errno.EAFNOSUPPORT),  # AF_ALG
        (40, 0, errno.EAFNOSUPPORT),  # AF_VSOCK
        (2 | 1 << 32, 0, ALLOWED),  # the kernel looks at the low half too
    ],
)
def test_few_families_of_sockets_are_allowed(machine, family, protocol, expected):
    assert expected == judge(machine, number(machine, "socket"), family, 1, protocol)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_fork_is_allowed_and_a_namespace_is_not(machine):
    clone, clone3 = number(machine, "clone"), number(machine, "clone3")
    thread = 0x3D0F00

    assert ALLOWED == judge(machine, clone, 17)
    assert ALLOWED == judge(machine, clone, thread)
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert errno.EPERM == judge(machine, clone, flag | 17)
    assert errno.ENOSYS == judge(machine, clone3, 0)  # libc then uses clone


@pytest.mark.parametrize("machine", MACHINES)
def test_a_container_cannot_type_into_a_terminal(machine):
    ioctl = number(machine, "ioctl")

    assert ALLOWED == judge(machine, ioctl, 0, 0x5413)  # TIOCGWINSZ
    assert errno.EPERM == judge(machine, ioctl, 0, 0x5412)
    assert errno.EPERM == judge(machine, ioctl, 0, 0x5412 | 1 << 32)
    assert errno.EPERM == judge(machine, ioctl, 0, 0x541C)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("value", "expected"),
    [*((v, ALLOWED) for v in seccomp.PERSONALITIES), (0x0040000, errno.EPERM), (6, errno.EPERM)],
)
def test_the_usual_personalities_are_allowed(machine, value, expected):
    assert expected == judge(machine, number(machine, "personality"), value)


def test_a_machine_of_an_unknown_architecture_is_an_error():
    with pytest.raises(OSError, match="no table of system calls for riscv64"):
        seccomp.program("riscv64")


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_of_system_calls_are_those_of_the_kernel(machine, header):
    if not Path(header).exists():
        pytest.skip("no kernel headers here")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text())
    kernel = {name: int(value) for name, value in found if name != "syscalls"}
    kernel.setdefault("newfstatat", kernel.get("fstatat", 0))
    ours = {**seccomp.allowed(machine), **seccomp._numbers(syscalls.JUDGED, machine)}
    newest = max(kernel.values())

    assert {} == {n: v for n, v in ours.items() if v <= newest and kernel.get(n) != v}
