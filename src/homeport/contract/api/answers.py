"""Answers that any route may give: an error, or nothing."""

from homeport.contract import codec
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Failure

#: The kind of a fault of homeport's own; every other kind is a class in `errors.py`.
BUG = "Bug"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why something failed."""

    kind: str  # see [errors](errors.md); `Bug` is a fault of homeport's own
    message: str  # what happened
    where: str = ""  # the place in the user's script
    hint: str = ""  # what to do next
    traceback: str = ""  # the user's own frames

    @staticmethod
    def of(error: Exception) -> "Fault":
        """Return the parts of an error that a client may see; of an unexpected error, only its type."""
        if isinstance(error, Failure):
            return codec.decode(Fault, error.to_dict())  # type: ignore[no-any-return]
        return Fault(
            kind=BUG,
            message=f"the server failed: {type(error).__name__}",  # its text may quote a secret
            hint="the details are in server.log in the home",
        )

    def failure(self) -> Failure:
        """Return the failure that it describes; an unknown kind becomes a plain `Failure`."""
        return Failure.from_dict(codec.encode(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The answer to a request that failed; its status is that of the error's kind."""

    error: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """An answer that only says that it is done: `{}`."""
