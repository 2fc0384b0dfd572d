"""What a zygote and its child say to each other, with a real fork each."""

import json
import subprocess
import sys

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
    birth = Zygote(control, Shelf()).serve()
    os.write(mark, b"begins")
    birth.wait()
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
    """What the child did before the check had ended, what the node heard, and what the child did then."""
    run = subprocess.run(
        [sys.executable, "-c", BOTH, stale], capture_output=True, timeout=20, check=True
    )
    return list(json.loads(run.stdout))


def test_a_child_begins_while_the_files_are_checked_and_waits_for_the_result():
    assert ["begins", "forked", "runs", 0] == ask("")


def test_a_child_of_a_stale_zygote_ends_before_the_user_s_code_runs():
    assert ["begins", "stale", 0] == ask("a file has changed")
