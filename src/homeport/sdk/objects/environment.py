"""`Environment`: the environments of the caller's workspace, for scripts on the user's machine."""

import contextlib
from typing import Any

from homeport.contract import names
from homeport.sdk import context, outside
from homeport.sdk.exception import (
    ExistsError,
    InvalidError,
    MissingError,
    UnimplementedError,
)
from homeport.sdk.gone import Old
from homeport.sdk.objects import blocking

_Environments = list["Environment"]


class EnvironmentManager:
    """`Environment.objects`: creates, lists and deletes environments."""

    @blocking.method
    def create(
        self,
        name: str,
        *,
        restricted: bool = False,
        client: Any = None,  # noqa: ARG002
    ) -> None:
        """Create an environment, with apps, secrets, volumes, dicts and queues of its own."""
        _refuse_inside("objects.create")
        _check(name)
        if restricted:
            raise UnimplementedError(
                "`restricted=True` is not there in homeport: give each user a token for the environments that they may use, "
                "`homeport token create --env NAME`"
            )
        from homeport.contract.api.environments import NewEnvironment

        outside.ask(lambda client: client.environments.create(NewEnvironment(name=name)))

    @blocking.method
    def list(self, *, client: Any = None) -> _Environments:  # noqa: ARG002
        """Return the environments, in the order of their names."""
        _refuse_inside("objects.list")
        environments = outside.ask(lambda client: client.environments.every())
        return [Environment.from_name(environment.name) for environment in environments]

    @blocking.method
    def delete(self, name: str, *, client: Any = None) -> None:  # noqa: ARG002
        """Delete an environment: its apps stop, and everything in it is deleted."""
        _refuse_inside("objects.delete")
        _check(name)
        outside.ask(lambda client: client.environments.delete(name))


class Environment(metaclass=Old):
    """A part of a workspace: an environment's apps, secrets, volumes, dicts and queues are separate from those of
    others.
    """

    objects = EnvironmentManager()

    def __init__(self) -> None:
        self._name = ""
        self._create = False

    @staticmethod
    def from_name(
        name: str,
        *,
        create_if_missing: bool = False,
        client: Any = None,  # noqa: ARG004
    ) -> "Environment":
        """Return the environment with this name; `hydrate()` looks it up, and makes it if `create_if_missing` is true."""
        _check(name)
        environment = Environment()
        environment._name, environment._create = name, create_if_missing
        return environment

    @property
    def name(self) -> str | None:
        """The name that it was looked up by."""
        return self._name

    @blocking.method
    def hydrate(self, client: Any = None) -> "Environment":  # noqa: ARG002
        """Look the environment up now; `NotFoundError` if it does not exist."""
        _refuse_inside("hydrate")
        if self._name in [existing.name for existing in Environment.objects.list()]:
            return self
        if not self._create:
            raise MissingError(f"there is no environment `{self._name}`")
        with contextlib.suppress(ExistsError):  # another process has made it meanwhile
            Environment.objects.create(self._name)
        return self

    @property
    def members(self) -> Any:
        """Raise an error: tokens say who may use an environment."""
        raise UnimplementedError(
            "`Environment.members` is not there in homeport: `homeport token create --env NAME` gives a user an environment"
        )

    def __repr__(self) -> str:
        return f"Environment.from_name({self._name!r})"


def create_environment(name: str, client: Any = None) -> None:
    """Create an environment: an older name of `Environment.objects.create`."""
    Environment.objects.create(name, client=client)


def delete_environment(name: str, client: Any = None) -> None:
    """Delete an environment: an older name of `Environment.objects.delete`."""
    Environment.objects.delete(name, client=client)


def list_environments(client: Any = None) -> _Environments:
    """Return the environments: an older name of `Environment.objects.list`."""
    return Environment.objects.list(client=client)


def _check(name: Any) -> None:
    if not isinstance(name, str) or not names.is_environment_name(name):
        raise InvalidError(f"Invalid Environment name: '{name}'.")


def _refuse_inside(name: str) -> None:
    context.refuse_inside(f"Environment.{name}", "a container has its own environment alone")
