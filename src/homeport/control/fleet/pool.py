"""A pool: the containers that can answer the same request, and the requests that wait for them. It does no I/O."""

import asyncio
import dataclasses
from dataclasses import field

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Failure, StartError
from homeport.contract.manifest import FunctionSpec, Value
from homeport.contract.traffic import Load, PoolKey
from homeport.control.fleet.autoscaler import Bounds, Peak
from homeport.control.fleet.member import GivenUp, Member, Stage
from homeport.control.fleet.owner import Owner

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
DEMOTED_WINDOW_S = 2.0
RETIRED_DRAIN_S = 30.0
ENDING = (Stage.DRAINING, Stage.STOPPING)


@dataclass(slots=True, kw_only=True)
class Pool:
    """The containers that can answer the same request.

    One class, because demand, containers and parked requests of a pool change together.
    """

    key: PoolKey
    function: FunctionSpec
    source: str  # the hash of the revision's source tree
    owner: Owner  # a deployed app, a session, or an earlier version
    parameters: dict[str, Value] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)  # tag -> URL, of the whole app
    ephemeral: bool = False  # of a session: visitors see why a start failed, drains are short
    own_ports: bool = False  # its containers take no port of this machine
    variant: bool = False  # made by `with_options`; it is removed when it is idle
    #: Of an earlier server: its containers finish their requests, and no more start.
    orphan: bool = False
    declared: FunctionSpec | None = None  # as the script has it; null: `function` is so
    minimum: int | None = None  # of containers, set by `update_autoscaler`
    floor: int = 0  # containers to have without any demand, for a deploy's trial
    #: A newer version serves the app's URLs; this pool has only its version's own URL.
    demoted: bool = False
    #: If it is demoted: containers with `before` are ended then, also busy ones (monotonic).
    cut_at: float = 0.0
    retired: bool = False  # no endpoint uses this pool any more
    winding_down: bool = False  # retired, and measured after that
    given_up: dict[str, GivenUp] = field(default_factory=dict)  # containers that the user stopped
    excused: int = 0  # requests that containers answered after the user had stopped them, and went
    counted: int = 0  # requests so far that count as demand
    drain_s: float = RETIRED_DRAIN_S  # how long requests may run after the pool is retired
    drain_until: float = 0.0  # retired: requests that still run then are cut (monotonic)
    members: dict[str, Member] = field(default_factory=dict)
    # The parked requests, in order of arrival, each with its time of arrival (monotonic).
    parked: dict[asyncio.Future[None], float] = field(default_factory=dict)
    load: Load = field(default_factory=Load)
    unsettled: bool = False  # a container took requests, and some may not have ended
    used_at: float = 0.0  # when a request was last parked or seen here (monotonic)
    peak: Peak = field(init=False)
    failures: int = 0  # starts in a row that failed
    retry_at: float = 0.0  # no start before then (monotonic)
    failure: StartError | None = None  # the last failed start, until a container is ready
    lacks: str = ""  # the resource that the next container waits for, in words
    #: Since when it waits for a machine that Ray could add (monotonic); 0: it does not.
    awaits_since: float = 0.0
    crowded: bool = False  # True if the next container waits for a place, not for memory or a GPU
    promised: str = ""  # another function's container that drains to make room for this pool
    cold_starts: int = 0
    failed_starts: int = 0
    served_before: int = 0  # requests served by removed pools of this function's parameters
    errors_before: int = 0
    watchers: set[asyncio.Future[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.peak = Peak(self.function.scaledown_window_s)

    @property
    def bounds(self) -> Bounds:
        """The limits for the autoscaler."""
        spec = self.function
        if self.orphan:
            return Bounds(max_containers=0)
        if self.demoted:
            return Bounds(
                max_containers=spec.max_containers,
                target_inputs=spec.target_inputs or spec.max_inputs,
                scaledown_window_s=DEMOTED_WINDOW_S,
            )
        # A port belongs to one container at a time, so a pool with a port has at most one.
        limit = 1 if self.ports else spec.max_containers
        return Bounds(
            min_containers=min(max(self.least, self.floor), limit or 10**9),
            max_containers=limit,
            buffer_containers=spec.buffer_containers,
            target_inputs=spec.target_inputs or spec.max_inputs,
            scaledown_window_s=spec.scaledown_window_s,
        )

    @property
    def chosen(self) -> bool:
        """True if a caller has chosen its class parameters or options; such a pool is removed when it is idle."""
        return bool(self.key.parameters) or self.variant

    @property
    def least(self) -> int:
        """The number of containers to have without any demand.

        0 for parameters that visitors choose, because such containers would stay forever, unless `update_autoscaler` has
        set another number. 0 also for a class with a required parameter.
        """
        if not self.key.parameters and any(p.required for p in self.function.parameters):
            return 0
        if self.minimum is not None:
            return self.minimum
        return 0 if self.chosen else self.function.min_containers

    @property
    def idles(self) -> bool:
        """True if there is no request, no container, and no start in progress."""
        return not (self.demand or self.floor or self.count(Stage.STARTING, Stage.ATTACHING))

    def expired(self, now: float) -> bool:
        """Return whether the pool may be removed: its parameters were not used for a window."""
        unused_since = now - self.function.scaledown_window_s
        return self.chosen and self.asleep and self.used_at <= unused_since and now >= self.retry_at

    def of_values(self, spelling: str, values: dict[str, Value]) -> "Pool":
        """Return a new pool of the same function, for these class parameters."""
        return Pool(
            key=dataclasses.replace(self.key, parameters=spelling),
            function=self.declared or self.function,
            source=self.source,
            owner=self.owner,
            parameters=values,
            urls=self.urls,
            ephemeral=self.ephemeral,
            own_ports=self.own_ports,
            variant=self.variant,
            orphan=self.orphan,
        )

    def of_options(self, name: str, function: FunctionSpec, *, orphan: bool = False) -> "Pool":
        """Return a new pool of a variant of the same function."""
        return Pool(
            key=dataclasses.replace(self.key, function=name, parameters=""),
            function=function,
            source=self.source,
            owner=self.owner,
            parameters={p.name: p.default for p in function.parameters if p.default is not None},
            urls=self.urls,
            ephemeral=self.ephemeral,
            own_ports=self.own_ports,
            variant=True,
            orphan=orphan,
        )

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports of this machine that its container uses, which no other container can have."""
        return () if self.own_ports else self.function.ports

    @property
    def demand(self) -> int:
        """The number of requests that this pool has, including work after a response."""
        held = sum(self._held(member) for member in self.members.values() if member.held)
        return self.load.running + held + self.load.queued + len(self.parked)

    @property
    def needed(self) -> int:
        """The demand without the requests inside containers that are ending, or whose machine does not answer."""
        leaving = (m for m in self.members.values() if m.away or m.stage in ENDING)
        inside = sum(self.load.per_container.get(m.id, 0) + self._held(m) for m in leaving)
        return max(self.demand - inside, 0)

    def _held(self, member: Member) -> int:
        # A request whose work continues is in both numbers until its last bytes are sent.
        return min(member.held, max(self.slots - self.load.per_container.get(member.id, 0), 0))

    @property
    def slots(self) -> int:
        """The number of concurrent requests that one container takes."""
        return 1 if self.function.single_use else self.function.max_inputs

    @property
    def ready(self) -> bool:
        """True if a container takes requests, now or when a slot is free again."""
        return any(_serves(member) for member in self.members.values())

    @property
    def open(self) -> bool:
        """True if a container takes requests now: not all of its slots are held."""
        return any(_serves(member) and member.held < self.slots for member in self.members.values())

    @property
    def asleep(self) -> bool:
        """True if there is nothing to measure or to decide for this pool."""
        return not (
            self.members
            or self.parked
            or self.unsettled
            or self.retired
            or self.floor
            or self.least
        )

    def count(self, *stages: Stage) -> int:
        """Return how many containers are in one of these stages."""
        return sum(member.stage in stages for member in self.members.values())

    @property
    def alive(self) -> int:
        """How many containers take requests, or are about to."""
        return sum(
            member.stage not in ENDING and not member.away for member in self.members.values()
        )

    @property
    def away(self) -> int:
        """How many containers are on machines that do not answer, and not given up yet."""
        return sum(member.away and member.stage not in ENDING for member in self.members.values())

    def idle(self) -> list[Member]:
        """Return the containers without a request and without a program of the user's."""
        return [
            member
            for member in self.members.values()
            if _serves(member) and not self.busy(member) and not member.programs
        ]

    def leaving(self) -> list[str]:
        """Return the ids of containers that are ending and have no request to finish."""
        return [
            member.id
            for member in self.members.values()
            if member.stage in ENDING and not self.busy(member)
        ]

    def busy(self, member: Member) -> bool:
        """Return whether a container has a request, or work after one."""
        return bool(self.load.per_container.get(member.id, 0) or member.held)

    def give_up(self, container: str) -> None:
        """Lower the peak by one container, which the user has stopped: replace it only if demand needs it.

        Requests that it answers from now on, or has answered since the last pass, do not count as demand.
        """
        served = self.load.served_by.get(container, 0)
        self.given_up[container] = GivenUp(before=served, served=served)
        self.peak.lower(self.alive * self.bounds.target_inputs)

    def look(self) -> bool:
        """Return whether a request that counts as demand has ended since the last call."""
        for container, ending in self.given_up.items():
            ending.served = max(ending.served, self.load.served_by.get(container, 0))
        excused = self.excused + sum(gone.after for gone in self.given_up.values())
        counted, self.counted = self.counted, max(self.counted, self.load.served - excused)
        return self.counted > counted

    def detached(self, container: str, served: int) -> None:
        """A container takes no more requests; it has answered so many."""
        if (ending := self.given_up.pop(container, None)) is not None:
            ending.served = max(ending.served, served)
            self.excused += ending.after

    def rest(self) -> None:
        """Reset the recorded demand, so that the pool may scale to zero at once."""
        self.floor = 0
        self.peak = Peak(self.function.scaledown_window_s)

    def waited_s(self, now: float) -> float:
        """Seconds that the oldest parked request not yet covered by a starting container has waited; 0 if none."""
        served = self.count(Stage.STARTING, Stage.ATTACHING) * self.slots
        since = list(self.parked.values())[served : served + 1]
        return now - since[0] if since else 0.0

    def succeeded(self, now: float) -> None:
        """A container is ready: release all parked requests."""
        self.failures, self.retry_at, self.failure = 0, 0.0, None
        self.cold_starts += 1
        self.peak.record(1, now)  # so that a new container stays for a window
        self.let_in()

    def failed(self, failure: StartError, now: float) -> None:
        """A start failed: refuse all parked requests with the reason, and delay the next start."""
        self.failures += 1
        self.failed_starts += 1
        self.failure = failure
        # The first retry has no delay: the user may have repaired the cause.
        if self.failures > 1:
            doublings = min(self.failures - 2, 20)  # an app may fail for days: 2**1024 is no float
            self.retry_at = now + min(FIRST_BACKOFF_S * 2**doublings, MAX_BACKOFF_S)
        self.refuse(failure)

    def demote(self, drain_s: float) -> None:
        """A newer version serves: running requests may continue for `drain_s`, and parked requests are routed again."""
        self.demoted, self.floor = True, 0
        self.cut_at = now() + drain_s
        self.peak = Peak(DEMOTED_WINDOW_S)
        for member in self.members.values():
            member.before = True
        self.release()

    def promote(self) -> None:
        """Serve again, because the newer version could not start."""
        self.demoted = False
        self.revive()
        self.rest()
        for member in self.members.values():
            member.before = False

    def retire(self, drain_s: float) -> None:
        """No endpoint uses this pool any more; running requests may continue for `drain_s`."""
        self.retired, self.floor, self.drain_s = True, 0, drain_s
        self.release()

    def revive(self) -> None:
        """An endpoint uses this pool again; containers that drain continue to drain."""
        self.retired = self.winding_down = False

    def let_in(self) -> None:
        """A container takes requests: release the parked requests.

        Single-use containers take one request each, so release only as many: the others would come back.
        """
        if self.function.single_use:
            free = sum(
                _serves(member) and not self.busy(member) for member in self.members.values()
            )
            self.release(free)
        else:
            self.release()

    def release(self, most: int | None = None) -> None:
        """Release all parked requests, or the first `most`; the ingress parks them again without a container."""
        waiting = [future for future in self.parked if not future.done()][:most]
        for future in (*waiting, *self.watchers):
            if not future.done():
                future.set_result(None)

    def refuse(self, failure: Failure) -> None:
        """Refuse all parked requests, unless another container can answer them."""
        if self.ready:
            return  # another container answers them
        for waiting in (*self.parked, *self.watchers):
            if not waiting.done():
                waiting.set_exception(failure)

    async def first_ready(self) -> None:
        """Wait until a container takes requests; raise `StartError` if a start fails."""
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
    """The sums over a function's pools, of which there is one for each set of class parameters."""

    running: int
    queued: int  # in the ingress, or parked
    served: int
    errors: int
    cold_starts: int
    failed_starts: int


def _serves(member: Member) -> bool:
    return member.stage is Stage.READY and not member.away


def now() -> float:
    """Return the time for pools in seconds, by the event loop's clock: tests use virtual time."""
    return asyncio.get_running_loop().time()
