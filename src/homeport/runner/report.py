"""The container's few words to its node: one Event a line."""

import asyncio
import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable

from homeport.contract import codec
from homeport.contract.container import Event
from homeport.runner.imports import ImportTimes

PARTS = {"import": "imported", "enter": "entered"}
LAST_PART = "listening"  # whatever phase a kind of app has after those


class Report:
    """Says `ready`, `failed` or `busy`, once; how long each part took; later, what was imported."""

    def __init__(self, hears: int | Callable[[Event], None]) -> None:
        self.imports = ImportTimes()
        self._hears: int | Callable[[Event], None] | None = hears  # a descriptor, as a rule
        self._timings_ms: dict[str, float] = {}
        self._told: set[str] = set()
        self._rest = b""  # of what the node says
        self._since = time.monotonic()
        self.phase = "import"  # what is going on now
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
        """Call this once requests may come in."""
        self._when_ready.append(call)

    def imported(self, modules: tuple[str, ...]) -> None:
        """These are loaded by now; the next container may find them so from its beginning."""
        new = tuple(name for name in modules if name not in self._told)
        self._told.update(new)
        if new:
            self._say(Event(kind="imported", modules=new), last=False)

    def failed(self, reason: str, traceback: str = "") -> None:
        """There will be no container; the reason is for the visitor."""
        reason = " ".join(reason.split())
        self._pass()
        event = Event(kind="failed", reason=reason, traceback=traceback, phase=self.phase)
        self._say(self._complete(event))

    def busy(self, reason: str) -> None:
        """The port belongs to somebody else."""
        self._pass()
        self._say(self._complete(Event(kind="busy", reason=reason, phase=self.phase)))

    def again(self, reason: str, modules: tuple[str, ...]) -> None:
        """The start begins once more, in a fresh interpreter; these modules were preloaded in vain."""
        self._say(Event(kind="again", reason=reason, modules=modules), last=False)

    def unlike(self, reason: str, modules: tuple[str, ...]) -> None:
        """These modules were preloaded in vain, and it is too late to begin once more."""
        self._say(Event(kind="unlike", reason=reason, modules=modules), last=False)

    def descriptors(self) -> list[int]:
        """Where it speaks, while it does."""
        return [self._hears] if isinstance(self._hears, int) else []

    def held(self, count: int) -> None:
        """So many slots have work that goes on after its response."""
        self._say(Event(kind="held", held=count), last=False)

    def cut(self) -> None:
        """A response was ended that its visitor had not read: the ingress cannot see it."""
        self._say(Event(kind="cut"), last=False)

    def listen(self, held: Callable[[int], None]) -> None:
        """Call `held` on the running loop whenever the node says how many slots the ingress keeps back."""
        if isinstance(self._hears, int):
            asyncio.get_running_loop().add_reader(self._hears, self._read, self._hears, held)

    def _read(self, node: int, held: Callable[[int], None]) -> None:
        try:
            data = os.read(node, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # the node is gone
            asyncio.get_running_loop().remove_reader(node)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            held(int(json.loads(line)["held"]))

    @property
    def _part(self) -> str:
        return PARTS.get(self.phase, LAST_PART)

    def _pass(self) -> None:
        """Count the time until now for the part that goes on."""
        now = time.monotonic()
        spent = self._timings_ms.get(self._part, 0.0) + (now - self._since) * 1000
        self._timings_ms[self._part] = round(spent, 1)
        self._since = now

    def _complete(self, event: Event) -> Event:
        """The one word on how the start went, with all that is known of it."""
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
            with contextlib.suppress(OSError):  # the node is gone, or too busy to hear this
                os.write(hears, codec.dumps(event).encode() + b"\n")
            if last:
                os.close(hears)
