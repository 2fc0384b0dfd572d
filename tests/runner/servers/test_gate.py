"""A class that has `web_server`s and other methods, reached through the container's one door."""

import pickle
import select
import socket

import psutil
import pytest

from homeport.contract.calls import PICKLE
from homeport.contract.manifest import CallMethod
from tests.ports import free_port
from tests.runner.servers.test_relay import answer, connect

SCRIPT = """
    import subprocess, sys
    import modal
    app = modal.App("a")
    PROGRAM = '''
    import socket, sys
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    while True:
        visitor = listener.accept()[0]
        with visitor:
            request = visitor.recv(65536)
            if request.startswith(b"GET /end "):
                break
            visitor.sendall(sys.argv[1].encode() + request)
    '''

    def begin(port):
        import textwrap
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(PROGRAM), str(port)])

    @app.cls()
    class Desk:
        @modal.enter()
        def enter(self):
            self.calls = 0

        @modal.web_server(FIRST)
        def first(self):
            begin(FIRST)

        @modal.web_server(SECOND)
        def second(self):
            begin(SECOND)

        @modal.method()
        def times(self, n):
            self.calls += 1
            return n * 2, self.calls

        @modal.asgi_app()
        def app(self):
            async def app(scope, receive, send):
                if scope["type"] == "http":
                    names = b",".join(name for name, _ in scope["headers"])
                    await send({"type": "http.response.start", "status": 200, "headers": []})
                    await send({"type": "http.response.body", "body": names})
            return app
"""


@pytest.fixture
def desk(start):
    """Start the class; its ports are in the result too."""

    def desk(**function):
        ports = free_port(), free_port()
        script = SCRIPT.replace("FIRST", str(ports[0])).replace("SECOND", str(ports[1]))
        web = {
            "Desk.first": f"web_server:{ports[0]}",
            "Desk.second": f"web_server:{ports[1]}",
            "Desk.app": "asgi_app",
        }
        calls = (CallMethod(tag="Desk.times", attribute="times"),)
        return start(script, web=web, calls=calls, is_class=True, **function).ready(), *ports

    return desk


def test_each_method_gets_its_requests_and_a_program_the_bytes_of_its_visitor(desk):
    runner, first, second = desk()
    for method, port in (("first", first), ("second", second)):
        head = b"POST /x HTTP/1.1\r\nx-homeport-method: %s\r\nhOsT: x\r\n\r\nbody" % method.encode()
        expected = b"%dPOST /x HTTP/1.1\r\nhOsT: x\r\n\r\nbody" % port
        assert expected == answer(connect(runner, head))
    app = {"X-Homeport-Method": "app", "X-Other": "1"}
    assert b"x-other" in (names := runner.client.get("/", headers=app).content)
    assert b"x-homeport-method" not in names
    for n in (1, 2):
        called = runner.client.post(
            "/",
            content=pickle.dumps(((n,), {})),
            headers={"X-Homeport-Method": "times", "Content-Type": PICKLE},
        )
        assert (n * 2, n) == pickle.loads(called.content)
    assert 404 == runner.client.get("/", headers={"X-Homeport-Method": "none"}).status_code

    assert 0 == runner.terminate()
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"])]
    assert not any(str(first) in (words or []) for words in left)


def test_a_head_may_come_in_parts_and_a_visitor_may_leave_before_its_end(desk):
    runner, first, _ = desk()
    connect(runner, b"").close()
    connect(runner, b"GET / HTTP/1.1\r\nx-home").close()
    visitor = connect(runner, b"GET / HTTP/1.1\r\nx-homeport-")
    assert not select.select([visitor], [], [], 0)[0]
    visitor.sendall(b"method: first\r\n\r\n")

    assert b"%dGET / HTTP/1.1\r\n\r\n" % first == answer(visitor)


def test_a_head_without_end_is_refused(desk):
    runner, *_ = desk()
    visitor = connect(runner, b"GET / HTTP/1.1\r\n")
    with visitor, pytest.raises(OSError):
        for _ in range(1000):
            visitor.sendall(b"x" * 65536)


def test_when_one_program_ends_the_container_ends(desk):
    runner, first, _ = desk()
    connect(runner, b"GET /end HTTP/1.1\r\nx-homeport-method: first\r\n\r\n").close()

    assert 1 == runner.process.wait(60)
    runner.wait_for(f"no program listens on port {first} any more")


def test_a_single_use_container_takes_one_request_whatever_its_method(desk):
    runner, first, _ = desk(single_use=True)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.settimeout(60)
    waiting.connect(runner.door)  # accepted, or in the queue, before the door is shut
    head = b"GET / HTTP/1.1\r\nx-homeport-method: %s\r\n\r\n"

    assert answer(connect(runner, head % b"first")).startswith(b"%d" % first)
    waiting.sendall(head % b"app")
    assert answer(waiting).startswith(b"HTTP/1.1 425 ")
    assert 0 == runner.process.wait(60)
