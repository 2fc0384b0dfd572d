"""A call of a function in JSON."""

from dataclasses import field
from typing import Any

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The arguments of a call."""

    args: tuple[Any, ...] = ()  # by position
    kwargs: dict[str, Any] = field(default_factory=dict)  # by name
    parameters: dict[str, Any] = field(
        default_factory=dict
    )  # of a class: text, whole numbers, true or false


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """The value that a function has returned."""

    value: Any
    request: str  # the call's `X-Request-Id`, as it is in the app's log
