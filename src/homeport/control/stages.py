"""The stages of the server's start; each needs the stages before it.

`main` calls them. A stage pushes the closing of its objects on `opened`: if a later stage fails, and at the end
of the server, everything is closed in reverse order. `main` imports this module only after the nodes are open:
these imports take half of the start, and the node's first zygote imports at the same time.
"""

import dataclasses
import logging
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from typing import Protocol

from homeport.contract.container import Container
from homeport.contract.dataclass import dataclass
from homeport.contract.roles import Ingress
from homeport.contract.traffic import Public
from homeport.control.calls.dispatcher import Dispatcher
from homeport.control.calls.scheduler import Scheduler
from homeport.control.calls.spawned import Spawned
from homeport.control.calls.varied import Varied
from homeport.control.certificates import opening
from homeport.control.certificates.keeper import Keeper
from homeport.control.certificates.resolving import Resolver
from homeport.control.deploys import capturing, certified
from homeport.control.deploys.apps import Live
from homeport.control.deploys.deployer import Deployer
from homeport.control.deploys.domains import Domains
from homeport.control.deploys.endpoints import Endpoints
from homeport.control.deploys.expiring import Expiring
from homeport.control.deploys.judging import Judging
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.plans import Plans
from homeport.control.deploys.rollout import Rollout
from homeport.control.deploys.scaling import Scaler
from homeport.control.deploys.variants import Variants
from homeport.control.fleet.activator import Activator
from homeport.control.fleet.machines import Machines
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.pools import Pools
from homeport.control.fleet.reconciler import Reconciler
from homeport.control.fleet.resting import Resting
from homeport.control.fleet.tunnels import Tunnels
from homeport.control.fleet.usage import Sampler
from homeport.control.lifeline import Lifeline
from homeport.control.reporting.traces import opening as traces
from homeport.control.reporting.traces.exporter import Exporter, Known
from homeport.control.stored import State
from homeport.settings import Settings
from homeport.state.call_statements import Room
from homeport.state.calls import Calls
from homeport.state.certificates import Certificates
from homeport.state.expiries import Expiries
from homeport.state.nodes import Nodes as JoinedNodes
from homeport.state.rate_limits import RateLimits
from homeport.state.scaling import Scalings
from homeport.state.schedules import Schedules
from homeport.state.scope import MAIN
from homeport.state.sweeper import Sweeper
from homeport.state.tokens import Tokens

ARRIVE_S = 5.0  # an agent that looks for its control plane finds it within 2 s

log = logging.getLogger(__name__)


class Entrance(Ingress, Protocol):
    """The ingress, with the attributes that the start uses."""

    took_over: bool  # True if it took over an earlier server's sockets

    @property
    def http_port(self) -> int:
        """The port that it listens on, after `open`."""

    @property
    def https_port(self) -> int:
        """The port of HTTPS, after `open`; 0 without TLS."""

    @property
    def pid(self) -> int:
        """The id of its process; 0 while no process runs."""


#: Arguments: the settings, whether it ends with this process, the local ports of endpoints.
NewIngress = Callable[[Settings, bool, Collection[int]], Entrance]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The objects that run containers and send requests to them."""

    pools: Pools
    nodes: Nodes
    machines: Machines
    ingress: Entrance
    reconciler: Reconciler
    activator: Activator
    tunnels: Tunnels
    sampler: Sampler
    resolver: Resolver
    keeper: Keeper | None  # of certificates; None: there is no TLS
    exporter: Exporter | None  # of traces; None: they are not exported


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploys:
    """The objects that deploy apps, and the access to them."""

    parts: Parts
    deployer: Deployer
    expiring: Expiring
    judging: Judging
    tokens: Tokens
    rate_limits: RateLimits
    spawned: Spawned
    dispatcher: Dispatcher
    scheduler: Scheduler
    scaler: Scaler
    variants: Variants
    domains: Domains
    captor: capturing.Captor


async def open_fleet(
    settings: Settings,
    state: State,
    nodes: Nodes,
    new_ingress: NewIngress,
    *,
    tied: bool,
    opened: AsyncExitStack,
) -> Fleet:
    """Open the ports; no request is answered yet. With `tied` the ingress ends with this process."""
    ingress = new_ingress(settings, tied, (await state.store.local_ports()).values())
    pools = Pools(settings.max_parameter_pools)
    pools.own_ports = bool(there := nodes.capacities()) and all(node.own_ports for node in there)
    reconciler = Reconciler(
        pools,
        nodes,
        ingress,
        state.secrets,
        key=state.environments.key,
        say=state.logs.write,
        started=state.cold_starts.add,
    )
    resolver = Resolver(settings.dns_resolver, settings.public_addresses)
    keeper = opening.opened(settings, Certificates(state.store.database), ingress, resolver)
    tunnels = opening.tunnels(settings, ingress, keeper, state.environments)
    sampler = Sampler(nodes, pools, state.usages.add)

    def changed(container: Container) -> None:
        tunnels.changed(container)
        sampler.changed(container)
        reconciler.changed(container)

    nodes.watch(changed)
    activator = Activator(
        settings.activator_socket,
        pools,
        wake=reconciler.wake,
        rouse=reconciler.rouse,
        alias=ingress.alias,
        say=state.logs.write,
        alone=lambda: state.environments.is_alone,
    )
    ingress.watch(state.cold_starts.answered)
    # Before the ingress, because that reads its last requests when it is closed.
    exporter = traces.exporter(settings, lambda: with_port(settings, ingress).url_port, opened)
    await _open_ingress(ingress, keeper, opened)
    opened.push_async_callback(tunnels.end)
    return Fleet(
        machines=await _open_machines(settings, state, nodes, pools, ingress, opened),
        pools=pools,
        nodes=nodes,
        ingress=ingress,
        reconciler=reconciler,
        activator=activator,
        tunnels=tunnels,
        sampler=sampler,
        resolver=resolver,
        keeper=keeper,
        exporter=exporter,
    )


async def _open_machines(
    settings: Settings,
    state: State,
    nodes: Nodes,
    pools: Pools,
    ingress: Entrance,
    opened: AsyncExitStack,
) -> Machines:
    """Open the port for other machines, if one has been opened before: their agents come while the apps are restored.

    Speak with Ray from now on, if there is one.
    """
    joined = JoinedNodes(state.store.database)
    shared = settings.volumes_dir if settings.shared_volumes else None

    def url_port() -> int:
        """Return the port of URLs that lead to loopback: to that of another machine, for containers there."""
        is_local = settings.domain.endswith("localhost")
        return with_port(settings, ingress).url_port if is_local else 0

    def public() -> Public | None:
        """Return where visitors from elsewhere come in; None if only this machine does."""
        if settings.on_loopback:
            return None
        return Public(host=settings.host, http=ingress.http_port, https=ingress.https_port)

    machines = Machines(
        settings.home,
        nodes,
        joined,
        ingress,
        settings.node_networks,
        shared_volumes=shared,
        urls=url_port,
        public=public,
        addresses=tuple(filter(None, settings.standby_addresses.split(","))),
    )
    await machines.open()
    opened.push_async_callback(machines.close)
    if settings.ray:
        from homeport.contract import node_types
        from homeport.control.fleet.addable import Addable
        from homeport.control.fleet.growing import Growing

        nodes.addable = Addable(
            types=node_types.read(settings.ray_node_types), share_volumes=shared is not None
        )
        log_file = settings.home / "ray.log"
        growing = Growing(settings.ray, pools, nodes, machines, log_file=log_file)
        growing.open()
        opened.push_async_callback(growing.close)
    return machines


async def _open_ingress(ingress: Entrance, keeper: Keeper | None, opened: AsyncExitStack) -> None:
    await ingress.open()
    opened.push_async_callback(ingress.close)
    if keeper is not None:
        await keeper.start()
        opened.push_async_callback(keeper.close)


def open_deploys(
    settings: Settings, state: State, fleet: Fleet, lifeline: Lifeline, opened: AsyncExitStack
) -> Deploys:
    """Make the objects that deploy; no app serves yet."""
    parts = Parts(
        settings=settings,
        store=state.store,
        environments=state.environments,
        secrets=state.secrets,
        volumes=state.volumes,
        domains=state.domains,
        blobs=state.blobs,
        pools=fleet.pools,
        nodes=fleet.nodes,
        ingress=fleet.ingress,
        reconciler=fleet.reconciler,
        live=Live(),
        plans=Plans(
            settings,
            state.environments,
            own_ports=fleet.pools.own_ports,
            attached=state.domains.of,
        ),
        endpoints=Endpoints(fleet.ingress, fleet.keeper),
    )
    if fleet.keeper is not None:
        fleet.keeper.wants(lambda: certified.wanted(parts.endpoints))
    places = Known(
        place=parts.endpoints.place,
        revision=fleet.pools.revision_of,
        versions=parts.live.versions,
        start=state.cold_starts.recent,
    )
    state.requests.node_of = fleet.nodes.node_of
    fleet.ingress.keep(
        traces.keeping(state.requests, fleet.exporter, places), state.requests.recent
    )
    rollout = Rollout(parts)
    opened.push_async_callback(rollout.close)
    sweeper = Sweeper(state.store, state.secrets, state.blobs, rollout.trees.in_use)
    opened.push_async_callback(sweeper.close)
    deployer = Deployer(parts, rollout, sweeper)
    opened.push_async_callback(deployer.close)
    lifeline.busy = lambda: deployer.busy
    fleet.reconciler.spares = lambda owner: owner in deployer.broken
    return _calls(settings, state, fleet, parts, deployer, opened)


def _calls(
    settings: Settings,
    state: State,
    fleet: Fleet,
    parts: Parts,
    deployer: Deployer,
    opened: AsyncExitStack,
) -> Deploys:
    """Make the objects that call deployed functions."""
    scaler = Scaler(parts, Scalings(state.store.database))
    variants = Variants(parts, deployer.mounts)
    opened.push_async_callback(variants.close)

    def retries_of(endpoint: str) -> str | None:
        retries = parts.live.retries_of(endpoint)
        return variants.retries_of(endpoint) if retries is None else retries

    room = Room(alone=lambda: state.environments.is_alone)
    calls = Calls(state.store.database, settings.home / "calls", room=room)
    key = state.environments.key
    spawned = Spawned(calls, retries_of, Varied(variants, state.vault, key), key=key)
    scheduler = Scheduler(
        Schedules(state.store.database, calls),
        spawned,
        parts.live,
        settled=deployer.is_settled,
        key=key,
        say=state.logs.write,
    )

    def settled() -> None:
        scheduler.wake()
        if fleet.keeper is not None:
            fleet.keeper.wake()
        variants.tidy()
        scaler.forget()

    deployer.settled = settled
    deployer.after_restore(scaler.restore)
    return Deploys(
        parts=parts,
        deployer=deployer,
        expiring=Expiring(Expiries(state.store.database), deployer, state.audit),
        judging=Judging(deployer, fleet.pools, state.requests, state.audit, state.deploys),
        tokens=Tokens(state.store.database, fleet.ingress),
        rate_limits=RateLimits(state.store.database, fleet.ingress),
        spawned=spawned,
        dispatcher=Dispatcher(
            spawned,
            settings.calls_socket,
            lambda: [container.id for container in fleet.nodes.containers()],
            is_away=lambda owner: owner in deployer.broken,
        ),
        scheduler=scheduler,
        scaler=scaler,
        variants=variants,
        domains=Domains(parts, deployer, fleet.resolver, certificate=certified.words(fleet.keeper)),
        captor=capturing.new_captor(parts, deployer),
    )


async def serve(fleet: Fleet, deploys: Deploys, opened: AsyncExitStack) -> None:
    """Restore the deployed apps, and start to answer requests."""
    await deploys.tokens.publish()
    await deploys.rate_limits.publish()
    # A container that a node has must not be replaced because the node has not come yet.
    await fleet.nodes.arrived(ARRIVE_S)
    running = {container.order.pool.revision for container in fleet.nodes.containers()}
    await deploys.deployer.restore(running)
    await fleet.reconciler.adopt()
    # After the apps are restored, because requests that an older ingress has parked must find their app.
    await fleet.activator.open()
    opened.push_async_callback(fleet.activator.close)
    await fleet.ingress.start()
    deploys.tokens.open()
    opened.push_async_callback(deploys.tokens.close)
    fleet.reconciler.open()
    opened.push_async_callback(fleet.reconciler.close)
    fleet.sampler.open()
    opened.push_async_callback(fleet.sampler.close)
    resting = Resting(fleet.pools, fleet.nodes)
    resting.open()
    opened.push_async_callback(resting.close)
    await deploys.spawned.rows.readdress(deploys.parts.environments.key(MAIN))
    deploys.dispatcher.open()
    opened.push_async_callback(deploys.dispatcher.close)
    deploys.scheduler.open()
    opened.push_async_callback(deploys.scheduler.close)
    await deploys.expiring.expiries.load()
    deploys.captor.open()
    opened.push_async_callback(deploys.captor.close)
    deploys.expiring.open()
    opened.push_async_callback(deploys.expiring.close)
    deploys.judging.open()
    opened.push_async_callback(deploys.judging.close)
    if fleet.keeper is not None:
        fleet.keeper.open()


def with_port(settings: Settings, ingress: Entrance) -> Settings:
    """Return the settings with the ingress's real ports instead of 0."""
    https_port = ingress.https_port or settings.https_port
    return dataclasses.replace(settings, http_port=ingress.http_port, https_port=https_port)
