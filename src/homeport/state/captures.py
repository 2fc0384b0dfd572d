"""Keeps captured requests: a file for each, mode 0600, in a folder for each environment.

`captures/<id>.json` in the home; other environments than `main` have a folder each. Together the files of an environment are
never larger than a cap, and each goes after a day. Its methods wait for the disk: call them in a thread.
"""

import contextlib
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from homeport import private
from homeport.contract import codec
from homeport.contract.captured import KEPT_S, Captured
from homeport.contract.errors import StorageError
from homeport.contract.sizes import MIB
from homeport.state.scope import MAIN, Scope, folder

CAP_BYTES = 64 * MIB  # of an environment
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

log = logging.getLogger(__name__)


class Captures:
    """The captured requests of all environments."""

    def __init__(
        self, root: Path, cap_bytes: int = CAP_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self._root = root
        self._cap_bytes = cap_bytes
        self._clock = clock
        self._turn = threading.Lock()  # one change after the other

    def add(
        self,
        scope: Scope,
        captured: Captured,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Keep a request; False if its id is not one, or is known already. `StorageError` if the disk takes none.

        `is_wanted` is asked once no `remove` can come between: its app may have been stopped.
        """
        if not _ID.fullmatch(captured.id):
            return False
        data = codec.line(captured)
        path = self._path(scope, captured.id)
        with self._turn:
            if not is_wanted() or path.exists() or len(data) > self._cap_bytes:
                return False
            try:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._make_room(scope, len(data))
                private.write(path, data)
            except OSError as error:
                raise StorageError(
                    f"a captured request cannot be stored: {error.strerror}"
                ) from error
        return True

    def find(self, scope: Scope, request: str) -> Captured | None:
        """Return the captured request with this id; None if there is none."""
        if not _ID.fullmatch(request):
            return None
        return self._read(self._path(scope, request))

    def every(self, scope: Scope) -> list[Captured]:
        """Return all of an environment, the oldest first."""
        captured_requests = [self._read(path) for path, _ in self._files(scope)]
        return sorted(
            (captured for captured in captured_requests if captured is not None),
            key=lambda captured: captured.at,
        )

    def remove_app(self, scope: Scope, app: str) -> None:
        """Delete those of an app."""
        with self._turn:
            for path, _ in self._files(scope):
                if (captured := self._read(path)) is not None and captured.app == app:
                    path.unlink(missing_ok=True)

    def remove(self, scope: Scope) -> None:
        """Delete those of an environment."""
        with self._turn:
            if scope != MAIN:
                shutil.rmtree(self._root / folder(scope), ignore_errors=True)
                return
            for path, _ in self._files(scope):
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete captured requests that are a day old, or cannot be read."""
        with self._turn:
            for path in self._root.rglob("*.json"):
                with contextlib.suppress(OSError):
                    if self._is_old(path):
                        path.unlink(missing_ok=True)

    def _is_old(self, path: Path) -> bool:
        # A clock that was wrong must not keep a file for ever.
        return not -KEPT_S < self._clock() - path.stat().st_mtime < KEPT_S

    def _read(self, path: Path) -> Captured | None:
        try:
            if self._is_old(path):
                return None
            return codec.loads(Captured, path.read_bytes())
        except OSError:  # it was deleted meanwhile
            return None
        except (ValueError, TypeError, KeyError) as error:
            log.warning("the captured request %s cannot be read: %s", path.name, error)
            return None

    def _make_room(self, scope: Scope, more: int) -> None:
        """Delete the oldest ones until so many more bytes fit."""
        files = sorted(self._files(scope), key=lambda file: file[1].st_mtime)
        size = sum(status.st_size for _, status in files) + more
        for path, status in files:
            if size <= self._cap_bytes:
                break
            path.unlink(missing_ok=True)
            size -= status.st_size

    def _files(self, scope: Scope) -> Iterator[tuple[Path, os.stat_result]]:
        for path in (self._root / folder(scope)).glob("*.json"):
            with contextlib.suppress(OSError):
                yield path, path.stat()

    def _path(self, scope: Scope, request: str) -> Path:
        return self._root / folder(scope) / f"{request}.json"
