"""Replaces the modules of Modal that homeport does not have yet.

`from modal.runner import deploy_app` works; calling `deploy_app` raises an error: it is not there yet.
"""

from typing import Any

from homeport.sdk.exception import UnimplementedError


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)

    def not_there_yet(*_args: Any, **_kwargs: Any) -> Any:
        raise UnimplementedError(f"`{name}` is not there yet in homeport")

    not_there_yet.__name__ = name
    return not_there_yet
