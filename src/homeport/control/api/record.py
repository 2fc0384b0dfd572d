"""The row of the audit log that a request makes (state/audit.py).

`routing` makes one for each request to a route that is audited, and each is unless the route says otherwise. A handler
that names a parameter `record` says more about the change than its path and body do.

A request that is answered at once has one row, with its end. A stream's row says `begun`, and later how it ended.
"""

import asyncio
import enum
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from homeport.contract.api import events
from homeport.contract.api.answers import Fault
from homeport.contract.api.audit import AuditEntry
from homeport.contract.scope import Scope
from homeport.control.api.access import Caller
from homeport.state.audit import Audit

OK, BEGUN, LEFT = "ok", "begun", "left"
#: Fields of bodies and queries that name the target of a change.
_NAMES = ("name", "domain", "path")


class Audited(enum.Enum):
    """Whose requests to a route make rows."""

    ALL = "everybody's"
    USERS = "those of commands, and not of containers, which may make many"
    NONE = "nobody's: it changes nothing that lasts, or it carries an app's data"


class Record:
    """One row; without an `audit`, none."""

    def __init__(self, audit: Audit | None, caller: Caller, action: str) -> None:
        self._audit, self._action = audit, action
        self.caller = caller  # whose change it is
        self.scope: Scope | None = None  # None: the whole workspace
        self.app = self.target = ""
        self._number: int | None = None
        self._has_begun = self._has_ended = self._is_held = False

    def describe(self, path: str, parts: dict[str, Any], *more: Any) -> None:
        """Take the app and the target from a route's path, the values in it, and from the body or the query."""
        if self._audit is None:
            return
        target = ["/".join(map(str, parts.values()))] if parts else []
        self.app = str(parts.get("app", ""))
        if path.startswith("/v1/apps/"):
            self.app = str(parts.get("name", ""))
        for source in more:
            target += [value for name in _NAMES if (value := _text(source, name))]
            self.app = self.app or _text(source, "app") or _text(getattr(source, "manifest", None), "app_name")  # fmt: skip
        self.target = " ".join(target) or self.app

    def drop(self) -> None:
        """Write no row: a stranger could fill the log."""
        self._audit = None

    def hold(self) -> None:
        """Let the row wait for `end`, also if the caller leaves before."""
        self._is_held = True

    async def begin(self) -> None:
        """Write the row of something that takes longer than its answer."""
        if self._audit is not None:
            self._has_begun = True
            self._number = await self._audit.add(self._entry(BEGUN))

    async def end(self, result: str) -> None:
        """Write the result; only the first one counts."""
        if self._audit is None or self._has_ended:
            return
        self._has_ended = True
        if self._has_begun:
            await self._audit.end(self._number, self._entry(result))
        else:
            await self._audit.add(self._entry(result))

    async def followed(self, stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Yield the events of a stream, and write how it ends. A session counts as done when it serves."""
        try:
            async for event in stream:
                if isinstance(event, (events.Done, events.Serving)):
                    await self.end(OK)
                elif isinstance(event, events.Error):
                    await self.end(event.error.kind)
                yield event
        except Exception as error:
            await self.end(result_of(error))
            raise
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
            if not self._is_held:
                await self.end(LEFT)

    def _entry(self, result: str) -> AuditEntry:
        caller = self.caller
        return AuditEntry(
            by=caller.by,
            user=caller.name,
            token=caller.token,
            source=caller.source,
            action=self._action,
            result=result,
            workspace=caller.workspace,
            environment=self.scope.environment if self.scope else "",
            app=self.app,
            target=self.target,
        )


def result_of(error: BaseException) -> str:
    """Return the result of an error in a row: its kind."""
    if isinstance(error, asyncio.CancelledError):
        return LEFT
    return Fault.of(error).kind if isinstance(error, Exception) else type(error).__name__


def action_of(method: str, path: str) -> str:
    """Return the name of a route's action, as its command has it.

    >>> action_of("POST", "/v1/apps/{name}/stop"), action_of("DELETE", "/v1/proxy-tokens/{id}")
    ('app stop', 'proxy-token delete')
    """
    words = [part for part in path.removeprefix("/v1").split("/")[1:] if not part.startswith("{")]
    noun = re.sub(r"s$", "", words[0])
    verbs = {"GET": "show", "POST": "create", "PUT": "update", "DELETE": "delete"}
    verb = " ".join(words[1:]) or verbs.get(method, method.lower())
    return f"{noun} {verb}"


def _text(holder: Any, name: str) -> str:
    value = getattr(holder, name, "")
    return value if isinstance(value, str) else ""
