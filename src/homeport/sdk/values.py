"""Values on their way to a container and back: arguments, results and exceptions, pickled.

cloudpickle writes them if it is installed, because it can pickle functions and classes of `__main__`, and lambdas. The
runner adds it to each container; the user's own version takes precedence. Plain values are pickled without it, which
takes a hundredth of the time.
"""

import contextlib
import functools
import importlib
import io
import operator
import pickle
import sys
import types
from typing import Any

from homeport.contract.calls import Failed
from homeport.sdk.exception import DeserializationError, ExecutionError, SerializationError
from homeport.sdk.tracebacks import users_traceback

PROTOCOL = 5  # every Python since 3.8 reads it
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
MAX_CAUSES = 20
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})
_FEW = 64  # items of an argument that are looked at
#: The name that the module `__main__` of this process has in containers; empty: it has none.
_main = ""


def dumps(value: Any) -> bytes:
    """Return the value pickled; `SerializationError` says which type cannot be."""
    try:
        if _is_plain(value):
            return pickle.dumps(value, PROTOCOL)
        if _main and (pickler := _by_name()) is not None:
            file = io.BytesIO()
            pickler(file, protocol=PROTOCOL).dump(value)
            return file.getvalue()
        return _cloudpickle().dumps(value, protocol=PROTOCOL)  # type: ignore[no-any-return]
    except Exception as error:
        raise SerializationError(
            f"a value of type {_name(type(value))} cannot be sent: {type(error).__name__}: {error}"
        ) from None


def name_main(name: str) -> None:
    """Set the name that the module `__main__` of this process has in containers; its classes are sent by that name
    from now on.
    """
    global _main  # noqa: PLW0603 - of the whole process, as `__main__` is
    _main = name


def named(module: str, qualname: str) -> Any:
    """Return a class or a function of a module, as `_by_name` has written it."""
    return operator.attrgetter(qualname)(importlib.import_module(module))


def loads(data: "bytes | bytearray", python: str = "") -> Any:
    """Return the value; `DeserializationError` says why this side cannot read it.

    `python` is the version of the side that wrote it, if it is known.
    """
    try:
        if python in ("", PYTHON):
            return pickle.loads(data)  # noqa: S301 - between containers of one workspace
        return _Careful(data).load()
    except DeserializationError:
        raise
    except Exception as error:
        raise DeserializationError(_why(error, python)) from None


def failed(error: BaseException) -> Failed:
    """Return an exception as the outcome of a call: its text, and a pickle of it with its causes, if it can be
    pickled.
    """
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes and len(causes) < MAX_CAUSES:
        causes.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    pickled = b""
    if isinstance(error, Exception):  # a `SystemExit` of the container must not end the caller
        while causes and not pickled:
            pickled = _pickled(causes)
            causes.pop()
    return Failed(
        type=_name(type(error)),
        text=_text(error),
        traceback=users_traceback(error, libraries=False),
        pickled=pickled,
        python=PYTHON,
    )


def exception(outcome: Failed) -> Exception:
    """Return the exception that `failed` described, of its own type; the last of its causes is its traceback."""
    trace = RemoteTraceback(outcome.traceback)
    chain: list[BaseException] = []
    reason = ""
    if outcome.pickled:
        try:
            chain = loads(outcome.pickled, outcome.python)
        except DeserializationError as why:
            reason = f" ({why})"
    if not chain or not isinstance(chain[0], Exception):
        kind = DeserializationError if reason else ExecutionError
        error: Exception = kind(f"{outcome.type}: {outcome.text}{reason}")
        error.__cause__ = trace
        return error
    for error_of_chain, cause in zip(chain, [*chain[1:], trace], strict=True):
        error_of_chain.__cause__ = cause
    return chain[0]


class RemoteTraceback(Exception):
    """The traceback in the container, as text: the cause of an exception that a call raises."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}" if self.args else ""


def _is_plain(value: Any) -> bool:
    """Return whether plain pickle does the same as cloudpickle, because the value has no functions and no classes."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind in (tuple, list):
        return len(value) <= _FEW and all(map(_is_plain, value))
    if kind is dict:
        return (
            len(value) <= _FEW
            and all(map(_is_plain, value))
            and all(map(_is_plain, value.values()))
        )
    return False


def _cloudpickle() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return pickle


@functools.cache
def _by_name() -> Any:
    """Return a pickler of cloudpickle that sends objects of `__main__` by their names in containers; None without
    cloudpickle.
    """
    base: Any = getattr(_cloudpickle(), "Pickler", None)
    if not hasattr(base, "reducer_override"):
        return None

    class Pickler(base):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, (type, types.FunctionType)) and value.__module__ == "__main__":
                with contextlib.suppress(AttributeError):
                    if named("__main__", value.__qualname__) is value:
                        return named, (_main, value.__qualname__)
            return super().reducer_override(value)

    return Pickler


def _pickled(causes: "list[BaseException]") -> bytes:
    """Return exceptions pickled, each with its cause at the next place; nothing if they cannot be read back."""
    try:
        data: bytes = _cloudpickle().dumps(causes, protocol=PROTOCOL)
        pickle.loads(data)  # noqa: S301 - our own; a class may pickle and not unpickle
    except Exception:
        return b""
    return data


def _name(kind: type) -> str:
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _why(error: Exception, python: str) -> str:
    """Return why a value cannot be read, as text."""
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        reason = f"it needs the module `{error.name}`, which this side does not have"
    elif isinstance(error, AttributeError):
        reason = f"{error}. Both sides need the same code"
    versions = (
        f" It was written by Python {python}, and this is Python {PYTHON}."
        if python not in ("", PYTHON)
        else ""
    )
    return f"a value cannot be read: {reason}.{versions}"


class _Careful(pickle.Unpickler):
    """Reads values of another Python, but refuses functions: their code works in the other version only."""

    def __init__(self, data: "bytes | bytearray") -> None:
        super().__init__(io.BytesIO(data))

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "cloudpickle":
            raise DeserializationError(
                "a value holds a function or a class that was written for another Python than "
                f"{PYTHON}: use the same Python on both sides, or send plain values"
            )
        return super().find_class(module, name)
