"""Passes calls with pickled values from other machines on to the ingress, and the answers back, as they come.

The caller's connection is the call: if it ends, the call is cancelled, as at the ingress itself.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from homeport.contract import calls

if TYPE_CHECKING:
    import httpx

#: The fields of a call's request that are passed on, and no others: never the token.
ASKED = (calls.CALL, calls.PYTHON, calls.FORM, calls.PARENT, "Content-Type", "Content-Length")
ANSWERED = (
    calls.OUTCOME, calls.RETRIES, calls.PYTHON, "X-Request-Id", "Content-Type", "Content-Length",
)  # fmt: skip


class Passing:
    """The way to the ingress."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._http: httpx.AsyncClient | None = None

    @property
    def http(self) -> "httpx.AsyncClient":
        """Return the client; it is made when the first call comes, because its import takes long."""
        if self._http is None:
            # Its command line, which is not needed here.
            sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
            import httpx

            self._http = httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(
                    uds=self._socket,
                    limits=httpx.Limits(max_connections=None),
                    verify=False,  # nothing is encrypted on a socket, and httpx would read every CA
                ),
                base_url="http://calls",
                timeout=httpx.Timeout(None),  # as long as the function may take
            )
        return self._http

    async def close(self) -> None:
        """Close the connections to the ingress."""
        if self._http is not None:
            await self._http.aclose()


class Passed(Response):
    """The answer to one call."""

    def __init__(
        self, passing: Passing, body: AsyncIterator[bytes], may_call: Callable[[str], bool]
    ) -> None:
        """`may_call` returns whether the caller may call an endpoint, by its id."""
        super().__init__()
        self._passing = passing
        self._may_call = may_call
        self._content = body
        self._is_read = asyncio.Event()  # the whole request has been read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        passing = asyncio.create_task(self._pass(scope, receive, send))
        leaving = asyncio.create_task(self._hung_up(receive))
        try:
            await asyncio.wait({passing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (passing, leaving):
                task.cancel()
            await asyncio.wait({passing, leaving})
        if not passing.cancelled():
            passing.result()

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        import httpx

        received = {name.lower(): value for name, value in scope["headers"]}
        names = [(name, name.lower().encode()) for name in ASKED]
        headers = {name: received[raw].decode("latin-1") for name, raw in names if raw in received}
        if not self._may_call(headers.get(calls.CALL, "")):  # as the ingress says it
            await PlainTextResponse("homeport: there is nothing here\n", 404)(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        path = f"/?{query}" if query else "/"
        is_begun = False
        try:
            async with self._passing.http.stream(
                "POST", path, headers=headers, content=self._body()
            ) as answer:
                fields = {name: answer.headers[name] for name in ANSWERED if name in answer.headers}
                raw = [(name.lower().encode(), text.encode()) for name, text in fields.items()]
                is_begun = True
                await send(
                    {"type": "http.response.start", "status": answer.status_code, "headers": raw}
                )
                async for part in answer.aiter_raw():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except ClientDisconnect:
            return  # in the middle of the request
        except httpx.TransportError as error:
            if is_begun:
                raise  # the connection ends, and the caller sees that the answer is not whole
            away = isinstance(error, httpx.ConnectError)
            text = (
                "the ingress does not answer" if away else "the connection to the container ended"
            )
            refusal = PlainTextResponse(f"homeport: {text}\n", 503 if away else 502)
            await refusal(scope, receive, send)

    async def _body(self) -> AsyncIterator[bytes]:
        async for part in self._content:
            yield part
        self._is_read.set()

    async def _hung_up(self, receive: Receive) -> None:
        """Return when the caller has hung up."""
        await self._is_read.wait()
        while (await receive())["type"] != "http.disconnect":
            pass
