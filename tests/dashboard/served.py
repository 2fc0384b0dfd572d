"""The dashboard's app before the API of a plane, joined by a real socket as the ingress joins them."""

import contextlib
from dataclasses import dataclass
from typing import Any

import httpx

from homeport.contract.scope import SYSTEM
from homeport.control.api import bearer
from homeport.control.api.access import Inside
from homeport.control.api.attempts import WrongTokens
from homeport.control.api.bearer import Bearer
from homeport.control.api.listener import listening, unix_socket
from homeport.dashboard.api import Way
from homeport.dashboard.app import create
from tests.control.api.served import api_of
from tests.control.plane import Plane
from tests.fakes import FakeNode

HOST = "homeport--dashboard.localhost:4663"
ORIGIN = f"http://{HOST}"


@dataclass
class Served:
    """A plane, its API, and visitors of the dashboard."""

    plane: Plane
    server: Any
    app: Any

    def visitor(self, token: str = "", host: str = HOST, scheme: str = "http", **headers: str):
        """Return a browser without scripts; with a token it is logged in."""
        transport = httpx.ASGITransport(self.app, client=("192.0.2.1", 1))
        browser = httpx.AsyncClient(
            transport=transport, base_url=f"{scheme}://{host}", headers=headers
        )
        if token:
            name = "__Host-homeport" if scheme == "https" else "homeport-dashboard"
            browser.headers["Cookie"] = f"{name}={token}"
        return browser

    async def token(self, **given: Any) -> str:
        """Return a new token of the API."""
        wanted = {"workspace": "main", "name": "ci", "user": "ada", "environments": ()}
        return (await self.server.api_tokens.create(**{**wanted, "expires_s": None, **given}))[1]


@contextlib.asynccontextmanager
async def dashboard(home):
    """Yield the dashboard of a plane."""
    plane = Plane(home, FakeNode(0.01))
    async with plane, api_of(plane, home) as server:
        guarded = Bearer(
            server.api.app(),
            server.api_tokens,
            wrong=WrongTokens(),
            source=bearer.address_from_dashboard,
        )
        door = Inside(server.api.inside(), plane.environments.by_key, dashboard=guarded)
        path = plane.settings.inside_socket
        path.parent.mkdir(parents=True, exist_ok=True)
        way = Way(str(path), plane.environments.key(SYSTEM))
        async with listening(door, unix_socket(path)):
            yield Served(plane, server, create(way))
            await way.close()
