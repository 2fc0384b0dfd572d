"""A Debian with systemd that systemd-nspawn boots, and people who type commands there.

Root and Debian's `mmdebstrap` and `systemd-container` are needed. nspawn's filter of calls gets `pidfd_getfd`, by which
the next server takes over HAProxy's sockets; a real machine has no such filter.
"""

import contextlib
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from tests.waiting import wait_for

#: A fresh Debian, with what lets ordinary users act: `sudo` and `curl`.
PACKAGES = "ca-certificates,systemd,systemd-sysv,dbus,python3,libpam-systemd,sudo,curl"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
NAME = "server"  # the machine's, which `sudo` looks up
PATIENCE_S = 900.0  # for an installation from a registry

#: What a terminal shows -> what is typed then. A function is called first; it returns the text.
Typed = Sequence[tuple[str, "str | Callable[[str], str]"]]


def debian(folder: Path, packages: str) -> Path:
    """Make a Debian 12 in `folder`/root; its programs trust the CAs of this machine."""
    root = folder / "root"
    private = ["unshare", "--mount", "--propagation", "private", "--"]
    made = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={packages}"]
    subprocess.run([*private, *made, "bookworm", str(root)], check=True)
    shutil.copy(BUNDLE, root / "etc/ssl/certs/ca-certificates.crt")
    (root / "etc/pip.conf").write_text(f"[global]\ncert = {BUNDLE}\n")
    return root


class Machine:
    """A Debian with systemd, in namespaces of its own; it has the network of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.process: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Start systemd, and wait until it has started everything."""
        words = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"]
        words += ["-D", str(self.root), "--capability=all"]
        words += ["--resolv-conf=copy-host"]
        words += ["--system-call-filter=@debug pidfd_getfd"]
        with (self.folder / "console").open("a") as console:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                env={
                    **os.environ,
                    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1",
                },
            )
        state = ("systemctl", "is-active", "multi-user.target")
        wait_for(lambda: self.run(*state, check=False) == "active\n", "systemd")

    def halt(self) -> None:
        """Shut it down."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children():
                child.send_signal(signal.SIGRTMIN + 4)  # poweroff (man 1 systemd)
        self.process.wait(120)
        self.process = None

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command as root; return what it prints."""
        inside = self._inside()
        if not inside:
            return ""
        done = subprocess.run(
            [*inside, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert not check or done.returncode == 0, f"{words}\n{done.stdout}"
        return done.stdout

    def user(self, name: str, *, may_sudo: bool = False) -> "Person":
        """Make an ordinary user."""
        self.run("useradd", "--create-home", "--shell", "/bin/bash", name)
        if may_sudo:
            (self.root / "etc/sudoers.d" / name).write_text(f"{name} ALL=(ALL) NOPASSWD: ALL\n")
        return Person(self, name)

    def _inside(self) -> list[str]:
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        if not children:
            return []
        entered = [
            "nsenter",
            "-t",
            str(children[0].pid),
            *["-m", "-u", "-i", "-p", "-C", "-r", "-w"],
        ]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return [*entered, "env", "-i", "HOME=/root", "TERM=dumb", path]


class Person:
    """A user of a machine, at a terminal."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self._name = name
        self.home = Path("/home", name)
        self.environ: dict[str, str] = {}

    def types(self, text: str, *typed: tuple[str, "str | Callable[[str], str]"], code: int = 0):
        """Run a command in the person's home, on a terminal; return what it shows.

        When the terminal shows the pattern of the next item of `typed`, its text is typed, or what its function
        returns. The command has to end with `code`.
        """
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environ.items())
        script = f"cd; export {words}; {text}" if words else f"cd; {text}"
        user = ["setsid", "--ctty", "--wait", "runuser", "-u", self._name, "--"]
        user += ["env", f"HOME={self.home}", f"USER={self._name}", "bash", "-c", script]
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*self._machine._inside(), *user], stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        try:
            shown = _follow(ours, typed)
            ended = process.wait(PATIENCE_S)
        finally:
            os.close(ours)
            if process.poll() is None:
                process.kill()
                process.wait()
        assert code == ended, f"$ {text}\n-> {ended}\n{shown}"
        return shown


def _follow(terminal: int, typed: Typed) -> str:
    """Read a terminal until nobody has its other end, and type; return what it has shown."""
    shown, seen, left = "", 0, list(typed)
    while True:
        try:
            news = os.read(terminal, 65536)
        except OSError:  # EIO: the other end is closed (man 4 pts)
            news = b""
        if not news:
            assert not left, f"no {left[0][0]!r} in:\n{shown}"
            return shown
        shown += news.decode(errors="replace").replace("\r\n", "\n")
        if left and (match := re.search(left[0][0], shown[seen:])):
            seen += match.end()
            answer = left.pop(0)[1]
            text = answer if isinstance(answer, str) else answer(shown)
            os.write(terminal, text.encode())


def lacks() -> str:
    """Return why no machine can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "only root makes a Debian and boots it"
    for program in ("mmdebstrap", "systemd-nspawn", "nsenter"):
        if shutil.which(program) is None:
            return f"`{program}` is not installed"
    return ""
