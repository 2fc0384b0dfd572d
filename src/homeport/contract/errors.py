"""The errors that a user can see, by name.

    Failure
    ├── ScriptError         the script cannot be loaded, or declares something impossible
    ├── ImageError          an image step that this node cannot carry out, or that failed
    ├── StartError          a container did not become ready
    ├── PortTaken           a port that a `web_server` or the ingress wants is in use
    ├── LabelTaken          a URL belongs to another app
    ├── SecretMissing       a secret, or a key in it, is not in the store
    ├── NotFound            no app, revision, secret or token has that name
    ├── AlreadyExists       the name is taken
    ├── BadRequest          the request is not valid
    ├── TooMany             more of something at once than is allowed; the user may try again
    ├── CallFailed          a function that was called has raised
    ├── CallTimeout         a function that was called took longer than its `timeout`
    ├── Unauthorized        the server needs a token
    ├── Forbidden           the token does not allow that
    ├── ServerUnreachable   no server answers
    ├── IngressError        HAProxy is missing, too old, or will not start
    └── StorageError        the disk is full or the home cannot be written

Each travels over the API as `to_dict()` and is printed by the CLI as `error: …`, where, `hint: …`.
A class's docstring is its default text.
"""

from typing import Any, ClassVar


class Failure(Exception):
    """Something went wrong that the user can repair"""

    status: ClassVar[int] = 400

    def __init__(
        self, message: str = "", *, where: str = "", hint: str = "", traceback: str = ""
    ) -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.where = where  # `hello.py:7  image = …`, the place in the user's script
        self.hint = hint
        self.traceback = traceback  # the user's frames only
        super().__init__(self.message)

    def to_dict(self) -> dict[str, str]:
        """Return the failure as values for JSON; `from_dict` reads them back."""
        return {
            "kind": type(self).__name__,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
            "traceback": self.traceback,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "Failure":
        """Return the failure that `to_dict` described; an unknown kind becomes a plain `Failure`."""
        kind = _KINDS.get(str(data.get("kind", "")), Failure)
        return kind(
            str(data.get("message", "")),
            where=str(data.get("where", "")),
            hint=str(data.get("hint", "")),
            traceback=str(data.get("traceback", "")),
        )


class ScriptError(Failure):
    """The script cannot be loaded"""


class ImageError(Failure):
    """The image cannot be built"""


class StartError(Failure):
    """The container did not become ready"""

    status = 503


class PortTaken(Failure):
    """The port is in use"""

    status = 409


class LabelTaken(Failure):
    """The URL belongs to another app"""

    status = 409


class SecretMissing(Failure):
    """A secret is missing"""

    status = 404


class NotFound(Failure):
    """There is nothing with that name"""

    status = 404


class AlreadyExists(Failure):
    """The name is taken"""

    status = 409


class BadRequest(Failure):
    """The request makes no sense"""


class TooMany(Failure):
    """There are too many at once; try again"""

    status = 429

    def __init__(self, message: str = "", *, retry_after_s: int = 0, **more: str) -> None:
        super().__init__(message, **more)
        self.retry_after_s = retry_after_s  # seconds; 0: not known


class CallFailed(Failure):
    """The function has raised"""

    status = 500


class CallTimeout(Failure):
    """The function took longer than its timeout"""

    status = 504


class Unauthorized(Failure):
    """The server needs a token"""

    status = 401


class Forbidden(Failure):
    """The token does not allow that"""

    status = 403


class ServerUnreachable(Failure):
    """No server answers"""

    status = 502


class IngressError(Failure):
    """HAProxy cannot be started"""

    status = 500


class NodeLost(Failure):
    """The node does not answer; it may or may not have done what it was asked to do"""

    status = 503


class StorageError(Failure):
    """The disk is full or the home cannot be written"""

    status = 507


_KINDS: dict[str, type[Failure]] = {
    cls.__name__: cls
    for cls in (
        Failure,
        ScriptError,
        ImageError,
        StartError,
        PortTaken,
        LabelTaken,
        SecretMissing,
        NotFound,
        AlreadyExists,
        BadRequest,
        TooMany,
        CallFailed,
        CallTimeout,
        Unauthorized,
        Forbidden,
        ServerUnreachable,
        IngressError,
        NodeLost,
        StorageError,
    )
}
