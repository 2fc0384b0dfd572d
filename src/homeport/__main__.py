"""`homeport`, and `python -m homeport`: runs the command line; Ctrl-C before and after a command prints no traceback."""

import signal
import sys


def main() -> None:
    """Run one command."""
    # An import that Ctrl-C interrupts would print where; so it ends this process as it ends `sleep`.
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from homeport.cli import ahead

    ahead.begin(sys.argv[1:])
    from homeport.cli.main import main as run

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, before)
    try:
        run()
    except KeyboardInterrupt:
        # A thread may still wait for a process; the next Ctrl-C ends it at once, without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.exit(130)
    except SystemExit:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise


if __name__ == "__main__":
    main()
