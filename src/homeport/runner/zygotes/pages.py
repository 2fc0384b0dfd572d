"""Copies the pages of memory that containers write to, before a container is asked for.

A forked process shares each page with its parent until one of the two writes to it. Then the kernel copies the page,
in a page fault that takes 3 to 4 µs. A FastAPI hello has 3,200 page faults until it has answered: they are
more than half of its CPU time. So a zygote reads which pages one of its containers has copied, and a child
that it forks ahead copies the same pages while it is idle. Their contents stay the same. If the kernel does
not allow this, a start only takes longer.
"""

import contextlib
import ctypes
import os
import re
import select
import sys
from array import array
from collections.abc import Iterator

PAGE = os.sysconf("SC_PAGE_SIZE")
# Bits of the most significant byte of an entry in /proc/PID/pagemap (Linux: admin-guide/mm/pagemap.rst).
PRESENT, OF_A_FILE, EXCLUSIVE = 0x80, 0x20, 0x01
TOP_BYTE = 7 if sys.byteorder == "little" else 0
MAPPED = bytes(ord("1") if flags & PRESENT else ord("0") for flags in range(256))
COPIED = bytes(
    ord("1") if flags & (PRESENT | OF_A_FILE | EXCLUSIVE) == PRESENT | EXCLUSIVE else ord("0")
    for flags in range(256)
)
POPULATE_READ, POPULATE_WRITE = 22, 23  # linux/mman.h, since Linux 5.14
MAX_COPIED = 8192  # pages, 32 MiB: a container may have written to all of its memory
QUIET_MS = 200  # a child waits this long before it copies: the container before it may be starting
BATCH = 16  # ranges; after each batch the child looks whether it is asked for
NO_MEMORY = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")


class Pages:
    """Ranges of this process's memory, as pairs of an address and a length in bytes."""

    def __init__(self) -> None:
        self.copied = array("Q")
        self.mapped = array(
            "Q"
        )  # of files: shared, but after a fork each is mapped by a page fault
        self.count = 0  # of copied pages

    @staticmethod
    def of(pidfd: int) -> "Pages | None":
        """Return the copied and the mapped pages of a process that was forked from this one; None if it has ended.

        None also where this process may not look at it. Only memory that this process has too is read.
        """
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:  # noqa: PTH123
                pid = int(file.read().partition("\nPid:")[2].split()[0])
            pages = Pages()
            with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:  # noqa: PTH123
                for start, end, writable in _private_memory():
                    entries = os.pread(file.fileno(), (end - start) // PAGE * 8, start // PAGE * 8)
                    pages._add(start, entries[TOP_BYTE::8], writable=writable)
            return pages if pages.count else None  # a zombie has no memory
        return None

    def _add(self, start: int, flags: bytes, *, writable: bool) -> None:
        ranges = self.copied if writable else self.mapped
        for run in re.finditer(b"1+", flags.translate(COPIED if writable else MAPPED)):
            length = run.end() - run.start()
            if writable and self.count + length > MAX_COPIED:
                return
            self.count += length if writable else 0
            ranges.extend((start + run.start() * PAGE, length * PAGE))

    def fetch(self, request: int) -> None:
        """Copy and map these pages for this process; stop once the descriptor `request` is readable."""
        poll = select.poll()
        poll.register(request, select.POLLIN)
        wait_ms = QUIET_MS
        libc = ctypes.CDLL(None)
        for advice, ranges in ((POPULATE_WRITE, self.copied), (POPULATE_READ, self.mapped)):
            for number in range(0, len(ranges), 2):
                if number % (2 * BATCH) == 0:
                    if poll.poll(wait_ms):
                        return
                    wait_ms = 0
                address, length = ranges[number : number + 2]
                libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), advice)


def _private_memory() -> Iterator[tuple[int, int, bool]]:
    """Yield each range of this process's private memory: start, end, whether it is writable (proc(5), maps)."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        lines = file.read().splitlines()
    for line in lines:
        where, allowed = line.split()[:2]
        if allowed[0] == "r" and allowed[3] == "p" and not line.endswith(NO_MEMORY):
            start, _, end = where.partition("-")
            yield int(start, 16), int(end, 16), allowed[1] == "w"
