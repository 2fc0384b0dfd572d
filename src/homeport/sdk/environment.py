"""Where this code runs: on the user's machine, or in a container."""

import contextlib
import contextvars
import os
from collections.abc import Iterator
from typing import Any

from homeport.contract.image import Image
from homeport.sdk.exception import InvalidError, UnimplementedError

#: X-Request-Id of the request that is being answered.
input_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("input_id", default=None)

_urls: dict[str, str] | None = None  # in a container: tag -> URL, of the whole app
_image: Image | None = None  # in a container: its own


def enter_container(urls: dict[str, str], image: Image | None = None) -> None:
    """From now on this process is a container; called by the runner before it loads the script."""
    global _urls, _image
    _urls, _image = urls, image


def is_local() -> bool:
    """Return False in a container, True elsewhere."""
    return _urls is None and os.environ.get("MODAL_IS_REMOTE") != "1"


def runs_in(image: Image) -> bool:
    """Whether this is a container of that image.

    The arguments of its steps differ here, where the user's files are not; the places do not.
    """
    return _image is not None and _declared(image) == _declared(_image)


def url_of(tag: str) -> str | None:
    """The URL of a web function of this app; None where that is not known."""
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
    """Do nothing: the command line shows what there is to show."""
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
