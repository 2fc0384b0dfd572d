"""uvicorn's server without the rest of its package, for the API.

`import uvicorn` imports its command line and its reloaders too: click, multiprocessing and watchfiles, 20 ms of the server's start
and 2.4 MiB of its memory. The package's `__init__` has nothing else in it. So here it is in `sys.modules` without having run; it
runs if somebody asks for one of its attributes (`uvicorn.run`). Its protocol for WebSockets, 12 ms and 1.8 MiB, is imported for the first of them.
"""

import importlib.util
import sys
from asyncio import Protocol
from types import ModuleType
from typing import Any, cast


def _add_package() -> ModuleType:
    spec = importlib.util.find_spec("uvicorn")
    assert spec is not None
    assert spec.loader is not None
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def run_for(name: str) -> Any:
        """Run the package's `__init__` for an attribute that is missing (PEP 562)."""
        if name.startswith("__"):
            raise AttributeError(name)
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, name)

    package.__getattr__ = run_for  # type: ignore[method-assign]
    sys.modules["uvicorn"] = package
    return package


_package = sys.modules.get("uvicorn") or _add_package()

from uvicorn.config import Config  # noqa: E402
from uvicorn.server import Server  # noqa: E402

_package.Config, _package.Server = Config, Server  # type: ignore[attr-defined]

__all__ = ["WEBSOCKETS", "Config", "Server"]


def _websocket(**arguments: Any) -> Protocol:
    """Make the protocol of one WebSocket."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**arguments)


WEBSOCKETS = cast("type[Protocol]", _websocket)  # for `Config`, which calls it as it would a class
