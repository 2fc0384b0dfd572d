"""The app server for ASGI: uvicorn at the container's door."""

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from homeport.runner.door import Door

MAX_MESSAGE_BYTES = 2 * 1024 * 1024  # of a WebSocket; a longer one closes it with 1009
#: Uvicorn's, the best first; which of them works depends on the versions that the user has installed.
WEBSOCKETS = (
    ("auto", "AutoWebSocketsProtocol"),
    ("websockets_impl", "WebSocketProtocol"),
    ("wsproto_impl", "WSProtocol"),
)
HANG_UP = "homeport.hang_up"  # in an ASGI scope: what to call when the visitor has gone
# Longer than HAProxy keeps an idle connection: a reused one must never race a close.
KEEP_ALIVE_S = 3600


class Ending:
    """Who asked the container to end, and how patiently."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.cut = asyncio.Event()  # asked twice: what is in flight is not waited for

    def ask(self) -> None:
        """Once: finish what is in flight. Twice: do not."""
        if self.asked.is_set():
            self.cut.set()
        self.asked.set()


async def asgi(app: Any, door: Door, ending: Ending, ready: Callable[[], None]) -> None:
    """Answer requests until asked to end, then finish those in flight."""
    import uvicorn

    class Server(uvicorn.Server):
        """Uvicorn, ended by an event and not by signals."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        def install_signal_handlers(self) -> None:
            """The same, by the name that it has in a user's older uvicorn."""

        async def main_loop(self) -> None:
            ready()
            seconds = 0
            while not ending.asked.is_set():
                await self.on_tick(seconds * 10)  # renews the Date header
                seconds += 1
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(ending.asked.wait(), timeout=1.0)
            cutting = asyncio.create_task(self._cut())
            self._cutting = cutting  # the loop keeps no reference of its own

        async def _cut(self) -> None:
            await ending.cut.wait()
            self.force_exit = True
            for task in list(self.server_state.tasks):
                task.cancel()

    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Protocol(HttpToolsProtocol):
        """Uvicorn's, which also tells the door that a visitor has hung up."""

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            cycle = self.cycle
            if cycle is not None and not cycle.response_complete:
                # Set by `admission` while the app runs.
                hang_up: Callable[[], None] | None = cycle.scope.get(HANG_UP)  # type: ignore[assignment]
                if hang_up is not None:
                    hang_up()

    config = uvicorn.Config(
        app,
        lifespan="off",
        http=Protocol,
        ws=_websockets(),
        ws_max_size=MAX_MESSAGE_BYTES,
        proxy_headers=True,
        forwarded_allow_ips="*",  # only HAProxy gets in at the door
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        access_log=False,
        log_config=None,
        log_level="critical",  # what the app raises is logged by `admission`
    )
    await Server(config).serve(sockets=[door])


def _websockets() -> Any:
    for module, name in WEBSOCKETS:
        with contextlib.suppress(ImportError, AttributeError):
            found = getattr(importlib.import_module(f"uvicorn.protocols.websockets.{module}"), name)
            if found is not None:
                return found
    return "none"
