"""Asks the routes of the API, and compares each answer with the type that its route declares."""

import contextlib
import json

import httpx

from homeport.contract import codec, shape
from homeport.contract.api.answers import Refusal
from homeport.contract.container import LogLine
from homeport.control.api import routes, routing

ROUTES = {
    f"{each.method} {each.path}": each for noun in routes.NOUNS for each in routing.described(noun)
}


class Caller:
    """Calls routes, and compares each answer with the type that the route declares."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.asked: set[str] = set()

    async def ask(self, route: str, *, query: str = "", body=None, content=None, **path: str):
        """Return the decoded answer to one request; for a stream, a list."""
        content = codec.dumps(body) if body is not None else content
        response = await self._http.request(*self._request(route, query, path), content=content)
        assert response.status_code < 300, response.text
        if (lines := ROUTES[route].lines) != ():
            return [checked(lines, json.loads(line)) for line in response.text.split("\n") if line]
        if ROUTES[route].answer is None:
            assert (204, b"") == (response.status_code, response.content)
            return None
        if not response.headers["content-type"].startswith("application/json"):
            return response.text
        return checked((ROUTES[route].answer,), response.json())

    async def status(self, route: str, *, query: str = "", content=None, **path: str) -> int:
        """The status of a refusal."""
        response = await self._http.request(*self._request(route, query, path), content=content)
        checked((Refusal,), response.json())
        return response.status_code

    @contextlib.asynccontextmanager
    async def follow(self, route: str, *, query: str = "", body=None, **path: str):
        """Yield the decoded lines of a stream that does not end."""
        content = codec.dumps(body) if body is not None else None
        async with self._http.stream(
            *self._request(route, query, path), content=content
        ) as response:

            async def lines():
                rest = ""
                async for text in response.aiter_text():
                    *whole, rest = (rest + text).split("\n")
                    for line in whole:
                        yield checked(ROUTES[route].lines, json.loads(line))

            yield lines()

    def _request(self, route: str, query: str, path: dict[str, str]) -> tuple[str, str]:
        self.asked.add(route)
        method, pattern = route.split(" ")
        return method, pattern.format(**path) + query


def checked(types, data):
    """Decode `data` as one of these types; it must have each field of the type, and no other."""
    if "event" in data:
        types = [cls for cls in types if data["event"] == cls.__dataclass_fields__["event"].default]
    (cls,) = [cls for cls in types if cls is not bytes]
    value = codec.decode(cls, data)
    shape.typed(cls, value, cls.__name__)
    wanted = codec.encode(value)
    if cls is LogLine:  # of the environment that the request names
        del wanted["within"]
    assert data == wanted
    return value
