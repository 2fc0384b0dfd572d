"""`Volume`: a directory that functions share and that outlives them."""

import contextlib
import enum
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

from homeport.contract import names, validate
from homeport.contract.dataclass import dataclass
from homeport.contract.manifest import VolumeMount
from homeport.sdk import context, location
from homeport.sdk.exception import ExecutionError, InvalidError, MissingError
from homeport.sdk.gone import Old, on_instance
from homeport.sdk.objects import blocking, named
from homeport.sdk.objects.volume_files import Files, Mounted, VolumeUpload

if TYPE_CHECKING:
    from homeport.contract.api.volumes import StoredVolume


class FileEntryType(enum.IntEnum):
    """The kind of an entry in a volume's directory."""

    UNSPECIFIED = 0
    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5


@dataclass(frozen=True)
class FileEntry:
    """An entry of a volume's directory."""

    path: str  # from the root of the volume, without a `/` at its beginning
    type: FileEntryType
    mtime: int  # seconds since the epoch
    size: int  # bytes


class VolumeInfo(named.Info):
    """Facts of a volume."""


_Volumes = list["Volume"]


class VolumeManager:
    """`Volume.objects`: the server's volumes."""

    @blocking.method
    def create(
        self,
        name: str,
        *,
        version: int | None = None,  # noqa: ARG002
        allow_existing: bool = False,
        environment_name: str | None = None,
        client: Any = None,  # noqa: ARG002
    ) -> None:
        """Create a volume."""
        _refuse_inside("objects.create")
        Volume.from_name(name)  # it checks the name
        _server().create(name, allow_existing=allow_existing, environment=environment_name or "")

    @blocking.method
    def list(
        self,
        *,
        max_objects: int | None = None,
        created_before: datetime | str | None = None,
        environment_name: str = "",
        client: Any = None,  # noqa: ARG002
    ) -> _Volumes:
        """Return the volumes, the newest first."""
        _refuse_inside("objects.list")
        volumes = _server().every(environment=environment_name)
        volume_names = named.newest(
            ((volume.name, volume.created_at) for volume in volumes),
            created_before=created_before,
            max_objects=max_objects,
        )
        return [Volume.from_name(name, environment_name=environment_name) for name in volume_names]

    @blocking.method
    def delete(
        self,
        name: str,
        *,
        allow_missing: bool = False,
        environment_name: str | None = None,
        client: Any = None,  # noqa: ARG002
    ) -> None:
        """Delete a volume and its files; an error while an app uses it."""
        _refuse_inside("objects.delete")
        missing = (MissingError,) if allow_missing else ()
        with contextlib.suppress(*missing):
            _server().delete(name, environment=environment_name or "")


def _rename(
    old_name: str,
    new_name: str,
    *,
    client: Any = None,  # noqa: ARG001
    environment_name: str | None = None,
) -> None:
    """Give a volume another name."""
    _refuse_inside("rename")
    _server().rename(old_name, new_name, environment=environment_name or "")


def _delete(
    name: str,
    client: Any = None,
    environment_name: str | None = None,
    *,
    allow_missing: bool = False,
) -> None:
    """Delete a volume and its files; an error while an app uses it."""
    VolumeManager().delete(
        name, allow_missing=allow_missing, client=client, environment_name=environment_name
    )


class Volume(metaclass=Old):
    """A directory that functions share at once, and that outlives containers, deploys and the server.

    Mount it with `@app.function(volumes={"/data": volume})`. The methods work in a container that has the volume
    mounted, and on the user's machine while the server runs. Each has an `.aio`.
    """

    objects = VolumeManager()
    rename = blocking.Call(_rename)
    delete = blocking.Call(_delete)

    def __init__(self) -> None:
        self._name: str | None = None
        self._id: str | None = None
        self.environment_name = ""  # of the name; empty: this process's own, or the app's
        self._create = False
        self._read_only = False
        self._sub_path = ""
        self._where = location.here()

    @staticmethod
    def from_name(
        name: str,
        *,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        version: int | None = None,  # noqa: ARG004 - Modal's file system; here it is the machine's
        client: Any = None,  # noqa: ARG004
    ) -> "Volume":
        """Return the volume with this name; the first use of the volume looks it up."""
        named.check("Volume", name)
        volume = Volume()
        volume._name, volume._create = name, create_if_missing
        volume.environment_name = environment_name or ""
        return volume

    lookup = from_name  # an older name of the same

    @staticmethod
    def from_id(volume_id: str, client: Any = None) -> "Volume":  # noqa: ARG004
        """Return the volume with this id; only on the user's machine."""
        if not isinstance(volume_id, str) or not names.is_volume_id(volume_id):
            raise InvalidError(f"Invalid Volume ID: '{volume_id}'.")
        volume = Volume()
        volume._id = volume_id
        return volume

    @staticmethod
    def ephemeral(
        client: Any = None,  # noqa: ARG004
        environment_name: str | None = None,
        version: int | None = None,  # noqa: ARG004
    ) -> "blocking.Both[Volume]":
        """Make a volume that is deleted at the end of the `with` block."""
        return blocking.Both(_ephemeral(environment_name or ""))

    @property
    def name(self) -> str | None:
        """The name that it was looked up by."""
        return self._name

    @property
    def object_id(self) -> str:
        """The id, once it is known: in a container, or after `hydrate()`."""
        if self._id is None and (mounts := context.mounts_of(self._name)):
            self._id = mounts[0].key.rpartition("/")[2]
        if self._id is None:
            raise ExecutionError("the volume has no id before `hydrate()`")
        return self._id

    @blocking.method
    def hydrate(self, client: Any = None) -> "Volume":  # noqa: ARG002
        """Look the volume up now; make it if it does not exist and `create_if_missing` is true."""
        if context.is_local():
            self._id = self._looked_up().id
        else:
            self._mount()
        return self

    @blocking.method
    def info(self) -> VolumeInfo:
        """Return the volume's name, and when it was created."""
        _refuse_inside("info")
        stored = self._looked_up()
        return VolumeInfo.of(stored.name, stored.created_at)

    def with_mount_options(
        self, *, read_only: bool | None = None, sub_path: str | PurePosixPath | None = None
    ) -> "Volume":
        """Return the volume with these options for mounts; options that are not given stay."""
        volume = Volume()
        volume.__dict__.update(self.__dict__)
        if read_only is not None:
            volume._read_only = read_only
        if sub_path is not None:
            normalized = str(PurePosixPath(sub_path)).strip("/")
            volume._sub_path = "" if normalized == "." else normalized
            if volume._sub_path and not validate.is_path(volume._sub_path):
                raise InvalidError(f"`sub_path={str(sub_path)!r}` is not a path in a volume")
        return volume

    def read_only(self) -> "Volume":
        """Return the volume with read-only mounts: containers cannot write to it."""
        return self.with_mount_options(read_only=True)

    @blocking.method
    def commit(self) -> None:
        """Return when everything that was written is on the disk for good; others see it already."""
        self._check_writable()
        self._mounted("commit").commit()

    @blocking.method
    def reload(self) -> None:
        """Do nothing: a container sees at once what others write."""
        self._mounted("reload")

    @blocking.streaming
    def iterdir(self, path: str, *, recursive: bool = True) -> Iterator[FileEntry]:
        """Yield the entries of a directory, and of those below it."""
        for entry in self._files.entries(path, recursive=recursive):
            kind = FileEntryType.__members__.get(entry.kind.upper(), FileEntryType.UNSPECIFIED)
            yield FileEntry(entry.path, kind, int(entry.modified_at), entry.size)

    @blocking.method
    def listdir(self, path: str, *, recursive: bool = False) -> list[FileEntry]:
        """Return the entries of a directory."""
        return list(self.iterdir(path, recursive=recursive))

    @blocking.streaming
    def read_file(self, path: str) -> Iterator[bytes]:
        """Yield a file in pieces; `FileNotFoundError` if it does not exist."""
        yield from self._files.read(path)

    @blocking.method
    def read_file_into_fileobj(
        self,
        path: str,
        fileobj: BinaryIO,
        progress_cb: Any = None,  # noqa: ARG002
    ) -> int:
        """Write a file into an open one; return how many bytes it has."""
        return sum(fileobj.write(chunk) for chunk in self._files.read(path))

    @blocking.method
    def remove_file(self, path: str, recursive: bool = False) -> None:
        """Remove a file, or with `recursive` a directory."""
        self._check_writable()
        self._files.remove(path, recursive=recursive)

    @blocking.method
    def copy_files(self, src_paths: Sequence[str], dst_path: str, recursive: bool = False) -> None:
        """Copy files within the volume, as `cp` does."""
        self._check_writable()
        if isinstance(src_paths, str):
            raise InvalidError("`src_paths` must be a list of paths")
        self._files.copy([str(path) for path in src_paths], str(dst_path), recursive=recursive)

    def batch_upload(self, force: bool = False) -> "blocking.Both[VolumeUpload]":
        """Collect files of this machine, and write them into the volume at the end of the `with` block.

        A file that exists is an error unless `force`.
        """
        self._check_writable()

        @contextlib.contextmanager
        def batch() -> Iterator[VolumeUpload]:
            collected = VolumeUpload()
            yield collected
            self._files.upload(collected.uploads, force=force)

        return blocking.Both(batch())

    def mount(self, path: str) -> VolumeMount:
        """The manifest's description of the volume at a path of a container."""
        if self._name is None:
            raise InvalidError(f"the volume at {path} has no name: use `Volume.from_name`")
        return VolumeMount(
            path=path,
            name=self._name,
            read_only=self._read_only,
            sub_path=self._sub_path,
            create=self._create,
            where=self._where,
            environment=self.environment_name,
        )

    @property
    def _files(self) -> Files:
        if context.is_local():
            remote: Files = _server().Remote(
                self._looked_up().id, environment=self.environment_name
            )
            return remote
        return self._mount()

    def _mounted(self, name: str) -> Mounted:
        if context.is_local():
            raise RuntimeError(f"`Volume.{name}` is for containers that have the volume mounted")
        return self._mount()

    def _mount(self) -> Mounted:
        for mount in context.mounts_of(self._name):
            if mount.sub_path == self._sub_path:
                return Mounted(mount.path)
        raise ExecutionError(
            f"this container has not mounted the volume `{self._name or self._id}`: "
            'add it to the function, as `volumes={"/data": volume}`'
        )

    def _looked_up(self) -> "StoredVolume":
        name = self._id or self._name
        if name is None:
            raise InvalidError("the volume has no name: use `Volume.from_name`")
        if self._create and self._id is None:
            created: StoredVolume = _server().create(
                name, allow_existing=True, environment=self.environment_name
            )
            return created
        existing: StoredVolume = _server().find(name, environment=self.environment_name)
        return existing

    def _check_writable(self) -> None:
        if self._read_only:
            raise InvalidError("Read-only Volume can not be written to")

    def __getattr__(self, name: str) -> Any:
        on_instance(self, name)
        raise AttributeError(f"'Volume' object has no attribute '{name}'")

    def __repr__(self) -> str:
        return f"Volume.from_name({self._name!r})" if self._name else "Volume(…)"


@contextlib.contextmanager
def _ephemeral(environment: str) -> Iterator[Volume]:
    _refuse_inside("ephemeral")
    stored = _server().create("", environment=environment)
    try:
        volume = Volume.from_id(stored.id)
        volume.environment_name = environment
        yield volume
    finally:
        _server().delete(stored.id, environment=environment)


def _server() -> "ModuleType":
    """Return the client of the server; imported late, so that a container's start does not pay for it."""
    from homeport.sdk.objects import volume_remote

    return volume_remote


def _refuse_inside(name: str) -> None:
    context.refuse_inside(f"Volume.{name}", "a container may not speak to the server")
