"""Processes that are held by their pidfd."""

import os
import signal
import subprocess

import pytest

from homeport.node.held import Held


def test_a_process_is_known_by_the_kernels_word_and_signalled_by_its_descriptor():
    with subprocess.Popen(["sleep", "60"]) as process:
        held = Held.of(os.pidfd_open(process.pid), parent=os.getpid())
        held.signal(signal.SIGTERM)

        assert process.pid == held.pid
        assert -signal.SIGTERM == process.wait(60)
        held.signal(signal.SIGKILL)  # of one that has ended: nothing
    held.close()
    held.close()


def test_a_descriptor_of_somebody_elses_process_is_refused_and_closed():
    pidfd = os.pidfd_open(os.getppid())
    with pytest.raises(PermissionError, match="not a child of"):
        Held.of(pidfd, parent=os.getpid())

    with pytest.raises(OSError):
        os.fstat(pidfd)


def test_a_descriptor_that_is_no_pidfd_is_refused(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(PermissionError):
        Held.of(descriptor, parent=os.getpid())
