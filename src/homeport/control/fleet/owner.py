"""The owners of pools and endpoints."""

import enum
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """The kinds of owners."""

    APP = "app"  # a deployed one
    SESSION = "session"  # of `homeport serve` or `homeport run`
    VERSION = "version"  # an earlier revision, which has endpoints of its own


@dataclass(frozen=True, slots=True)
class Owner:
    """A deployed app, a session, or an earlier version of an app."""

    kind: Kind
    name: str  # the app's name, the session's id, or the revision's id

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @staticmethod
    def app(name: str) -> "Owner":
        """Return the owner that is the deployed app of this name."""
        return Owner(Kind.APP, name)

    @staticmethod
    def session(session: str) -> "Owner":
        """Return the owner that is the session with this id."""
        return Owner(Kind.SESSION, session)

    @staticmethod
    def version(revision: str) -> "Owner":
        """Return the owner of an earlier revision's own endpoints."""
        return Owner(Kind.VERSION, revision)

    @property
    def is_app(self) -> bool:
        """True for a deployed app."""
        return self.kind is Kind.APP

    @property
    def is_session(self) -> bool:
        """True for a session."""
        return self.kind is Kind.SESSION

    @property
    def scope(self) -> str:
        """Return the scope of its functions' calls (contract/calls.py): a session's id, else nothing."""
        return self.name if self.is_session else ""
