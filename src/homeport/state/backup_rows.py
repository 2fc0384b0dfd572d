"""What a backup's rows say, read from their file: a SQLite database in the form of one of our schemas, perhaps an older one."""

import contextlib
import re
import sqlite3
from collections.abc import Collection
from pathlib import Path

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import NotFound

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The contents of a backup."""

    made_at: float
    homeport: str
    apps: int
    secrets: int
    missing: int = 0  # files of versions that the home itself does not have
    volumes: tuple[str, ...] = ()  # with their names and ids
    with_files: tuple[str, ...] = ()  # of them, those whose files are in it


def chosen(rows: Path, names: Collection[str] | None) -> dict[str, str]:
    """Return the volumes whose files go along: key -> name; `NotFound` for an unknown name."""
    volumes = volumes_of(rows)
    if names is None:
        return volumes
    if unknown := sorted(set(names) - set(volumes.values())):
        raise NotFound(f"there is no volume `{unknown[0]}`", hint="`homeport volume list`")
    return {key: name for key, name in volumes.items() if name in names}


def volumes_of(rows: Path) -> dict[str, str]:
    """Return the volumes that have names: key -> name."""
    query = (
        "SELECT workspace, environment, id, name FROM volumes WHERE name IS NOT NULL ORDER BY name"
    )
    with contextlib.closing(sqlite3.connect(rows)) as connection:
        has_volumes = "SELECT 1 FROM sqlite_master WHERE name = 'volumes'"  # not before schema 0003
        rows_found = (
            connection.execute(query).fetchall() if [*connection.execute(has_volumes)] else []
        )
    return {
        f"{workspace}/{environment}/{id_}": name for workspace, environment, id_, name in rows_found
    }


def hashes(rows: Path) -> set[str]:
    """Return the SHA-256 of each file that some revision has."""
    with contextlib.closing(sqlite3.connect(rows)) as connection:
        texts = connection.execute("SELECT manifest FROM revisions")
        return {digest for (text,) in texts for digest in _SHA256.findall(str(text))}


def summary(
    rows: Path, made_at: float, homeport: str, missing: int, *, with_files: Collection[str]
) -> Summary:
    """Return the contents; `with_files` are the keys of the volumes whose files are in the backup."""
    volumes = volumes_of(rows)
    with contextlib.closing(sqlite3.connect(rows)) as connection:
        [(apps,)] = connection.execute("SELECT count(*) FROM apps WHERE stopped_at IS NULL")
        [(secrets,)] = connection.execute("SELECT count(*) FROM secrets WHERE inline = 0")
    return Summary(
        made_at=made_at,
        homeport=homeport,
        apps=apps,
        secrets=secrets,
        missing=missing,
        volumes=tuple(volumes.values()),
        with_files=tuple(name for key, name in volumes.items() if key in with_files),
    )


def is_sound(path: Path) -> bool:
    """Return whether SQLite can read every page of a file."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
        ) as c:
            return bool(c.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False
