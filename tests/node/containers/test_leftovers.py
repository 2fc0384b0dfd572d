"""What is left of a container whose init was killed is ended, and has ended when that returns."""

import resource
import subprocess
import sys

import psutil

from homeport.node.containers import leftovers
from tests import processes

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


def test_every_process_with_the_containers_tmpdir_has_ended_afterwards(tmp_path):
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
        running = [each for each in family if processes.lives(each)]

    assert CHILDREN + 1 == len(family)
    assert [] == running


def test_without_a_descriptor_the_log_says_that_processes_may_be_left(tmp_path, caplog):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        leftovers.end(leftovers.NOBODY, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert "Too many open files" in caplog.text
