"""What stands between the app server and the user's ASGI apps: one request in, one slot taken.

Chooses the web method, keeps `max_inputs` (whatever the ingress thinks), ends what takes longer than
`timeout`, names the request for `current_input_id()`, and logs what the app raises.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from homeport.contract.container import ContainerSpec
from homeport.runner.lifespan import Lifespan
from homeport.runner.serve import HANG_UP
from homeport.sdk import environment
from homeport.sdk.tracebacks import users_traceback

MAX_BODY_BYTES = 4 * 1024**3
LEAVE_S = 0.5
FLUSH_S = 3.0  # what the response of a single-use container's one request gets to be sent
TOO_LARGE = "homeport: the body is larger than 4 GiB"
USED_UP = "homeport: this container has taken its one request"
METHOD_HEADER = b"x-homeport-method"

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True)
class Method:
    """A web method's app and its lifespan."""

    app: Any
    lifespan: Lifespan


class Admission:
    """The ASGI app that the container's server calls."""

    def __init__(
        self,
        spec: ContainerSpec,
        methods: dict[str, Method],
        *,
        shut: Callable[[], None],
        used_up: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._methods = methods
        self._only = next(iter(methods.values())) if len(methods) == 1 else None
        self._slots = asyncio.Semaphore(spec.max_inputs)
        self._shut = shut  # the door: the next request goes elsewhere
        self._used_up = used_up  # a single-use container has taken its one request
        self._taken = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        method, chunked = self._read_head(scope)
        if method is None:
            await _answer(send, 404, "homeport: no such web method")
            return
        if self._spec.single_use:
            if self._taken:  # two ingresses, one of which is handing over, each have a slot
                await _answer(send, 503, USED_UP)
                return
            self._taken = True
            self._shut()
            self._used_up()
        async with self._slots:
            scope["state"] = dict(method.lifespan.state)
            answer = Answer(scope["type"], send, last=self._spec.single_use)
            if chunked:
                receive = _Counted(receive, answer).receive
            await self._run(method.app, scope, receive, answer)
            if self._spec.single_use:
                # A connection that came in at the last moment must not keep it for ever.
                asyncio.get_running_loop().call_later(FLUSH_S, self._used_up)

    def _read_head(self, scope: Message) -> tuple[Method | None, bool]:
        """The web method; whether the body comes without a length. Sets the request's id."""
        chosen = ""
        chunked = False
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        for name, value in headers:
            if name == b"x-request-id":
                environment.input_id.set(value.decode("latin-1"))
            elif name == b"transfer-encoding":
                chunked = True
            elif name == METHOD_HEADER:
                chosen = unquote(value.decode("latin-1"))  # an identifier may hold any letters
        if self._only is not None:
            return self._only, chunked
        scope["headers"] = [pair for pair in headers if pair[0] != METHOD_HEADER]
        return self._methods.get(chosen), chunked

    async def _run(self, app: Any, scope: Message, receive: Receive, answer: "Answer") -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        late: list[asyncio.Task[None]] = []

        def expire() -> None:
            late.append(loop.create_task(self._expire(answer, task)))

        timer = loop.call_later(self._spec.timeout_s, expire)
        gone: list[asyncio.TimerHandle] = []

        def hang_up() -> None:
            # An app that looks for `http.disconnect` may leave in its own way first.
            gone.append(loop.call_later(LEAVE_S, task.cancel))

        scope[HANG_UP] = hang_up
        try:
            await app(scope, receive, answer.send)
        except asyncio.CancelledError:
            if not late and not gone:
                raise
        except BodyTooLarge:
            await answer.give_up(413, TOO_LARGE)
        except Exception as error:
            if not late and not gone:
                _log(scope, error)
                await answer.give_up(500, "Internal Server Error")
        finally:
            del scope[HANG_UP]
            for each in (timer, *gone):
                each.cancel()
            if late:
                await late[0]

    async def _expire(self, answer: "Answer", task: asyncio.Task[Any]) -> None:
        seconds = f"{self._spec.timeout_s:g} s"
        print(f"a request took longer than its timeout of {seconds}", file=sys.stderr)  # noqa: T201 - the container's log
        # The answer first: a handler in a thread cannot be stopped, and goes on for nobody.
        try:
            await answer.give_up(504, f"homeport: the function took longer than {seconds}")
        except Aborted:
            pass
        finally:
            task.cancel()


class Aborted(Exception):
    """The response has begun and cannot be finished: the server cuts the connection."""


class BodyTooLarge(Exception):
    """A body without a length went on for more than 4 GiB."""


class Answer:
    """What has been sent of one response."""

    def __init__(self, kind: str, send: Send, *, last: bool = False) -> None:
        self._kind = kind
        self._send = send
        self._last = last  # nothing comes after it on this connection
        self._begun = self._done = self._given_up = False
        self.too_large = False  # whatever the app makes of the exception, the answer is 413

    async def send(self, message: Message) -> None:
        """Pass on what the app sends, until it is given up."""
        if self.too_large and not self._begun:
            await self.give_up(413, TOO_LARGE)
        if self._given_up:
            return
        kind = message["type"]
        if kind in ("http.response.start", "websocket.accept"):
            self._begun = True
            if self._last and kind == "http.response.start":
                close = (b"connection", b"close")
                message = {**message, "headers": [*message.get("headers", ()), close]}
        elif kind == "websocket.close" or (
            kind == "http.response.body" and not message.get("more_body")
        ):
            self._done = True
        await self._send(message)

    async def give_up(self, status: int, text: str) -> None:
        """Answer in the app's stead; `Aborted` where its own answer has begun."""
        if self._given_up or self._done:
            return
        self._given_up = True
        if self._kind == "websocket":
            await self._send({"type": "websocket.close", "code": 1011, "reason": text[:120]})
        elif self._begun:
            raise Aborted
        else:
            await _answer(self._send, status, text)


class _Counted:
    """A body without a length, up to its limit."""

    def __init__(self, receive: Receive, answer: Answer) -> None:
        self._receive = receive
        self._answer = answer
        self._seen_bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen_bytes += len(message.get("body", b""))
        if self._seen_bytes > MAX_BODY_BYTES:
            self._answer.too_large = True
            raise BodyTooLarge
        return message


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _log(scope: Message, error: Exception) -> None:
    what = f"{scope.get('method', 'WEBSOCKET')} {scope['path']}"
    print(f"{what} failed\n{users_traceback(error, libraries=False)}", file=sys.stderr)  # noqa: T201 - the container's log
