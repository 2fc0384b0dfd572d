"""An agent in its own process, and the node role over a local socket: the simplest connection that can break.

`python -m tests.remote HOME NAME SOCKET [RUNNER]` serves one agent. `RemoteNode` is its other end. Both ways, a message is one
line of JSON: `call` and its answer (`value` or `failure`), and, from the agent, `changed`, `said` and `say`.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from homeport.contract import codec
from homeport.contract.capacity import Usage
from homeport.contract.container import LogLine, StartOrder
from homeport.contract.errors import Failure, NodeLost
from homeport.contract.image import Environment, Image
from homeport.contract.listing import Change, Listing, Mark
from homeport.contract.programs import Order, Program
from homeport.contract.supplies import Supplies
from homeport.contract.traffic import PoolKey
from homeport.node.agent import RUNNER, Agent
from homeport.settings import Settings

MAX_BYTES = 2**24
RECONNECT_S = 0.05
#: What each call takes and gives; `say` is called with lines of progress.
SHAPES: dict[str, tuple[dict[str, Any], Any]] = {
    "mark": ({}, Mark),
    "usage": ({}, dict[str, Usage]),
    "list": ({}, Listing),
    "start": ({"order": StartOrder, "environ": dict[str, str]}, None),
    "stop": ({"container": str, "grace_s": float | None}, None),
    "fence": ({"generation": int}, None),
    "confirm_held": ({"container": str, "held": int}, None),
    "forget": ({"pool": PoolKey}, None),
    "prepare": ({"image": Image, "source": str, "supplies": Supplies}, None),
    "build_log": ({"key": str}, str | None),
    "environments": ({}, tuple[Environment, ...]),
    "prune": ({"keep": tuple[Image, ...]}, tuple[Environment, ...]),
}
LONG = {"prepare", "prune"}  # the calls after them do not wait for their end


class RemoteNode:
    """The node role for a control plane; it connects again after each loss of the connection."""

    def __init__(self, name: str, socket: Path) -> None:
        self.name = name
        self._socket = socket
        self._changed: Callable[[Change], None] = lambda _change: None
        self._said: Callable[[LogLine], None] = lambda _line: None
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[asyncio.Future[Any], Callable[[str], None]]] = {}
        self._connecting: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()

    def watch(self, changed: Callable[[Change], None], said: Callable[[LogLine], None]) -> None:
        self._changed, self._said = changed, said
        self._connecting = asyncio.create_task(self._connect())

    async def close(self) -> None:
        assert self._connecting is not None
        self._connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._connecting
        if (writer := self._writer) is not None:
            self._lose()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def mark(self) -> Mark:
        return await self._ask("mark")

    async def list(self) -> Listing:
        return await self._ask("list")

    async def usage(self) -> Mapping[str, Usage]:
        return await self._ask("usage")

    async def start(self, order: StartOrder, environ: Mapping[str, str]) -> None:
        self._send("start", {"order": order, "environ": dict(environ)})

    async def stop(self, container: str, *, grace_s: float | None = None) -> None:
        self._send("stop", {"container": container, "grace_s": grace_s})

    async def execute(self, container: str, order: Order, environ: Mapping[str, str]) -> Program:
        raise NodeLost("this connection carries no programs")

    async def fence(self, generation: int) -> None:
        await self._ask("fence", {"generation": generation})

    async def confirm_held(self, container: str, held: int) -> None:
        self._send("confirm_held", {"container": container, "held": held})

    async def forget(self, pool: PoolKey) -> None:
        self._send("forget", {"pool": pool})

    async def prepare(
        self, image: Image, source: str, supplies: Supplies, say: Callable[[str], None]
    ) -> None:
        given = {"image": image, "source": source, "supplies": supplies}
        await self._ask("prepare", given, say)

    async def build_log(self, key: str) -> str | None:
        return await self._ask("build_log", {"key": key})

    async def environments(self) -> Collection[Environment]:
        return await self._ask("environments")

    async def prune(self, keep: Collection[Image]) -> Collection[Environment]:
        return await self._ask("prune", {"keep": tuple(keep)})

    def _send(self, call: str, given: Mapping[str, Any] | None = None) -> int:
        if self._writer is None or self._writer.is_closing():
            raise NodeLost(f"the node `{self.name}` is not connected")
        number = next(self._numbers)
        message = {"call": call, "number": number, "given": codec.encode(dict(given or {}))}
        self._writer.write(json.dumps(message).encode() + b"\n")
        return number

    async def _ask(
        self,
        call: str,
        given: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = lambda _text: None,
    ) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        number = self._send(call, given)
        self._waiting[number] = answer, say
        try:
            value = await answer
        finally:
            self._waiting.pop(number, None)
        shape = SHAPES[call][1]
        return None if shape is None else codec.decode(shape, value)

    async def _connect(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, self._writer = await asyncio.open_unix_connection(
                    self._socket, limit=MAX_BYTES
                )
                self.connected.set()
                while line := await reader.readline():
                    self._hear(json.loads(line))
            self._lose()
            await asyncio.sleep(RECONNECT_S)

    def _lose(self) -> None:
        self.connected.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for answer, _say in self._waiting.values():
            if not answer.done():
                answer.set_exception(NodeLost(f"the node `{self.name}` has hung up"))

    def _hear(self, message: dict[str, Any]) -> None:
        if "changed" in message:
            self._changed(codec.decode(Change, message["changed"]))
        elif "said" in message:
            self._said(codec.decode(LogLine, message["said"]))
        elif message["number"] in self._waiting:
            answer, say = self._waiting[message["number"]]
            if "say" in message:
                say(message["say"])
            elif "failure" in message and not answer.done():
                answer.set_exception(Failure.from_dict(message["failure"]))
            elif not answer.done():
                answer.set_result(message["value"])


class Served:
    """An agent that serves each client."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        agent.watch(
            lambda change: self._tell_all({"changed": codec.encode(change)}),
            lambda line: self._tell_all({"said": codec.encode(line)}),
        )

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                message = json.loads(line)
                answering = self._answer(message, writer)
                if message["call"] in LONG:
                    task = asyncio.create_task(answering)
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                else:
                    await answering
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        call, number = message["call"], message["number"]
        given = {
            name: codec.decode(shape, message["given"][name])
            for name, shape in SHAPES[call][0].items()
        }
        if call == "prepare":
            given["say"] = lambda text: _tell(writer, {"number": number, "say": text})
        try:
            value = await getattr(self._agent, call)(**given)
        except Failure as failure:
            _tell(writer, {"number": number, "failure": failure.to_dict()})
        else:
            _tell(writer, {"number": number, "value": codec.encode(value)})

    def _tell_all(self, message: dict[str, Any]) -> None:
        for writer in list(self._writers):
            _tell(writer, message)


def _tell(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(message).encode() + b"\n")


async def serve(home: Path, name: str, socket: Path, runner: Sequence[str]) -> None:
    """Serve an agent for ever; its containers go on when this process ends."""
    settings = dataclasses.replace(Settings(home=home), isolation="off", cgroup="off")
    for directory in (settings.home, settings.run_dir, settings.socket_dir):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    agent = Agent(settings, name=name, runner=runner or RUNNER)
    served = Served(agent)
    await agent.open()
    socket.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(served.connected, path=str(socket), limit=MAX_BYTES)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:]))
