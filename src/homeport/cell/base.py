"""A base cell: from the host's whole view to the few directories that a set of packages needs.

    /.cell/root    the skeleton: mount points, links, /etc. The lowest layer of every private cell
    /.cell/layers  the image's layers, if it has any
    /.cell/up      where private cells write: the host's `storage`, or memory
    /.cell/new     where a private cell puts its root together
    /.cell/places.json  what the cell shows of the host

The host's root opens the trees before it gives up its rights, because a user of the cell cannot walk
through a directory of mode 700 such as /root. An ordinary user opens them in its user namespace, where
it may. Both happen before pivot_root, after which the process can reach no file of the host.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from homeport.cell import kernel, mounts, namespaces
from homeport.cell.description import DEVICES, Bind, Cell, Network

HIDDEN = mounts.STAGE
SKELETON, LAYERS, UP, NEW = "root", "layers", "up", "new"
DIRECTORIES = (
    "dev",
    "etc",
    "home",
    "mnt",
    "opt",
    "proc",
    "root",
    "run/homeport",
    "run/homeport-urls",
    "srv",
    "sys",
    "tmp",
    "var/tmp",
)
STICKY = ("tmp", "var/tmp")
RESOLVED = "/run/systemd/resolve/resolv.conf"  # the real servers, where /etc names 127.0.0.53
USERS = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
    "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
)
GROUPS = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n"
TIGHT = kernel.NOSUID | kernel.NODEV


def fork(cell: Cell, owned: Sequence[int] = ()) -> int:
    """Fork like os.fork(): the child is pid 1, and sees only the files that the cell shows.

    `owned` are trees, opened read-only for `mounts.place`, whose files the cell's root shall own. In the
    child an `OSError` says what failed; the caller may continue. The process must have one thread.
    """
    shown = view(cell)
    privileged = os.geteuid() == 0
    if privileged and cell.storage and cell.ids is not None:
        # Not id-mapped, so that a setuid file that a container leaves there is not the host's root's.
        os.chown(cell.storage, cell.ids.users[0][1], cell.ids.groups[0][1])
    trees = _opened(cell, shown) if privileged else {}
    try:

        def give(users: int) -> None:
            its_own = {bind.place for bind in shown if bind.owned}
            for tree in (*(t for p, t in trees.items() if p in its_own), *owned):
                kernel.mount_setattr(tree, kernel.ATTR_IDMAP, users)

        child = namespaces.fork(cell.network, cell.ids, give if privileged and cell.ids else None)
        if child == 0:
            kernel.mount("none", "/", None, kernel.RECURSIVE | kernel.PRIVATE)
            _build(cell, shown, trees or _opened(cell, shown))
            trees = {}
    finally:
        for tree in trees.values():
            os.close(tree)
    return child


def view(cell: Cell) -> list[Bind]:
    """Return the host's mounts that the cell shows, the outermost first. A mount inside another
    comes with it, and is left out.
    """
    listed = [b for b in cell.binds if os.path.exists(b.source)]
    if not cell.layers:
        listed += [Bind(f"/etc/{n}") for n in cell.etc if os.path.isdir(f"/etc/{n}")]
    if os.path.isdir("/sys/devices/system"):  # libc counts processors there
        listed.append(Bind("/sys/devices/system"))
    shown: list[Bind] = []
    for bind in sorted(listed, key=lambda bind: bind.place):
        outer = next((o for o in shown if bind.place.startswith(f"{o.place}/")), None)
        same = outer is not None and bind.source == outer.source + bind.place[len(outer.place) :]
        if not (same or any(bind.place == placed.place for placed in shown)):
            shown.append(bind)
    return shown


def _opened(cell: Cell, shown: list[Bind]) -> dict[str, int]:
    """Open each file and directory of the host that the cell needs; return the descriptors by their path in the cell."""
    trees = {b.place: mounts.opened(b.source, writable=b.writable) for b in shown}
    for position, layer in enumerate(cell.layers):
        trees[f"{HIDDEN}/{LAYERS}/{position}"] = mounts.opened(layer, below=False)
    for name in DEVICES:
        if os.path.exists(f"/dev/{name}"):
            trees[f"/dev/{name}"] = mounts.opened(f"/dev/{name}", writable=True, devices=True)
    if cell.storage:
        trees[f"{HIDDEN}/{UP}"] = mounts.opened(cell.storage, writable=True)
    return trees


def _build(cell: Cell, shown: list[Bind], trees: dict[str, int]) -> None:
    top = "/tmp"  # noqa: S108 - only a place to mount on; nobody else sees it
    size = f"mode=755,size={cell.memory_root_mib}m"
    etc = _read_etc(cell)
    kernel.mount("tmpfs", top, "tmpfs", TIGHT, size)
    skeleton = f"{top}/{SKELETON}"
    for name in (SKELETON, LAYERS, UP, NEW):
        os.mkdir(f"{top}/{name}")
    hidden = {path: tree for path, tree in trees.items() if path.startswith(f"{HIDDEN}/")}
    for path, tree in hidden.items():
        _put(top + path[len(HIDDEN) :], tree)
    mounts.write_places(top, [bind.place for bind in shown])
    _write_skeleton(cell, skeleton, etc)
    for path in (path for path in trees if path not in hidden):
        mounts.point(skeleton + path, directory=mounts.is_directory(trees[path]))

    if cell.layers:
        root = f"{top}/{NEW}"
        kernel.mount("overlay", root, "overlay", TIGHT, f"lowerdir={lower(cell, top)},userxattr")
    else:
        root = skeleton
        kernel.bind(root, root, recursive=False)
        kernel.mount("none", root, None, kernel.BIND | kernel.REMOUNT | kernel.RDONLY | TIGHT)
    kernel.bind(top, root + HIDDEN, recursive=True)
    for name in (*STICKY, "dev/shm"):
        kernel.mount("tmpfs", f"{root}/{name}", "tmpfs", TIGHT, f"mode=1777,size={cell.shm_mib}m")
    for path in sorted(path for path in trees if path not in hidden):
        _put(root + path, trees[path])  # it may be below /tmp
    kernel.mount("proc", f"{root}/proc", "proc", TIGHT | kernel.NOEXEC)
    for tree in trees.values():
        os.close(tree)
    kernel.pivot_root(root)
    settle(cell)


def settle(cell: Cell) -> None:
    """Set up a new network namespace and a new UTS namespace: loopback and host name."""
    if cell.network is not Network.HOST:
        loopback_up()
        with contextlib.suppress(OSError):  # ping without a capability (man 7 icmp)
            _write("/proc/sys/net/ipv4/ping_group_range", "0 0" if cell.ids is None else "0 65534")
    socket.sethostname(cell.hostname)


def lower(cell: Cell, top: str = HIDDEN) -> str:
    """Return the layers below a private cell's own files, the uppermost first, as overlayfs takes them."""
    layers = [f"{top}/{LAYERS}/{n}" for n in reversed(range(len(cell.layers)))]
    written_above = f"{top}/{UP}/{mounts.WRITTEN}"  # by the nested cell that this one is below
    above = [written_above] if os.path.isdir(written_above) else []
    return ":".join([*above, f"{top}/{SKELETON}", *layers])


def loopback_up() -> None:
    """Switch the loopback of a new network namespace on (man 7 netdevice)."""
    set_flags, up, running = 0x8914, 1, 0x40  # SIOCSIFFLAGS, IFF_UP, IFF_RUNNING
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket.fileno(), set_flags, struct.pack("16sh14x", b"lo", up | running))


def run(
    cell: Cell, main: Callable[[], int], owned: Sequence[int] = (), *, linger: bool = False
) -> int:
    """Run `main` in a base cell and return its exit code, with an init that waits for orphans.

    No process but `main`'s keeps the descriptors that were open. With `linger`, the cell lasts until the
    last process in it has ended, and not only until `main` has; without, it ends with the caller.
    """
    child = fork(cell, owned)
    if child:
        _stand_by(linger=linger)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not linger:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    os._exit(reap(main, lambda: _stand_by(linger=linger), linger=linger))


def reap(
    main: Callable[[], int], before: Callable[[], None] = lambda: None, *, linger: bool = False
) -> int:
    """As pid 1: run `main` in a child, reap all processes until that child has ended, and return its exit code.

    `before` runs in pid 1, once the child has been forked. With `linger`: until all have ended.
    """
    worker = os.fork()
    if worker == 0:
        code = 70  # a bug of ours, as sysexits.h has it
        try:
            code = main()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    before()
    code = 0
    with contextlib.suppress(ChildProcessError):  # no child is left
        while True:
            ended, status = os.wait()
            if ended == worker:
                code = os.waitstatus_to_exitcode(status)
                if not linger:
                    break
    return code if code >= 0 else 128 - code


def linger() -> NoReturn:
    """As pid 1: reap processes until the last process of the cell has ended."""
    _stand_by(linger=True)
    with contextlib.suppress(ChildProcessError):  # no child is left
        while True:
            os.wait()
    os._exit(0)


def _stand_by(*, linger: bool) -> None:
    """Close inherited descriptors; with `linger`, ignore the signals that would end pid 1 before the last process of the cell."""
    kernel.close_from(3)
    if linger:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _put(target: str, tree: int) -> None:
    mounts.point(target, directory=mounts.is_directory(tree))
    kernel.move_mount(tree, target)


def _read_etc(cell: Cell) -> dict[str, bytes]:
    """Read the files of /etc that a cell gets as copies, so that it may change them."""
    names = ("resolv.conf", "hosts") if cell.layers else cell.etc
    files: dict[str, bytes] = {}
    for name in names:
        with contextlib.suppress(OSError), open(f"/etc/{name}", "rb") as file:
            files[name] = file.read()
    if cell.network is not Network.HOST and b"127.0.0.53" in files.get("resolv.conf", b""):
        with contextlib.suppress(OSError), open(RESOLVED, "rb") as file:
            files["resolv.conf"] = file.read()
    files["hosts"] = files.get("hosts") or b"127.0.0.1 localhost\n::1 localhost\n"
    files["hostname"] = cell.hostname.encode() + b"\n"
    if not cell.layers:
        files["passwd"], files["group"] = USERS.encode(), GROUPS.encode()
    return files


def _write_skeleton(cell: Cell, root: str, etc: dict[str, bytes]) -> None:
    for name in (*DIRECTORIES, HIDDEN[1:]):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    for name in STICKY:
        os.chmod(f"{root}/{name}", 0o1777)  # noqa: S103 - as any /tmp is
    os.chmod(f"{root}/root", 0o700)
    for path in cell.points:
        mounts.point(root + path, directory=False)
    for name, content in etc.items():
        mounts.point(f"{root}/etc/{name}", directory=False)
        _write(f"{root}/etc/{name}", content)
    for path, to in cell.links:
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(to, root + path)
    for name, to in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(to, f"{root}/dev/{name}")
    for name in ("shm", "pts", "mqueue"):
        os.mkdir(f"{root}/dev/{name}")


def _write(path: str, content: bytes | str) -> None:
    with open(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def copy_skeleton(target: str) -> None:
    """Copy the skeleton for a root in memory."""
    shutil.copytree(f"{HIDDEN}/{SKELETON}", target, symlinks=True, dirs_exist_ok=True)
