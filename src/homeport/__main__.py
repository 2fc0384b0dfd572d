"""`homeport`, and `python -m homeport`: the command line, quiet when it is interrupted early."""

import sys


def main() -> None:
    """Run one command."""
    try:
        from homeport.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
