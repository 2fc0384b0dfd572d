"""The filter of system calls for what runs in a cell: refused unless it is in the table.

The table is Docker's default profile for a container without extra capabilities, because twelve
years of images run under it. It differs in these points:

- io_uring is refused, as in Docker since version 25: 60 % of the exploits that Google's kernel
  bounty of 2022 received went through it.
- modify_ldt and the old 32-bit calls are refused: an interpreter of 64 bits has no use for them.
- The calls for NUMA policy (mbind, get_mempolicy, set_mempolicy) are allowed, as in Podman:
  libraries for machine learning print a warning without them, and they concern one's own memory.
- socket(): Docker refuses only AF_VSOCK. Here AF_UNIX, AF_INET, AF_INET6 and the routing protocol of
  AF_NETLINK (getaddrinfo and getifaddrs need it) are allowed, and no other family.
- ioctl(): TIOCSTI and TIOCLINUX, which type into a terminal, are refused.

Refused calls answer EPERM; calls newer than the table answer ENOSYS, as runc does, because
programs then fall back to older calls. A program for another architecture (32 bits by `int 0x80`, x32)
gets ENOSYS for each call.
"""

import functools
import platform
import struct
from collections.abc import Iterable

from homeport.cell import syscalls

# linux/audit.h
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000
#: The last call that every kernel since 5.16 has; above it, refused calls answer ENOSYS.
NEWEST = 449

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
# linux/bpf_common.h: load a word, jump if equal, greater or equal, any bit set; return
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# struct seccomp_data: number, architecture, instruction pointer, arguments (their low halves)
NUMBER, ARCH, ARGUMENT = 0, 4, (16, 24, 32)

NAMESPACES = 0x7E020000  # every CLONE_NEW… flag
UNIX, INET, INET6, NETLINK, NETLINK_ROUTE = 1, 2, 10, 16, 0
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
# PER_LINUX, PER_LINUX32, with UNAME26 or without; and "which is it": as Docker
PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)

_ALLOWED = (syscalls.FILES, syscalls.EVENTS, syscalls.MEMORY, syscalls.PROCESSES, syscalls.MESSAGES)


def allowed(machine: str) -> dict[str, int]:
    """Return the calls that are allowed whatever their arguments are, with their numbers."""
    return {k: v for table in _ALLOWED for k, v in _numbers(table, machine).items()}


@functools.cache
def program(machine: str | None = None) -> bytes:
    """Return the filter, as instructions of classic BPF (man 2 seccomp). `OSError` on other machines."""
    machine = machine or platform.machine()
    if machine not in AUDIT_ARCH:
        raise OSError(ENOSYS, f"no table of system calls for {machine}", "seccomp")
    steps = [
        _step(LOAD, ARCH),
        _step(EQUAL, AUDIT_ARCH[machine], yes=1),
        _refuse(ENOSYS),
        _step(LOAD, NUMBER),
        _step(AT_LEAST, X32_BIT, no=1),
        _refuse(ENOSYS),
    ]
    for first, last in _ranges(allowed(machine).values()):
        steps += [_step(AT_LEAST, first, no=2), _step(AT_LEAST, last + 1, yes=1), _allow()]
    judged = _numbers(syscalls.JUDGED, machine)
    for name, rule in _RULES.items():
        body = rule()
        steps += [_step(EQUAL, judged[name], no=len(body)), *body]
    steps += [_step(AT_LEAST, NEWEST + 1, no=1), _refuse(ENOSYS), _refuse(EPERM)]
    return b"".join(steps)


def _clone() -> list[bytes]:
    return [_step(LOAD, ARGUMENT[0]), _step(ANY_BIT, NAMESPACES, no=1), _refuse(EPERM), _allow()]


def _clone3() -> list[bytes]:
    # A filter cannot read its flags, which are behind a pointer. With ENOSYS, libc uses clone().
    return [_refuse(ENOSYS)]


def _ioctl() -> list[bytes]:
    # The kernel reads only the low half of the request, and so does this filter.
    return [
        _step(LOAD, ARGUMENT[1]),
        _step(EQUAL, TIOCSTI, yes=1),
        _step(EQUAL, TIOCLINUX, no=1),
        _refuse(EPERM),
        _allow(),
    ]


def _personality() -> list[bytes]:
    steps = [_step(LOAD, ARGUMENT[0])]
    for position, value in enumerate(PERSONALITIES):
        steps.append(_step(EQUAL, value, yes=len(PERSONALITIES) - position))
    return [*steps, _refuse(EPERM), _allow()]


def _socket() -> list[bytes]:
    return [
        _step(LOAD, ARGUMENT[0]),
        _step(EQUAL, UNIX, yes=6),
        _step(EQUAL, INET, yes=5),
        _step(EQUAL, INET6, yes=4),
        _step(EQUAL, NETLINK, no=2),
        _step(LOAD, ARGUMENT[2]),
        _step(EQUAL, NETLINK_ROUTE, yes=1),
        _refuse(EAFNOSUPPORT),
        _allow(),
    ]


_RULES = {
    "clone": _clone,
    "clone3": _clone3,
    "ioctl": _ioctl,
    "personality": _personality,
    "socket": _socket,
}


def _numbers(table: str, machine: str) -> dict[str, int]:
    numbers = {}
    for word in table.split():
        name, _, pair = word.partition(":")
        number = pair.split("/")[machine == "aarch64"]
        if number != "-":
            numbers[name] = int(number)
    return numbers


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return the runs of consecutive numbers: the first and the last of each."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return runs


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """Return one instruction (struct sock_filter); jumps are relative to the next one."""
    return struct.pack("<HBBI", code, yes, no, value)


def _allow() -> bytes:
    return _step(RETURN, ALLOW)


def _refuse(errno: int) -> bytes:
    return _step(RETURN, ERRNO | errno)
