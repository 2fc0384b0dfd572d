"""The context of the code that runs: on the user's machine or in a container, and for which request."""

import contextlib
import contextvars
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.contract.image import Image
from homeport.contract.manifest import VolumeMount
from homeport.sdk.exception import ExecutionError, InvalidError

#: X-Request-Id of the request that is being answered.
input_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("input_id", default=None)

#: The id of the spawned call that is being answered, `fc-…`; None: the call's id is that of its request.
call_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("call_id", default=None)

#: The `traceparent` and `tracestate` of the request that is being answered, as it came.
trace: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar(
    "trace", default=None
)

_urls: dict[str, str] | None = None  # in a container: the app's tags -> their URLs
_volumes: tuple[VolumeMount, ...] = ()  # in a container: what is mounted
_image: Image | None = None  # in a container: the image of its function
_reach: "Reach | None" = None  # in a container: how it calls functions
#: In a container: returns the object that opens its tunnels. None elsewhere; the runner sets it.
tunnels: "Callable[[], Any] | None" = None
#: In a container: whether all its slots are taken.
is_full: Callable[[], bool] = lambda: False  # noqa: E731 - the runner replaces it


@dataclass(frozen=True)
class Reach:
    """The way in which this process calls functions."""

    socket: str  # the path of the ingress's socket, or a server's URL; empty: it may call nothing
    app: str = ""  # the app that this process belongs to; empty: none
    scope: str = ""  # the session that the app belongs to; empty: it is deployed
    container: str = ""  # the id of this container; empty: this process is not one
    environment: str = "main"
    own: tuple[str, ...] = ()  # the tags of this container's functions, if it is the only one
    query: str = ""  # its class parameters
    key: str = field(default="", repr=False)  # of the environment: see `calls.KEY`
    token: str = field(default="", repr=False)  # of the server, if `socket` is its URL
    urls: "dict[str, str]" = field(default_factory=dict)  # outside containers: as `_urls`
    local_urls: "dict[str, str]" = field(default_factory=dict)  # the same by ports of their own


def enter_container(
    urls: dict[str, str], image: Image | None = None, volumes: tuple[VolumeMount, ...] = ()
) -> None:
    """Mark this process as a container; the runner calls it before it loads the script."""
    global _urls, _image, _volumes
    _urls, _image, _volumes = urls, image, volumes


def enter_calls(reach: Reach) -> None:
    """Set how this process calls functions; the runner calls it before it loads the script."""
    global _reach  # noqa: PLW0603
    _reach = reach


def for_programs(reach: Reach, volumes: tuple[VolumeMount, ...]) -> dict[str, str]:
    """Return the variables that give a program, started by this container, the same access as the container."""
    variables = {
        "HOMEPORT_CALLS_SOCKET": reach.socket,
        "HOMEPORT_CALLS_APP": reach.app,
        "HOMEPORT_CALLS_SCOPE": reach.scope,
        "HOMEPORT_CALLS_KEY": reach.key,
    }
    if volumes:
        from homeport.contract import codec

        variables["HOMEPORT_VOLUMES"] = codec.dumps(volumes)
    return variables


def reach() -> Reach | None:
    """Return how this process calls functions; None outside containers and `homeport run`."""
    if _reach is None and (path := os.environ.get("HOMEPORT_CALLS_SOCKET")) is not None:
        enter_calls(
            Reach(
                socket=path,
                app=os.environ.get("HOMEPORT_CALLS_APP", ""),
                scope=os.environ.get("HOMEPORT_CALLS_SCOPE", ""),
                token=os.environ.get("HOMEPORT_CALLS_TOKEN", ""),
                key=os.environ.get("HOMEPORT_CALLS_KEY", ""),
                environment=os.environ.get("HOMEPORT_ENVIRONMENT") or "main",
            )
        )
    return _reach


def is_local() -> bool:
    """Return False in a container, True elsewhere."""
    return _urls is None and os.environ.get("MODAL_IS_REMOTE") != "1"


def refuse_inside(what: str, instead: str) -> None:
    """Raise `ExecutionError` in a container; `instead` says why, or what a container does."""
    if not is_local():
        raise ExecutionError(f"`{what}` is for scripts on the user's machine: {instead}")


def runs_in(image: Image) -> bool:
    """Return whether this process is a container of that image.

    In the container local files are absent, so compare steps by name and source line, not by arguments.
    """
    return _image is not None and _declared(image) == _declared(_image)


def mounts_of(volume: str | None) -> list[VolumeMount]:
    """Return where this container has the volume of that name, or parts of it."""
    global _volumes  # noqa: PLW0603
    if _urls is None and not _volumes and (encoded := os.environ.get("HOMEPORT_VOLUMES")):
        from homeport.contract import codec

        _volumes = codec.decode(tuple[VolumeMount, ...], json.loads(encoded))
    return [mount for mount in _volumes if mount.name == volume]


def url_of(tag: str) -> str | None:
    """Return the URL of a web function of this app; None if it is not known."""
    if _urls is not None:
        return _urls.get(tag)  # the container knows their hosts
    url = _reach.urls.get(tag) if _reach is not None else None
    if _reach is None or url is None:
        return None
    from homeport.contract.urls import usable

    return usable(url, _reach.local_urls.get(tag, ""))


def current_input_id() -> str | None:
    """Return the id of the request that is being answered, `in-…`; None elsewhere."""
    request = input_id.get()
    return f"in-{request}" if request else None


def current_function_call_id() -> str | None:
    """Return the call's id, `fc-…`: a spawned call's own, else that of its request; None elsewhere."""
    if (call := call_id.get()) is not None:
        return call
    request = input_id.get()
    return f"fc-{request}" if request else None


_outputs = 0  # how many `enable_output` blocks are open


@contextlib.contextmanager
def enable_output(show_progress: bool = True) -> Iterator[None]:  # noqa: ARG001 - as in Modal
    """Inside the block, `app.run()` and `app.deploy()` show builds, URLs and what containers print, on standard error."""
    global _outputs  # noqa: PLW0603 - of this process, as its standard error is
    _outputs += 1
    try:
        yield
    finally:
        _outputs -= 1


def shows_output() -> bool:
    """Return whether an `enable_output` block is open."""
    return _outputs > 0


def interact() -> None:
    """Raise an error: homeport does not have this yet."""
    if is_local():
        raise InvalidError("Interactivity only works inside a Modal Function's container.")
    from homeport.sdk import pending

    raise pending.error("interact")


def _declared(image: Image) -> list[tuple[str, str]]:
    return [(step.name, step.where) for step in image.steps]
