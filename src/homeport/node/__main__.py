"""`python -m homeport.node`: this machine as a node of another machine's homeport; `homeport node join` becomes it.

`contract/joining` has the variables that say how to join.

SIGINT or SIGTERM ends the containers, and then the agent. SIGHUP ends the agent alone: the next one adopts the
containers. A kill does the same.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from homeport import private
from homeport import settings as all_settings
from homeport.contract.errors import AlreadyExists, BadRequest, Failure
from homeport.contract.joining import JOIN, REACH, TOKEN
from homeport.ingress.peer import PeerPort
from homeport.link import identity
from homeport.node.agent import RUNNER, Agent
from homeport.node.joined import dialing, place
from homeport.node.joined.dialing import Dialer, Removed
from homeport.node.joined.place import Address, Place, Reach
from homeport.node.joined.served import Served
from homeport.settings import Settings

LAST_WORDS_S = 2.0  # for the reports of the containers' ends

log = logging.getLogger("homeport.node")


def main() -> int:
    """Run the agent until a signal; return the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        words = _from_environment(os.environ)
        settings = all_settings.of_server(os.environ)
        with locked(settings):
            asyncio.run(run(settings, *words, runner=tuple(sys.argv[1:]) or RUNNER))
    except Failure as failure:
        hint = f"\n\nhint: {failure.hint}" if failure.hint else ""
        sys.stderr.write(f"error: {failure.message}{hint}\n")
        return 1
    return 0


async def run(
    settings: Settings,
    where: str,
    name: str,
    token: str,
    reach: str,
    *,
    runner: tuple[str, ...],
) -> None:
    """Join if this machine has not joined, and be its agent until a signal."""
    files = place.Place(settings.home)
    name, address, there = await _joined(files, where, name, token, reach)
    ended, alone = asyncio.Event(), asyncio.Event()

    def leave() -> None:
        alone.set()
        ended.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGHUP, leave)
    port = PeerPort(settings, identity.CONTROL)
    await port.open(there.port)
    agent = Agent(settings, name=name, runner=runner)
    served = Served(agent, settings.home, port.lead)
    await asyncio.to_thread(served.trees.open)
    await agent.open()
    await served.open()
    await port.start()
    dialing_in = Dialer(
        served, files, address, port=port.port, reach=there.host, renewed=port.renewed
    )
    dialer = asyncio.create_task(dialing_in.run(), name="connection")
    ending = asyncio.create_task(ended.wait())
    await asyncio.wait({dialer, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if dialer.done() and isinstance(removed := dialer.exception(), Removed):
        log.warning("%s: the containers end", removed)
        await agent.close()
        await port.close()
        files.forget()
        raise Failure(str(removed), hint="`homeport node token` makes a token to join again")
    if not alone.is_set():
        await agent.close()
        await served.settled(LAST_WORDS_S)
        await port.close()
    else:
        await port.leave()
    dialer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await dialer
    await served.close()


async def _joined(
    files: Place, where: str, name: str, token: str, reach: str
) -> tuple[str, Address, Reach]:
    """Join if this machine has not joined; return its name, the control plane's address, and where it is reached."""
    joined = files.read()
    if joined is None or token:
        if not token or not where:
            raise BadRequest(
                "this machine has not joined a homeport",
                hint="`homeport node token`, on the machine of the control plane, prints the command",
            )
        if joined is not None:
            log.info("this machine was the node `%s` of %s; it joins again", *joined[:2])
        await dialing.join(files, place.address(where), name, token, place.reach(reach))
        joined = files.read()
    assert joined is not None
    return (*joined[:2], place.reach(reach) if reach else joined[2])


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Lock the home: neither a server nor another agent may use it."""
    import fcntl

    for directory in (settings.home, settings.run_dir, settings.socket_dir):
        private.directory(directory)
    with Path(settings.home / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyExists(
                f"a server or another agent uses {settings.home}",
                hint="set HOMEPORT_HOME to another directory",
            ) from None
        yield


def _from_environment(environ: MutableMapping[str, str]) -> tuple[str, str, str, str]:
    """Return the address, the name, the token and where it is reached, which no container may inherit."""
    where, _, name = environ.pop(JOIN, "").partition(" ")
    return where, name, environ.pop(TOKEN, ""), environ.pop(REACH, "")


if __name__ == "__main__":
    raise SystemExit(main())
