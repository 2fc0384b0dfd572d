"""Names of Modal that a script may declare although homeport does not have them yet.

A declaration is accepted; a use raises `UnimplementedError`.
"""

from typing import Any

from homeport.sdk.exception import UnimplementedError
from homeport.sdk.gone import Old
from homeport.sdk.pending import error

_INSTEAD = "homeport has no `NetworkFileSystem`: use `modal.Volume`, which functions share at once"


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
        kind = type(self).__name__
        raise error(f"{kind}.{name}", kind)


class CloudBucketMount:
    """A bucket as a file system; homeport does not have it."""

    def __init__(self, bucket_name: str = "", *_args: Any, **_options: Any) -> None:
        raise UnimplementedError(
            f"`CloudBucketMount({bucket_name!r})`: homeport mounts no buckets. Use a `modal.Volume` for files that "
            "stay on this machine, or read the bucket by its own client (boto3, google-cloud-storage)"
        )


class NetworkFileSystem(metaclass=Old):
    """Modal's older shared file system; homeport does not have it."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        raise UnimplementedError(_INSTEAD)

    @staticmethod
    def from_name(name: str, *_args: Any, **_options: Any) -> Any:
        """Raise an error that says what to use instead."""
        raise UnimplementedError(f"`NetworkFileSystem.from_name({name!r})`: {_INSTEAD}")

    lookup = ephemeral = from_name


class Proxy(Pending):
    """A fixed address for outgoing traffic."""


class Sandbox(Pending):
    """A container made at run time."""

    @classmethod
    def create(cls, *_args: Any, **_kwargs: Any) -> Any:
        """Raise an error: homeport does not have this yet."""
        raise error("Sandbox.create", "Sandbox")

    @classmethod
    def list(cls, *_args: Any, **_kwargs: Any) -> Any:
        """Raise an error: homeport does not have this yet."""
        raise error("Sandbox.list", "Sandbox")


class Workspace(Pending):
    """Modal's account; homeport has one."""


class Client(Pending):
    """A connection to Modal; homeport's commands make their own."""


class Cluster(Pending):
    """Containers that work together."""
