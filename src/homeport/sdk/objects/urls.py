"""The URL of a server class: a container of its app knows it, and other processes ask the server."""

from homeport.sdk import context
from homeport.sdk.objects import exchange
from homeport.sdk.objects.scaling import Scaled
from homeport.sdk.objects.target import Target


def url_of(target: Target) -> "exchange.Steps[str | None]":
    """Return a server's URL: a container knows those of its own app; other processes ask the server."""
    if not target.is_named and (url := context.url_of(target.tag.removesuffix(".*"))):
        return url
    return (yield from Scaled(target).asked_url())


def flash_urls(target: Target) -> "exchange.Operation[[], list[str]]":
    """Return the operation that gives a server's URL in a list: `Cls._experimental_get_flash_urls`."""

    def steps() -> "exchange.Steps[list[str]]":
        url = yield from url_of(target)
        return [url] if url else []

    return exchange.Operation(steps)
