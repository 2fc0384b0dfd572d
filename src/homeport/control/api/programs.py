"""Runs programs in containers for the user: `homeport container exec`, `homeport shell`. Never for a container.

A WebSocket at `/v1/programs`, with `?container=ta-…`, or `?app=shop&function=price` and `&session=…` for one of `serve`
or `run`: then a container of the function, which is started if none runs. Texts are JSON, and bytes are input and output.

    -> {"argv": ["bash"], "terminal": [24, 80], "environ": {"TERM": "xterm"}}    first; `terminal` null: pipes
    <- {"started": "ta-…", "ahead": 32}         or {"error": …}, and the end
    -> bytes                                    input; no bytes at all: its end
    -> {"resize": [24, 80]}, {"signal": 2}
    <- {"taken": 1}                             the program has taken one more piece of input
    <- 1 and bytes, 2 and bytes                 what it has written to standard output, to standard error
    <- {"code": 0}                              and the end

Behind more than `ahead` pieces of input that were not taken, every message waits, a signal too. When the socket closes, the
program ends. A container stays as long as a program runs in it, if nobody stops its app.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from homeport.contract import codec
from homeport.contract.api.answers import Fault
from homeport.contract.errors import BadRequest, Failure, NotFound, StartError, Unauthorized
from homeport.contract.permissions import Permission
from homeport.contract.programs import Order, Program
from homeport.contract.scope import Scope
from homeport.control.api import access
from homeport.control.api.record import OK, Record, result_of
from homeport.control.api.routing import scope_of
from homeport.control.deploys.parts import Parts
from homeport.control.fleet.member import Member, Stage
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool

PATH = "/v1/programs"
NEEDS = Permission.DEPLOY
ALLOWED = ("socket", "token")  # the callers: the user, and never a container
MAX_SIZE = 10_000  # rows or columns of a terminal
AHEAD = 32  # pieces of input that a program has not taken yet: 1 MiB, as the command sends them
TAKEN = json.dumps({"taken": 1})
SIGNALS = range(1, 32)


class Programs:
    """The programs that run."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def serve(self, socket: WebSocket) -> None:
        """Run one program, from the beginning to the end of its socket."""
        await socket.accept()
        try:
            await self._run(socket)
        except WebSocketDisconnect:
            return
        except Failure as failure:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.send_text(json.dumps({"error": codec.encode(Fault.of(failure))}))
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close()

    async def _run(self, socket: WebSocket) -> None:
        record = Record(socket.app.audit, access.caller(socket), "container exec")
        try:
            await self._run_recorded(socket, record)
        except (Exception, asyncio.CancelledError) as error:
            await record.end(result_of(error))
            raise

    async def _run_recorded(self, socket: WebSocket, record: Record) -> None:
        if access.allowed(socket, NEEDS).by not in ALLOWED:
            raise Unauthorized
        order = _order(await socket.receive_text())
        query = socket.query_params
        record.app = query.get("app", "")
        # Not the arguments: they may have a password.
        record.target = f"{query.get('container', '') or query.get('function', '')} {order.argv[0]}"
        scope = record.scope = scope_of(socket, access.caller(socket))
        async with self._held(scope, query.get("container", ""), query) as (pool, member):
            record.app, record.target = pool.key.app, f"{member.id} {order.argv[0]}"
            environ = self._parts.secrets.of(scope).environ(pool.function)
            program = await self._parts.nodes.execute(member.id, order, environ)
            try:
                await record.end(OK)
                await socket.send_text(json.dumps({"started": member.id, "ahead": AHEAD}))
                code = await _both_ways(socket, program)
                if code is not None:
                    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                        await socket.send_text(json.dumps({"code": code}))
            finally:
                await asyncio.shield(asyncio.ensure_future(program.close()))

    @contextlib.asynccontextmanager
    async def _held(
        self, scope: Scope, container: str, query: Any
    ) -> AsyncIterator[tuple[Pool, Member]]:
        """Yield a container that stays, and its pool."""
        if container:
            pool_found = self._parts.pools.of_container(container)
            if pool_found is None or pool_found.owner.scope != scope:
                raise NotFound(
                    f"there is no container `{container[:80]}`",
                    hint="`homeport container list` has those that run",
                )
            pool, member = pool_found, pool_found.members[container]
        else:
            pool = self._pool(
                scope, query.get("app", ""), query.get("function", ""), query.get("session", "")
            )
            member = await self._ready(pool)
        member.programs += 1
        try:
            yield pool, member
        finally:
            member.programs -= 1
            self._parts.reconciler.wake(pool)

    def _pool(self, scope: Scope, app: str, function: str, session: str) -> Pool:
        owner = Owner.session(scope, session) if session else Owner.app(scope, app)
        live = self._parts.live.get(owner)
        for endpoint in live.endpoints.values() if live is not None and live.name == app else ():
            if function in (endpoint.tag, endpoint.endpoint.pool.function):
                return self._parts.pools.called_for(endpoint.endpoint.pool)
        raise NotFound(
            f"no app `{app[:80]}` that serves has a function `{function[:80]}`",
            hint="`homeport app list` has the apps, `homeport status` their functions",
        )

    async def _ready(self, pool: Pool) -> Member:
        """Return a container that is ready; start one if no container is."""
        before, pool.floor = pool.floor, 1
        try:
            while True:
                self._parts.reconciler.wake(pool)
                await pool.first_ready()
                ready = [m for m in pool.members.values() if m.stage is Stage.READY and not m.away]
                if ready:
                    return ready[0]
                if pool.retired:
                    raise StartError("the app was stopped meanwhile")
        finally:
            if not before:
                pool.floor = 0


async def _both_ways(socket: WebSocket, program: Program) -> int | None:
    """Carry input and output until the program has ended; None if the socket has ended first."""
    ahead = asyncio.Queue[bytes](maxsize=AHEAD)
    out = asyncio.create_task(_carry_out(socket, program))
    into = asyncio.create_task(_carry_in(socket, program, ahead))
    feeding = asyncio.create_task(_feed(socket, program, ahead))
    tasks = {out, into, feeding}
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not out.done():
            for task in ended:
                task.result()
            return None
        out.result()
        return await program.ended()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _carry_out(socket: WebSocket, program: Program) -> None:
    while True:
        where, data = await program.read()
        if not data:
            return
        await socket.send_bytes(bytes([where]) + data)


async def _carry_in(socket: WebSocket, program: Program, ahead: asyncio.Queue[bytes]) -> None:
    """Receive until the socket ends. Signals and its end do not wait for a program that reads no input."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if (data := message.get("bytes")) is not None:
                await ahead.put(data)
            elif (text := message.get("text")) is not None:
                await _obey(program, _object(text))


async def _feed(socket: WebSocket, program: Program, ahead: asyncio.Queue[bytes]) -> None:
    """Give the program its input, as fast as it takes it."""
    while True:
        await program.write(await ahead.get())
        await socket.send_text(TAKEN)


async def _obey(program: Program, message: dict[str, Any]) -> None:
    if "resize" in message:
        rows, columns = _size(message["resize"])
        await program.resize(rows, columns)
    elif message.get("signal") in SIGNALS:
        await program.signal(message["signal"])


def _order(text: str) -> Order:
    """Return what to run; `BadRequest` for anything that no program takes."""
    fields = _object(text)
    argv, environ, terminal = fields.get("argv"), fields.get("environ", {}), fields.get("terminal")
    if not (isinstance(argv, list) and argv and all(map(_is_word, argv)) and argv[0]):
        raise BadRequest("`argv` must be a list of words")
    if not (
        isinstance(environ, dict)
        and all(map(_is_word, (*environ, *environ.values())))
        and not any("=" in name for name in environ)
    ):
        raise BadRequest("`environ` must be an object of texts")
    size = None if terminal is None else _size(terminal)
    return Order(argv=tuple(argv), terminal=size, environ=environ)


def _size(numbers: Any) -> tuple[int, int]:
    if not (
        isinstance(numbers, list)
        and len(numbers) == 2
        and all(type(number) is int and 0 < number <= MAX_SIZE for number in numbers)
    ):
        raise BadRequest(f"a terminal has from 1 to {MAX_SIZE} rows and columns")
    return numbers[0], numbers[1]


def _is_word(word: object) -> bool:
    return isinstance(word, str) and "\0" not in word


def _object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise BadRequest("a text of this socket is a JSON object")
    return message
