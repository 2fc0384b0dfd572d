"""Captures the requests of an endpoint for a while: says so to the ingress, and keeps what containers send.

A container is not trusted: it gets a token with each request that is to be captured, and what it sends with that token is
bounded in size and number, belongs to the one endpoint, and is stored without credentials. A capture ends by itself, and
with the server.
"""

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import Collection
from dataclasses import field

from homeport.contract import codec
from homeport.contract.captured import HEAD_BYTES, MOST_BODY_BYTES, Captured
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, Failure, NotFound
from homeport.contract.scope import Scope
from homeport.control.deploys.deployer import Deployer
from homeport.control.deploys.domains import endpoint_of
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.redacting import redacted
from homeport.control.fleet.owner import Owner
from homeport.state.captures import Captures
from homeport.supervised import Tasks, supervised

LOOK_S = 1.0
SWEEP_EACH_S = 600.0
LONGEST_S = 24 * 3600.0
MOST_REQUESTS = 10_000
MOST_AT_ONCE = 100  # captures on one server

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Capturing:
    """One endpoint that is captured."""

    scope: Scope
    app: str
    tag: str
    endpoint: str
    function: str
    until: float
    left: int
    body_bytes: int
    taken: int = 0
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def most_bytes(self) -> int:
        """Return how long a message of a container may be: both bodies in Base64, and the heads."""
        return 2 * (2 * self.body_bytes + HEAD_BYTES)


class Captor:
    """The endpoints that are captured now, and what was captured."""

    def __init__(self, parts: Parts, kept: Captures, names: Collection[str]) -> None:
        """`names` are fields that are removed besides the usual ones."""
        self._parts = parts
        self.kept = kept
        self._names = frozenset(names)
        self._running: dict[str, Capturing] = {}  # by token
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()  # set when a capture begins
        self._tasks = Tasks()

    def open(self) -> None:
        """Begin to end captures that are over."""
        self._tasks.start("captures", supervised("captures", self._look))
        self._tasks.start("old captures", supervised("old captures", self._sweep))

    async def close(self) -> None:
        """End every capture."""
        await self._tasks.close()
        for each in list(self._running.values()):
            with contextlib.suppress(Failure):
                await self._end(each)

    async def every(self, scope: Scope) -> list[Captured]:
        """Return what was captured in an environment, the oldest first."""
        return await asyncio.to_thread(self.kept.every, scope)

    async def find(self, scope: Scope, request: str) -> Captured | None:
        """Return a captured request; None if there is none."""
        return await asyncio.to_thread(self.kept.find, scope, request)

    def running(self, scope: Scope) -> list[Capturing]:
        """Return what is captured in an environment."""
        return [each for each in self._running.values() if each.scope == scope]

    async def start(
        self, scope: Scope, app: str, tag: str, *, for_s: float, requests: int, body_bytes: int
    ) -> Capturing:
        """Capture an endpoint of a deployed app; a capture of it that runs is replaced."""
        if not 0 < for_s <= LONGEST_S or not 0 < requests <= MOST_REQUESTS:
            raise BadRequest(f"a capture takes a day and {MOST_REQUESTS} requests at most")
        if not 0 <= body_bytes <= MOST_BODY_BYTES:
            raise BadRequest(f"at most {MOST_BODY_BYTES} bytes of a body are captured")
        live = self._parts.live.get(Owner.app(scope, app))
        if live is None:
            raise NotFound(f"the app `{app[:80]}` is not deployed", hint="deploy it first")
        endpoint = endpoint_of(live, tag)
        function = endpoint.endpoint.pool.function
        spec = next(each for each in live.revision.manifest.functions if each.name == function)
        if spec.restrict_modal_access:
            raise BadRequest(
                f"`{function}` has `restrict_modal_access=True`, so its containers cannot send what they capture"
            )
        made = Capturing(
            scope=scope,
            app=app,
            tag=endpoint.tag,
            endpoint=endpoint.endpoint.id,
            function=function,
            until=time.time() + for_s,
            left=requests,
            body_bytes=body_bytes,
        )
        async with self._turn:
            before = [each for each in self._running.values() if each.endpoint == made.endpoint]
            if len(self._running) - len(before) >= MOST_AT_ONCE:
                raise BadRequest(f"{MOST_AT_ONCE} endpoints are captured already")
            # First known, then told: a container may send its first request at once.
            self._running[made.token] = made
            try:
                await self._parts.ingress.capture(made.endpoint, f"{made.token}.{body_bytes}")
            except BaseException:
                del self._running[made.token]
                raise
            for each in before:
                del self._running[each.token]
        self._news.set()
        return made

    async def stop(self, scope: Scope, app: str, tag: str) -> int:
        """End the captures of an app, or of one endpoint; return how many requests they have taken."""
        found = [each for each in self.running(scope) if each.app == app and tag in ("", each.tag)]
        if not found:
            raise NotFound(f"nothing of `{app[:80]}` is captured")
        for each in found:
            await self._end(each)
        return sum(each.taken for each in found)

    def limit(self, scope: Scope, token: str) -> int:
        """Return how many bytes a container may send with this token; `NotFound` if it is over."""
        return self._of(scope, token).most_bytes()

    async def take(self, scope: Scope, token: str, body: bytes) -> None:
        """Keep a request that a container has captured."""
        capturing = self._of(scope, token)
        try:
            captured = codec.loads(Captured, body)
        except (ValueError, TypeError, KeyError) as error:
            raise BadRequest(f"this is not a captured request: {error}") from None
        heads = (*captured.request.fields, *captured.response.fields)
        head_bytes = len(captured.target) + sum(len(name) + len(value) for name, value in heads)
        bodies = (captured.request.body, captured.response.body)
        if head_bytes > HEAD_BYTES or any(len(each) > capturing.body_bytes for each in bodies):
            raise BadRequest("the captured request is larger than it may be")
        live = self._parts.live.get(Owner.app(scope, capturing.app))
        version = live.revision.version if live is not None else 0
        captured = dataclasses.replace(
            captured, app=capturing.app, tag=capturing.tag, version=version
        )
        values = self._secrets(capturing)

        def keep() -> bool:
            return self.kept.add(scope, redacted(captured, values, self._names))

        capturing.left -= 1  # before the disk is asked, so that no more come than may
        if await asyncio.to_thread(keep):
            capturing.taken += 1
        if capturing.left <= 0:
            await self._end(capturing)

    async def forget(self, scope: Scope, app: str) -> None:
        """Delete what was captured of an app that was stopped."""
        with contextlib.suppress(NotFound):
            await self.stop(scope, app, "")
        await asyncio.to_thread(self.kept.remove_app, scope, app)

    def _of(self, scope: Scope, token: str) -> Capturing:
        capturing = self._running.get(token)
        if capturing is None or capturing.scope != scope or capturing.left <= 0:
            raise NotFound("this capture is over")
        return capturing

    def _secrets(self, capturing: Capturing) -> list[str]:
        """Return the values of the secrets that the function has."""
        live = self._parts.live.get(Owner.app(capturing.scope, capturing.app))
        if live is None:
            return []
        box = self._parts.secrets.of(capturing.scope)
        specs = [s for s in live.revision.manifest.functions if s.name == capturing.function]
        return [value for spec in specs for value in box.environ(spec).values()]

    async def _end(self, capturing: Capturing) -> None:
        async with self._turn:
            if self._running.get(capturing.token) is not capturing:
                return
            await self._parts.ingress.capture(capturing.endpoint, None)
            del self._running[capturing.token]

    async def _look(self) -> None:
        while True:
            if not self._running:
                self._news.clear()
                await self._news.wait()
            await asyncio.sleep(LOOK_S)
            now = time.time()
            for each in list(self._running.values()):
                gone = self._parts.endpoints.endpoint(each.endpoint) is None
                if now >= each.until or each.left <= 0 or gone:
                    await self._end(each)

    async def _sweep(self) -> None:
        while True:
            await asyncio.to_thread(self.kept.sweep)
            await asyncio.sleep(SWEEP_EACH_S)


def made(parts: Parts, deployer: Deployer) -> Captor:
    """Return a captor, which forgets the captured requests of an app that is stopped."""
    settings = parts.settings
    names = [name for name in settings.capture_removes.split(",") if name]
    captor = Captor(parts, Captures(settings.home / "captures"), names)

    async def stopped(owner: Owner) -> None:
        if owner.is_app:
            await captor.forget(owner.scope, owner.name)

    deployer.stopped = stopped
    return captor
