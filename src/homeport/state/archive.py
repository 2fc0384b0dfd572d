"""The file of a backup: a compressed tar of known names.

    backup.json     first: homeport's version, and the salt of the passphrase
    private         the files that open everything else (vault.key, config.toml, the keys of certificates), as
                    JSON, encrypted under the passphrase if there is one
    state.db        the rows, as a SQLite file, also if they were in PostgreSQL
    blobs/<sha256>  the uploaded files of every kept version
    volumes/…       the files of volumes, if they were asked for (state/volume_files.py)
    end.json        last: a digest of everything before it, signed by the passphrase if there is one

Everything is checked when it is read: an unknown name, another digest or signature and a missing member are
errors. A backup is written in a private folder, and then moved to its name.
"""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import AlreadyExists, BadRequest, NotFound
from homeport.contract.sizes import MIB
from homeport.durable import sync
from homeport.private import created
from homeport.state.passphrase import Keys, Lock
from homeport.state.volume_files import Add, Restored

FORMAT = 2
CONTENTS, PRIVATE, ROWS, END = "backup.json", "private", "state.db", "end.json"
KEY, CONFIG = "vault.key", "config.toml"
#: Certificates that were obtained, those of the administrator, and the keys of accounts, of the local CA and of the cluster's.
CERTIFICATES = ("certificates", "tls", "acme", "local-ca", "cluster")
CLUSTER_CA = "cluster/ca.pem"
MAX_CONTENTS_BYTES = MIB
MAX_PRIVATE_BYTES = 256 * MIB
CHUNK_BYTES = MIB
_BLOB = re.compile(r"blobs/([0-9a-f]{64})")
_PRIVATE_FILE = re.compile(rf"vault\.key|config\.toml|(?:{'|'.join(CERTIFICATES)})/[^\0]+")
_DAMAGED = (
    tarfile.TarError,
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    FileExistsError,  # a part comes twice
)

#: Called with a function that adds one member.
AddVolumes = Callable[[Add], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A backup's description of itself."""

    made_at: float  # seconds since the epoch
    homeport: str
    lock: Lock | None = None  # None: it has no passphrase
    private: Mapping[str, bytes] = field(default_factory=dict)  # path in the home -> content


def version() -> str:
    """Return the version of this homeport."""
    return metadata.version("homeport")


def write(
    target: Path,
    folder: Path,
    made_at: float,
    *,
    passphrase: str,
    private: Mapping[str, bytes],
    files: Mapping[str, Path],
    add_volumes: AddVolumes,
) -> int:
    """Write a backup with mode 0600; return how many files are not there. No passphrase: it is empty.

    `folder` is a workplace beside the target. After an error, or if the process is killed, the target does not exist or is the earlier backup.
    """
    lock = Lock.new() if passphrase else None
    keys = lock.keys(passphrase) if lock else None
    part, missing = folder / "backup", 0
    with created(part) as file, tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as tar:
        writer = _Writer(tar)
        contents = {"format": FORMAT, "homeport": version(), "made_at": made_at}
        writer.text(CONTENTS, _json({**contents, "lock": lock and lock.as_dict()}))
        secret = _json({n: base64.b64encode(c).decode() for n, c in private.items()})
        writer.text(PRIVATE, keys.seal(secret) if keys else secret)
        for name, path in files.items():
            try:
                source = path.open("rb")
            except FileNotFoundError:  # the home itself has lost it
                missing += 1
                continue
            with source:
                info = tarfile.TarInfo(name)
                info.size, info.mode = os.fstat(source.fileno()).st_size, 0o600
                writer.add(info, source)
        add_volumes(writer.add)
        digest = writer.digest.hexdigest()
        writer.text(END, _json({"sha256": digest, "signature": keys.sign(digest) if keys else ""}))
    part.replace(target)
    sync(target.parent)
    return missing


def unpack(source: Path, folder: Path, *, passphrase: str, volumes: Restored) -> Contents:
    """Unpack a backup into a new folder and check it; `BadRequest` says what is wrong with the file.

    The private files are not written: the returned contents have them. The files of volumes go to `volumes`.
    """
    with _reading(source) as tar:
        return _Reader(tar, folder, passphrase, volumes).read()


def has_passphrase(source: Path) -> bool:
    """Return whether a passphrase is needed to read a backup; `BadRequest` if it is not a backup."""
    with _reading(source) as tar:
        return _contents(iter(tar), tar).lock is not None


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(source, "r:gz") as tar:
            yield tar
    except FileNotFoundError:
        if source.exists():
            raise
        raise NotFound(f"there is no file {source}") from None
    except BadRequest:
        raise
    except _DAMAGED as error:
        raise BadRequest(
            f"{source} is damaged, or not a backup of homeport: {error}",
            hint="nothing has been changed; use another backup",
        ) from None


def refuse_existing(target: Path, *, force: bool) -> None:
    """Raise `AlreadyExists` for an existing file, without `force`."""
    if target.exists() and not force:
        raise AlreadyExists(f"{target} exists", hint="name another file, or add `--force`")
    if not target.parent.is_dir():
        raise NotFound(f"there is no directory {target.parent}")


class _Writer:
    """Adds members, and keeps a digest of them."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.digest = hashlib.sha256()

    def text(self, name: str, text: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(text), 0o600
        self.add(info, io.BytesIO(text))

    def add(self, info: tarfile.TarInfo, source: IO[bytes] | None = None) -> None:
        """Add a member; a file that has become shorter meanwhile is filled up with zeros, as by GNU tar."""
        if source is None:
            self._tar.addfile(info)
            self.digest.update(_described(info, hashlib.sha256().digest()))
            return
        content = _Exactly(source, info.size)
        self._tar.addfile(info, content)
        self.digest.update(_described(info, content.digest.digest()))


class _Exactly:
    """Reads a number of bytes from a file, and zeros after its end."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source, self._left = source, size
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        size_wanted = self._left if size < 0 else min(size, self._left)
        data = self._source.read(size_wanted)
        data += b"\0" * (size_wanted - len(data))
        self._left -= size_wanted
        self.digest.update(data)
        return data


class _Reader:
    """Reads the members in their order."""

    def __init__(
        self, tar: tarfile.TarFile, folder: Path, passphrase: str, volumes: Restored
    ) -> None:
        self._tar, self._folder, self._passphrase = tar, folder, passphrase
        self._volumes = volumes
        self._digest = hashlib.sha256()

    def read(self) -> Contents:
        members = iter(self._tar)
        contents = _contents(members, self._tar, self._digest)
        keys = self._keys(contents.lock)
        sealed = _text(self._tar, next(members, None), PRIVATE, MAX_PRIVATE_BYTES, self._digest)
        private = _private(keys.open(sealed) if keys else sealed)
        has_rows = False
        for member in members:
            if member.name == END:
                self._end(member, keys)
                if next(members, None) is not None or not has_rows:
                    break
                return Contents(
                    made_at=contents.made_at,
                    homeport=contents.homeport,
                    lock=contents.lock,
                    private=private,
                )
            has_rows = self._unpack_one(member) or has_rows
        raise ValueError("files are missing, or follow its end")

    def _keys(self, lock: Lock | None) -> Keys | None:
        if lock is None:
            if self._passphrase:  # who stores the file may have replaced it by one of their own
                raise BadRequest(
                    "the backup has no passphrase, and one was given: somebody may have replaced the file",
                    hint="nothing has been changed; if the file is yours, restore it without `--passphrase-file`",
                )
            return None
        if not self._passphrase:
            raise BadRequest(
                "the backup has a passphrase",
                hint="nothing has been changed; `--passphrase-file FILE` reads it from a file",
            )
        return lock.keys(self._passphrase)

    def _unpack_one(self, member: tarfile.TarInfo) -> bool:
        """Unpack one member; return whether it is the rows."""
        if self._volumes.is_member(member.name):
            hasher = hashlib.sha256()
            self._volumes.add(member, self._chunks(member, hasher))
            self._digest.update(_described(member, hasher.digest()))
            return False
        match = _BLOB.fullmatch(member.name)
        if (match is None and member.name != ROWS) or not member.isreg():
            raise ValueError(f"{member.name[:100]!r} does not belong there")
        target = self._folder / member.name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        hasher = hashlib.sha256()
        with created(target) as file:
            for chunk in self._chunks(member, hasher):
                file.write(chunk)
        if match is not None and hasher.hexdigest() != match[1]:
            raise ValueError(f"{member.name} has another content")
        self._digest.update(_described(member, hasher.digest()))
        return match is None

    def _chunks(self, member: tarfile.TarInfo, hasher: "hashlib._Hash") -> Iterator[bytes]:
        if not member.isreg():
            return
        source = _opened(self._tar, member)
        while chunk := source.read(CHUNK_BYTES):
            hasher.update(chunk)
            yield chunk

    def _end(self, member: tarfile.TarInfo, keys: Keys | None) -> None:
        digest = self._digest.hexdigest()
        ending = json.loads(_text(self._tar, member, END, MAX_CONTENTS_BYTES))
        if ending["sha256"] != digest:
            raise ValueError("its parts are not those that it was made of")
        if keys is not None and not keys.check(digest, str(ending["signature"])):
            raise ValueError("it was changed by somebody without the passphrase")


def _contents(
    members: Iterator[tarfile.TarInfo], tar: tarfile.TarFile, digest: "hashlib._Hash | None" = None
) -> Contents:
    contents: dict[str, Any] = json.loads(
        _text(tar, next(members, None), CONTENTS, MAX_CONTENTS_BYTES, digest)
    )
    if int(contents["format"]) != FORMAT:
        later = int(contents["format"]) > FORMAT
        raise BadRequest(
            f"the backup was made by {'a later' if later else 'an earlier'} homeport "
            f"({str(contents.get('homeport'))[:40]!r})",
            hint="nothing has been changed; install that version"
            + (", or a later one" if later else ", restore it there, and make a new backup"),
        )
    lock = contents["lock"]
    return Contents(
        made_at=float(contents["made_at"]),
        homeport=str(contents["homeport"])[:40],
        lock=None if lock is None else Lock.read(lock),
    )


def _private(text: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name, content in json.loads(text).items():
        if _PRIVATE_FILE.fullmatch(name) is None or ".." in Path(name).parts:
            raise ValueError(f"{name[:100]!r} does not belong there")
        files[name] = base64.b64decode(content, validate=True)
    if KEY not in files:
        raise ValueError("files are missing")
    return files


def _text(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo | None,
    name: str,
    limit: int,
    digest: "hashlib._Hash | None" = None,
) -> bytes:
    """Return the content of a small member that has to come now."""
    if member is None or member.name != name or member.size > limit:
        raise ValueError(f"there is no {name} in its place")
    text = _opened(tar, member).read()
    if digest is not None:
        digest.update(_described(member, hashlib.sha256(text).digest()))
    return text


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    if not member.isreg() or (file := tar.extractfile(member)) is None:
        raise ValueError(f"{member.name[:100]!r} is not a file")
    return file


def _described(member: tarfile.TarInfo, content: bytes) -> bytes:
    """Return a text that differs for each two members that differ."""
    description = [
        member.name,
        member.type.decode("ascii", "replace"),
        member.size if member.isreg() else 0,
        member.mode,
        member.uid,
        member.gid,
        int(member.mtime),
        member.linkname,
    ]
    return json.dumps(description).encode() + content


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()
