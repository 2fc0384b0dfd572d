"""Requests to another machine's server, or to this machine's by a URL: httpx."""

import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from homeport.client.replies import CONNECT_S, Content, NoReply, NotConnected, Reply, Silence
from homeport.contract.errors import BadRequest
from homeport.settings import Settings

# httpx has its own command line, whose imports take longer than all the rest of httpx: skip it.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
import httpx  # noqa: E402


class Remote:
    """The transport to a server with a URL."""

    def __init__(self, settings: Settings, headers: Mapping[str, str]) -> None:
        self.ssl = context(settings)
        self._http = httpx.AsyncClient(
            base_url=settings.server,
            headers=dict(headers),
            verify=self.ssl or True,
            # A proxy of the environment would read what goes to this machine's loopback in plain HTTP.
            trust_env=settings.server.startswith("https://"),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def exchange(
        self, method: str, path: str, content: Content, *, answer_s: float | None
    ) -> AsyncIterator[Reply]:
        """Make a request; see `Transport`."""
        timeout = httpx.Timeout(answer_s, connect=CONNECT_S)
        try:
            async with self._http.stream(method, path, content=content, timeout=timeout) as answer:
                yield Reply(answer.status_code, answer.aiter_bytes)
        except httpx.ConnectError as error:
            raise NotConnected(str(error)) from None
        except httpx.TimeoutException as error:
            raise Silence(str(error)) from None
        except httpx.TransportError as error:
            raise NoReply(str(error)) from None


def context(settings: Settings) -> ssl.SSLContext | None:
    """Return how to verify a server's certificate; None for plain HTTP."""
    if not settings.server.startswith("https://"):
        return None
    try:
        if settings.server_ca:
            return ssl.create_default_context(cafile=settings.server_ca)
    except (OSError, ssl.SSLError) as error:
        raise BadRequest(
            f"the CA's certificate {settings.server_ca} cannot be read: {error.strerror or error}",
            hint="HOMEPORT_SERVER_CA is the path of a file in PEM",
        ) from None
    return httpx.create_ssl_context()
