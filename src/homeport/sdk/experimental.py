"""`modal.experimental`: servers as classes. What else the module has is not there yet, and says so at its use."""

from typing import Any

from homeport.sdk import pending
from homeport.sdk.objects.server import http_server

__all__ = ["http_server"]


def __getattr__(name: str) -> Any:
    return pending.__getattr__(name)
