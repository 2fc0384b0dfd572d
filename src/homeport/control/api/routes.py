"""The control plane's API: HTTP in, contract out.

docs/reference/api.md is generated from this module: its rules, the routes of `Api.app`, and each
handler's docstring. The rules:

- JSON over HTTP, on the Unix socket `control.sock` in the home's `run/`. With `HOMEPORT_API_PORT` and
  `HOMEPORT_TOKEN` also over TCP, with the header `Authorization: Bearer <token>`.
- Times are seconds since the epoch.
- An error has the status of its kind (see [errors](errors.md)) and the body
  `{"error": {"kind", "message", "where", "hint", "traceback"}}`. The kind `Bug`, with status 500, is a
  fault of homeport's own.
- A stream is one JSON object a line (`application/x-ndjson`). An error inside a stream is its last line,
  `{"event": "error", "error": {…}}`.
"""

import asyncio
import hmac
import json
import logging
import math
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from homeport.contract import codec, shape, validate
from homeport.contract.container import LogLine
from homeport.contract.errors import BadRequest, Failure, NotFound, Unauthorized
from homeport.contract.manifest import Manifest
from homeport.control.api import metrics
from homeport.control.api.view import Server
from homeport.control.deploys.apps import LiveApp
from homeport.control.deploys.deployer import Deployed, Deployer
from homeport.control.deploys.trial import Say
from homeport.state.blobs import Blobs
from homeport.state.coldstarts import KEPT, ColdStarts
from homeport.state.logs import Logs
from homeport.state.secrets import SecretBox
from homeport.state.tokens import Tokens
from homeport.supervised import Tasks, retried

log = logging.getLogger(__name__)

MAX_TAIL = 100_000  # lines of a log in one answer
AT_ONCE = 500  # of them in one piece
PAUSE_S = 0.05
MAX_JSON_BYTES = 64 * 1024**2

Stream = AsyncIterator[dict[str, Any] | bytes]


class Api:
    """The control plane as its callers see it."""

    def __init__(
        self,
        server: Server,
        deployer: Deployer,
        blobs: Blobs,
        logs: Logs,
        cold_starts: ColdStarts,
        secret_box: SecretBox,
        tokens: Tokens,
        *,
        keep: Callable[[], None],
        shutdown: Callable[[], None],
        stop_container: Callable[[str], bool],
    ) -> None:
        self._server = server
        self._deployer = deployer
        self._blobs = blobs
        self._logs = logs
        self._cold_starts = cold_starts
        self._secrets = secret_box
        self._tokens = tokens
        self._keep = keep
        self._shutdown = shutdown
        self._stop_container = stop_container
        self._tasks = Tasks()

    def app(self) -> Starlette:
        """The ASGI app; every route of the API in one list."""
        return Starlette(
            routes=[
                Route("/metrics", self.metrics),
                Route("/v1/status", self.status),
                Route("/v1/keep", self.keep, methods=["POST"]),
                Route("/v1/shutdown", self.shutdown, methods=["POST"]),
                Route("/v1/blobs/missing", self.missing_blobs, methods=["POST"]),
                Route("/v1/blobs/{sha256}", self.put_blob, methods=["PUT"]),
                Route("/v1/serve", self.serve, methods=["POST"]),
                Route("/v1/serve/{id}", self.reload, methods=["PUT"]),
                Route("/v1/apps", self.apps),
                Route("/v1/apps/{name}", self.one_app),
                Route("/v1/apps/{name}/deploy", self.deploy, methods=["POST"]),
                Route("/v1/apps/{name}/rollback", self.rollback, methods=["POST"]),
                Route("/v1/apps/{name}/history", self.history),
                Route("/v1/apps/{name}/stop", self.stop_app, methods=["POST"]),
                Route("/v1/apps/{name}/logs", self.read_logs),
                Route("/v1/apps/{name}/cold-starts", self.cold_starts),
                Route("/v1/containers", self.containers),
                Route("/v1/containers/{id}/stop", self.stop_one, methods=["POST"]),
                Route("/v1/images", self.images),
                Route("/v1/images/prune", self.prune_images, methods=["POST"]),
                Route("/v1/secrets", self.secrets, methods=["GET", "POST"]),
                Route("/v1/secrets/{name}", self.delete_secret, methods=["DELETE"]),
                Route("/v1/proxy-tokens", self.tokens, methods=["GET", "POST"]),
                Route("/v1/proxy-tokens/{id}", self.delete_token, methods=["DELETE"]),
            ],
            exception_handlers={
                Failure: _failed,
                HTTPException: _no_route,
                Exception: _our_fault,
            },
        )

    # the server

    async def status(self, _request: Request) -> Response:
        """Say what runs. Answer: `Status`."""
        return JSONResponse(await self._server.status())

    async def metrics(self, _request: Request) -> Response:
        """The numbers of `Status` for Prometheus (see [metrics](metrics.md)).

        The main port answers it too, to callers on this machine.
        """
        return PlainTextResponse(metrics.render(await self._server.apps()), media_type=metrics.TYPE)

    async def keep(self, _request: Request) -> Response:
        """Let the server outlive the command that started it. Answer: `{}`."""
        self._keep()
        return JSONResponse({})

    async def shutdown(self, _request: Request) -> Response:
        """End every container, the ingress and the server. Answer: `{}`, before it begins."""
        self._shutdown()
        return JSONResponse({})

    # files

    async def missing_blobs(self, request: Request) -> Response:
        """Say which files the server does not have.

        Body: `{"hashes": […]}`, SHA-256 in hex. Answer: `{"missing": […]}`.
        """
        body = await _body(request)
        return JSONResponse({"missing": self._blobs.missing(_strings(body.get("hashes")))})

    async def put_blob(self, request: Request) -> Response:
        """Upload a file. Body: its bytes. Answer: 204; 400 if they have another hash."""
        await self._blobs.put(request.path_params["sha256"], request.stream())
        return Response(status_code=204)

    # apps

    async def deploy(self, request: Request) -> Response:
        """Deploy an app.

        Body: `{"manifest", "tag", "strategy", "drain_s"}`; `strategy` is `rolling` or `recreate`.
        Answer: a stream of `{"event": "log", "line": LogLine}` and `{"event": "progress", "text"}`; the
        last line is `{"event": "done", "version", "skipped", "endpoints": [EndpointStatus]}`.
        """
        body = await _body(request)
        manifest = _manifest(body)

        async def work(say: Say) -> Deployed:
            return await self._deployer.deploy(
                request.path_params["name"],
                manifest,
                tag=str(body.get("tag") or ""),
                strategy=str(body.get("strategy") or "rolling"),
                say=say,
                drain_s=_seconds(body.get("drain_s")),
            )

        return _ndjson(self._progress(request.path_params["name"], work))

    async def rollback(self, request: Request) -> Response:
        """Deploy an earlier version again, as a new version.

        Body: `{"version": 3, "strategy"}`; without `version` the one before the current one. Answer: as
        for `deploy`.
        """
        body = await _body(request)
        version = _version(body.get("version"))

        async def work(say: Say) -> Deployed:
            return await self._deployer.rollback(
                request.path_params["name"],
                version,
                strategy=str(body.get("strategy") or "rolling"),
                say=say,
            )

        return _ndjson(self._progress(request.path_params["name"], work))

    async def serve(self, request: Request) -> Response:
        """Serve an app as long as the connection is open.

        Body: `{"manifest"}`. Answer: a stream. Its first line is `{"event": "session", "id", "app"}`, then
        `progress` while its images are built, then `{"event": "serving", "endpoints": [EndpointStatus]}`.
        Later lines are `log`, `progress`, `{"event": "failed", "error"}` when a container did not start,
        and `{"event": "stolen", "tag", "url"}` when another session has taken a URL.
        """
        return _ndjson(self._session(_manifest(await _body(request))))

    async def reload(self, request: Request) -> Response:
        """Replace the version of a `serve` session.

        Body: `{"manifest"}`. Answer: `{"endpoints": [EndpointStatus]}`, once the new version answers. If
        it fails, the old one stays. Progress is told in the session's stream.
        """
        manifest = _manifest(await _body(request))
        app = await self._deployer.reload(request.path_params["id"], manifest)
        return JSONResponse({"endpoints": self._server.endpoints(app)})

    async def apps(self, _request: Request) -> Response:
        """List the apps: live ones first, then stopped ones. Answer: `{"apps": [AppStatus]}`."""
        return JSONResponse({"apps": await self._server.apps()})

    async def one_app(self, request: Request) -> Response:
        """Describe one app. Answer: `AppStatus`."""
        return JSONResponse(await self._server.app(request.path_params["name"]))

    async def history(self, request: Request) -> Response:
        """List an app's versions, the newest first.

        Answer: `{"revisions": [{"version", "created_at", "tag", "current", "urls"}]}`. `urls` is
        tag -> URL of this very version.
        """
        return JSONResponse({"revisions": await self._server.history(request.path_params["name"])})

    async def stop_app(self, request: Request) -> Response:
        """Stop an app. Answer: `{"containers": 2}`, how many were ended."""
        name = request.path_params["name"]
        if not self._deployer.knows(name):
            await self._server.app(name)  # `NotFound`, with the names that there are
        return JSONResponse({"containers": await self._deployer.stop_app(name)})

    async def read_logs(self, request: Request) -> Response:
        """Read what an app's containers have printed.

        Query: `tail` (100 by default), `follow=1` to wait for more, `function`, `container`, `request`
        (an `X-Request-Id`), `since`. Answer: a stream of `LogLine`, the oldest first.
        """
        name, query = request.path_params["name"], request.query_params
        await self._server.app(name)  # an unknown app is an error, not an empty log
        since = _since(query.get("since"))

        only = {key: query[key] for key in ("function", "container", "request") if query.get(key)}

        def wants(line: LogLine) -> bool:
            return (
                line.app == name
                and line.at >= since  # its clock may have been set back: see `tail`
                and all(getattr(line, key) == value for key, value in only.items())
            )

        tail = min(_count(query.get("tail"), 100), MAX_TAIL)
        return _ndjson(
            self._lines(name, wants, only, since, tail, follow=query.get("follow") == "1")
        )

    async def cold_starts(self, request: Request) -> Response:
        """List how an app's containers started; the last hundred are kept.

        Query: `function`, `tail`. Answer: `{"cold_starts": [ColdStart]}`, the newest last.
        """
        name, query = request.path_params["name"], request.query_params
        await self._server.app(name)
        starts = self._cold_starts.last(
            name, _count(query.get("tail"), KEPT), query.get("function", "")
        )
        return JSONResponse({"cold_starts": [start.told() for start in starts]})

    # containers

    async def containers(self, _request: Request) -> Response:
        """List the containers, the newest first. Answer: `{"containers": [ContainerStatus]}`."""
        return JSONResponse({"containers": self._server.containers()})

    async def stop_one(self, request: Request) -> Response:
        """Stop one container. Answer: `{}`."""
        if not self._stop_container(request.path_params["id"]):
            raise NotFound(f"there is no container `{request.path_params['id']}`")
        return JSONResponse({})

    # images

    async def images(self, _request: Request) -> Response:
        """List the images that are built here, the newest first. Answer: `{"images": [Environment]}`."""
        return JSONResponse({"images": self._server.images()})

    async def prune_images(self, _request: Request) -> Response:
        """Remove the images that no live or kept version needs. Answer: `{"images": [Environment]}`, the removed ones."""
        gone = await self._deployer.prune()
        return JSONResponse({"images": [codec.encode(environment) for environment in gone]})

    # secrets and tokens

    async def secrets(self, request: Request) -> Response:
        """List the secrets, or create one.

        GET: List the secrets. Answer: `{"secrets": [{"name", "keys", "created_at", "updated_at"}]}`, never
        a value.
        POST: Create a secret, or replace its values. Body: `{"name", "values": {…}, "force": false}`.
        Answer: `{"name", "keys"}`.
        """
        if request.method == "GET":
            rows = await self._secrets.list()
            return JSONResponse({"secrets": [codec.encode(row) for row in rows]})
        body = await _body(request)
        name, values = str(body.get("name") or ""), body.get("values")
        if not isinstance(values, dict):
            raise BadRequest("`values` must be an object")
        keys = await self._secrets.create(name, values, force=bool(body.get("force")))
        return JSONResponse({"name": name, "keys": keys})

    async def delete_secret(self, request: Request) -> Response:
        """Delete a secret. Answer: 204."""
        await self._secrets.delete(request.path_params["name"])
        return Response(status_code=204)

    async def tokens(self, request: Request) -> Response:
        """List the proxy tokens, or create one.

        GET: List the proxy tokens. Answer: `{"tokens": [{"id", "name", "created_at"}]}`.
        POST: Create a proxy token. Body: `{"name": ""}`. Answer: `{"id", "secret", "name",
        "created_at"}`; the secret is shown this once.
        """
        if request.method == "GET":
            rows = [
                {"id": row.id, "name": row.name, "created_at": row.created_at}
                for row in await self._tokens.list()
            ]
            return JSONResponse({"tokens": rows})
        row, secret = await self._tokens.create(str((await _body(request)).get("name") or ""))
        return JSONResponse(
            {"id": row.id, "secret": secret, "name": row.name, "created_at": row.created_at}
        )

    async def delete_token(self, request: Request) -> Response:
        """Delete a proxy token. Answer: 204."""
        await self._tokens.delete(request.path_params["id"])
        return Response(status_code=204)

    # streams

    async def _progress(self, name: str, work: Callable[[Say], Awaitable[Deployed]]) -> Stream:
        """A deploy, as it goes: what its containers print, and how it ends.

        A caller who goes away does not undo it: it ends as the old or the new one.
        """
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def deploy() -> None:
            try:
                deployed = await work(
                    lambda text: queue.put_nowait({"event": "progress", "text": text})
                )
                done = {
                    "event": "done",
                    "version": deployed.app.revision.version,
                    "skipped": deployed.skipped,
                    "endpoints": self._server.endpoints(deployed.app),
                }
            except Exception as error:
                done = {"event": "error", "error": _told(error)}
            queue.put_nowait(done)

        self._tasks.start(f"deploy of `{name}`", deploy())
        with self._logs.following(lambda line: line.app == name) as lines:
            copying = self._tasks.start("log lines of a deploy", _copy_lines(lines, queue))
            try:
                while (event := await queue.get())["event"] not in {"done", "error"}:
                    yield event
                yield event
            finally:
                copying.cancel()

    async def _session(self, manifest: Manifest) -> Stream:
        """A `serve` session: it lives as long as somebody reads this."""
        session = secrets.token_hex(6)
        owner = f"serve:{session}"
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        app: LiveApp | None = None

        async def begin() -> None:
            nonlocal app
            try:
                app = await self._deployer.serve(
                    session,
                    manifest,
                    lambda text: queue.put_nowait({"event": "progress", "text": text}),
                )
                begun: dict[str, Any] = {
                    "event": "serving",
                    "endpoints": self._server.endpoints(app),
                }
            except Exception as error:
                begun = {"event": "error", "error": _told(error)}
            queue.put_nowait(begun)

        beginning = self._tasks.start(f"beginning of {owner}", begin())
        try:
            yield {"event": "session", "id": session, "app": manifest.app_name}
            while (event := await queue.get())["event"] not in {"serving", "error"}:
                yield event
            yield event
            if app is None or app.events is None:
                return
            with self._logs.following(partial(self._server.is_owners, owner)) as lines:
                copying = self._tasks.start(f"log lines of {owner}", _copy_lines(lines, app.events))
                try:
                    while True:
                        yield await app.events.get()
                finally:
                    copying.cancel()
        finally:
            beginning.cancel()  # nobody waits for it any more
            # Until it succeeds: nobody else would ever stop it.
            name = f"ending {owner}"
            ending = retried(name, partial(self._deployer.stop, owner))
            await asyncio.shield(self._tasks.start(name, ending))

    async def close(self) -> None:
        """Stop telling of what goes on."""
        await self._tasks.close()

    async def _lines(
        self,
        name: str,
        wants: Callable[[LogLine], bool],
        only: dict[str, str],
        since: float,
        tail: int,
        *,
        follow: bool,
    ) -> Stream:
        with self._logs.following(wants) as lines:
            told = await self._logs.tail(name, tail, wants, only, since)
            for at in range(0, len(told), AT_ONCE):
                yield b"".join(told[at : at + AT_ONCE])
            del told
            if follow:
                async for line in lines:
                    yield codec.encode(line)


class BearerOnly:
    """Lets callers in who know the token; the Unix socket needs none, for its mode is 0600."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                failure = Unauthorized(
                    "the server wants a token", hint="set HOMEPORT_TOKEN to the server's token"
                )
                await _answer(failure)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _copy_lines(lines: AsyncIterator[LogLine], queue: asyncio.Queue[dict[str, Any]]) -> None:
    async for line in lines:
        while queue.qsize() > AT_ONCE:  # nobody reads: `lines` counts what is lost meanwhile
            await asyncio.sleep(PAUSE_S)
        queue.put_nowait({"event": "log", "line": codec.encode(line)})


def _ndjson(stream: Stream) -> Response:
    async def encoded() -> AsyncIterator[str | bytes]:
        async for item in stream:
            yield item if isinstance(item, bytes) else json.dumps(item, ensure_ascii=False) + "\n"

    return StreamingResponse(encoded(), media_type="application/x-ndjson")


async def _body(request: Request) -> dict[str, Any]:
    text = bytearray()
    async for chunk in request.stream():
        text += chunk
        if len(text) > MAX_JSON_BYTES:
            raise BadRequest(f"the body has more than {MAX_JSON_BYTES} bytes")
    try:
        body = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    shape.plain(body)
    return body


def _manifest(body: dict[str, Any]) -> Manifest:
    return validate.read(body.get("manifest"))


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRequest("an array of strings is needed")
    return value


def _count(text: str | None, default: int) -> int:
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not int(text):
        raise BadRequest("`tail` must be a number of at least 1")
    return int(text)


def _since(text: str | None) -> float:
    try:
        since = float(text or 0)
    except ValueError:
        since = math.nan
    if not math.isfinite(since):
        raise BadRequest("`since` must be a number of seconds since the epoch")
    return since


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRequest("`drain_s` must be a number of seconds")
    if not 0 <= value <= validate.TIMEOUT_S[1]:
        raise BadRequest(f"`drain_s` must be from 0 to {validate.TIMEOUT_S[1]:g} seconds")
    return float(value)


def _moment(text: str | None) -> float:
    try:
        moment = float(text or 0)
    except ValueError:
        moment = math.nan
    if not math.isfinite(moment):
        raise BadRequest("`since` must be in seconds since the epoch")
    return moment


def _version(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadRequest("`version` must be a whole number of at least 1")
    return value


def _answer(failure: Failure) -> Response:
    return JSONResponse({"error": failure.to_dict()}, status_code=failure.status)


async def _failed(_request: Request, failure: Exception) -> Response:
    assert isinstance(failure, Failure)
    return _answer(failure)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    failure = NotFound(f"{request.method} {request.url.path}: {error.detail}")
    return JSONResponse({"error": failure.to_dict()}, status_code=error.status_code)


async def _our_fault(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": _bug(error)}, status_code=500)


def _told(error: Exception) -> dict[str, str]:
    return error.to_dict() if isinstance(error, Failure) else _bug(error)


def _bug(error: Exception) -> dict[str, str]:
    return {
        "kind": "Bug",
        "message": f"the server failed: {type(error).__name__}",  # its text may quote a secret
        "where": "",
        "hint": "the details are in server.log in the home",
        "traceback": "",
    }
