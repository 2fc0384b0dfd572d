"""The exceptions of the SDK; also importable as `modal.exception`.

Error
├── InvalidError ── ConflictError, LocalFunctionError, MisuseError (also a TypeError)
├── NotFoundError, AlreadyExistsError, AuthError, PermissionDeniedError
├── ExecutionError, InternalError, InternalFailure, DataLossError, ClientClosed
├── RemoteError ── ImageBuildError
├── ConnectionError, ServiceError, ResourceExhaustedError, RequestSizeError, VersionError
├── SerializationError, DeserializationError, UnimplementedError
├── SandboxTerminatedError, FilesystemExecutionError
└── TimeoutError ── FunctionTimeoutError, OutputExpiredError, InteractiveTimeoutError,
                    SandboxTimeoutError, ExecTimeoutError, MountUploadTimeoutError,
                    VolumeUploadTimeoutError
"""

GENERATOR = (
    "A generator function cannot be called with `.remote(...)`. Use `.remote_gen(...)` instead."
)
NO_GENERATOR = (
    "A non-generator function cannot be called with `.remote_gen(...)`. Use `.remote(...)` instead."
)


class Error(Exception):
    """Base of everything here."""


class InvalidError(Error):
    """A declaration is wrong."""


class MisuseError(InvalidError, TypeError):
    """A decorator or function was called with wrong arguments.

    Modal's versions raise `InvalidError` or `TypeError`; this class is both, so either `except` catches it.
    """


class ConflictError(InvalidError):
    """It is in use."""


class LocalFunctionError(InvalidError):
    """A function that is not at module level."""


class NotFoundError(Error):
    """Nothing has this name."""


class AlreadyExistsError(Error):
    """The name is taken."""


class MissingError(NotFoundError, FileNotFoundError):
    """No file or volume has this name; both kinds of `except` catch it."""


class ExistsError(AlreadyExistsError, FileExistsError):
    """A file or volume of this name exists; both kinds of `except` catch it."""


class AuthError(Error):
    """Not authenticated."""


class PermissionDeniedError(Error):
    """Not allowed."""


class ExecutionError(Error):
    """The operation is not possible in this state."""


class InternalError(Error):
    """A bug of ours."""


class InternalFailure(Error):
    """A failure inside homeport; a retry may succeed."""


class DataLossError(Error):
    """Data was lost."""


class ClientClosed(Error):
    """The client was closed."""


class RemoteError(Error):
    """An error in a container."""


class ImageBuildError(RemoteError):
    """An image could not be built."""


class ConnectionError(Error):  # noqa: A001 - the original's name
    """The server cannot be reached."""


class ServiceError(Error):
    """The server failed."""


class ResourceExhaustedError(Error):
    """No room is left."""


class RequestSizeError(Error):
    """Too large."""


class VersionError(Error):
    """The client's and the server's versions do not fit."""


class SerializationError(Error):
    """A value cannot be serialized."""


class DeserializationError(Error):
    """A value cannot be deserialized."""


class UnimplementedError(Error):
    """It is not there yet."""


class TimeoutError(Error):  # noqa: A001 - the original's name
    """It took too long."""


class FunctionTimeoutError(TimeoutError):
    """A function took longer than its `timeout`."""


class OutputExpiredError(TimeoutError):
    """The result is no longer kept."""


class InteractiveTimeoutError(TimeoutError):
    """Nobody typed."""


class SandboxTimeoutError(TimeoutError):
    """A sandbox took too long."""


class SandboxTerminatedError(Error):
    """A sandbox was ended."""


class FilesystemExecutionError(Error):
    """A file operation in a sandbox failed."""


class ModuleNotMountable(Exception):
    """A module cannot be sent to a container."""


class ExecTimeoutError(TimeoutError):
    """A command took too long."""


class MountUploadTimeoutError(TimeoutError):
    """An upload took too long."""


class VolumeUploadTimeoutError(TimeoutError):
    """An upload took too long."""


class InputCancellation(BaseException):
    """Raised inside an input that is cancelled."""


class DeprecationError(UserWarning):
    """A deprecated name was used; after its removal, using it is an error."""


class PendingDeprecationError(UserWarning):
    """A name will be deprecated."""


class ServerWarning(UserWarning):
    """A warning from the server."""


class AsyncUsageWarning(UserWarning):
    """A blocking call inside a running event loop."""
