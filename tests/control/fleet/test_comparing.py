"""Comparisons of the nodes' lists with the pools: all at once, and in slices between which anything may change."""

import asyncio
import math
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from homeport.contract.container import Container, State
from homeport.contract.manifest import FunctionSpec
from homeport.contract.scope import MAIN
from homeport.contract.traffic import PoolKey
from homeport.control.fleet.comparing import COMPARE_S, Comparing
from homeport.control.fleet.member import Member, Stage
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools
from tests.control.fleet.house import House
from tests.fakes import FakeNode
from tests.orders import order
from tests.waiting import virtual

NODES, APPS = ("a", "b", "c"), ("x", "y")
NAMES = [f"ta-{number}" for number in range(6)]
ALL = 10**9

changes = st.lists(
    st.one_of(
        st.tuples(st.just("list"), st.sampled_from(NAMES), st.sampled_from(NODES)),
        st.tuples(st.just("unlist"), st.sampled_from(NAMES)),
        st.tuples(st.just("enlist"), st.sampled_from(NAMES)),
        st.tuples(st.just("discharge"), st.sampled_from(NAMES)),
        st.tuples(st.just("replace"), st.sampled_from(APPS)),
        st.tuples(st.just("want"), st.sampled_from(APPS)),
        st.tuples(st.just("spare"), st.sampled_from(APPS)),
        st.tuples(st.just("leave"), st.sampled_from(NODES)),
        st.tuples(st.just("come"), st.sampled_from(NODES)),
    ),
    max_size=40,
)


class World:
    """Nodes and pools that change; each act is checked against the truth of its moment."""

    def __init__(self, share: int) -> None:
        self.pools = Pools()
        self.nodes = Nodes([FakeNode(name=name) for name in NODES], on_line=lambda _line: None)
        self.acts: list[tuple[str, str]] = []
        self.wanting: set[str] = set()
        self.spared: set[str] = set()
        self.comparing = Comparing(
            self.pools,
            self.nodes,
            self,
            spares=lambda owner: owner.name in self.spared,
            share=share,
        )
        for app in APPS:
            self.replace(app)

    # what changes

    def change(self, what: str, *args: str) -> None:
        getattr(self, what)(*args)

    def list(self, name: str, node: str) -> None:
        if self.nodes.of(name) is None and (mirror := self.nodes.mirrors.get(node)) is not None:
            of = order(name, app=app_of(name))
            mirror._put(Container(order=of, state=State.READY, node=node))

    def unlist(self, name: str) -> None:
        if (mirror := self.nodes.of(name)) is not None:
            mirror._drop(name)

    def enlist(self, name: str) -> None:
        if self.pools.of_container(name) is None:
            self.pools.enlist(self.pools.get(key_of(app_of(name))), Member(id=name))

    def discharge(self, name: str) -> None:
        self.pools.discharge(name)

    def replace(self, app: str) -> None:
        spec = FunctionSpec(name="f", module="m", qualname="f")
        owner = Owner.app(MAIN, app)
        self.pools.add(Pool(key=key_of(app), function=spec, source="", owner=owner))

    def want(self, app: str) -> None:
        self.wanting ^= {app}

    def spare(self, app: str) -> None:
        self.spared ^= {app}

    def leave(self, node: str) -> None:
        self.nodes.remove(node)

    def come(self, node: str) -> None:
        if node not in self.nodes.mirrors:
            self.nodes._add(FakeNode(name=node))

    # what is done about a difference

    def changed(self, container: Container) -> None:
        assert self.pools.of_container(container.id) is not None
        assert self.nodes.of(container.id) is not None
        self.acts.append(("changed", container.id))

    def take_in(self, container: Container) -> bool:
        self._is_stray(container.id)
        if container.order.pool.app not in self.wanting:
            return False
        self.enlist(container.id)
        self.acts.append(("take in", container.id))
        return True

    def end_unwanted(self, container: str) -> None:
        self._is_stray(container)
        self.acts.append(("end unwanted", container))

    def end_replaced(self, pool: Pool, member: Member) -> None:
        assert self.pools.get(pool.key) is not pool
        member.stage = Stage.STOPPING
        self.acts.append(("end replaced", member.id))

    def lost(self, pool: Pool, member: Member) -> None:
        assert self.nodes.of(member.id) is None
        assert member.missed
        self.pools.discharge(member.id)
        self.acts.append(("lost", member.id))

    def _is_stray(self, name: str) -> None:
        assert self.pools.of_container(name) is None
        assert self.nodes.of(name) is not None
        assert app_of(name) not in self.spared

    def round(self, now: float) -> int:
        """Go on until a round has ended; return how many passes that took."""
        passes = 0
        while not passes or self.comparing.is_under_way:
            self.comparing.step(now, at_once=False)
            passes += 1
        return passes

    def done(self, acts: Iterable[str]) -> set[str]:
        return {name for act, name in self.acts if act in acts}


def app_of(name: str) -> str:
    return APPS[int(name.removeprefix("ta-")) % len(APPS)]


def key_of(app: str) -> PoolKey:
    return PoolKey(app, "f", "rv-1")


def compared(before: list[tuple[str, ...]], share: int) -> list[tuple[str, str]]:
    """Return all that is done about the differences of a world that does not change by itself."""

    async def story() -> list[tuple[str, str]]:
        world = World(share)
        for change in before:
            world.change(*change)
        for number in range(4):
            world.round(number * COMPARE_S)
        return world.acts

    return asyncio.run(story())


@given(changes, st.integers(1, 5))
def test_slices_do_what_a_comparison_of_all_at_once_does(before, share):
    assert compared(before, ALL) == compared(before, share)


@given(changes, st.integers(1, 3), st.data())
def test_no_act_is_wrong_and_no_difference_stays_whatever_changes_between_slices(
    before, share, data
):
    async def story() -> None:
        world = World(share)
        now = 0.0
        for change in before:
            world.change(*change)
            if data.draw(st.booleans()):
                now += data.draw(st.sampled_from([0.0, 0.05, 2 * COMPARE_S]))
                world.comparing.step(now, at_once=data.draw(st.booleans()))
        for _ in range(4):
            now += COMPARE_S
            world.round(now)
        listed = {c.id for c in world.nodes.containers()}
        members = set(world.pools.containers())

        assert members <= listed
        strays = {name for name in listed - members if app_of(name) not in world.spared}
        assert strays <= world.done(["end unwanted"])

    asyncio.run(story())


@given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 4))
def test_each_container_is_compared_once_in_a_round_of_so_many_passes(listed, enlisted, share):
    async def story() -> None:
        world = World(share)
        for name in NAMES[:listed]:
            world.change("list", name, "a")
        for name in NAMES[:enlisted]:
            world.change("enlist", name)
        passes = world.round(0.0)

        # The nodes count as one each, and one node may be more than a share.
        assert passes <= math.ceil((listed + len(NODES) + enlisted) / share) + 1
        both = NAMES[: min(listed, enlisted)]
        assert both == [name for act, name in world.acts if act == "changed"]

    asyncio.run(story())


def test_the_containers_of_an_app_are_taken_in_as_soon_as_it_is_restored():
    async def story() -> None:
        world = World(ALL)
        world.change("spare", "x")
        world.change("want", "x")
        world.change("list", "ta-0", "a")
        world.round(0.0)
        assert [] == world.acts
        world.change("spare", "x")
        world.comparing.step(0.05, at_once=False)  # no round begins so soon

        assert [("take in", "ta-0")] == world.acts

    asyncio.run(story())


def test_nothing_is_kept_of_containers_that_are_gone():
    async def story() -> None:
        world = World(ALL)
        world.change("spare", "x")
        for name in NAMES:
            world.change("list", name, "a")
        world.round(0.0)
        for name in NAMES:
            world.change("unlist", name)
        world.round(2.0)

        assert (set(), {}) == (world.comparing._unwanted, world.comparing._spared)

    asyncio.run(story())


@virtual
async def test_the_loop_goes_on_while_a_round_is_under_way_although_nothing_else_is():
    async with House(min_containers=4) as house:
        await asyncio.sleep(2)
        house.reconciler._comparing._share = 1
        lost = house.node.containers[3].id
        house.node.deaf = True
        house.node.kill(lost)
        house.node.deaf = False
        await asyncio.sleep(6 + 2 * COMPARE_S)  # a look at all, and two rounds

        assert lost not in house.pool.members
        assert 4 == len(house.node.containers)
