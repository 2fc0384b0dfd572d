"""Opens the sockets on which the API answers, each with the guard that finds its callers."""

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

from starlette.types import ASGIApp
from starlette.types import Scope as Asked

from homeport.contract.scope import Scope
from homeport.control.api import bearer
from homeport.control.api.access import Inside, OwnSocket
from homeport.control.api.attempts import WrongTokens
from homeport.control.api.bearer import Bearer
from homeport.control.api.listener import listening, unix_socket
from homeport.control.api.refused import Refused
from homeport.settings import Settings
from homeport.state.api_tokens import ApiTokens
from homeport.state.audit import Audit

#: Returns the address that a request comes from.
Source = Callable[[Asked], str]


async def inside(
    settings: Settings,
    app: ASGIApp,
    by_key: Callable[[str], Scope | None],
    guarded: Callable[[Source], Bearer],
    opened: AsyncExitStack,
) -> None:
    """Answer containers, whose requests the ingress passes on; `by_key` returns the environment with a key.

    One more of the `guarded` apps answers the dashboard's container, when that asks with a visitor's token.
    """
    dashboard = guarded(bearer.address_from_dashboard)
    listener = unix_socket(settings.inside_socket)
    opened.callback(settings.inside_socket.unlink, missing_ok=True)
    await opened.enter_async_context(listening(Inside(app, by_key, dashboard=dashboard), listener))


async def outside(
    settings: Settings,
    app: ASGIApp,
    guarded: Callable[[Source], Bearer],
    tcp: socket.socket | None,
    opened: AsyncExitStack,
) -> None:
    """Answer commands: on the home's socket, on the `tcp` one if there is one, and on that of the ingress with TLS."""
    listener = unix_socket(settings.control_socket)
    opened.callback(settings.control_socket.unlink, missing_ok=True)
    await opened.enter_async_context(listening(OwnSocket(app), listener))
    if settings.socket_dir != settings.run_dir:  # a link where users look for it
        shown = settings.run_dir / settings.control_socket.name
        shown.unlink(missing_ok=True)
        shown.symlink_to(settings.control_socket)
        opened.callback(shown.unlink, missing_ok=True)
    if tcp is not None:
        await opened.enter_async_context(listening(guarded(bearer.peer), tcp))
    if settings.tls != "off":
        remote = unix_socket(settings.remote_socket)
        opened.callback(settings.remote_socket.unlink, missing_ok=True)
        await opened.enter_async_context(listening(guarded(bearer.address_from_ingress), remote))


def guards(
    settings: Settings, app: ASGIApp, tokens: ApiTokens, audit: Audit, opened: AsyncExitStack
) -> Callable[[Source], Bearer]:
    """Return what makes the guards of listeners: they count the wrong tokens of an address together."""
    wrong, refused = WrongTokens(), Refused(audit)
    opened.push_async_callback(refused.close)

    def guarded(source: Source) -> Bearer:
        return Bearer(
            app, tokens, first=settings.token, wrong=wrong, source=source, refused=refused.add
        )

    return guarded
