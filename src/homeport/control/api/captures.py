"""The routes of captures. They show what visitors have sent, so reading them needs more than `read`."""

from collections.abc import AsyncIterator

from homeport.contract import names
from homeport.contract.api.captures import (
    Capture,
    CapturedInfo,
    CapturedRequest,
    CaptureList,
    CaptureStopped,
    Mirrored,
    MirrorQuery,
    NewCapture,
)
from homeport.contract.captured import Captured
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.permissions import Permission
from homeport.contract.scope import Scope
from homeport.control.api.record import Audited, Record
from homeport.control.api.routing import route
from homeport.control.deploys.apps import Live
from homeport.control.deploys.capturing import Captor, Capturing
from homeport.control.fleet.owner import Owner


class Captures:
    """Captures the requests of endpoints, and shows them."""

    def __init__(self, captor: Captor, live: Live) -> None:
        self._captor, self._live = captor, live

    @route("GET", "/v1/captures", needs=Permission.DEPLOY)
    async def every(self, scope: Scope) -> CaptureList:
        """List what is captured, and what was in the last day."""
        captured = await self._captor.every(scope)
        return CaptureList(
            running=tuple(map(_as_answer, self._captor.running(scope))),
            captured=tuple(map(_info, captured)),
        )

    @route("POST", "/v1/captures", action="capture start")
    async def start(self, scope: Scope, body: NewCapture, record: Record) -> Capture:
        """Capture the requests of an endpoint of a deployed app, for a while. Fields with credentials are not kept."""
        capture = await self._captor.start(
            scope,
            body.app,
            body.tag,
            for_s=body.for_s,
            requests=body.requests,
            body_bytes=body.body_bytes,
        )
        record.target = names.endpoint(capture.app, capture.tag)
        return _as_answer(capture)

    @route("DELETE", "/v1/captures/{app}/{tag}", action="capture stop")
    async def stop(self, scope: Scope, app: str, tag: str) -> CaptureStopped:
        """End a capture; `-` for the tag ends all of the app. What was captured stays for a day."""
        count = await self._captor.stop(scope, app, "" if tag == "-" else tag)
        return CaptureStopped(taken=count)

    @route("GET", "/v1/captures/mirror", needs=Permission.DEPLOY, audit=Audited.ALL)
    async def mirror(self, scope: Scope, query: MirrorQuery) -> AsyncIterator[Mirrored]:
        """Copy a share of an endpoint's requests as long as the answer is read: GET and HEAD, without credentials.

        Nothing of them is stored. Its path means this, and not the request with the id `mirror`.
        """
        return self._copies(scope, query)

    async def _copies(self, scope: Scope, query: MirrorQuery) -> AsyncIterator[Mirrored]:
        lost = 0
        async with self._captor.mirror(scope, query.app, query.tag, query.share) as mirror:
            while (captured := await mirror.next()) is not None:
                yield Mirrored(captured=captured, lost=mirror.lost - lost)
                lost = mirror.lost

    @route("GET", "/v1/captures/{id}", needs=Permission.DEPLOY, audit=Audited.ALL)
    async def one(self, scope: Scope, id: str) -> CapturedRequest:  # noqa: A002 - the path's
        """Show a captured request with its response."""
        captured = await self._captor.find(scope, id)
        if captured is None:
            raise NotFound(
                f"no request with the id `{id[:80]}` was captured in the last day",
                hint="`homeport capture list` has those that were",
            )
        url, local_url = self._urls(scope, captured)
        return CapturedRequest(captured=captured, url=url, local_url=local_url)

    def _urls(self, scope: Scope, captured: Captured) -> tuple[str, str]:
        live = self._live.get(Owner.app(scope, captured.app))
        for endpoint in live.endpoints.values() if live is not None else ():
            if endpoint.url and endpoint.tag == captured.tag:
                return endpoint.url, endpoint.local_url
        return "", ""


class Captors:
    """Takes the requests that containers have captured."""

    def __init__(self, captor: Captor) -> None:
        self._captor = captor

    @route("POST", "/v1/captures/{token}", audit=Audited.NONE)
    async def take(self, scope: Scope, token: str, body: AsyncIterator[bytes]) -> None:
        """Keep a request that a container has captured, if that was asked of it."""
        most, data = self._captor.limit(scope, token), bytearray()
        async for chunk in body:
            data += chunk
            if len(data) > most:
                raise BadRequest("the captured request is larger than it may be")
        await self._captor.take(scope, token, bytes(data))


def _as_answer(capturing: Capturing) -> Capture:
    return Capture(
        app=capturing.app,
        tag=capturing.tag,
        until=0.0 if capturing.share is not None else capturing.until,
        share=capturing.share,
        taken=capturing.taken,
        left=capturing.left,
        body_bytes=capturing.body_bytes,
    )


def _info(captured: Captured) -> CapturedInfo:
    return CapturedInfo(
        id=captured.id,
        at=captured.at,
        app=captured.app,
        tag=captured.tag,
        version=captured.version,
        method=captured.method,
        target=captured.target,
        status=captured.status,
        took_ms=captured.took_ms,
    )
