"""The routes of the requests that have ended."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence

from homeport.contract import codec, recorded, tracing
from homeport.contract.api.coldstarts import ColdStart
from homeport.contract.api.requests import (
    LiveQuery,
    LiveRequests,
    RecordedRequest,
    RequestDetail,
    RequestList,
    RequestQuery,
)
from homeport.contract.container import LogLine
from homeport.contract.errors import BadRequest, NotFound, StorageError
from homeport.contract.recorded import (
    CONTAINER,
    ENDED,
    HOW,
    ID,
    METHOD,
    PARKED,
    STATUS,
    TARGET,
    TOTAL,
    TRACE,
)
from homeport.contract.scope import Scope
from homeport.control.api.routing import route
from homeport.control.api.view import cold_start
from homeport.state import coldstarts, logs, requests
from homeport.state.marks import Kept
from homeport.state.store import Stores

MOST = 10_000  # requests in one answer
AT_ONCE = 500  # of a stream, for which the versions are looked up together
LINES = 1_000  # of the log, of one request


class Requests:
    """Lists requests, and shows one."""

    def __init__(
        self,
        records: requests.Requests,
        store: Stores,
        cold_starts: coldstarts.ColdStarts,
        printed: logs.Logs,
    ) -> None:
        self._records = records
        self._store = store
        self._cold_starts = cold_starts
        self._logs = printed

    @route("GET", "/v1/requests")
    async def every(self, scope: Scope, query: RequestQuery) -> RequestList:
        """List requests that have ended, the last to end last. No more than 10,000."""
        wants = _filter(query)
        count = min(query.tail, MOST)
        records = await asyncio.to_thread(self._records.search, scope, count, wants, query.since)
        return RequestList(requests=await self._as_answers(scope, records))

    @route("GET", "/v1/requests/live")
    async def live(self, scope: Scope, query: LiveQuery) -> AsyncIterator[LiveRequests]:
        """Follow the requests that end from now on; each comes about a second after its end.

        Its path means this, and not the request with the id `live`.
        """
        return self._follow(scope, _filter(query), min(query.tail, MOST))

    async def _follow(
        self, scope: Scope, wants: requests.Wanted, tail: int
    ) -> AsyncIterator[LiveRequests]:
        versions: dict[str, int] = {}
        sent_ids: set[str] = set()
        with self._records.following(scope, wants) as follower:
            if tail:
                last_records = await asyncio.to_thread(self._records.search, scope, tail, wants)
                sent_ids = {record.request.id for record in last_records}
                yield LiveRequests(requests=await self._as_answers(scope, last_records, versions))
            while True:
                ended, lost = await follower.next(AT_ONCE)
                # One may have ended while the last ones were looked up.
                new = [record for record in ended if record.request.id not in sent_ids]
                if new or lost:
                    yield LiveRequests(
                        requests=await self._as_answers(scope, new, versions), lost=lost
                    )

    @route("GET", "/v1/requests/{id}")
    async def one(self, scope: Scope, id: str) -> RequestDetail:  # noqa: A002 - the path's
        """Show a request, what the container that it waited for did, and the lines that were printed for it."""
        record = await asyncio.to_thread(self._records.find, scope, id)
        if record is None:
            raise NotFound(
                f"no request with the id `{id}` is kept",
                hint="the id is the response's `X-Request-Id`; a request is recorded a second after its end",
            )
        (request,) = await self._as_answers(scope, [record])

        def wants(line: LogLine) -> bool:
            return line.request == id

        printed = await self._logs.tail(
            scope, record.app, LINES, wants, {"request": id}, request.at
        )
        return RequestDetail(
            request=request,
            start=await self._start(scope, record) if request.cold else None,
            lines=tuple(codec.loads(LogLine, line) for line in printed),
        )

    async def _start(self, scope: Scope, record: Kept) -> ColdStart | None:
        """Return the start of the container that a request waited for."""
        container = record.request.container
        start = await self._cold_starts.of_container(scope, record.app, container)
        return cold_start(start) if start else None

    async def _as_answers(
        self, scope: Scope, records: Sequence[Kept], versions: dict[str, int] | None = None
    ) -> tuple[RecordedRequest, ...]:
        """Return requests as the API has them; `versions` are those of revisions that were read before."""
        numbers = {} if versions is None else versions
        unknown = {
            record.app for record in records if record.revision and record.revision not in numbers
        }
        with contextlib.suppress(StorageError):  # then they are shown without their versions
            for app in unknown:
                numbers.update(await self._store.of(scope).numbers(app))
        return tuple(_request(record, numbers.get(record.revision)) for record in records)


def _request(record: Kept, version: int | None) -> RecordedRequest:
    request = record.request
    return RecordedRequest(
        id=request.id,
        kind=request.kind,
        at=request.at,
        app=record.app,
        tag=record.tag,
        version=version,
        container=request.container,
        node=record.node,
        method=request.method,
        path=request.path,
        query=request.query,
        client=request.client,
        status=request.status,
        received_bytes=request.received_bytes,
        sent_bytes=request.sent_bytes,
        total_ms=request.duration_ms,
        parts_ms=request.parts_ms,
        cold=request.cold,
        ended=request.ended,
        trace=request.trace.id if request.trace is not None else "",
    )


def _filter(query: RequestQuery | LiveQuery) -> requests.Wanted:
    """Return the function that chooses requests; it reads only the fields that the query names."""
    checks: list[Callable[[Sequence[str], str, str], bool]] = []
    if query.app:
        checks.append(lambda _words, app, _tag: app == query.app)
    if query.tag:
        checks.append(lambda _words, _app, tag: tag == query.tag)
    if query.container:
        checks.append(lambda words, _app, _tag: words[CONTAINER] == query.container)
    if query.method:
        checks.append(lambda words, _app, _tag: words[METHOD] == query.method.upper())
    if query.path:
        checks.append(lambda words, _app, _tag: words[TARGET].startswith(query.path))
    if query.status:
        pattern = _status(query.status)
        checks.append(lambda words, _app, _tag: pattern.fullmatch(words[STATUS]) is not None)
    if isinstance(query, RequestQuery) and (since := query.since):
        checks.append(lambda words, _app, _tag: int(words[ENDED]) >= since * 1000)
    if isinstance(query, RequestQuery) and (until := query.until):
        checks.append(lambda words, _app, _tag: int(words[ENDED]) < until * 1000)
    if query.slower:
        checks.append(lambda words, _app, _tag: int(words[TOTAL]) >= query.slower)
    if query.trace:
        checks.append(_of_trace(query.trace))
    if query.cold:
        checks.append(lambda words, _app, _tag: words[PARKED] != recorded.MISSING)
    if query.failed:
        checks.append(
            lambda words, _app, _tag: words[STATUS] >= "500" or words[HOW][:1] in recorded.ENDINGS
        )
    return lambda words, app, tag: all(check(words, app, tag) for check in checks)


def _of_trace(trace: str) -> Callable[[Sequence[str], str, str], bool]:
    if not re.fullmatch(r"[0-9a-f]{32}", trace):
        raise BadRequest(f"`{trace}` is not the id of a trace", hint="it has 32 hexadecimal digits")
    own = str(uuid.UUID(trace))  # of the request with which it began, if homeport has made it

    def wants(words: Sequence[str], _app: str, _tag: str) -> bool:
        return words[TRACE].startswith(trace) or (words[ID] == own and words[TRACE] in tracing.MADE)

    return wants


def _status(text: str) -> re.Pattern[str]:
    if re.fullmatch(r"[1-5]xx", text):
        return re.compile(rf"{text[0]}\d\d")
    if re.fullmatch(r"[1-5]\d\d|0", text):
        return re.compile("-1" if text == "0" else text)
    raise BadRequest(f"`{text}` is not a status", hint="write 404, or 5xx for all from 500 on")
