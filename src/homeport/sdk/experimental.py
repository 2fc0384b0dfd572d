"""`modal.experimental`: servers as classes. The other names of the module are not supported yet, and say so when
they are used.
"""

from typing import Any

from homeport.sdk import pending
from homeport.sdk.objects.server import http_server

__all__ = ["http_server"]


def __getattr__(name: str) -> Any:
    return pending.__getattr__(name)
