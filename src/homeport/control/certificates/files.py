"""The user's own certificates (`tls = files`): PEM files in a directory, read again when they change.

    NAME.pem               the private key, the certificate and its chain in one file
    NAME.crt and NAME.key  or in two; `fullchain.pem` and `privkey.pem` of certbot in a directory of their own

A loop looks every few seconds, because certbot, a mount and a copy from another machine change files in different ways.
A file that is damaged is reported once, and the certificate before stays. So do all of them while the directory cannot be
read, and each one until it is missing at two looks: a mount may come later, and certbot removes a link before it makes the next.
"""

import asyncio
import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from homeport.contract.errors import Failure
from homeport.contract.roles import Ingress
from homeport.supervised import Tasks, supervised

LOOK_S = 3.0
MAX_BYTES = 256 * 1024  # of a file; a longer one is no certificate
PREFIX = "file-"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """The files of one certificate."""

    name: str  # in the ingress
    paths: tuple[Path, ...]
    stamp: tuple[tuple[int, int, int], ...]  # changes when a file does


class Files:
    """The certificates in a directory."""

    def __init__(self, directory: Path, ingress: Ingress, known: Collection[str] = ()) -> None:
        """`known`: the certificates that the ingress has already. Those that are no file of the directory are removed."""
        self._directory = directory
        self._ingress = ingress
        self._read: dict[
            str, tuple[tuple[int, int, int], ...]
        ] = {}  # name -> the stamp at the last try
        self._given = set(known)  # names that the ingress has
        self._missing: set[str] = set()  # of these, those that the last look did not find
        self._unreadable = ""  # why the last look found nothing out
        self._tasks = Tasks()

    async def open(self) -> None:
        """Give the ingress all certificates, and each change from now on."""
        await self.look()
        if not self._given:
            log.warning("`tls` is `files`, and there is no certificate in %s yet", self._directory)
        self._tasks.start("certificate files", supervised("certificate files", self._loop))

    async def close(self) -> None:
        """Stop looking."""
        await self._tasks.close()

    async def look(self) -> None:
        """Give the ingress what has changed since the last look."""
        try:
            found = {each.name: each for each in await asyncio.to_thread(self._list)}
        except OSError as error:
            if str(error) != self._unreadable:
                self._unreadable = str(error)
                log.warning("the certificates in %s stay as they are: %s", self._directory, error)
            return
        self._unreadable = ""
        for name, each in found.items():
            if self._read.get(name) != each.stamp:
                self._read[name] = each.stamp
                await self._give(each)
        missing = self._given - set(found)
        for name in missing & self._missing:
            log.info("a certificate was removed from %s", self._directory)
            await self._ingress.remove_certificate(name)
            self._given.discard(name)
        self._missing = missing & self._given
        self._read = {name: self._read[name] for name in found}

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def _give(self, found: Found) -> None:
        where = " and ".join(str(path) for path in found.paths)
        try:
            texts = await asyncio.to_thread(lambda: [_text(path) for path in found.paths])
            await self._ingress.certificate(found.name, b"\n".join(texts), ())
        except (OSError, Failure) as error:
            kept = "; the one before stays" if found.name in self._given else ""
            log.error("the certificate in %s is not used: %s%s", where, error, kept)  # noqa: TRY400 - the user's file
            return
        self._given.add(found.name)
        log.info("the certificate in %s is in use", where)

    def _list(self) -> list[Found]:
        return list(listed(self._directory))


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
            stamp = tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in stamps)
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
