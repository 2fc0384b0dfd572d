"""The keyword `volumes=`: checked, and turned into the contract's values."""

from typing import Any

from homeport.contract import validate
from homeport.contract.manifest import VolumeMount
from homeport.sdk.exception import InvalidError
from homeport.sdk.objects.volume import Volume


def mounts(volumes: dict[str, Volume]) -> tuple[VolumeMount, ...]:
    """Return the manifest's description of mounted volumes."""
    return tuple(volume.mount(path) for path, volume in check_volumes(volumes).items())


def check_volumes(volumes: Any) -> dict[str, Volume]:
    """Return mount path -> volume; `InvalidError` for a path where no volume can be mounted."""
    if not isinstance(volumes, dict):
        raise InvalidError("`volumes=` must be a dict keyed by mount path")
    path_by_id: dict[int, str] = {}
    volumes_by_path: dict[str, Volume] = {}
    for raw, volume in volumes.items():
        path = str(raw)
        if len(path) > 1 and path.endswith("/"):
            path = path[:-1]
        if not isinstance(volume, Volume):
            raise InvalidError(
                f"Object of type {type(volume)} mounted at '{path}' is not usable as a volume."
            )
        if path == "/":
            raise InvalidError("Volume / cannot be mounted into root directory.")
        if not path.startswith("/") or not validate.is_path(path, absolute=True):
            raise InvalidError(f"Volume {path} must be a canonical, absolute path.")
        if not validate.may_mount(path):
            raise InvalidError(f"Volume {path} cannot be mounted at '{path}'.")
        if id(volume) in path_by_id:
            raise InvalidError(
                "The same Volume cannot be mounted in multiple locations for the same function: "
                f"{path_by_id[id(volume)]}, {path}"
            )
        path_by_id[id(volume)] = path
        volumes_by_path[path] = volume
    return volumes_by_path
