"""Certificates in files of the home, and the commands by which the running HAProxy gets them.

Each is a file `home/certificates/NAME.pem` with its private key, mode 0600. A new process reads them all by the list
`crt-list`, where HAProxy finds them through the link `certs` in its working directory. A running process gets a
change by its Runtime API, without a reload.

A change is staged in a file of its own, sent to the process, and then put in place by a rename, which needs no room
on the disk. So an error at any step leaves the certificate before.
"""

import contextlib
import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from homeport import private
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest
from homeport.ingress.maps import Maps
from homeport.ingress.runtime import Step
from homeport.ingress.secure import LIST
from homeport.undo import Undo

if TYPE_CHECKING:
    from homeport.ingress import pairs

LINK = "certs"
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A certificate that HAProxy answers with."""

    name: str
    hosts: tuple[str, ...]


class Certificates:
    """Every certificate, by its name."""

    def __init__(self, directory: Path, maps: Maps) -> None:
        self._directory = directory
        self._maps = maps
        self._held: dict[str, Held] = {}

    def load(self) -> None:
        """Read the files of an earlier server; leave out those with which HAProxy would not start."""
        self._make()
        self._held.clear()
        for path in sorted(self._directory.glob("*.pem")):
            from homeport.ingress import pairs  # X.509, which a server without TLS does not need

            try:
                text = path.read_bytes()
                pair = pairs.read(text)
                if pair.pem != text:  # another program wrote it: HAProxy must not read that text
                    raise BadRequest("homeport has not written it")
            except (OSError, BadRequest) as error:
                log.error("the certificate %s is left out: %s", path, error)  # noqa: TRY400 - no fault of ours
                continue
            if NAME.fullmatch(path.stem):
                self._held[path.stem] = Held(name=path.stem, hosts=pair.names)
        self._cover()

    def get(self, name: str) -> Held | None:
        """Return a certificate; None if there is none of that name."""
        return self._held.get(name)

    def listed(self) -> str:
        """Return the text of `crt-list`."""
        return "".join(f"{_line(held_certificate)}\n" for held_certificate in self._held.values())

    def link(self, directory: Path) -> None:
        """Let a process with this working directory find the files."""
        link(directory / LINK, self._directory)

    def stage(self, name: str, pair: "pairs.Pair", undo: Undo) -> None:
        """Write a certificate beside the one in use. Raises `OSError` on a full disk."""
        self._make()
        fresh = self._directory / f"{name}.new"
        undo.push(fresh.unlink, missing_ok=True)
        fresh.unlink(missing_ok=True)
        with private.created(fresh) as file:
            file.write(pair.pem)

    def has(self, name: str, pair: "pairs.Pair") -> bool:
        """Return whether exactly this certificate is in use."""
        with contextlib.suppress(OSError):
            return (self._directory / f"{name}.pem").read_bytes() == pair.pem
        return False

    def put(self, held: Held, undo: Undo) -> None:
        """Put a staged certificate in its place."""
        path = self._directory / f"{held.name}.pem"
        self._keep(path, undo)
        path.with_suffix(".new").replace(path)
        self._change(held.name, held, undo)

    def remove(self, name: str, undo: Undo) -> None:
        """Forget a certificate and delete its file."""
        path = self._directory / f"{name}.pem"
        self._keep(path, undo)
        path.unlink(missing_ok=True)
        self._change(name, None, undo)

    def settle(self, name: str) -> None:
        """Delete the copy that was kept for an undo, because the change is done."""
        with contextlib.suppress(OSError):
            (self._directory / f"{name}.old").unlink(missing_ok=True)

    def _make(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)

    def _keep(self, path: Path, undo: Undo) -> None:
        """Keep the file under a second name, by which it comes back: that needs no room on the disk."""
        old = path.with_suffix(".old")
        old.unlink(missing_ok=True)
        try:
            old.hardlink_to(path)
        except FileNotFoundError:
            undo.push(path.unlink, missing_ok=True)
        else:
            undo.push(old.replace, path)

    def _change(self, name: str, held: Held | None, undo: Undo) -> None:
        before = dict(self._held)
        undo.push(self._restore, before)
        if held is None:
            self._held.pop(name, None)
        else:
            self._held[name] = held
        self._cover()

    def _restore(self, before: Mapping[str, Held]) -> None:
        self._held = dict(before)  # the map `covered` is reverted with the other maps

    def _cover(self) -> None:
        """Set the map of hosts that have a certificate."""
        name_by_host: dict[str, str] = {}
        for held in self._held.values():
            for host in held.hosts:
                name_by_host.setdefault(host, held.name)
        for host, _ in self._maps.items("covered"):
            if host not in name_by_host:
                self._maps.put("covered", host, None)
        for host, name in name_by_host.items():
            self._maps.put("covered", host, name)


def link(path: Path, to: Path) -> None:
    """Let `path` be a symbolic link to a directory."""
    if not path.is_symlink() or path.readlink() != to:
        path.unlink(missing_ok=True)
        path.symlink_to(to)


def held(name: str, pair: "pairs.Pair", hosts: Collection[str]) -> Held:
    """Return the certificate `name` for these hosts; raise `BadRequest` for a name that is no file's."""
    if not NAME.fullmatch(name):
        raise BadRequest(f"a certificate cannot have the name {name!r}")
    return Held(name=name, hosts=tuple(sorted(set(hosts))) or pair.names)


def added(held: Held, pair: "pairs.Pair") -> list[Step]:
    """Return the steps by which a running process gets a new certificate."""
    return [
        Step(("new", "ssl", "cert", _path(held.name)), good="New empty certificate store"),
        *renewed(held, pair),
        Step(("add", "ssl", "crt-list", LIST), payload=_line(held), good="Success!"),
    ]


def renewed(held: Held, pair: "pairs.Pair") -> list[Step]:
    """Return the steps by which a running process gets another certificate for the same hosts."""
    return exchanged(_path(held.name), pair.pem.decode("ascii"))


def exchanged(path: str, pem: str) -> list[Step]:
    """Return the steps by which a running process reads another certificate in place of the one in this file."""
    return [
        Step(("set", "ssl", "cert", path), payload=pem.strip(), good="Transaction"),
        Step(("commit", "ssl", "cert", path), good="Success!"),
    ]


def removed(held: Held) -> list[Step]:
    """Return the steps by which a running process forgets a certificate."""
    return [
        Step(("del", "ssl", "crt-list", LIST, _path(held.name)), good="deleted"),
        Step(("del", "ssl", "cert", _path(held.name)), good="deleted"),
    ]


def _path(name: str) -> str:
    return f"{LINK}/{name}.pem"


def _line(held: Held) -> str:
    return f"{_path(held.name)} {' '.join(held.hosts)}"
