"""A container's pulse: one page of memory that the runner writes and its node reads.

The node makes the page and gives its descriptor to the runner (see contract/container.py). The runner maps
the page and writes to it; the node reads it once a second. So the node notices a process that is stopped or
that holds the GIL, and neither side wakes the other.

Seven 64-bit little-endian numbers. Times are nanoseconds of CLOCK_MONOTONIC, which both processes share:

    0  beat      when the runner's own thread last had the GIL
    1  turn      when the server's event loop last turned; 0 before it runs
    2  deadline  when the oldest request inside must have ended; 0 while there is none
    3  inside    requests that hold a slot, work after their response included
    4  refused   why connections cannot be accepted (an errno); 0 while they can
    5  requests  that began since the start
    6  held      slots with work that continues after its response. The report has it too; a later server has
                 no report from the containers that it takes over, and reads it here

A container can write anything to its page. The reader uses the page only to decide when to end *this*
container.
"""

import fcntl
import mmap
import os
import struct
import time

from homeport.contract.dataclass import dataclass

SIZE_BYTES = 4096
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
MASK = 2**64 - 1
BEAT_S = 2.0  # how often the runner beats while a request is inside
IDLE_BEAT_S = 5.0  # and without one: each time costs more than its few instructions, because the caches are cold
_BEAT, _TURN, _DEADLINE, _INSIDE, _REFUSED, _REQUESTS, _HELD = range(7)
_PAGE = struct.Struct("<7Q")


def create() -> int:
    """Make a page in memory with a sealed size; return its descriptor.

    Without the seal a container could shrink the file, and the node's next read would end the node with
    SIGBUS (man 2 memfd_create, F_SEAL_SHRINK).
    """
    descriptor = os.memfd_create("pulse", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, SIZE_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    return descriptor


class Pulse:
    """The runner's side: writes the container's state, cheaply enough for each request."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, SIZE_BYTES)
        self._numbers = memoryview(self._memory).cast("Q")

    def beat(self) -> None:
        """Record that this process runs, and that a thread of it gets the GIL."""
        self._numbers[_BEAT] = time.monotonic_ns()

    def turn(self) -> None:
        """Record that the server's event loop turns."""
        self._numbers[_TURN] = time.monotonic_ns()

    def inside(self, count: int, deadline: float | None) -> None:
        """Record how many requests hold a slot; the oldest must end at `deadline` (seconds, time.monotonic)."""
        self._numbers[_INSIDE] = count
        self._numbers[_DEADLINE] = int(deadline * 1e9) if deadline is not None else 0

    @property
    def is_idle(self) -> bool:
        """True while no request holds a slot."""
        return not self._numbers[_INSIDE]

    def began(self) -> None:
        """Count a request."""
        self._numbers[_REQUESTS] = (
            self._numbers[_REQUESTS] + 1
        ) & MASK  # code of the user's may write here

    def held(self, count: int) -> None:
        """Record how many slots have work that continues after its response."""
        self._numbers[_HELD] = count

    def refused(self, errno: int) -> None:
        """Record the errno for which connections cannot be accepted; 0 if they can."""
        self._numbers[_REFUSED] = errno


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The page's contents. Times are seconds of `time.monotonic`; 0.0 for never or none."""

    beat: float
    turn: float
    deadline: float
    inside: int
    refused: int
    requests: int
    held: int = 0


class Reader:
    """The node's side."""

    def __init__(self, descriptor: int) -> None:
        """Map the page; `ValueError` if the file's size is not sealed, so that reading it is safe."""
        if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS != SEALS:
            raise ValueError("the pulse's size is not sealed")
        self._memory = mmap.mmap(descriptor, SIZE_BYTES, prot=mmap.PROT_READ)

    def read(self) -> Reading:
        """Return the page's contents."""
        beat, turn, deadline, inside, refused, requests, held = _PAGE.unpack_from(self._memory)
        return Reading(
            beat=beat / 1e9,
            turn=turn / 1e9,
            deadline=deadline / 1e9,
            inside=inside,
            refused=refused,
            requests=requests,
            held=held,
        )

    def is_well(self, since: float) -> bool:
        """Return whether thread and loop have run since then, no request is inside, and connections are accepted.

        False says that `read` has to be judged; this takes a fifth of its time.
        """
        beat, turn, deadline, _, refused, _, _ = _PAGE.unpack_from(self._memory)
        return min(beat, turn) > since * 1e9 and not deadline and not refused

    def close(self) -> None:
        """Unmap the page."""
        self._memory.close()
