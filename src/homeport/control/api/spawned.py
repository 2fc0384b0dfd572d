"""The routes of spawned calls, for containers, commands and scripts."""

from collections.abc import AsyncIterator, Callable

from starlette.responses import Response

from homeport.contract.api.spawned import (
    AttemptQuery,
    CallInfo,
    CallList,
    CallsQuery,
    CancelQuery,
    NewCall,
    OutcomeQuery,
    StoredCall,
)
from homeport.contract.errors import AlreadyExists, BadRequest
from homeport.control.api import answers, bodies, bounds
from homeport.control.api.record import Audited
from homeport.control.api.routing import route
from homeport.control.calls import varied
from homeport.control.calls.spawned import Spawned
from homeport.state.calls import CANCELLED, DONE, FAILED, RUNNING, WAITING, CallRow, Outcome
from homeport.state.scope import Scope

#: A call of several inputs is in the first of these states that one of them is in.
_ORDER = (RUNNING, WAITING, CANCELLED, FAILED, DONE)
_TOLD_KINDS = ("value", "error", "timeout")  # that a container may report


class Spawns:
    """Keeps spawned calls, with their inputs and outcomes."""

    def __init__(self, spawned: Spawned, stop_container: Callable[[Scope, str], object]) -> None:
        self._spawned = spawned
        self._stop_container = stop_container
        self._bodies = bodies.Bodies()

    @route("POST", "/v1/spawned", audit=Audited.NONE)
    async def spawn(self, scope: Scope, query: NewCall, body: AsyncIterator[bytes]) -> None:
        """Make a call; it is on the disk when this answers."""
        row = CallRow(
            id=query.id,
            endpoint="",
            app=query.app,
            tag=query.function,
            parameters=query.parameters,
            parent=query.parent,
            python=query.python,
            workspace=scope.workspace,
            environment=scope.environment,
        )
        inputs = await self._bodies.parts(body)
        options = varied.read(inputs.pop(0), query.variant) if query.variant and inputs else None
        await self._spawned.spawn(row, query.scope, inputs, options)

    @route("GET", "/v1/spawned/{id}")
    async def one(self, scope: Scope, id: str) -> CallInfo:  # noqa: A002 - the path's
        """Describe a call."""
        rows = await self._spawned.rows.of(scope).find(id)
        state = next(state for state in _ORDER if any(row.state == state for row in rows))
        return CallInfo(state=state, inputs=tuple(map(_told, rows)))

    @route("GET", "/v1/spawned/{id}/children")
    async def children(self, scope: Scope, id: str) -> CallList:  # noqa: A002
        """List the calls that a call has made."""
        rows = await self._spawned.rows.of(scope).children(id)
        return CallList(calls=tuple(map(_told, rows)))

    @route("GET", "/v1/spawned/{id}/outcome")
    async def outcome(self, scope: Scope, id: str, query: OutcomeQuery) -> Response:  # noqa: A002
        """Return a call's outcome: its kind, the Python that wrote it, and its body; empty before the call has ended."""
        place, wait_s = bounds.number("place", query.place), bounds.wait_s(query.wait_s)
        found = await self._spawned.outcome(scope, id, place, wait_s)
        parts = [] if found is None else [found.kind.encode(), found.python.encode(), found.body]
        return answers.parts_of(parts)

    @route("POST", "/v1/spawned/{id}/cancel", audit=Audited.USERS, action="call cancel")
    async def cancel(self, scope: Scope, id: str, query: CancelQuery) -> None:  # noqa: A002
        """Cancel a call; inputs that have ended keep their outcome."""
        for row in await self._spawned.cancel(scope, id):
            if query.terminate and row.container:
                self._stop_container(scope, row.container)

    @route("POST", "/v1/spawned/{id}/claim", audit=Audited.NONE)
    async def claim(self, scope: Scope, id: str, query: AttemptQuery) -> None:  # noqa: A002
        """Give an attempt to the container that asks first: 409 for the others."""
        place, attempt = (
            bounds.number("place", query.place),
            bounds.number("attempt", query.attempt),
        )
        if not await self._spawned.claim(scope, id, place, attempt, query.container):
            raise AlreadyExists("this attempt is another container's, or is over")

    @route("POST", "/v1/spawned/{id}/outcome", audit=Audited.NONE)
    async def end(
        self,
        scope: Scope,
        id: str,  # noqa: A002
        query: AttemptQuery,
        body: AsyncIterator[bytes],
    ) -> None:
        """Save how an attempt ended; ignored if it is over."""
        if query.kind not in _TOLD_KINDS:
            raise BadRequest(f"`kind` must be one of {', '.join(_TOLD_KINDS)}")
        place, attempt = (
            bounds.number("place", query.place),
            bounds.number("attempt", query.attempt),
        )
        content = await self._bodies.whole(body)
        outcome = Outcome(kind=query.kind, python=query.python, body=content)
        await self._spawned.ended(scope, id, place, attempt, outcome)


class SpawnList:
    """Lists every call: for the user alone, because a call's id is all that one needs to read its outcome."""

    def __init__(self, spawned: Spawned) -> None:
        self._spawned = spawned

    @route("GET", "/v1/spawned")
    async def every(self, scope: Scope, query: CallsQuery) -> CallList:
        """List calls, the newest first."""
        rows = await self._spawned.rows.of(scope).latest(query.app, query.state, query.tail)
        return CallList(calls=tuple(map(_told, rows)))


def _told(row: CallRow) -> StoredCall:
    return StoredCall(
        id=row.id,
        place=row.place,
        app=row.app,
        function=row.tag,
        state=row.state,
        attempt=row.attempt,
        container=row.container,
        parent=row.parent,
        note=row.note,
        outcome=row.kind,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
