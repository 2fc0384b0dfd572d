"""Ports that a program of a test listens at later."""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

#: The kernel gives ports from this one on to whoever connects, or listens at port 0.
GIVEN_FROM = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
FIRST = 10_000
_KEPT: list[int] = []  # descriptors of locks: they end with this process


def free_port() -> int:
    """Return a free port, which nobody else takes before the test does.

    Neither the kernel, which gives others away, nor the tests of another worker, which see the lock.
    """
    directory = Path(tempfile.gettempdir()) / f"homeport-ports-of-tests-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    while True:
        port = random.randrange(FIRST, GIVEN_FROM) if GIVEN_FROM > FIRST else 0
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            port = trial.getsockname()[1]
            lock = os.open(directory / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
        _KEPT.append(lock)
        return port
