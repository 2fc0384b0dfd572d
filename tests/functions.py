"""Functions that answer calls without an ingress: the runner's own app, by uvicorn, on a Unix socket."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from homeport.contract import calls
from homeport.contract.manifest import Batch, CallMethod
from homeport.runner.servers.calls import Calls
from homeport.runner.servers.threads import Threads
from homeport.sdk import context
from homeport.sdk.objects.function import Named
from homeport.sdk.objects.target import Target
from tests.waiting import turns
from tests.web import stop_accepting

APP = "app"


class Functions:
    """The functions of one app, and what was asked of them."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.apps: dict[str, Calls] = {}
        self.refusals: list[
            tuple[int, str]
        ] = []  # answers before the next call reaches its function
        self.retries = ""  # the policy that the ingress tells of
        self.fields: list[dict[bytes, bytes]] = []  # of each request
        self.queries: list[bytes] = []  # of each request
        self.number = False  # True: requests are `r1`, `r2` and so on; else all are `r1`
        self._threads = Threads()

    def add(
        self,
        function: Callable[..., Any],
        *,
        generator: bool = False,
        batch: Batch | None = None,
        inputs: int = 1,
        timeout_s: float = 300.0,
    ) -> Named:
        """Serve a function; return the handle by which it is called."""
        target = Target(app=APP, tag=function.__name__, is_named=True, key=self._key)
        method = CallMethod(tag=target.tag, attribute=target.tag, generator=generator, batch=batch)
        self.apps[target.endpoint] = Calls(
            function, method, self._threads, inputs=inputs, timeout_s=timeout_s
        )
        return Named(target)

    async def __call__(self, scope, receive, send) -> None:
        """One request."""
        fields = dict(scope["headers"])
        self.fields.append(fields)
        self.queries.append(scope["query_string"])
        extra = [(calls.RETRIES.lower().encode(), self.retries.encode())] if self.retries else []

        async def tell(message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        app = self.apps.get(fields[b"x-homeport-call"].decode())
        if self.refusals or app is None:
            status, text = self.refusals.pop(0) if self.refusals else (404, "homeport: nothing")
            await tell(
                {
                    "type": "http.response.start",
                    "status": status,
                    "headers": [(b"content-length", str(len(text)).encode())],
                }
            )
            await send({"type": "http.response.body", "body": text.encode()})
            return
        # As `Admission` does with X-Request-Id.
        context.input_id.set(f"r{len(self.fields) if self.number else 1}")
        await app(scope, receive, tell)


class _Server(uvicorn.Server):
    """Ends at once when it is told to: uvicorn's own loop looks every 0.1 s, and its shutdown takes as long."""

    async def main_loop(self) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        await self.over.wait()
        await stop_accepting(*self.servers)

    async def shutdown(self, sockets=None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await turns(5)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.over.set)


@contextmanager
def served(path: Path, key: str = "k") -> Iterator[Functions]:
    """Serve functions on a loop in a thread; every call of this process goes there.

    `key` is the key of the environment that they are in.
    """
    functions = Functions(key)
    config = uvicorn.Config(
        functions, uds=str(path), lifespan="off", log_config=None, access_log=False, loop="asyncio"
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    before = context.reach()
    try:
        while not hasattr(server, "over"):
            thread.join(0.01)
            assert thread.is_alive()
        context.enter_calls(context.Reach(socket=str(path), app=APP, key=key))
        yield functions
    finally:
        context._reach = before
        if thread.is_alive():
            server.end()
        thread.join(60)
