"""Reports the container's state to its node: one Event a line."""

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import time
from collections.abc import Callable

from homeport.contract import codec
from homeport.contract.container import Event
from homeport.runner.imports import ImportTimes

PARTS = {"import": "imported", "enter": "entered"}
LAST_PART = "listening"  # the part for all later phases


class Report:
    """Reports `ready`, `failed` or `busy` once, with the time of each part; later the imported modules."""

    def __init__(self, hears: int | Callable[[Event], None]) -> None:
        self.imports = ImportTimes()
        self._hears: int | Callable[[Event], None] | None = hears  # usually a descriptor
        self._timings_ms: dict[str, float] = {}
        self._told: set[str] = set()
        self._rest = b""  # the beginning of a line from the node
        self._since = time.monotonic()
        self.phase = "import"  # the current part of the start
        self._when_ready: list[Callable[[], None]] = []

    def begin(self, phase: str) -> None:
        """The phase before has ended, and this one begins."""
        before = self._part
        self._pass()
        self.phase = phase
        if self._part != before:
            # For a start that ends without another word: how far it came.
            self._say(
                Event(kind="reached", phase=self._part, timings_ms=self._timings_ms), last=False
            )

    def ready(self) -> None:
        """Requests are answered."""
        self._pass()
        self.phase = "serve"
        self._say(self._complete(Event(kind="ready")), last=False)
        for call in self._when_ready:
            call()

    def when_ready(self, call: Callable[[], None]) -> None:
        """Call `call` when requests may come in."""
        self._when_ready.append(call)

    def imported(self, modules: tuple[str, ...]) -> None:
        """Report the loaded modules; a zygote may preload them for the next container."""
        new = tuple(name for name in modules if name not in self._told)
        self._told.update(new)
        if new:
            self._say(Event(kind="imported", modules=new), last=False)

    def failed(self, reason: str, traceback: str = "") -> None:
        """Report that the start has failed; the reason is for the visitor."""
        reason = " ".join(reason.split())
        self._pass()
        event = Event(kind="failed", reason=reason, traceback=traceback, phase=self.phase)
        self._say(self._complete(event))

    def busy(self, reason: str) -> None:
        """Report that a program outside the container has the port."""
        self._pass()
        self._say(self._complete(Event(kind="busy", reason=reason, phase=self.phase)))

    def again(self, reason: str, modules: tuple[str, ...]) -> None:
        """Report that the container starts again in a fresh interpreter, because these preloaded modules differ."""
        self._say(Event(kind="again", reason=reason, modules=modules), last=False)

    def unlike(self, reason: str, modules: tuple[str, ...]) -> None:
        """Report that these preloaded modules differ, and that it is too late to start again."""
        self._say(Event(kind="unlike", reason=reason, modules=modules), last=False)

    def descriptors(self) -> list[int]:
        """The descriptor of the connection to the node, while it is open."""
        return [self._hears] if isinstance(self._hears, int) else []

    def held(self, count: int) -> None:
        """Report how many slots have work that continues after its response."""
        self._say(Event(kind="held", held=count), last=False)

    def cut(self) -> None:
        """Report that a response was cut because its visitor did not read it, which the ingress cannot see."""
        self._say(Event(kind="cut"), last=False)

    def tunnel(self, name: str, port: int, listener: socket.socket) -> None:
        """Ask the node to listen at a socket for a tunnel; `OSError` if the node does not read the report."""
        event = Event(kind="tunnel", tunnel=name, port=port)
        if not isinstance(self._hears, int):
            raise OSError("there is no connection to the node")
        with socket.socket(fileno=os.dup(self._hears)) as node:
            socket.send_fds(node, [codec.dumps(event).encode() + b"\n"], [listener.fileno()])

    def closed(self, name: str) -> None:
        """Report that a tunnel is closed."""
        self._say(Event(kind="closed", tunnel=name), last=False)

    def listen(self, held: Callable[[int], None]) -> None:
        """Call `held` on the running loop when the node says how many slots the ingress keeps back."""
        if isinstance(self._hears, int):
            asyncio.get_running_loop().add_reader(self._hears, self._read, self._hears, held)

    def _read(self, node: int, held: Callable[[int], None]) -> None:
        try:
            data = os.read(node, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # the node has ended
            asyncio.get_running_loop().remove_reader(node)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            held(int(json.loads(line)["held"]))

    @property
    def _part(self) -> str:
        return PARTS.get(self.phase, LAST_PART)

    def _pass(self) -> None:
        """Add the time until now to the current part."""
        now = time.monotonic()
        spent = self._timings_ms.get(self._part, 0.0) + (now - self._since) * 1000
        self._timings_ms[self._part] = round(spent, 1)
        self._since = now

    def _complete(self, event: Event) -> Event:
        """Return the event with the time of each part and the slowest imports."""
        return dataclasses.replace(
            event, timings_ms=self._timings_ms, imports_ms=self.imports.end()
        )

    def _say(self, event: Event, *, last: bool = True) -> None:
        hears = self._hears
        if last:
            self._hears = None
        if callable(hears):
            hears(event)
        elif hears is not None:
            with contextlib.suppress(OSError):  # the node has ended, or does not read
                os.write(hears, codec.dumps(event).encode() + b"\n")
            if last:
                os.close(hears)
