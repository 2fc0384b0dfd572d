"""Describes a cell: plain values, no I/O.

A *base* cell is built from the host's view, once for a set of packages: it shows the directories in
`binds` and nothing else of the host. *Private* cells are built from inside a base, one for each
container: the same view with a writable layer of their own on top.
"""

import enum
from dataclasses import field

from homeport.contract.dataclass import dataclass


class Network(str, enum.Enum):
    """The networks that a cell can reach."""

    HOST = "host"  # everything that the host can, its loopback and services included
    NONE = "none"  # only a loopback of its own
    OWN = "own"  # a loopback of its own, and an interface that is moved into it


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the host that a base cell shows."""

    source: str
    target: str = ""  # absolute, in the cell; empty: as `source`
    writable: bool = False
    # Files of the host's root belong to the cell's root; for what homeport itself wrote, if it is root.
    # Without it, they belong to `nobody`, and only what everybody may read can be read. A writable bind
    # is never owned: a setuid file made in the cell would be the host's root's.
    owned: bool = False

    def __post_init__(self) -> None:
        if self.owned and self.writable:
            raise ValueError("a writable bind cannot be owned by the cell's root")

    @property
    def place(self) -> str:
        """The path in the cell."""
        return self.target or self.source


@dataclass(frozen=True, slots=True)
class Ids:
    """Which ids of the outer user namespace a cell has: (first inside, first outside, count) each."""

    users: tuple[tuple[int, int, int], ...]
    groups: tuple[tuple[int, int, int], ...]


def range_of_ids(first: int, count: int = 65536) -> Ids:
    """Root of the cell is user `first` outside, and so on."""
    return Ids(users=((0, first, count),), groups=((0, first, count),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits that the kernel keeps for each process, or for each user of a user namespace."""

    # Together, of a container: it has a user namespace of its own (man 2 getrlimit, RLIMIT_NPROC).
    processes: int = 4096
    files: int = 65536  # open descriptors of one process
    core_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One sandbox."""

    binds: tuple[Bind, ...] = ()
    points: tuple[str, ...] = ()  # empty files, for devices that only some private cells get
    links: tuple[tuple[str, str], ...] = ()  # symbolic links of the root: path, what it says
    etc: tuple[
        str, ...
    ] = ()  # of the host's /etc: files are copied, directories are shown read-only
    # Of the root, from the lowest up; their files belong to `ids` on the disk, so that none of them is
    # setuid for the host's root. Empty: only binds (a host cell).
    layers: tuple[str, ...] = ()
    storage: str = ""  # the host's directory for what is written; empty: memory
    overlay: bool = True  # False: what is written is in memory, where overlayfs is not allowed
    network: Network = Network.HOST
    hostname: str = "homeport"
    ids: Ids | None = None  # None: one id, the caller's own, becomes root
    limits: Limits = field(default_factory=Limits)
    shm_mib: int = 64  # as Docker; the size of /dev/shm
    memory_root_mib: int = 512  # how large a root in memory may become


#: What programs expect of /etc, and what tells nothing of this machine's users and services.
ETC = (
    "alternatives",
    "ca-certificates",
    "fonts",
    "gai.conf",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
