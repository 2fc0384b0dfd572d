"""The file of a backup: a compressed tar of known names, each with its hash.

    backup.json     first: homeport's version, and the SHA-256 of the members below
    state.db        the rows, as a SQLite file, also if they were in PostgreSQL
    vault.key       the key that decrypts the secrets
    config.toml     the settings, if the home has that file
    blobs/<sha256>  the uploaded files of every kept version

Everything is checked when it is read: an unknown name, a wrong hash and a missing member are errors.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from homeport.contract.errors import AlreadyExists, BadRequest, NotFound, StorageError
from homeport.contract.sizes import MIB

FORMAT = 1
CONTENTS = "backup.json"
ROWS, KEY, CONFIG = "state.db", "vault.key", "config.toml"
MAX_CONTENTS_BYTES = MIB
CHUNK_BYTES = MIB
_MEMBER = re.compile(r"state\.db|vault\.key|config\.toml|blobs/([0-9a-f]{64})")
_DAMAGED = (
    tarfile.TarError,
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A backup's description of its contents."""

    made_at: float  # seconds since the epoch
    homeport: str
    format: int = FORMAT
    files: Mapping[str, str] = field(
        default_factory=dict
    )  # member -> SHA-256; blobs are named by it
    blobs: int = 0


def version() -> str:
    """Return the version of this homeport."""
    return metadata.version("homeport")


def write(
    target: Path, made_at: float, files: Mapping[str, Path], blobs: Mapping[str, Path]
) -> None:
    """Write a backup with mode 0600; after an error, the file does not exist or is the earlier one."""
    hashes = {name: _sha256(path) for name, path in files.items()}
    contents = Contents(made_at=made_at, homeport=version(), files=hashes, blobs=len(blobs))
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as tar:
                text = json.dumps(asdict(contents), indent=1).encode()
                _add(tar, CONTENTS, io.BytesIO(text), len(text))
                for name, path in (*files.items(), *((f"blobs/{n}", p) for n, p in blobs.items())):
                    with path.open("rb") as source:
                        _add(tar, name, source, os.fstat(source.fileno()).st_size)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


def unpack(source: Path, folder: Path) -> Contents:
    """Unpack the members into a new folder and check them; `BadRequest` says what is wrong with the file."""
    try:
        with tarfile.open(source, "r:gz") as tar:
            members = iter(tar)
            contents = _contents(tar, next(members, None))
            missing = set(contents.files)
            blobs = sum(_unpack_one(tar, member, contents, folder, missing) for member in members)
        if missing or blobs != contents.blobs:
            raise ValueError("files are missing")
    except FileNotFoundError:
        raise NotFound(f"there is no file {source}") from None
    except BadRequest:
        raise
    except _DAMAGED as error:
        raise BadRequest(
            f"{source} is damaged, or not a backup of homeport: {error}",
            hint="nothing has been changed; use another backup",
        ) from None
    return contents


def refuse_existing(target: Path, *, force: bool) -> None:
    """Raise `AlreadyExists` for an existing file, without `force`."""
    if target.exists() and not force:
        raise AlreadyExists(f"{target} exists", hint="name another file, or add `--force`")
    if not target.parent.is_dir():
        raise NotFound(f"there is no directory {target.parent}")


@contextlib.contextmanager
def workplace(parent: Path) -> Iterator[Path]:
    """Yield a private folder in the same file system, deleted after the block; `OSError` becomes `StorageError`."""
    folder = parent / f".homeport-{secrets.token_hex(4)}.part"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    except OSError as error:
        raise StorageError(
            f"{error.filename or parent}: {error.strerror}",
            hint="nothing has been changed; `df -h` shows which disk is full",
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Write a file or a folder through to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _contents(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> Contents:
    if member is None or member.name != CONTENTS or member.size > MAX_CONTENTS_BYTES:
        raise ValueError("it does not begin with a list of its contents")
    told: dict[str, Any] = json.loads(_opened(tar, member).read())
    if int(told["format"]) > FORMAT:
        raise BadRequest(
            f"the backup was made by a later homeport ({str(told.get('homeport'))[:40]})",
            hint="nothing has been changed; install that version, or a later one",
        )
    files = {str(name): str(digest) for name, digest in told["files"].items()}
    if not {ROWS, KEY} <= set(files) <= {ROWS, KEY, CONFIG}:
        raise ValueError("files are missing")
    return Contents(
        made_at=float(told["made_at"]),
        homeport=str(told["homeport"])[:40],
        files=files,
        blobs=int(told["blobs"]),
    )


def _unpack_one(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    contents: Contents,
    folder: Path,
    missing: set[str],
) -> bool:
    """Unpack one member; return whether it is a blob."""
    match = _MEMBER.fullmatch(member.name)
    if match is None or not member.isreg():
        raise ValueError(f"{member.name[:100]!r} does not belong there")
    target = folder / member.name
    target.parent.mkdir(mode=0o700, exist_ok=True)
    digest, source = hashlib.sha256(), _opened(tar, member)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != (match[1] or contents.files.get(member.name)):
        raise ValueError(f"{member.name} has another content")
    missing.discard(member.name)
    return match[1] is not None


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    if not member.isreg() or (file := tar.extractfile(member)) is None:
        raise ValueError(f"{member.name[:100]!r} is not a file")
    return file


def _add(tar: tarfile.TarFile, name: str, source: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    tar.addfile(info, source)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
