"""The server, and everything that it runs."""

from dataclasses import field

from homeport.contract.api.apps import AppStatus
from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The server, and everything that it runs."""

    pid: int
    version: str  # of homeport
    home: str
    host: str
    http_port: int
    domain: str
    workspace: str
    settings: dict[str, str | int | float | None]  # all settings in force, without secrets
    ingress_pid: int | None  # of HAProxy; null while it does not run
    kept: bool  # the server runs in the background, and not for one command
    started_at: float
    keeper: int | None = None  # the pid of the `homeport up --foreground` that starts it again
    https_port: int | None = None  # null without TLS
    database: str = ""  # where the rows are, without a password
    trouble: str = ""  # why the database cannot be read now; empty if it can
    nodes: dict[str, str] = field(
        default_factory=dict
    )  # the machines that have joined: `ready`, `drained`, `suspect` or `gone`
    apps: tuple[AppStatus, ...]
