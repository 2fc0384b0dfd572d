"""`homeport`, and `python -m homeport`: runs the command line; Ctrl-C before and after a command prints no traceback."""

import _signal  # type: ignore[import-not-found]  # `signal` imports `enum`, and Ctrl-C during an import prints a traceback
import gc
import sys

#: New objects between two garbage collections. Python's 700 is for programs that make garbage. What a command imports
#: is none, and looking at all of it again and again took a fifth of the command's CPU time.
OBJECTS = 50_000


def main() -> None:
    """Run one command."""
    gc.set_threshold(OBJECTS)
    try:
        _main()
    finally:
        gc.freeze()  # else the interpreter's end collects garbage among all that was imported


def _main() -> None:
    # An import that Ctrl-C interrupts would print where; so it ends this process as it ends `sleep`.
    before = _signal.getsignal(_signal.SIGINT)
    if before is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _open_streams()
    from homeport.cli import ahead

    ahead.begin(sys.argv[1:])
    from homeport.cli.main import main as run

    if before is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, before)
    try:
        run()
    except KeyboardInterrupt:
        # A thread may still wait for a process; the next Ctrl-C ends it at once, without a traceback.
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        sys.exit(130)
    except SystemExit:
        if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        raise
    finally:
        ahead.end()


def _open_streams() -> None:
    """Open /dev/null for each standard stream that is closed: a pipe of ours would get its number, and be taken for it."""
    import os

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            os.set_inheritable(null, True)
            setattr(sys, name, open(null, "w" if number else "r", closefd=False))  # noqa: SIM115 - for the whole process


if __name__ == "__main__":
    main()
