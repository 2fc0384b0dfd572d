"""Fills a zygote's shelf with the modules that all its containers need, or that one function imports."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence

from homeport.sdk.preload.recorder import Recorder
from homeport.sdk.preload.repeats import repeat
from homeport.sdk.preload.shelf import Shelf

PR_SET_PDEATHSIG = 1  # linux/prctl.h
MAX_REASON = 4096
MOST_UNSAFE = 20
MOST_S = 90.0  # after this time no further import is started
ENDED = "the process ended while it was imported"


def load(shelf: Shelf, modules: Sequence[str], *, apart: bool) -> tuple[str, str]:
    """Put the modules on the shelf. Return the unsafe one and why; the process must end then.

    Without `apart` they are loaded together, which takes less time, and an unsafe one has no name.
    """
    recorder = Recorder(shelf)
    for names in ([name] for name in modules) if apart else [modules]:
        if reason := recorder.load(*names):
            return names[0] if apart else "", reason
    _finish(shelf)
    return "", ""


def load_safe(
    shelf: Shelf,
    modules: Iterable[str],
    source: str,
    own: Iterable[str],
    avoid: Iterable[str],
    forked: Callable[[], None],
) -> dict[str, str]:
    """Put the safe modules on the shelf. Return the unsafe ones, each with the reason.

    `own` and `avoid` are those of `Recorder`. A child imports each module, and continues instead of this
    process if the module is safe. `forked` is called in each child, because its pid differs.
    """
    recorder = Recorder(shelf, source=source, own=own, avoid=avoid)
    unsafe: dict[str, str] = {}
    deadline = time.monotonic() + MOST_S
    for name in modules:
        if recorder.knows(name) or any(
            name.startswith(f"{unsafe_name}.") for unsafe_name in unsafe
        ):
            continue
        if len(unsafe) > MOST_UNSAFE or time.monotonic() > deadline:
            break
        result_reader, result_writer = os.pipe()
        child = os.fork()
        if child:
            os.close(result_writer)
            with os.fdopen(result_reader, "rb") as file:
                word = file.read(MAX_REASON).decode("utf-8", "replace")
            if word == "safe":
                os._exit(0)
            os.waitpid(child, 0)
            unsafe[name] = word or ENDED
            forked()
            continue
        os.close(result_reader)
        _end_with_parent(signal.SIGKILL)
        forked()
        reason = recorder.load(name)
        if reason:
            os.write(result_writer, reason.encode("utf-8", "replace")[:MAX_REASON])
            os._exit(0)
        _end_with_parent(0)
        os.write(result_writer, b"safe")
        os.close(result_writer)
    _finish(shelf, source)
    return unsafe


def _finish(shelf: Shelf, source: str = "") -> None:
    shelf.settle(source)
    shelf.prepare()
    shelf.repeat, shelf.looks = repeat, lambda _name: None


def _end_with_parent(number: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
