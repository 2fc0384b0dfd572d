"""The part of the fake ingress that reports requests that have ended."""

from collections.abc import Callable, Collection, Sequence

from homeport.contract import recorded
from homeport.contract.traffic import PoolKey, RequestRecord
from tests.recorded import words


class FakeRecords:
    """Records each request when it has ended."""

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
        record_words = words(
            id=f"{self._visits}",
            endpoint=where if isinstance(where, str) else "hello",
            total=f"{int(took_s * 1000)}",
            first="0",
            container=container,
            parked="0" if cold else "-",
            target="/",
        )
        self._kept([record_words])
        if self._ended is not None:
            self._ended(recorded.decode(record_words))
