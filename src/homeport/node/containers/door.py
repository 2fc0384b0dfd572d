"""A container's door: the listening socket that its node makes and hands over.

Its name is in Linux's abstract namespace (man 7 unix): nothing stands for it in the file system, so no
container can lead visitors elsewhere by a link, a rename or a second bind, and nothing is left to clear
away. An abstract name has no file mode: who lets visitors in looks at their uid (runner/door.py).

Only the container keeps the socket. So the kernel refuses connections from the moment in which the
container has ended, before anybody is told that it has, and HAProxy sends the request elsewhere.
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
    """The same for a container in a cell, by a path in a directory that no cell shows.

    In a cell, the node's user is another one than outside, or nobody, so the runner cannot look at a visitor's uid.
    Who may enter the directory may come in.
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
    """A socket that listens, and the address by which the ingress finds it."""
    # Nobody can take the name beforehand, as nobody can guess it.
    name = f"homeport-{container}-{secrets.token_hex(8)}"
    address = f"{SCHEME}{name}"
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path(address))
        listener.listen(DOOR_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener, address


def path(address: str) -> str:
    """What `connect` takes for such an address."""
    if address.startswith(PATH_SCHEME):
        return address.removeprefix(PATH_SCHEME)
    return "\0" + address.removeprefix(SCHEME).ljust(NAME_BYTES, "\0")


def remove(address: str) -> None:
    """Nothing stays of a door that has a path."""
    if address.startswith(PATH_SCHEME):
        Path(path(address)).unlink(missing_ok=True)


def sweep(directory: Path, keep: Collection[str]) -> None:
    """Have the directory, with mode 0700, and in it only the doors of these containers."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    for left in directory.iterdir():
        if left.name not in keep:
            left.unlink(missing_ok=True)
