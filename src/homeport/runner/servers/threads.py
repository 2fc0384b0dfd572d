"""Threads for sync functions: one for each slot, made when it is first needed.

A call gets a thread of its own and not a place in asyncio's executor, whose size is not that of the slots. A call
that is cancelled gets `InputCancellation` raised in its thread.
"""

import asyncio
import contextlib
import contextvars
import ctypes
import queue
import threading
from collections.abc import Callable
from typing import Any

from homeport.sdk.exception import InputCancellation


class Job:
    """Work in a thread, and its outcome on the loop."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._work = work
        # `slots.busy` finds a request's thread by this context.
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._thread = 0  # the thread that runs it now
        self._is_cancelled = False

    def run(self) -> None:
        """Do the work; called in the thread."""
        context = self._context  # `slots.busy` looks for it in this frame
        with self._lock:
            if self._is_cancelled:
                return
            self._thread = threading.get_ident()
        outcome, error = None, None
        try:
            try:
                outcome = context.run(self._work)
            except BaseException as raised:
                error = raised
            finally:
                with self._lock:
                    self._thread = 0
        except InputCancellation as late:
            error = late
        if self._is_cancelled:
            _raise_in(threading.get_ident(), None)  # so that it is not raised in the next job
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._finish, outcome, error)

    def cancel(self) -> None:
        """Raise `InputCancellation` in the thread; a call of C code hears it when it returns."""
        with self._lock:
            self._is_cancelled = True
            if self._thread:
                _raise_in(self._thread, InputCancellation)

    def _finish(self, outcome: Any, error: BaseException | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(outcome)
        else:
            self.done.set_exception(carried(error))


def _raise_in(thread: int, kind: "type[BaseException] | None") -> None:
    """Raise an exception in a thread at its next bytecode; None removes one that was not raised yet."""
    raised = ctypes.py_object(kind) if kind is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


def carried(error: BaseException) -> BaseException:
    """Return the error as a future may have it: these three would end the coroutine that waits for it."""
    if isinstance(error, (StopIteration, GeneratorExit, asyncio.CancelledError)):
        raised = RuntimeError(f"the function raised {type(error).__name__}")
        raised.__cause__ = error
        return raised
    return error


class Threads:
    """The threads of one container."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._idle = 0  # threads that wait for a job
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], Any]) -> Any:
        """Return what `work` returns; if this is cancelled, cancel the work too."""
        job = Job(work)
        self.start(job)
        try:
            return await job.done
        except asyncio.CancelledError:
            job.cancel()
            raise

    def start(self, job: Job) -> None:
        """Give the job to an idle thread, or to a new one."""
        with self._lock:
            has_idle = self._idle > 0
            if has_idle:
                self._idle -= 1
        self._jobs.put(job)
        if not has_idle:
            threading.Thread(target=self._work, name="homeport call", daemon=True).start()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            with contextlib.suppress(InputCancellation):  # the job had ended when it was raised
                job.run()
            with self._lock:
                self._idle += 1
