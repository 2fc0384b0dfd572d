"""Fork a process that is pid 1 and root of namespaces of its own.

Three processes take part, because the kernel asks for it:

    the caller ──fork──▶ a go-between ──fork──▶ the child
       │  ◀── has a user namespace ──┤
       ├── writes its uid_map ──▶    │ becomes root there, leaves the other namespaces
       │  ◀── the child's pid ───────┘ ends

A process cannot write more than one id of its own map, and unshare(NEWPID) moves only later children
(man 7 user_namespaces, man 2 unshare). The caller is a subreaper, so the child becomes its own.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator

from homeport.cell import kernel
from homeport.cell.description import Ids, Network

MAX_MESSAGE = 4096
ALWAYS = kernel.NEWNS | kernel.NEWPID | kernel.NEWIPC | kernel.NEWUTS


def fork(network: Network, ids: Ids | None, prepare: Callable[[int], None] | None = None) -> int:
    """As os.fork(): 0 in the child, its pid in the caller, which has to wait for it.

    `prepare` is called with a descriptor of the new user namespace before anything runs in it.
    `OSError` if the kernel refuses a part. The process must have one thread.
    """
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    between = os.fork()
    if between == 0:
        ours.close()
        if _go_between(theirs, network, ids):
            os._exit(0)
        theirs.close()
        return 0
    theirs.close()
    with ours:
        try:
            _heard(ours)
            if ids is not None:
                write_ids(between, ids)
            if prepare is not None:
                with _namespace(between) as users:
                    prepare(users)
            ours.send(b"{}")
            return int(_heard(ours)["child"])
        finally:
            ours.close()
            os.waitpid(between, 0)


def leave_for_mounts() -> None:
    """In this process: a user namespace with its own id alone, and mounts of its own (one thread only).

    What others mount later still comes through.
    """
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.NEWUSER | kernel.NEWNS)
    _map_one(user, user, group, group)
    kernel.mount("none", "/", None, kernel.RECURSIVE | kernel.SLAVE)


def nested() -> Ids | None:
    """The ids for a cell inside this one: the same; None if there is only one."""
    maps = []
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}", "rb") as file:
            rows = [tuple(int(word) for word in line.split()) for line in file]
        maps.append(tuple((inside, inside, count) for inside, _, count in rows))
    users, groups = maps
    return None if sum(row[2] for row in users) == 1 else Ids(users=users, groups=groups)


def write_ids(pid: int, ids: Ids) -> None:
    """Give a process's new user namespace its ids (man 7 user_namespaces).

    Directly by a privileged process; an ordinary user needs `newuidmap` and a range in /etc/subuid.
    """
    for name, helper, rows in (
        ("uid_map", "newuidmap", ids.users),
        ("gid_map", "newgidmap", ids.groups),
    ):
        if os.geteuid() == 0:
            _write(f"/proc/{pid}/{name}", "\n".join(" ".join(map(str, row)) for row in rows))
            continue
        words = [helper, str(pid), *(str(word) for row in rows for word in row)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(1, done.stderr.strip() or "it failed", helper)


def subordinate() -> Ids | None:
    """The ids that /etc/subuid and /etc/subgid lend to this user; None without them or newuidmap."""
    if not (shutil.which("newuidmap") and shutil.which("newgidmap")):
        return None
    import pwd  # not every interpreter has a user database

    try:
        names = {str(os.getuid()), pwd.getpwuid(os.getuid()).pw_name}
    except KeyError:
        names = {str(os.getuid())}
    users, groups = _lent("/etc/subuid", names), _lent("/etc/subgid", names)
    if users is None or groups is None:
        return None
    return Ids(users=((0, os.getuid(), 1), users), groups=((0, os.getgid(), 1), groups))


def _lent(path: str, names: set[str]) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
        for line in file:
            owner, first, count = [*line.strip().split(":"), "", ""][:3]
            if owner in names and first.isdecimal() and count.isdecimal():
                return 1, int(first), min(int(count), 65535)
    return None


def _go_between(theirs: socket.socket, network: Network, ids: Ids | None) -> int:
    """The child's pid in the go-between; 0 in the child. Never an exception."""
    try:
        user, group = os.geteuid(), os.getegid()
        kernel.unshare(kernel.NEWUSER)
        if ids is None:
            _map_one(0, user, 0, group)
        theirs.send(b"{}")
        if not theirs.recv(MAX_MESSAGE):
            os._exit(1)
        if ids is not None:
            os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        # A change of the user id makes a process undumpable: its /proc/self belongs to the host's root.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        kernel.unshare(ALWAYS | (0 if network is Network.HOST else kernel.NEWNET))
        child = os.fork()
        if child:
            theirs.send(json.dumps({"child": child}).encode())
        return child
    except OSError as error:
        what = {"errno": error.errno, "text": error.strerror, "what": str(error.filename or "")}
        theirs.send(json.dumps(what).encode())
        os._exit(1)
    except BaseException as error:  # whatever it is, the caller must hear of it
        theirs.send(json.dumps({"errno": 0, "text": repr(error), "what": "fork"}).encode())
        os._exit(1)


def _map_one(user_inside: int, user: int, group_inside: int, group: int) -> None:
    _write("/proc/self/setgroups", "deny")  # else an ordinary user may not write the gid_map
    _write("/proc/self/uid_map", f"{user_inside} {user} 1")
    _write("/proc/self/gid_map", f"{group_inside} {group} 1")


def _heard(ours: socket.socket) -> dict[str, int]:
    message = ours.recv(MAX_MESSAGE)
    if not message:
        raise OSError(0, "the process ended before it had its namespaces", "fork")
    told = json.loads(message)
    if "errno" in told:
        raise OSError(told["errno"], told["text"], told["what"])
    return dict(told)


@contextlib.contextmanager
def _namespace(pid: int) -> Iterator[int]:
    users = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield users
    finally:
        os.close(users)


def _write(path: str, text: str) -> None:
    """The whole text by one write(2), which these files ask for."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode() + b"\n")
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"write {path}") from None
    finally:
        os.close(descriptor)
