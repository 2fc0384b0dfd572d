"""The mounts of one container, or of one zygote, while they are on their way into its cell."""

import os
from collections.abc import Iterable
from typing import Any

from homeport.cell.keeper import Opener
from homeport.cell.mounts import Access, Mount
from homeport.contract import codec
from homeport.contract.manifest import VolumeMount


class Trees:
    """Opened trees, each with its place; `close` them when the cell has its own copies."""

    def __init__(self, opener: Opener, user_namespace: int = 0) -> None:
        """`user_namespace` is a descriptor of the cell's, where files of the host's root can belong to its root."""
        self._opener = opener
        self._users = user_namespace
        self._mounts: list[Mount] = []
        self.descriptors: list[int] = []

    def add(self, path: str, mount: Mount, **how: Any) -> None:
        """Open `path` as `Opener.open` does."""
        self.descriptors.append(self._opener.open(path, **how))
        self._mounts.append(mount)

    def add_owned(self, path: str, mount: Mount) -> None:
        """Open a tree that the container cannot change, and whose files belong to its root."""
        self.add(path, mount, users=self._users)

    def add_volume(self, directory: str, volume: VolumeMount) -> None:
        """Open a volume. Its files belong to the ids that every cell has, so it is not id-mapped."""
        access = Access.READ if volume.read_only else Access.WRITE
        try:
            self.add(
                f"{directory}/files",
                Mount(volume.path, access),
                writable=not volume.read_only,
                inside=volume.sub_path,
            )
        except OSError as error:
            text = f"the volume `{volume.name}` cannot be mounted: {error.strerror}"
            raise OSError(error.errno, text) from None

    def add_socket(self, path: str, inside: str) -> None:
        """Show a socket by its directory, because after a restart it is another file."""
        self.add(_directory(path), Mount(_directory(inside)))

    def add_devices(self, paths: Iterable[str]) -> None:
        """Open device files. The device files of other containers stay empty files, as `Cell.points` makes them."""
        for path in paths:
            self.add(path, Mount(path, Access.WRITE), writable=True, devices=True)

    def request(self) -> list[dict[str, Any]]:
        """The places, in the order of the descriptors."""
        return [codec.encode(mount) for mount in self._mounts]

    def close(self) -> None:
        """Close the descriptors here."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


def _directory(path: str) -> str:
    return os.path.dirname(path)  # noqa: PTH120 - some are the cell's paths, not this machine's
