"""The mark by which machines know that they share one directory of volumes, such as a directory of NFS.

    <shared_volumes>/.homeport-volumes    the id of the server whose volumes these are
    <home>/shared-volumes.json            the same id, and the path, on the server's machine

A directory without the mark is refused: a file system that is not mounted looks like an empty one, and files that
containers wrote there would be lost. So are volumes that stayed in the home, and a directory of another server.
"""

import hashlib
import json
import os
import secrets
from pathlib import Path

from homeport import private
from homeport.cell import identity
from homeport.contract.errors import StorageError

MARK, RECORD = ".homeport-volumes", "shared-volumes.json"
NOT_MARKED = "not marked"  # instead of a mark
MOST_BYTES = 64  # of a mark; what is longer is none of ours


def open_shared(directory: Path, home: Path) -> str:
    """Return the mark of a server's shared directory, which is made once; `StorageError` if it cannot be used. Blocks."""
    try:
        record = _record(home)
        mark = _read(directory)
        if record is None and mark:
            raise StorageError(
                f"{directory} has the volumes of another homeport",
                hint=f"name a directory of its own in `shared_volumes`; or delete {directory / MARK}",
            )
        if record is not None and mark != record["id"]:
            raise StorageError(
                f"{directory} does not have the mark of this server's volumes",
                hint="is it mounted? To move them, copy all files, the hidden ones too, and name the new path "
                f"in `shared_volumes`; what there was before: {record['path']}",
            )
        _check_moved(directory, home)
        mark = mark or secrets.token_hex(16)
        if record is None:
            private.write(directory / MARK, mark.encode())
            (directory / MARK).chmod(0o644)
        private.write(home / RECORD, json.dumps({"id": mark, "path": str(directory)}).encode())
    except OSError as error:
        raise StorageError(f"`shared_volumes`, {directory}: {error.strerror}") from None
    return with_users(mark)


def check_none(home: Path) -> None:
    """Raise `StorageError` if the volumes of this home are in a shared directory, which no setting names any more."""
    if (record := _record(home)) is not None:
        raise StorageError(
            f"the volumes of this server are in {record['path']}, and `shared_volumes` is not set",
            hint=f"set it again; or move them to {home / 'volumes'}, and delete {home / RECORD}",
        )


def reported(directory: Path) -> str:
    """Return what a node says of its shared directory: its mark with the ids of users there, or `NOT_MARKED`. Blocks."""
    try:
        mark = _read(directory)
    except OSError:
        return NOT_MARKED
    return with_users(mark) if mark else NOT_MARKED


def with_users(mark: str) -> str:
    """Return a mark with a digest of the users that containers of this machine have on its disks."""
    ids = identity.own()
    users = [ids.users, ids.groups] if ids is not None else [os.geteuid(), os.getegid()]
    return f"{mark} {hashlib.sha256(json.dumps(users).encode()).hexdigest()[:16]}"


def compared(report: str, mark: str) -> str:
    """Return how a machine's report fits the server's mark: `shared`, `not set`, `not marked` or `other users`.

    >>> compared("a 1", "a 1"), compared("", "a 1"), compared("b 1", "a 1"), compared("a 2", "a 1")
    ('shared', 'not set', 'not marked', 'other users')
    """
    if not report:
        return "not set"
    if report == mark:
        return "shared"
    return "other users" if report.partition(" ")[0] == mark.partition(" ")[0] else NOT_MARKED


def _read(directory: Path) -> str:
    if not directory.is_dir():
        raise FileNotFoundError(2, "it does not exist", str(directory))
    try:
        with (directory / MARK).open("rb") as file:  # whatever another machine has put there
            return file.read(MOST_BYTES).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return ""


def _record(home: Path) -> dict[str, str] | None:
    try:
        data = json.loads((home / RECORD).read_text())
        return {"id": str(data["id"]), "path": str(data["path"])}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{home / RECORD} is damaged", hint="delete it") from None


def _check_moved(directory: Path, home: Path) -> None:
    """Raise `StorageError` if volumes are still in the home: they would be empty in the shared directory."""
    for volume in (home / "volumes").glob("*/*/vo-*"):
        if not (directory / volume.relative_to(home / "volumes")).is_dir():
            raise StorageError(
                f"volumes of this server are in {home / 'volumes'}, and not in {directory}",
                hint=f"stop the server, and move them: `rsync -aHX --numeric-ids {home / 'volumes'}/ {directory}/`",
            )
