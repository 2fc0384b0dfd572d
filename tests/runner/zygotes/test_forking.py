"""Messages between a zygote and its child, with real forks."""

import json
import subprocess
import sys

import pytest

#: A zygote, and a node that asks it for one container. The check of all files ends when the node says so.
BOTH = """
import json, os, select, socket, sys
from homeport.runner.zygotes.forking import Zygote

stale = sys.argv[1]
goes_on, go = os.pipe()
marks, mark = os.pipe()
node, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Shelf:
    def stale(self):
        os.read(goes_on, 1)
        return stale

    def unlike(self, environ):
        return ""


if not os.fork():
    node.close()
    child = Zygote(control, Shelf()).serve()
    os.write(mark, b"begins")
    child.wait()
    os.write(mark, b"runs")
    os._exit(0)
control.close()
request = os.memfd_create("request")
os.write(request, json.dumps({"environ": {}}).encode())
output = os.pipe()[1]
given = [request, output, *(os.memfd_create("given") for _ in range(3))]
socket.send_fds(node, [b"fork"], given)
told = [os.read(marks, 100).decode()]
os.write(go, b".")
message = node.recv(10_000)
told.append(next(iter(json.loads(message))))
if not stale:
    told.append(os.read(marks, 100).decode())
told.append(len(select.select([marks], [], [], 0)[0]))
node.close()
os.wait()
print(json.dumps(told))
"""


def ask(stale: str) -> list[object]:
    """Return what the child did before the check ended, what the node heard, and what the child did after that."""
    run = subprocess.run(
        [sys.executable, "-c", BOTH, stale], capture_output=True, timeout=20, check=True
    )
    return list(json.loads(run.stdout))


def test_a_child_begins_while_the_files_are_checked_and_waits_for_the_result():
    assert ["begins", "forked", "runs", 0] == ask("")


def test_a_child_of_a_stale_zygote_ends_before_the_user_s_code_runs():
    assert ["begins", "stale", 0] == ask("a file has changed")


#: A zygote whose container writes to 2,000 pages, and the memory of its own that the next child has then.
NEXT = """
import ctypes, json, mmap, os, select, socket, sys, time
from homeport.runner.zygotes import pages
from homeport.runner.zygotes.forking import Zygote

PAGES = 2000
node, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
memory = mmap.mmap(-1, PAGES * pages.PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.write(bytes(len(memory)))


class Shelf:
    def stale(self):
        return ""

    def unlike(self, environ):
        return ""


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:  # it has been replaced
        return []


def own_pages(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) for line in file if "Private_Dirty" in line) // 4
    except OSError:
        return 0


zygote = os.fork()
if not zygote:
    node.close()
    child = Zygote(control, Shelf()).serve()
    child.wait()
    for page in range(PAGES):
        memory[page * pages.PAGE] = 1
    time.sleep(60)
    os._exit(0)
control.close()
if ctypes.CDLL(None).madvise(0, 0, pages.POPULATE_WRITE):
    print("this kernel copies no pages ahead")
    os._exit(0)
request = os.memfd_create("request")
os.write(request, json.dumps({"environ": {}}).encode())
output = os.pipe()[1]
socket.send_fds(node, [b"fork"], [request, output, *(os.memfd_create("g") for _ in range(3))])
forked = json.loads(node.recv(10_000))["forked"]
deadline = time.monotonic() + 60
most = 0
while most < PAGES and time.monotonic() < deadline:
    time.sleep(0.02)
    for init in children(zygote):
        if init != forked:
            for runner in children(init):
                most = max(most, own_pages(runner))
os.kill(children(forked)[0], 9)
select.select([node], [], [])  # the report of its end, which this node does not read before it ends
node.close()
assert 0 == os.wait()[1]  # without its node a zygote ends in good order
print("copied" if most >= PAGES else most)
"""


def test_the_next_child_copies_what_the_container_before_has_written_to():
    run = subprocess.run(
        [sys.executable, "-c", NEXT], capture_output=True, timeout=120, check=True, text=True
    )
    told = run.stdout.strip()
    if told.startswith("this kernel"):
        pytest.skip(told)

    assert "copied" == told


#: A zygote that forks a burst of containers, and how many children wait in it afterwards.
BURST = """
import json, os, socket, sys, time
from homeport.runner.zygotes import forking
from homeport.runner.zygotes.forking import Zygote

forking.BURST_S = float(sys.argv[1])
first, second = map(int, sys.argv[2:])
node, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
lives, life = os.pipe()


class Shelf:
    def stale(self):
        return ""

    def unlike(self, environ):
        return ""


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return {int(child) for child in file.read().split()}


def wait_for(count):
    deadline = time.monotonic() + 60
    while len(found := children(zygote) - forked) != count and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(found)


def fork(count):
    for _ in range(count):
        request = os.memfd_create("request")
        os.write(request, json.dumps({"environ": {}}).encode())
        given = [request, os.dup(null), *(os.memfd_create("given") for _ in range(3))]
        socket.send_fds(node, [b"fork"], given)
        for descriptor in given:
            os.close(descriptor)
        forked.add(json.loads(node.recv(10_000))["forked"])


zygote = os.fork()
if not zygote:
    node.close()
    child = Zygote(control, Shelf()).serve()
    child.wait()
    time.sleep(120)
    os._exit(0)
control.close()
null = os.open(os.devnull, os.O_RDWR)
forked = set()
os.close(life)  # the zygote and its children hold it
fork(4)
told = [wait_for(first)]
fork(4)
told.append(wait_for(second))
node.send(b"rest")
told.append(wait_for(0))
for init in forked:
    os.kill(init, 9)
node.close()
os.waitpid(zygote, 0)
told.append(os.read(lives, 1).decode())  # returns when the last process has ended
print(json.dumps(told))
"""


def burst(lasts_s: float, first: int, second: int) -> list[object]:
    """Return how many children wait after four forks, after four more, and after `rest`.

    It waits until they are as many as expected.
    """
    words = [sys.executable, "-c", BURST, str(lasts_s), str(first), str(second)]
    run = subprocess.run(words, capture_output=True, timeout=200, check=True)
    return list(json.loads(run.stdout))


def test_as_many_children_wait_as_the_last_burst_needed_and_all_end_with_the_zygote():
    # However slow the machine is, the eight forks are one burst, or eight.
    assert [4, 8, 0, ""] == burst(1000, 4, 8)
    assert [1, 1, 0, ""] == burst(-1, 1, 1)
