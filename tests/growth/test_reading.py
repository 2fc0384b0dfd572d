"""The child process ends with its input, whatever else it is doing; these tests need no Ray."""

import subprocess
import sys

import pytest

from homeport.contract import codec
from homeport.contract.growth import Bundle, Wanted

WANTED = Wanted(bundles=(Bundle(cpus=1.0),), busy=("machine",))
#: Reads in the thread, while the process itself waits for ever, as for a Ray that does not answer.
CODE = """
import queue, threading
from homeport.growth.__main__ import _read
news = queue.Queue()
threading.Thread(target=_read, args=(news,), daemon=True).start()
print(news.get(), flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("after", "code", "said"),
    [(b"", 0, b""), (b"{\n", 1, b"cannot be read"), (b"\xff\n", 1, b"cannot be read")],
    ids=["the control plane ends", "it says half of a line", "it says what is no text"],
)
def test_the_child_process_takes_what_is_wanted_and_ends_with_its_input(after, code, said):
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=pipe, stdout=pipe, stderr=pipe
    ) as child:
        child.stdin.write(codec.line(WANTED))
        child.stdin.flush()
        heard = child.stdout.readline()
        _, errors = child.communicate(after, timeout=60)

    assert f"{WANTED}\n".encode() == heard
    assert code == child.returncode
    assert said in errors
