"""Reads the numbers in a request's query, within the API's bounds."""

from homeport.contract.errors import BadRequest

MAX_WAIT_S = 30.0  # of one request; a longer wait takes several requests


def wait_s(requested_s: float) -> float:
    """Return how long a request may wait, in seconds.

    >>> [wait_s(s) for s in (-1.0, 2.5, 3600.0)]
    [0.0, 2.5, 30.0]
    """
    return max(0.0, min(requested_s, MAX_WAIT_S))


def number(name: str, text: str, *, digits: int = 9) -> int:
    """Return the number that `text` spells; `BadRequest`, with the name of the field, for any other text.

    >>> number("place", "12")
    12
    """
    if not (text.isascii() and text.isdigit() and len(text) <= digits):
        raise BadRequest(f"`{name}` must be a number")
    return int(text)
