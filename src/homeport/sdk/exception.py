"""What the SDK raises; also importable as `modal.exception`.

Error
├── InvalidError ── ConflictError, LocalFunctionError, MisuseError (also a TypeError)
├── NotFoundError, AlreadyExistsError, AuthError, PermissionDeniedError
├── ExecutionError, InternalError, InternalFailure, DataLossError, ClientClosed
├── RemoteError ── ImageBuildError
├── ConnectionError, ServiceError, ResourceExhaustedError, RequestSizeError, VersionError
├── SerializationError, DeserializationError, UnimplementedError
└── TimeoutError ── FunctionTimeoutError, OutputExpiredError, InteractiveTimeoutError,
                    SandboxTimeoutError, ExecTimeoutError, MountUploadTimeoutError,
                    VolumeUploadTimeoutError
"""


class Error(Exception):
    """Base of everything here."""


class InvalidError(Error):
    """What was declared makes no sense."""


class MisuseError(InvalidError, TypeError):
    """A decorator or function was called in a way that it does not take.

    The original's versions differ on the class; whoever catches either catches this.
    """


class ConflictError(InvalidError):
    """It is in use."""


class LocalFunctionError(InvalidError):
    """A function that is not at module level."""


class NotFoundError(Error):
    """There is nothing of that name."""


class AlreadyExistsError(Error):
    """The name is taken."""


class AuthError(Error):
    """Not authenticated."""


class PermissionDeniedError(Error):
    """Not allowed."""


class ExecutionError(Error):
    """It cannot be done in this state."""


class InternalError(Error):
    """A bug of ours."""


class InternalFailure(Error):
    """A failure of ours that may pass."""


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
    """There is no room."""


class RequestSizeError(Error):
    """Too large."""


class VersionError(Error):
    """The versions do not fit."""


class SerializationError(Error):
    """It cannot be serialized."""


class DeserializationError(Error):
    """It cannot be deserialized."""


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


class ExecTimeoutError(TimeoutError):
    """A command took too long."""


class MountUploadTimeoutError(TimeoutError):
    """An upload took too long."""


class VolumeUploadTimeoutError(TimeoutError):
    """An upload took too long."""


class InputCancellation(BaseException):
    """Raised inside an input that is cancelled."""


class DeprecationError(UserWarning):
    """Something old: a warning, and an error once it is gone."""


class ServerWarning(UserWarning):
    """The server has something to say."""


class AsyncUsageWarning(UserWarning):
    """A blocking call inside a running event loop."""
