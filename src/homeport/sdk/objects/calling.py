"""Calls of functions: `.remote()`, `.remote_gen()` and what they share with `.map()`.

A call goes over the ingress's socket (`homeport.wire`). This file decides the endpoint and the body of a request, reads
the answer, and decides whether and when to try again.
"""

import json
import sys
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

from homeport import wire
from homeport.contract import calls, errors
from homeport.sdk import context, exception, outside, traces, values
from homeport.sdk.objects.target import Target

PATIENCE_S = 30.0  # how long to try while no server answers: a restart takes less
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
SLICE_S = 0.25  # a waiting thread checks this often whether its call was cancelled
MOST_FORGOTTEN = 5  # tries of one call to make its variant again
NO_CONTAINER = "no container takes the request now"


def request(target: Target, args: Any, kwargs: Any, form: str, whole: str = "") -> wire.Request:
    """Return the request of a call; `whole` is the id of the `.map()` call of which this is one input."""
    _say_if_endless(target)
    fields = {calls.PYTHON: values.PYTHON, calls.FORM: form, **traces.fields()}
    if whole:
        fields[calls.MAP] = whole
    if (parent := context.current_function_call_id()) is not None:
        fields[calls.PARENT] = parent
    body = values.dumps((args, kwargs))
    return wire.Request(target.endpoint, body, query=target.query, fields=fields)


def _say_if_endless(target: Target) -> None:
    """Log that a function waits for itself, if it calls itself and its one container is full."""
    reach = context.reach()
    if reach is None or target.tag not in reach.own or target.variant or not context.is_full():
        return
    if (target.app, target.scope, target.query) == (reach.app, reach.scope, reach.query):
        print(  # noqa: T201 - the container's log
            f"`{target.tag}` waits for itself: it has max_containers=1, and this container takes no other call "
            "now. Allow more containers, or more inputs with @modal.concurrent",
            file=sys.stderr,
        )


class Attempts:
    """Decides after each try of one call what its answer means, and whether and when there is another try."""

    def __init__(self, target: Target, *, may_retry: bool = True) -> None:
        self._target = target
        self._may_retry = may_retry
        self._retries = 0
        self._policy: calls.Retries | None = None
        self._waits_since = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._forgotten = 0  # how often the server did not know the variant

    def value(self, answer: wire.Answer) -> Any:
        """Return the value in an answer, or raise the error in it."""
        if policy := answer.fields.get("x-homeport-retries"):
            self._policy = calls.Retries.parse(policy)
        python = answer.fields.get("x-homeport-python", "")
        if answer.outcome == calls.VALUE:
            return values.loads(answer.body, python)
        if answer.outcome == calls.FAILED:
            raise _Failed(values.exception(calls.Failed.decode(bytes(answer.body))))
        raise self._refused(answer)

    def pause_s(self, error: Exception) -> float:
        """Return the seconds until the next try after this failure; raise the failure if there is none."""
        if isinstance(error, _Nobody):
            now = time.monotonic()
            self._waits_since = self._waits_since or now
            if now - self._waits_since > PATIENCE_S or not error.may_come:
                raise exception.ConnectionError(str(error)) from None
            self._pause_s, pause = min(self._pause_s * 2, LONGEST_PAUSE_S), self._pause_s
            return pause
        self._waits_since = 0.0
        actual = error.error if isinstance(error, _Failed) else error
        if not isinstance(
            error, (_Failed, exception.FunctionTimeoutError, exception.InternalFailure)
        ):
            raise actual
        policy = self._policy
        if policy is None or not self._may_retry or self._retries >= policy.max_retries:
            raise actual
        self._retries += 1
        return policy.delay_s(self._retries - 1)

    def broken(self, error: Exception) -> Exception:
        """Return the failure for a connection that could not be made, or that ended early."""
        if isinstance(error, wire.Unreachable):
            where = str(error.filename or "")
            if "://" in where:
                text = f"the homeport server at {where} does not answer: {error.strerror}"
            else:
                text = "the homeport server does not answer: start it with `homeport up`"
            return _Nobody(text, may_come=not context.is_local())
        return exception.InternalFailure(
            f"the connection to `{self._target.tag}` ended before its answer came ({error}); "
            "it is not known whether it ran"
        )

    def _refused(self, answer: wire.Answer) -> Exception:
        """Return the failure for an answer that no container's function gave."""
        if answer.fields.get("content-type", "").startswith("application/json"):
            return _from_remote_api(bytes(answer.body))
        text = bytes(answer.body).decode("utf-8", "replace").strip().removeprefix("homeport: ")
        tag, status = self._target.tag, answer.status
        if status == 404 and self._target.variant and self._forgotten < MOST_FORGOTTEN:
            self._forgotten += 1
            from homeport.sdk.objects import variants

            variants.forget(self._target)
            return _Nobody(text, may_come=True)
        if status == 404:
            return self._missing()
        if status == 503:
            return _Nobody(text or NO_CONTAINER, may_come=True)
        if status == 504:
            return exception.FunctionTimeoutError(f"`{tag}`: {text}")
        if status == 502:
            return exception.InternalFailure(f"the container of `{tag}` ended before it answered")
        kinds: dict[int, type[Exception]] = {
            400: exception.InvalidError,
            413: exception.RequestSizeError,
            429: exception.ResourceExhaustedError,
        }
        return kinds.get(status, exception.ExecutionError)(f"`{tag}`: {text or status}")

    def _missing(self) -> Exception:
        target = self._target
        if not target.is_named:
            return exception.NotFoundError(
                f"`{target.tag}` is not served by the app `{target.app}`"
            )
        kind = "Cls" if "." in target.tag else "Function"
        where = f" (in the '{target.environment}' environment)" if target.environment else ""
        return exception.NotFoundError(
            f"Lookup failed for {kind} '{target.tag.partition('.')[0]}' from the '{target.app}' app"
            f"{where}: no deployed app of this server has it"
        )


def _from_remote_api(body: bytes) -> Exception:
    """Return the exception for an error of a remote server's API, which did not pass the call on: a wrong token,
    say.
    """
    try:
        failure = errors.Failure.from_dict(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return exception.ExecutionError(
            "what answers at HOMEPORT_SERVER is not a homeport server's API"
        )
    try:
        outside.translate(failure)
    except Exception as error:
        return error


class _Failed(Exception):
    """Raised when the function has raised: `retries=` may try it again."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _Nobody(Exception):
    """Raised when no container took the request, so the function did not run."""

    def __init__(self, text: str, *, may_come: bool) -> None:
        super().__init__(text)
        self.may_come = may_come


def call(target: Target, args: Any, kwargs: Any) -> Any:
    """Call the function, and return what it returns; blocks."""
    _warn_in_loop()
    attempts, path = Attempts(target), socket()
    sent = request(target, args, kwargs, calls.VALUE)
    while True:
        try:
            if target.variant:
                _make(target)
            return attempts.value(wire.ask(path, sent))
        except (wire.Unreachable, wire.CutOff) as error:
            failure = attempts.broken(error)
        except Exception as error:
            failure = error
        sleep(attempts.pause_s(failure))


async def call_async(target: Target, args: Any, kwargs: Any, whole: str = "") -> Any:
    """Call the function, and return what it returns; `whole` is as in `request`."""
    import asyncio

    attempts, path = Attempts(target), socket()
    sent = request(target, args, kwargs, calls.VALUE, whole)
    while True:
        try:
            if target.variant:
                await _make_async(target)
            return attempts.value(await wire.ask_async(path, sent))
        except (wire.Unreachable, wire.CutOff) as error:
            failure = attempts.broken(error)
        except Exception as error:
            failure = error
        await asyncio.sleep(attempts.pause_s(failure))


def stream(target: Target, args: Any, kwargs: Any) -> Iterator[Any]:
    """Call a generator, and yield its values as they come; blocks."""
    _warn_in_loop()
    attempts, path = Attempts(target, may_retry=False), socket()
    sent = request(target, args, kwargs, calls.STREAM)
    while True:
        try:
            if target.variant:
                _make(target)
            answer, frames = wire.frames(path, sent)
            if answer.outcome != calls.STREAM:
                attempts.value(answer)
            break
        except (wire.Unreachable, wire.CutOff) as error:
            failure = attempts.broken(error)
        except Exception as error:
            failure = error
        sleep(attempts.pause_s(failure))
    python = answer.fields.get("x-homeport-python", "")
    ended = False
    try:
        for kind, body in frames:
            if kind == calls.END:
                ended = True
                continue  # read the answer to its end, so that the connection can be used again
            yield _item(kind, body, python)
    except wire.CutOff as error:
        raise attempts.broken(error) from None
    finally:
        frames.close()  # type: ignore[attr-defined]
    if not ended:
        raise attempts.broken(wire.CutOff("the stream has no end"))


async def stream_async(target: Target, args: Any, kwargs: Any) -> AsyncIterator[Any]:
    """Call a generator, and yield its values as they come."""
    import asyncio

    attempts, path = Attempts(target, may_retry=False), socket()
    sent = request(target, args, kwargs, calls.STREAM)
    while True:
        try:
            if target.variant:
                await _make_async(target)
            answer, frames = await wire.frames_async(path, sent)
            if answer.outcome != calls.STREAM:
                attempts.value(answer)
            break
        except (wire.Unreachable, wire.CutOff) as error:
            failure = attempts.broken(error)
        except Exception as error:
            failure = error
        await asyncio.sleep(attempts.pause_s(failure))
    python = answer.fields.get("x-homeport-python", "")
    ended = False
    try:
        async for kind, body in frames:
            if kind == calls.END:
                ended = True
                continue  # read the answer to its end, so that the connection can be used again
            yield _item(kind, body, python)
    except wire.CutOff as error:
        raise attempts.broken(error) from None
    finally:
        await frames.aclose()  # type: ignore[attr-defined]
    if not ended:
        raise attempts.broken(wire.CutOff("the stream has no end"))


def _make(target: Target) -> None:
    """Ask the server for a variant, if this process has not done so."""
    from homeport.sdk.objects import exchange, variants  # only where it is used

    if not variants.is_made(target):
        exchange.Operation(variants.make)(target)


async def _make_async(target: Target) -> None:
    """The same on an event loop."""
    from homeport.sdk.objects import exchange, variants

    if not variants.is_made(target):
        await exchange.Operation(variants.make).aio(target)


def _item(kind: bytes, body: bytes, python: str) -> Any:
    """Return the value of a frame, or raise the exception in it."""
    if kind == calls.ERROR:
        raise values.exception(calls.Failed.decode(body))
    return values.loads(body, python)


def socket() -> wire.Address:
    """Return where calls go; raise if this process may call nothing."""
    reach = context.reach()
    if reach is None:
        return _own_socket()
    if not reach.socket:
        raise exception.PermissionDeniedError(
            "this container may call no function: it has `restrict_modal_access=True`"
        )
    return wire.address_of(reach.socket, reach.token)


def _own_socket() -> wire.Address:
    """Return the socket of this machine's server, or the server that HOMEPORT_SERVER names: for a script of its user."""
    settings = outside.settings()
    return wire.address_of(settings.server or str(settings.calls_socket), settings.token)


def sleep(seconds: float) -> None:
    """Sleep; wake early if the call is cancelled."""
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        time.sleep(min(left_s, SLICE_S))


def in_loop() -> bool:
    """Return whether an event loop runs in this thread."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - documented for this


def _warn_in_loop() -> None:
    """Warn that a blocking call stops the event loop that it is made on."""
    if in_loop():
        warnings.warn(
            "a blocking call stops the event loop until the answer comes: `await` the same with `.aio`, "
            "as in `await f.remote.aio(…)`",
            exception.AsyncUsageWarning,
            stacklevel=5,
        )
