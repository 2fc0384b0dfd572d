"""The route of an app's log."""

from collections.abc import AsyncIterator, Callable

from homeport.contract.api.logs import LogQuery
from homeport.contract.container import LogLine
from homeport.contract.scope import Scope
from homeport.control.api.routing import route
from homeport.control.api.streams import AT_ONCE
from homeport.control.api.view import View
from homeport.state import logfiles, logs

MAX_TAIL = 100_000  # lines in one answer


class Logs:
    """Reads the logs of apps."""

    def __init__(self, view: View, log_store: logs.Logs) -> None:
        self._view = view
        self._logs = log_store

    @route("GET", "/v1/apps/{name}/logs")
    async def read(
        self, scope: Scope, name: str, query: LogQuery
    ) -> AsyncIterator[LogLine | bytes]:
        """Read the lines that an app's containers have printed, the oldest first."""
        await self._view.check(scope, name)  # an unknown app is an error, not an empty log
        only = {
            key: value
            for key in ("function", "container", "request")
            if (value := getattr(query, key))
        }

        def wants(line: LogLine) -> bool:
            return (
                line.app == name
                and line.at >= query.since  # its clock may have been set back: see `tail`
                and all(getattr(line, key) == value for key, value in only.items())
            )

        return self._lines(scope, name, query, wants, only)

    async def _lines(
        self,
        scope: Scope,
        name: str,
        query: LogQuery,
        wants: Callable[[LogLine], bool],
        only: dict[str, str],
    ) -> AsyncIterator[bytes]:
        with self._logs.following(scope, wants) as lines:
            tail = min(query.tail, MAX_TAIL)
            tail_lines = await self._logs.tail(scope, name, tail, wants, only, query.since)
            for at in range(0, len(tail_lines), AT_ONCE):
                yield b"".join(tail_lines[at : at + AT_ONCE])
            del tail_lines
            if query.follow:
                async for line in lines:
                    yield logfiles.encoded(line)
