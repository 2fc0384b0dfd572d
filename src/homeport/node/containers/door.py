"""A container's door: the listening socket that its node makes and gives to the container.

Its name is in Linux's abstract namespace (man 7 unix), not in the file system. So no container can redirect
requests by a link, a rename or a second bind, and no file must be deleted. An abstract name has no file mode,
so the runner checks the uid of each connection (runner/door.py).

Only the container keeps the socket. So the kernel refuses connections from the moment in which the container
has ended, and HAProxy sends the request to another container.
"""

import secrets
import socket
from collections.abc import Collection
from pathlib import Path

from homeport.contract.sizes import DOOR_BACKLOG

SCHEME = "abstract:"
PATH_SCHEME = "unix:"
NAME_BYTES = 107  # of sun_path's 108, after the zero; HAProxy's `abns@` pads the name with zeros


def make_in(directory: Path, container: str) -> tuple[socket.socket, str]:
    """Make the socket for a container in a cell, by a path in a directory that no cell shows.

    In a cell the node's user has another uid than outside, or none, so the runner cannot check the uid of a
    connection. The directory's mode decides who may connect.
    """
    listener = socket.socket(socket.AF_UNIX)
    path = directory / container
    try:
        listener.bind(str(path))
        listener.listen(DOOR_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener, f"{PATH_SCHEME}{path}"


def make(container: str) -> tuple[socket.socket, str]:
    """Return a listening socket, and its address for the ingress."""
    address = name(container)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path(address))
        listener.listen(DOOR_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener, address


def name(container: str) -> str:
    """Return a new abstract address: random, so that no other process can bind it before."""
    return f"{SCHEME}homeport-{container}-{secrets.token_hex(8)}"


def path(address: str) -> str:
    """Return the argument of `connect` for an address."""
    if address.startswith(PATH_SCHEME):
        return address.removeprefix(PATH_SCHEME)
    return "\0" + address.removeprefix(SCHEME).ljust(NAME_BYTES, "\0")


def remove(address: str) -> None:
    """Delete the path of a door, if it has one."""
    if address.startswith(PATH_SCHEME):
        Path(path(address)).unlink(missing_ok=True)


def sweep(directory: Path, keep: Collection[str]) -> None:
    """Make the directory with mode 0700; delete all doors in it except those of these containers."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    for door in directory.iterdir():
        if door.name not in keep:
            door.unlink(missing_ok=True)
