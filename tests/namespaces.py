"""Machines as namespaces: each has a network, processes, a host name and a /tmp of its own, and one wire joins them.

The wire is a thread that carries each IP packet from one machine's TUN device to another's. It delays packets, loses
some, and cuts machines off. `tc netem` could do that, but few kernels have it.

A machine has no name that another test could use: it is the namespaces of one process, which is its pid 1. When that process is
killed, the kernel kills all the others of the machine, so nothing outlives a test. Root is needed, `unshare`, `nsenter`
and `ip`.
"""

import contextlib
import ctypes
import fcntl
import heapq
import ipaddress
import itertools
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.waiting import wait_for

TUN = Path("/dev/net/tun")
IFF_TUN, IFF_NO_PI, TUNSETIFF = 0x0001, 0x1000, 0x400454CA  # linux/if_tun.h
DEVICE = "eth0"
NETWORK = "10.77.0.0/24"  # no other machine, nor this one, sees it
PACKET_BYTES = 2**16
CLONE_NEWNET = 0x40000000
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
ROOT = Path(__file__).parents[1]


def lacks() -> str:
    """Return why no machine can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "only root makes machines of namespaces"
    if not TUN.exists():
        return f"there is no {TUN}"
    for program in ("unshare", "nsenter", "ip", "mount"):
        if shutil.which(program) is None:
            return f"`{program}` is not installed"
    return ""


class Wire:
    """Carries packets between machines, in a thread."""

    def __init__(self) -> None:
        self.delay_s = 0.0  # in each direction
        self.loss = 0.0  # the share of packets that are lost
        self._mute: set[bytes] = set()  # whose packets are lost
        self._deaf: set[bytes] = set()  # to whom packets are lost
        self._ends: dict[bytes, int] = {}  # by address: the machine's TUN device
        self._late: list[tuple[float, int, bytes, bytes]] = []  # the heap of delayed packets
        self._numbers = itertools.count()
        self._chance = random.Random(7)
        self._wake, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._is_closed = False
        # A device is used and closed under it: the kernel gives the number of a closed one to the next file.
        self._lock = threading.Lock()
        self._poll = select.epoll()
        self._poll.register(self._wake, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._thread.start()

    def plug(self, address: str, device: int) -> None:
        """Join a machine's device, which this object closes."""
        os.set_blocking(device, False)
        with self._lock:
            self._ends[socket.inet_aton(address)] = device
            self._poll.register(device, select.EPOLLIN)

    def unplug(self, address: str) -> None:
        """Take a device off the wire, and close it."""
        with self._lock:
            if (device := self._ends.pop(socket.inet_aton(address), None)) is not None:
                self._poll.unregister(device)
                os.close(device)

    def cut(self, *addresses: str) -> None:
        """Let no packet to or from these machines pass; nobody is told."""
        self.mute(*addresses)
        self.deafen(*addresses)

    def mute(self, *addresses: str) -> None:
        """Let no packet from these machines pass; they still get those of others."""
        self._mute.update(map(socket.inet_aton, addresses))

    def deafen(self, *addresses: str) -> None:
        """Let no packet to these machines pass; others still get theirs."""
        self._deaf.update(map(socket.inet_aton, addresses))

    def heal(self) -> None:
        """Let all packets pass again."""
        self._mute.clear()
        self._deaf.clear()

    def close(self) -> None:
        self._is_closed = True
        os.write(self._woken, b"x")
        self._thread.join()
        for device in self._ends.values():
            os.close(device)
        self._poll.close()
        for end in (self._wake, self._woken):
            os.close(end)

    def _run(self) -> None:
        while not self._is_closed:
            wait_s = max(0.0, self._late[0][0] - time.monotonic()) if self._late else -1
            ready = self._poll.poll(wait_s)
            with self._lock:
                for device, _what in ready:
                    if device in self._ends.values():  # it may have been unplugged meanwhile
                        self._read(device)
                while self._late and self._late[0][0] <= time.monotonic():
                    _at, _number, to, packet = heapq.heappop(self._late)
                    self._deliver(to, packet)

    def _read(self, device: int) -> None:
        for _ in range(64):  # then the other machines have their turn
            try:
                packet = os.read(device, PACKET_BYTES)
            except OSError:  # none is left, or the machine was unplugged
                return
            if packet[0] >> 4 != 4:
                continue
            sender, to = packet[12:16], packet[16:20]
            if sender in self._mute or to in self._deaf:
                continue
            if self.loss and self._chance.random() < self.loss:
                continue
            if self.delay_s:
                due = time.monotonic() + self.delay_s
                heapq.heappush(self._late, (due, next(self._numbers), to, packet))
            else:
                self._deliver(to, packet)

    def _deliver(self, to: bytes, packet: bytes) -> None:
        if (device := self._ends.get(to)) is not None and to not in self._deaf:
            with contextlib.suppress(OSError):  # a full queue loses packets, as a switch does
                os.write(device, packet)


class Machine:
    """One machine, which is on from the beginning."""

    def __init__(self, name: str, address: str, wire: Wire) -> None:
        self.name, self.address = name, address
        self._wire = wire
        self._holder: subprocess.Popen[bytes] | None = None
        # The machine is off when its other end sees it closed.
        self._lifeline: socket.socket | None = None
        self.boot()

    def boot(self) -> None:
        """Turn the machine on, with no process but its pid 1."""
        ours, theirs = socket.socketpair()
        with theirs:
            own = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork"]
            own += ["--kill-child", "--mount-proc", "--"]
            pid_1 = [sys.executable, "-m", "tests.namespaces", str(theirs.fileno())]
            self._holder = subprocess.Popen(
                [*own, *pid_1, self.name, self.address],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            theirs.close()
            _, devices, _, _ = socket.recv_fds(ours, 16, 1)
        self._lifeline = ours
        assert devices, f"the machine `{self.name}` has not started"
        self._wire.plug(self.address, devices[0])

    def kill(self) -> None:
        """Turn the machine off, with all its processes, at once: nobody is told."""
        if self._holder is None:
            return
        self._wire.unplug(self.address)
        self._holder.kill()  # with `unshare`, the kernel kills pid 1, and with that one the rest
        self._holder.wait()
        self._holder = None
        assert self._lifeline is not None
        self._lifeline.close()

    @property
    def pid(self) -> int:
        """The id of its pid 1, as this process sees it."""
        assert self._holder is not None
        return child_of(self._holder.pid).pid

    def words(self, *words: str | Path) -> list[str]:
        """Return the command that runs another one on the machine."""
        into = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--ipc", "--pid"]
        return [*into, f"--wdns={ROOT}", "--", *map(str, words)]

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the machine, as this process sees them."""
        own = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError):  # it has ended
                if os.readlink(f"/proc/{process.pid}/ns/pid") == own:
                    found.append(process)
        return found

    def path(self, path: Path) -> Path:
        """Return where this process finds a file of the machine."""
        return Path(f"/proc/{self.pid}/root") / path.relative_to("/")

    def start(
        self, *words: str | Path, environ: Mapping[str, str], log: Path
    ) -> "subprocess.Popen[bytes]":
        """Start a program on the machine; what it says is appended to a file. `program` has its process."""
        with log.open("ab") as output:
            return subprocess.Popen(
                self.words(*words),
                env={**environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Give this thread the network of the machine; sockets that it makes stay there."""
        with open("/proc/thread-self/ns/net") as own, open(f"/proc/{self.pid}/ns/net") as other:
            _enter(other.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())


class Machines:
    """Machines and their wire: `with Machines() as machines: machines.add("b")`."""

    def __init__(self) -> None:
        self.wire = Wire()
        self._all: list[Machine] = []
        self._addresses = map(str, ipaddress.ip_network(NETWORK).hosts())

    def add(self, name: str) -> Machine:
        """Make a machine, with the next address."""
        machine = Machine(name, next(self._addresses), self.wire)
        self._all.append(machine)
        return machine

    def cut(self, *machines: Machine) -> None:
        """Cut machines off from all others."""
        self.wire.cut(*(machine.address for machine in machines))

    def heal(self) -> None:
        """Join all machines again."""
        self.wire.heal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for machine in self._all:
            machine.kill()
        self.wire.close()


def program(started: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> psutil.Process:
    """Return the process that `nsenter` has begun: a signal to `nsenter` itself would end only `nsenter`."""
    return child_of(started.pid)


def child_of(pid: int) -> psutil.Process:
    """Return the first child of a process that is about to have one."""
    children = wait_for(lambda: psutil.Process(pid).children(), f"a child of {pid}")
    return children[0]


def later(environ: Mapping[str, str], seconds: float) -> dict[str, str]:
    """Return an environment in which the clock is off by so many seconds."""
    return {
        **environ,
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": f"{seconds:+g}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _be_pid_1(arguments: Sequence[str]) -> None:
    """Set the machine up, give its TUN device to the test, and wait for the test's end."""
    channel, name, address = arguments
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for orphans
    socket.sethostname(name)
    device = os.open(TUN, os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    prefix = NETWORK.partition("/")[2]
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "address", "add", f"{address}/{prefix}", "dev", DEVICE),
        ("ip", "link", "set", DEVICE, "up"),
        ("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp"),
    ):
        done = subprocess.Popen(command)
        with contextlib.suppress(ChildProcessError):
            done.wait()
    with socket.socket(fileno=int(channel)) as lifeline:
        socket.send_fds(lifeline, [b"x"], [device])
        os.close(device)
        lifeline.recv(1)  # until the test has ended, also by a kill


if __name__ == "__main__":
    _be_pid_1(sys.argv[1:])
