"""Lines that homeport itself writes into an app's log."""

import time

from homeport.contract.container import Container, LogLine
from homeport.contract.scope import Scope
from homeport.contract.traffic import PoolKey


def ended(container: Container | None) -> str:
    """Say how a container ended; None: its node does not know it any more."""
    if container is None:
        return "container gone: the node does not know it any more"
    return f"container {container.state.value}: {container.reason or 'it ended'}"


def system(scope: Scope, key: PoolKey, container: str, text: str) -> LogLine:
    """Return a line of homeport's own in an app's log."""
    return LogLine(
        at=time.time(),
        app=key.app,
        function=key.function,
        container=container,
        text=text,
        source="system",
        within=scope,
    )
