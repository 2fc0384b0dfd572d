"""A `web_server`'s program, reached through the container's door."""

import asyncio
import contextlib
import socket
from types import SimpleNamespace

import pytest

from homeport.contract.sizes import MIB
from homeport.runner.servers.relay import Relay
from homeport.runner.servers.slots import Slots
from tests.orders import order
from tests.ports import free_port
from tests.waiting import until

SCRIPT = """
    import subprocess, sys
    import modal
    app = modal.App("a")
    PROGRAM = '''
    import socket, sys, time, threading
    def talk(visitor):
        with visitor:
            request = visitor.recv(65536)
            if not request:
                return
            path = request.split()[1]
            if path == b"/slow":
                time.sleep(60)
            if path == b"/half":
                while data := visitor.recv(65536):
                    request += data
                visitor.sendall(b"%d bytes" % len(request))
            elif path == b"/begun":
                visitor.sendall(b"HTTP/1.1 200 OK\\\\r\\\\n\\\\r\\\\nbegun")
                time.sleep(60)
            elif path == b"/none":
                return
            elif path == b"/end":
                listener.close()
                import os
                os._exit(0)
            elif path == b"/big":
                visitor.sendall(b"x" * 20_000_000)
            else:
                visitor.sendall(request)
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    while True:
        threading.Thread(target=talk, args=(listener.accept()[0],)).start()
    '''

    @app.function()
    @modal.web_server(PORT)
    def web():
        import textwrap
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(PROGRAM), "PORT"])
"""


@pytest.fixture
def program(start):
    def program(**function):
        port = free_port()
        script = SCRIPT.replace("PORT", str(port))
        return start(script, web={"web": f"web_server:{port}"}, **function).ready()

    return program


def connect(runner, request: bytes) -> socket.socket:
    visitor = socket.socket(socket.AF_UNIX)
    visitor.settimeout(30)
    try:
        visitor.connect(runner.door)
        visitor.sendall(request)
    except OSError:
        visitor.close()
        raise
    return visitor


def answer(visitor: socket.socket) -> bytes:
    with visitor, visitor.makefile("rb") as file:
        return file.read()


def test_bytes_pass_unchanged_and_an_end_of_either_side_too(program):
    runner = program(max_inputs=10)
    odd = b"GET /x HTTP/1.1\r\nhOsT: x\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n\x00\xff"

    assert odd == answer(connect(runner, odd))
    half = connect(runner, b"POST /half HTTP/1.1\r\n\r\n")
    half.sendall(b"x" * 1_000_000)
    half.shutdown(socket.SHUT_WR)

    assert b"1000023 bytes" == answer(half)
    assert 20_000_000 == len(answer(connect(runner, b"GET /big HTTP/1.1\r\n\r\n")))


def test_a_program_that_takes_too_long_is_504_and_its_slot_is_free_again(program):
    runner = program(timeout_s=1.0)
    late = answer(connect(runner, b"GET /slow HTTP/1.1\r\n\r\n"))

    assert late.startswith(b"HTTP/1.1 504 ")
    assert late.endswith(b"homeport: the function took longer than 1 s\n")
    assert answer(connect(runner, b"GET /x HTTP/1.1\r\n\r\n")).startswith(b"GET /x")
    runner.wait_for("a request took longer than its timeout of 1 s")


def test_an_answer_that_has_begun_is_cut_when_the_time_is_up(program):
    runner = program(timeout_s=1.0)
    visitor = connect(runner, b"GET /begun HTTP/1.1\r\n\r\n")
    heard = b""
    with pytest.raises(ConnectionResetError), visitor:
        while True:
            data = visitor.recv(100)
            heard += data
            if not data:
                raise ConnectionResetError

    assert heard.endswith(b"begun")


def test_a_relay_lets_in_no_more_requests_than_there_are_slots(program):
    runner = program(max_inputs=1, timeout_s=20.0)
    first = connect(runner, b"GET /begun HTTP/1.1\r\n\r\n")
    assert first.recv(100)
    second = connect(runner, b"GET /x HTTP/1.1\r\n\r\n")
    second.settimeout(0.5)
    with pytest.raises(TimeoutError):
        second.recv(1)
    first.close()
    second.settimeout(30)

    assert answer(second).startswith(b"GET /x")


def test_a_program_that_closes_without_an_answer_is_502(program):
    runner = program()

    assert answer(connect(runner, b"GET /none HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
    runner.wait_for("has closed a connection without an answer")


def test_a_program_that_ends_ends_its_container(program):
    runner = program()
    connect(runner, b"GET /end HTTP/1.1\r\n\r\n").close()

    assert 1 == runner.process.wait(60)
    runner.wait_for("no program listens on port")


def test_a_request_that_no_program_sees_is_left_for_another_container(program):
    import os
    import select
    import signal

    runner = program()
    children = [
        int(pid)
        for pid in os.listdir("/proc")
        if pid.isdigit() and _is_program(pid, str(runner.launch.function.ports[0]))
    ]
    for pid in children:
        ended = os.pidfd_open(pid)
        signal.pidfd_send_signal(ended, signal.SIGKILL)
        select.select([ended], [], [], 10)  # its socket is closed by then
        os.close(ended)

    assert children
    # The container may have seen it first; then it ends, and nobody answers.
    with contextlib.suppress(ConnectionError):
        heard = answer(connect(runner, b"GET /x HTTP/1.1\r\n\r\n"))
        assert not heard or heard.startswith(b"HTTP/1.1 425 ")
    assert 1 == runner.process.wait(60)


def _is_program(pid: str, port: str) -> bool:
    from pathlib import Path

    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[-2:] == [port.encode(), b""] and b"-c" in words


def test_a_connection_without_a_request_takes_no_slot(program):
    """HAProxy checks a container in this way, 0.1 s after it was added."""
    runner = program(max_inputs=1, timeout_s=60.0)
    with connect(runner, b""):
        assert answer(connect(runner, b"GET /x HTTP/1.1\r\n\r\n")).startswith(b"GET /x")


async def test_a_visitor_is_not_read_while_the_program_takes_nothing_of_the_first_part():
    """Else a body of 4 GiB would be in memory."""
    orders = order()
    serving = SimpleNamespace(
        order=orders,
        slots=Slots(orders.function, None, lambda: None),
        turns=SimpleNamespace(add=lambda _work: None),
    )
    here, there = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as program, there:
        relay = Relay(program.getsockname()[1], serving, lambda: True)
        transport, visit = await asyncio.get_running_loop().connect_accepted_socket(
            relay.visit, here
        )
        head = b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n"
        visit.data_received(head + bytes(64 * MIB))
        await until(lambda: visit.other is not None, "a connection to the program")
        is_reading = transport.is_reading()
        visit.cut()

        assert not is_reading
