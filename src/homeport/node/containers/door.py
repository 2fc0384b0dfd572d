"""A container's door: the listening socket that its node makes and hands over.

Its name is in Linux's abstract namespace (man 7 unix): nothing stands for it in the file system, so no
container can lead visitors elsewhere by a link, a rename or a second bind, and nothing is left to clear
away. An abstract name has no file mode: who lets visitors in looks at their uid (runner/door.py).

Only the container keeps the socket. So the kernel refuses connections from the moment in which the
container has ended, before anybody is told that it has, and HAProxy sends the request elsewhere.
"""

import secrets
import socket

BACKLOG = 1024
SCHEME = "abstract:"
NAME_BYTES = 107  # of sun_path's 108, after the zero; HAProxy's `abns@` pads the name with zeros


def make(container: str) -> tuple[socket.socket, str]:
    """A socket that listens, and the address by which the ingress finds it."""
    # Nobody can take the name beforehand, as nobody can guess it.
    name = f"homeport-{container}-{secrets.token_hex(8)}"
    address = f"{SCHEME}{name}"
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path(address))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener, address


def path(address: str) -> str:
    """What `connect` takes for such an address."""
    return "\0" + address.removeprefix(SCHEME).ljust(NAME_BYTES, "\0")
