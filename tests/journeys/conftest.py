"""A user at a terminal: the real command line, the real server, real requests."""

import contextlib
import json
import os
import queue
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import psutil
import pytest

from homeport.settings import Settings
from tests import commands, postgres, processes, registries, terminals, trees
from tests.waiting import PATIENCE_S, wait_for

ROOT = Path(__file__).parents[2]
PROBES, VICTIM = ROOT / "tests/cell/probes.py", ROOT / "tests/cell/victim.py"
TOLD = 6000  # characters of the server's log
ORDINARY = 23457  # a user that no system has
SHOWN = {"run", "lib", "environments"}  # on the way to what a container sees


class Command:
    """A `homeport` command that goes on running, such as `serve`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news: queue.Queue[None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """Return everything that the command has printed."""
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """Return the first line from line `after` on that matches; fail if the command ends without one."""
        deadline = time.monotonic() + PATIENCE_S
        seen = after
        while True:
            # Asked before the lines: what comes between the two questions is seen in the next round.
            has_ended = self.process.poll() is not None and not self._reader.is_alive()
            while seen < len(self.lines):
                if match := re.search(pattern, self.lines[seen]):
                    return match
                seen += 1
            left = deadline - time.monotonic()
            if left <= 0 or has_ended:
                raise AssertionError(f"no {pattern!r} in:\n{self.output}")
            with contextlib.suppress(queue.Empty):
                self._news.get(timeout=min(left, 0.5))

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Wait for the command's end; return its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._news.put(None)
        self._news.put(None)


class Terminal:
    """Runs `homeport …` with its own home."""

    #: For commands that end by themselves; without it, each starts a Python.
    forking: commands.Forking | None = None

    def __init__(self, home: Path) -> None:
        self.home = home
        self._commands: list[Command] = []
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("HOMEPORT_", "MODAL_"))},
            "HOMEPORT_HOME": str(home),
            "HOMEPORT_HTTP_PORT": "0",
            "HOMEPORT_WORKSPACE": "ada",
            "PYTHONWARNINGS": "default",
        }
        if setting := postgres.setting(home):
            self.environ["HOMEPORT_DATABASE"] = setting

    def run(self, *args: str | Path, check: bool = True, **kwargs) -> subprocess.CompletedProcess:
        """Run a command that ends by itself."""
        done = self._done(args, kwargs.pop("timeout", PATIENCE_S), **kwargs)
        if check and done.returncode:
            log = self.home / "server.log"
            told = log.read_text() if log.exists() else ""
            raise AssertionError(f"{args} -> {done.returncode}\n{done.stdout}{done.stderr}\n{told}")
        return done

    def json(self, *args: str | Path, **kwargs):
        """Return what a command prints with `--json`."""
        return json.loads(self.run(*args, "--json", **kwargs).stdout)

    def on_a_screen(self, *args: str | Path) -> terminals.Terminal:
        """Start a command on a terminal of its own."""
        plain = {k: v for k, v in self.environ.items() if k not in ("NO_COLOR", "CI", "TERM")}
        return terminals.Terminal(self._argv(args), plain, echo=True)

    def start(self, *args: str | Path, **kwargs) -> Command:
        """Start a command that goes on running."""
        process = subprocess.Popen(
            self._argv(args),
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            **kwargs,
        )
        command = Command(process)
        self._commands.append(command)
        return command

    def serve(self, script: Path, *args: str, **kwargs) -> Command:
        """Start `homeport serve`; return when it serves."""
        command = self.start("serve", script, *args, **kwargs)
        command.wait_for("Ctrl-C")
        return command

    def deploy(self, script: Path, *args: str, **kwargs) -> dict[str, str]:
        """Run `homeport deploy`; return tag -> local URL."""
        told = self.json("deploy", script, *args, **kwargs)
        return {endpoint["tag"]: endpoint["local_url"] for endpoint in told["endpoints"]}

    def status(self) -> dict:
        """Return the status, as `homeport status --json` does."""
        return self.ask("/v1/status")

    def log(self, app: str, *texts: str, only: Sequence[str] = ()) -> str:
        """Return the log of an app once it has these texts, a text as often as it is given.

        A line may be there only after the response. `only` are options that choose lines.
        """

        def found() -> str:
            log = self.run("app", "logs", app, *only).stdout
            return log if all(log.count(text) >= texts.count(text) for text in texts) else ""

        return wait_for(found, f"{texts} in the log of {app}")

    def urls(self) -> dict[str, str]:
        """Return tag -> local URL of all live endpoints."""
        return {
            endpoint["tag"]: endpoint["local_url"]
            for app in self.status()["apps"]
            for endpoint in app["endpoints"]
        }

    def ask(self, path: str) -> dict:
        """Ask the server over its socket, for a loop: a command would start a Python each time."""
        with self._server() as client:
            return client.get(path).raise_for_status().json()

    def containers(self) -> list[dict]:
        """Return all containers, as `homeport container list --json` does."""
        return self.ask("/v1/containers")["containers"]

    def processes(self, command: str = "") -> list[psutil.Process]:
        """Return each process that has this home in its environment, command line or working directory.

        With `command`, return only those that have this text in their command line. A process may end at any
        moment, also between two questions about it: a test asks here, where such a process is left out.
        """
        return processes.of_home(self.home, command)

    def close(self) -> None:
        """End everything that this terminal has started."""
        self._tell()
        for command in self._commands:
            if command.process.poll() is None:
                command.process.send_signal(signal.SIGINT)
        for command in self._commands:
            try:
                command.process.wait(60)
            except subprocess.TimeoutExpired:
                command.process.kill()
                command.process.wait()
        self._down()
        processes.end_of(self.home)
        for command in self._commands:  # now nobody has the other end of their pipes
            assert command.process.stdout is not None
            command.end()
            command.process.stdout.close()

    def _server(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=self._socket(), verify=False)  # nothing is encrypted
        return httpx.Client(transport=transport, base_url="http://x", timeout=PATIENCE_S)

    def _socket(self) -> str:
        # A socket's path has room for 107 bytes (man 7 unix), and this link's may be longer.
        return os.path.realpath(self.home / "run" / "control.sock")

    def _listens(self) -> bool:
        # Not asked by httpx, which leaves a socket open that nobody accepts.
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(self._socket())
            return True
        return False

    def _down(self) -> None:
        """End the server, if one runs: as `homeport down`, which would start a Python for it."""
        if not self._listens():
            return
        try:
            with self._server() as client:
                pid = client.get("/v1/status").raise_for_status().json()["pid"]
                ended = os.pidfd_open(pid)
                try:
                    client.post("/v1/shutdown").raise_for_status()
                    select.select([ended], [], [], PATIENCE_S)
                finally:
                    os.close(ended)
        except (httpx.HTTPError, KeyError, OSError):
            self.run("down", check=False)

    def _tell(self) -> None:
        """Print what explains a failure; pytest shows it only then."""
        for path in sorted(self.home.glob("revisions/*")):
            print(path, [str(each.relative_to(path)) for each in trees.paths(path)][:20])
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                print(process.pid, process.ppid(), process.status(), *process.cmdline()[:6])
        with contextlib.suppress(OSError):
            print((self.home / "server.log").read_text()[-TOLD:])

    def _done(
        self, args: tuple[str | Path, ...], timeout: float, **kwargs
    ) -> subprocess.CompletedProcess:
        if self.forking is not None and self.forking.can(self.environ, kwargs):
            return self.forking.run([*map(str, args)], self.environ, timeout, **kwargs)
        return subprocess.run(
            self._argv(args),
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
            **kwargs,
        )

    def _argv(self, args: tuple[str | Path, ...]) -> list[str]:
        return [sys.executable, "-m", "homeport", *map(str, args)]


class Ordinary(Terminal):
    """A user who is not root and has their own Python."""

    forking = None

    def __init__(self, home: Path, python: Path) -> None:
        super().__init__(home)
        self.python = python
        become = ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
        self.words = [*become, "--no-new-privs", "--", "env"]
        self.environ["HOME"] = str(home.parent)

    def _argv(self, args: "tuple[str | Path, ...]") -> list[str]:
        return [*self.words, str(self.python), "-m", "homeport", *map(str, args)]


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """A directory that everybody may enter."""
    directory = Path(f"/var/tmp/homeport-ordinary-{secrets.token_hex(4)}")
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def ordinary_python() -> Iterator[Path]:
    """A Python that an ordinary user may run, with homeport."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root may become somebody else, by setpriv")
    with _directory() as directory:
        venv = ["/usr/bin/python3", "-m", "venv", "--without-pip", directory / "venv"]
        subprocess.run(venv, check=True)
        (packages,) = (directory / "venv/lib").glob("python*/site-packages")
        ours = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "ours.pth").write_text("\n".join([*ours, str(ROOT / "src")]))
        python = directory / "venv/bin/python"
        done = Ordinary(directory / "home", python).run("--version", check=False)
        assert done.returncode in (0, 1, 126, 127), (done.returncode, done.stderr)
        if done.returncode:
            pytest.skip(f"an ordinary user cannot run homeport here: {done.stderr[-200:]}")
        yield python


@pytest.fixture
def ordinary(ordinary_python):
    """A terminal of an ordinary user, with a directory of theirs."""
    with _directory() as directory:
        os.chown(directory, ORDINARY, ORDINARY)
        terminal = Ordinary(directory / "home", ordinary_python)
        yield terminal
        terminal.close()


@pytest.fixture(scope="session", autouse=True)
def _forking(request, tmp_path_factory) -> Iterator[None]:
    if request.config.getoption("--soak"):  # each command as a user starts it
        yield
        return
    environ = {**os.environ, "PYTHONWARNINGS": "default"}
    Terminal.forking = commands.Forking(tmp_path_factory.mktemp("commands"), environ)
    yield
    Terminal.forking.close()
    Terminal.forking = None


@pytest.fixture
def terminal(home) -> Iterator[Terminal]:
    """A user at a terminal; processes that they leave running are ended."""
    terminal = Terminal(home)
    yield terminal
    terminal.close()


@pytest.fixture(scope="session")
def registry(tmp_path_factory) -> Iterator[registries.Registry]:
    """A registry of this worker's own."""
    with registries.running(tmp_path_factory.mktemp("registry") / "r") as running:
        yield running


@pytest.fixture(scope="session")
def small(registry) -> str:
    """A script's words for an image with a shell and this machine's Python: a Debian would take a minute."""
    if not Path("/usr/bin/python3").exists():
        pytest.skip("the image has /usr/bin/python3 of this machine, and there is none")
    path = "PATH=/usr/local/bin:/usr/bin:/bin"
    tag = registry.push("small:1", [registries.system()], Env=[path])
    return f"modal.Image.from_registry({tag!r})"


@pytest.fixture
def visitor() -> Iterator[httpx.Client]:
    """An HTTP client."""
    with httpx.Client(timeout=PATIENCE_S, trust_env=False) as client:
        yield client


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Write a user's script; return its path."""

    def write(text: str, name: str = "script.py") -> Path:
        import textwrap

        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def neighbour(tmp_path) -> Iterator[dict[str, object]]:
    """A process with secrets that stands for another app; what a probe of tests/cell/probes.py needs to know of it."""
    (directory := tmp_path / "victim").mkdir()
    token = f"canary-{secrets.token_hex(8)}"
    with subprocess.Popen(
        [sys.executable, VICTIM, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"SECRET": token},
    ) as victim:
        assert victim.stdout is not None
        yield {**json.loads(victim.stdout.readline()), "token": token}
        victim.communicate()


def homes(home: Path) -> list[str]:
    """What a server has in its home that no container may see: its store, its keys, its sockets and so on."""
    settings = Settings(home=home)
    found = {p for d in (home, settings.run_dir, settings.socket_dir) for p in d.iterdir()}
    return sorted(str(path) for path in found if path.name not in SHOWN)
