"""Work for threads, done at once."""

import asyncio
from concurrent.futures import Executor, Future


class InPlace(Executor):
    """Runs each function at once, in the caller's thread.

    For an event loop that future is the loop's own, done in the loop's next pass: as with a thread, the caller is interrupted,
    but no lock and no socket of the loop is needed, which take longer than a small statement of SQL.
    """

    def submit(self, fn, /, *args, **kwargs):
        loop = asyncio._get_running_loop()
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            return _done(loop, "set_exception", error)
        return _done(loop, "set_result", value)


def _done(loop, how, what):
    if loop is None:
        future = Future()
        getattr(future, how)(what)
        return future
    future = loop.create_future()  # `run_in_executor` returns it as it is
    loop.call_soon(_do, future, how, what)
    return future


def _do(future, how, what):
    if not future.done():  # cancelled meanwhile
        getattr(future, how)(what)
