"""The owners of pools and endpoints."""

import enum

from homeport.contract.dataclass import dataclass
from homeport.contract.scope import Scope


class Kind(enum.StrEnum):
    """The kinds of owners."""

    APP = "app"  # a deployed one
    SESSION = "session"  # of `homeport serve` or `homeport run`
    VERSION = "version"  # an earlier revision, which has endpoints of its own


@dataclass(frozen=True, slots=True)
class Owner:
    """A deployed app, a session, or an earlier version of an app, in its environment."""

    kind: Kind
    name: str  # the app's name, the session's id, or the revision's id
    scope: Scope

    def __str__(self) -> str:
        return f"{self.kind} {self.name} in {self.scope}"

    @staticmethod
    def app(scope: Scope, name: str) -> "Owner":
        """Return the owner that is the deployed app of this name."""
        return Owner(Kind.APP, name, scope)

    @staticmethod
    def session(scope: Scope, session: str) -> "Owner":
        """Return the owner that is the session with this id."""
        return Owner(Kind.SESSION, session, scope)

    @staticmethod
    def version(scope: Scope, revision: str) -> "Owner":
        """Return the owner of an earlier revision's own endpoints."""
        return Owner(Kind.VERSION, revision, scope)

    @property
    def is_app(self) -> bool:
        """True for a deployed app."""
        return self.kind is Kind.APP

    @property
    def is_session(self) -> bool:
        """True for a session."""
        return self.kind is Kind.SESSION

    @property
    def session_id(self) -> str:
        """Return the session that its functions' calls belong to (contract/calls.py); empty: none."""
        return self.name if self.is_session else ""
