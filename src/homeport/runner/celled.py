"""A zygote's children in cells, where the node has started the base zygote in a base cell.

HOMEPORT_CELL describes the cells; without it, each function here does what a container without a cell
needs. The descriptors for a cell come after all others. The request has `mounts` (one descriptor for each), then, if
`cgroup` is true, its `cgroup.procs`, then, if `network` is "own", a socket to the node. It may have `links` (cell/links.py).
"""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from homeport.cell import base, kernel, links, mounts, nested, private, seal, seccomp
from homeport.cell.description import Cell, Network
from homeport.contract import codec

CELL = "HOMEPORT_CELL"

_cell: Cell | None = None
_spare_count = 0


def begin() -> None:
    """In the base zygote: read the cell's description from the environment variables."""
    global _cell  # noqa: PLW0603 - one for the whole process, and for all that it forks
    if text := os.environ.pop(CELL, ""):
        _cell = codec.loads(Cell, text)
        seccomp.program()  # made now, and kept for all that it forks


def inside() -> bool:
    """Return whether this process is in a cell."""
    return _cell is not None


def fork() -> int:
    """Fork a container: as os.fork(), but the child is pid 1 of a private cell.

    `OSError` in the child if the cell could not be made, and in the parent if it could not be started.
    """
    if _cell is None:
        return os.fork()
    global _spare_count  # noqa: PLW0603
    _spare_count += 1
    return private.fork(_cell, storage())


def storage() -> str:
    """Return the name of the latest private cell's directory; empty without cells."""
    return str(_spare_count) if _cell is not None else ""


def fork_zygote(order: Mapping[str, Any], descriptors: Sequence[int]) -> int:
    """Fork a zygote below this one, as os.fork(), with the cell `asked["storage"]`; init adopts it."""
    assert _cell is not None
    wanted_mounts = [codec.decode(mounts.Mount, mount) for mount in order["mounts"]]
    pairs = list(zip(wanted_mounts, descriptors, strict=True))
    reach = Network(order["network"])
    child = nested.fork(
        *(_cell, order["storage"], pairs),
        writes=order["writes"],
        network=reach,
        last=links.of(order),
    )
    if child == 0:
        global _spare_count  # noqa: PLW0603
        _spare_count = 0
    return child


def enter(order: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """In a container's runner: attach the mounts, join the cgroup, drop all privileges."""
    if _cell is None:
        return
    wanted_mounts = [codec.decode(mounts.Mount, mount) for mount in order["mounts"]]
    unused = list(descriptors)
    mounts.place([(mount, unused.pop(0)) for mount in wanted_mounts], last=links.of(order))
    if order["cgroup"]:
        os.write(unused[0], b"0")
        os.close(unused.pop(0))
    if order["network"] != Network.HOST.value:
        _leave_network(unused)
    _name(order["hosts"], order.get("resolvers", ""))
    seal.seal(_cell)


def _leave_network(way: Sequence[int]) -> None:
    """Move into a network namespace of its own; over `way` the node connects it to the internet
    (node/cells/networks.py).
    """
    kernel.unshare(kernel.NEWNET)
    base.loopback_up()
    for descriptor in way:
        with socket.socket(fileno=descriptor) as node:
            own_handles = os.open("/proc/self/ns/net", os.O_RDONLY), os.pidfd_open(os.getpid())
            socket.send_fds(node, [b"."], own_handles)
            for own in own_handles:
                os.close(own)
            answer = json.loads(node.recv(4096) or b'{"error": "the node has ended"}')
        if "error" in answer:
            sys.exit(f"this container gets no network: {answer['error']}")
        if "cable" in answer:
            from homeport.cell import network  # it imports much, and few need it

            network.connect(network.Cable(answer["cable"]))


def _name(hosts: Sequence[str], resolvers: str) -> None:
    """Write the hosts that are on the own loopback to /etc/hosts; `resolvers` replaces /etc/resolv.conf."""
    if hosts:
        with open("/etc/hosts", encoding="utf-8") as file:  # noqa: PTH123 - no pathlib here
            before = file.read()
        _replace("/etc/hosts", f"{before}\n127.0.0.1 {' '.join(hosts)}\n")
    if resolvers:
        _replace("/etc/resolv.conf", resolvers)


def _replace(path: str, text: str) -> None:
    """Write a new file: to change the one of a layer below, overlayfs would copy it and wait for the disk."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108
    with open(path, "x", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)


def forget(storage: str) -> None:
    """In a zygote: delete the directory of a private cell that was not used."""
    if storage:
        private.remove(storage)


def seal_init() -> None:
    """Seal a container's init; call it when init has its descriptors."""
    if _cell is not None:
        seal.seal_init(_cell)


def code(status: int) -> int:
    """Return how a container ended, from its init's exit code: pid 1 cannot end itself by a signal."""
    return 128 - status if _cell is not None and status > 128 else status


def adopts() -> None:
    """Become the parent of processes that this process's children leave behind."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
