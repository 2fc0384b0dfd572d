"""Builds everything, starts it, stops it in reverse: the only file that knows all rooms.

The command line starts `python -m homeport.control` and writes one line of JSON to its standard
input, `{"settings": {…}, "kept": true}`; the answer is one line, `{"ready": {…}}` or
`{"error": {…}}`. A server that is not kept ends when its standard input closes.
"""

import asyncio
import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import os
import resource
import shutil
import signal
import socket
import sys
import typing
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn

from homeport.contract.container import LogLine
from homeport.contract.errors import AlreadyExists, BadRequest, Failure, StorageError
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.pools import Pools
from homeport.node.agent import Agent
from homeport.settings import Settings
from homeport.state.logs import Logs
from homeport.state.scope import MAIN
from homeport.supervised import retried

BUSY_S = 0.05

#: Given the settings, whether containers end with the server, and whom to tell what they print.
OpenNodes = Callable[[Settings, bool, Callable[[LogLine], None], AsyncExitStack], Awaitable[Nodes]]

log = logging.getLogger("homeport")


def main(open_nodes: OpenNodes | None = None) -> int:
    """The whole life of a control plane; 0 when it was asked to end."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    raise_open_files()
    start = json.loads(sys.stdin.readline())
    settings = settings_from(start["settings"])
    try:
        with locked(settings):
            asyncio.run(run(settings, kept=bool(start["kept"]), open_nodes=open_nodes or own_node))
    except (Failure, OSError) as error:
        _answer({"error": _told(error)})
        return 1
    return 0


def _told(error: Exception) -> dict[str, str]:
    if isinstance(error, OSError):
        error = StorageError(f"{error.filename or 'the home'}: {error.strerror}")
    if not isinstance(error, Failure):
        error = Failure(
            f"the server failed: {type(error).__name__}: {error}",
            hint="the details are in server.log in the home",
        )
    return error.to_dict()


def raise_open_files() -> None:
    """Have as many descriptors as we are allowed: each parked request is a connection to us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def settings_from(data: dict[str, Any]) -> Settings:
    """The settings that the command line wrote as JSON."""
    return Settings(**{**data, "home": Path(data["home"])})


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """The home's directories, in the hands of one server; `AlreadyExists` while another has them."""
    for directory in (settings.home, settings.run_dir, settings.socket_dir):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not where a link leads: below /tmp anybody may have made one.
        if directory.is_symlink() or directory.stat().st_uid != os.getuid():
            raise StorageError(
                f"{directory} belongs to another user, or is a link",
                hint="remove it, or name another directory in HOMEPORT_HOME",
            )
        directory.chmod(0o700)
    with (settings.home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise AlreadyExists(f"another server uses {settings.home}") from None
            raise
        try:
            yield
        finally:
            if settings.socket_dir != settings.run_dir:  # of this home, and below /tmp
                shutil.rmtree(settings.socket_dir, ignore_errors=True)


async def run(settings: Settings, *, kept: bool, open_nodes: OpenNodes) -> None:
    """Serve until somebody says stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    lifeline = Lifeline(stop, kept=kept)
    left = Left()
    async with AsyncExitStack() as opened:
        try:
            real = await _open(settings, lifeline, stop, left, opened, open_nodes)
            if stop.is_set():
                raise Failure("the server was ended before it was ready")
        except Exception as error:
            if left.something:
                _give_up(error)
            raise
        lifeline.watch(loop)
        _answer({"ready": {"pid": os.getpid(), "http_port": real.http_port}})
        await stop.wait()


@dataclasses.dataclass(slots=True)
class Left:
    """Whether an earlier server left something that answers, and that this one took over."""

    something: bool = False


def _give_up(error: Exception) -> NoReturn:
    """End this process alone: what an earlier server left goes on, as after a kill of that server."""
    log.error("the server cannot start; what runs goes on without it", exc_info=error)
    _answer({"error": _told(error)})
    logging.shutdown()
    os._exit(1)


class Lifeline:
    """Ends a server that nobody keeps when the command that started it has gone."""

    def __init__(self, stop: asyncio.Event, *, kept: bool) -> None:
        self.kept = kept
        self.busy: Callable[[], bool] = lambda: False  # other commands have sessions here
        self._stop = stop
        self._leaving: asyncio.Task[None] | None = None

    def keep(self) -> None:
        """From now on the server outlives that command."""
        self.kept = True

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for standard input to close."""
        with contextlib.suppress(OSError, ValueError):  # it is closed already
            loop.add_reader(sys.stdin.fileno(), self._closed, loop)
            return
        self._closed(loop)

    def _closed(self, loop: asyncio.AbstractEventLoop) -> None:
        if os.read(sys.stdin.fileno(), 4096):
            return
        loop.remove_reader(sys.stdin.fileno())
        self._leaving = loop.create_task(retried("ending the server", self._leave))

    async def _leave(self) -> None:
        while self.busy():
            await asyncio.sleep(BUSY_S)
        if not self.kept:
            self._stop.set()


async def own_node(
    settings: Settings, tied: bool, said: Callable[[LogLine], None], opened: AsyncExitStack
) -> Nodes:
    """Open the one node that there is: this machine's, in this process."""
    agent = Agent(settings, tied=tied)
    nodes = Nodes([agent], said=said)
    await agent.open()
    opened.push_async_callback(agent.close)
    await nodes.open()
    opened.push_async_callback(nodes.close)
    return nodes


async def _open(
    settings: Settings,
    lifeline: Lifeline,
    stop: asyncio.Event,
    left: Left,
    opened: AsyncExitStack,
    open_nodes: OpenNodes,
) -> Settings:
    """Every room, in the order in which each needs those before it; the settings in force."""
    # First what can be wrong with the settings: nothing has been touched yet.
    api_listener = await asyncio.to_thread(_api_listener, settings)
    if api_listener is not None:
        opened.callback(api_listener.close)
    logs = Logs(settings.home / "logs" / MAIN.folder, settings.log_cap_mib * 1024 * 1024)
    opened.callback(logs.close)
    nodes = await open_nodes(settings, not lifeline.kept, logs.write, opened)
    left.something = bool(nodes.containers())

    # Half of the start is these imports; the node's first zygote does its own meanwhile.
    from homeport.control.api.access import BearerOnly, OwnSocket
    from homeport.control.api.listener import listening, unix_socket
    from homeport.control.api.routes import Api, Parts
    from homeport.control.api.view import View
    from homeport.control.deploys.deployer import Deployer
    from homeport.control.deploys.rollout import Rollout
    from homeport.control.fleet.activator import Activator
    from homeport.control.fleet.reconciler import Reconciler
    from homeport.ingress.haproxy import HAProxy
    from homeport.state import schema, urls
    from homeport.state.blobs import Blobs
    from homeport.state.coldstarts import ColdStarts
    from homeport.state.database import Database
    from homeport.state.secrets import SecretBox
    from homeport.state.store import Store
    from homeport.state.sweeper import Sweeper
    from homeport.state.tokens import Tokens
    from homeport.state.vault import Vault

    database = Database(urls.of(settings.database, settings.home))
    opened.push_async_callback(database.close)
    await asyncio.to_thread(schema.prepare, database)
    await asyncio.to_thread(database.claim)
    cold_starts = ColdStarts(database)
    opened.push_async_callback(cold_starts.close)
    cold_starts.move_in(settings.home / "cold-starts")
    store = Store(database)
    secret_box = SecretBox(store, Vault(settings.home / "vault.key"))
    await secret_box.load()
    blobs = Blobs(settings.home / "blobs")
    pools = Pools(settings.max_parameter_pools)
    capacities = nodes.capacities()
    pools.own_ports = bool(capacities) and all(each.own_ports for each in capacities)

    # What belongs to a command ends with it, even by SIGKILL; what is kept survives this process.
    ports = await store.local_ports()
    ingress = HAProxy(settings, tied=not lifeline.kept, ports=ports.values())
    reconciler = Reconciler(
        pools,
        nodes,
        ingress,
        secret_box,
        say=logs.write,
        started=cold_starts.add,
    )
    nodes.watch(reconciler.changed)
    activator = Activator(
        settings.activator_socket,
        pools,
        wake=reconciler.wake,
        alias=ingress.alias,
        say=logs.write,
    )
    ingress.watch(cold_starts.answered)
    await ingress.open()
    left.something = left.something or ingress.took_over
    opened.push_async_callback(ingress.close)
    settings = dataclasses.replace(settings, http_port=ingress.http_port)

    rollout = Rollout(settings, store, blobs, pools, reconciler, ingress, nodes, secret_box)
    opened.push_async_callback(rollout.close)
    sweeper = Sweeper(store, secret_box, blobs, rollout.in_use)
    opened.push_async_callback(sweeper.close)
    deployer = Deployer(store, pools, ingress, nodes, secret_box, rollout, sweeper)
    opened.push_async_callback(deployer.close)
    lifeline.busy = lambda: deployer.busy
    reconciler.spares = lambda app: app in deployer.broken
    tokens = Tokens(store, ingress)
    await tokens.publish()
    await deployer.restore({container.order.pool.revision for container in nodes.containers()})
    await reconciler.adopt()
    # Not earlier: what an older ingress has parked must find its app here.
    await activator.open()
    opened.push_async_callback(activator.close)
    await ingress.start()
    reconciler.open()
    opened.push_async_callback(reconciler.close)
    view = View(
        settings,
        store,
        deployer.live,
        rollout.plans,
        pools,
        nodes,
        ingress_pid=lambda: ingress.pid,
        quantiles_ms=ingress.quantiles_ms,
        broken=lambda: deployer.broken,
        kept=lambda: lifeline.kept,
    )

    def stop_container(container: str) -> bool:
        known = any(c.id == container for c in nodes.containers())
        reconciler.end(container)
        return known

    api = Api(
        Parts(
            view=view,
            deployer=deployer,
            blobs=blobs,
            logs=logs,
            cold_starts=cold_starts,
            secret_box=secret_box,
            tokens=tokens,
            keep=lifeline.keep,
            shutdown=stop.set,
            stop_container=stop_container,
        )
    )
    opened.push_async_callback(api.close)
    app = api.app()
    listener = unix_socket(settings.control_socket)
    opened.callback(settings.control_socket.unlink, missing_ok=True)
    await opened.enter_async_context(listening(OwnSocket(app), listener))
    if settings.socket_dir != settings.run_dir:  # where people look for it
        shown = settings.run_dir / settings.control_socket.name
        shown.unlink(missing_ok=True)
        shown.symlink_to(settings.control_socket)
        opened.callback(shown.unlink, missing_ok=True)
    if api_listener is not None:
        guarded = BearerOnly(app, settings.token)
        await opened.enter_async_context(listening(guarded, api_listener))
    return settings


def _api_listener(settings: Settings) -> socket.socket | None:
    """The API's TCP socket, if one is wanted; raises for settings that cannot be meant."""
    if settings.api_port is None:
        return None
    if not settings.token:
        raise BadRequest("the API over TCP needs a token", hint="set HOMEPORT_TOKEN too")
    from homeport.control.api.listener import tcp_socket

    return tcp_socket(settings.host, settings.api_port)


def _answer(message: dict[str, Any]) -> None:
    """The one line that the command waits for; nothing is printed after it."""
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, typing.cast(int, sys.stdout.fileno()))
    os.close(null)
