"""The codes of login links: each is valid for a minute, works once, and is kept as a hash, in memory alone."""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from homeport.contract.api.dashboard import CODE_S
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Unauthorized
from homeport.control.api.access import Caller

MOST_OF_ONE = 10  # links of one caller; the oldest stops to work
MOST = 1000
HINT = "`homeport dashboard` makes another link: each works once, for a minute"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Login:
    caller: Caller
    until: float


class Logins:
    """The codes that were not used yet."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._waiting: OrderedDict[str, _Login] = (
            OrderedDict()
        )  # by a code's hash, the oldest first

    def make(self, caller: Caller) -> tuple[str, float]:
        """Return a code of 256 bits that logs in as this caller, and when it expires."""
        now = self._now()
        for digest, login in list(self._waiting.items()):
            if login.until <= now:
                del self._waiting[digest]
        identity = _identity(caller)
        own_codes = [
            digest for digest, login in self._waiting.items() if _identity(login.caller) == identity
        ]
        for digest in own_codes[: max(0, len(own_codes) + 1 - MOST_OF_ONE)]:
            del self._waiting[digest]
        while len(self._waiting) >= MOST:
            self._waiting.popitem(last=False)
        code = secrets.token_urlsafe(32)
        login = _Login(caller=caller, until=now + CODE_S)
        self._waiting[_digest(code)] = login
        return code, login.until

    def use(self, code: str) -> Caller:
        """Return the caller whose link has this code, once; `Unauthorized` for every other code."""
        # A hash is looked up, so that the time of an answer reveals nothing about a code.
        login = self._waiting.pop(_digest(code), None)
        if login is None or login.until <= self._now():
            raise Unauthorized("this login link was used already, or has expired", hint=HINT)
        return login.caller


def _identity(caller: Caller) -> tuple[str, str, str]:
    return caller.by, caller.workspace, caller.token


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "surrogateescape")).hexdigest()
