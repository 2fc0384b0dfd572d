"""`homeport`, and `python -m homeport`: runs the command line; Ctrl-C during the imports prints no traceback."""

import signal
import sys


def main() -> None:
    """Run one command."""
    try:
        from homeport.cli.main import main as run

        run()
    except KeyboardInterrupt:
        # A thread may still wait for a process; the next Ctrl-C ends it at once, without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.exit(130)


if __name__ == "__main__":
    main()
