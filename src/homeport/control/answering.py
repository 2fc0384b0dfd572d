"""The last stage of the server's start: the API, made of the objects of the stages before it (see `stages`)."""

import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

from homeport.contract.scope import Scope
from homeport.control.api import listeners
from homeport.control.api.routes import Api, Backend
from homeport.control.api.view import View
from homeport.control.deploys import certified
from homeport.control.deploys.worlds import Worlds
from homeport.control.lifeline import Lifeline
from homeport.control.reporting.alerts.watcher import Watcher
from homeport.control.stages import Deploys, Fleet
from homeport.control.stored import State


async def open_api(
    state: State,
    fleet: Fleet,
    deploys: Deploys,
    lifeline: Lifeline,
    *,
    shutdown: Callable[[], None],
    tcp: socket.socket | None,
    opened: AsyncExitStack,
) -> None:
    """Answer commands on the home's socket, and on the `tcp` one if there is one."""
    parts, settings = deploys.parts, deploys.parts.settings

    def stop_container(scope: Scope, container: str) -> bool:
        ids = {
            container_.id
            for container_ in fleet.nodes.containers()
            if container_.order.within == scope
        }
        if container in ids:
            fleet.reconciler.end(container)
        return container in ids

    backend = Backend(
        view=_view(fleet, deploys, lifeline),
        deployer=deploys.deployer,
        expiring=deploys.expiring,
        logs=state.logs,
        cold_starts=state.cold_starts,
        deploys=state.deploys,
        requests=state.requests,
        usages=state.usages,
        shared=state.shared,
        spawned=deploys.spawned,
        tunnels=fleet.tunnels,
        scaler=deploys.scaler,
        variants=deploys.variants,
        tokens=deploys.tokens,
        rate_limits=deploys.rate_limits,
        api_tokens=state.api_tokens,
        audit=state.audit,
        keeper=fleet.keeper,
        domains=deploys.domains,
        captor=deploys.captor,
        alerts=state.alerts,
        watcher=_watcher(state, fleet, deploys, opened),
        worlds=_worlds(state, deploys),
        machines=fleet.machines,
        keep=lifeline.keep,
        shutdown=shutdown,
        stop_container=stop_container,
    )
    api = Api(parts, backend)
    opened.push_async_callback(api.close)
    guarded = listeners.guards(settings, api.app(), state.api_tokens, state.audit, opened)
    await listeners.inside(settings, api.inside(), state.environments.by_key, guarded, opened)
    await listeners.outside(settings, api.app(), guarded, tcp, opened)


def _worlds(state: State, deploys: Deploys) -> Worlds:
    return Worlds(
        deploys.parts,
        deploys.deployer,
        state.shared,
        state.logs,
        deploys.tokens,
        deploys.rate_limits,
        state.api_tokens,
        deploys.expiring.expiries,
        state.cold_starts,
        state.requests,
        state.usages,
        deploys.captor.kept,
        state.alerts,
    )


def _watcher(state: State, fleet: Fleet, deploys: Deploys, opened: AsyncExitStack) -> Watcher:
    """Open the loops that look at alerts and deliver their messages."""
    keeper, canaries = fleet.keeper, deploys.deployer.canaries
    watcher = Watcher(
        state.alerts,
        state.requests,
        state.usages,
        home=deploys.parts.settings.home,
        certificates=lambda: [] if keeper is None else keeper.states(),
        canaries=lambda scope: canaries.failed(scope, deploys.deployer.live.get),
        machines=fleet.nodes.gone,
    )
    state.requests.added = watcher.touched
    fleet.sampler.failed = watcher.touched
    watcher.open()
    opened.push_async_callback(watcher.close)
    return watcher


def _view(fleet: Fleet, deploys: Deploys, lifeline: Lifeline) -> View:
    return View(
        deploys.parts,
        deploys.deployer,
        ingress_pid=lambda: fleet.ingress.pid,
        kept=lambda: (lifeline.kept, lifeline.keeper),
        next_runs=deploys.scheduler.next_runs,
        expires_at=deploys.expiring.expires_at,
        certificate=certified.states(fleet.keeper),
    )
