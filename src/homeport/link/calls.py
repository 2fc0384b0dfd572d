"""The calls of the connection, with the types of what they take and give."""

from homeport.contract.capacity import Usage
from homeport.contract.container import StartOrder
from homeport.contract.dataclass import dataclass
from homeport.contract.image import Environment, Image
from homeport.contract.listing import Listing, Mark
from homeport.contract.programs import Order
from homeport.contract.supplies import Supplies
from homeport.contract.traffic import PoolKey
from homeport.link.session import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of a tree."""

    path: str  # relative to the tree
    sha256: str
    size_bytes: int
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of a file's content."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Output of a program."""

    where: int  # `OUT` or `ERR`
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """How an agent and its machine are, as the agent says."""

    now: float  # by the machine's clock
    homeport: str  # the version of the agent
    free_bytes: int  # on the disk of its home
    certificate_until: float  # when its certificate ends
    shared_volumes: str = ""  # `volumes.reported`; empty: the setting is not set there
    entrance: tuple[int, ...] = ()  # the ports where visitors come in
    no_entrance: str = ""  # why they cannot come in at others: a port, and what is wrong
    cannot_call: str = ""  # why its containers reach nothing of the control plane: an address, and what a connection meets


#: From the control plane to the agent: the role `Node`. A `source` is the name of a tree, or empty.
OF_NODE: dict[str, Shape] = {
    "mark": Shape(given={}, value=Mark),
    "usage": Shape(given={}, value=dict[str, Usage], long=True),
    "about": Shape(given={}, value=About, long=True),
    "logs": Shape(
        given={"tail": int, "follow": bool}, long=True
    ),  # of the agent itself, as progress
    "list": Shape(given={}, value=Listing),
    "start": Shape(given={"order": StartOrder, "environ": dict[str, str]}),
    "stop": Shape(given={"container": str, "grace_s": float | None}),
    "fence": Shape(given={"generation": int}),
    "confirm_held": Shape(given={"container": str, "held": int}),
    "forget": Shape(given={"pool": PoolKey}),
    "rest": Shape(given={"unused_s": float}),
    "prepare": Shape(given={"image": Image, "source": str, "supplies": Supplies}, long=True),
    "build_log": Shape(given={"key": str}, value=str | None, long=True),
    "environments": Shape(given={}, value=tuple[Environment, ...]),
    "prune": Shape(given={"keep": tuple[Image, ...]}, value=tuple[Environment, ...], long=True),
    # a program of the user's in a container: `execute` gives a number, which the others take
    "execute": Shape(
        given={"container": str, "order": Order, "environ": dict[str, str]}, value=int, long=True
    ),
    "program_read": Shape(given={"program": int}, value=Written, long=True, bulk=True),
    "program_write": Shape(given={"program": int, "data": bytes}, long=True),
    "program_resize": Shape(given={"program": int, "rows": int, "columns": int}),
    "program_signal": Shape(given={"program": int, "number": int}),
    "program_ended": Shape(given={"program": int}, value=int, long=True),
    "program_close": Shape(given={"program": int}, long=True),
}
#: From the agent to the control plane.
OF_CONTROL: dict[str, Shape] = {
    "renew": Shape(given={"csr": str}, value=str),
    "tree": Shape(given={"tree": str}, value=tuple[Entry, ...], long=True, bulk=True),
    "piece": Shape(
        given={"tree": str, "sha256": str, "offset": int}, value=Piece, long=True, bulk=True
    ),
}
