"""The ASGI app: finds the page of a request, and asks the API with the visitor's own token.

Nothing is kept between two requests, so no visitor can see the data of another one.
"""

import contextlib
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from homeport.contract.api.api_tokens import Identity
from homeport.contract.api.dashboard import DashboardLink, DashboardSession, LoginCode
from homeport.contract.api.environments import EnvironmentList
from homeport.contract.errors import Failure, Forbidden, NotFound, ServerUnreachable, Unauthorized
from homeport.contract.scope import MAIN
from homeport.dashboard import render, session
from homeport.dashboard.api import Way
from homeport.dashboard.pages import PAGES
from homeport.dashboard.pages.page import Part, Visit
from homeport.sdk import context

Handler = Callable[[Request], Awaitable[Response]]
MEDIA = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def create(way: Way | None = None) -> Starlette:
    """Return the app; `way` has the connections to the API, by default those that this container's variables name."""
    if way is None:
        reach = context.reach()
        way = Way(reach.socket, reach.key) if reach else Way("", "")
    dashboard = Dashboard(way)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> Any:
        yield
        await dashboard.way.close()

    routes = [
        Route("/static/{name}", dashboard.static),
        Route("/login", dashboard.login_page, methods=["GET"]),
        Route("/login", dashboard.login, methods=["POST"]),
        Route("/logout", dashboard.logout, methods=["POST"]),
        *(
            Route(page.path, dashboard.served(page.handler), methods=[page.method])
            for page in PAGES
        ),
        Route("/{rest:path}", dashboard.unknown),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class Dashboard:
    """The handlers of all requests."""

    def __init__(self, way: Way) -> None:
        self.way = way

    async def static(self, request: Request) -> Response:
        """Answer with a style or a script, which a browser keeps: another version has another address."""
        name = request.path_params["name"]
        if name not in render.STATIC:
            return Response("there is no such file\n", 404, render.HEADERS, "text/plain")
        headers = {**render.HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
        return Response(
            render.STATIC[name], headers=headers, media_type=MEDIA[name.rpartition(".")[2]]
        )

    async def login_page(self, request: Request) -> Response:
        """Show the form that logs in. The code of a link is behind its `#`, and only a click uses it up: a program
        that checks links in messages does not.
        """
        return self._login(request)

    async def login(self, request: Request) -> Response:
        """Exchange a link's code, or a token, for a session."""
        try:
            session.check_origin(request)
            if session.shares_cookies(request):
                raise Forbidden("log in at the dashboard's own URL: other apps share this address")
            form = await session.form(request)
            code, token = form.get("code", ""), form.get("token", "").strip()
            visitor = session.visitor(request)
            if not code and token:
                # A session of its own, so that the browser never keeps the token itself.
                api = self.way.api(_clean(token), visitor=visitor)
                issued = await api.post(DashboardLink, "/v1/dashboard")
                code = issued.url.partition("#")[2]
            api = self.way.api("", visitor=visitor)
            login_session = await api.post(
                DashboardSession, "/v1/dashboard/session", LoginCode(code=code[:100])
            )
        except Failure as failure:
            return self._login(request, failure)
        response = RedirectResponse("/", 303, render.HEADERS)
        session.keep(
            request, response, login_session.secret, session.left_s(login_session.expires_at)
        )
        return response

    async def logout(self, request: Request) -> Response:
        """End the session: its token is deleted."""
        try:
            session.check_origin(request)
        except Forbidden as failure:
            return self._login(request, failure)
        if token := session.token_of(request):
            api = self.way.api(token, visitor=session.visitor(request))
            # The request ends with the token that it deletes, perhaps before its answer.
            with contextlib.suppress(Unauthorized, NotFound, ServerUnreachable):
                await api.raw("DELETE", "/v1/dashboard/session")
        response = RedirectResponse("/login", 303, render.HEADERS)
        session.forget(request, response)
        return response

    async def unknown(self, request: Request) -> Response:
        """Say that there is no such page."""
        body = render.template("plain", title="There is no such page", text="", hint="")
        return render.page(request, body, status=404)

    def served(self, handler: Callable[[Visit], Awaitable[Part | Response]]) -> Handler:
        """Return the function that answers a page's requests."""

        async def answer(request: Request) -> Response:
            token = session.token_of(request)
            if not token or session.shares_cookies(request):
                return self._to_login(request)
            environment = _clean(request.query_params.get("env", "")[:64]) or MAIN.environment
            api = self.way.api(token, visitor=session.visitor(request), environment=environment)
            visit = Visit(request=request, api=api, environment=environment)
            try:
                if request.method != "GET":
                    session.check_origin(request)
                shown = await handler(visit)
                if isinstance(shown, Response):
                    shown.headers.update(render.HEADERS)
                    return shown
                return await self._page(visit, shown)
            except Unauthorized:
                response = self._to_login(request)
                session.forget(request, response)
                return response
            except Failure as failure:
                return await self._failed(visit, failure)

        return answer

    async def _failed(self, visit: Visit, failure: Failure) -> Response:
        """Show the error in place of the page; a missing permission is not shown as an error."""
        body = render.template(
            "failed", failure=failure, is_forbidden=isinstance(failure, Forbidden)
        )
        part = Part(title="Not possible", body=body, live_s=5.0, status=failure.status)
        try:
            return await self._page(visit, part)
        except Unauthorized:
            return self._to_login(visit.request)
        except Failure:
            plain = render.template(
                "plain", title="The server does not answer", text=failure.message, hint=failure.hint
            )
            return render.page(visit.request, plain, status=failure.status)

    async def _page(self, visit: Visit, part: Part) -> Response:
        """Return a whole page, or only its middle part if an open page asks for that."""
        if visit.request.headers.get("x-part") == "main":
            return render.page(visit.request, part.body, status=part.status, tag=part.tag)
        identity = await visit.api.get(Identity, "/v1/identity")
        listed = await visit.api.get(EnvironmentList, "/v1/environments")
        body = render.template(
            "layout",
            part=part,
            visit=visit,
            identity=identity,
            environments=[environment.name for environment in listed.environments],
        )
        return render.page(visit.request, body, status=part.status)

    def _login(self, request: Request, failure: Failure | None = None) -> Response:
        shares = session.shares_cookies(request)
        body = render.template("login", failure=failure, shares=shares)
        return render.page(request, body, status=200 if failure is None else failure.status)

    def _to_login(self, request: Request) -> Response:
        if request.headers.get("x-part"):
            return Response("the session has ended\n", 401, render.HEADERS, "text/plain")
        return RedirectResponse("/login", 303, render.HEADERS)


def _clean(text: str) -> str:
    """Return a token or a name so that it can stand in a header."""
    text = text[: session.MAX_TOKEN]
    return text if text.isascii() and text.isprintable() else quote(text)
