"""One container from its first import to its last exit hook (behaviour spec 2.2)."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from homeport.contract import codec
from homeport.contract.container import Descriptors, Event, StartOrder
from homeport.contract.dataclass import dataclass
from homeport.contract.manifest import FunctionSpec, WebKind, WebMethod
from homeport.contract.pulse import Pulse
from homeport.runner import setup
from homeport.runner.door import Door
from homeport.runner.report import Report
from homeport.runner.servers import loop as loops
from homeport.runner.servers import port, serving
from homeport.runner.servers.admission import Admission, Method
from homeport.runner.servers.lifespan import Lifespan, LifespanFailed
from homeport.runner.servers.port import NobodyListens, PortBusy
from homeport.runner.servers.serving import Serving
from homeport.runner.service import NotAnApp, Service
from homeport.runner.webapp import FastAPIMissing
from homeport.sdk.exception import Error
from homeport.sdk.preload import loaded
from homeport.sdk.tracebacks import users_traceback

if TYPE_CHECKING:
    from homeport.runner.servers.gate import Gate

LEARN_S = 1.0
Ready = Callable[[], None]

#: Errors whose text says everything, so no traceback is printed.
PLAIN = (NotAnApp, FastAPIMissing, PortBusy, NobodyListens, LifespanFailed)


def snapshot(order: StartOrder) -> tuple[Service | None, dict[str, Any]]:
    """Return the service after `enter(snap=True)`, and the answer to the zygote: `ready`, or `failed` and why."""
    service = Service(order)
    events: list[Event] = []
    report = Report(events.append)
    try:
        _load(service, order, report)
        report.begin("enter")
        service.snap()
    except (Exception, SystemExit) as error:
        _fail(report, order, error)
        return None, {"failed": codec.encode(events[-1])}
    report.ready()
    return service, {"ready": {"reads": [], "start": codec.encode(events[-1])}}


@dataclass(frozen=True)
class Links:
    """The descriptors that connect a container with its node; a child of the user's code has none of them."""

    report: Report
    door: Door
    pulse: Pulse

    @staticmethod
    def of(descriptors: Descriptors) -> "Links":
        """Take the descriptors for this process alone; init has the output and the lifeline."""
        if descriptors.lifeline is not None:
            os.close(descriptors.lifeline)
        if descriptors.output > 2:
            os.close(descriptors.output)
        report, door = Report(setup.keep(descriptors.report)), Door(descriptors.door)
        pulse = Pulse(descriptors.pulse)
        os.close(descriptors.pulse)
        setup.keep_from_children(lambda: [*report.descriptors(), *door.descriptors()])
        return Links(report, door, pulse)


def run(order: StartOrder, links: Links, service: Service | None = None) -> int:
    """Run the container. Return 0 if it served and was asked to end; 1 if it did not start or its server ended.

    `service` comes from a snapshot; without a snapshot the user's code is loaded here.
    """
    report = links.report
    loop = loops.new()
    asyncio.set_event_loop(loop)
    setup.offer_tunnels(report)
    waits: list[port.Wait] = []
    try:
        waits = port.Wait.of(order.function)
        if service is None:
            service = Service(order)
            _load(service, order, report)
            report.begin("enter")
            service.snap(loop)
        else:
            report.imports.begin(order.source)
            service.resume(order)
            report.begin("enter")
        service.enter(loop)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        _fail(report, order, error)
        return 1
    code = 0

    def ready() -> None:
        report.ready()
        # Report early, for the next container, and at the end, for modules that requests imported.
        loop.call_later(LEARN_S, lambda: report.imported(_imported(report)))

    try:
        report.begin("build")
        apps = {web.attribute: service.build(web) for web in order.function.web if web.port is None}
        if order.function.calls:
            from homeport.runner.servers import calls

            apps.update(calls.apps(order.function, service.function))
        _await_programs(loop, waits, service, report)
        code = serving.run(loop, _serve(order, apps, links, ready))
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        _fail(report, order, error)
        code = 1
    finally:
        report.imported(_imported(report))
        # From here on SIGTERM does nothing: exit hooks may run until the node's SIGKILL.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = max(code, _leave(service, loop))
        if any(wait.web.kind is WebKind.SERVER for wait in waits):  # its exit hooks come first
            loop.run_until_complete(port.end(order.exit_grace_s))
        with contextlib.suppress(Exception):
            loop.run_until_complete(loop.shutdown_asyncgens())
    return code


def _await_programs(
    loop: asyncio.AbstractEventLoop, waits: list[port.Wait], service: Service, report: Report
) -> None:
    """Wait until the programs listen; an enter hook has started them, or the `web_server`s' functions do."""
    if waits:
        report.begin("port")
    for wait in waits:
        if wait.web.kind is WebKind.WEB_SERVER:
            service.build(wait.web)
    for wait in waits:
        loop.run_until_complete(wait.listening())


def _imported(report: Report) -> tuple[str, ...]:
    """Return the installed modules that are loaded now, those that the script imports first, in order."""
    third_party = loaded.third_party()
    imported_by_script = set(third_party).intersection(report.imports.by_users_modules)
    return (
        *(name for name in report.imports.by_users_modules if name in imported_by_script),
        *(n for n in third_party if n not in imported_by_script),
    )


def _load(service: Service, order: StartOrder, report: Report) -> None:
    report.imports.begin(order.source)
    report.imports.time(order.function.module, service.load)


async def _serve(order: StartOrder, apps: dict[str, Any], links: Links, ready: Ready) -> int:
    function = order.function
    if not function.ports:
        return await _serve_apps(order, apps, links, ready)
    if function.has_several:
        return await _serve_both(order, apps, links, ready)
    return await _serve_port(function.web[0], order, links, ready)


async def _serve_port(web: WebMethod, order: StartOrder, links: Links, ready: Ready) -> int:
    from homeport.runner import ways

    assert web.port is not None
    serving = _begin(order, links, ready)
    await ways.serve()
    try:
        alive = await port.serve(web.port, serving)
    finally:
        if web.kind is WebKind.WEB_SERVER:
            await port.end(order.exit_grace_s, serving.ending)
    return 0 if alive else 1


async def _serve_both(order: StartOrder, apps: dict[str, Any], links: Links, ready: Ready) -> int:
    """Serve a class that has a `web_server` and other methods."""
    from homeport.runner import ways
    from homeport.runner.servers.gate import Gate

    serving = _begin(order, links, ready)
    await ways.serve()
    programs = {web.attribute: web.port for web in order.function.web if web.port is not None}
    gate = Gate(programs, serving)
    try:
        code = await _serve_asgi(_as_asgi(order.function, apps), serving, links.report, gate)
        await gate.close()
    finally:
        await port.end(order.exit_grace_s, serving.ending)
    return max(code, int(serving.ending.failed))


async def _serve_apps(order: StartOrder, apps: dict[str, Any], links: Links, ready: Ready) -> int:
    serving = _begin(order, links, ready)
    function = order.function
    if not function.calls and all(web.kind is WebKind.WSGI for web in function.web):
        from homeport.runner.servers import wsgi

        await wsgi.serve(apps, serving)
        code = 0
    else:
        code = await _serve_asgi(_as_asgi(order.function, apps), serving, links.report)
    return max(code, int(serving.ending.failed))


def _begin(order: StartOrder, links: Links, ready: Ready) -> Serving:
    serving = Serving.begin(order, links.door, links.pulse, links.report, ready)
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_on_its_own)
    return serving


def _hold() -> None:
    """Hold back SIGTERM during a fork, until the child has its own handlers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _let_go() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _on_its_own() -> None:
    """In a child that the user's code forked: let SIGTERM end it, without waking the container's loop."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _let_go()


async def _serve_asgi(
    apps: dict[str, Any], serving: Serving, report: Report, gate: "Gate | None" = None
) -> int:
    from homeport.runner.servers import asgi

    methods = {name: Method(app, Lifespan(app)) for name, app in apps.items()}
    report.begin("lifespan")
    code = 0
    try:
        for method in methods.values():
            await method.lifespan.startup()
        await asgi.asgi(Admission(methods, serving), serving, gate)
    finally:
        # Shut every app down, also if another one fails.
        for method in methods.values():
            try:
                await method.lifespan.shutdown()
            except Exception as error:
                print(users_traceback(error), file=sys.stderr)  # noqa: T201 - the container's log
                code = 1
    return code


def _as_asgi(function: FunctionSpec, apps: dict[str, Any]) -> dict[str, Any]:
    """Wrap the WSGI apps of a class that has web methods of both kinds, so that all are ASGI apps."""
    wsgi_apps = {web.attribute for web in function.web if web.kind is WebKind.WSGI}
    if not wsgi_apps:
        return apps
    from a2wsgi import WSGIMiddleware

    return {
        # Twice the slots, because that many threads may hang (see slots.py), and one more to answer.
        name: WSGIMiddleware(app, workers=2 * function.max_inputs + 1) if name in wsgi_apps else app
        for name, app in apps.items()
    }


def _leave(service: Service, loop: asyncio.AbstractEventLoop) -> int:
    try:
        service.exit(loop)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        print(f"an exit hook failed\n{users_traceback(error)}", file=sys.stderr)  # noqa: T201 - the container's log
        return 1
    return 0


def _fail(report: Report, order: StartOrder, error: BaseException) -> None:
    if isinstance(error, PortBusy):
        report.busy(str(error))
        return
    plain = isinstance(error, (*PLAIN, Error))
    text = "" if plain and error.__cause__ is None else users_traceback(error)
    if text:
        print(text, file=sys.stderr)  # noqa: T201 - the container's log
    name = "" if plain else f"{type(error).__name__}: "
    has_image = order.function.image.has_environment
    report.failed(f"{report.phase} failed: {name}{error}{_missing(error, has_image)}", text)


def _missing(error: BaseException, has_image: bool) -> str:
    """Return a hint for a module that the container does not have."""
    name = (getattr(error, "name", None) or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or name in ("", "modal", "homeport"):
        return ""
    if name in sys.modules:  # it is there, in a version without this part
        return ""
    if not has_image:
        return (
            f". The function has no image, so it uses the packages beside homeport: install `{name}` there, or give "
            f'the function an image, `modal.Image.debian_slim().uv_pip_install("{name}")`'
        )
    return (
        f'. The image lacks it: add `.uv_pip_install("{name}")` or `.add_local_python_source("{name}")` to the '
        "image; or, if only another image needs it, import it under `with image.imports():`"
    )
