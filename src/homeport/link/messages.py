"""The messages of the connection. Each is a JSON object whose key `is` names its type.

A control plane and an agent speak only if both have the same `VERSION`. The control plane reads an agent's messages
as text from outside: it checks the types of all fields, and replaces what is not valid text.
"""

import json
import math
import re
from dataclasses import field
from typing import Any, TypeVar

from homeport.contract import codec, shape
from homeport.contract.container import LogLine
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest
from homeport.contract.listing import Change
from homeport.link.frames import Broken

VERSION = 3
MAX_VALUES = 1_000_000  # in one message: a short text can become a large object
MAX_DEPTH = 40
_NO_TEXT = re.compile("[\0\ud800-\udfff]")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """The control plane's first message, to every peer."""

    version: int
    ca: str  # the certificate of the cluster's CA, as PEM
    now: float = 0.0  # by the control plane's clock; 0: an earlier version, which does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A machine without a certificate asks for one. Sent only after the CA was compared with the token's fingerprint."""

    version: int
    name: str
    token: str = field(repr=False)
    csr: str  # as PEM
    labels: dict[str, str] = field(default_factory=dict)  # of the machine, such as its region


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The certificate."""

    certificate: str  # as PEM


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """An agent's first message. It has no name: that is in the certificate."""

    version: int
    run: str  # another text for each process of an agent
    host: str = ""
    homeport: str = ""  # the version of the agent's homeport, for people
    port: int = 0  # where its containers are reached; 0: they are not
    reach: str = ""  # the IP address for that; empty: the one from which it connects


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The agent is connected. Its containers call functions by other ports of the address that it has connected to."""

    name: str
    #: The port for calls and URLs (ingress/nodes.py); 0: its containers can call nothing.
    calls: int = 0
    #: The port in URLs that lead to loopback, so that this machine answers them; 0: none do.
    urls: int = 0
    http: int = 0  # the ports where visitors come in at this machine too; 0: nowhere
    https: int = 0
    visitors: str = ""  # the address for these ports; empty: the one from which this agent connects
    addresses: tuple[str, ...] = ()  # where the control plane may be too, at the same port


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The control plane ends the connection. `final`: it will refuse the next connection too."""

    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call, in either direction."""

    number: int
    name: str
    given: dict[str, Any] = field(default_factory=dict, repr=False)  # may hold secrets
    answered: bool = True  # False: the caller waits for no answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """The caller does not wait for this call any more."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A line of progress of a call."""

    number: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The value of a call."""

    number: int
    value: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The failure of a call: `Failure.to_dict`."""

    number: int
    failure: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A container has changed."""

    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """Lines of the log. The agent keeps them until `Kept` answers, and sends them again after a reconnect."""

    number: int
    lines: tuple[LogLine, ...]
    dropped: int = 0  # lines before these that had no room in the agent's memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The log lines up to this number have been taken."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """Shows that the peer is alive; sent when there was nothing else to send."""


Message = (
    *(Greeting, Join, Joined, Hello, Welcome, Refused),
    *(Call, Cancel, Progress, Answer, Failed, Changed, Logs, Kept, Beat),
)
_TYPES: dict[str, Any] = {message_type.__name__.lower(): message_type for message_type in Message}


def write(message: Any) -> bytes:
    """Return a message as JSON in ASCII, so that names of files that are not text survive too."""
    fields = {"is": type(message).__name__.lower(), **codec.encode(message)}
    return json.dumps(fields, separators=(",", ":")).encode()


def read(body: bytes, *, trusted: bool = True) -> Any:
    """Return the message that a body holds; `Broken` if it holds none.

    Not `trusted`: text that cannot be written as UTF-8, and NUL, are replaced by a question mark.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise Broken(f"a message has more than {MAX_VALUES} values")
    try:
        data = json.loads(body.decode("ascii"), parse_constant=_not_finite)
    except (ValueError, RecursionError) as error:
        raise Broken(f"a message is not JSON: {str(error)[:100]}") from None
    if not isinstance(data, dict):
        raise Broken("a message is not a JSON object")
    kind = data.pop("is", None)
    if not isinstance(kind, str) or kind not in _TYPES:
        shown = kind[:40] if isinstance(kind, str) else type(kind).__name__
        raise Broken(f"a message of an unknown type: {shown!r}")
    if not trusted:
        data = clean(data)
    return checked(_TYPES[kind], data, kind)


def checked(annotation: type[T] | Any, data: Any, name: str) -> T:
    """Return a value of the annotated type; `Broken` if the JSON value `data` is of another type."""
    try:
        if isinstance(data, dict) and annotation in _TYPES.values():
            data = {key: item for key, item in data.items() if key in _names(annotation)}
        value: T = codec.decode(annotation, data)
        if annotation is not None:
            shape.typed(annotation, value, name, quoted=False)
    except (BadRequest, TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise Broken(f"`{name}` cannot be read: {str(error)[:200]}") from None
    return value


def clean(data: Any, depth: int = 0) -> Any:
    """Return a JSON value with `?` in place of invalid text; `Broken` for a number that is not finite or too long, and for deep nesting."""
    if depth > MAX_DEPTH:
        raise Broken("a message is nested too deeply")
    if isinstance(data, str):
        return _NO_TEXT.sub("?", data)
    if isinstance(data, dict):
        return {_NO_TEXT.sub("?", key): clean(item, depth + 1) for key, item in data.items()}
    if isinstance(data, list):
        return [clean(item, depth + 1) for item in data]
    if isinstance(data, float) and not math.isfinite(data):
        raise Broken("a message holds a number that is not finite")
    if isinstance(data, int) and not -(2**63) <= data < 2**63:
        raise Broken("a message holds a number of more than 64 bits")
    return data


def _names(annotation: Any) -> frozenset[str]:
    return frozenset(annotation.__dataclass_fields__)


def _not_finite(text: str) -> Any:
    raise ValueError(f"{text} is no number")
