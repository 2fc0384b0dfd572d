"""Canaries are promoted and rolled back by themselves, by the requests that end."""

import asyncio
import contextlib

from homeport.contract.api.apps import CanaryState
from homeport.contract.api.audit import AuditQuery
from homeport.contract.api.deploys import Canary
from homeport.contract.errors import IngressError, LabelTaken
from homeport.contract.scope import MAIN
from homeport.control.deploys.judge import Pair
from homeport.control.deploys.judging import Judging
from homeport.state.audit import Audit
from homeport.state.deploys import Deploys
from homeport.state.requests import Requests
from tests.control.deploys.test_canaries import (
    ONE,
    SHOP,
    TENTH,
    THREE,
    TWO,
    canary,
    serving,
    status,
)
from tests.control.deploys.test_rollout import F
from tests.control.plane import Plane
from tests.fakes import FakeNode
from tests.recorded import words
from tests.waiting import until, virtual

NEW = f"{F}-v2"


class House:
    """A plane whose canaries are judged."""

    def __init__(self, plane: Plane, requests: Requests) -> None:
        self.plane, self.requests = plane, requests
        self.audit, self.history = Audit(plane.database, days=90), Deploys(plane.database)
        loop = asyncio.get_running_loop()
        plane.deployer.canaries._now = loop.time
        self.judging = Judging(
            plane.deployer, plane.pools, requests, self.audit, self.history, loop.time
        )
        self._number = 0

    async def end(self, endpoint: str, count: int, *, revision: int = 0, **changes: str) -> None:
        """Let requests to an endpoint end, in a container of this version; 0: the endpoint's own."""
        version = revision or (2 if endpoint == NEW else 1)
        name = (await self.plane.store.revision("shop", version)).id
        lines = []
        for _ in range(count):
            self._number += 1
            lines.append(words(id=f"r{self._number}", endpoint=endpoint, **changes))
        place = self.plane.parts.endpoints.place
        self.requests.add(lines, place, lambda c: "" if c == "-" else name)

    def counts(self) -> tuple[int, int, int, int]:
        """Return the requests and the failures of the old version, and of the new one."""
        (endpoint,) = status(self.plane).endpoints
        return (
            endpoint.old_requests,
            endpoint.old_failed,
            endpoint.new_requests,
            endpoint.new_failed,
        )


@contextlib.asynccontextmanager
async def judged(home, node: FakeNode | None = None, *, share: Canary = TENTH):
    """Deploy an app and a canary of it."""
    requests = Requests(home / "requests", 0)
    async with Plane(home, node) as plane:
        house = House(plane, requests)
        await plane.deploy(ONE)
        house.judging.open()
        await canary(plane, share=share)
        try:
            yield house
        finally:
            await house.judging.close()
            await asyncio.to_thread(requests.close)


def failed(plane: Plane) -> list[int]:
    canaries = plane.deployer.canaries
    return [row.version for row in canaries.failed(MAIN, plane.parts.live.get)]


async def last(house: House):
    return (await house.history.last(MAIN, "shop"))[0]


@virtual
async def test_a_version_that_only_fails_is_rolled_back_at_once(tmp_path):
    async with judged(tmp_path) as house:
        await house.end(F, 45)
        await house.end(NEW, 5, status="500")
        began = asyncio.get_running_loop().time()
        await until(lambda: status(house.plane).state == "rolled back", "the rollback")
        took_s = asyncio.get_running_loop().time() - began
        await house.end(NEW, 5, status="500")  # those that were under way
        row = await last(house)
        (entry,) = await house.audit.last(AuditQuery(app="shop"), None)

        assert took_s < 2
        assert (1, {}) == (serving(house.plane), house.plane.ingress.splits)
        assert (45, 0, 5, 5) == house.counts()
        assert ("rollback", "ok", "server", None) == (row.kind, row.result, row.by, row.version)
        assert "v2: `f`: 5 of 5 requests of the new version failed" in row.reason
        assert ("server", "app rollback", "shop v2") == (entry.by, entry.action, entry.target)
        assert [2] == failed(house.plane)
        await house.plane.deploy(THREE)
        assert [] == failed(house.plane), "the next deploy has answered it"


@virtual
async def test_a_slow_version_is_rolled_back(tmp_path):
    async with judged(tmp_path) as house:
        await house.end(F, 45, first="20")
        await house.end(NEW, 10, first="900", total="950")
        await until(lambda: status(house.plane).state == "rolled back", "the rollback")

        assert "95th percentile of the new version is 900 ms" in status(house.plane).reason


@virtual
async def test_after_its_time_it_is_promoted_and_says_on_how_many_requests(tmp_path):
    async with judged(tmp_path) as house:
        await house.end(F, 90)
        await house.end(NEW, 10)
        await house.end(NEW, 1, status="500")
        await asyncio.sleep(590)
        before = serving(house.plane)
        await asyncio.sleep(12)

        assert (1, 2) == (before, serving(house.plane))
        assert CanaryState.PROMOTED is status(house.plane).state
        assert "after 600 s, 11 requests and 1 failures of v2" == status(house.plane).reason
        assert "promote" == (await last(house)).kind


@virtual
async def test_few_requests_most_of_which_failed_are_no_reason_to_promote(tmp_path):
    async with judged(tmp_path) as house:
        await house.end(F, 5)
        await house.end(NEW, 3, status="502")
        await asyncio.sleep(602)

        assert CanaryState.ROLLED_BACK is status(house.plane).state


@virtual
async def test_requests_count_for_the_version_that_answered(tmp_path):
    async with judged(tmp_path) as house:
        await house.end(F, 1)
        await house.end(NEW, 2)
        await house.end(NEW, 4, revision=1)  # the old version answered what the new one could not
        await house.end(NEW, 8, status="503", container="-")
        await house.end(F, 16, kind="call")
        await house.end("elsewhere", 32)

        assert (5, 0, 10, 8) == house.counts()


@virtual
async def test_containers_that_do_not_start_any_more_roll_it_back(tmp_path):
    broken: list[str] = []
    node = FakeNode(0.2, fails=lambda order: order.pool.revision in broken)
    async with judged(tmp_path, node) as house:
        plane = house.plane
        revision = (await plane.store.revision("shop", 2)).id
        broken.append(revision)
        for container in [c for c in node.containers if c.order.pool.revision == revision]:
            await node.stop(container.order.id)
        visits = [asyncio.create_task(plane.visit(NEW)) for _ in range(2)]
        await until(lambda: status(plane).state == "rolled back", "the rollback")
        await asyncio.gather(*visits, return_exceptions=True)

        assert "`f`: its containers do not start" == status(plane).reason


@virtual
async def test_a_promotion_that_fails_for_a_moment_is_tried_again(tmp_path):
    async with judged(tmp_path) as house:
        with house.plane.breaking("route", F, "before", IngressError("not now")) as failed:
            await asyncio.sleep(603)
            before = status(house.plane).state
        await asyncio.sleep(10)

        assert failed
        assert (CanaryState.RUNNING, 2) == (before, serving(house.plane))


@virtual
async def test_a_canary_that_can_never_be_promoted_is_rolled_back(tmp_path):
    async with judged(tmp_path) as house:
        with house.plane.breaking("route", F, "before", LabelTaken("another app has the URL")):
            await asyncio.sleep(603)

        assert CanaryState.ROLLED_BACK is status(house.plane).state
        assert "it cannot be promoted: another app has the URL" == status(house.plane).reason
        assert 1 == serving(house.plane)


@virtual
async def test_a_late_verdict_does_not_change_a_canary_that_has_changed_meanwhile(tmp_path):
    async with judged(tmp_path) as house:
        running = house.plane.deployer.canaries.of(SHOP)
        await house.plane.roll_back()
        await canary(house.plane)
        assert not await house.judging._rolled_back(running, "late")
        assert not await house.judging._promoted(running, "late")

        assert CanaryState.RUNNING is status(house.plane).state
        assert (1, TWO.script) == (serving(house.plane), "v2.py")


async def test_after_a_restart_each_request_is_counted_once(tmp_path):
    async with Plane(tmp_path) as plane:
        requests = Requests(tmp_path / "requests", 10**7)
        house = House(plane, requests)
        # Requests end at the time of their lines.
        plane.deployer.canaries._now = lambda: 1_700_000_000.0
        await plane.deploy(ONE)
        await house.end(F, 3, ended="1600000000000")  # before the canary
        await canary(plane)
        await house.end(F, 9)
        await house.end(NEW, 4, status="500")
        running = plane.deployer.canaries.of(SHOP)
        running.pairs, running.late = {"f": Pair()}, []  # as after a restart
        house.judging._changed()
        await house.end(NEW, 2)  # both in the file and seen meanwhile
        await house.judging._read_again(running)
        await house.end(NEW, 1)
        await asyncio.to_thread(requests.close)

        assert (9, 0, 7, 4) == house.counts()
