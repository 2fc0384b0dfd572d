"""`Secret`: environment variables for the functions that name it."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from homeport.contract import names
from homeport.contract.manifest import SecretRef
from homeport.sdk import context, location, outside, watched
from homeport.sdk.exception import (
    ExistsError,
    InvalidError,
    MissingError,
    UnimplementedError,
)
from homeport.sdk.objects import blocking, named


class SecretInfo(named.Info):
    """Facts of a secret."""


_Secrets = list["Secret"]


class SecretManager:
    """`Secret.objects`: creates, lists and deletes the server's secrets; for scripts on the user's machine."""

    @blocking.method
    def create(
        self,
        name: str,
        env_dict: Mapping[str, str],
        *,
        allow_existing: bool = False,
        environment_name: str | None = None,
        client: Any = None,  # noqa: ARG002
    ) -> None:
        """Create a secret; with `allow_existing`, one that exists keeps its values."""
        _refuse_inside("objects.create")
        Secret.from_name(name)  # it checks the name
        values, where = checked(env_dict), environment_name or ""
        from homeport.contract.api.secrets import NewSecret

        existing = (ExistsError,) if allow_existing else ()
        with contextlib.suppress(*existing):
            new = NewSecret(name=name, values=values)
            outside.ask(lambda client: client.secrets.create(new), environment=where)

    @blocking.method
    def list(
        self,
        *,
        max_objects: int | None = None,
        created_before: datetime | str | None = None,
        environment_name: str = "",
        client: Any = None,  # noqa: ARG002
    ) -> _Secrets:
        """Return the secrets, the newest first; without their values."""
        _refuse_inside("objects.list")
        secret_names = named.newest(
            ((secret.name, secret.created_at) for secret in _stored(environment_name)),
            created_before=created_before,
            max_objects=max_objects,
        )
        return [Secret.from_name(name, environment_name=environment_name) for name in secret_names]

    @blocking.method
    def delete(
        self,
        name: str,
        *,
        allow_missing: bool = False,
        environment_name: str | None = None,
        client: Any = None,  # noqa: ARG002
    ) -> None:
        """Delete a secret; containers that run keep its values."""
        _refuse_inside("objects.delete")
        missing, where = (MissingError,) if allow_missing else (), environment_name or ""
        with contextlib.suppress(*missing):
            outside.ask(lambda client: client.secrets.delete(name), environment=where)


class Secret:
    """Environment variables that only the functions which name it see."""

    objects = SecretManager()

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
        if isinstance(required_keys, str) or not all(isinstance(key, str) for key in required_keys):
            raise InvalidError(f"`required_keys` must be a list of texts, not {required_keys!r}")
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

    @blocking.method
    def hydrate(self, client: Any = None) -> "Secret":  # noqa: ARG002
        """Look the secret up now; `NotFoundError` if the server has none of its name."""
        self._find()
        return self

    @blocking.method
    def info(self) -> SecretInfo:
        """Return the secret's name, and when it was created."""
        stored = self._find()
        return SecretInfo.of(stored.name, stored.created_at)

    def _find(self) -> Any:
        _refuse_inside("info")
        if self.name is None:
            raise InvalidError("the secret has no name: use `Secret.from_name`")
        for stored in _stored(self._environment_name):
            if stored.name == self.name:
                return stored
        raise MissingError(f"there is no secret `{self.name}`")

    def __repr__(self) -> str:
        return f"Secret.from_name({self.name!r})" if self.name else "Secret(…)"

    def __getattr__(self, name: str) -> Any:
        if name == "update":
            raise UnimplementedError(
                "`Secret.update` is not there yet; `homeport secret create --force` replaces all values of a secret"
            )
        raise AttributeError(name)


def _stored(environment: str) -> Any:
    return outside.ask(lambda client: client.secrets.every(), environment=environment)


def _refuse_inside(name: str) -> None:
    context.refuse_inside(f"Secret.{name}", "a container finds the values in its environment")


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
            variables = dotenv_values(directory / filename)
            return {key: value or "" for key, value in variables.items()}
    return {}
