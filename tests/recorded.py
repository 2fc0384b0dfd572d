"""Lines of requests that have ended (contract/recorded.py)."""

from homeport.contract import recorded

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
