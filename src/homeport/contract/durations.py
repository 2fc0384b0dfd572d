"""Reads a length of time as people write it: `90d`, `12h`."""

import re

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def seconds(text: str) -> float:
    """Return the seconds of `90d`, `12h`, `30m`, `10s` or `2w`; `ValueError` for any other text.

    >>> seconds("90d")
    7776000.0
    """
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text.strip())
    if match is None:
        raise ValueError("a time such as 90d, 12h or 30m is needed")
    return int(match[1]) * UNITS_S[match[2]]
