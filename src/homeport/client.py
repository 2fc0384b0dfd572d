"""The control plane's API, one method per route (docs/reference/api.md).

Failures of the server come back as the exceptions that it raised; `ServerBug` is its own fault.
"""

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from homeport.contract.errors import BadRequest, Failure, ScriptError, ServerUnreachable
from homeport.settings import Settings

# httpx brings a command line of its own, whose imports take longer than all the rest of it.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
import httpx  # noqa: E402

CONNECT_S = 5.0
ANSWER_S = 15.0  # what the server gets to say how it is, and to hear that it is to end
CHUNK_BYTES = 1024**2

Event = dict[str, Any]


class ServerBug(Exception):
    """The server failed in a way that nobody foresaw"""


class ServerSilent(ServerUnreachable):
    """A server listens, and does not answer"""


class Client:
    """A connection to this home's server, or to a remote one."""

    def __init__(self, settings: Settings) -> None:
        self._where = settings.server or str(settings.control_socket)
        self._remote = bool(settings.server)
        timeout = httpx.Timeout(None, connect=CONNECT_S)  # a deploy takes as long as it takes
        if settings.server:
            self._http = httpx.AsyncClient(
                base_url=settings.server,
                headers={"Authorization": f"Bearer {settings.token}"},
                timeout=timeout,
            )
        else:
            self._http = httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=str(settings.control_socket)),
                base_url="http://homeport",
                timeout=timeout,
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    # the server

    async def status(self) -> dict[str, Any]:
        return await self._call("GET", "/v1/status", answer_s=ANSWER_S)

    async def keep(self) -> None:
        await self._call("POST", "/v1/keep")

    async def shutdown(self) -> None:
        await self._call("POST", "/v1/shutdown", answer_s=ANSWER_S)

    # files

    async def upload(self, sources: Mapping[str, str]) -> None:
        """Upload what the server has not got; `sources` is hash -> path of the file."""
        asked = {"hashes": list(sources)}
        missing = (await self._call("POST", "/v1/blobs/missing", asked))["missing"]
        for digest in missing:
            await self._upload(digest, Path(sources[digest]))

    async def _upload(self, digest: str, path: Path) -> None:
        found = hashlib.sha256()

        async def content() -> AsyncIterator[bytes]:
            with await asyncio.to_thread(path.open, "rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    found.update(chunk)
                    yield chunk

        try:
            await self._call("PUT", f"/v1/blobs/{digest}", content())
        except BadRequest:
            if found.hexdigest() == digest:
                raise
            raise ScriptError(f"{path} changed while it was uploaded", hint="try again") from None
        except OSError as error:
            raise ScriptError(f"{path} cannot be read any more: {error.strerror}") from None

    # apps

    async def deploy(
        self,
        name: str,
        manifest: dict[str, Any],
        *,
        tag: str = "",
        strategy: str = "rolling",
        drain_s: float | None = None,
    ) -> AsyncIterator[Event]:
        """Events of the deploy, the last one `done`; a failure is raised."""
        body = {"manifest": manifest, "tag": tag, "strategy": strategy, "drain_s": drain_s}
        async with self._stream("POST", f"/v1/apps/{name}/deploy", body) as events:
            async for event in events:
                yield event

    async def rollback(
        self, name: str, version: int | None, *, strategy: str = "rolling"
    ) -> AsyncIterator[Event]:
        """As `deploy`."""
        body = {"version": version, "strategy": strategy}
        async with self._stream("POST", f"/v1/apps/{name}/rollback", body) as events:
            async for event in events:
                yield event

    @asynccontextmanager
    async def serve(self, manifest: dict[str, Any]) -> AsyncIterator[AsyncIterator[Event]]:
        """The events of a session, which lives as long as the block."""
        async with self._stream("POST", "/v1/serve", {"manifest": manifest}) as events:
            yield events

    async def reload(self, session: str, manifest: dict[str, Any]) -> list[dict[str, Any]]:
        """The session's endpoints, once the new version answers there."""
        told = await self._call("PUT", f"/v1/serve/{session}", {"manifest": manifest})
        return list(told["endpoints"])

    async def apps(self) -> list[dict[str, Any]]:
        return list((await self._call("GET", "/v1/apps"))["apps"])

    async def app(self, name: str) -> dict[str, Any]:
        return await self._call("GET", f"/v1/apps/{name}")

    async def stop(self, name: str) -> int:
        """How many containers were ended."""
        return int((await self._call("POST", f"/v1/apps/{name}/stop"))["containers"])

    async def history(self, name: str) -> list[dict[str, Any]]:
        return list((await self._call("GET", f"/v1/apps/{name}/history"))["revisions"])

    async def cold_starts(self, name: str, query: dict[str, str]) -> list[dict[str, Any]]:
        """How containers of an app have started, the oldest first."""
        params = httpx.QueryParams(query)
        told = await self._call("GET", f"/v1/apps/{name}/cold-starts?{params}")
        return list(told["cold_starts"])

    async def logs(self, name: str, query: dict[str, str]) -> AsyncIterator[Event]:
        """Log lines, the oldest first."""
        params = httpx.QueryParams(query)
        async with self._stream("GET", f"/v1/apps/{name}/logs?{params}", None) as lines:
            async for line in lines:
                yield line

    # containers

    async def containers(self) -> list[dict[str, Any]]:
        return list((await self._call("GET", "/v1/containers"))["containers"])

    async def stop_container(self, container: str) -> None:
        await self._call("POST", f"/v1/containers/{container}/stop")

    # images

    async def images(self) -> list[dict[str, Any]]:
        return list((await self._call("GET", "/v1/images"))["images"])

    async def prune_images(self) -> list[dict[str, Any]]:
        """What has gone."""
        return list((await self._call("POST", "/v1/images/prune"))["images"])

    # secrets and tokens

    async def secrets(self) -> list[dict[str, Any]]:
        return list((await self._call("GET", "/v1/secrets"))["secrets"])

    async def create_secret(
        self, name: str, values: Mapping[str, str], *, force: bool
    ) -> dict[str, Any]:
        body = {"name": name, "values": dict(values), "force": force}
        return await self._call("POST", "/v1/secrets", body)

    async def delete_secret(self, name: str) -> None:
        await self._call("DELETE", f"/v1/secrets/{name}")

    async def tokens(self) -> list[dict[str, Any]]:
        return list((await self._call("GET", "/v1/proxy-tokens"))["tokens"])

    async def create_token(self, name: str) -> dict[str, Any]:
        return await self._call("POST", "/v1/proxy-tokens", {"name": name})

    async def delete_token(self, token: str) -> None:
        await self._call("DELETE", f"/v1/proxy-tokens/{token}")

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | AsyncIterator[bytes] | None = None,
        *,
        answer_s: float | None = None,
    ) -> dict[str, Any]:
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        timeout = httpx.Timeout(answer_s, connect=CONNECT_S)
        try:
            response = await self._http.request(method, path, content=content, timeout=timeout)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        if response.is_error:
            raise self._failure(response.status_code, response.text)
        try:
            return dict(response.json()) if response.content else {}
        except (ValueError, TypeError):
            raise self._failure(response.status_code, response.text) from None

    @asynccontextmanager
    async def _stream(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        content = json.dumps(body).encode() if body is not None else None
        try:
            async with self._http.stream(method, path, content=content) as response:
                if response.is_error:
                    await response.aread()
                    raise self._failure(response.status_code, response.text)
                yield self._events(response)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    async def _events(self, response: httpx.Response) -> AsyncIterator[Event]:
        try:
            async for line in response.aiter_lines():
                try:
                    event: Event = json.loads(line)
                except ValueError:
                    raise self._failure(response.status_code, line) from None
                if event.get("event") == "error":
                    raise _told(event["error"])
                yield event
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _failure(self, status: int, text: str) -> Exception:
        """What an answer says that is no good one."""
        try:
            return _told(json.loads(text)["error"])
        except (ValueError, KeyError, TypeError):
            if self._remote:
                return ServerUnreachable(
                    f"what answers at {self._where} is not homeport's API: {status}",
                    hint="HOMEPORT_SERVER is the server's host with its HOMEPORT_API_PORT",
                )
            return ServerBug(f"the server answered {status}: {text[:200]}")

    def _unreachable(self, error: httpx.TransportError) -> ServerUnreachable:
        if isinstance(error, httpx.ConnectError):
            return ServerUnreachable(
                f"no server answers at {self._where}", hint="`homeport up` starts one"
            )
        if isinstance(error, httpx.TimeoutException):
            return ServerSilent(
                f"a server listens at {self._where}, and does not answer",
                hint="it may be stopped, or the machine too busy: see its server.log, and `ps`",
            )
        return ServerUnreachable(
            "the server went away in the middle of it", hint="`homeport status` says how it is"
        )


def _told(error: dict[str, Any]) -> Exception:
    if error.get("kind") == "Bug":
        return ServerBug(f"{error.get('message')}\nhint: {error.get('hint')}")
    return Failure.from_dict(error)
