"""The routes of spawned calls, for containers, commands and scripts."""

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response

from homeport.contract import query
from homeport.contract.api.spawned import (
    CallInfo,
    CallList,
    CallsQuery,
    CancelQuery,
    NewCall,
    OutcomeQuery,
    Report,
    Reported,
    StoredCall,
)
from homeport.contract.container import HERE
from homeport.contract.errors import AlreadyExists, BadRequest, Failure, Forbidden, NodeLost
from homeport.control.api import answers, bodies, bounds
from homeport.control.api.access import Caller
from homeport.control.api.record import Audited
from homeport.control.api.routing import route
from homeport.control.calls import varied
from homeport.control.calls.spawned import Spawned
from homeport.state.calls import CANCELLED, DONE, FAILED, RUNNING, WAITING, CallRow, Outcome
from homeport.state.scope import Scope

#: A call of several inputs is in the first of these states that one of them is in.
_ORDER = (RUNNING, WAITING, CANCELLED, FAILED, DONE)
_TOLD_KINDS = ("value", "error", "timeout")  # that a container may report
MOST_REPORTS = 1000
MOST_TRACE = 600  # characters: a `traceparent` and 512 of `tracestate`


class Spawns:
    """Keeps spawned calls, with their inputs and outcomes."""

    def __init__(
        self,
        spawned: Spawned,
        stop_container: Callable[[Scope, str], object],
        holder_of: Callable[[str], str | None],
    ) -> None:
        """`holder_of` returns the node that has a container; None if no node has it."""
        self._spawned = spawned
        self._stop_container = stop_container
        self._holder_of = holder_of
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
            trace=query.trace[:MOST_TRACE],
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
        return CallInfo(state=state, inputs=tuple(map(_as_answer, rows)))

    @route("GET", "/v1/spawned/{id}/children")
    async def children(self, scope: Scope, id: str) -> CallList:  # noqa: A002
        """List the calls that a call has made."""
        rows = await self._spawned.rows.of(scope).children(id)
        return CallList(calls=tuple(map(_as_answer, rows)))

    @route("GET", "/v1/spawned/{id}/outcome")
    async def outcome(self, scope: Scope, id: str, query: OutcomeQuery) -> Response:  # noqa: A002
        """Return a call's outcome: its kind, the Python that wrote it, and its body; empty before the call has ended."""
        place, wait_s = bounds.number("place", query.place), bounds.wait_s(query.wait_s)
        result = await self._spawned.outcome(scope, id, place, wait_s)
        parts = (
            [] if result is None else [result.kind.encode(), result.python.encode(), result.body]
        )
        return answers.parts_of(parts)

    @route("POST", "/v1/spawned/{id}/cancel", audit=Audited.USERS, action="call cancel")
    async def cancel(self, scope: Scope, id: str, query: CancelQuery) -> None:  # noqa: A002
        """Cancel a call; inputs that have ended keep their outcome."""
        for row in await self._spawned.cancel(scope, id):
            if query.terminate and row.container:
                self._stop_container(scope, row.container)

    @route("POST", "/v1/spawned/reports", audit=Audited.NONE)
    async def report(self, scope: Scope, caller: Caller, body: AsyncIterator[bytes]) -> Reported:
        """Take what a container says of its attempts, several at once: what it claims, and how others ended.

        The body has two parts for each report: a [`Report`](#report) as a query string, and the outcome. The container
        that asks first gets an attempt, also if it asks again; an outcome of an attempt that is over is ignored. All of it
        is on the disk when this answers.
        """
        parts = await self._bodies.parts(body)
        if len(parts) % 2 or len(parts) > 2 * MOST_REPORTS:
            raise BadRequest(f"a report has two parts, and at most {MOST_REPORTS} come at once")
        reports = (
            self._take_report(scope, caller.node, query.parsed(Report, head), outcome)
            for head, outcome in zip(parts[::2], parts[1::2], strict=True)
        )
        return Reported(statuses=tuple(await asyncio.gather(*reports)))

    async def _take_report(self, scope: Scope, node: str, report_: Report, content: bytes) -> int:
        """Take one report; return its status."""
        try:
            place = bounds.number("place", report_.place)
            attempt = bounds.number("attempt", report_.attempt)
            if not report_.kind:
                self._check_node(report_.container, node)
                claimed = self._spawned.claim(
                    scope, report_.call, place, attempt, report_.container
                )
                return 200 if await claimed else AlreadyExists.status
            if report_.kind not in _TOLD_KINDS:
                raise BadRequest(f"`kind` must be one of {', '.join(_TOLD_KINDS)}")
            outcome = Outcome(kind=report_.kind, python=report_.python, body=content)
            await self._spawned.ended(scope, report_.call, place, attempt, outcome)
        except Failure as failure:
            return failure.status
        return 200

    def _check_node(self, container: str, node: str) -> None:
        """Raise a failure if a container that claims an attempt is not of the node that asks."""
        its_node = self._holder_of(container)
        if its_node is None and node != HERE:
            # Perhaps this server has just started. The container asks again, and may not run the call before.
            raise NodeLost(f"the node `{node}` has not reported this container")
        if its_node is not None and its_node != node:
            raise Forbidden("this container runs on another machine")


class SpawnList:
    """Lists every call: for the user alone, because a call's id is all that one needs to read its outcome."""

    def __init__(self, spawned: Spawned) -> None:
        self._spawned = spawned

    @route("GET", "/v1/spawned")
    async def every(self, scope: Scope, query: CallsQuery) -> CallList:
        """List calls, the newest first."""
        rows = await self._spawned.rows.of(scope).latest(query.app, query.state, query.tail)
        return CallList(calls=tuple(map(_as_answer, rows)))


def _as_answer(row: CallRow) -> StoredCall:
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
