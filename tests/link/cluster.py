"""A control plane's end with its port, on loopback or on a machine of its own, and agents as processes that join it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from homeport.contract.errors import AlreadyExists, Unauthorized
from homeport.contract.roles import Ingress
from homeport.link import token
from homeport.link.authority import Authority
from homeport.link.listener import Listener
from homeport.link.remote import RemoteNode
from homeport.link.seals import Sealer
from tests import namespaces, processes
from tests.fakes import FakeIngress
from tests.namespaces import Machine
from tests.waiting import PATIENCE_S


class Registry:
    """The nodes that have joined, in memory."""

    def __init__(self) -> None:
        self.tokens: set[str] = set()
        self.nodes: dict[str, str] = {}
        self.labels: dict[str, dict[str, str]] = {}

    def id_of(self, name: str) -> str | None:
        return self.nodes.get(name)

    async def join(self, digest: str, name: str, id: str, labels: Mapping[str, str]) -> None:
        if digest not in self.tokens:
            raise Unauthorized("the token is unknown, was used, or is too old")
        if name in self.nodes:
            raise AlreadyExists(f"there is a node `{name}`")
        self.tokens.remove(digest)
        self.nodes[name], self.labels[name] = id, dict(labels)


class Cluster:
    """The control plane's end, and the processes of its agents."""

    def __init__(
        self, root: Path, sources: Path, runner: str = "", first: Machine | None = None
    ) -> None:
        """`first`: the machine that has the port."""
        self.root, self.sources, self.runner = root, sources, runner
        self.first = first
        self.authority = Authority(root / "control" / "cluster")
        self.registry = Registry()
        self.remotes: dict[str, RemoteNode] = {}
        self.agents: dict[str, asyncio.subprocess.Process] = {}
        self._elsewhere: set[str] = set()  # agents on another machine
        self.port = 0
        self.ingress: Ingress = FakeIngress()
        self.listener = self._listener()

    def _listener(self) -> Listener:
        return Listener(
            self.authority,
            self.registry,
            node_of=self.remotes.get,
            reached=lambda node, there: self.ingress.peer(node, there),
            renewed=self._renewed,
            networks="127.0.0.0/8",  # these nodes are on this machine
        )

    async def _renewed(self) -> None:
        await self.ingress.peer_certificate(self.authority.pair.read_text())

    def lead(self, ingress: Ingress, directory: Path) -> None:
        """Use a real ingress, which reads the control plane's certificate in this directory; called before `open`."""
        self.ingress, self.authority = ingress, Authority(directory)
        self.listener = self._listener()

    async def open(self) -> None:
        await asyncio.to_thread(self.authority.open)
        host = self.first.address if self.first else "127.0.0.1"
        with self.first.inside() if self.first else contextlib.nullcontext():
            self.port = await self.listener.open(host, self.port)

    async def open_again(self) -> None:
        """Close the port and all connections, and open the same port, as another control plane does."""
        await self.listener.close()
        self.listener = self._listener()
        await self.open()

    def remote(self, name: str) -> RemoteNode:
        """Return the role of a node, whose containers are on this machine, so that the ingress reaches them."""
        if name not in self.remotes:
            sealer = Sealer(b"the key of the cluster", name)
            self.remotes[name] = RemoteNode(name, self.sources, sealer)
        return self.remotes[name]

    def token(self) -> str:
        """Return a join token."""
        text, digest = token.make(self.authority.fingerprint)
        self.registry.tokens.add(digest)
        return text

    async def start_agent(
        self,
        name: str,
        *,
        port: int = 0,
        wait: bool = True,
        machine: Machine | None = None,
        changes: Mapping[str, str] | None = None,
    ) -> None:
        """Start an agent, on this machine or another, which joins at its first start; return when it is connected."""
        remote = self.remote(name)
        environ = os.environ | {
            "HOMEPORT_HOME": str(self.root / name),
            "HOMEPORT_ISOLATION": "off",
            "HOMEPORT_CGROUP": "off",
            **(changes or {}),
        }
        if name not in self.registry.nodes:
            host = self.first.address if self.first else "127.0.0.1"
            environ["HOMEPORT_NODE_JOIN"] = f"{host}:{port or self.port} {name}"
            environ["HOMEPORT_NODE_TOKEN"] = self.token()
        if machine:
            self._elsewhere.add(name)
        words = [sys.executable, "-m", "homeport.node", *([self.runner] if self.runner else [])]
        self.agents[name] = await asyncio.create_subprocess_exec(
            *(machine.words(*words) if machine else words),
            cwd=Path(__file__).parents[2],
            env=environ,
        )
        if wait:
            async with asyncio.timeout(PATIENCE_S):
                await remote.connected.wait()

    async def end_agent(self, name: str, number: int = signal.SIGKILL) -> int:
        """End an agent by a signal; return its exit code."""
        agent = self.agents[name]
        if name in self._elsewhere:
            namespaces.child_of(agent.pid).send_signal(number)
        else:
            agent.send_signal(number)
        return await self.agents[name].wait()

    async def close(self) -> None:
        for agent in self.agents.values():
            if agent.returncode is None:
                agent.kill()
                await agent.wait()
        await self.listener.close()
        if self.agents:  # their containers and zygotes outlive them
            await asyncio.to_thread(processes.end_of, self.root)


@contextlib.asynccontextmanager
async def cluster(
    root: Path, runner: str = "", first: Machine | None = None
) -> AsyncIterator[Cluster]:
    """Yield a control plane's end whose port is open; its source trees are in `root/revisions`."""
    made = Cluster(root, root / "revisions", runner, first)
    (root / "revisions").mkdir(parents=True, exist_ok=True)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


class Partition:
    """A proxy between agents and the control plane, which can stop to pass bytes without closing anything."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._may_pass = asyncio.Event()
        self._may_pass.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def begin(self) -> None:
        self._may_pass.clear()

    def heal(self) -> None:
        self._may_pass.set()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, there]
        for source, target in ((reader, there), (there_reader, writer)):
            task = asyncio.create_task(self._pass(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(2**16):
                await self._may_pass.wait()
                target.write(data)
                await target.drain()
        await self._may_pass.wait()  # nor does the end of a connection pass
        target.transport.abort()
