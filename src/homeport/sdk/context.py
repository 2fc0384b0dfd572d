"""The context of the code that runs: on the user's machine or in a container, and for which request."""

import contextlib
import contextvars
import os
from collections.abc import Iterator
from typing import Any

from homeport.contract.image import Image
from homeport.contract.manifest import VolumeMount
from homeport.sdk.exception import InvalidError, UnimplementedError

#: X-Request-Id of the request that is being answered.
input_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("input_id", default=None)

_urls: dict[str, str] | None = None  # in a container: the app's tags -> their URLs
_volumes: tuple[VolumeMount, ...] = ()  # in a container: what is mounted
_image: Image | None = None  # in a container: the image of its function


def enter_container(
    urls: dict[str, str], image: Image | None = None, volumes: tuple[VolumeMount, ...] = ()
) -> None:
    """Mark this process as a container; the runner calls it before it loads the script."""
    global _urls, _image, _volumes
    _urls, _image, _volumes = urls, image, volumes


def is_local() -> bool:
    """Return False in a container, True elsewhere."""
    return _urls is None and os.environ.get("MODAL_IS_REMOTE") != "1"


def runs_in(image: Image) -> bool:
    """Return whether this process is a container of that image.

    In the container local files are absent, so compare steps by name and source line, not by arguments.
    """
    return _image is not None and _declared(image) == _declared(_image)


def mounts_of(volume: str | None) -> list[VolumeMount]:
    """Return where this container has the volume of that name, or parts of it."""
    return [mount for mount in _volumes if mount.name == volume]


def url_of(tag: str) -> str | None:
    """Return the URL of a web function of this app; None if it is not known."""
    return _urls.get(tag) if _urls is not None else None


def current_input_id() -> str | None:
    """Return the id of the request that is being answered, `in-…`; None elsewhere."""
    request = input_id.get()
    return f"in-{request}" if request else None


def current_function_call_id() -> str | None:
    """Return the same request's `Modal-Function-Call-Id`, `fc-…`; None elsewhere."""
    request = input_id.get()
    return f"fc-{request}" if request else None


@contextlib.contextmanager
def enable_output(*_args: Any, **_kwargs: Any) -> Iterator[None]:
    """Do nothing: the command line shows the output already."""
    yield


def interact() -> None:
    """Not there yet."""
    if is_local():
        raise InvalidError("Interactivity only works inside a Modal Function's container.")
    raise UnimplementedError("`modal.interact` is not there yet in homeport")


def forward(*_args: Any, **_kwargs: Any) -> Any:
    """Not there yet."""
    if is_local():
        raise InvalidError("`modal.forward` cannot be used outside a container.")
    raise UnimplementedError("`modal.forward` is not there yet in homeport")


def _declared(image: Image) -> list[tuple[str, str]]:
    return [(step.name, step.where) for step in image.steps]
