"""What was accepted and is not acted on, each said once; `declare` hands them to the command."""

from homeport.sdk import place

_said: dict[str, None] = {}


def say(text: str) -> None:
    """A notice, with its place in the script."""
    where = place.here()
    _said.setdefault(f"{where}: {text}" if where else text)


def take() -> list[str]:
    """Every notice since the last call."""
    told = list(_said)
    _said.clear()
    return told
