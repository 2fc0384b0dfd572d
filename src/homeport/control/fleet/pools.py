"""The picture in memory: pools, their containers, and who waits for them.

Written by the reconciler and the activator, read by the API. Nothing here does I/O.
"""

import asyncio
import dataclasses
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from homeport.contract import parameters
from homeport.contract.errors import Failure, NotFound, StartError, TooMany
from homeport.contract.manifest import FunctionSpec, Value
from homeport.contract.traffic import Load, PoolKey
from homeport.control.fleet.autoscaler import Bounds, Peak
from homeport.control.fleet.owner import Owner

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
DEMOTED_WINDOW_S = 2.0
RETIRED_DRAIN_S = 30.0
MOST_VALUES = 40  # of a function's class parameters at once


class Stage(enum.StrEnum):
    """Where a container is, as the ingress sees it."""

    STARTING = "starting"
    ATTACHING = "attaching"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


@dataclass(slots=True, kw_only=True)
class Member:
    """A container of a pool."""

    id: str
    stage: Stage = Stage.STARTING
    begun_at: float = 0.0  # when the start was decided, in seconds since the epoch
    parked_s: float = 0.0  # how long the first visitor who needs it had waited then
    before: bool = False  # of a demoted pool: it served before that
    held: int = 0  # slots with work that goes on after its response: nobody is sent there
    cuts: int = 0  # responses that it has ended unread, as the node told last
    deadline: float | None = None  # draining: cut what is still running then (monotonic)
    missed: bool = False  # the node did not list it when it was asked last


@dataclass(slots=True, kw_only=True)
class Pool:
    """The containers that can answer the same request.

    One class, because demand, containers and parked requests of a pool change together.
    """

    key: PoolKey
    function: FunctionSpec
    source: str  # the revision's source tree
    owner: Owner  # what keeps it: a deployed app, or a `serve` session
    parameters: dict[str, Value] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)  # tag -> URL, of the whole app
    ephemeral: bool = False  # a `serve` session's: reasons go to the visitor, drains are short
    own_ports: bool = False  # its containers take no port of this machine
    floor: int = 0  # containers to have whatever the demand: a deploy's trial
    demoted: bool = False  # a newer version serves; only this version's own URL leads here
    cut_at: float = 0.0  # demoted: containers of before are ended then, busy or not (monotonic)
    retired: bool = False  # no endpoint leads here any more
    winding_down: bool = False  # retired, and measured since
    drain_s: float = RETIRED_DRAIN_S  # how long requests may go on once the pool is retired
    drain_until: float = 0.0  # retired: what still runs then is cut (monotonic)
    members: dict[str, Member] = field(default_factory=dict)
    # Who waits, in order of arrival, and since when (monotonic).
    parked: dict[asyncio.Future[None], float] = field(default_factory=dict)
    load: Load = field(default_factory=Load)
    unsettled: bool = (
        False  # a container took requests, and not all of them are known to have ended
    )
    used_at: float = 0.0  # when a request was last parked or seen here (monotonic)
    peak: Peak = field(init=False)
    failures: int = 0  # starts in a row that failed
    retry_at: float = 0.0  # no start before then (monotonic)
    failure: StartError | None = None  # the last one, until a container is ready
    lacks: str = ""  # what the next container waits for, in words
    crowded: bool = False  # the next container waits for a place, and not for memory or a GPU
    promised: str = ""  # another function's container, which drains so that this one has its place
    cold_starts: int = 0
    failed_starts: int = 0
    served_before: int = 0  # by pools of this function's parameters that have been removed
    errors_before: int = 0
    watchers: set[asyncio.Future[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.peak = Peak(self.function.scaledown_window_s)

    @property
    def bounds(self) -> Bounds:
        """What the autoscaler goes by."""
        spec = self.function
        if self.demoted:
            return Bounds(
                max_containers=spec.max_containers,
                target_inputs=spec.target_inputs or spec.max_inputs,
                scaledown_window_s=DEMOTED_WINDOW_S,
            )
        # A port belongs to one container at a time, so such a pool never grows.
        limit = 1 if self.port is not None else spec.max_containers
        return Bounds(
            min_containers=min(max(self.least, self.floor), limit or 10**9),
            max_containers=limit,
            buffer_containers=spec.buffer_containers,
            target_inputs=spec.target_inputs or spec.max_inputs,
            scaledown_window_s=spec.scaledown_window_s,
        )

    @property
    def chosen(self) -> bool:
        """Whether a visitor has chosen its class parameters: it is forgotten when it idles."""
        return bool(self.key.parameters)

    @property
    def least(self) -> int:
        """Containers to have without any demand.

        None for values that visitors choose: they would stay for ever. None either for a class that
        cannot be made without a value.
        """
        lacks_value = not self.chosen and any(p.required for p in self.function.parameters)
        return 0 if self.chosen or lacks_value else self.function.min_containers

    @property
    def idles(self) -> bool:
        """Whether nobody is here, and nobody is about to be."""
        return not (self.demand or self.floor or self.count(Stage.STARTING, Stage.ATTACHING))

    def expired(self, now: float) -> bool:
        """Whether it may be forgotten: of a value that nobody has used for a window."""
        unused_since = now - self.function.scaledown_window_s
        return self.chosen and self.asleep and self.used_at <= unused_since and now >= self.retry_at

    def of_values(self, spelling: str, values: dict[str, Value]) -> "Pool":
        """A new pool of the same function, for these class parameters."""
        return Pool(
            key=dataclasses.replace(self.key, parameters=spelling),
            function=self.function,
            source=self.source,
            owner=self.owner,
            parameters=values,
            urls=self.urls,
            ephemeral=self.ephemeral,
            own_ports=self.own_ports,
        )

    @property
    def port(self) -> int | None:
        """The port of this machine that its container takes, so that no other one can have it."""
        return None if self.own_ports else self.function.port

    @property
    def demand(self) -> int:
        """Every request there is for this pool, work after a response included."""
        held = sum(self._held(member) for member in self.members.values())
        return self.load.running + held + self.load.queued + len(self.parked)

    @property
    def needed(self) -> int:
        """The demand that containers have to be there for: what is inside one that ends already is not."""
        leaving = (m for m in self.members.values() if m.stage in (Stage.DRAINING, Stage.STOPPING))
        inside = sum(self.load.per_container.get(m.id, 0) + self._held(m) for m in leaving)
        return max(self.demand - inside, 0)

    def _held(self, member: Member) -> int:
        # A request whose work goes on is in both numbers until its last bytes have gone.
        return min(member.held, max(self.slots - self.load.per_container.get(member.id, 0), 0))

    @property
    def slots(self) -> int:
        """How many requests one container takes at once."""
        return 1 if self.function.single_use else self.function.max_inputs

    @property
    def ready(self) -> bool:
        """Whether a container takes requests, now or when it has a slot again."""
        return any(member.stage is Stage.READY for member in self.members.values())

    @property
    def open(self) -> bool:
        """Whether a container takes requests now: not every slot of it is held."""
        return any(
            member.stage is Stage.READY and member.held < self.slots
            for member in self.members.values()
        )

    @property
    def asleep(self) -> bool:
        """Whether there is nothing here to measure or to decide."""
        return not (
            self.members
            or self.parked
            or self.unsettled
            or self.retired
            or self.floor
            or self.least
        )

    def count(self, *stages: Stage) -> int:
        """How many containers are in one of these stages."""
        return sum(member.stage in stages for member in self.members.values())

    def idle(self) -> list[Member]:
        """Containers that take requests and have none."""
        return [
            member
            for member in self.members.values()
            if member.stage is Stage.READY and not self.busy(member)
        ]

    def leaving(self) -> list[str]:
        """Ids of containers that end as soon as they can, and have no request to finish."""
        return [
            member.id
            for member in self.members.values()
            if member.stage in (Stage.DRAINING, Stage.STOPPING) and not self.busy(member)
        ]

    def busy(self, member: Member) -> bool:
        """Whether a container has a request, or work after one."""
        return bool(self.load.per_container.get(member.id, 0) or member.held)

    def give_one_up(self) -> None:
        """A container ends because the user wants it: none comes in its place unless somebody needs one."""
        staying = self.count(Stage.STARTING, Stage.ATTACHING, Stage.READY)
        self.peak.lower(staying * self.bounds.target_inputs)

    def rest(self) -> None:
        """Forget how much there was to do: nothing is kept for it any more, proved or not."""
        self.floor = 0
        self.peak = Peak(self.function.scaledown_window_s)

    def waited_s(self, now: float) -> float:
        """How long the first visitor has waited for whom the next container is; 0 without one."""
        served = self.count(Stage.STARTING, Stage.ATTACHING) * self.slots
        since = list(self.parked.values())[served : served + 1]
        return now - since[0] if since else 0.0

    def succeeded(self, now: float) -> None:
        """A container is ready: everyone who waits may go."""
        self.failures, self.retry_at, self.failure = 0, 0.0, None
        self.cold_starts += 1
        self.peak.record(1, now)  # so that a fresh container lives for a window
        self.let_in()

    def failed(self, failure: StartError, now: float) -> None:
        """A start failed: everyone who waits is told why, and the next start has to wait."""
        self.failures += 1
        self.failed_starts += 1
        self.failure = failure
        # The first retry is free: a visitor's next request may find the cause mended.
        if self.failures > 1:
            self.retry_at = now + min(FIRST_BACKOFF_S * 2 ** (self.failures - 2), MAX_BACKOFF_S)
        self.refuse(failure)

    def demote(self, drain_s: float) -> None:
        """A newer version serves: requests inside go on for that long, and who waits looks again."""
        self.demoted, self.floor = True, 0
        self.cut_at = now() + drain_s
        self.peak = Peak(DEMOTED_WINDOW_S)
        for member in self.members.values():
            member.before = True
        self.release()

    def promote(self) -> None:
        """It serves again: the newer version could not start."""
        self.demoted = False
        self.revive()
        self.rest()
        for member in self.members.values():
            member.before = False

    def retire(self, drain_s: float) -> None:
        """No endpoint leads here any more; requests inside may go on for `drain_s`."""
        self.retired, self.floor, self.drain_s = True, 0, drain_s
        self.release()

    def revive(self) -> None:
        """Somebody leads here again. Containers that drain go on draining."""
        self.retired = self.winding_down = False

    def let_in(self) -> None:
        """A container takes requests: everyone who waits may go.

        Of single-use containers each takes one, so only so many may go: the others would come back.
        """
        if self.function.single_use:
            free = sum(
                member.stage is Stage.READY and not self.busy(member)
                for member in self.members.values()
            )
            self.release(free)
        else:
            self.release()

    def release(self, most: int | None = None) -> None:
        """Everyone who waits may go, or the first `most`; the ingress asks again if it finds no container."""
        waiting = [future for future in self.parked if not future.done()][:most]
        for future in (*waiting, *self.watchers):
            if not future.done():
                future.set_result(None)

    def refuse(self, failure: Failure) -> None:
        """Tell everyone who waits that there will be no container."""
        if self.ready:
            return  # another container answers them
        for waiting in (*self.parked, *self.watchers):
            if not waiting.done():
                waiting.set_exception(failure)

    async def first_ready(self) -> None:
        """Return once a container takes requests; raise `StartError` when a start fails."""
        if self.ready:
            return
        waiting = asyncio.get_running_loop().create_future()
        self.watchers.add(waiting)
        try:
            await waiting
        finally:
            self.watchers.discard(waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a function's pools do together: one for each set of class parameters."""

    running: int
    queued: int  # in the ingress, or parked
    served: int
    errors: int
    cold_starts: int
    failed_starts: int


OWNERS = 10_000  # containers whose owner is remembered, the newest


class Pools:
    """Every pool there is, by key."""

    def __init__(self, most_values: int = MOST_VALUES) -> None:
        self.own_ports = False  # containers take no port of this machine
        self._most_values = most_values
        self._pools: dict[PoolKey, Pool] = {}
        self._by_container: dict[str, Pool] = {}
        self._owners: dict[str, Owner] = {}  # by container: what one says last comes after its end
        self.removed: Callable[[Pool], None] = lambda _pool: None  # whom to tell

    def __iter__(self) -> Iterator[Pool]:
        return iter(list(self._pools.values()))

    def get(self, key: PoolKey) -> Pool | None:
        """The pool of that very key."""
        return self._pools.get(key)

    def add(self, pool: Pool) -> None:
        """Make it known."""
        pool.own_ports = self.own_ports
        self._pools[pool.key] = pool

    def open(self, pool: Pool) -> Pool:
        """Make it known, or bring back the one of its key whose last containers still drain."""
        pool.own_ports = self.own_ports
        known = self._pools.setdefault(pool.key, pool)
        known.revive()
        return known

    def remove(self, pool: Pool) -> None:
        """Forget it; its containers are gone."""
        if self._pools.get(pool.key) is pool:
            del self._pools[pool.key]
            base = self._pools.get(dataclasses.replace(pool.key, parameters=""))
            if base is not None:  # the function's counters never go back
                base.served_before += pool.load.served + pool.served_before
                base.errors_before += pool.load.errors + pool.errors_before
                base.cold_starts += pool.cold_starts
                base.failed_starts += pool.failed_starts
        self.removed(pool)

    def enlist(self, pool: Pool, member: Member) -> None:
        """A container begins in a pool."""
        pool.members[member.id] = member
        self._by_container[member.id] = pool
        self._owners[member.id] = pool.owner
        if len(self._owners) > OWNERS:
            del self._owners[next(iter(self._owners))]

    def discharge(self, container: str) -> None:
        """A container has ended."""
        if pool := self._by_container.pop(container, None):
            pool.members.pop(container, None)

    def members(self) -> list[tuple[Pool, Member]]:
        """Every container that a pool has, with its pool."""
        return [(pool, pool.members[name]) for name, pool in self._by_container.items()]

    def of_container(self, container: str) -> Pool | None:
        """The pool that a container belongs to."""
        return self._by_container.get(container)

    def owner_of(self, container: str) -> Owner | None:
        """The owner of a container's pool, also a while after its end; None if that is not known."""
        pool = self._by_container.get(container)
        return pool.owner if pool else self._owners.get(container)

    def of_revision(self, app: str, revision: str) -> list[Pool]:
        """The pools of one revision, those for class parameters included."""
        return [p for p in self if (p.key.app, p.key.revision) == (app, revision)]

    def totals(self, key: PoolKey) -> Totals:
        """What the pools of a function do together, whatever their class parameters are."""
        base = dataclasses.replace(key, parameters="")
        pools = [p for p in self if dataclasses.replace(p.key, parameters="") == base]
        return Totals(
            running=sum(pool.load.running for pool in pools),
            queued=sum(pool.load.queued + len(pool.parked) for pool in pools),
            served=sum(pool.load.served + pool.served_before for pool in pools),
            errors=sum(pool.load.errors + pool.errors_before for pool in pools),
            cold_starts=sum(pool.cold_starts for pool in pools),
            failed_starts=sum(pool.failed_starts for pool in pools),
        )

    def holder_of_port(self, port: int) -> Pool | None:
        """The pool whose container has that port, or is about to."""
        return next((p for p in self if p.port == port and p.members), None)

    def called_for(self, key: PoolKey) -> Pool:
        """The pool that answers requests with this key, made when its parameters are new.

        A retired one is returned as it is: its endpoint leads elsewhere by now, or nowhere.

        Raises `NotFound` where no endpoint leads there, `BadRequest` naming the accepted
        parameters where they are missing or of the wrong type, `TooMany` where as many values as
        may be have requests.
        """
        base = self._pools.get(PoolKey(key.app, key.function, key.revision))
        if base is None:
            raise NotFound("app for invoked web endpoint is stopped")
        if base.retired or not base.function.parameters:
            return base
        values = parameters.read(base.function.parameters, key.parameters)
        spelling = parameters.spell(base.function.parameters, values)
        pool = self._pools.get(PoolKey(key.app, key.function, key.revision, spelling))
        if pool is None:
            pool = self._with_parameters(base, spelling, values)
        pool.revive()
        pool.used_at = now()
        return pool

    def _with_parameters(self, base: Pool, spelling: str, values: dict[str, Value]) -> Pool:
        self._make_way(base)
        pool = base.of_values(spelling, values)
        self.add(pool)
        if base.demoted:
            pool.demote(0.0)
        return pool

    def _make_way(self, base: Pool) -> None:
        """Let the value that was used longest ago go, if there are as many as there may be."""
        others = [
            pool
            for pool in self._pools.values()
            if pool.chosen
            and (pool.key.app, pool.key.function, pool.key.revision)
            == (base.key.app, base.key.function, base.key.revision)
        ]
        staying = [pool for pool in others if not pool.retired]
        if len(staying) < self._most_values:
            return
        idle = [pool for pool in staying if pool.idles]
        # Those that are on their way out have a backend of the ingress, too.
        if not idle or len(others) >= 2 * self._most_values:
            raise TooMany(
                f"as many values of the class parameters of `{base.key.function}` as there may be "
                "at once are in use; try again"
            )
        min(idle, key=lambda pool: pool.used_at).retire(RETIRED_DRAIN_S)


def now() -> float:
    """The clock that pools are timed by, in seconds: the event loop's, which tests may bend."""
    return asyncio.get_running_loop().time()
