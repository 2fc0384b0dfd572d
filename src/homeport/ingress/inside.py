"""The rules for requests that containers send by the socket `calls`.

A container of any app may be connected, so nothing in a request is believed.
"""

from homeport.ingress.rules import answer


def rules() -> list[str]:
    """Return the rules of the frontend `calls`."""
    return answer(404, "there is nothing here", "TRUE")
