"""Where a scope's files and rows are, and the objects that have one instance for each scope."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from homeport.contract.dataclass import dataclass
from homeport.contract.scope import MAIN, Scope

__all__ = ["MAIN", "Placed", "Scope", "Scoped", "columns", "folder"]

T = TypeVar("T")


def folder(scope: Scope) -> Path:
    """Return a scope's directory below a directory of files by app.

    That of MAIN is the directory itself, as in homes from before there were environments.
    """
    return Path() if scope == MAIN else Path(scope.workspace, scope.environment)


def columns(scope: Scope) -> dict[str, str]:
    """Return the values of a row's columns `workspace` and `environment`."""
    return {"workspace": scope.workspace, "environment": scope.environment}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A row that says its scope."""

    workspace: str
    environment: str

    @property
    def scope(self) -> Scope:
        """The two names."""
        return Scope(self.workspace, self.environment)


class Scoped(Generic[T]):
    """One object for each scope, which has the scope's data in memory."""

    def __init__(self, make: Callable[[Scope], T]) -> None:
        self._make = make
        self._made: dict[Scope, T] = {}

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._made.values()))

    def of(self, scope: Scope) -> T:
        """Return the scope's object, which is made at its first use."""
        if scope not in self._made:
            self._made[scope] = self._make(scope)
        return self._made[scope]

    def forget(self, scope: Scope) -> None:
        """Drop the object of an environment that was deleted."""
        self._made.pop(scope, None)
