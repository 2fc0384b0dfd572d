"""Files and secrets are removed when nothing refers to them, and not before."""

import asyncio
import dataclasses
import hashlib
import os

import pytest

from homeport.contract.errors import NotFound, StorageError
from homeport.contract.manifest import SourceFile
from homeport.contract.scope import MAIN
from homeport.control.fleet.owner import Owner
from homeport.state import sweeper
from homeport.state.blobs import MARK
from tests.control.deploys.test_rollout import settled
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode
from tests.waiting import virtually


async def upload(plane: Plane, text: str) -> SourceFile:
    async def chunks():
        yield text.encode()

    digest = hashlib.sha256(text.encode()).hexdigest()
    await plane.blobs.put(digest, chunks())
    return SourceFile(path="script.py", sha256=digest, size_bytes=len(text))


def of(file: SourceFile, number: int, **spec):
    made = manifest(function("f", secret=f"s{number}", **spec), script=f"v{number}.py")
    return dataclasses.replace(made, files=(file,))


def there(plane: Plane) -> set[str]:
    return {path.name for path in plane.blobs._root.glob("*/*") if MARK not in path.name}


def age(plane: Plane) -> None:
    """Make all files old, as if they had been uploaded long ago."""
    for path in plane.blobs._root.glob("*/*"):
        os.utime(path, (0, 0))


def inline(plane: Plane) -> set[str]:
    with plane.database.writing() as c:
        return {row[0].partition("/")[0] for row in c.exec_driver_sql("select name from secrets")}


def test_files_and_secrets_go_with_the_last_version_that_has_them(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            files = [await upload(plane, f"v{number}") for number in range(13)]
            stray = await upload(plane, "nobody's")
            for number, file in enumerate(files):
                await plane.deploy(of(file, number))
            await settled(plane)
            age(plane)
            young = await upload(plane, "of the next deploy")
            await plane.sweeper.sweep()
            kept = await plane.store.revisions("shop")

            assert 10 == len(kept)
            assert {f.sha256 for f in files[-10:]} | {young.sha256} == there(plane)
            assert stray.sha256 not in there(plane)
            assert {revision.fingerprint for revision in kept} == inline(plane)

    virtually(story())


def test_a_file_that_a_client_need_not_upload_stays_for_its_deploy(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            file = await upload(plane, "old")
            age(plane)
            assert [] == plane.blobs.missing([file.sha256])
            await plane.sweeper.sweep()
            await plane.deploy(of(file, 1))

            assert {file.sha256} == there(plane)

    virtually(story())


def test_a_session_and_a_deploy_under_way_keep_what_is_theirs(tmp_path):
    async def story():
        async with Plane(tmp_path, FakeNode(5.0)) as plane:
            served, coming = await upload(plane, "served"), await upload(plane, "coming")
            await plane.deployer.sessions.serve(MAIN, "s", of(served, 1), lambda _text: None)
            deploying = asyncio.create_task(plane.deploy(of(coming, 2)))
            await asyncio.sleep(1)
            age(plane)
            await plane.sweeper.sweep()
            during = there(plane), len(inline(plane))
            await deploying
            await plane.deployer.stop(Owner.session(MAIN, "s"))
            await plane.deployer.stop_app(MAIN, "shop")
            await asyncio.sleep(sweeper.DELAY_S + 1)

            assert ({served.sha256, coming.sha256}, 2) == during
            assert {coming.sha256} == there(plane)  # it can be rolled back to
            assert 1 == len(inline(plane))

    virtually(story())


def test_an_upload_that_was_cut_is_removed_later(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            file = await upload(plane, "x")
            part = plane.blobs._path(file.sha256).with_suffix(".part")
            part.write_text("half")
            await plane.sweeper.sweep()
            before = there(plane)
            age(plane)
            await plane.sweeper.sweep()

            assert part.name in before
            assert set() == there(plane)

    virtually(story())


def test_a_row_that_cannot_be_read_keeps_its_files(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            file = await upload(plane, "x")
            await plane.deploy(of(file, 1))
            with plane.database.writing() as c:
                c.exec_driver_sql("update revisions set manifest = manifest || '}'")
            age(plane)
            await plane.deployer.stop_app(MAIN, "shop")
            await plane.sweeper.sweep()

            assert {file.sha256} == there(plane)

    virtually(story())


def test_a_file_that_a_power_cut_has_damaged_is_asked_for_again(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            file = await upload(plane, "print()")
            plane.blobs._path(file.sha256).write_bytes(b"")
            with pytest.raises(NotFound, match="is damaged"):
                await plane.deploy(of(file, 1))
            assert [file.sha256] == plane.blobs.missing([file.sha256])
            await upload(plane, "print()")
            await plane.deploy(of(file, 1))
            tree = plane.rollout.trees.directory / (await plane.store.revisions("shop"))[0].id

            assert "print()" == (tree / "script.py").read_text()

    virtually(story())


async def test_a_closed_sweeper_deletes_nothing():
    swept = sweeper.Sweeper(None, (), None, in_use=lambda: ())
    swept.soon()
    before = {task.get_name() for task in asyncio.all_tasks()}
    await swept.close()

    assert "sweeping" in before
    assert "sweeping" not in {task.get_name() for task in asyncio.all_tasks()}


class Swept:
    """A store and the uploaded files; each sweep calls `asked` first."""

    def __init__(self, asked) -> None:
        self._asked = asked
        self.count = 0

    async def hashes(self) -> set[str]:
        self.count += 1
        self._asked(self.count)
        return set()

    async def sweep(self, _needed: set[str], _kept_s: float) -> None:
        """Nothing was uploaded."""


def test_a_change_that_ends_during_a_sweep_is_swept_after_it():
    async def story():
        files = Swept(lambda number: number < 3 and swept.soon())
        swept = sweeper.Sweeper(files, (), files, in_use=lambda: ())
        swept.soon()
        swept.soon()
        await asyncio.sleep(60 * sweeper.DELAY_S)
        await swept.close()

        assert 3 == files.count

    virtually(story())


def test_a_sweep_that_fails_is_logged_and_the_next_change_sweeps_again(caplog):
    def fail(number):
        if number == 1:
            raise StorageError("the disk is full")

    async def story():
        files = Swept(fail)
        swept = sweeper.Sweeper(files, (), files, in_use=lambda: ())
        for count in (1, 2):
            swept.soon()
            await asyncio.sleep(2 * sweeper.DELAY_S)
            assert count == files.count
        await swept.close()

    virtually(story())

    assert ["nothing is swept: the disk is full"] == caplog.messages
