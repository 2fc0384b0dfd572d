"""One connection from its greeting to its loss; the same at both ends.

    session = Session(reader, writer, calls=…, serve=…, hear=…)
    await session.run()                        until the connection is lost; raises `Lost`, which says why
    value = await session.ask("mark")          a call with an answer; `NodeLost` if the connection is lost meanwhile
    session.tell("stop", {…})                  a call without one

Each end sends a beat when it has sent nothing for a second, and gives up a peer that has sent nothing for five: a
half-open connection, and one across a partition, send nothing, and end so. Calls take effect in their order, but those
that are `long` do not hold up the calls after them.
"""

import asyncio
import contextlib
import itertools
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from homeport.contract import codec
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Failure, NodeLost, TooMany
from homeport.link import frames, messages
from homeport.link.frames import Broken
from homeport.link.messages import Answer, Beat, Call, Cancel, Failed, Progress
from homeport.link.outbox import Full, Outbox
from homeport.link.pace import Pace
from homeport.supervised import Tasks

BEAT_S = 1.0
STALLED_S = 10.0  # for the peer to take one frame
MAX_LONG = 64  # long calls of a peer at once
PROGRESS_CHARS = 4000  # of one line

#: Called with a call's name, its arguments, and a function for lines of progress.
Serve = Callable[[str, dict[str, Any], Callable[[str], None]], Awaitable[Any]]
log = logging.getLogger(__name__)


class Lost(Exception):
    """The connection has ended; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a call takes and gives."""

    given: Mapping[str, Any]
    value: Any = None
    long: bool = False
    bulk: bool = False  # its answer may be long, and gives way to other messages


@dataclass(slots=True)
class _Waiting:
    shape: Shape
    name: str
    answer: "asyncio.Future[Any]"
    say: Callable[[str], None]


class Session:
    """A connection with a peer that has shown who it is."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        asks: Mapping[str, Shape],
        serves: Mapping[str, Shape],
        serve: Serve,
        hear: Callable[[Any], None],
        pace: Pace | None = None,
    ) -> None:
        """`asks`: the calls of this end. `serves`: those of the peer, which `serve` carries out.

        `hear` gets all other messages. With a `pace` the peer is a stranger, whose text is not trusted.
        """
        self._reader, self._writer = reader, writer
        self._asks, self._serves, self._serve, self._hear = asks, serves, serve, hear
        self._pace = pace
        self._outbox = Outbox()
        self._numbers = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._long: dict[int, asyncio.Future[None]] = {}
        self._tasks = Tasks()
        self._why = ""  # it is lost
        self.heard_at = asyncio.get_running_loop().time()  # the last message of the peer
        self._cut = asyncio.Event()

    @property
    def is_lost(self) -> bool:
        """True once nothing can be sent any more."""
        return bool(self._why)

    async def run(self) -> None:
        """Read and write until the connection is lost; raises `Lost`."""
        ends = [
            asyncio.ensure_future(work) for work in (self._read(), self._write(), self._cut.wait())
        ]
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in done:
                if not self._why:
                    self._why = _in_words(end.exception())
        finally:
            self._why = self._why or "this end is closing"
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            self._give_up()
            await self._tasks.close()
            self._writer.transport.abort()
        raise Lost(self._why)

    def cut(self, why: str) -> None:
        """End the connection."""
        self._why = self._why or why
        self._cut.set()

    def send(self, message: Any, *, bulk: bool = False) -> None:
        """Send a message soon; `NodeLost` if the connection is lost."""
        if self._why:
            raise NodeLost(f"the connection is lost: {self._why}")
        try:
            self._outbox.put(frames.framed(messages.write(message)), bulk=bulk)
        except Full as full:
            self.cut(f"the peer does not read: {full}")
            raise NodeLost(f"the connection is lost: {self._why}") from None

    def tell(self, name: str, given: Mapping[str, Any]) -> None:
        """Call without waiting for an answer."""
        number = next(self._numbers)
        encoded = codec.encode(dict(given))
        self.send(Call(number=number, name=name, given=encoded, answered=False))

    async def ask(
        self,
        name: str,
        given: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = lambda _text: None,
    ) -> Any:
        """Call, and return the answer. `Failure` of the peer's, or `NodeLost`. Cancelling cancels the call there."""
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.send(Call(number=number, name=name, given=codec.encode(dict(given or {}))))
        self._waiting[number] = _Waiting(self._asks[name], name, answer, say)
        try:
            return await answer
        except asyncio.CancelledError:
            with contextlib.suppress(NodeLost):
                self.send(Cancel(number=number))
            raise
        finally:
            self._waiting.pop(number, None)

    # the two loops

    async def _write(self) -> None:
        self._writer.transport.set_write_buffer_limits(high=2**16)
        while True:
            try:
                async with asyncio.timeout(BEAT_S):
                    frame = await self._outbox.take()
            except TimeoutError:
                frame = frames.framed(messages.write(Beat()))
            self._writer.write(frame)
            try:
                async with asyncio.timeout(STALLED_S):
                    await self._writer.drain()
            except TimeoutError:
                raise Broken(f"the peer has read nothing for {STALLED_S:g} s") from None

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            body = await frames.read(self._reader)
            self.heard_at = loop.time()
            message = messages.read(body, trusted=self._pace is None)
            if isinstance(message, Call):
                await self._called(message)
            elif isinstance(message, Cancel):
                if (call := self._long.get(message.number)) is not None:
                    call.cancel()
            elif isinstance(message, (Answer, Failed, Progress)):
                self._answered(message)
            elif not isinstance(message, Beat):
                self._hear(message)
            if self._pace and (wait_s := self._pace.wait_s(len(body), loop.time())):
                await asyncio.sleep(wait_s)

    # calls of the peer

    async def _called(self, call: Call) -> None:
        if (shape := self._serves.get(call.name)) is None:
            raise Broken(f"the peer asks for the unknown call {call.name[:40]!r}")
        given = {
            name: messages.checked(annotation, call.given.get(name), f"{call.name}.{name}")
            for name, annotation in shape.given.items()
        }
        if not shape.long:
            await self._carry_out(call, shape, given)
        elif len(self._long) >= MAX_LONG or call.number in self._long:
            refused = TooMany("there are too many long calls at once").to_dict()
            self.send(Failed(number=call.number, failure=refused))
        else:
            done = self._tasks.start(f"call {call.name}", self._carry_out(call, shape, given))
            self._long[call.number] = done
            done.add_done_callback(lambda _done: self._long.pop(call.number, None))

    async def _carry_out(self, call: Call, shape: Shape, given: dict[str, Any]) -> None:
        def say(text: str) -> None:
            with contextlib.suppress(NodeLost):
                self.send(Progress(number=call.number, text=text[:PROGRESS_CHARS]))

        answer: Any
        try:
            value = await self._serve(call.name, given, say)
            answer = Answer(number=call.number, value=codec.encode(value))
        except Failure as failure:
            answer = Failed(number=call.number, failure=failure.to_dict())
        except Exception as error:
            log.exception("the call `%s` of the peer failed", call.name)
            failed = Failure(f"`{call.name}` failed there: {type(error).__name__}").to_dict()
            answer = Failed(number=call.number, failure=failed)
        if call.answered:
            with contextlib.suppress(NodeLost):
                self.send(answer, bulk=shape.bulk)
        elif isinstance(answer, Failed):
            log.warning("the call `%s` failed: %s", call.name, answer.failure.get("message"))

    # answers to this end's calls

    def _answered(self, message: Answer | Failed | Progress) -> None:
        waiting = self._waiting.get(message.number)
        if waiting is None or waiting.answer.done():
            return  # it was cancelled meanwhile, or never asked for: nobody waits for it
        if isinstance(message, Progress):
            waiting.say(message.text[:PROGRESS_CHARS])
        elif isinstance(message, Failed):
            waiting.answer.set_exception(Failure.from_dict(message.failure))
        else:
            shape, value = waiting.shape.value, message.value
            value = None if shape is None else messages.checked(shape, value, waiting.name)
            waiting.answer.set_result(value)

    def _give_up(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(NodeLost(f"the connection is lost: {self._why}"))


def _in_words(error: BaseException | None) -> str:
    if isinstance(error, (Broken, EOFError, OSError, ssl.SSLError)):  # a TimeoutError is an OSError
        return frames.in_words(error)
    log.error("the connection ends by a bug", exc_info=error)
    return f"a bug: {type(error).__name__}"
