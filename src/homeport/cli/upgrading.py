"""Replaces the version of a service, and goes back if the new one does not prove itself: for `homeport service upgrade`.

    1  the new version is installed beside the others, and migrates a copy of the database
    2  the link moves, and the server hands over to the new version; a server that is down is started
    3  the new server has to serve, with no app broken that was not before, and to run for PROVE_S

Any failure, a signal included, restores the link, the unit, the server and its database.
"""

import contextlib
import fcntl
import json as jsonlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from homeport.cli import output, units
from homeport.cli.steps import carry_out
from homeport.cli.units import Link, Run, Service, Step, Write
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import AlreadyExists, Failure, NotFound
from homeport.contract.starting import LOCK, leader

HEALTHY_S = 120.0  # how long a new version may take until it serves
PROVE_S = 10.0  # how long it has to run
LOOK_S = 0.25
BEGINS_S = 15.0  # how long a server that begins, or hands over, may take to answer
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last one: the terminal is closed

Status = dict[str, Any]
#: Returns the server's status; None if it does not answer.
Ask = Callable[[], Status | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """One upgrade of a service, to a version whose `steps` install it."""

    service: Service
    version: str
    steps: Sequence[Step]
    prove_s: float = PROVE_S
    healthy_s: float = HEALTHY_S

    def run(self) -> None:
        """Upgrade; an error says which version serves after it."""
        with alone(self.service.root), _signals(_end):  # each of them restores the version before
            try:
                self._run()
            except BaseException as error:
                result = type(error).__name__ if isinstance(error, Failure) else "interrupted"
                note(self.service, "service upgrade", result, self.version)
                raise
            note(self.service, "service upgrade", "ok", self.version)

    def _run(self) -> None:
        service, before = self.service, current(self.service)
        state, old = show(service)["ActiveState"], ask(service)
        place = service.root / "versions" / self.version
        try:
            carry_out(self.steps, service)
            rehearse(service, place / "bin/python")
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        text = (service.units / service.unit).read_text()
        try:
            carry_out(self._forward(text, state), service)
            if state == "inactive":
                output.say(
                    f"the service is stopped: `systemctl start {service.unit}` starts the new version"
                )
                return
            new = self._proved(old)
        except BaseException as error:
            with _signals(signal.SIG_IGN):  # half of the way back is no way
                self._go_back(before, text, state, error, old)
                shutil.rmtree(place, ignore_errors=True)
            raise
        self._forget({self.version, before})
        was = f"before it was {old['version']}" if old else "before it was down"
        output.say(f"homeport {new['version']} serves; {was}")

    def _forward(self, text: str, state: str) -> list[Step]:
        """Return the steps to the new version, with the unit that it needs; a service that was stopped stays
        stopped.
        """
        service = self.service
        steps: list[Step] = [Link(service.root / "current", f"versions/{self.version}")]
        if text != units.unit(service):
            steps += [
                Write(service.units / service.unit, units.unit(service)),
                Run(("systemctl", "daemon-reload")),
            ]
        if state != "inactive":
            # Also a server that cannot start may have left HAProxy and containers, which continue over a reload.
            verb = "reload" if state == "active" else "restart"
            steps.append(Run(("systemctl", verb, service.unit)))
        return steps

    def _proved(self, old: Status | None) -> Status:
        """Wait until the new server serves, and continues to; `Failure` if it does not."""
        service, broken = self.service, _broken(old) if old else None
        old_pid = old["pid"] if old else 0

        def accept(now: Status) -> bool:
            return now["pid"] != old_pid and (broken is None or _broken(now) <= broken)

        new = healthy(lambda: ask(service), service, accept, self.healthy_s)
        deadline = time.monotonic() + self.prove_s
        now: Status | None = new
        while time.monotonic() < deadline:
            time.sleep(LOOK_S)
            now = ask(service)
            if now is not None and now["pid"] != new["pid"]:
                break
        if now is None or now["pid"] != new["pid"]:
            raise Failure(
                "the new server answered, and then ended",
                hint=f"`journalctl -u {service.unit}` may say why",
            )
        return new

    def _go_back(
        self, before: str, text: str, state: str, error: BaseException, old: Status | None
    ) -> None:
        """Start the version before, with its database if the new one has migrated it."""
        service, failed = self.service, ask(self.service)
        why = error.message if isinstance(error, Failure) else "the upgrade was ended"
        output.warn(f"{why}; going back")
        steps: list[Step] = [Link(service.root / "current", f"versions/{before}")]
        if text != units.unit(service):
            steps += [
                Write(service.units / service.unit, text),
                Run(("systemctl", "daemon-reload"), may_fail=True),
            ]
        if state != "inactive":
            steps.append(Run(("systemctl", "reload-or-restart", service.unit), may_fail=True))
        carry_out(steps, service)
        if not service.is_node:
            words = [str(service.python), "-P", "-m", "homeport.state", "--go-back"]
            answer = _answer(as_user(service, words))
            if "error" in answer:
                output.warn(answer["error"]["message"])
        serves = "the version before is installed again; it was down, too"
        if old is not None:
            serves = "the version before is installed again, and does not serve yet"
            with contextlib.suppress(Failure):
                now = self._wait_for_old(old, failed)
                serves = f"homeport {now['version']} serves again"
        if isinstance(error, Failure):
            error.hint = f"{serves}; {error.hint}" if error.hint else serves
        else:
            output.say(serves)

    def _wait_for_old(self, old: Status, failed: Status | None) -> Status:
        """Wait until the version before serves, and not the one that failed."""

        def accept(now: Status) -> bool:
            is_old = now["version"] == old["version"]
            return is_old and (failed is None or now["pid"] != failed["pid"])

        return healthy(lambda: ask(self.service), self.service, accept, self.healthy_s)

    def _forget(self, keep: set[str]) -> None:
        for path in (self.service.root / "versions").iterdir():
            if path.name not in keep:
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Lock the service until the end of the block, so that no other command installs, upgrades or removes it."""
    root.mkdir(parents=True, exist_ok=True, mode=0o755)
    with (root / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyExists(
                "the service is being installed or upgraded by another command",
                hint="wait for its end",
            ) from None
        yield


def healthy(
    look: Ask, service: Service, accept: Callable[[Status], bool], patience_s: float = HEALTHY_S
) -> Status:
    """Wait until the server answers as it should; return its status."""
    deadline = time.monotonic() + patience_s
    status: Status | None = None
    while time.monotonic() < deadline:
        status = look()
        if status is not None and not status["trouble"] and accept(status):
            return status
        time.sleep(LOOK_S)
    why = "it does not answer"
    if status is not None:
        why = (
            status["trouble"] or ", ".join(f"`{name}` is broken" for name in _broken(status)) or why
        )
    raise Failure(
        f"the server does not serve after {patience_s:g} s: {why}",
        hint=f"`journalctl -u {service.unit}` may say why",
    )


def ask(service: Service) -> Status | None:
    """Return the server's status, asked as its user; None if it does not answer."""
    if service.is_node:
        return _agent(service)
    result = as_user(service, [str(service.python), "-P", "-m", "homeport", "status", "--json"])
    return None if result.returncode else _answer(result)


def _agent(service: Service) -> Status | None:
    """Return the same of the agent of a node, which answers only to its control plane; None if it does not run."""
    with contextlib.suppress(OSError, ValueError, Failure):
        pid, _ = leader((service.home / LOCK).read_text())
        if pid and show(service)["ActiveState"] == "active":
            os.kill(pid, 0)
            return {"pid": pid, "version": current(service), "apps": [], "trouble": ""}
    return None


def answer(service: Service, unit: dict[str, str]) -> Status | None:
    """Do the same, and wait a little for a server that begins, or hands over, at this moment."""
    deadline = time.monotonic() + BEGINS_S
    while (status := ask(service)) is None and unit["ActiveState"] == "active":
        if time.monotonic() > deadline:
            break
        time.sleep(LOOK_S)
    return status


def as_user(
    service: Service,
    words: Sequence[str],
    stdin: str = "",
    environ: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a command as the service's user, with more variables: root can, and this user itself."""
    user = pwd.getpwnam(service.user)
    options: dict[str, Any] = (
        {}
        if is_user(service.user)
        else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    )
    return subprocess.run(
        words,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**_environ(service), **(environ or {})},
        **options,
    )


def become(service: Service, words: Sequence[str]) -> NoReturn:
    """Become a command of the service's user, at this terminal."""
    if not is_user(service.user):
        user = pwd.getpwnam(service.user)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    passed_on = {
        name: os.environ[name] for name in ("TERM", "LANG", "LC_ALL") if name in os.environ
    }
    os.chdir("/")
    os.execve(words[0], list(words), {**_environ(service), **passed_on})  # noqa: S606


def _environ(service: Service) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOMEPORT_HOME": str(service.home),
        "HOMEPORT_PROFILE": "local",  # a login in the home is for other servers
        "HOME": str(service.home),
    }


def is_user(name: str) -> bool:
    """Return whether this process runs as a user."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name).pw_uid == os.geteuid()
    return False


def note(service: Service, action: str, result: str, target: str) -> None:
    """Write a row to the audit log of the service, as its user; the user of `sudo` is in it.

    An earlier homeport, to which an upgrade may have gone back, does not know this, and does nothing. A node has no such log.
    """
    if service.is_node:
        return
    sudo_user = os.environ.get("SUDO_USER", "")
    row = {
        "do": "audit",
        "settings": {"home": str(service.home)},
        "action": action,
        "result": result,
        "target": f"{target} (by {sudo_user})" if sudo_user else target,
    }
    with contextlib.suppress(OSError):  # there is no version, or no such user any more
        as_user(service, [str(service.python), "-P", "-m", "homeport.state"], jsonlib.dumps(row))


def rehearse(service: Service, python: Path) -> None:
    """Let the new version read the settings and migrate a copy of the database, before anything is changed.

    A node has no database: there it says its version.
    """
    words = ["homeport", "--version"] if service.is_node else ["homeport.state", "--rehearse"]
    result = as_user(service, [str(python), "-P", "-m", *words])
    if result.returncode == 0:
        return
    answer = _answer(result)
    if "error" not in answer:
        raise Failure(
            "the new version cannot run here; nothing has been changed",
            traceback=result.stderr.strip(),
        )
    raise Failure.from_dict(answer["error"])


def current(service: Service) -> str:
    """Return the name of the version that runs."""
    try:
        return (service.root / "current").readlink().name
    except OSError:
        raise NotFound(f"there is no version in {service.root}") from None


def show(service: Service) -> dict[str, str]:
    """Return systemd's facts about the unit; every user may ask."""
    names = ("ActiveState", "SubState", "MainPID", "UnitFileState")
    words = ["systemctl", "show", service.unit, *(f"--property={name}" for name in names)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    properties = dict(line.partition("=")[::2] for line in result.stdout.splitlines())
    return {name: properties.get(name, "unknown") for name in names}


def _answer(result: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """Return the object that a command has printed; an empty one if it has printed something else."""
    try:
        data = jsonlib.loads(result.stdout)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _broken(status: Status) -> set[str]:
    return {app["name"] for app in status["apps"] if app["state"] == "broken"}


def _end(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _signals(handler: Callable[..., None] | signal.Handlers) -> Iterator[None]:
    """Give the signals that end a command another handler until the end of the block."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
