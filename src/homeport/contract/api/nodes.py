"""Machines that have joined this homeport."""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedNode:
    """A machine that has joined."""

    name: str
    health: str  # `ready`, `suspect`, or `gone`
    drained: bool  # it gets no new containers
    containers: int  # that it runs
    joined_at: float
    cores: int | None = None  # None: its agent has not connected since the server was started
    memory_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeList:
    """All machines that have joined."""

    nodes: tuple[JoinedNode, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNodeToken:
    """A token to make."""

    listen: str = ""  # where machines connect, once, such as `10.0.0.1:7600`; empty: where they connect already, or at 0.0.0.0:7600


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeToken:
    """A token with which one machine may join, for an hour."""

    token: str
    host: str  # where machines connect
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Whether a machine is drained."""

    on: bool = True
