"""Asks the public API with a visitor's token, by the ingress's socket for calls.

async with Api(reach, token="ak-….as-…", visitor="192.0.2.1", environment="main") as api:
    apps = await api.get(AppList, "/v1/apps")
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx

from homeport.contract import calls, codec, query
from homeport.contract.api.answers import Refusal
from homeport.contract.api.dashboard import VISITOR
from homeport.contract.errors import Failure, ServerUnreachable

T = TypeVar("T")
TIMEOUT_S = 60.0


class Way:
    """The connections of this container to the API; they carry nothing of one visitor to another."""

    def __init__(self, socket: str, key: str) -> None:
        """`key` is that of the dashboard's environment: with it, a visitor's token counts."""
        self._key = key
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=socket,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
                verify=False,
            ),
            base_url="http://homeport",
            timeout=httpx.Timeout(TIMEOUT_S),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def api(self, token: str, *, visitor: str, environment: str = "") -> "Api":
        """Return the API as a visitor may use it; without a token it can only exchange a login code."""
        headers = {calls.KEY: self._key, VISITOR: visitor}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if environment:
            headers[calls.ENVIRONMENT] = environment
        return Api(self._http, headers)


class Api:
    """The API for one visitor."""

    def __init__(self, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self._http, self._headers = http, headers

    async def get(self, cls: type[T], path: str, options: Any = None) -> T:
        """Return the answer of a GET, as a type of the contract; raise the failure that it describes."""
        return codec.loads(cls, await self.raw("GET", _with(path, options)))

    async def post(self, cls: type[T], path: str, body: Any = None, options: Any = None) -> T:
        """Return the answer of a POST."""
        return codec.loads(cls, await self.raw("POST", _with(path, options), body))

    async def raw(self, method: str, path: str, body: Any = None, *, content: bytes = b"") -> bytes:
        """Return the body of an answer."""
        request_body = codec.dumps(body).encode() if body is not None else content
        try:
            answer = await self._http.request(
                method, path, content=request_body, headers=self._headers
            )
        except httpx.HTTPError as error:
            raise _away(error) from None
        if answer.status_code >= 300:
            raise _failure(answer.status_code, answer.content)
        return answer.content

    @asynccontextmanager
    async def stream(
        self, path: str, options: Any = None, *, method: str = "GET", body: Any = None
    ) -> AsyncIterator[httpx.Response]:
        """Yield an answer whose body has not been read."""
        content = codec.dumps(body).encode() if body is not None else b""
        try:
            async with self._http.stream(
                method,
                _with(path, options),
                content=content,
                headers=self._headers,
                timeout=httpx.Timeout(TIMEOUT_S, read=None),
            ) as answer:
                if answer.status_code >= 300:
                    raise _failure(answer.status_code, await answer.aread())
                yield answer
        except httpx.HTTPError as error:
            raise _away(error) from None


def _with(path: str, options: Any) -> str:
    text = query.encode(options) if options is not None else ""
    return f"{path}?{text}" if text else path


def _away(error: httpx.HTTPError) -> ServerUnreachable:
    return ServerUnreachable(
        f"the server does not answer ({type(error).__name__})",
        hint="it may be starting again; this page asks again by itself",
    )


def _failure(status: int, content: bytes) -> Failure:
    try:
        return codec.loads(Refusal, content).error.failure()
    except (ValueError, KeyError, TypeError):
        return ServerUnreachable(f"the server answered with status {status}")
