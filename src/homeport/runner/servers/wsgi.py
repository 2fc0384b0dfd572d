"""The app server for WSGI: cheroot at the container's door, one thread per slot.

`wsgi_gateway` answers one request, `wsgi_server` is cheroot's server, whose `wsgi_threads` wait for connections, and
`wsgi_inside` knows the requests inside and their deadlines.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

from homeport.runner.servers import wsgi_inside
from homeport.runner.servers.serving import Serving
from homeport.runner.servers.websocket import MAX_MESSAGE_BYTES


async def serve(apps: dict[str, Any], serving: Serving) -> None:
    """Answer requests until the container is asked to end, then finish those in flight."""
    # Here, because a zygote preloads this module, also for packages without cheroot.
    from homeport.runner.servers import wsgi_gateway, wsgi_server

    ending = serving.ending
    for app in apps.values():
        _limit_messages(app)
    loop = asyncio.get_running_loop()
    inside = wsgi_inside.Inside(serving)
    once = wsgi_inside.Once(serving.order.function, serving.door, loop, ending)
    server = wsgi_server.make(serving, wsgi_gateway.Site(apps=apps, inside=inside, once=once))
    server.prepare()
    serving.ready()
    thread_done = _in_thread(loop, server.serve)
    watching = asyncio.create_task(inside.watch(server.requests))
    end_asked: asyncio.Future[Any] = asyncio.create_task(ending.requested.wait())
    await asyncio.wait([end_asked, thread_done], return_when=asyncio.FIRST_COMPLETED)
    stopping = _in_thread(loop, server.stop)
    cut: asyncio.Future[Any] = asyncio.create_task(ending.cut.wait())
    await asyncio.wait([stopping, cut], return_when=asyncio.FIRST_COMPLETED)
    for task in (end_asked, cut, watching):
        task.cancel()


def _in_thread(
    loop: asyncio.AbstractEventLoop, work: Callable[[], object]
) -> "asyncio.Future[None]":
    """Run `work` in a daemon thread, which does not delay the process's end."""
    done: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not done.done():
            done.set_result(None)

    def run() -> None:
        try:
            work()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(tell)

    threading.Thread(target=run, name=f"homeport {work.__name__}", daemon=True).start()
    return done


def _limit_messages(app: Any) -> None:
    """Limit WebSocket messages of Flask-Sock, which reads its limits from the Flask app's config."""
    config = getattr(app, "config", None)
    if isinstance(config, dict):
        options = config.setdefault("SOCK_SERVER_OPTIONS", {})
        options.setdefault("max_message_size", MAX_MESSAGE_BYTES)
