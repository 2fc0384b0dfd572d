"""Makes the exporter that the settings want. Called by `stages`."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from homeport.control.reporting.traces.exporter import Exporter, Known, Line
from homeport.control.reporting.traces.otlp import Otlp
from homeport.control.reporting.traces.spans import Server
from homeport.settings import Settings
from homeport.state.requests import Requests


def exporter(
    settings: Settings, port: Callable[[], int], opened: AsyncExitStack
) -> Exporter | None:
    """Return a running exporter; None without `tracing`. `port` returns that of the URLs."""
    if settings.tracing == "off":
        return None

    def server() -> Server:
        return Server(domain=settings.domain, scheme=settings.scheme, port=port())

    new = Exporter(Otlp(settings.otlp_endpoint, settings.otlp_headers).send, server)
    opened.push_async_callback(asyncio.to_thread, new.close)
    return new


def keeping(
    requests: Requests, exporter: Exporter | None, places: Known
) -> Callable[[Sequence[Line]], None]:
    """Return the function that gets every request that has ended: it keeps them, and exports them."""

    def keep(lines: Sequence[Line]) -> None:
        requests.add(lines, places.place, places.revision)
        if exporter is not None:
            exporter.add(lines, places)

    return keep
