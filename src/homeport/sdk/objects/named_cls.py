"""A class that was looked up by name, in an app that serves: its code is not here."""

import dataclasses
from typing import TYPE_CHECKING, Any

from homeport.sdk.exception import InvalidError
from homeport.sdk.objects.function import Named
from homeport.sdk.objects.parameters import PARAMETER_TYPES, POSITIONAL, spelled
from homeport.sdk.objects.target import Target
from homeport.sdk.objects.varied import Varied

if TYPE_CHECKING:
    from homeport.contract.variants import Options


class NamedCls(Varied):
    """`Cls.from_name`: calls of its methods go to the app that serves."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def __call__(self, *args: Any, **parameters: Any) -> "NamedObj":
        if args:
            raise InvalidError(POSITIONAL)
        for value in parameters.values():
            if type(value) not in PARAMETER_TYPES:
                raise TypeError(
                    f"a class parameter is a str, an int, a bool or bytes, not {type(value).__name__}"
                )
        return NamedObj(dataclasses.replace(self._target, query=spelled(parameters)))

    @property
    def _experimental_get_flash_urls(self) -> Any:
        """Return the URL of a class under `@modal.experimental.http_server()`, in a list."""
        from homeport.sdk.objects.urls import flash_urls  # only where it is used

        return flash_urls(dataclasses.replace(self._target, tag=f"{self._target.tag}.*"))

    def _options_so_far(self) -> "Options | None":
        return self._target.options

    def _varied(self, options: "Options") -> "NamedCls":
        return NamedCls(self._target.varied(options))

    def hydrate(self, *_args: Any, **_kwargs: Any) -> "NamedCls":
        """Return the class itself: nothing has to be loaded before a call."""
        return self

    def __repr__(self) -> str:
        return f"Cls({self._target.tag})"


class NamedObj:
    """A `NamedCls` with its parameters."""

    def __init__(self, target: Target) -> None:
        self._target = target

    @property
    def update_autoscaler(self) -> Any:
        """Change how many containers there are for these parameters, until the next deploy."""
        from homeport.sdk.objects.scaling import Scaled  # only where it is used

        return Scaled(dataclasses.replace(self._target, tag=f"{self._target.tag}.*")).update

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Named(dataclasses.replace(self._target, tag=f"{self._target.tag}.{name}"))
