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
import socket
from collections.abc import Callable, Iterator

from homeport.cell import identity, kernel
from homeport.cell.description import Ids, Network

MAX_MESSAGE = 4096
ALWAYS = kernel.NEWNS | kernel.NEWPID | kernel.NEWIPC | kernel.NEWUTS


def fork(network: Network, ids: Ids | None, prepare: Callable[[int], None] | None = None) -> int:
    """Fork like os.fork(): return 0 in the child, and its pid in the caller, which has to wait for it.

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
        if not theirs.recv(MAX_MESSAGE):
            os._exit(1)  # the caller has ended
        theirs.close()
        return 0
    theirs.close()
    with ours:
        try:
            _receive(ours)
            if ids is not None:
                identity.lend(between, ids)
            if prepare is not None:
                with _namespace(between) as users:
                    prepare(users)
            ours.send(b"{}")
            child = _receive(ours)["child"]
        except BaseException:
            ours.close()  # else the go-between would wait for ever
            os.waitpid(between, 0)
            raise
        os.waitpid(between, 0)
        # Only now is the child the caller's own: before, PR_SET_PDEATHSIG would watch the
        # go-between.
        ours.send(b"{}")
        return child


def leave_for_mounts(ids: Ids | None) -> None:
    """Move this process into a user namespace with the same ids, and a mount namespace of its own
    (one thread only).

    It has its own id, and those of `ids` that were lent to it. What others mount later still
    appears here.
    """
    user, group = os.geteuid(), os.getegid()
    if ids is None:
        kernel.unshare(kernel.NEWUSER | kernel.NEWNS)
        identity.have_one(user, user, group, group)
    else:
        _lent(
            Ids(
                users=tuple((outside, outside, count) for _, outside, count in ids.users),
                groups=tuple((outside, outside, count) for _, outside, count in ids.groups),
            )
        )
        kernel.unshare(kernel.NEWNS)
    kernel.mount("none", "/", None, kernel.RECURSIVE | kernel.SLAVE)


def lock() -> None:
    """Lock this process's mounts, so that even its own root cannot remove them.

    Mounts that come from another user namespace are locked (man 7 mount_namespaces), so this moves
    into a new one with the same ids. One thread only.
    """
    ids = identity.nested()
    if ids is None:
        kernel.unshare(kernel.NEWUSER)
        identity.have_one(0, 0, 0, 0)
    else:
        _lent(ids)
    kernel.unshare(kernel.NEWNS)


def _lent(ids: Ids) -> None:
    """Move this process into a new user namespace with these ids. Another process writes the map."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    helper = os.fork()
    if helper == 0:
        ours.close()
        code = 1
        try:
            if theirs.recv(MAX_MESSAGE):
                identity.lend(os.getppid(), ids)
                code = 0
        finally:
            os._exit(code)
    theirs.close()
    with ours:
        kernel.unshare(kernel.NEWUSER)
        ours.send(b"{}")
        if os.waitpid(helper, 0)[1]:
            raise OSError(1, "the ids cannot be lent", "uid_map")


def _go_between(theirs: socket.socket, network: Network, ids: Ids | None) -> int:
    """Make the namespaces and fork: return the child's pid in the go-between, and 0 in the child. Never raises."""
    try:
        user, group = os.geteuid(), os.getegid()
        kernel.unshare(kernel.NEWUSER)
        if ids is None:
            identity.have_one(0, user, 0, group)
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
        failure = {"errno": error.errno, "text": error.strerror, "what": str(error.filename or "")}
        theirs.send(json.dumps(failure).encode())
        os._exit(1)
    except BaseException as error:  # every error must reach the caller
        theirs.send(json.dumps({"errno": 0, "text": repr(error), "what": "fork"}).encode())
        os._exit(1)


def _receive(ours: socket.socket) -> dict[str, int]:
    message = ours.recv(MAX_MESSAGE)
    if not message:
        raise OSError(0, "the process ended before it had its namespaces", "fork")
    answer = json.loads(message)
    if "errno" in answer:
        raise OSError(answer["errno"], answer["text"], answer["what"])
    return dict(answer)


@contextlib.contextmanager
def _namespace(pid: int) -> Iterator[int]:
    users = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield users
    finally:
        os.close(users)
