"""Runs an ASGI app's lifespan, by the rules of behaviour spec 2.4."""

import asyncio
from typing import Any, NoReturn


class LifespanFailed(Exception):
    """ASGI lifespan failed"""


class Lifespan:
    """One app's startup, its state, and its shutdown."""

    def __init__(self, app: Any) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._asked = False  # True after the app has called `receive`
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Return once the app has started; an app without lifespan has started at once."""
        self._task = asyncio.create_task(self._run())
        message = await self._exchange("startup")
        if message is None and self._failure() is not None and self._asked:
            raise LifespanFailed("ASGI lifespan task exited startup") from self._failure()
        if message is not None and message["type"] == "lifespan.startup.failed":
            await self._fail("startup", message)

    async def shutdown(self) -> None:
        """Return once the app has shut down."""
        if self._task is None or self._task.done():
            return
        message = await self._exchange("shutdown")
        if message is None and self._failure() is not None:
            raise LifespanFailed("ASGI lifespan task exited shutdown") from self._failure()
        if message is not None and message["type"] == "lifespan.shutdown.failed":
            await self._fail("shutdown", message)
        await asyncio.wait({self._task}, timeout=1.0)  # the app may have a little work left
        self._task.cancel()

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        self._asked = True
        return await self._inbox.get()

    async def _send(self, message: dict[str, Any]) -> None:
        if not message["type"].startswith("lifespan."):
            raise LifespanFailed(f"Unexpected message type: {message['type']}")
        self._outbox.put_nowait(message)

    async def _exchange(self, phase: str) -> dict[str, Any] | None:
        """Send one event and return the app's answer; None if its task has ended without an answer."""
        assert self._task is not None
        self._inbox.put_nowait({"type": f"lifespan.{phase}"})
        answer = asyncio.ensure_future(self._outbox.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not self._outbox.empty() or answer.done():
            return await answer
        answer.cancel()
        return None

    async def _fail(self, phase: str, message: dict[str, Any]) -> NoReturn:
        assert self._task is not None
        await asyncio.wait(
            {self._task}, timeout=1.0
        )  # most apps raise the error that they have reported
        lines = str(message.get("message") or "").strip().splitlines()
        text = f"ASGI lifespan {phase} failed" + (f": {lines[-1]}" if lines else "")
        raise LifespanFailed(text) from self._failure()

    def _failure(self) -> BaseException | None:
        assert self._task is not None
        if not self._task.done():
            return None
        try:
            return self._task.exception()
        except asyncio.CancelledError as error:  # the app awaits a task that was cancelled
            return error
