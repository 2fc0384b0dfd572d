"""Canaries: how one begins and ends, by hand and by other changes of the app, and after a restart."""

import dataclasses

import pytest

from homeport.contract.api.apps import CanaryState
from homeport.contract.api.deploys import Canary
from homeport.contract.errors import BadRequest, IngressError, NotFound, StartError, StorageError
from homeport.contract.scope import MAIN
from homeport.contract.traffic import Split
from homeport.control.deploys import versions
from homeport.control.fleet.owner import Owner
from homeport.state.canaries import Canaries as Rows
from tests.control.deploys.test_rollout import F, G, settled
from tests.control.plane import DISK_FULL, Plane, function, manifest
from tests.fakes import FakeNode
from tests.waiting import until, virtual

SHOP = Owner.app(MAIN, "shop")
ONE = manifest(function("f"), script="v1.py")
TWO = manifest(function("f"), function("g"), script="v2.py")
THREE = manifest(function("f"), script="v3.py")
TENTH = Canary(percent=10)


async def canary(plane: Plane, wanted=TWO, share: Canary | None = TENTH, **more):
    options = {"tag": "", "strategy": "rolling", "say": lambda _text: None, **more}
    return await plane.deployer.deploy(MAIN, "shop", wanted, canary=share, **options)


def serving(plane: Plane) -> int:
    return plane.parts.live.get(SHOP).revision.version


def status(plane: Plane):
    return plane.deployer.canaries.status(SHOP)


async def rows(plane: Plane) -> dict[int, str]:
    """Return version -> state, as they are in the database."""
    rows = Rows(plane.database)
    await rows.load()
    return {version: row.state for version, row in rows.of((MAIN, "shop")).items()}


@virtual
async def test_a_canary_gets_its_share_beside_the_version_that_serves(tmp_path):
    async with Plane(tmp_path) as plane:
        await plane.deploy(ONE)
        done = await canary(plane)
        await settled(plane)
        await plane.check_whole()

        assert {F: Split(endpoint=f"{F}-v2", per_mille=100)} == plane.ingress.splits
        assert (1, 1, CanaryState.RUNNING) == (
            serving(plane),
            done.app.revision.version,
            done.canary.state,
        )
        assert (2, 1, 10.0) == (done.canary.version, done.canary.before, done.canary.percent)
        assert 600.0 == done.canary.ends_at - done.canary.began_at
        assert G not in plane.ingress.endpoints, "a new URL is the app's once the version serves"
        assert f"{G}-v2" in plane.ingress.endpoints, "until then it has the version's own"
        assert {2: "running"} == await rows(plane)
        assert not any(pool.demoted for pool in plane.pools)
        answers = {(await plane.visit(endpoint)).pool.revision for endpoint in (F, f"{F}-v2")}
        assert 2 == len(answers)


@virtual
async def test_a_canary_is_promoted_by_hand(tmp_path):
    async with Plane(tmp_path) as plane:
        await plane.deploy(ONE)
        await canary(plane)
        done = await plane.deployer.promote(MAIN, "shop", "hand")
        await settled(plane)
        await plane.check_whole()
        served = await plane.visit(F)

        assert (2, 2) == (serving(plane), done.app.revision.version)
        assert {} == plane.ingress.splits
        assert (CanaryState.PROMOTED, "by hand") == (done.canary.state, done.canary.reason)
        assert {2: "promoted"} == await rows(plane)
        assert G in plane.ingress.endpoints
        assert served.pool.revision == done.app.revision.id
        demoted = {pool.key.revision for pool in plane.pools if pool.demoted}
        assert demoted == {(await plane.store.revision("shop", 1)).id}
        with pytest.raises(NotFound, match="no canary"):
            await plane.deployer.promote(MAIN, "shop", "hand")
        with pytest.raises(NotFound, match="No App with name 'none'"):
            await plane.deployer.promote(MAIN, "none", "hand")


@virtual
async def test_a_rollback_ends_it_and_its_version_keeps_its_url_and_its_number(tmp_path):
    async with Plane(tmp_path) as plane:
        await plane.deploy(ONE)
        await plane.deploy(THREE)
        await canary(plane)
        done = await plane.roll_back()
        await settled(plane)
        await plane.check_whole()

        assert (2, {}) == (serving(plane), plane.ingress.splits)
        assert (3, CanaryState.ROLLED_BACK) == (done.canary.version, done.canary.state)
        assert {3: "rolled back"} == await rows(plane)
        assert [] == plane.deployer.canaries.failed(MAIN, plane.parts.live.get), "a user did it"
        own = (await plane.visit(f"{F}-v3")).pool.revision
        assert own == (await plane.store.revision("shop", 3)).id
        await plane.deploy(manifest(function("f"), script="v4.py"))
        assert 4 == serving(plane)
        back = await plane.roll_back()
        assert back.app.revision.manifest.script == "v3.py", "v3 never served: it is no way back"


@virtual
async def test_the_same_code_again_changes_its_share_or_is_promoted(tmp_path):
    async with Plane(tmp_path) as plane:
        await plane.deploy(ONE)
        await canary(plane)
        changed = await canary(plane, share=Canary(percent=50, seconds=60))
        split = dict(plane.ingress.splits)
        whole = await canary(plane, share=None)
        await settled(plane)
        await plane.check_whole()

        assert (50.0, 500) == (changed.canary.percent, split[F].per_mille)
        assert (2, CanaryState.PROMOTED) == (serving(plane), whole.canary.state)
        assert 2 == len(await plane.store.revisions("shop"))


@pytest.mark.parametrize("again", [ONE, THREE])
def test_another_deploy_ends_it(tmp_path, again):
    @virtual
    async def story():
        async with Plane(tmp_path) as plane:
            await plane.deploy(ONE)
            await canary(plane)
            await plane.deploy(again)
            await settled(plane)
            await plane.check_whole()

            assert {} == plane.ingress.splits
            assert {2: "rolled back"} == await rows(plane)
            assert (1 if again is ONE else 3) == serving(plane)

    story()


@virtual
async def test_another_canary_takes_its_place_and_a_stop_ends_it(tmp_path):
    async with Plane(tmp_path) as plane:
        await plane.deploy(ONE)
        await canary(plane)
        await canary(plane, THREE)
        split = dict(plane.ingress.splits)
        states = await rows(plane)
        await plane.deployer.stop_app(MAIN, "shop")
        await settled(plane)

        assert {F: Split(endpoint=f"{F}-v3", per_mille=100)} == split
        assert {2: "rolled back", 3: "running"} == states
        assert {} == plane.ingress.endpoints
        assert [] == plane.node.containers
        assert "the app was stopped" == status(plane).reason
        back = await plane.roll_back()
        assert back.app.revision.manifest.script == "v1.py"
        assert back.canary is None


@virtual
async def test_without_a_version_before_it_serves_all_requests(tmp_path):
    async with Plane(tmp_path) as plane:
        texts = []
        done = await canary(plane, say=texts.append)

        assert (1, None) == (serving(plane), done.canary)
        assert {} == plane.ingress.splits
        assert "no version of `shop` serves" in " ".join(texts)


@pytest.mark.parametrize(
    ("share", "strategy", "text"),
    [
        (Canary(percent=0), "rolling", "from 0.1% to 99.9%"),
        (Canary(percent=100), "rolling", "not 100%"),
        (Canary(percent=float("nan")), "rolling", "not nan%"),
        (Canary(percent=10, seconds=1), "rolling", "5 seconds up to 30 days"),
        (TENTH, "recreate", "beside the old version"),
    ],
)
def test_a_canary_that_cannot_be_is_refused_and_changes_nothing(tmp_path, share, strategy, text):
    @virtual
    async def story():
        async with Plane(tmp_path) as plane:
            await plane.deploy(ONE)
            before = await plane.state()
            with pytest.raises(BadRequest, match=text):
                await canary(plane, share=share, strategy=strategy)

            assert before == await plane.state()

    story()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (function("f"), function("g"), "no URL that the new version and v1 both have"),
        (function("f", port=8000), function("f", port=8001), "a port of this machine"),
        (
            function("f", memory_mib=(3000, None)),
            function("f", memory_mib=(3000, None), timeout_s=7.0),
            "no room",
        ),
    ],
)
def test_two_versions_that_cannot_share_the_requests(tmp_path, old, new, text):
    @virtual
    async def story():
        async with Plane(tmp_path) as plane:
            await plane.deploy(manifest(old))
            await plane.visit("me--shop-f")
            before = await plane.state()
            with pytest.raises(BadRequest, match=text):
                await canary(plane, manifest(new))
            await settled(plane)

            assert before == await plane.state()
            assert {} == await rows(plane)

    story()


@virtual
async def test_a_url_that_asks_for_a_token_in_one_version_alone_is_not_shared(tmp_path):
    async with Plane(tmp_path) as plane:
        open_ = function("f")
        (web,) = open_.web
        closed = dataclasses.replace(
            open_, web=(dataclasses.replace(web, requires_proxy_auth=True),)
        )
        await plane.deploy(manifest(open_, function("g")))
        await canary(plane, manifest(closed, function("g"), script="v2.py"))

        assert {G} == set(plane.ingress.splits)


@virtual
async def test_a_version_that_does_not_start_leaves_nothing(tmp_path):
    async with Plane(tmp_path, FakeNode(0.2, fails=lambda o: "g" == o.pool.function)) as plane:
        await plane.deploy(ONE)
        await settled(plane)
        before = await plane.state()
        with pytest.raises(StartError):
            await canary(plane)
        await settled(plane)
        await plane.check_whole()

        assert before == await plane.state()
        assert ({}, {}) == (plane.ingress.splits, await rows(plane))


@virtual
async def test_a_restart_goes_on_with_it(tmp_path):
    async with Plane(tmp_path) as plane:
        await plane.deploy(ONE)
        begun = (await canary(plane)).canary
    async with Plane(tmp_path) as plane:
        await plane.deployer.restore([])
        await plane.check_whole()

        assert {F: Split(endpoint=f"{F}-v2", per_mille=100)} == plane.ingress.splits
        assert begun.ends_at == status(plane).ends_at
        assert not any(pool.demoted for pool in plane.pools)
        await plane.deployer.promote(MAIN, "shop", "hand")
        assert 2 == serving(plane)


@virtual
async def test_a_restart_in_the_middle_of_its_end_finishes_that(tmp_path):
    async with Plane(tmp_path) as plane:
        await plane.deploy(ONE)
        await canary(plane)
        running = plane.deployer.canaries.rows.last((MAIN, "shop"))
        await plane.deployer.promote(MAIN, "shop", "hand")
        await plane.deployer.canaries.rows.put(MAIN, running)  # as if the server had ended before
    async with Plane(tmp_path) as plane:
        await plane.deployer.restore([])

        assert (2, {}) == (serving(plane), plane.ingress.splits)
        assert {2: "promoted"} == await rows(plane)


@virtual
async def test_a_canary_that_cannot_be_restored_is_rolled_back(tmp_path):
    async with Plane(tmp_path) as plane:
        await plane.deploy(ONE)
        await canary(plane)
        gone = await plane.store.revision("shop", 2)
    async with Plane(tmp_path) as plane:
        with plane.breaking("split", F, "before", IngressError("HAProxy says no")):
            await plane.deployer.restore([])
        await plane.check_whole()

        assert (1, {}) == (serving(plane), plane.ingress.splits)
        assert "HAProxy says no" in status(plane).reason
        assert all(pool.demoted for pool in plane.pools if pool.key.revision == gone.id)


@virtual
async def test_an_ingress_that_fails_and_a_full_disk_do_not_stop_a_rollback(tmp_path):
    async with Plane(tmp_path) as plane:
        await plane.deploy(ONE)
        await canary(plane)
        with plane.breaking("split", F, "before", IngressError("not now")):
            await plane.roll_back()
        await until(lambda: not plane.ingress.splits, "the next try")
        await canary(plane, THREE)

        def full(*_args):
            raise DISK_FULL

        put = plane.deployer.canaries.rows.put
        plane.deployer.canaries.rows.put = full
        await plane.roll_back()
        plane.deployer.canaries.rows.put = put

        assert CanaryState.ROLLED_BACK is status(plane).state
        assert {} == plane.ingress.splits
        assert 1 == serving(plane)


@virtual
async def test_a_share_that_cannot_be_changed_stays_as_it_was(tmp_path):
    """In the ingress, in the row and in lists: otherwise a canary without requests would be promoted in time."""
    both = (function("f"), function("g"))
    async with Plane(tmp_path) as plane:
        await plane.deploy(manifest(*both, script="v1.py"))
        await canary(plane, manifest(*both, script="v2.py"))
        splits, before = dict(plane.ingress.splits), status(plane)
        half = Canary(percent=50)
        with (
            plane.breaking("split", G, "before", IngressError("not now")),
            pytest.raises(IngressError),
        ):
            await canary(plane, manifest(*both, script="v2.py"), half)

        async def full(*_args):
            raise DISK_FULL

        assert {F, G} == set(splits)
        assert (splits, before) == (plane.ingress.splits, status(plane))
        row = plane.deployer.canaries.rows.last((MAIN, "shop"))
        assert (100, before.ends_at) == (row.per_mille, row.ends_at)
        put, plane.deployer.canaries.rows.put = plane.deployer.canaries.rows.put, full
        with pytest.raises(StorageError):
            await canary(plane, manifest(*both, script="v2.py"), half)
        plane.deployer.canaries.rows.put = put
        assert (splits, before) == (plane.ingress.splits, status(plane))


@virtual
async def test_many_canaries_do_not_push_out_the_version_that_serves(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "KEPT", 3)
    async with Plane(tmp_path) as plane:
        await plane.deploy(ONE)
        for number in range(2, 7):
            await canary(plane, manifest(function("f"), script=f"v{number}.py"))
            await until(lambda: not plane.deployer.canaries._beside._tasks, "the old versions")
        kept = [revision.version for revision in await plane.store.revisions("shop")]
        await plane.deployer.promote(MAIN, "shop", "hand")
        await until(lambda: not plane.deployer.canaries._beside._tasks, "the old versions")

        assert [6, 5, 4, 1] == kept
        assert [6, 5, 4] == [r.version for r in await plane.store.revisions("shop")]
