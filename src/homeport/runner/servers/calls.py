"""Answers calls: an ASGI app for each function and each `@modal.method` (contract/calls.py has the protocol).

`Admission` calls it like a user's web app, so slots, deadlines, held slots and single use are the same. An async
function runs on the loop, a sync one in a thread of its own.
"""

import asyncio
import inspect
import math
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from homeport.contract import calls
from homeport.contract.manifest import CallMethod, FunctionSpec
from homeport.runner.servers import replies
from homeport.runner.servers.answer import Message, Send
from homeport.runner.servers.replies import Receive, Reply
from homeport.runner.servers.threads import Job, Threads, carried
from homeport.sdk import context, values
from homeport.sdk.exception import (
    GENERATOR,
    NO_GENERATOR,
    DeserializationError,
    FunctionTimeoutError,
    InvalidError,
    SerializationError,
)
from homeport.sdk.tracebacks import users_traceback

if TYPE_CHECKING:
    from homeport.runner.servers.batches import Batches
    from homeport.runner.servers.spawned import Reports

AHEAD = 16  # values that a sync generator may be ahead of its reader
EARLY_S = 0.2
WHOLE = re.compile(r"fc-[0-9a-f-]{1,64}")  # the id of a `.map()`, as its caller says it
DAY_S = 86400.0  # no longer timer: a loop may not take it


def apps(function: FunctionSpec, find: Callable[[CallMethod], Any]) -> "dict[str, Calls]":
    """Return an app for each of a function's call methods; `find` returns the user's code of one."""
    threads = Threads()
    return {
        call.attribute: Calls(
            find(call),
            call,
            threads,
            inputs=function.max_inputs,
            timeout_s=function.timeout_s,
        )
        for call in function.calls
    }


class Calls:
    """One function or method, as an ASGI app."""

    def __init__(
        self,
        function: Any,
        method: CallMethod,
        threads: Threads,
        *,
        inputs: int = 1,
        timeout_s: float = math.inf,
    ) -> None:
        self._function = function
        self._method = method
        self._threads = threads
        self._inputs = inputs
        self._timeout_s = timeout_s
        self._batches: Batches | None = None  # made on the loop
        self._reports: Reports | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one call."""
        if scope["type"] == "lifespan":
            return
        if scope["type"] != "http" or scope["method"] != "POST":  # the ingress lets none of them in
            raise InvalidError("a call is a POST")
        fields = {name: value.decode("latin-1") for name, value in scope["headers"]}
        reply = replies.of(fields, send)
        try:
            body = await replies.body(receive)
        except replies.CallerLeft:
            return
        if (call_id := fields.get(b"x-homeport-call-id")) is not None:
            context.call_id.set(call_id)
            await self._spawned(call_id, fields, reply, body)
            return
        if WHOLE.fullmatch(whole := fields.get(b"x-homeport-map", "")):
            context.call_id.set(whole)
        try:
            self._check_form(fields.get(b"x-homeport-form"))
            args, kwargs = reply.arguments(body)
            del body
        except Exception as error:
            await reply.fail(_unreadable(error, self._method.tag))
            return
        if self._method.generator:
            await self._stream(reply, args, kwargs)
            return
        await reply.whole(*await self._outcome(reply, args, kwargs))

    async def _spawned(
        self, call_id: str, fields: "dict[bytes, str]", reply: Reply, body: "bytes | bytearray"
    ) -> None:
        """Run a spawned call: its outcome goes to the server, and the answer only says that this is over."""
        from homeport.runner.servers.spawned import Reports, Spawned

        self._reports = self._reports or Reports()

        async def work() -> "tuple[str, bytes]":
            try:
                self._check_form(calls.VALUE)
                args, kwargs = reply.arguments(body)
            except Exception as error:
                return calls.FAILED, reply.encode_error(_unreadable(error, self._method.tag))
            return await self._outcome(reply, args, kwargs)

        attempt = Spawned(
            call_id,
            fields.get(b"x-homeport-place", "0"),
            fields.get(b"x-homeport-attempt", "0"),
            timeout_s=self._timeout_s,
            reports=self._reports,
        )

        def refused() -> bytes:
            text = f"the server does not keep the result of `{self._method.tag}`: it is too large"
            return reply.encode_error(SerializationError(text))

        was_claimed = await attempt.run(work, values.PYTHON, refused)
        await reply.over(200 if was_claimed else 409)

    async def _outcome(self, reply: Reply, args: Any, kwargs: Any) -> "tuple[str, bytes]":
        """Return the outcome of one input: its kind, and the body of the answer."""
        try:
            return calls.VALUE, reply.encode(await self._result(args, kwargs))
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            self._say(error)
            return calls.FAILED, reply.encode_error(error)

    async def call(self, args: Any, kwargs: Any) -> Any:
        """Call the function, and return its value."""
        function, task = self._function, asyncio.current_task()
        try:
            if inspect.iscoroutinefunction(function):
                return await function(*args, **kwargs)
            value = await self._threads.run(lambda: function(*args, **kwargs))
            return await value if inspect.isawaitable(value) else value
        except (asyncio.CancelledError, GeneratorExit) as error:
            if _is_ended(error, task):
                raise
            raise carried(error)  # noqa: B904 - it says its cause

    def _check_form(self, form: "str | None") -> None:
        """Refuse `.remote()` of a generator, and `.remote_gen()` of another function."""
        if form == calls.VALUE and self._method.generator:
            raise InvalidError(GENERATOR)
        if form == calls.STREAM and not self._method.generator:
            raise InvalidError(NO_GENERATOR)

    async def _result(self, args: Any, kwargs: Any) -> Any:
        """Return the result of one input."""
        if (batch := self._method.batch) is None:
            return await self.call(args, kwargs)
        if self._batches is None:
            from homeport.runner.servers.batches import Batches

            at_once = max(self._inputs // batch.size, 1)
            self._batches = Batches(
                self._function, batch, self.call, at_once=at_once, name=self._method.tag
            )
        return await self._batches.result(args, kwargs)

    async def _stream(self, reply: Reply, args: Any, kwargs: Any) -> None:
        await reply.begin()
        items: Any = None
        deadline = Deadline(self._timeout_s)
        task = asyncio.current_task()
        try:
            items = self._items(args, kwargs)
            async for item in items:
                await reply.item(item)
        except BaseException as error:
            if not _is_ended(error, task):
                self._say(error)
                await reply.end(error)
                return
            if not deadline.has_passed:
                raise
            text = f"`{self._method.tag}`: the function took longer than {self._timeout_s:g} s"
            await reply.end(FunctionTimeoutError(text))
            return
        finally:
            deadline.stop()
            if items is not None:
                await items.aclose()
        await reply.end(None)

    def _items(self, args: Any, kwargs: Any) -> AsyncIterator[Any]:
        generator = None
        if inspect.isasyncgenfunction(self._function):
            generator = self._function(*args, **kwargs)
        return (
            generator
            if generator is not None
            else _in_thread(self._threads, self._function, args, kwargs)
        )

    def _say(self, error: BaseException) -> None:
        """Print the user's traceback into the container's log."""
        text = f"{self._method.tag} failed\n{users_traceback(error, libraries=False)}"
        print(text, file=sys.stderr)  # noqa: T201 - the container's log


def _is_ended(error: BaseException, task: "asyncio.Task[Any] | None") -> bool:
    """Return whether the call's task was cancelled or closed; else the function itself raised the error.

    A function can raise `CancelledError` too: it awaits a task that it has cancelled.
    """
    if isinstance(error, asyncio.CancelledError):
        cancelling = getattr(task, "cancelling", None)  # Python 3.10 does not know
        return cancelling is None or cancelling() > 0
    if isinstance(error, GeneratorExit):
        try:
            return asyncio.current_task() is not task
        except RuntimeError:  # the loop has ended
            return True
    return False


class Deadline:
    """Cancels the running task a little before `Admission` does, while the stream can still say why it ends."""

    def __init__(self, timeout_s: float) -> None:
        self.has_passed = False
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        if timeout_s <= DAY_S:
            early_s = min(EARLY_S, timeout_s / 10)
            self._timer = asyncio.get_running_loop().call_later(timeout_s - early_s, self._pass)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _pass(self) -> None:
        self.has_passed = True
        if self._task is not None:
            self._task.cancel()


async def _in_thread(threads: Threads, function: Any, args: Any, kwargs: Any) -> AsyncIterator[Any]:
    """Yield the values of a sync generator, which runs in one thread, a little ahead of its reader."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    room = threading.Semaphore(AHEAD)
    over = object()
    closed = False

    def work() -> None:
        items = None
        try:
            items = function(*args, **kwargs)
            for item in items:
                loop.call_soon_threadsafe(arrived.put_nowait, item)
                room.acquire()
                if closed:
                    return
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            loop.call_soon_threadsafe(arrived.put_nowait, over)

    job = Job(work)
    threads.start(job)
    try:
        while (item := await arrived.get()) is not over:
            yield item
            room.release()
        await job.done
    except BaseException:
        closed = True
        room.release()
        job.cancel()
        raise


def _unreadable(error: Exception, tag: str) -> Exception:
    """Return the error for arguments that this container cannot read."""
    if isinstance(error, DeserializationError):
        return DeserializationError(f"the container of `{tag}` cannot read its arguments: {error}")
    return error
