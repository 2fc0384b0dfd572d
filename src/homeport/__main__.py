"""`homeport`, and `python -m homeport`: the command line, quiet when it is interrupted early."""

import signal
import sys


def main() -> None:
    """Run one command."""
    try:
        from homeport.cli.main import main as run

        run()
    except KeyboardInterrupt:
        # A thread may be waiting for a process; the next Ctrl-C ends this at once, and quietly.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.exit(130)


if __name__ == "__main__":
    main()
