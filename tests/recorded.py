"""Lines of requests that have ended (contract/recorded.py)."""

from collections.abc import Callable, Collection, Sequence

from homeport.contract import recorded
from homeport.contract.traffic import PoolKey, RequestRecord

WORDS = {
    "kind": "visit",
    "ended": "1700000000100",
    "id": "1b0c",
    "head": "0",
    "wait": "0",
    "connect": "0",
    "first": "80",
    "total": "100",
    "status": "200",
    "sent": "10",
    "received": "20",
    "how": "--",
    "container": "ta-1",
    "endpoint": "web",
    "parked": "-",
    "trace": "-",
    "client": "-",
    "method": "GET",
    "target": "/shop/1",
}


def words(**changes: str) -> list[str]:
    """Return the words of a request that took 100 ms, with these changes."""
    told = {**WORDS, **changes}
    return [told[name] for name in recorded.WORDS]


def line(**changes: str) -> str:
    """Return them as a line."""
    return " ".join(words(**changes))


class FakeLog:
    """The part of the Ingress role in memory that tells of requests that have ended."""

    _ended: Callable[[RequestRecord], None] | None = None
    _visits = 0  # how many have ended

    @staticmethod
    def _kept(_lines: Sequence[Sequence[str]]) -> None:
        """Nobody wants them."""

    def keep(
        self,
        lines: Callable[[Sequence[Sequence[str]]], None],
        seen: Callable[[], Collection[str]],
    ) -> None:
        self._kept = lines  # type: ignore[method-assign]

    def hear(self, ended: Callable[[RequestRecord], None] | None) -> None:
        self._ended = ended

    def _tell(self, where: PoolKey | str, container: str, took_s: float, *, cold: bool) -> None:
        self._visits += 1
        told = words(
            id=f"{self._visits}",
            endpoint=where if isinstance(where, str) else "hello",
            total=f"{int(took_s * 1000)}",
            first="0",
            container=container,
            parked="0" if cold else "-",
            target="/",
        )
        self._kept([told])
        if self._ended is not None:
            self._ended(recorded.decode(told))
