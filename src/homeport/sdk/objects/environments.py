"""The environment of a look-up by name, and its key, by which calls reach its functions (contract/calls.py)."""

import json
from typing import Any

from homeport.sdk import context, exception, outside

_keys: "dict[str, str]" = {}  # of environments that this process has asked for; only on the user's machine


def own() -> str:
    """Return the name of the environment that is used where the script names none."""
    reach = context.reach()
    if reach is not None:
        return reach.environment
    name: str = outside.settings().environment
    return name


def checked(name: "str | None") -> str:
    """Return the environment that `environment_name=` names; empty for the process's own one.

    `NotFoundError` in a container for another one: its code reaches its own environment alone.
    """
    if not name:
        return ""
    reach = context.reach()
    if reach is not None and reach.container and name != reach.environment:
        raise exception.NotFoundError(
            f"there is no environment '{name}' for this container: code of '{reach.environment}' "
            f"reaches the objects of '{reach.environment}' alone"
        )
    return name


def key(name: str) -> str:
    """Return the key of an environment; empty for the process's own one."""
    reach = context.reach()
    if reach is not None and reach.key and name in ("", reach.environment):
        return reach.key
    if reach is not None and (reach.container or not context.is_local()):
        return reach.key
    if name not in _keys:
        answer: Any = outside.ask(
            lambda client: client.raw("GET", "/v1/environment"), environment=name
        )
        _keys[name] = str(json.loads(answer)["key"])
    return _keys[name]
