"""A neighbour with secrets: another app, as a container would like to see it. Ends with its standard input.

`python victim.py DIRECTORY TOKEN` prints one line of JSON: where everything is. The token is in its
environment (SECRET), its memory, its files, its sockets and its shared memory.
"""

import contextlib
import ctypes
import json
import os
import socket
import sys
import threading
from pathlib import Path


def main() -> None:
    directory, token = Path(sys.argv[1]), os.environ["SECRET"]
    word = ctypes.create_string_buffer(token.encode())
    for name in ("source.py", "store.db", "vault.key"):
        (directory / name).write_text(token)
    shared = Path(f"/dev/shm/homeport-victim-{os.getpid()}")
    temporary = Path(f"/tmp/homeport-victim-{os.getpid()}")
    for path in (shared, temporary):
        path.write_text(token)
        path.chmod(0o600)
    libc = ctypes.CDLL(None, use_errno=True)
    key = 0x48000000 + os.getpid()
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(key, 4096, 0o1600)  # IPC_CREAT
    address = libc.shmat(segment, None, 0)
    ctypes.memmove(address, token.encode(), len(token))
    queue = f"homeport-victim-{os.getpid()}"
    named = libc.mq_open(f"/{queue}".encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
    messages = libc.msgget(key, 0o1600)
    by_path = _serve(socket.AF_UNIX, str(directory / "control.sock"), token)
    by_name = _serve(socket.AF_UNIX, f"\0homeport-victim-{os.getpid()}", token)
    loopback = _serve(socket.AF_INET, ("127.0.0.1", 0), token)
    told = {
        "pid": os.getpid(),
        "address": ctypes.addressof(word),
        "directory": str(directory),
        "shared": str(shared),
        "temporary": str(temporary),
        "shm_key": key,
        "queue": queue if named >= 0 else "",
        "by_path": by_path,
        "by_name": by_name,
        "loopback": loopback,
    }
    print(json.dumps(told), flush=True)
    sys.stdin.read()
    libc.shmctl(segment, 0, None)  # IPC_RMID
    libc.msgctl(messages, 0, None)
    libc.mq_unlink(f"/{queue}".encode())
    for path in (shared, temporary):
        path.unlink(missing_ok=True)


def _serve(family: int, address: object, token: str) -> object:
    """Send the token to each client that connects."""
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen()

    def answer() -> None:
        while True:
            visitor, _ = listener.accept()
            with visitor, contextlib.suppress(OSError):  # one who has left already
                visitor.sendall(token.encode())

    threading.Thread(target=answer, daemon=True).start()
    name = listener.getsockname()
    return name.decode() if isinstance(name, bytes) else name


if __name__ == "__main__":
    main()
