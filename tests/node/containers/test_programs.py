"""Programs in containers, where they cannot be started. `tests/journeys/test_programs.py` has those that run."""

import os
import socket
import subprocess

import pytest

from homeport.node.containers import programs


def open_files() -> set[str]:
    """Return the numbers of this process's open files."""
    names = os.listdir("/proc/self/fd")
    return {name for name in names if os.path.lexists(f"/proc/self/fd/{name}")}


@pytest.mark.parametrize(("where", "name", "succeeds"), [(os, "pipe", 1), (subprocess, "Popen", 0)])
def test_a_program_that_cannot_be_started_leaves_no_file_open(monkeypatch, where, name, succeeds):
    """The agent lives for months."""
    usual, calls = getattr(where, name), []

    def fails(*words, **options):
        calls.append(words)
        if len(calls) > succeeds:
            raise OSError("there is no more")
        return usual(*words, **options)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = open_files()
        with monkeypatch.context() as patched:
            patched.setattr(where, name, fails)
            with pytest.raises(OSError, match="no more"):
                programs._enter({"terminal": None}, -1, theirs)

        assert before == open_files()
