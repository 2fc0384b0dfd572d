"""`Secret`: environment variables for the functions that name it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from homeport.contract import names
from homeport.contract.manifest import SecretRef
from homeport.sdk import location, watched
from homeport.sdk.exception import InvalidError, UnimplementedError


class Secret:
    """Environment variables that only the functions which name it see."""

    def __init__(
        self,
        *,
        name: str | None = None,
        values: Any = None,
        required_keys: tuple[str, ...] = (),
        environment: str = "",
    ) -> None:
        self.name = name
        self._environment_name = environment  # of the name; empty: the app's
        self._values = values  # a dict, or a function that returns the dict
        self._required_keys = required_keys
        self._where = location.here()

    @staticmethod
    def from_name(
        name: str,
        *,
        environment_name: str | None = None,
        required_keys: Sequence[str] = (),
        client: Any = None,  # noqa: ARG004
    ) -> "Secret":
        """Use the server's secret of that name (`homeport secret create`).

        A deploy fails if the secret or one of `required_keys` is missing, or if the app is of another environment.
        """
        if not isinstance(name, str) or not names.is_object_name(name):
            raise InvalidError(f"Invalid Secret name: '{name}'.")
        return Secret(
            name=name, required_keys=tuple(required_keys), environment=environment_name or ""
        )

    @staticmethod
    def from_dict(env_dict: Mapping[str, str | None] | None = None) -> "Secret":
        """Use these values; leave out a key whose value is None."""
        return Secret(values=checked(env_dict or {}))

    @staticmethod
    def from_local_environ(env_keys: Sequence[str]) -> "Secret":
        """Use the values that these variables have on the machine that deploys."""
        from homeport.sdk import context

        if not context.is_local():
            return Secret(values={})
        try:
            return Secret(values={key: os.environ[key] for key in env_keys})
        except KeyError as error:
            raise InvalidError(
                f"Could not find local environment variable '{error.args[0]}' "
                "for Secret.from_local_environ"
            ) from None

    @staticmethod
    def from_dotenv(
        path: Any = None,
        *,
        filename: str = ".env",
        client: Any = None,  # noqa: ARG004
    ) -> "Secret":
        """Use the values of a dotenv file, read at deploy; a missing file is an empty secret."""
        start = Path(path) if path is not None else Path.cwd()
        return Secret(values=lambda: _read_dotenv(start, filename))

    @property
    def ref(self) -> SecretRef:
        """The manifest's description of the secret."""
        values = self._values() if callable(self._values) else self._values
        return SecretRef(
            name=self.name,
            values=values,
            required_keys=self._required_keys,
            where=self._where,
            environment=self._environment_name,
        )

    def __repr__(self) -> str:
        return f"Secret.from_name({self.name!r})" if self.name else "Secret(…)"

    def __getattr__(self, name: str) -> Any:
        if name in {"objects", "info", "update"}:
            raise UnimplementedError(
                f"`Secret.{name}` is not there yet; use `homeport secret create|list|delete`"
            )
        raise AttributeError(name)


def checked(env_dict: Any) -> dict[str, str]:
    """Return the values that are strings; `InvalidError` for a value that is neither a string nor None."""
    text = "the env_dict argument to Secret has to be a dict[str, Union[str, None]]"
    if not isinstance(env_dict, Mapping):
        raise InvalidError(text)
    for key, value in env_dict.items():
        if not isinstance(key, str) or not isinstance(value, (str, type(None))):
            raise InvalidError(f"{text}, and {key!r} is {type(value).__name__}")
        if not names.is_secret_key(key):
            raise InvalidError(f"`{key}` cannot be the name of an environment variable")
    return {key: value for key, value in env_dict.items() if value is not None}


def _read_dotenv(start: Path, filename: str) -> dict[str, str]:
    try:
        from dotenv import dotenv_values
    except ImportError:
        raise ImportError(
            "Secret.from_dotenv needs the package python-dotenv: `uv pip install python-dotenv`"
        ) from None
    first = start if start.is_dir() else start.parent
    for directory in (first.absolute(), *first.absolute().parents):
        watched.add(directory / filename)
        if (directory / filename).is_file():
            found = dotenv_values(directory / filename)
            return {key: value or "" for key, value in found.items()}
    return {}
