"""The user's own certificates (`tls = files`) as a source: PEM files in a directory, read again when they change.

    NAME.pem               the private key, the certificate and its chain in one file
    NAME.crt and NAME.key  or in two; `fullchain.pem` and `privkey.pem` of certbot in a directory of their own

It looks every few seconds, because certbot, a mount and a copy from another machine change files in different ways.
If a file is damaged, the certificate before stays. So do all of them while the directory cannot be read, and each one
until it is missing at two looks: a mount may come later, and certbot removes a link before it makes the next.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from homeport.contract.dataclass import dataclass
from homeport.contract.hosts import covers
from homeport.control.certificates.orders import next_try
from homeport.control.certificates.problems import OrderFailed
from homeport.control.certificates.situation import Decision, Order, Situation

LOOK_S = 3.0
MAX_BYTES = 256 * 1024  # of a file; a longer one is no certificate
PREFIX = "file-"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """The files of one certificate."""

    name: str  # of the certificate
    paths: tuple[Path, ...]
    stamp: tuple[tuple[int, int, int], ...]  # changes when a file does

    @property
    def label(self) -> str:
        """Return the paths for people."""
        return " and ".join(str(path) for path in self.paths)


class Files:
    """The certificates in a directory."""

    name = "files"
    at_once = True

    def __init__(self, directory: Path, *, look_s: float = LOOK_S) -> None:
        self._directory = directory
        self._look_s = look_s
        self._looked_at = float("-inf")  # by the loop's clock, which cannot be set
        self._found: dict[str, Found] = {}
        self._read: dict[str, tuple[tuple[int, int, int], ...]] = {}  # name -> the stamp then
        self._missing: set[str] = set()  # held certificates that the last look did not find
        self._unreadable = ""  # why the last look found nothing out

    async def open(self) -> None:
        """Do nothing: the first decision reads the directory."""

    async def decide(self, situation: Situation) -> Decision:
        """Return which files were changed or removed since the last look; nothing if that was a moment ago."""
        orders: list[Order] = []
        removed: set[str] = set()
        if (
            asyncio.get_running_loop().time() >= self._looked_at + self._look_s
            and await self._look()
        ):
            orders = [self._order(f) for f in self._found.values() if self._is_due(f, situation)]
            damaged = {name for name in situation.tried if name.startswith(PREFIX)}
            missing = ({held.name for held in situation.held} | damaged) - set(self._found)
            removed = missing & self._missing
            self._missing = missing - removed
        held = [host for certificate in situation.held for host in certificate.hosts]
        why = self._unreadable or f"no certificate in {self._directory} is for it"
        return Decision(
            orders=tuple(orders),
            removed=tuple(sorted(removed)),
            unwanted=(),
            wanted_again=(),
            waiting={host: why for host in situation.wanted if not covers(held, host)},
            look_at=situation.now + self._look_s,
        )

    def covering(self, host: str) -> tuple[str, ...]:
        """Return the host: which file is for it, only the file says."""
        return (host,)

    def refusal(self) -> str:
        """Return why no certificate can be ordered."""
        return f"the certificates are files in {self._directory}, which homeport reads again when they change"

    async def issue(self, name: str, hosts: tuple[str, ...]) -> bytes:  # noqa: ARG002 - of every source
        """Read a certificate."""
        try:
            texts = await asyncio.to_thread(lambda: [_text(p) for p in self._found[name].paths])
        except OSError as error:
            raise OrderFailed(f"it cannot be read: {error.strerror}") from None
        return b"\n".join(texts)

    def forget(self, name: str) -> None:
        """Do nothing: nothing is kept."""

    async def _look(self) -> bool:
        """Read the directory; return False if it cannot be read."""
        is_first = self._looked_at == float("-inf")
        self._looked_at = asyncio.get_running_loop().time()
        try:
            files = await asyncio.to_thread(lambda: list(listed(self._directory)))
        except OSError as error:
            why = f"{self._directory} cannot be read: {error.strerror}"
            if why != self._unreadable:
                log.warning("the certificates stay as they are: %s", why)
            self._unreadable = why
            return False
        if is_first and not files:
            log.warning("`tls` is `files`, and there is no certificate in %s yet", self._directory)
        self._unreadable = ""
        self._found = {file.name: file for file in files}
        self._read = {name: stamp for name, stamp in self._read.items() if name in self._found}
        return True

    def _is_due(self, file: Found, situation: Situation) -> bool:
        tried = situation.tried.get(file.name)
        if self._read.get(file.name) == file.stamp:
            return tried is not None and situation.now >= next_try(tried, situation.now)
        self._read[file.name] = file.stamp
        return True

    def _order(self, file: Found) -> Order:
        return Order(name=file.name, hosts=(), renewal=True, label=file.label)


def listed(directory: Path) -> Iterator[Found]:
    """Return the certificates below a directory: in itself, and in its directories.

    Raises `OSError` if it cannot be read. A directory in it that is not for us, such as `lost+found`, is passed over.
    """
    top = list(directory.iterdir())
    folders = {path: _inside(path) for path in sorted(top) if path.is_dir()}
    for inside in (top, *folders.values()):
        names = {path.name: path for path in inside if path.is_file()}
        for paths in _pairs(names):
            key = "/".join(str(path.relative_to(directory)) for path in paths)
            stamps = [path.stat() for path in paths if path.exists()]
            stamp = tuple((status.st_mtime_ns, status.st_size, status.st_ino) for status in stamps)
            yield Found(PREFIX + hashlib.sha256(key.encode()).hexdigest()[:16], paths, stamp)


def _pairs(names: Mapping[str, Path]) -> Iterator[tuple[Path, ...]]:
    if {"privkey.pem", "fullchain.pem"} <= set(names):
        yield names["privkey.pem"], names["fullchain.pem"]
        return
    for name, path in sorted(names.items()):
        stem = path.stem
        if name.endswith(".pem"):
            yield (path,)
        elif name.endswith(".crt") and f"{stem}.key" in names:
            yield names[f"{stem}.key"], path


def _inside(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES)
