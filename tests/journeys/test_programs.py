"""Programs in containers: `homeport container exec` and `homeport shell`, with pipes and with a terminal."""

import json
import os
import pty
import select
import shutil
import subprocess
import termios
import textwrap
import time

import pytest

from tests import isolation
from tests.journeys.conftest import PROBES, homes
from tests.waiting import PATIENCE_S, wait_for

OPEN = {"memory", "disk", "host_loopback"}
APP = """
    import modal

    app = modal.App("rooms")

    @app.function(secrets=[modal.Secret.from_dict({"WORD": "sesame"})], min_containers=1)
    def greet():
        import os
        return open("/tmp/seen").read() + " ".join(map(os.environ.get, ("HOME", "TMPDIR")))

    @app.cls()
    class Idle:
        @modal.method()
        def value(self):
            import probes
            return probes.__name__
"""
#: What a container may ask on its own socket.
ASK = """
import socket
with socket.socket(socket.AF_UNIX) as calls:
    calls.connect("/run/homeport/calls.sock")
    calls.sendall(
        b"GET /v1/programs?app=rooms&function=greet HTTP/1.1\\r\\nHost: x\\r\\nConnection: Upgrade\\r\\n"
        b"Upgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\\r\\n\\r\\n"
    )
    print(calls.makefile().readline().split()[1])
"""


@pytest.fixture(params=["root", pytest.param("ordinary", marks=pytest.mark.soak)])
def user(request):
    user = request.getfixturevalue("terminal" if request.param == "root" else "ordinary")
    isolation.needed()
    user.environ["HOMEPORT_ISOLATION"] = "on"
    return user


@pytest.fixture
def script(user):
    directory = user.home.parent / "app"
    directory.mkdir()
    path = directory / "rooms.py"
    path.write_text(textwrap.dedent(APP))
    shutil.copy(PROBES, directory)
    return path


def run(user, *words, **given):
    """Run a command with its input in a pipe."""
    return subprocess.run(
        user._argv(words),
        env=user.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        **given,
    )


def container(user) -> str:
    found = wait_for(
        lambda: [
            c["id"] for c in user.containers() if c["function"] == "greet" and c["state"] == "ready"
        ],
        "a container",
    )
    return found[0]


@pytest.mark.timeout(300)
def test_a_program_runs_in_a_container_and_can_do_no_more_than_it(user, script, neighbour):
    user.run("deploy", script)
    name = container(user)

    def execute(*words, **given):
        return run(user, "container", "exec", name, "--", *words, **given)

    inside = execute(
        "sh", "-c", "echo $WORD $HOMEPORT_FUNCTION $TMPDIR; pwd; cat; exit 7", input="typed"
    )
    assert 7 == inside.returncode, inside.stderr
    assert "sesame greet /tmp\n/root\ntyped" == inside.stdout
    apart = execute("sh", "-c", "echo out; echo err >&2", input="")
    assert ("out\n", "err\n") == (apart.stdout, apart.stderr)

    execute("sh", "-c", "echo from-outside > /tmp/seen", input="")
    calls = "import modal; print(modal.Function.from_name('rooms', 'greet').remote())"
    said = execute("python", "-c", calls, input="").stdout
    assert "from-outside\n/root /tmp\n" == said, "its variables name its own directories"
    assert "403\n" == execute("python", "-c", ASK, input="").stdout, "no container may run programs"
    assert 127 == execute("no-such-program", input="").returncode

    told = {**neighbour, "homes": homes(user.home)}
    code = "import json, sys, probes; print(json.dumps(probes.deployed(json.load(sys.stdin))))"
    probed = execute("python", "-c", code, input=json.dumps(told))
    assert 0 == probed.returncode, probed.stderr
    tried = json.loads(probed.stdout)
    assert {probe for probe, (evidence, _) in tried.items() if evidence} <= OPEN

    lasting = user.start("container", "exec", name, "--", "sh", "-c", "echo lasts; sleep 600")
    lasting.wait_for("lasts")
    user.run("container", "stop", "-y", name)
    assert 0 != lasting.end()
    gone = run(user, "container", "exec", name, "--", "true", input="")
    wait_for(lambda: name not in [c["id"] for c in user.containers()], "its end")
    gone = run(user, "container", "exec", name, "--", "true", input="")
    assert 1 == gone.returncode
    assert f"there is no container `{name}`" in gone.stderr


def test_a_shell_opens_in_a_function_of_a_script_or_of_a_deployed_app(user, script):
    """Also if no container of it runs; the script's is gone afterwards."""
    words = ["-c", "echo $HOMEPORT_FUNCTION $WORD; exit 3"]
    own = run(user, "shell", *words, f"{script}::greet", input="")
    assert (3, "greet sesame\n") == (own.returncode, own.stdout), own.stderr
    assert 1 == user.run("status", check=False).returncode, "the server ended with the shell"
    user.run("deploy", script)
    deployed = run(user, "shell", *words, "rooms::Idle.value", input="")
    unknown = run(user, "shell", "rooms", input="")

    assert (3, "Idle.*\n") == (deployed.returncode, deployed.stdout), deployed.stderr
    assert 1 == unknown.returncode
    assert "name one: `rooms::greet` or `rooms::Idle`" in unknown.stderr


class Screen:
    """A terminal with a command on it."""

    def __init__(self, argv, environ):
        self.master, slave = pty.openpty()
        self.text = ""
        self.process = subprocess.Popen(
            argv, env=environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)

    def until(self, text):
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.text:
            ready = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))[0]
            assert ready, f"no {text!r} in {self.text!r}"
            self.text += os.read(self.master, 65536).decode(errors="replace")
        self.text = self.text.partition(text)[2]

    def type(self, text):
        os.write(self.master, text.encode())

    def resize(self, rows, columns):
        termios.tcsetwinsize(self.master, (rows, columns))

    def close(self):
        os.close(self.master)
        self.process.kill()
        self.process.wait(PATIENCE_S)


def test_a_terminal_carries_keys_sizes_and_the_exit_code(user, script):
    user.run("deploy", script)
    name = container(user)
    argv = user._argv(["container", "exec", name, "sh"])
    screen = Screen(argv, {**user.environ, "TERM": "xterm", "PS1": "ready> "})
    try:
        screen.type("echo $TERM; tty; stty size; echo o''k\n")
        screen.until("xterm\r\n/dev/pts/0\r\n")
        screen.until("ok\r\n")
        screen.resize(41, 97)
        screen.process.send_signal(
            28
        )  # SIGWINCH, which the kernel sends to the terminal's foreground
        screen.type("while [ \"$(stty size)\" != '41 97' ]; do :; done; echo res''ized\n")
        screen.until("resized\r\n")
        # The terminal's foreground is this program when it says so.
        screen.type("sh -c 'echo go\"\"es; exec sleep 600'\n")
        screen.until("goes\r\n")
        screen.type("\x03")
        screen.type("echo inter''rupted; exit 5\n")
        screen.until("interrupted\r\n")

        assert 5 == screen.process.wait(PATIENCE_S)
    finally:
        screen.close()
