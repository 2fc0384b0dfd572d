"""What is left of a container whose init was killed is ended, and has ended when that returns."""

import subprocess
import sys

import psutil

from homeport.node.containers import leftovers

CHILDREN = 20
WITH_CHILDREN = f"""
import os, time
for _ in range({CHILDREN}):
    if not os.fork():
        break
else:
    print("all", flush=True)
while True:
    time.sleep(0)
"""


def test_whatever_has_its_tmpdir_has_ended_afterwards(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", WITH_CHILDREN],
        env={"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children()]
        leftovers.end(leftovers.NOBODY, tmp_path)
        running = []
        for each in family:  # the machine's pid 1 need not have noticed their end yet
            try:
                running += [each] if each.status() != psutil.STATUS_ZOMBIE else []
            except psutil.NoSuchProcess:
                continue

    assert CHILDREN + 1 == len(family)
    assert [] == running
