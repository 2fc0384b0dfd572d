"""Gives the container a /tmp of its own, which no other container sees and which is deleted with it.

It needs a mount namespace (man 7 mount_namespaces), and for most users a user namespace too, to be
allowed to make the other (man 7 user_namespaces). If the system allows neither, the container gets TMPDIR,
which most programs use.

`python -m homeport.runner.tmp` prints which one this system allows, for `homeport doctor`.
"""

import contextlib
import ctypes
import os
import sys

from homeport.contract.container import Launch, StartOrder

TMP = "/tmp"  # noqa: S108 - that very directory
NEW_MOUNTS, NEW_USERS = 0x00020000, 0x10000000  # linux/sched.h
BIND, RECURSIVE, SLAVE = 0x1000, 0x4000, 0x80000  # linux/mount.h

DETACH = 2  # unmounts with all mounts below it

_owned = False
_possible: bool | None = None  # the answer of `possible`, also for forked processes


def possible() -> bool:
    """Return whether this process may have a /tmp of its own.

    Tries it in a child, because some systems make the namespace and then forbid its use.
    """
    global _possible  # noqa: PLW0603 - asked for in every container, and tried once
    if _possible is None:
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(OSError, AttributeError):
                _leave_mounts()
                _mount(TMP, TMP, BIND)
                code = 0
            os._exit(code)
        _possible = os.waitpid(child, 0)[1] == 0
    return _possible


def own(launch: Launch) -> None:
    """Mount `launch.tmp_dir` at /tmp for this process and its children; call it while there is one thread."""
    if not launch.tmp_dir or not possible():
        return
    global _owned  # noqa: PLW0603 - a snapshot's children have its /tmp, until they have theirs
    _leave_mounts()
    before = -1
    if _owned:
        before = os.open(TMP, os.O_RDONLY | os.O_DIRECTORY)
        _call("umount2", TMP.encode(), DETACH)
    _owned = True
    needed_files = [(path, os.open(path, os.O_PATH)) for path in _needed(launch.order)]
    os.chmod(launch.tmp_dir, 0o1777)  # noqa: S103, PTH101 - as any /tmp is
    _mount(launch.tmp_dir, TMP, BIND)
    for path, handle in needed_files:
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
        _mount(f"/proc/self/fd/{handle}", path, BIND | RECURSIVE)
        os.close(handle)
    os.environ["TMPDIR"] = TMP
    if before >= 0:
        _carry_over(before, {path for path, _ in needed_files})
        os.close(before)


def _carry_over(before: int, mounted: set[str]) -> None:
    """Copy the snapshot's files to the container's /tmp, because objects of the snapshot may name them."""
    names = [name for name in os.listdir(before) if f"{TMP}/{name}" not in mounted]
    if not names:
        return
    import shutil

    for name in names:
        source, target = f"/proc/self/fd/{before}/{name}", f"{TMP}/{name}"
        try:
            if os.path.isdir(source) and not os.path.islink(source):  # noqa: PTH112, PTH114
                shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target, follow_symlinks=False)
        except OSError as error:  # a socket, for example
            print(f"{target} of the snapshot cannot be copied: {error}", file=sys.stderr)  # noqa: T201 - the container's log


def _needed(order: StartOrder) -> list[str]:
    """Return the directories below the system's /tmp that the container needs to see in its own."""
    ours = os.path.realpath(__file__).removesuffix("/homeport/runner/tmp.py")  # usually by a link
    paths = [order.source, ours, sys.prefix, sys.base_prefix, *sys.path]
    inside = {p for p in paths if p.startswith(f"{TMP}/") and os.path.isdir(p)}  # noqa: PTH112
    # A directory inside another one comes with it.
    return sorted(p for p in inside if not any(p.startswith(f"{q}/") for q in inside))


def _leave_mounts() -> None:
    """Make a mount namespace; mounts that the system makes later still appear in it."""
    user, group = os.getuid(), os.getgid()
    try:
        _call("unshare", NEW_MOUNTS)
    except PermissionError:
        _call("unshare", NEW_USERS | NEW_MOUNTS)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(text)
    _mount("none", "/", RECURSIVE | SLAVE)


def _mount(source: str, target: str, flags: int) -> None:
    _call("mount", source.encode(), target.encode(), None, flags, None)


def _call(name: str, *args: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    print("own" if possible() else "TMPDIR")  # noqa: T201 - it is the answer
