"""Which lines of a log are wanted."""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which lines of an app's log are wanted."""

    tail: int = 100  # the last so many
    follow: bool = False  # wait for more
    function: str = ""  # of this function alone
    container: str = ""  # of this container alone
    request: str = ""  # printed for this `X-Request-Id` alone
    since: float = 0.0  # not older than this
