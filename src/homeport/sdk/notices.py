"""Collects notices about options that homeport accepts and ignores, each once; `declare` returns them."""

from homeport.sdk import location

_notices: dict[str, None] = {}


def say(text: str) -> None:
    """Add a notice, with the line of the script that caused it."""
    where = location.here()
    _notices.setdefault(f"{where}: {text}" if where else text)


def take() -> list[str]:
    """Return the notices since the last call."""
    notices = list(_notices)
    _notices.clear()
    return notices
