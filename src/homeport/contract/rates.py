"""A limit for how often something may happen: `10/s`, or `600/m`."""

import math
import re

from homeport.contract.dataclass import dataclass

PERIODS_S = {"s": 1, "m": 60}
MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of requests in each second, or in each minute."""

    count: int
    unit: str  # `s` or `m`

    @property
    def retry_after_s(self) -> int:
        """Seconds in which the rate allows one more request, on average; at least 1."""
        return max(1, math.ceil(PERIODS_S[self.unit] / self.count))

    def __str__(self) -> str:
        return f"{self.count}/{self.unit}"


def parse(text: str) -> Rate:
    """Return the rate in a text; `ValueError` for any other text.

    >>> parse("5/m").retry_after_s
    12
    """
    match = re.fullmatch(r"([1-9][0-9]{0,6})/([sm])", text.strip())
    if match is None or int(match[1]) > MOST:
        raise ValueError("a rate such as 10/s or 600/m is needed")
    return Rate(int(match[1]), match[2])
