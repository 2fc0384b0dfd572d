"""Captures the requests of an endpoint for a while: the ingress tells the containers, which send copies.

A container is not trusted. It gets a token with each request that is to be captured. The data that it sends with that
token is limited in size and number, belongs to the one endpoint, and is stored without credentials. A capture ends by itself, and
with the server.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import field

from homeport.contract import names, shape
from homeport.contract.captured import (
    CREDENTIALS,
    HEAD_BYTES,
    MOST_BODY_BYTES,
    OF,
    SAFE,
    Captured,
)
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.scope import Scope
from homeport.control.deploys.apps import LiveApp
from homeport.control.deploys.deployer import Deployer
from homeport.control.deploys.domains import endpoint_of
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.redacting import redacted
from homeport.control.fleet.owner import Owner
from homeport.hidden import HIDDEN
from homeport.state.captures import Captures
from homeport.supervised import Tasks, supervised

LOOK_S = 1.0
SWEEP_EACH_S = 600.0
LONGEST_S = 24 * 3600.0
MOST_REQUESTS = 10_000
MIRRORED_BYTES = 64 * 1024  # of a response that is compared
MOST_AT_ONCE = 100  # captures on one server
COPIES = 20  # of a mirror, that wait for its command

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
    share: int | None = None  # of a mirror: so many of `OF`; None: it is stored
    copies: "asyncio.Queue[Captured]" = field(default_factory=lambda: asyncio.Queue(COPIES))
    lost: int = 0  # copies for which there was no room
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    is_forgotten: bool = False  # its app was stopped: what is still being written is not wanted
    is_overdue: bool = False  # the ingress has failed to end it, and the log says so

    @property
    def order(self) -> str:
        """The order that containers get."""
        text = f"{self.token}.{self.body_bytes}"
        return text if self.share is None else f"{text}.{self.share}"

    async def next(self) -> Captured | None:
        """Return the next copy of a mirror; None when it is over."""
        ended = asyncio.ensure_future(self.is_over.wait())
        next_copy = asyncio.ensure_future(self.copies.get())
        try:
            await asyncio.wait({ended, next_copy}, return_when=asyncio.FIRST_COMPLETED)
            return next_copy.result() if next_copy.done() else None
        finally:
            ended.cancel()
            next_copy.cancel()

    def most_bytes(self) -> int:
        """Return how long a message of a container may be: both bodies in Base64, and the heads."""
        return 2 * (2 * self.body_bytes + HEAD_BYTES)


class Captor:
    """The endpoints that are captured now, and the requests that were captured."""

    def __init__(self, parts: Parts, captures: Captures, names: Collection[str]) -> None:
        """`names` are fields that are removed besides the usual ones."""
        self._parts = parts
        self.kept = captures
        self._names = frozenset(names)
        self._running: dict[str, Capturing] = {}  # by token
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()  # set when a capture begins
        self._tasks = Tasks()

    def open(self) -> None:
        """Start the task that ends captures whose time is over."""
        self._tasks.start("captures", supervised("captures", self._look))
        self._tasks.start("old captures", supervised("old captures", self._sweep))

    async def close(self) -> None:
        """End every capture."""
        await self._tasks.close()
        for capturing in list(self._running.values()):
            await self._try_to_end(capturing)

    async def every(self, scope: Scope) -> list[Captured]:
        """Return the captured requests of an environment, the oldest first."""
        return await asyncio.to_thread(self.kept.every, scope)

    async def find(self, scope: Scope, request: str) -> Captured | None:
        """Return a captured request; None if there is none."""
        return await asyncio.to_thread(self.kept.find, scope, request)

    def running(self, scope: Scope) -> list[Capturing]:
        """Return the running captures of an environment."""
        return [capturing for capturing in self._running.values() if capturing.scope == scope]

    async def start(
        self, scope: Scope, app: str, tag: str, *, for_s: float, requests: int, body_bytes: int
    ) -> Capturing:
        """Capture an endpoint of a deployed app; a capture of it that runs is replaced."""
        if not 0 < for_s <= LONGEST_S or not 0 < requests <= MOST_REQUESTS:
            raise BadRequest(f"a capture takes a day and {MOST_REQUESTS} requests at most")
        if not 0 <= body_bytes <= MOST_BODY_BYTES:
            raise BadRequest(f"at most {MOST_BODY_BYTES} bytes of a body are captured")
        new = self._new(scope, app, tag, body_bytes)
        new.until, new.left = time.time() + for_s, requests
        await self._begin(new)
        return new

    @contextlib.asynccontextmanager
    async def mirror(
        self, scope: Scope, app: str, tag: str, share: int
    ) -> AsyncIterator[Capturing]:
        """Copy a share of an endpoint's safe requests, as long as the block lasts. Nothing is stored."""
        if not 0 < share <= OF:
            raise BadRequest(f"a share is a number from 1 to {OF}")
        new = self._new(scope, app, tag, MIRRORED_BYTES)
        new.share = share
        await self._begin(new)
        try:
            yield new
        finally:  # the caller may be cancelled already, so this continues without it
            new.left = 0
            self._tasks.start("the end of a mirror", self._try_to_end(new))

    def _new(self, scope: Scope, app: str, tag: str, body_bytes: int) -> Capturing:
        live = self._parts.live.get(Owner.app(scope, app))
        if live is None:
            raise NotFound(f"the app `{app[:80]}` is not deployed", hint="deploy it first")
        endpoint = endpoint_of(live, tag)
        function = endpoint.endpoint.pool.function
        spec = next(spec_ for spec_ in live.revision.manifest.functions if spec_.name == function)
        if spec.restrict_modal_access:
            raise BadRequest(
                f"`{function}` has `restrict_modal_access=True`, so its containers cannot send what they capture"
            )
        return Capturing(
            scope=scope,
            app=app,
            tag=endpoint.tag,
            endpoint=endpoint.endpoint.id,
            function=function,
            until=math.inf,
            left=1,
            body_bytes=body_bytes,
        )

    async def _begin(self, new: Capturing) -> None:
        """Begin a capture; one of the same endpoint ends, unless one of the two is a mirror."""
        async with self._turn:
            before = [
                capturing
                for capturing in self._running.values()
                if capturing.endpoint == new.endpoint
            ]
            if any(earlier.share is not None or new.share is not None for earlier in before):
                target = names.endpoint(new.app, new.tag)
                raise BadRequest(
                    f"`{target}` is captured or mirrored already",
                    hint=f"end that first: `homeport capture stop {target}`",
                )
            if len(self._running) - len(before) >= MOST_AT_ONCE:
                raise BadRequest(f"{MOST_AT_ONCE} endpoints are captured already")
            # Register first, then tell the ingress: a container may send its first request at once.
            self._running[new.token] = new
            try:
                await self._parts.ingress.capture(new.endpoint, new.order)
            except BaseException:
                del self._running[new.token]
                raise
            for earlier in before:
                del self._running[earlier.token]
                earlier.is_over.set()
        self._news.set()

    async def stop(self, scope: Scope, app: str, tag: str) -> int:
        """End the captures of an app, or of one endpoint; return how many requests they have taken."""
        matching = [
            capturing
            for capturing in self.running(scope)
            if capturing.app == app and tag in ("", capturing.tag)
        ]
        if not matching:
            raise NotFound(f"nothing of `{app[:80]}` is captured")
        for capturing in matching:
            await self._end(capturing)
        return sum(capturing.taken for capturing in matching)

    def limit(self, scope: Scope, token: str) -> int:
        """Return how many bytes a container may send with this token; `NotFound` if it is over."""
        return self._of(scope, token).most_bytes()

    async def take(self, scope: Scope, token: str, body: bytes) -> None:
        """Keep a request that a container has captured."""
        capturing = self._of(scope, token)
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            raise BadRequest("the body is not JSON") from None
        captured = shape.read(Captured, data, "body")
        heads = (*captured.request.fields, *captured.response.fields)
        line_bytes = len(captured.method) + len(captured.target)
        head_bytes = line_bytes + sum(len(name) + len(value) for name, value in heads)
        bodies = (captured.request.body, captured.response.body)
        if head_bytes > HEAD_BYTES or any(len(part) > capturing.body_bytes for part in bodies):
            raise BadRequest("the captured request is larger than it may be")
        live = self._parts.live.get(Owner.app(scope, capturing.app))
        if live is None:  # then its secrets are not known, and could not be hidden
            raise NotFound("this capture is over")
        captured = dataclasses.replace(
            captured,
            app=capturing.app,
            tag=capturing.tag,
            version=live.revision.version,
            at=min(max(captured.at, 0.0), time.time()),
        )
        values = self._secrets(live, capturing)

        if capturing.share is not None:
            _copy(capturing, redacted(captured, values, self._names))
            return

        def keep() -> bool:
            hidden = redacted(captured, values, self._names)
            return self.kept.add(scope, hidden, is_wanted=lambda: not capturing.is_forgotten)

        capturing.left -= 1  # before the disk is asked, so that no more come than may
        if await asyncio.to_thread(keep):
            capturing.taken += 1
        if capturing.left <= 0:
            await self._end(capturing)

    async def forget(self, scope: Scope, app: str) -> None:
        """Delete the captured requests of an app that was stopped, and take no more, whatever the ingress does."""
        matching = [capturing for capturing in self.running(scope) if capturing.app == app]
        for capturing in matching:
            capturing.left, capturing.is_forgotten = 0, True
        await asyncio.to_thread(self.kept.remove_app, scope, app)
        for capturing in matching:
            await self._try_to_end(capturing)

    def _of(self, scope: Scope, token: str) -> Capturing:
        capturing = self._running.get(token)
        if capturing is None or capturing.scope != scope or self._is_over(capturing):
            raise NotFound("this capture is over")
        return capturing

    def _is_over(self, capturing: Capturing) -> bool:
        return capturing.left <= 0 or time.time() >= capturing.until

    def _secrets(self, live: LiveApp, capturing: Capturing) -> list[str]:
        """Return the values of the secrets that the function has, in each version of which containers run."""
        box = self._parts.secrets.of(capturing.scope)
        specs = [s for s in live.revision.manifest.functions if s.name == capturing.function]
        for pool in self._parts.pools:
            is_the_function = pool.key.function == capturing.function
            if pool.owner == live.owner and is_the_function and pool.members:
                specs.append(pool.function)
        return [value for spec in specs for value in box.environ(spec).values()]

    async def _end(self, capturing: Capturing) -> None:
        async with self._turn:
            if self._running.get(capturing.token) is not capturing:
                return
            await self._parts.ingress.capture(capturing.endpoint, None)
            del self._running[capturing.token]
            capturing.is_over.set()

    async def _try_to_end(self, capturing: Capturing) -> None:
        """End a capture; if the ingress fails, `_look` tries again."""
        try:
            await self._end(capturing)
        except Exception as error:
            if not capturing.is_overdue:
                log.warning("the capture of `%s` does not end yet: %s", capturing.endpoint, error)
            capturing.is_overdue = True

    async def _look(self) -> None:
        while True:
            if not self._running:
                self._news.clear()
                await self._news.wait()
            await asyncio.sleep(LOOK_S)
            for capturing in list(self._running.values()):
                is_removed = self._parts.endpoints.endpoint(capturing.endpoint) is None
                if self._is_over(capturing) or is_removed:
                    await self._try_to_end(capturing)

    async def _sweep(self) -> None:
        while True:
            await asyncio.to_thread(self.kept.sweep)
            await asyncio.sleep(SWEEP_EACH_S)


def _copy(mirror: Capturing, captured: Captured) -> None:
    """Give a mirror's command a copy, if the request is safe and had no credentials; the container's word is not
    trusted.
    """
    if captured.method not in SAFE or HIDDEN in captured.target:
        return
    if not CREDENTIALS.isdisjoint(captured.removed):
        return
    try:
        mirror.copies.put_nowait(captured)
        mirror.taken += 1
    except asyncio.QueueFull:
        mirror.lost += 1


def new_captor(parts: Parts, deployer: Deployer) -> Captor:
    """Return a captor, which forgets the captured requests of an app that is stopped."""
    settings = parts.settings
    names = [name for name in settings.capture_removes.split(",") if name]
    captor = Captor(parts, Captures(settings.home / "captures"), names)

    async def stopped(owner: Owner) -> None:
        if owner.is_app:
            await captor.forget(owner.scope, owner.name)

    deployer.stopped = stopped
    return captor
