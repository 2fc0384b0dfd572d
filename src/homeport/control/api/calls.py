"""The routes by which programs on other machines call functions: in any language with JSON, in Python as `.remote()`."""

import asyncio
import json
import urllib.parse
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import Response

from homeport import wire
from homeport.contract import calls
from homeport.contract.api.calls import Call, Called
from homeport.contract.errors import (
    BadRequest,
    CallFailed,
    CallTimeout,
    NotFound,
    StartError,
    TooMany,
)
from homeport.contract.scope import Scope
from homeport.control.api.access import Caller
from homeport.control.api.passing import Passed, Passing
from homeport.control.api.record import Audited
from homeport.control.api.routing import route
from homeport.control.fleet.owner import Owner
from homeport.settings import Settings

KINDS: dict[int, type[BadRequest | CallTimeout | StartError | TooMany]] = {
    400: BadRequest,
    429: TooMany,
    504: CallTimeout,
}


class Calls:
    """Calls functions of deployed apps, over the ingress like every other caller."""

    def __init__(
        self,
        settings: Settings,
        key: Callable[[Scope], str],
        holder: Callable[[str], Owner | None],
    ) -> None:
        """`key` returns the key of an environment, and `holder` the app that has an endpoint now, by its id."""
        self._socket = str(settings.calls_socket)
        self._key = key
        self._holder = holder
        self._passing = Passing(self._socket)

    async def close(self) -> None:
        """Close the connections to the ingress."""
        await self._passing.close()

    @route("POST", "/v1/apps/{name}/call/{tag}", audit=Audited.NONE)
    async def call(self, scope: Scope, name: str, tag: str, body: Call) -> Called:
        """Call a function, and wait for its value.

        `{tag}` is the function, or `Class.method`. What the function raises is a `CallFailed`, with its traceback.
        A generator has no single value: give it a URL to stream from.
        """
        request = wire.Request(
            calls.endpoint_id(name, tag, key=self._key(scope)),
            json.dumps({"args": list(body.args), "kwargs": body.kwargs}).encode(),
            content_type=calls.JSON,
            query=_query(body.parameters),
            fields={calls.FORM: calls.VALUE},
        )
        try:
            answer = await wire.ask_async(self._socket, request)
        except ConnectionError as error:
            raise StartError(f"the connection to `{tag}` ended before its answer came") from error
        request_id = answer.fields.get("x-request-id", "")
        if answer.outcome == calls.VALUE:
            value = await asyncio.to_thread(json.loads, bytes(answer.body))
            return Called(value=value, request=request_id)
        if answer.outcome == calls.FAILED:
            failure = json.loads(bytes(answer.body))["error"]
            raise CallFailed(
                f"{failure['type']}: {failure['message']}", traceback=failure["traceback"]
            )
        text = bytes(answer.body).decode("utf-8", "replace").strip().removeprefix("homeport: ")
        if answer.status == 404:
            raise NotFound(f"no deployed app `{name}` has a function `{tag}` that can be called")
        raise KINDS.get(answer.status, StartError)(f"`{tag}`: {text}")

    @route("POST", "/v1/calls", audit=Audited.NONE)
    async def pass_on(self, caller: Caller, body: AsyncIterator[bytes]) -> Response:
        """Call a function with pickled values, as `.remote()` does in a script on another machine.

        The request's headers say which function, the query string has class parameters, and the answer is the
        container's (contract/calls.py).
        """

        def may_call(endpoint: str) -> bool:
            # Who had a token of another environment once still knows the ids of its endpoints.
            holder = self._holder(endpoint)
            return holder is None or caller.sees(holder.scope)

        return Passed(self._passing, body, may_call)


def _query(parameters: dict[str, Any]) -> str:
    """Return class parameters as a call's query string."""
    pairs = {}
    for name, value in parameters.items():
        if not isinstance(value, (str, int)):
            raise BadRequest(
                f"the class parameter `{name[:40]}` is not text, a number, true or false"
            )
        pairs[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return urllib.parse.urlencode(sorted(pairs.items()), quote_via=urllib.parse.quote)
