"""Volumes: directories that outlive apps and servers, each with a row that says its name.

    <home>/volumes/<workspace>/<environment>/<id>/files/      what containers see
                                                 staging/    uploads that are not whole yet

The directory is called by the volume's id, so a volume can get another name while containers use it. A directory
without a row is never deleted; it may hold a user's data.
"""

import asyncio
import contextlib
import dataclasses
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from homeport import removing
from homeport.cell import identity
from homeport.cell.keeper import Opener
from homeport.contract.errors import AlreadyExists, BadRequest, Failure, NotFound, StorageError
from homeport.contract.manifest import FunctionSpec, Manifest, VolumeMount
from homeport.state.database import Database
from homeport.state.objects import Objects
from homeport.state.rows import ObjectRow
from homeport.state.scope import MAIN, Scope
from homeport.tree import Tree

FILES, STAGING, GONE = "files", "staging", ".gone"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class Volumes:
    """The volumes of one environment."""

    def __init__(
        self,
        database: Database,
        root: Path,
        *,
        owner: tuple[int, int] | None = None,
        scope: Scope = MAIN,
    ) -> None:
        """`owner`: the user and group outside that root is in containers; None: what this process gives them."""
        self._above = f"{scope.workspace}/{scope.environment}"
        self._root = root / scope.workspace / scope.environment
        self._owner = owner or _root_in_containers()
        self._objects = Objects(database, "volume", scope=scope)

    async def load(self) -> None:
        """Read the rows; remove what programs and servers that ended have left unfinished."""
        for row in await self._objects.load():
            await self._discard(row)
        await asyncio.to_thread(self._sweep)

    def list(self) -> list[ObjectRow]:
        """Return the volumes that have a name, in the order of their names."""
        return self._objects.list()

    def find(self, name: str) -> ObjectRow:
        """Return the volume with a name or an id; `NotFound` for an unknown one."""
        return self._objects.find(name)

    async def create(self, name: str | None, *, allow_existing: bool = False) -> ObjectRow:
        """Create a volume; None is an ephemeral one's name."""
        row = await self._objects.create(name, allow_existing=allow_existing)
        try:
            await asyncio.to_thread(self.directory, row)
        except Failure:
            if not (self._root / row.id).exists():
                await self._objects.delete(row.id)
            raise
        return row

    async def rename(self, name: str, new: str) -> ObjectRow:
        """Give a volume another name; containers that have it mounted notice nothing."""
        return await self._objects.rename(name, new)

    async def delete(self, name: str) -> None:
        """Delete a volume and its files."""
        await self._discard(await self._objects.delete(name))

    async def resolve(self, manifest: Manifest) -> Manifest:
        """Return the manifest with the volumes that its names mean now; creates those that it asks for."""
        functions = []
        for spec in manifest.functions:
            mounts = [await self._resolved(mount) for mount in spec.volumes]
            for_build = [await self._resolved(mount) for mount in spec.build_volumes]
            functions.append(
                dataclasses.replace(spec, volumes=tuple(mounts), build_volumes=tuple(for_build))
            )
        return dataclasses.replace(manifest, functions=tuple(functions))

    def check(self, spec: FunctionSpec) -> None:
        """Raise `NotFound` if a volume was deleted; check that the others have a directory."""
        for mount in spec.volumes:
            row = self._objects.get(mount.key.rpartition("/")[2])
            if row is None:
                raise NotFound(
                    f"the volume `{mount.name}` was deleted after this version was deployed",
                    where=mount.where,
                    hint="deploy the app again",
                )
            self.directory(row)
            if mount.sub_path:
                with failing(f"`sub_path` of the volume `{mount.name}`"):
                    self.tree(row).make(mount.sub_path)

    def key(self, row: ObjectRow) -> str:
        """Return how manifests name a volume: where its directory is, below the home's `volumes`."""
        return f"{self._above}/{row.id}"

    def tree(self, row: ObjectRow) -> Tree:
        """Return a volume's files."""
        directory = self.directory(row)
        return Tree(str(directory / FILES), staging=str(directory / STAGING), owner=self._owner)

    def directory(self, row: ObjectRow) -> Path:
        """Return a volume's directory, and make it if need be."""
        directory = self._root / row.id
        with failing("a volume"):
            if not (directory / FILES).is_dir():
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                (directory / FILES).mkdir(exist_ok=True)
                (directory / FILES).chmod(0o755)
                if self._owner is not None:
                    os.chown(directory / FILES, *self._owner, follow_symlinks=False)
            (directory / STAGING).mkdir(exist_ok=True, mode=0o700)
        return directory

    async def _resolved(self, mount: VolumeMount) -> VolumeMount:
        row = self._objects.get(mount.name)
        if row is None and not mount.create:
            raise NotFound(
                f"there is no volume `{mount.name}`",
                where=mount.where,
                hint=f"`homeport volume create {mount.name}` makes one; so does "
                f'`Volume.from_name("{mount.name}", create_if_missing=True)`',
            )
        row = row or await self.create(mount.name, allow_existing=True)
        return dataclasses.replace(mount, key=self.key(row))

    async def _discard(self, row: ObjectRow) -> None:
        renamed = self._root / f"{row.id}{GONE}"
        with contextlib.suppress(FileNotFoundError):
            (self._root / row.id).rename(renamed)
        await asyncio.to_thread(self._remove_directory, renamed)

    def _sweep(self) -> None:
        with contextlib.suppress(OSError):
            for directory in self._root.iterdir():
                if directory.name.endswith(GONE):
                    self._remove_directory(directory)
                    continue
                with contextlib.suppress(OSError):
                    for part in (directory / STAGING).iterdir():
                        self._remove_directory(part)

    def _remove_directory(self, path: Path) -> None:
        """Remove a directory; if that is impossible now, the next start of the server tries again."""
        with contextlib.suppress(FileNotFoundError):
            try:
                folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if path.is_dir() and not path.is_symlink():
                        removing.remove(path.name, folder)
                    else:
                        os.unlink(path.name, dir_fd=folder)
                finally:
                    os.close(folder)
            except FileNotFoundError:
                raise
            except OSError:
                with contextlib.suppress(OSError):
                    _remove_as_containers(str(path))


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """Raise errors of the file system as failures; `what` names the file or the volume."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"{what}: there is no such file or directory") from None
    except FileExistsError:
        raise AlreadyExists(f"{what}: it exists already") from None
    except ValueError as error:
        raise BadRequest(str(error)) from None
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(f"{what} cannot be written: {error.strerror}") from None
        raise BadRequest(f"{what}: {error.strerror}") from None


def _root_in_containers() -> tuple[int, int] | None:
    """Cells of root have ids that no user of the machine has; None: root in a cell is this process's user."""
    if os.geteuid() != 0 or (ids := identity.own()) is None:
        return None
    return ids.users[0][1], ids.groups[0][1]


def _remove_as_containers(path: str) -> None:
    """Remove a directory with files of ids that only containers have, as an ordinary user's may be."""
    opener = Opener()
    try:
        opener.remove(path)
    finally:
        opener.close()
