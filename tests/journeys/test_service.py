"""`homeport service` under a real systemd: a Debian that systemd-nspawn boots.

Root and Debian's `mmdebstrap` and `systemd-container` are needed. nspawn's filter of calls gets `pidfd_getfd`, by which
the next server takes over HAProxy's sockets; a machine has no such filter.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import httpx
import psutil
import pytest

from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
PACKAGES = "ca-certificates,systemd,systemd-sysv,dbus,python3,python3-venv,uidmap,libpam-systemd"
HOST = "main--steady-container.apps.example.com"
HOME = "/var/lib/homeport"
APP = """
import os
import modal
app = modal.App("steady")
@app.function(min_containers=1)
@modal.fastapi_endpoint()
def container():
    return os.environ["MODAL_TASK_ID"]
"""

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        os.geteuid() != 0 or not (shutil.which("mmdebstrap") and shutil.which("systemd-nspawn")),
        reason="root, mmdebstrap and systemd-nspawn are needed",
    ),
]


class Machine:
    """A Debian with systemd, in namespaces of its own; it has the network of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        words = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
            "-D",
            str(self.folder / "root"),
        ]
        words += [
            "--capability=all",
            "--system-call-filter=@debug pidfd_getfd",
            "--resolv-conf=copy-host",
        ]
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
        wait_for(
            lambda: (
                self.run("systemctl", "is-active", "multi-user.target", check=False) == "active\n"
            ),
            "systemd",
        )

    def run(self, *words: str, check: bool = True) -> str:
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        if not children:
            return ""
        environ = [
            "HOME=/root",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
        ]
        inside = [
            "nsenter",
            "-t",
            str(children[0].pid),
            "-m",
            "-u",
            "-i",
            "-p",
            "-C",
            "-r",
            "-w",
            "env",
            "-i",
            *environ,
        ]
        done = subprocess.run(
            [*inside, *words], capture_output=True, text=True, check=False, timeout=600
        )
        assert not check or done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout

    def halt(self) -> None:
        if self.process is not None:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(self.process.pid).children():
                    child.send_signal(signal.SIGRTMIN + 4)  # poweroff (man 1 systemd)
            self.process.wait(120)
            self.process = None


@pytest.fixture
def machine(tmp_path):
    subprocess.run(
        [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--",
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=minbase",
            f"--include={PACKAGES}",
            "bookworm",
            str(tmp_path / "root"),
        ],
        check=True,
    )
    ours, root = Path("/etc/ssl/certs/ca-certificates.crt"), tmp_path / "root"
    shutil.copy(ours, root / "etc/ssl/certs/ca-certificates.crt")
    subprocess.run(
        ["uv", "build", "--quiet", "--wheel", "--out-dir", str(root / "dist"), str(ROOT)],
        check=True,
    )
    (root / "app.py").write_text(APP)
    machine = Machine(tmp_path)
    machine.boot()
    yield machine
    machine.halt()


def ask() -> str:
    headers = {"Host": HOST}
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get("http://127.0.0.1:80/", headers=headers, trust_env=False, timeout=60).text
    return ""


def test_a_server_is_installed_survives_a_reboot_is_upgraded_and_removed(machine):
    [wheel] = (machine.folder / "root/dist").glob("*.whl")
    homeport = "/root/hp/bin/homeport"
    machine.run("python3", "-m", "venv", "/root/hp")
    machine.run("/root/hp/bin/pip", "-q", "install", f"/dist/{wheel.name}")
    machine.run(homeport, "service", "install", "--domain", "apps.example.com", "--tls", "off")
    as_user = ["runuser", "-u", "homeport", "--", "env", f"HOMEPORT_HOME={HOME}"]
    deploy = "cd / && exec /opt/homeport/current/bin/homeport deploy /app.py"
    machine.run(*as_user, "sh", "-c", deploy)
    first = wait_for(ask, "an answer")
    isolated = "homeport.cell" in machine.run("systemctl", "status", "--no-pager", "-l", "homeport")
    machine.halt()
    machine.boot()
    second = wait_for(ask, "an answer after the reboot")

    assert isolated
    assert first != second

    answers, ended = [], threading.Event()

    def visit() -> None:
        while not ended.is_set():
            answers.append(ask())

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        before = machine.run("readlink", "/opt/homeport/current")
        machine.run(homeport, "service", "upgrade")
        after = machine.run("readlink", "/opt/homeport/current")
        broken = machine.run("sh", "-c", f"{homeport} service upgrade --from /nothing.whl; echo $?")
        machine.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", "homeport")
    finally:
        ended.set()
        visitor.join()

    assert {second} == set(answers)
    assert before != after
    assert broken.endswith("1\n")
    assert after == machine.run("readlink", "/opt/homeport/current")

    machine.run(homeport, "service", "uninstall", "--purge", "--yes")

    assert "" == ask()
    for path in (HOME, "/opt/homeport", "/etc/systemd/system/homeport.service"):
        assert not (machine.folder / "root" / path.lstrip("/")).exists()
