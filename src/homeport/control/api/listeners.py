"""Opens the sockets on which the API answers, each with the guard that finds its callers."""

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

from starlette.types import ASGIApp

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


async def inside(
    settings: Settings,
    app: ASGIApp,
    by_key: Callable[[str], Scope | None],
    opened: AsyncExitStack,
) -> None:
    """Answer containers, whose requests the ingress passes on; `by_key` returns the environment that has a key."""
    listener = unix_socket(settings.inside_socket)
    opened.callback(settings.inside_socket.unlink, missing_ok=True)
    await opened.enter_async_context(listening(Inside(app, by_key), listener))


async def outside(
    settings: Settings,
    app: ASGIApp,
    tokens: ApiTokens,
    audit: Audit,
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
    wrong, refused = WrongTokens(), Refused(audit)
    opened.push_async_callback(refused.close)
    if tcp is not None:
        guarded = Bearer(app, tokens, first=settings.token, wrong=wrong, refused=refused.add)
        await opened.enter_async_context(listening(guarded, tcp))
    if settings.tls != "off":
        guarded = Bearer(
            app,
            tokens,
            first=settings.token,
            wrong=wrong,
            source=bearer.told_by_ingress,
            refused=refused.add,
        )
        remote = unix_socket(settings.remote_socket)
        opened.callback(settings.remote_socket.unlink, missing_ok=True)
        await opened.enter_async_context(listening(guarded, remote))
