"""Names of Modal that a script may declare although homeport does not have them yet.

A declaration is accepted; a use raises `UnimplementedError`.
"""

from pathlib import PurePosixPath
from typing import Any

from homeport.contract.image import HOME
from homeport.sdk import gone
from homeport.sdk.exception import InvalidError, UnimplementedError
from homeport.sdk.gone import Old


class Pending(metaclass=Old):
    """An object that can be declared and not used."""

    _what = "this"

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    @classmethod
    def from_name(cls, *_args: Any, **_kwargs: Any) -> Any:
        """Return an object without a look-up, as Modal does."""
        return cls()

    from_id = lookup = ephemeral = from_name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        gone.on_instance(self, name)
        raise UnimplementedError(f"`{type(self).__name__}.{name}` is not there yet in homeport")


class Volume(Pending):
    """A shared file system."""

    def read_only(self) -> "Volume":
        """Return the volume, to be mounted read-only."""
        return self

    def with_mount_options(self, **_options: Any) -> "Volume":
        """Return the volume, with options."""
        return self


class CloudBucketMount(Pending):
    """A bucket as a file system."""


class NetworkFileSystem(Pending):
    """An older shared file system."""


class Collection(Pending):
    """What has items."""

    def _pending(self, *_args: Any) -> Any:
        raise UnimplementedError(f"`modal.{type(self).__name__}` is not there yet in homeport")

    __getitem__ = __setitem__ = __delitem__ = __contains__ = __len__ = __iter__ = _pending

    def __bool__(self) -> bool:
        return True


class Dict(Collection):
    """A shared dictionary."""


class Queue(Collection):
    """A shared queue."""


class Proxy(Pending):
    """A fixed address for outgoing traffic."""


class Tunnel(Pending):
    """A port of a container that is open to the internet."""


class Sandbox(Pending):
    """A container made at run time."""

    @classmethod
    def create(cls, *_args: Any, **_kwargs: Any) -> Any:
        """Not there yet."""
        raise UnimplementedError("`modal.Sandbox` is not there yet in homeport")


class FunctionCall(Pending):
    """A call that runs in the background."""


class Environment(Pending):
    """A namespace for apps; homeport has one."""


class Workspace(Pending):
    """Modal's account; homeport has one."""


class Client(Pending):
    """A connection to Modal; homeport's commands make their own."""


class Server(Pending):
    """Modal's class that is an HTTP server."""


class Cluster(Pending):
    """Containers that work together."""


def check_volumes(volumes: Any) -> dict[str, Any]:
    """Return mount path -> volume; `InvalidError` for a path where none can be mounted."""
    if not isinstance(volumes, dict):
        raise InvalidError("`volumes=` must be a dict keyed by mount path")
    seen: dict[int, str] = {}
    for raw, volume in volumes.items():
        path = str(raw)
        path = path.removesuffix("/") if path.strip("/") else path
        if not isinstance(volume, (Volume, CloudBucketMount)):
            raise InvalidError(
                f"Object of type {type(volume)} mounted at '{path}' is not usable as a volume."
            )
        if not path.startswith("/") or str(PurePosixPath(path)) != path or ".." in path.split("/"):
            raise InvalidError(f"Volume {path} must be a canonical, absolute path.")
        if path == "/":
            raise InvalidError("Volume / cannot be mounted into root directory.")
        if path in {HOME, "/tmp"}:  # noqa: S108
            raise InvalidError(f"Volume {path} cannot be mounted at '{path}'.")
        if id(volume) in seen:
            raise InvalidError(
                "The same Volume cannot be mounted in multiple locations for the same function: "
                f"{seen[id(volume)]}, {path}"
            )
        seen[id(volume)] = path
    return {str(path).removesuffix("/"): volume for path, volume in volumes.items()}
