"""The files and commands that make homeport a service of systemd; pure: `service` carries them out.

/opt/homeport/versions/<name>     a virtual environment for each installed version
/opt/homeport/current             a link to the one that runs; an upgrade moves it
/etc/systemd/system/NAME.service  starts `homeport up --foreground` as a user of its own, or `homeport node join --foreground`
<home>/config.toml                the settings
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest

ROOT = Path("/opt/homeport")
UNITS = Path("/etc/systemd/system")
UNIT, NODE_UNIT = "homeport.service", "homeport-node.service"
NODE_WORDS = "node join --foreground"
FIRST_SUBORDINATE, SUBORDINATES = 100_000, 65_536  # as useradd(8) gives ordinary users
SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What `homeport service install`, or `homeport node join --service`, was asked for."""

    domain: str = ""
    email: str = ""
    tls: str = "acme"
    host: str = "0.0.0.0"  # noqa: S104 - a server for others
    user: str = "homeport"
    home: Path = Path("/var/lib/homeport")
    root: Path = ROOT
    units: Path = UNITS
    is_node: bool = False  # the agent of a machine that has joined, and no server

    def __post_init__(self) -> None:
        """Raise `BadRequest` for text that a unit, a shell or useradd would read in another way."""
        if not self.user.isascii() or not self.user.replace("-", "").replace("_", "").isalnum():
            raise BadRequest(f"`{self.user}` cannot be a user's name")
        if self.user[0] in "-0123456789" or self.user == "root":
            raise BadRequest(f"`{self.user}` cannot be the service's user")
        for path in (self.home, self.root):
            if not path.is_absolute() or not SAFE.issuperset(str(path)) or ".." in path.parts:
                raise BadRequest(
                    f"{path} cannot be a directory of the service: an absolute path of plain characters is needed"
                )
            if len(path.parts) < 3:
                raise BadRequest(
                    f"{path} cannot be a directory of the service: it is not one of its own"
                )
        if self.tls == "acme" and not self.email and not self.is_node:
            raise BadRequest(
                "certificates by ACME need `--email`, to which the authority may write",
                hint="`--tls off` installs a server without HTTPS",
            )

    @property
    def unit(self) -> str:
        """The unit's name."""
        return NODE_UNIT if self.is_node else UNIT

    @property
    def python(self) -> Path:
        """The interpreter of the version that runs."""
        return self.root / "current/bin/python"


@dataclass(frozen=True, slots=True)
class Write:
    """Write a file, whole or not at all."""

    path: Path
    text: str
    mode: int = 0o644
    owner: str = "root"


@dataclass(frozen=True, slots=True)
class Run:
    """Run a command as root."""

    words: tuple[str, ...]
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """Move a link in one step."""

    path: Path
    target: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete a file or a directory, if it exists."""

    path: Path


Step = Write | Run | Link | Remove


def unit(service: Service) -> str:
    """Return the unit's text.

    The server is started again by `homeport up --foreground` and not by systemd, so that containers outlive it
    (see cli/foreground.py). If that process ends, `KillMode=mixed` ends everything, and systemd starts it again.

    It does not wait for network-online.target, which takes two minutes where networkd manages no interface: what
    cannot be reached at boot is tried again.

    No directive that needs NoNewPrivileges= can be used: without root, systemd then sets it, and newuidmap, which
    gives cells their users, loses its rights (man 5 systemd.exec).
    """
    return f"""\
[Unit]
{_head(service)}
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User={service.user}
Group={service.user}
Environment=HOMEPORT_HOME={service.home}
Environment=PATH={service.root}/current/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WorkingDirectory=/
ExecStart={service.python} -m homeport {NODE_WORDS if service.is_node else "up --foreground"}
# A new version: the server hands over, and no request is lost. A small Debian has no /bin/kill.
ExecReload=/bin/sh -c 'kill -HUP $MAINPID'
KillMode=mixed
TimeoutStartSec=300
TimeoutStopSec=90
# Not after `homeport down`, which ends it in order.
Restart=on-failure
RestartSec=1
# Limits of memory and CPU for each container; a container that runs out of memory must not end the others.
Delegate=yes
OOMPolicy=continue
LimitNOFILE=262144
TasksMax=infinity
# Ports 80 and 443 without root; on a node, for visitors who come in there.
AmbientCapabilities=CAP_NET_BIND_SERVICE
UMask=0077
ProtectSystem=full
ProtectHome=yes

[Install]
WantedBy=multi-user.target
"""


def _head(service: Service) -> str:
    """Return what the unit is, and after what it starts. A machine that was removed is no node any more."""
    if not service.is_node:
        return "Description=homeport: Python functions as web endpoints\nAfter=network.target postgresql.service"
    joined = service.home / "cluster/joined.json"
    return f"Description=homeport: a node of another machine\nAfter=network.target\nConditionPathExists={joined}"


def config(service: Service) -> str:
    """Return the text of `config.toml`."""
    values = {
        "host": service.host,
        "domain": service.domain,
        "tls": service.tls,
        "workspace": "main",
        **({"email": service.email} if service.email else {}),
    }
    if service.tls == "off":
        values |= {"http_port": 80}  # type: ignore[dict-item] # the one number
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return (
        "# Written by `homeport service install`; after a change: `systemctl reload homeport`.\n"
        + "\n".join(lines)
        + "\n"
    )


def install(
    service: Service,
    *,
    version: str,
    source: Sequence[str],
    uv: str,
    python: str,
    has_user: bool,
    has_config: bool,
    subordinates: int | None,
) -> list[Step]:
    """Return the steps of an installation.

    The arguments are those of `laid`. A node has to join between `laid` and `started`.
    """
    steps = laid(
        service,
        version=version,
        source=source,
        uv=uv,
        python=python,
        has_user=has_user,
        subordinates=subordinates,
    )
    if not has_config:
        steps.append(Write(service.home / "config.toml", config(service), 0o600, service.user))
    return [*steps, *started(service)]


def laid(
    service: Service,
    *,
    version: str,
    source: Sequence[str],
    uv: str,
    python: str,
    has_user: bool,
    subordinates: int | None,
) -> list[Step]:
    """Return the steps that make the user, the home and the first version.

    `source` is what `uv pip install` gets, `python` the interpreter that the environment is made of.
    `subordinates` is the first of the free ids for cells; None: the user has some.
    """
    steps: list[Step] = []
    if not has_user:
        words = ("useradd", "--system", "--user-group", "--home-dir", str(service.home))
        steps.append(
            Run((*words, "--no-create-home", "--shell", "/usr/sbin/nologin", service.user))
        )
    if subordinates is not None:
        ids = f"{subordinates}-{subordinates + SUBORDINATES - 1}"
        steps.append(Run(("usermod", "--add-subuids", ids, "--add-subgids", ids, service.user)))
    owner = ("-o", service.user, "-g", service.user)
    steps.append(Run(("install", "-d", "-m", "0700", *owner, str(service.home))))
    steps += environment(service, version=version, source=source, uv=uv, python=python)
    steps.append(Link(service.root / "current", f"versions/{version}"))
    return steps


def started(service: Service) -> list[Step]:
    """Return the steps that write the unit, and start it now and with the machine."""
    return [
        Write(service.units / service.unit, unit(service)),
        Run(("systemctl", "daemon-reload")),
        Run(("systemctl", "enable", "--now", service.unit)),
    ]


def environment(
    service: Service, *, version: str, source: Sequence[str], uv: str, python: str
) -> list[Step]:
    """Return the steps that install one version beside the others."""
    place = service.root / "versions" / version
    return [
        Run(("install", "-d", "-m", "0755", str(service.root), str(service.root / "versions"))),
        Run((uv, "venv", "--quiet", "--clear", "--python", python, str(place))),
        Run(
            (
                uv,
                "pip",
                "install",
                "--quiet",
                "--link-mode",
                "copy",
                "--python",
                str(place / "bin/python"),
                *source,
            )
        ),
        Run(("chmod", "-R", "a+rX", str(service.root))),
    ]


def uninstall(service: Service, *, purge: bool) -> list[Step]:
    """Return the steps that remove the service; `purge`: the home and the user too."""
    steps: list[Step] = [
        Run(("systemctl", "disable", "--now", service.unit), may_fail=True),
        Remove(service.units / service.unit),
        Run(("systemctl", "daemon-reload"), may_fail=True),
        Remove(service.root),
    ]
    if purge:
        steps += [Remove(service.home), Run(("userdel", service.user), may_fail=True)]
    return steps


def shown(step: Step) -> str:
    """Return a step as a person would type it."""
    if isinstance(step, Run):
        return shlex.join(step.words)
    if isinstance(step, Link):
        return f"ln -sfn {shlex.quote(step.target)} {shlex.quote(str(step.path))}"
    if isinstance(step, Remove):
        return f"rm -rf {shlex.quote(str(step.path))}"
    head = f"# {step.path} ({step.mode:04o}, {step.owner})"
    return f"{head}\n{step.text.rstrip()}"


def free_subordinates(*files: str) -> int:
    """PURE: return the first id of a free range, from the texts of /etc/subuid and /etc/subgid."""
    first = FIRST_SUBORDINATE
    for line in "\n".join(files).splitlines():
        _, _, range_text = line.partition(":")
        start, _, count = range_text.partition(":")
        if start.isdecimal() and count.isdecimal():
            first = max(first, int(start) + int(count))
    return first


def installed(text: str, units: Path = UNITS) -> Service:
    """PURE: return the service that a unit's text describes; `BadRequest` if homeport did not write it."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == "Environment" and value.startswith("HOMEPORT_HOME="):
            values["home"] = value.removeprefix("HOMEPORT_HOME=")
        elif key in ("User", "ExecStart"):
            values.setdefault(key, value)
    python, _, words = values.get("ExecStart", "").partition(" ")
    is_node = words.endswith(NODE_WORDS)
    if not python.endswith("/current/bin/python") or not {"home", "User"} <= set(values):
        raise BadRequest(
            "the unit was not written by `homeport service install` or `homeport node join --service`",
            hint="remove it first",
        )
    root = Path(python).parents[2]
    home = Path(values["home"])
    return Service(
        tls="off", user=values["User"], home=home, root=root, units=units, is_node=is_node
    )
