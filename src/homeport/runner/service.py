"""Loads the user's function or class, and makes its apps.

The steps of behaviour spec 2.2: import, enter hooks, then each web method's app; at the end, exit hooks.
Hooks and factories run in the main thread while no event loop runs, so that they may start one. Async
hooks run on the loop that serves requests.
"""

import asyncio
import contextlib
import inspect
import sys
from collections.abc import Awaitable
from typing import Any

from homeport.contract.container import StartOrder
from homeport.contract.manifest import CallMethod, WebKind, WebMethod
from homeport.runner import openapi
from homeport.sdk import context
from homeport.sdk.declare import loader


class NotAnApp(Exception):
    """A web function returned something that cannot answer requests"""


class Service:
    """The user's function or class, loaded in a container."""

    def __init__(self, order: StartOrder) -> None:
        self._order = order
        self._declared: Any = None
        self._instance: Any = None

    def load(self) -> None:
        """Import the user's module and find the function or class in it."""
        function = self._order.function
        context.enter_container(self._order.urls, function.image, function.volumes)
        target: Any = loader.load_module(function.module, self._order.source)
        for part in function.qualname.split("."):
            target = getattr(target, part)
        self._declared = target

    def snap(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Make the class's instance and run its `enter(snap=True)` hooks.

        Without `loop`, for a snapshot, async hooks get a loop of their own, because a loop cannot be forked.
        """
        if not self._order.function.is_class:
            return
        self._instance = self._declared.construct(self._order.parameters)
        for hook in self._declared.hooks("enter_pre_snapshot"):
            if loop is not None:
                _call(loop, hook, self._instance)
            else:
                with contextlib.closing(asyncio.new_event_loop()) as own:
                    _call(own, hook, self._instance)
                    _say_lost(asyncio.all_tasks(own), hook)

    def resume(self, order: StartOrder) -> None:
        """Continue from a snapshot, as another container of the same pool."""
        self._order = order
        context.enter_container(order.urls, volumes=order.function.volumes)

    def enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the enter hooks that every container runs."""
        if self._instance is not None:
            for hook in self._declared.hooks("enter_post_snapshot"):
                _call(loop, hook, self._instance)

    def build(self, web: WebMethod) -> Any:
        """Return the ASGI or WSGI app of one web method; for a `web_server`, start it and return None."""
        function = self.function(web)
        if web.kind is WebKind.FASTAPI:
            from homeport.runner import webapp

            app = webapp.build(function, method=web.http_method, docs=web.docs)
            openapi.localize(app)
            return app
        app = function()
        if web.kind is WebKind.ASGI:
            _check(app, web, arguments=3, other="wsgi_app")
            openapi.localize(app)
        elif web.kind is WebKind.WSGI:
            _check(app, web, arguments=2, other="asgi_app")
        else:
            return None
        return app

    def function(self, web: WebMethod | CallMethod) -> Any:
        """Return the user's own function, or the method bound to the instance."""
        if self._order.function.is_class:
            return getattr(self._instance, web.attribute)
        return self._declared.raw

    def exit(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run all exit hooks; raise the first exception at the end."""
        if self._instance is None:
            return
        failures = []
        for hook in self._declared.hooks("exit"):
            try:
                wants = len(inspect.signature(hook).parameters) - 1
                _call(loop, hook, self._instance, *[None] * (3 if wants == 3 else 0))
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]


def _call(loop: asyncio.AbstractEventLoop, hook: Any, *args: Any) -> None:
    outcome = hook(*args)
    if inspect.isawaitable(outcome):
        loop.run_until_complete(_awaited(outcome))


async def _awaited(outcome: Awaitable[Any]) -> Any:
    return await outcome


def _say_lost(tasks: "set[asyncio.Task[Any]]", hook: Any) -> None:
    """Print which tasks a hook has started: they end with the snapshot, because a loop cannot be forked."""
    for task in tasks:
        name = getattr(task.get_coro(), "__qualname__", task.get_name())
        print(  # noqa: T201 - the container's log
            f"the task `{name}` that `{hook.__name__}` started does not run in containers made from the "
            "snapshot: start it in a hook of `@modal.enter()`",
            file=sys.stderr,
        )
        task.cancel()
    if tasks:
        next(iter(tasks)).get_loop().run_until_complete(asyncio.wait(tasks, timeout=1.0))


def _check(app: Any, web: WebMethod, *, arguments: int, other: str) -> None:
    kind = web.kind.value.partition("_")[0].upper()
    what = f"`{web.tag}` returned {_described(app)}"
    if not callable(app):
        raise NotAnApp(f"{what}, which is not {'an' if kind == 'ASGI' else 'a'} {kind} app")
    if not _takes(app, arguments) and _takes(app, 5 - arguments):
        raise NotAnApp(f"{what}, which is for `@modal.{other}()`")


def _described(value: Any) -> str:
    return "None (is a `return` missing?)" if value is None else f"a {type(value).__name__}"


def _takes(app: Any, arguments: int) -> bool:
    try:
        inspect.signature(app).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True
