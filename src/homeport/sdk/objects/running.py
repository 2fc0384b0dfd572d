"""`with app.run():` and `app.deploy()`: an app from a plain Python script, without a command.

A session lives in the loop's thread (sdk/outside.py), in one task, from the beginning of the block to its end; the
thread with the block waits for it. It is the same as that of `homeport run`, and so is what it prints (cli/session.py).
"""

import asyncio
import concurrent.futures
import importlib
import sys
import threading
import warnings
from dataclasses import field
from types import TracebackType
from typing import Any, NoReturn, Protocol

from homeport.contract import errors
from homeport.contract.dataclass import dataclass
from homeport.sdk import context, exception, outside

AGAIN = (
    "App is already running and can't be started again.\n"
    "`homeport run` has started it: a local entrypoint needs no `app.run()`"
)


@dataclass(frozen=True)
class Hydrated:
    """Where the functions of a running app can be reached."""

    app: str
    scope: str  # the session's id
    urls: dict[str, str] = field(default_factory=dict)  # of its web functions, by tag
    environment: str = ""  # its name
    key: str = field(default="", repr=False)  # of the environment


class App(Protocol):
    """The attributes of a `modal.App` that a run uses."""

    name: str | None
    session: "Hydrated | None"

    def hydrate(self, session: "Hydrated | None") -> None: ...


def deployed_app(name: str, *, environment: str, create: bool) -> Any:
    """Return what the server has of a deployed app, by its name or id; `NotFoundError` if it has none."""
    context.refuse_inside("App.lookup", "in a container, `Function.from_name` finds functions")
    if create:
        raise exception.UnimplementedError(
            "`App.lookup(…, create_if_missing=True)` is not there in homeport: an app exists once it is deployed"
        )
    for app in outside.ask(lambda client: client.apps.every(), environment=environment):
        if name in (app.name, app.app_id) and app.version and app.stopped_at is None:
            return app
    raise exception.MissingError(f"there is no deployed app `{name}`")


class Runs:
    """`app.run(…)`: a block in which the app's functions can be called."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(
        self,
        *,
        name: str | None = None,  # instead of the app's own
        client: Any = None,  # noqa: ARG002 - homeport makes its own
        detach: bool = False,  # calls that were spawned continue after the block, or after this process
        interactive: bool = False,
        environment_name: str | None = None,
        **_options: Any,
    ) -> "Running":
        if interactive:
            raise exception.UnimplementedError("`app.run(interactive=True)` is not there yet")
        return Running(self._app, name or "", detach=detach, environment=environment_name)

    aio = __call__  # `async with app.run.aio():`, as `async with app.run():`


class Running:
    """One such block, for `with` and for `async with`."""

    def __init__(
        self, app: App, name: str, *, detach: bool, environment: "str | None" = None
    ) -> None:
        self._app, self._name, self._detach = app, name, detach
        self._environment = environment
        self._session: _Session | None = None

    def __enter__(self) -> App:
        session = self._new_session()
        try:
            served = session.ready.result()
        except BaseException:
            session.abort()
            session.done.wait()
            raise
        return self._entered(served)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        session = self._end_session(error)
        session.done.wait()
        return (
            kind is KeyboardInterrupt
        )  # as Modal: Ctrl-C ends the block, and the script continues

    async def __aenter__(self) -> App:
        session = self._new_session()
        try:
            served = await asyncio.wrap_future(session.ready)
        except BaseException:
            session.abort()
            await asyncio.to_thread(session.done.wait)
            raise
        return self._entered(served)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        session = self._end_session(error)
        await asyncio.to_thread(session.done.wait)
        return kind is KeyboardInterrupt

    def _new_session(self) -> "_Session":
        check_here()
        reach = context.reach()
        if self._app.session is not None or (reach is not None and reach.app):
            raise exception.InvalidError(AGAIN)
        declared = declare(self._app, self._name)
        session = self._session = _Session(
            declared, detach=self._detach, environment=self._environment
        )
        session.start()
        return session

    def _entered(self, served: Any) -> App:
        self._app.hydrate(
            Hydrated(served.app, served.id, served.urls, self._environment or "", served.key)
        )
        return self._app

    def _end_session(self, error: BaseException | None) -> "_Session":
        assert self._session is not None
        self._app.hydrate(None)
        is_cut = isinstance(error, (KeyboardInterrupt, asyncio.CancelledError))
        self._session.end("interrupted" if is_cut else "failed" if error is not None else "")
        return self._session


class _Session:
    """A session, as the thread with the block uses it."""

    def __init__(self, declared: Any, *, detach: bool, environment: "str | None" = None) -> None:
        self._environment = environment
        self.ready: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.done = threading.Event()
        self._declared, self._detach = declared, detach
        self._shows = context.shows_output()
        self._loop = outside.loop()
        self._task: asyncio.Task[None] | None = None
        self._over: asyncio.Event | None = None
        self._why = ""  # it ends: `interrupted`, `failed`, or empty

    def start(self) -> None:
        """Begin, in the loop's thread."""
        self._loop.call_soon_threadsafe(self._start)

    def abort(self) -> None:
        """End it before it is ready."""
        self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())

    def end(self, why: str) -> None:
        """End it, and set `done`."""
        self._why = why
        assert self._over is not None
        self._loop.call_soon_threadsafe(self._over.set)

    def _start(self) -> None:
        self._over = asyncio.Event()
        self._task = self._loop.create_task(self._live())

    async def _live(self) -> None:
        try:
            await self._work()
        except BaseException as error:
            if not self.ready.done():
                self.ready.set_exception(_translated(error))
            elif isinstance(error, Exception) and not self._why:
                print(f"the app's session has ended: {error}", file=sys.stderr)  # noqa: T201
        finally:
            self.done.set()

    async def _work(self) -> None:
        assert self._over is not None
        sessions = importlib.import_module("homeport.cli.session")
        settings = outside.settings(self._environment)
        async with sessions.opened(
            settings, self._declared, detach=self._detach, shows=self._shows
        ) as session:
            self.ready.set_result(session)
            await session.lasts(self._over)
            await session.close(self._why)


def deploy(
    app: App, name: str, *, tag: str, strategy: str, environment: "str | None" = None
) -> None:
    """Deploy the app; return when it serves."""
    check_here()
    if strategy not in ("rolling", "recreate"):
        raise exception.InvalidError(
            f"Deployment strategy must be 'rolling' or 'recreate', not '{strategy}'"
        )
    if not (name or app.name):
        raise exception.InvalidError(
            "You need to either supply a deployment name or have a name set on the app.\n\n"
            "Examples:\n"
            'app.deploy(name="some-name")\n\n'
            "or\n"
            'app = modal.App("some-name")'
        )
    declared = declare(app, name)
    shows = context.shows_output()

    async def work() -> None:
        deploys = importlib.import_module("homeport.cli.deploy")
        await deploys.deploy_declared(
            outside.settings(environment), declared, tag=tag, strategy=strategy, shows=shows
        )

    future = asyncio.run_coroutine_threadsafe(work(), outside.loop())
    try:
        future.result()
    except (errors.Failure, Exception) as error:
        raise _translated(error) from None
    except BaseException:
        future.cancel()
        raise


def declare(app: App, name: str) -> Any:
    """Return the app's manifest and files (contract/declaring.py); warn of options that have no effect."""
    inline = importlib.import_module("homeport.sdk.declare.inline")
    try:
        declared = inline.declare(app, name)
    except errors.Failure as failure:
        raise _translated(failure) from None
    for text in declared.warnings:
        warnings.warn(text, stacklevel=5)
    return declared


def check_here() -> None:
    """Raise in a container: its code may not change what the server serves."""
    if not context.is_local():
        raise exception.InvalidError(
            "Can not run or deploy an app within a container: put it under "
            '`if __name__ == "__main__":`, so that only your own machine does it'
        )


def _translated(error: BaseException) -> BaseException:
    """Return a failure as the exception that a script expects."""
    if not isinstance(error, errors.Failure):
        return error
    try:
        _raise(error)
    except exception.Error as translated:
        return translated


def _raise(failure: errors.Failure) -> NoReturn:
    if failure.where:
        failure = errors.Failure.from_dict(
            {**failure.to_dict(), "message": f"{failure.message} ({failure.where})", "where": ""}
        )
    outside.translate(failure)
