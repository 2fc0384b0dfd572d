"""The guide "A server", followed word for word: a Debian with a real systemd, a real CA, and a laptop.

The commands are those of the pages: `Guide` has them, and the test fails if it types another one or leaves one out.
"""

import contextlib
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.state import tables
from tests import machines
from tests.control.certificates import authority
from tests.docs import blocks
from tests.journeys.test_https_orders import Visitor
from tests.journeys.test_taking_over import MIGRATION
from tests.machines import Machine, Person
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
DOMAIN = f"apps.{authority.ZONE}"
HOST = f"main--hello-hello.{DOMAIN}"
HOME, UNIT = "/var/lib/homeport", "/etc/systemd/system/homeport.service"
#: Blocks of these pages are typed here if they are not run elsewhere for one of these reasons.
WHY = ("it needs systemd and root", "it needs a domain")
#: What lets a certificate come from the tests' CA instead of Let's Encrypt.
SETTINGS = """
acme_directory = "{directory}"
acme_ca = "/etc/acme.pem"
dns_resolver = "127.0.0.1:{dns_port}"
public_addresses = "127.0.0.1"
"""
#: A server that serves, and then ends: only `service upgrade` can find that out.
ENDS = "import os, threading\nthreading.Timer(6, os._exit, (9,)).start()\n"

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(machines.lacks() != "", reason=machines.lacks()),
]


class Guide:
    """The commands of a page that its own test does not run."""

    def __init__(self, page: str) -> None:
        self.story = blocks.read((ROOT / f"docs/guides/{page}.md").read_text())
        self.left = [
            command.text
            for block in self.story
            if block.language == "console" and any(why in block.before for why in WHY)
            for command in block.commands
        ]

    def __call__(self, text: str) -> str:
        """Return a command of the page as it is typed here; fail if the page does not have it."""
        self.left.remove(text)
        return text.replace("apps.example.com", DOMAIN)

    def file(self, title: str) -> str:
        """Return the text of a file that the page lets its reader write."""
        [text] = [block.text for block in self.story if block.title == title]
        return text


@pytest.fixture
def machine(tmp_path) -> Iterator[Machine]:
    """A fresh Debian with homeport's repository in /home/ops/homeport."""
    root = machines.debian(tmp_path, machines.PACKAGES)
    (root / "etc/hostname").write_text(f"{machines.NAME}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost {machines.NAME} {DOMAIN} {HOST}\n")
    machine = Machine(tmp_path)
    machine.boot()
    yield machine
    machine.halt()


@pytest.fixture
def ca(tmp_path_factory) -> Iterator[authority.Authority]:
    """A CA that looks for its challenges on port 80, and whose roots a public program would trust."""
    with authority.running(tmp_path_factory.mktemp("ca"), 80) as ca:
        yield ca


def test_the_commands_of_the_guide_for_a_server_do_what_it_says(
    machine: Machine, ca: authority.Authority
):
    guide, backup = Guide("server"), Guide("backup")
    ops, ada = machine.user("ops", may_sudo=True), machine.user("ada")
    trust(machine, ca, ada)
    visitor = Visitor(443, ca.roots())

    install(machine, guide, ops, ca)
    deploy_from_a_laptop(machine, guide, ops, ada)
    assert 200 == wait_for(lambda: visitor.answers(HOST), "HTTPS")[0]
    with visited(visitor) as statuses:
        upgrade(machine, guide, ops)
        a_broken_upgrade_goes_back(machine, ops)
    assert {200} == set(statuses)

    back_up_and_restore(machine, backup, ops, ada)
    machine.halt()
    machine.boot()
    assert 200 == wait_for(lambda: visitor.answers(HOST), "HTTPS after a reboot")[0]
    audit = ops.types("sudo homeport service run audit")
    for words in ("service install", "service upgrade", "(by ops)", "server stop", "SIGTERM"):
        assert words in audit
    uninstall(machine, guide, ops)

    assert visitor.answers(HOST) is None
    assert [] == guide.left
    assert [] == backup.left


def trust(machine: Machine, ca: authority.Authority, laptop: Person) -> None:
    """Let the laptop trust the tests' CA as it trusts Let's Encrypt, and the server its API."""
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    with (machine.root / bundle.lstrip("/")).open("a") as file:
        file.write(ca.roots())
    laptop.environ["SSL_CERT_FILE"] = bundle  # programs in Python have a list of their own
    shutil.copy(ca.bundle, machine.root / "etc/acme.pem")


def install(machine: Machine, guide: Guide, ops: Person, ca: authority.Authority) -> None:
    """From a fresh Debian to a service that begins with the machine, in cells."""
    repository(machine, machine.root / "home/ops/homeport")
    for text in (
        "sudo apt-get update",
        "sudo apt-get install --yes python3-venv uidmap",
        "sudo python3 -m venv /usr/local/lib/homeport",
        "sudo /usr/local/lib/homeport/bin/pip install .",
        "sudo ln -s /usr/local/lib/homeport/bin/homeport /usr/local/bin/",
    ):
        ops.types(f"cd homeport; {guide(text)}")
    text = "sudo homeport service install --domain apps.example.com --email ops@example.com"
    told = ops.types(guide(f"{text} --dry-run"))
    assert "useradd" in told
    assert not (machine.root / UNIT.lstrip("/")).exists()
    told = ops.types(guide(text))
    assert "starts with the machine" in told
    settings = SETTINGS.format(directory=ca.directory, dns_port=ca.dns_port)
    with (machine.root / HOME.lstrip("/") / "config.toml").open("a") as file:
        file.write(settings)
    machine.run("systemctl", "reload", "homeport")
    told = ops.types(guide("sudo homeport service status"))
    assert "homeport.service: active (running)" in told
    assert "0 apps" in told


def repository(machine: Machine, folder: Path) -> None:
    """Unpack homeport's files there."""
    built = machine.folder / "sdist"
    subprocess.run(["uv", "build", "-q", "--sdist", "--out-dir", built, ROOT], check=True)
    [packed] = built.glob("*.tar.gz")
    with tarfile.open(packed) as tar:
        tar.extractall(built, filter="data")
    packed.unlink()
    shutil.move(next(path for path in built.iterdir() if path.is_dir()), folder)


def deploy_from_a_laptop(machine: Machine, guide: Guide, ops: Person, ada: Person) -> None:
    """With a home of its own: log in, deploy, ask by HTTPS, and serve until Ctrl-C."""
    told = ops.types(guide("sudo homeport service run token create --name laptop --scope deploy"))
    token = told.partition("HOMEPORT_TOKEN=")[2].split()[0]
    (machine.root / "home/ada/hello.py").write_text(guide.file("hello.py"))
    ada.environ["HOMEPORT_HOME"] = str(ada.home / "laptop")
    look = ["curl", "-s", f"https://{DOMAIN}/v1/status"]
    wait_for(lambda: "unauthorized" in machine.run(*look, check=False).lower(), "the API by HTTPS")
    told = ada.types(
        guide("homeport login https://apps.example.com"), ("Token for .*:", f"{token}\n")
    )
    assert token not in told
    assert f"https://{HOST}" in ada.types(guide("homeport deploy hello.py"))
    asked = guide("curl https://main--hello-hello.apps.example.com")
    wait_for(lambda: "hello" in ada.types(f"{asked} || true"), "HTTPS")
    ada.types(guide("homeport serve hello.py"), ("Ctrl-C", "\x03"), code=0)
    assert "hello" in ops.types(guide("sudo homeport service run app list"))


@contextlib.contextmanager
def visited(visitor: Visitor) -> Iterator[list[int]]:
    """Ask by HTTPS until the end of the block; yields the list of the answers' statuses, 0 for none."""
    statuses: list[int] = []
    over = threading.Event()

    def visit() -> None:
        while not over.wait(0.05):
            statuses.append((visitor.answers(HOST) or (0, ""))[0])

    visiting = threading.Thread(target=visit)
    visiting.start()
    try:
        yield statuses
    finally:
        over.set()
        visiting.join()


def upgrade(machine: Machine, guide: Guide, ops: Person) -> None:
    """Another version replaces the one that runs."""
    before = machine.run("readlink", "/opt/homeport/current")
    told = ops.types(guide("sudo homeport service upgrade"))
    assert "serves; before it was" in told
    assert before != machine.run("readlink", "/opt/homeport/current")


def a_broken_upgrade_goes_back(machine: Machine, ops: Person) -> None:
    """A version that migrates the database, serves and then ends: the one before comes back with its database."""
    later = machine.root / "home/ops/later"
    shutil.copytree(machine.root / "home/ops/homeport", later)
    state = later / "src/homeport/state"
    text = (state / "tables.py").read_text()
    (state / "tables.py").write_text(text.replace(f'"{tables.SCHEMA}"', '"9999"'))
    migration = MIGRATION.format(before=tables.SCHEMA)
    (state / "migrations/versions/9999_later.py").write_text(migration)
    main = later / "src/homeport/control/main.py"
    main.write_text(f"{main.read_text()}\n{ENDS}")
    before = machine.run("readlink", "/opt/homeport/current")
    told = ops.types("sudo homeport service upgrade --from ~/later", code=1)
    words = " ".join(told.split())
    assert "going back" in words
    assert "serves again" in words
    assert before == machine.run("readlink", "/opt/homeport/current")
    assert "hello" in ops.types("sudo homeport service run app list")
    assert "homeport.db.later" in machine.run("ls", HOME)
    missing = ops.types("sudo homeport service upgrade --from /nothing.whl", code=1)
    assert "/nothing.whl" in missing


def back_up_and_restore(machine: Machine, guide: Guide, ops: Person, ada: Person) -> None:
    """What was deployed after the backup is not there after the restore."""
    restore = (
        "sudo homeport service run restore --force --passphrase-file - "
        "/var/backups/homeport/home.backup < passphrase"
    )
    ops.types(guide("head -c 18 /dev/urandom | base64 > passphrase"))
    ops.types(guide("sudo install -d -o homeport -m 0700 /var/backups/homeport"))
    told = ops.types(guide(restore.replace("run restore", "run backup")))
    assert "1 app and" in told
    later = ada.types("homeport deploy hello.py --name later")
    assert "later v1" in later
    running = ops.types(restore, code=1)
    assert "systemctl stop homeport" in running
    ops.types(guide("sudo systemctl stop homeport"))
    ops.types(guide(restore))
    ops.types(guide("sudo systemctl start homeport"))
    listed = wait_for(lambda: "hello" in ada.types("homeport app list || true"), "the server")
    assert listed
    assert "later" not in ada.types("homeport app list")


def uninstall(machine: Machine, guide: Guide, ops: Person) -> None:
    """The home stays at first, and then nothing."""
    ops.types(guide("sudo homeport service uninstall"), (r"\[y/N\]", "y\n"))
    root = machine.root
    assert (root / HOME.lstrip("/")).exists()
    for path in ("/opt/homeport", UNIT):
        assert not (root / path.lstrip("/")).exists()
