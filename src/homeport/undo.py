"""A change in several steps that happens whole or not at all.

    async with Undo("deploy shop v3") as undo:
        undo.push(ingress.unroute, "ada--shop")  # first the inverse step, then the step:
        await ingress.route(endpoint)            # so a step that fails half-way is undone too
        store.save(revision)

If the block ends by an exception, a cancellation included, the inverse steps run, the last one first.
So an inverse step must work also if its step was not done, or only half.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Undo:
    """A stack of inverse steps."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._steps: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def push(self, inverse: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call `inverse` with these arguments if the change fails; it may be async."""
        self._steps.append((inverse, args, kwargs))

    def keep(self) -> None:
        """Drop the inverse steps so far, because the change is done. Later steps are undone on failure."""
        self._steps.clear()

    async def run(self) -> None:
        """Undo everything pushed since the last `keep`, the last step first.

        An inverse step that fails is logged, and the others still run. A cancellation waits until
        all have run; then it is raised.
        """
        await unbroken(self._run())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            await self.run()
        self.keep()

    async def _run(self) -> None:
        while self._steps:
            inverse, args, kwargs = self._steps.pop()
            try:
                done = inverse(*args, **kwargs)
                if inspect.isawaitable(done):
                    await done
            except (Exception, asyncio.CancelledError):
                name = getattr(inverse, "__qualname__", repr(inverse))
                log.exception("%s: cannot undo by `%s`", self._name, name)


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` until it ends, also if the caller is cancelled; return its value.

    The cancellation is raised after the work has ended. An error of the work is raised instead of it.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    value = task.result()
    if cancelled is not None:
        raise cancelled
    return value
