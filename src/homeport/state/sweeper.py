"""Removes what nothing refers to any more: uploaded files, and secrets that came with a manifest.

Called at the start and after each change. A file is uploaded before the deploy that needs it is known,
so a file is kept for an hour after it was uploaded or asked for; the files that a change under way refers to are
kept in any case.
"""

import asyncio
import logging
from collections.abc import Callable, Collection

from homeport.contract.errors import StorageError
from homeport.state.blobs import Blobs
from homeport.state.rows import Revision
from homeport.state.scope import Scoped
from homeport.state.secrets import SecretBox
from homeport.state.store import Stores
from homeport.supervised import Tasks

KEPT_S = 3600.0
DELAY_S = 2.0  # several changes at once are one sweep

log = logging.getLogger(__name__)


class Sweeper:
    """Removes files and secrets that neither the store nor a live app refers to."""

    def __init__(
        self,
        store: Stores,
        secrets: Scoped[SecretBox],
        blobs: Blobs,
        in_use: Callable[[], Collection[Revision]],
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._blobs = blobs
        self._in_use = in_use  # revisions that serve or are brought up, stored or not
        self._is_due = False
        self._tasks = Tasks()

    def soon(self) -> None:
        """Sweep after a short delay."""
        self._is_due = True
        if not len(self._tasks):
            self._tasks.start("sweeping", self._later())

    async def sweep(self) -> None:
        """Remove what nothing refers to."""
        revisions = self._in_use()
        fingerprints = {revision.fingerprint for revision in revisions}
        for box in self._secrets:
            await box.forget_inline(fingerprints)
        needed = await self._store.hashes()
        needed |= {
            file.sha256 for r in revisions for file in (*r.manifest.files, *r.manifest.build_files)
        }
        await self._blobs.sweep(needed, KEPT_S)

    async def close(self) -> None:
        """Stop."""
        await self._tasks.close()

    async def _later(self) -> None:
        while self._is_due:
            await asyncio.sleep(DELAY_S)
            self._is_due = False  # a change that ends from now on is not seen by this sweep
            try:
                await self.sweep()
            except StorageError as error:  # the next change sweeps again
                log.warning("nothing is swept: %s", error.message)
