"""Volumes, and the files in them."""

from typing import Literal

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVolume:
    """A volume."""

    id: str  # `vo-…`; it stays when the name changes
    name: str  # empty: an ephemeral one, which goes with the program that made it
    created_at: float
    #: What it takes on the disk; null if the request did not ask for it.
    size_bytes: int | None = None
    files: int | None = None  # how many files it has; null if the request did not ask for it


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeList:
    """Every volume that has a name."""

    volumes: tuple[StoredVolume, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumesQuery:
    """Which facts of the volumes to tell."""

    sizes: bool = False  # `1` measures each of them


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVolume:
    """A volume to create."""

    name: str = ""  # empty: an ephemeral one, which is deleted when the server starts again
    allow_existing: bool = False  # answer with the volume of that name if there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeName:
    """Another name for a volume."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesQuery:
    """Which files of a volume."""

    path: str = ""  # empty or `/`: the root
    recursive: bool = False  # `1`: also what is below directories


@dataclass(frozen=True, slots=True, kw_only=True)
class FileQuery:
    """One file of a volume, and how to write it."""

    path: str = ""
    mode: str = "644"  # its permissions, octal
    force: bool = False  # `1` replaces a file that exists


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One line of a listing."""

    path: str  # from the root of the volume; what is not text in it is escaped, as `\\xff`
    type: str  # `file`, `directory`, `symlink`, `fifo`, `socket` or `other`
    size: int  # bytes
    mtime: float
    event: Literal["entry"] = "entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Files to copy within a volume, as `cp` does."""

    sources: tuple[str, ...]
    target: str
    recursive: bool = False  # also directories
