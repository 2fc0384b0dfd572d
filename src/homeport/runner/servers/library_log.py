"""Shows log records of the app server's loggers as uvicorn does, without those about each connection.

Many scripts log through `logging.getLogger("uvicorn.error")`. Uvicorn shows its INFO records with their
level in front; so does this module, unless the script has set up logging itself. Uvicorn's and websockets'
own INFO records (a connection is open, …) are left out.
"""

import logging
import sys
from pathlib import Path


class _Shown(logging.Handler):
    """Shows a record as uvicorn does, if no other handler shows it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record."""
        if logging.getLogger().handlers:
            return  # the script has set up logging since, and sees the record too
        try:
            print(f"{record.levelname + ':':<9} {self.format(record)}", file=sys.stderr)  # noqa: T201 - the container's log
        except Exception:
            self.handleError(record)


class _Quiet(logging.Filter):
    """Leaves out the libraries' records about each connection."""

    def __init__(self) -> None:
        super().__init__()
        self._libraries = tuple(
            f"{Path(file).parent}/"
            for name in ("uvicorn", "websockets")
            if (file := getattr(sys.modules.get(name), "__file__", None))
        )

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is shown."""
        return record.levelno >= logging.WARNING or not record.pathname.startswith(self._libraries)


def show() -> None:
    """Install the handlers. Call it after the script was loaded, which may set up logging itself."""
    quiet = _Quiet()
    for name in ("uvicorn.error", "uvicorn"):
        logger = logging.getLogger(name)
        if not any(isinstance(existing, _Quiet) for existing in logger.filters):
            logger.addFilter(quiet)
    logger = logging.getLogger("uvicorn")
    if not logging.getLogger().handlers and not logger.handlers and not logger.level:
        logger.setLevel(logging.INFO)
        logger.addHandler(_Shown())
