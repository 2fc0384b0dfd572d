"""Wrong tokens in the audit log: one row for each, and few of many."""

import re
import time
from collections.abc import Callable

from homeport.contract.api.audit import AuditEntry
from homeport.state.audit import Audit
from homeport.supervised import Tasks

MOST = 60  # rows in WINDOW_S; of the others only the number
WINDOW_S = 60.0
_ID = re.compile(r"ak-[A-Za-z0-9]{1,40}\Z")


class Refused:
    """The logins that were refused."""

    def __init__(self, audit: Audit, now: Callable[[], float] = time.monotonic) -> None:
        self._audit, self._now = audit, now
        self._since, self._count = 0.0, 0
        self._tasks = Tasks()

    def add(self, source: str, secret_text: str, result: str) -> None:
        """Write a row soon. It has only the token's id, and never its secret."""
        now = self._now()
        if now - self._since >= WINDOW_S:
            more, self._since, self._count = self._count - MOST, now, 0
            if more > 0:
                self._write("", f"{more} more within a minute", result)
        self._count += 1
        if self._count > MOST:
            return
        token = secret_text.partition(".")[0]
        self._write(source, token if _ID.match(token) else "", result)

    async def close(self) -> None:
        """Write no more."""
        await self._tasks.close()

    def _write(self, source: str, target: str, result: str) -> None:
        entry = AuditEntry(
            by="stranger",
            source=source,
            action="login refused",
            result=result,
            target=target,
        )
        self._tasks.start("a refused login", self._audit.add(entry))
