"""Pages that a child copies ahead, with real forks: each script prints what it has seen."""

import json
import subprocess
import sys
from typing import Any

import pytest

#: Memory of a parent, and children that write to some of it.
MEMORY = """
import ctypes, json, mmap, os, resource
from homeport.runner.zygotes import pages
from homeport.runner.zygotes.pages import PAGE, Pages

memory = mmap.mmap(-1, 400 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.write(b"x" * len(memory))
never, asks = os.pipe()


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def write():
    before = faults()
    for page in range(100, 300):
        memory[page * PAGE] = ord("y")
    return faults() - before


def child(does):
    told, tells = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(asks)
        os.write(tells, json.dumps(does()).encode())
        os.read(never, 1)  # until it is killed, or the parent has ended
        os._exit(0)
    return pid, json.loads(os.read(told, 1000))


def look():
    pid, _ = child(write)
    pidfd = os.pidfd_open(pid)
    found = Pages.of(pidfd)
    os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    zombie = Pages.of(pidfd)
    os.waitpid(pid, 0)
    return found, zombie, Pages.of(pidfd)

"""


def run(script: str) -> Any:
    """Return what the script prints."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY + script], capture_output=True, timeout=30, check=True
    )
    return json.loads(done.stdout)


#: `madvise` knows nothing of this before Linux 5.14.
@pytest.fixture(scope="module", autouse=True)
def _populate() -> None:
    if run("import ctypes\nprint(ctypes.CDLL(None).madvise(0, 0, pages.POPULATE_WRITE))"):
        pytest.skip("this kernel copies no pages ahead")


def test_a_child_has_the_pages_that_the_one_before_has_written_and_their_content_stays():
    told = run("""
found, *_ = look()


def fetch():
    before = faults()
    found.fetch(never)
    same = memory[:] == b"x" * len(memory)
    return faults() - before >= 200, write(), same


print(json.dumps([found.count >= 200, child(write)[1] >= 200, *child(fetch)[1]]))
""")
    written, as_many_without, fetched, later, same = told

    assert written
    assert as_many_without
    assert fetched
    assert later < 20
    assert same


def test_only_pages_that_were_written_are_copied():
    assert [list(range(100, 300))] == run("""
found, *_ = look()
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
copied = [
    page
    for address, length in zip(found.copied[::2], found.copied[1::2])
    for page in range((address - start) // PAGE, (address - start + length) // PAGE)
    if 0 <= page < 400
]
print(json.dumps([copied]))
""")


def test_a_child_that_is_asked_for_copies_nothing_more():
    assert run("""
found, *_ = look()
os.write(asks, b".")
before = faults()
found.fetch(never)
print(json.dumps(faults() - before < 100))
""")


def test_a_process_that_has_ended_has_no_pages():
    assert [None, None] == run("print(json.dumps(look()[1:]))")


def test_the_number_of_copied_pages_is_bounded():
    assert run("pages.MAX_COPIED = 150\nprint(json.dumps(look()[0].count))") <= 150
