"""The files of revisions: their source trees and images, written for a rollout and deleted once nothing needs them.

Called by `rollout` and `versions`. A revision that is brought up, serves, or may come back by an undo keeps its files.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from homeport import removing
from homeport.contract import output
from homeport.contract.image import OUTSIDE, outside
from homeport.contract.manifest import FunctionSpec
from homeport.contract.supplies import Supplies
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.trial import Say
from homeport.control.fleet import scheduler
from homeport.control.fleet.nodes import OWN
from homeport.state.rows import Revision
from homeport.supervised import Tasks
from homeport.undo import unbroken

TURN = 20  # revisions whose images are looked for before others on the event loop have their turn


class Trees:
    """All source trees, in the home's directory `revisions`."""

    def __init__(self, parts: Parts) -> None:
        self.directory = parts.settings.home / "revisions"
        self.underway: list[
            Revision
        ] = []  # revisions that are brought up, or may be restored by an undo
        self._live = parts.live
        self._plans = parts.plans
        self._blobs = parts.blobs
        self._pools = parts.pools
        self._reconciler = parts.reconciler
        self._nodes = parts.nodes
        self._secrets = parts.secrets
        self._tasks = Tasks()
        self._building: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._came_back, self._is_looking = False, False
        parts.nodes.returned = self._returned
        parts.pools.on_removed.append(lambda pool: self.tidy(pool.key.revision))

    async def close(self) -> None:
        """Cancel the background tasks."""
        await self._tasks.close()

    def in_use(self) -> list[Revision]:
        """Return the revisions that serve or are brought up."""
        return [app.revision for app in self._live.all()] + self.underway

    def sweep(self, running: Collection[str]) -> None:
        """Delete all source trees that no container of an earlier server uses; blocks.

        They are written again from the blobs, because a tree may be half-written or half-deleted.
        """
        with contextlib.suppress(OSError):
            for tree in self.directory.iterdir():
                if tree.name.removesuffix(OUTSIDE) not in running:
                    removing.discard(str(tree))

    def tidy(self, revision: str) -> None:
        """Delete a revision's files when no live app, change or pool needs them."""
        needed = {revision_in_use.id for revision_in_use in self.in_use()}
        if revision in needed or any(pool.key.revision == revision for pool in self._pools):
            return
        self._plans.forget(revision)
        tree = self.directory / revision
        for part in (tree, Path(outside(str(tree)))):
            renamed = self.directory / f"{revision}.{secrets.token_hex(4)}.gone"
            with contextlib.suppress(OSError):  # nothing was laid out
                part.rename(renamed)
                work = asyncio.to_thread(_delete, str(renamed))
                self._tasks.start(f"removing the files of {revision}", work)

    @contextlib.contextmanager
    def keeping(self, revision: Revision | None) -> Iterator[None]:
        """Keep a revision's files, image layers and secrets during the block."""
        if revision is None:
            yield
            return
        self.underway.append(revision)
        try:
            yield
        finally:
            self._live.claims.pop(revision.id, None)
            self.underway.remove(revision)
            self.tidy(revision.id)

    async def lay_out(self, revision: Revision, say: Say, *, on_disk: bool = False) -> Path:
        """Write the revision's source tree and build its images; return the tree.

        `on_disk`: also write the uploaded files through to the disk, so that a saved version outlives a power cut.
        """
        tree = self.directory / revision.id
        async with self._building.setdefault(revision.id, asyncio.Lock()):
            # `unbroken`: a cancelled thread would continue, and write a tree that was deleted meanwhile.
            await unbroken(self._blobs.lay_out(revision.manifest.files, tree))
            await self._build(revision, tree, say)
        if on_disk:
            manifest = revision.manifest
            await self._blobs.sync((*manifest.files, *manifest.build_files))
        if self._lacks(revision):  # on a node that is slower, or failed
            self._build_later(revision)
        return tree

    async def lay_out_again(self, revision: Revision) -> Path:
        """Write the files of a revision that has served before; after a failure, delete them."""
        try:
            return await self.lay_out(revision, lambda _text: None)
        except BaseException:
            self.tidy(revision.id)
            raise

    async def _build(
        self, revision: Revision, tree: Path, say: Say, *, everywhere: bool = False
    ) -> None:
        """Build the revision's images, on a node that can run each function; or on every node that answers."""
        build_files = tree.with_name(f"{tree.name}.build")  # the files that the images' steps read
        try:
            await unbroken(self._blobs.lay_out(revision.manifest.build_files, build_files))
            for spec in revision.manifest.functions:
                supplies = Supplies(
                    secrets=self._secrets.of(revision.scope).for_build(spec),
                    volumes=spec.build_volumes,
                )
                self._say_where(spec, say)
                steps = _Steps(spec.name, say)
                await self._nodes.prepare(
                    spec.image,
                    str(tree),
                    supplies,
                    steps.tell,
                    suits=partial(scheduler.suits, spec),
                    everywhere=everywhere,
                )
                steps.end()
        finally:
            await asyncio.to_thread(removing.discard, str(build_files))

    def _say_where(self, spec: FunctionSpec, say: Say) -> None:
        """Say so if only some of the machines can run a function, because of its volumes or its region."""
        taking = [m for m in self._nodes.taking() if m.capacity is not None]
        able = [m.name for m in taking if m.capacity and scheduler.suits(spec, m.capacity)]
        if spec.region and not any(m.capacity and m.capacity.region is not None for m in taking):
            say(f"`{spec.name}`: `region` has no effect, because no machine has a label `region`")
        if (spec.volumes or spec.region) and 0 < len(able) < len(taking):
            where = "the server's machine" if able == [OWN] else ", ".join(able)
            why = "has volumes" if spec.volumes else "has a region"
            say(f"`{spec.name}` {why}, so its containers run on {where} alone")

    def _returned(self) -> None:
        """Build the images that were built while a node was away, because the node answers again."""
        self._came_back = True
        if not self._is_looking:
            self._is_looking = True
            self._tasks.start("looking for images that a node lacks", self._look_for_images())

    async def _look_for_images(self) -> None:
        try:
            while self._came_back:
                self._came_back = False
                revisions = {revision.id: revision for revision in self.in_use()}
                for number, revision in enumerate(revisions.values()):
                    if number % TURN == TURN - 1:  # there may be thousands, and a thousand nodes
                        await asyncio.sleep(0)
                    if self._lacks(revision):
                        self._build_later(revision)
        finally:
            self._is_looking = False

    def _build_later(self, revision: Revision) -> None:
        name = f"building images of `{revision.app}` on further nodes"
        self._tasks.start(name, self._build_again(revision))

    async def _build_again(self, revision: Revision) -> None:
        async with self._building.setdefault(revision.id, asyncio.Lock()):
            if not self._lacks(revision) or revision.id not in {
                in_use.id for in_use in self.in_use()
            }:
                return  # a deploy has built them meanwhile, or has failed
            with self.keeping(revision):
                tree = self.directory / revision.id
                await self._build(revision, tree, lambda _text: None, everywhere=True)
        for pool in self._pools.of_revision(revision.app, revision.id):
            self._reconciler.wake(pool)

    def _lacks(self, revision: Revision) -> bool:
        return any(self._nodes.lack(spec.image) for spec in revision.manifest.functions)


def _delete(tree: str) -> None:
    """Delete a tree in which the compilation of its files may still write; what cannot be deleted stays."""
    try:
        removing.remove(tree)
    except OSError:
        removing.discard(tree)


class _Steps:
    """Adds the image's name to a build's reports of its steps, and reports its end if it had steps."""

    def __init__(self, image: str, say: Say) -> None:
        self._image, self._say = image, say
        self._count = 0

    def tell(self, text: str) -> None:
        if (marked := output.read_step(text)) is not None:
            number, self._count, name, _ = marked
            text = output.step(number, self._count, name, self._image)
        self._say(text)

    def end(self) -> None:
        if self._count:
            self._say(output.step(0, self._count, "", self._image))
