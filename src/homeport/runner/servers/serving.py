"""The objects that every kind of server in a container uses: the door, the slots, the end."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from homeport.contract.container import StartOrder
from homeport.contract.dataclass import dataclass
from homeport.contract.pulse import Pulse
from homeport.runner.door import Door
from homeport.runner.report import Report
from homeport.runner.servers.ending import Ending
from homeport.runner.servers.held import Held
from homeport.runner.servers.loop import Loop
from homeport.runner.servers.slots import Slots
from homeport.runner.servers.turns import Turns
from homeport.sdk import context
from homeport.sdk.tracebacks import users_traceback


@dataclass(frozen=True)
class Serving:
    """The objects of one container's server."""

    order: StartOrder
    door: Door
    pulse: Pulse | None
    ending: Ending
    held: Held
    slots: Slots
    turns: Turns
    ready: Callable[[], None]  # call it once, when requests are answered

    @staticmethod
    def begin(
        order: StartOrder,
        door: Door,
        pulse: Pulse | None,
        report: Report,
        ready: Callable[[], None],
    ) -> "Serving":
        """Make the objects on the running loop; from now on SIGTERM asks the container to end."""
        ending = Ending()

        def say_held(count: int) -> None:
            if pulse is not None:
                pulse.held(count)  # before the report: a later server has only the pulse
            report.held(count)

        held = Held(say_held)
        turns = Turns(pulse)
        loop = asyncio.get_running_loop()
        if isinstance(loop, Loop):
            loop.on_sigterm(ending.ask)
        report.listen(held.confirmed)

        def give_up() -> None:
            """End the container, because too many of its threads hang: a new container replaces it."""
            if not ending.requested.is_set():
                _say(
                    "too many requests of this container hang: it ends, and another takes its place"
                )
            door.shut()
            ending.fail()

        def begin() -> None:
            turns.begin()
            ready()

        slots = Slots(order.function, pulse, give_up, report.cut)
        context.is_full = lambda: slots.is_full
        return Serving(order, door, pulse, ending, held, slots, turns, begin)


def run(loop: asyncio.AbstractEventLoop, serving: Coroutine[Any, Any, int]) -> int:
    """Run `serving` until it returns, also if tasks of the script raise SystemExit or KeyboardInterrupt.

    asyncio re-raises those two, which ends the loop's run. Other requests are inside, so print the
    traceback and run the loop again.
    """
    task = loop.create_task(serving)
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                raise
            _say(
                f"a task of the script has raised {type(error).__name__}\n{users_traceback(error)}"
            )


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - the container's log
