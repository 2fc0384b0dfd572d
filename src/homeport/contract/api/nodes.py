"""Machines that have joined this homeport."""

from dataclasses import field

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedNode:
    """A machine that has joined."""

    name: str
    health: str  # `ready`, `suspect`, or `gone`
    drained: bool  # it gets no new containers
    containers: int  # that it runs
    joined_at: float
    cores: int | None = None  # null: its agent has not connected since the server was started
    memory_mib: int | None = None
    isolated: bool | None = None  # each container there has a sandbox
    volumes: str = ""  # `shared`, or why its containers have none: `not set`, `not marked`, `other users`; empty: the server shares none
    labels: dict[str, str] = field(default_factory=dict)  # such as `region`
    version: str = ""  # of its homeport; empty: its agent has not said it yet, and so for the rest
    clock_off_s: float | None = None  # how far its clock is ahead of the server's
    free_mib: int | None = None  # on the disk of its home
    certificate_until: float | None = None  # when its certificate ends; it is renewed a week before
    round_trip_ms: float | None = None  # of the last beat
    entrance: tuple[int, ...] = ()  # the ports where visitors come in at it
    no_entrance: str = ""  # why they cannot come in at others: a port, and what is wrong
    cannot_call: str = ""  # why its containers cannot call functions: the server's address, and what a connection meets
    #: Why the server cannot reach its containers: the address, and what a connection meets.
    unreached: str = ""


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

    token: str = field(repr=False)
    host: str  # where machines connect; 0.0.0.0: at every address of the server's machine
    port: int
    address: str = ""  # one that another machine can use; empty: the server does not know any


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Whether a machine is drained."""

    on: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels of a machine to change."""

    labels: dict[str, str]  # an empty value removes a label; the others stay


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLogQuery:
    """Which lines of an agent's own log are wanted."""

    tail: int = 100  # the last so many
    follow: bool = False  # wait for more


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLine:
    """A line of an agent's own log."""

    text: str  # with the time, in the machine's own zone
