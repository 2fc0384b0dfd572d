"""Work for threads, done at once."""

from concurrent.futures import Executor, Future


class InPlace(Executor):
    """Runs each function at once, in the caller's thread."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future
