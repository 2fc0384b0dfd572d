"""An upgrade of a service: its versions and systemd are a few lines of shell, which write down what they are asked."""

import getpass
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from homeport.cli import service as commands
from homeport.cli import units, upgrading
from homeport.cli.units import Run, Service
from homeport.cli.upgrading import Upgrade
from homeport.contract.errors import AlreadyExists, Failure

SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >> {root}/story
case "$1" in
show) echo "ActiveState=$(cat {root}/state)"; echo SubState=running; echo MainPID=7; echo UnitFileState=enabled ;;
reload|restart|reload-or-restart) sh {root}/current/begin ;;
esac
"""
#: `begin` is what the version does once it is started, `look` what it does whenever it is asked for its status.
PYTHON = """#!/bin/sh
place=$(dirname $(dirname $(readlink -f "$0")))
echo "$(basename $place) $*" >> {root}/story
case "$*" in
*--rehearse) cat $place/rehearse ;;
*--go-back) echo '{{"restored": true}}' ;;
*homeport.state) cat >> {root}/audit; echo >> {root}/audit ;;
*status*) . $place/look; cat {root}/answer 2>/dev/null ;;
esac
"""


def answer(version: str, pid: int, **apps: str) -> str:
    told = [{"name": name, "state": state} for name, state in apps.items()]
    return json.dumps({"version": version, "pid": pid, "trouble": "", "apps": told})


class Machine:
    """A service in a folder, whose version 1 serves."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "opt"
        self.service = Service(
            domain="", tls="off", home=folder / "home", root=self.root, units=folder / "units"
        )
        object.__setattr__(self.service, "user", getpass.getuser())  # the tests may be root
        for each in (folder / "bin", folder / "home", folder / "units", self.root / "versions"):
            each.mkdir(parents=True)
        self._write(folder / "bin/systemctl", SYSTEMCTL)
        (self.root / "state").write_text("active")
        (folder / "units/homeport.service").write_text("of version 1")
        self.version("v1", answer("1", 11, shop="serving"))
        (self.root / "current").symlink_to("versions/v1")
        (self.root / "answer").write_text(answer("1", 10, shop="serving"))

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text.format(root=self.root))
        path.chmod(0o755)

    def version(self, name: str, told: str, *, begin: str = "", look: str = "true") -> None:
        place = self.root / ("versions" if name == "v1" else "new") / name
        (place / "bin").mkdir(parents=True)
        self._write(place / "bin/python", PYTHON)
        (place / "rehearse").write_text('{"schema": "9999"}')
        (place / "told").write_text(told)
        (place / "begin").write_text(
            begin.format(root=self.root) or f"cp {self.root}/current/told {self.root}/answer"
        )
        (place / "look").write_text(look.format(root=self.root))

    def upgrade(self) -> None:
        copy = ("cp", "-r", f"{self.root}/new/v2", f"{self.root}/versions/v2")
        Upgrade(
            service=self.service, version="v2", steps=[Run(copy)], prove_s=0.5, healthy_s=2.0
        ).run()

    @property
    def story(self) -> list[str]:
        return (self.root / "story").read_text().splitlines()

    @property
    def audit(self) -> list[tuple[str, str, str]]:
        """The rows that were to be written to the audit log."""
        rows = [json.loads(line) for line in (self.root / "audit").read_text().splitlines()]
        return [(row["action"], row["result"], row["target"]) for row in rows]

    @property
    def now(self) -> tuple[str, list[str], str]:
        """The version that is linked, those that are there, and the unit's text."""
        versions = sorted(path.name for path in (self.root / "versions").iterdir())
        unit = (self.service.units / "homeport.service").read_text()
        return (self.root / "current").readlink().name, versions, unit

    @property
    def pid(self) -> int:
        return json.loads((self.root / "answer").read_text())["pid"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    machine = Machine(tmp_path)
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    return machine


BEFORE = ("v1", ["v1"], "of version 1")


def test_a_version_that_serves_stays_with_its_unit_and_the_one_before(machine, monkeypatch):
    machine.version("v2", answer("2", 20, shop="serving"))
    monkeypatch.setenv("SUDO_USER", "ada")
    machine.upgrade()
    story = machine.story

    assert ("v2", ["v1", "v2"], units.unit(machine.service)) == machine.now
    assert story.index("v2 -P -m homeport.state --rehearse") < story.index(
        "systemctl reload homeport.service"
    )
    assert "systemctl daemon-reload" in story
    assert [("service upgrade", "ok", "v2 (by ada)")] == machine.audit


@pytest.mark.parametrize(
    ("told", "begin", "look", "why"),
    [
        (answer("2", 20), "rm {root}/answer", "true", "it does not answer"),
        (answer("2", 20, shop="broken"), "", "true", "`shop` is broken"),
        # The second look finds another server, or none.
        (answer("2", 20), "", "[ -f {root}/seen ] && sed -i s/20/21/ {root}/answer; touch {root}/seen", "then ended"),
        (answer("2", 20), "", "[ -f {root}/seen ] && rm -f {root}/answer; touch {root}/seen", "then ended"),
    ],
)  # fmt: skip
def test_a_version_that_does_not_prove_itself_leads_back(machine, told, begin, look, why):
    machine.version("v2", told, begin=begin, look=look)
    with pytest.raises(Failure, match=why) as caught:
        machine.upgrade()

    assert BEFORE == machine.now
    assert 11 == machine.pid
    assert "v1 -P -m homeport.state --go-back" in machine.story
    assert "homeport 1 serves again" in caught.value.hint
    assert [("service upgrade", "Failure", "v2")] == machine.audit


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP"])
def test_a_signal_leads_back_too(machine, signal):
    machine.version("v2", answer("2", 20), look=f"kill -{signal} $PPID")
    with pytest.raises(KeyboardInterrupt):
        machine.upgrade()

    assert (BEFORE, 11) == (machine.now, machine.pid)
    assert [("service upgrade", "interrupted", "v2")] == machine.audit


def test_a_rehearsal_that_fails_changes_nothing(machine):
    machine.version("v2", answer("2", 20))
    refused = machine.root / "new/v2/bin/python"
    refused.write_text(
        '#!/bin/sh\necho \'{"error": {"kind": "StorageError", "message": "no"}}\'\nexit 1'
    )
    with pytest.raises(Failure, match="no"):
        machine.upgrade()

    assert (BEFORE, 10) == (machine.now, machine.pid)
    assert not [line for line in machine.story if "reload" in line]


def test_two_upgrades_at_once_are_refused(machine):
    with upgrading.alone(machine.root), pytest.raises(AlreadyExists, match="another command"):
        machine.upgrade()

    assert BEFORE == machine.now


@pytest.mark.parametrize(
    ("state", "verb", "pid"),
    [("active", "reload", 20), ("failed", "restart", 20), ("inactive", "", 0)],
)
def test_a_service_that_is_down_is_upgraded(machine, state, verb, pid):
    (machine.root / "answer").unlink()
    (machine.root / "state").write_text(state)
    machine.version("v2", answer("2", 20))
    machine.upgrade()
    told = [line.split()[1] for line in machine.story if line.startswith("systemctl")]

    assert "v2" == machine.now[0]
    assert pid == (machine.pid if pid else 0)
    assert ["show", "daemon-reload", *([verb] if verb else [])] == told


def test_an_ordinary_user_sees_the_service_and_is_told_what_is_for_root(machine, monkeypatch):
    (machine.service.units / "homeport.service").write_text(
        units.unit(machine.service).replace(f"User={getpass.getuser()}", "User=daemon")
    )
    monkeypatch.setattr(units, "UNITS", machine.service.units)
    monkeypatch.setattr(upgrading.os, "geteuid", lambda: 54321)
    done = CliRunner().invoke(commands.app, ["status"], catch_exceptions=False)

    assert 0 == done.exit_code
    assert "homeport.service: active" in done.output
    assert "sudo homeport service status" in done.output
    assert not [line for line in machine.story if "status" in line]


@pytest.mark.parametrize(("state", "pid"), [("active", 10), ("inactive", None)])
def test_the_status_waits_for_a_server_that_begins_and_for_none_that_is_down(machine, state, pid):
    look = f"[ -f {machine.root}/asked ] || {{ touch {machine.root}/asked; exit 1; }}"
    (machine.root / "versions/v1/look").write_text(look)
    (machine.root / "state").write_text(state)
    status = upgrading.answer(machine.service, upgrading.show(machine.service))

    assert pid == (status and status["pid"])
