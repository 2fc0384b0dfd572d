"""Starts the control plane stage by stage (see `stages`), and stops it in reverse.

The command line starts `python -m homeport.control` and writes one line of JSON to its standard
input, and the answer is one line (contract/starting.py). A server that is not kept ends when its
standard input closes.
"""

import asyncio
import contextlib
import dataclasses
import gc
import importlib.util
import logging
import os
import resource
import shutil
import signal
import socket
import sys
import typing
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NoReturn

from homeport import private
from homeport import settings as all_settings
from homeport.contract import codec, labels
from homeport.contract.api.answers import Fault
from homeport.contract.container import LogLine
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import AlreadyExists, BadRequest, Failure, StorageError
from homeport.contract.sizes import MIB
from homeport.contract.starting import LOCK, Ending, Ready, Start, Started
from homeport.control import standby, watching
from homeport.control.fleet.nodes import Nodes
from homeport.control.lifeline import Lifeline
from homeport.node.agent import Agent
from homeport.settings import Settings
from homeport.state.logs import Logs

if TYPE_CHECKING:
    from homeport.control.stages import Entrance, NewIngress

#: Arguments: the settings, whether containers end with the server, the function for their log lines.
OpenNodes = Callable[[Settings, bool, Callable[[LogLine], None], AsyncExitStack], Awaitable[Nodes]]

KEPT, STANDBY, END = "--kept", "--standby", "--end"
HAND_OVER = signal.SIGUSR2  # the server ends, and leaves HAProxy and the containers to the next one
QUIET_S = 30.0  # how long a change may continue before that

log = logging.getLogger("homeport")


def main(roles: "Roles | None" = None) -> int:
    """Run a control plane until it is asked to end; return an `Ending`.

    With `--standby` it waits first; with `--end` it ends the processes that an earlier server has left.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    raise_open_files()
    try:
        settings, kept = from_words(sys.argv[1:])
        if STANDBY in sys.argv[1:]:
            standby.wait(settings)
            standby.lead([word for word in sys.argv[1:] if word != STANDBY])
        with locked(settings):
            if END in sys.argv[1:]:
                asyncio.run(end(settings, roles or Roles()))
                return Ending.SIGNAL
            standby.check_alone(settings)
            return asyncio.run(run(settings, kept=kept, roles=roles or Roles()))
    except (Failure, OSError) as error:
        _answer(Started(error=_as_fault(error)))
        return Ending.FAILED


def from_words(words: Sequence[str]) -> tuple[Settings, bool]:
    """Return the settings, and whether the server is to outlive its command.

    With `--kept` they are this process's own: `homeport up --foreground` may be an earlier version, which does not
    know all of them.
    """
    if KEPT in words:
        try:
            return all_settings.of_server(os.environ), True
        except Failure:
            if END not in words:
                raise
            # A wrong setting may be why there is something to end.
            return Settings(home=all_settings.home_of(os.environ)), True
    line = sys.stdin.readline()
    if not line:  # the command that began this process ahead has ended, and needed no server
        sys.exit(0)
    return read(line)


def read(line: str) -> tuple[Settings, bool]:
    """Return the settings in a command's line, and whether the server is to outlive the command."""
    try:
        start = codec.loads(Start, line)
        return Settings.received(start.settings), start.kept
    except (ValueError, TypeError, KeyError):
        raise BadRequest(
            "the command that started this server is another version of homeport",
            hint="run it again; while homeport is being reinstalled, two versions can meet",
        ) from None


def _as_fault(error: Exception) -> Fault:
    if isinstance(error, OSError):
        error = StorageError(f"{error.filename or 'the home'}: {error.strerror}")
    if not isinstance(error, Failure):
        error = Failure(
            f"the server failed: {type(error).__name__}: {error}",
            hint="the details are in server.log in the home",
        )
    return Fault.of(error)


def raise_open_files() -> None:
    """Raise the limit of open files to the hard limit: each parked request is a connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Lock the home's directories for one server; `AlreadyExists` while another server has them."""
    for directory in (settings.home, settings.run_dir, settings.socket_dir):
        private.directory(directory)
    with standby.led(settings.home / LOCK) as is_mine:
        if not is_mine:
            raise AlreadyExists(f"another server uses {settings.home}")
        try:
            yield
        finally:
            # After a start that failed, isolated containers continue, and their doors are in there.
            goes_on = any((settings.socket_dir / "doors").glob("*"))
            if settings.socket_dir != settings.run_dir and not goes_on:  # it is below /tmp
                shutil.rmtree(settings.socket_dir, ignore_errors=True)


async def run(settings: Settings, *, kept: bool, roles: "Roles") -> Ending:
    """Serve until the server is asked to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    leaving = Leaving(stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leaving.end, Ending.SIGNAL, number.name)
    loop.add_signal_handler(HAND_OVER, leaving.hand_over)
    lifeline = Lifeline(stop, kept=kept, keeper=os.getppid() if KEPT in sys.argv[1:] else None)
    left = Left()
    async with AsyncExitStack() as opened:
        try:
            real = await _open(settings, lifeline, leaving, left, opened, roles)
            if stop.is_set():
                raise Failure("the server was ended before it was ready")
        except Exception as error:
            if left.something:
                _give_up(error)
            raise
        lifeline.watch(loop)
        _collect_garbage()
        _answer(Started(ready=Ready(pid=os.getpid(), http_port=real.http_port)))
        await stop.wait()
        if leaving.hands_over and lifeline.kept:
            standby.note(settings.home, standby.HANDS_OVER)
            await leaving.finish()
            _leave(Ending.HANDED_OVER)
    return leaving.ending


async def end(settings: Settings, roles: "Roles") -> None:
    """End the containers and HAProxy of a server that has ended without them."""
    async with AsyncExitStack() as opened:
        await roles.open_nodes(settings, False, lambda _line: None, opened)
        # At any port and without certificates: it accepts nothing, and must not fail for want of them.
        idle = dataclasses.replace(settings, http_port=0, https_port=0, tls="off")
        ingress = roles.new_ingress(idle, False, ())
        await ingress.open()
        opened.push_async_callback(ingress.close)


class Leaving:
    """How the server ends: with everything, or alone, so that the next one takes over what runs."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.stop = stop
        self.hands_over = False
        self.ending = Ending.SIGNAL
        self.why = "its command has ended"  # for the audit log
        self.finish: Callable[[], Awaitable[None]] = _nothing  # ends the changes, and all writes

    @property
    def ends_all(self) -> bool:
        """True if the containers of all machines end with this server: not if it fails."""
        return self.stop.is_set() and self.ending in (Ending.SIGNAL, Ending.DOWN)

    def hand_over(self) -> None:
        """End this process alone."""
        if not self.stop.is_set():
            self.hands_over = True
            self.why = "it hands over to another server"
            self.stop.set()

    def end(self, ending: Ending, why: str) -> None:
        """End with everything that runs."""
        if not self.stop.is_set():
            self.ending, self.why = ending, why
            self.stop.set()


async def _nothing() -> None:
    pass


def _collect_garbage() -> None:
    """Start to collect garbage, without a look at the objects that the start has made (see `__main__`)."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


@dataclass(slots=True)
class Left:
    """Records whether an earlier server left an ingress that answers, and whether it was taken over."""

    something: bool = False


def _give_up(error: Exception) -> NoReturn:
    """End only this process: HAProxy and containers of an earlier server continue, as after a kill of it."""
    log.error("the server cannot start; containers and HAProxy continue without it", exc_info=error)
    _answer(Started(error=_as_fault(error)))
    _leave(Ending.FAILED)


def _leave(code: int) -> NoReturn:
    logging.shutdown()
    os._exit(code)


async def own_node(
    settings: Settings, tied: bool, on_line: Callable[[LogLine], None], opened: AsyncExitStack
) -> Nodes:
    """Open this machine's node, in this process."""
    agent = Agent(settings, tied=tied)
    nodes = Nodes([agent], on_line=on_line)
    if settings.region:
        nodes.label(agent.name, {labels.REGION: settings.region})
    await agent.open()
    opened.push_async_callback(agent.close)
    await nodes.open()
    opened.push_async_callback(nodes.close)
    return nodes


def own_ingress(settings: Settings, tied: bool, ports: Collection[int]) -> "Entrance":
    """Make this machine's ingress: HAProxy."""
    from homeport.ingress.haproxy import HAProxy

    return HAProxy(settings, tied=tied, ports=ports)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The implementations of the two roles: the one place where `node` and `ingress` meet the control plane."""

    open_nodes: OpenNodes = own_node
    new_ingress: "NewIngress" = own_ingress


async def _open(
    settings: Settings,
    lifeline: Lifeline,
    leaving: "Leaving",
    left: Left,
    opened: AsyncExitStack,
    roles: Roles,
) -> Settings:
    """Open everything, stage by stage; return the settings in force."""
    # First find errors in the settings, before anything is changed.
    _check_extras(settings)
    tcp = await asyncio.to_thread(_api_listener, settings)
    if tcp is not None:
        opened.callback(tcp.close)
    logs = Logs(settings.home / "logs", settings.log_cap_mib * MIB)
    opened.callback(logs.close)
    # A command's server ends with it, even by SIGKILL; a kept server's containers survive this process.
    tied = not lifeline.kept
    nodes = await roles.open_nodes(settings, tied, logs.write, opened)
    left.something = bool(nodes.containers())

    # Not earlier: the first zygote begins before SQLAlchemy and all that needs it is imported.
    from homeport.control import answering, lifetime, stages, stored

    state = await stored.open_state(settings, logs, opened)
    standby.note(settings.home, standby.LEADS)

    def lost() -> None:
        if standby.is_waiting_here(settings.home):
            leaving.hand_over()
        else:
            leaving.end(Ending.FAILED, "it has lost its database")

    watching.watch_database(state.store.database, lost, opened)
    fleet = await stages.open_fleet(
        settings, state, nodes, roles.new_ingress, tied=tied, opened=opened
    )
    left.something = left.something or fleet.ingress.took_over
    fleet.machines.ends = lambda: leaving.ends_all
    settings = stages.with_port(settings, fleet.ingress)
    deploys = stages.open_deploys(settings, state, fleet, lifeline, opened)
    await stages.serve(fleet, deploys, opened)

    def down() -> None:
        leaving.end(Ending.DOWN, "shutdown")

    await answering.open_api(state, fleet, deploys, lifeline, shutdown=down, tcp=tcp, opened=opened)

    async def finish() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                await deploys.deployer.quiet()
        if fleet.exporter is not None:
            await asyncio.to_thread(fleet.exporter.close)
        await lifetime.end(state.audit, leaving.why)
        await state.store.database.close()

    leaving.finish = finish
    await lifetime.begin(state.audit, lambda: leaving.why, opened)
    return settings


def _check_extras(settings: Settings) -> None:
    """Raise for a setting that needs a package which is not installed, or a database of its own."""
    if settings.standby_addresses and not settings.database.startswith("postgres"):
        raise BadRequest(
            "`standby_addresses` is set, and the database is a file of the home",
            hint="two machines may not write to it: name a PostgreSQL in HOMEPORT_DATABASE, or leave `standby_addresses` out",
        )
    if settings.tracing != "off":
        from homeport.control.reporting.traces import installed

        installed.check(settings)
    if settings.ray and importlib.util.find_spec("ray") is None:
        raise BadRequest(
            "`ray` is set, and Ray is not installed beside homeport",
            hint="type `pip install 'homeport[cluster]'`, or leave HOMEPORT_RAY out",
        )


def _api_listener(settings: Settings) -> socket.socket | None:
    """Return the API's TCP socket if the settings have a port; raise if others could read what passes there."""
    if settings.api_port is None:
        return None
    if not settings.on_loopback:
        raise BadRequest(
            f"HOMEPORT_API_PORT is for plain HTTP on this machine, and HOMEPORT_HOST is {settings.host}",
            hint="with HOMEPORT_TLS the API answers by HTTPS at the domain; else keep HOMEPORT_HOST on loopback, "
            "and use an SSH tunnel or a proxy with TLS",
        )
    from homeport.control.api.listener import tcp_socket

    return tcp_socket(settings.host, settings.api_port)


def _answer(message: Started) -> None:
    """Write the one line that the command waits for; nothing is printed after it."""
    with contextlib.suppress(OSError):
        sys.stdout.write(codec.line(message).decode())
        sys.stdout.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, typing.cast(int, sys.stdout.fileno()))
    os.close(null)
