"""`python -m homeport.node`: this machine as a node of another machine's homeport; `homeport node join` becomes it.

`contract/joining` has the variables that say how to join.

SIGINT or SIGTERM ends the containers, and then the agent. SIGHUP or SIGUSR2 ends the agent alone: the next one adopts the
containers. A kill does the same.

    --kept      `homeport node join --foreground` has started this, and starts it again: it gets one line, and an `Ending`
    --end       end what an agent has left that was killed
    --join      join, and end
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import field
from pathlib import Path
from typing import NoReturn

from homeport import private
from homeport import settings as all_settings
from homeport.contract import codec, labels
from homeport.contract.api.answers import Fault
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import AlreadyExists, BadRequest, Failure
from homeport.contract.joining import JOIN, LABELS, REACH, TOKEN
from homeport.contract.starting import LOCK, Ending, Ready, Started
from homeport.ingress.peer import PeerPort
from homeport.link import identity
from homeport.node.agent import RUNNER, Agent
from homeport.node.joined import dialing, place
from homeport.node.joined.dialing import Dialer, Removed
from homeport.node.joined.itself import Itself, OwnLog
from homeport.node.joined.lookout import Lookout
from homeport.node.joined.place import Address, Place, Reach
from homeport.node.joined.served import Served
from homeport.settings import Settings
from homeport.supervised import supervised

LAST_WORDS_S = 2.0  # for the reports of the containers' ends
KEPT, END, ONLY_JOIN = "--kept", "--end", "--join"

log = logging.getLogger("homeport.node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """How this machine is to join, if it is; with all fields empty it is the node that it has been."""

    where: str = ""
    name: str = ""
    token: str = field(default="", repr=False)
    reach: str = ""
    labels: str = ""


def main() -> int:
    """Run the agent until a signal; return the exit code."""
    own_log = OwnLog()
    text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(
        level=logging.INFO, format=text, handlers=(logging.StreamHandler(), own_log)
    )
    words = [word for word in sys.argv[1:] if word in (KEPT, END, ONLY_JOIN)]
    runner = tuple(word for word in sys.argv[1:] if word not in words) or RUNNER
    try:
        joining = _from_environment(os.environ)
        settings = all_settings.of_server(os.environ)
        with locked(settings):
            if END in words:
                asyncio.run(end(settings))
                return Ending.SIGNAL
            if ONLY_JOIN in words:
                asyncio.run(_joined(Place(settings.home), joining))
                return Ending.SIGNAL
            ready, left = _nothing, Ending.SIGNAL
            if KEPT in words:
                ready, left = _ready, Ending.HANDED_OVER
            asyncio.run(run(settings, joining, own_log, runner=runner, ready=ready, left=left))
            return Ending.SIGNAL
    except Removed as removed:
        return _removed(str(removed), is_kept=KEPT in words)
    except Failure as failure:
        if KEPT in words:
            _answer(Started(error=Fault.of(failure)))
        else:
            _show(failure)
    return Ending.FAILED


async def run(
    settings: Settings,
    joining: Joining,
    own_log: OwnLog,
    *,
    runner: tuple[str, ...],
    ready: Callable[[], None],
    left: Ending,
) -> None:
    """Join if this machine has not joined, and be its agent until a signal; raises `Removed` if it was removed.

    `left`: the exit code of an agent that ends alone.
    """
    files = Place(settings.home)
    name, address, there = await _joined(files, joining)
    ended, alone = asyncio.Event(), asyncio.Event()

    def leave() -> None:
        alone.set()
        ended.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    for number in (signal.SIGHUP, signal.SIGUSR2):
        loop.add_signal_handler(number, leave)
    port = PeerPort(settings, identity.CONTROL)
    await port.open(there.port)
    agent = Agent(settings, name=name, runner=runner)
    itself = Itself(settings.home, files.pair, own_log, _shared(settings), port)
    served = Served(agent, settings.home, port.lead, itself)
    await asyncio.to_thread(served.trees.open)
    await agent.open()
    await served.open()
    await port.start()
    ready()
    dialing_in = Dialer(served, files, address, port, reach=there.host)
    dialer = asyncio.create_task(dialing_in.run(), name="connection")
    lookout = Lookout(lambda: served.silent_s, port)
    looking = asyncio.create_task(supervised("lookout", lookout.run))
    ending = asyncio.create_task(ended.wait())
    await asyncio.wait({dialer, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    looking.cancel()
    if dialer.done() and isinstance(removed := dialer.exception(), Removed):
        log.warning("%s: the containers end", removed)
        await agent.close()
        await port.close()
        files.forget()
        raise removed
    if not alone.is_set():
        await agent.close()
    await served.settled(LAST_WORDS_S)
    if alone.is_set():
        await _leave(port, left)
    await port.close()
    dialer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await dialer
    await served.close()


def _shared(settings: Settings) -> Path | None:
    """Return the directory of volumes that machines share."""
    return settings.volumes_dir if settings.shared_volumes else None


async def _leave(port: PeerPort, code: Ending) -> NoReturn:
    """End this process at once: the end of its loop would cancel the tasks of containers, and end those."""
    await port.leave()
    logging.shutdown()
    os._exit(code)


async def end(settings: Settings) -> None:
    """End the containers and the HAProxy of an agent that has ended without them."""
    port, agent = PeerPort(settings, identity.CONTROL), Agent(settings)
    await port.open()
    await agent.open()
    await agent.close()
    await port.close()


async def _joined(files: Place, joining: Joining) -> tuple[str, Address, Reach]:
    """Join if this machine has not joined; return its name, the control plane's address, and where it is reached."""
    joined, reach = files.read(), place.reach(joining.reach)
    if joined is None or joining.token:
        if not joining.token or not joining.where:
            raise BadRequest(
                "this machine has not joined a homeport",
                hint="`homeport node token`, on the machine of the control plane, prints the command",
            )
        if joined is not None:
            log.info("this machine was the node `%s` of %s; it joins again", *joined[:2])
        await dialing.join(
            files,
            place.address(joining.where),
            joining.name,
            joining.token,
            reach,
            labels.read(joining.labels),
        )
        joined = files.read()
    assert joined is not None
    return (*joined[:2], reach if joining.reach else joined[2])


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Lock the home: neither a server nor another agent may use it."""
    import fcntl

    for directory in (settings.home, settings.run_dir, settings.socket_dir):
        private.directory(directory)
    with Path(settings.home / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyExists(
                f"a server or another agent uses {settings.home}",
                hint="set HOMEPORT_HOME to another directory",
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")  # for `homeport node join --foreground`
        lock.flush()
        yield


def _from_environment(environ: MutableMapping[str, str]) -> Joining:
    """Return how to join; no container may inherit the variables that say it."""
    where, _, name = environ.pop(JOIN, "").partition(" ")
    return Joining(
        where=where,
        name=name,
        token=environ.pop(TOKEN, ""),
        reach=environ.pop(REACH, ""),
        labels=environ.pop(LABELS, ""),
    )


def _removed(why: str, *, is_kept: bool) -> Ending:
    """Say that this machine is no node any more; nobody has to start the agent again."""
    _show(Failure(why, hint="`homeport node token` makes a token to join again"))
    return Ending.DOWN if is_kept else Ending.FAILED


def _show(failure: Failure) -> None:
    hint = f"\n\nhint: {failure.hint}" if failure.hint else ""
    sys.stderr.write(f"error: {failure.message}{hint}\n")


def _ready() -> None:
    _answer(Started(ready=Ready(pid=os.getpid(), http_port=0)))


def _nothing() -> None:
    pass


def _answer(message: Started) -> None:
    """Write the one line that `homeport node join --foreground` waits for."""
    with contextlib.suppress(OSError):
        sys.stdout.write(codec.line(message).decode())
        sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
