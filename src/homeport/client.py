"""The control plane's API, one method per route (docs/reference/api.md).

Failures of the server come back as the exceptions that it raised; `ServerBug` is its own fault.
"""

import asyncio
import functools
import hashlib
import json
import sys
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from homeport.contract import api, codec, query
from homeport.contract.container import LogLine
from homeport.contract.errors import BadRequest, ScriptError, ServerUnreachable
from homeport.contract.image import Environment
from homeport.contract.manifest import Manifest
from homeport.settings import Settings

# httpx has its own command line, whose imports take longer than all the rest of httpx: skip it.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
import httpx  # noqa: E402

CONNECT_S = 5.0
ANSWER_S = 15.0  # how long the server may take to answer `status` and `shutdown`
CHUNK_BYTES = 1024**2

Line = dict[str, Any]  # of a stream, before it is read
T = TypeVar("T")


class ServerBug(Exception):
    """The server failed because of a bug"""


class OtherVersion(ServerUnreachable):
    """The server is another version of homeport"""


class ServerSilent(ServerUnreachable):
    """A server listens, and does not answer"""


class Client:
    """A connection to this home's server, or to a remote one.

    One class, because each route of the API is one short method of the same connection.
    """

    def __init__(self, settings: Settings) -> None:
        self._where = settings.server or str(settings.control_socket)
        self._remote = bool(settings.server)
        timeout = httpx.Timeout(None, connect=CONNECT_S)  # a deploy may take any time
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

    async def status(self) -> api.Status:
        return await self._ask(api.Status, "GET", "/v1/status", answer_s=ANSWER_S)

    async def keep(self) -> None:
        await self._ask(api.Nothing, "POST", "/v1/keep")

    async def shutdown(self) -> None:
        await self._ask(api.Nothing, "POST", "/v1/shutdown", answer_s=ANSWER_S)

    # files

    async def upload(self, sources: Mapping[str, str]) -> None:
        """Upload the files that the server does not have; `sources` is hash -> path."""
        hashes = api.Hashes(hashes=tuple(sources))
        for digest in (await self._ask(api.Missing, "POST", "/v1/blobs/missing", hashes)).missing:
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

    async def deploy(self, name: str, wanted: api.Deploy) -> AsyncIterator[api.Event]:
        """Yield the events of the deploy, the last one `Done`; a failure is raised."""
        async with self._stream("POST", f"/v1/apps/{name}/deploy", wanted) as lines:
            async for event in self._events(lines):
                yield event

    async def rollback(self, name: str, wanted: api.Rollback) -> AsyncIterator[api.Event]:
        """As `deploy`."""
        async with self._stream("POST", f"/v1/apps/{name}/rollback", wanted) as lines:
            async for event in self._events(lines):
                yield event

    @asynccontextmanager
    async def serve(self, manifest: Manifest) -> AsyncIterator[AsyncIterator[api.Event]]:
        """The events of a session, which lives as long as the block."""
        async with self._stream("POST", "/v1/serve", api.Serve(manifest=manifest)) as lines:
            yield self._events(lines)

    async def reload(self, session: str, manifest: Manifest) -> tuple[api.EndpointStatus, ...]:
        """Return the session's endpoints, once the new version answers there."""
        path, body = f"/v1/serve/{session}", api.Serve(manifest=manifest)
        return (await self._ask(api.Endpoints, "PUT", path, body)).endpoints

    async def apps(self) -> tuple[api.AppStatus, ...]:
        return (await self._ask(api.Apps, "GET", "/v1/apps")).apps

    async def app(self, name: str) -> api.AppStatus:
        return await self._ask(api.AppStatus, "GET", f"/v1/apps/{name}")

    async def stop(self, name: str) -> int:
        """Return how many containers were ended."""
        return (await self._ask(api.Stopped, "POST", f"/v1/apps/{name}/stop")).containers

    async def history(self, name: str) -> tuple[api.Version, ...]:
        return (await self._ask(api.History, "GET", f"/v1/apps/{name}/history")).revisions

    async def cold_starts(self, name: str, wanted: api.ColdStartQuery) -> tuple[api.ColdStart, ...]:
        """Return how containers of an app have started, the oldest first."""
        path = f"/v1/apps/{name}/cold-starts?{query.encode(wanted)}"
        return (await self._ask(api.ColdStarts, "GET", path)).cold_starts

    async def logs(self, name: str, wanted: api.LogQuery) -> AsyncIterator[LogLine]:
        """Yield log lines, the oldest first."""
        path = f"/v1/apps/{name}/logs?{query.encode(wanted)}"
        async with self._stream("GET", path) as lines:
            async for line in lines:
                yield self._read(_as(LogLine), line)

    # containers

    async def containers(self) -> tuple[api.ContainerStatus, ...]:
        return (await self._ask(api.Containers, "GET", "/v1/containers")).containers

    async def stop_container(self, container: str) -> None:
        await self._ask(api.Nothing, "POST", f"/v1/containers/{container}/stop")

    # images

    async def images(self) -> tuple[Environment, ...]:
        return (await self._ask(api.Images, "GET", "/v1/images")).images

    async def prune_images(self) -> tuple[Environment, ...]:
        """Return what has gone."""
        return (await self._ask(api.Images, "POST", "/v1/images/prune")).images

    # secrets and tokens

    async def secrets(self) -> tuple[api.StoredSecret, ...]:
        return (await self._ask(api.Secrets, "GET", "/v1/secrets")).secrets

    async def create_secret(self, secret: api.NewSecret) -> api.SecretKeys:
        return await self._ask(api.SecretKeys, "POST", "/v1/secrets", secret)

    async def delete_secret(self, name: str) -> None:
        await self._call("DELETE", f"/v1/secrets/{name}")

    async def tokens(self) -> tuple[api.ProxyToken, ...]:
        return (await self._ask(api.ProxyTokens, "GET", "/v1/proxy-tokens")).tokens

    async def create_token(self, name: str) -> api.ProxyTokenSecret:
        body = api.NewProxyToken(name=name)
        return await self._ask(api.ProxyTokenSecret, "POST", "/v1/proxy-tokens", body)

    async def delete_token(self, token: str) -> None:
        await self._call("DELETE", f"/v1/proxy-tokens/{token}")

    # volumes

    async def volumes(self, wanted: api.VolumesQuery) -> tuple[api.StoredVolume, ...]:
        return (await self._ask(api.Volumes, "GET", f"/v1/volumes?{query.encode(wanted)}")).volumes

    async def volume(self, name: str) -> api.StoredVolume:
        return await self._ask(api.StoredVolume, "GET", _volume(name))

    async def create_volume(self, wanted: api.NewVolume) -> api.StoredVolume:
        return await self._ask(api.StoredVolume, "POST", "/v1/volumes", wanted)

    async def rename_volume(self, name: str, new: str) -> api.StoredVolume:
        body = api.VolumeName(name=new)
        return await self._ask(api.StoredVolume, "POST", f"{_volume(name)}/rename", body)

    async def delete_volume(self, name: str) -> None:
        await self._call("DELETE", _volume(name))

    async def files(self, volume: str, wanted: api.FilesQuery) -> AsyncIterator[api.FileEntry]:
        """Yield the entries of a volume's directory."""
        path = f"{_volume(volume)}/files?{query.encode(wanted)}"
        async with self._stream("GET", path) as lines:
            async for line in lines:
                yield self._read(_as(api.FileEntry), line)

    async def read_file(self, volume: str, path: str) -> AsyncIterator[bytes]:
        """Yield a file of a volume in pieces."""
        path = f"{_volume(volume)}/file?{query.encode(api.FileQuery(path=path))}"
        async with self._answer("GET", path) as response:
            try:
                async for chunk in response.aiter_bytes(CHUNK_BYTES):
                    yield chunk
            except httpx.TransportError as error:
                raise self._unreachable(error) from None

    async def write_file(
        self, volume: str, wanted: api.FileQuery, content: AsyncIterator[bytes]
    ) -> None:
        await self._call("PUT", f"{_volume(volume)}/file?{query.encode(wanted)}", content)

    async def remove_file(self, volume: str, wanted: api.FilesQuery) -> None:
        await self._call("DELETE", f"{_volume(volume)}/file?{query.encode(wanted)}")

    async def copy_files(self, volume: str, wanted: api.Copy) -> None:
        await self._call("POST", f"{_volume(volume)}/copy", _content(wanted))

    async def commit_volume(self, name: str) -> None:
        """Return when everything that was written to a volume so far is on the server's disk for good."""
        await self._call("POST", f"{_volume(name)}/commit")

    async def _ask(
        self,
        cls: type[T],
        method: str,
        path: str,
        body: object = None,
        *,
        answer_s: float | None = None,
    ) -> T:
        """Make a request, whose body is a value of the contract; return the answer."""
        response = await self._call(method, path, _content(body), answer_s=answer_s)
        try:
            data = response.json()
        except ValueError:
            raise self._failure(response.status_code, response.text) from None
        return self._read(_as(cls), data)

    async def _call(
        self,
        method: str,
        path: str,
        content: bytes | AsyncIterator[bytes] | None = None,
        *,
        answer_s: float | None = None,
    ) -> httpx.Response:
        timeout = httpx.Timeout(answer_s, connect=CONNECT_S)
        try:
            response = await self._http.request(method, path, content=content, timeout=timeout)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        if response.is_error:
            raise self._failure(response.status_code, response.text)
        return response

    @asynccontextmanager
    async def _stream(
        self, method: str, path: str, body: object = None
    ) -> AsyncIterator[AsyncIterator[Line]]:
        """Make a request; yields the lines of its answer."""
        async with self._answer(method, path, body) as response:
            yield self._lines(response)

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: object = None
    ) -> AsyncIterator[httpx.Response]:
        """Make a request; yields its answer, whose body has not been read."""
        try:
            async with self._http.stream(method, path, content=_content(body)) as response:
                if response.is_error:
                    await response.aread()
                    raise self._failure(response.status_code, response.text)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    async def _lines(self, response: httpx.Response) -> AsyncIterator[Line]:
        """Yield the objects of a stream; raise the error that its last line tells of."""
        try:
            async for text in _split(response.aiter_bytes()):
                try:
                    line: Line = json.loads(text)
                except ValueError:
                    shown = text.decode(errors="replace")
                    raise self._failure(response.status_code, shown) from None
                if line.get("event") == "error":
                    raise _told(self._read(_as(api.Error), line).error)
                yield line
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    async def _events(self, lines: AsyncIterator[Line]) -> AsyncIterator[api.Event]:
        """Yield the events of a stream; those that only a newer homeport knows are left out."""
        async for line in lines:
            if (event := self._read(api.event, line)) is not None:
                yield event

    def _read(self, decode: Callable[[Any], T], data: Any) -> T:
        try:
            return decode(data)
        except (TypeError, ValueError, KeyError, AttributeError):
            raise OtherVersion(
                f"the server at {self._where} is another version of homeport: its answer cannot be read",
                hint="`homeport down` ends it, and `homeport up` starts this version",
            ) from None

    def _failure(self, status: int, text: str) -> Exception:
        """Return the error that an answer tells of, or that it is no answer of homeport's."""
        try:
            return _told(codec.loads(api.Refusal, text).error)
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


def _told(fault: api.Fault) -> Exception:
    if fault.kind == api.BUG:
        return ServerBug(f"{fault.message}\nhint: {fault.hint}")
    return fault.failure()


def _as(cls: type[T]) -> Callable[[Any], T]:
    return functools.partial(codec.decode, cls)


def _volume(name: str) -> str:
    return f"/v1/volumes/{urllib.parse.quote(name, safe='')}"


def _content(body: object) -> bytes | None:
    return codec.dumps(body).encode() if body is not None else None


async def _split(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines. httpx's own would part them at every line separator that a text may hold."""
    rest = bytearray()
    async for piece in pieces:
        rest += piece
        if b"\n" in piece:
            *lines, last = rest.split(b"\n")
            for line in lines:
                yield bytes(line)
            rest = last
    if rest:
        yield bytes(rest)
