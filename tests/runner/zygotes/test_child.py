"""A child of a zygote, with real processes."""

import json
import os
import socket

import pytest

from homeport.runner.zygotes import child
from homeport.runner.zygotes.child import Child

CONTINUES = 7  # the exit code of a child that may run the user's code


@pytest.mark.parametrize(("answer", "code"), [(b".", CONTINUES), (b"", 0)])
def test_a_child_runs_nothing_until_the_zygote_has_checked_its_files(answer, code):
    zygotes, childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not (pid := os.fork()):
        zygotes.close()
        Child("fork", -1, zygote=childs).wait()
        os._exit(CONTINUES)
    childs.close()
    with zygotes:
        early = os.waitpid(pid, os.WNOHANG)
        if answer:
            zygotes.send(answer)

    assert (0, 0) == early
    assert code == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_zygote_waits_for_no_answer():
    assert Child("function", -1).wait() is None


def test_a_request_is_read_whole_and_by_each_reader():
    request = os.memfd_create("request")
    wanted = {"environ": {"SECRET": "x" * 100_000}}
    os.write(request, json.dumps(wanted).encode())

    assert [wanted, wanted] == [child.data(request) for _ in range(2)]
    os.close(request)


def test_a_child_that_was_reaped_by_somebody_else_has_ended():
    if not (pid := os.fork()):
        os._exit(0)
    child.reap(pid)
    child.reap(pid)

    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
