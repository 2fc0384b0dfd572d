"""The control plane's end: one TLS port, where agents connect and machines join.

    the control plane sends Greeting to every peer
    a machine without a certificate sends Join, and gets Joined: one message each, and then the end
    an agent sends Hello, and gets Welcome; from then on it is a `Session` of its `RemoteNode`

A peer that has not shown a node's certificate or a token is a stranger. Only a few strangers may be connected at once;
each has some seconds, and may send one short message. Two agents with one certificate: the first one stays while it answers.
"""

import asyncio
import contextlib
import datetime as dt
import functools
import logging
import secrets
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from homeport.contract.errors import Failure, NodeLost
from homeport.contract.traffic import Peer, Public
from homeport.link import authority as authorities
from homeport.link import frames, identity, messages, token, trust
from homeport.link.authority import Authority
from homeport.link.calls import OF_CONTROL, OF_NODE
from homeport.link.frames import Broken
from homeport.link.identity import Identity
from homeport.link.messages import VERSION, Greeting, Hello, Join, Joined, Refused, Welcome
from homeport.link.pace import Pace
from homeport.link.remote import RemoteNode
from homeport.link.session import Lost, Session
from homeport.supervised import Tasks, supervised

HANDSHAKE_S = 5.0  # for TLS, and as long again for the first message
MOST_STRANGERS, MOST_OF_ONE_ADDRESS = 128, 32
PROBE_S = 1.0  # an agent that takes longer to answer gives way to another with the same certificate
LOG_EACH_S = 10.0  # what strangers do is logged at most so often
UNSENT_BYTES = 128 * 2**10  # in the kernel: more would hold up a command

log = logging.getLogger(__name__)


class Registry(Protocol):
    """The nodes that have joined, as they are stored."""

    def id_of(self, name: str) -> str | None:
        """Return the id of the node with this name; None if there is none."""

    async def join(
        self,
        digest: str,
        name: str,
        id: str,  # noqa: A002 - the certificate's
        labels: Mapping[str, str],
    ) -> None:
        """Use up the token with this digest, and store the node: both, or nothing.

        `Unauthorized` for a token that is unknown, was used, or is too old; `AlreadyExists` for a name that is taken.
        `BadRequest` for wrong labels.
        """


class Listener:
    """The port, and the nodes that may connect to it."""

    def __init__(
        self,
        authority: Authority,
        registry: Registry,
        *,
        node_of: Callable[[str], RemoteNode | None],
        joined: Callable[[Identity], None] = lambda _node: None,
        reached: Callable[[str, Peer | None], Awaitable[None]],
        renewed: Callable[[], Awaitable[None]],
        networks: str = "",
        calls: int = 0,
        urls: int = 0,
        public: Public | None = None,
        addresses: tuple[str, ...] = (),
    ) -> None:
        """`node_of` returns the role of a node that is in the registry; `joined` is called after a machine has joined.

        `reached` is awaited before a node is used, and tells where the ingress finds its containers; addresses are checked
        with `networks` (see `trust.peer`). `renewed` is awaited when the control plane has another certificate. `calls` and `urls`
        are as in `Welcome`. `public`: where visitors come in at this machine; None: only from this machine.
        `addresses`: as in `Welcome`.
        """
        self._reached, self._renewed, self._networks = reached, renewed, networks
        self._welcome = functools.partial(
            Welcome, calls=calls, urls=urls, addresses=addresses, **visitors(public)
        )
        self._authority, self._registry = authority, registry
        self._node_of, self._joined = node_of, joined
        self._tasks = Tasks()
        self._strangers: Counter[str] = Counter()
        self._sockets: list[socket.socket] = []
        self._context: ssl.SSLContext | None = None
        self._sessions: dict[str, tuple[Session, str]] = {}  # by node, with the agent's run
        self._logged_at, self._unlogged = 0.0, 0

    async def open(self, host: str, port: int) -> int:
        """Open the port; return its number. `OSError` if that fails."""
        pair = self._authority.certificate, self._authority.pair
        self._context = identity.of_control(*pair)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=64)
        listening.setblocking(False)
        self._sockets.append(listening)
        self._tasks.start("nodes", supervised("nodes", lambda: self._accept(listening)))
        self._tasks.start("nodes' certificate", supervised("nodes' certificate", self._renew))
        return int(listening.getsockname()[1])

    async def close(self) -> None:
        """Close the port and all connections; the containers of the nodes continue."""
        for session, _run in self._sessions.values():
            session.cut("the control plane ends")
        await self._tasks.close()
        for open_socket in self._sockets:
            open_socket.close()

    def remove(self, name: str) -> None:
        """End a node's connection for ever: it is not in the registry any more."""
        if (held := self._sessions.get(name)) is not None:
            with contextlib.suppress(NodeLost):
                held[0].send(_removed(name))
            asyncio.get_running_loop().call_later(PROBE_S, held[0].cut, "the node was removed")

    async def _renew(self) -> None:
        """Renew the control plane's own certificate whenever half of its time has passed."""
        assert self._context is not None
        while True:
            await asyncio.sleep(authorities.CONTROL_DAYS / 3 * 86400)
            await asyncio.to_thread(self._authority.renew)
            self._context.load_cert_chain(self._authority.pair)
            await self._renewed()

    # strangers

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, address = await loop.sock_accept(listening)
            host = str(address[0])
            is_full = self._strangers.total() >= MOST_STRANGERS
            if is_full or self._strangers[host] >= MOST_OF_ONE_ADDRESS:
                connection.close()
                self._log(f"{host}: too many connections at once that have shown no certificate")
                continue
            self._strangers[host] += 1
            self._tasks.start(f"node at {host}", self._connected(connection, host))

    async def _connected(self, connection: socket.socket, host: str) -> None:
        is_stranger = True

        def no_stranger() -> None:
            nonlocal is_stranger
            if is_stranger:
                is_stranger = False
                self._strangers[host] -= 1
                self._strangers += Counter()  # forget those with none

        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await self._secured(connection)
            await self._greet(reader, writer, host, no_stranger)
        except (OSError, EOFError, TimeoutError, Broken, ssl.SSLError) as error:
            self._log(f"{host}: {frames.in_words(error)}")
        finally:
            no_stranger()
            if writer is not None:
                writer.transport.abort()

    async def _secured(
        self, connection: socket.socket
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        bound(connection)
        reader = asyncio.StreamReader(limit=2**16)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=1.0,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _greet(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        host: str,
        is_known: Callable[[], None],
    ) -> None:
        greeting = Greeting(version=VERSION, ca=self._authority.pem, now=time.time())
        await _say(writer, greeting)
        body = await frames.read(reader, frames.FIRST_MAX_BYTES, silent_s=HANDSHAKE_S)
        message = messages.read(body, trusted=False)
        node = identity.of_certificate(writer.get_extra_info("peercert"))
        if isinstance(message, Join):
            await _say(writer, await self._join(message, host))
        elif not isinstance(message, Hello) or node is None:
            raise Broken("it has shown no certificate of a node")
        elif (refused := await self._refused(message, node, host)) is not None:
            log.warning("the node `%s` at %s is refused: %s", node.name, host, refused.reason)
            await _say(writer, refused)
        else:
            is_known()
            await self._serve(reader, writer, node, message, host)

    async def _join(self, request: Join, host: str) -> Joined | Refused:
        try:
            if request.version != VERSION:
                return _other_version(request.version)
            node = Identity(name=identity.check_name(request.name), id=secrets.token_hex(16))
            secret = token.parse(request.token).secret
            certificate = await asyncio.to_thread(self._authority.sign, request.csr, node)
            await self._registry.join(token.digest(secret), node.name, node.id, request.labels)
        except Failure as failure:
            self._log(f"{host} may not join: {failure.message}")
            return Refused(reason=failure.message, final=True)
        log.info("the node `%s` at %s has joined", node.name, host)
        self._joined(node)
        return Joined(certificate=certificate)

    async def _refused(self, hello: Hello, node: Identity, host: str) -> Refused | None:
        """Return why an agent may not connect; None if it may."""
        if self._registry.id_of(node.name) != node.id or self._node_of(node.name) is None:
            return _removed(node.name)
        if hello.version != VERSION:
            return _other_version(hello.version)
        if (held := self._sessions.get(node.name)) is not None:
            session, run = held
            if run != hello.run:
                with contextlib.suppress(TimeoutError, Failure):
                    async with asyncio.timeout(PROBE_S):
                        await session.ask("mark")
                        return Refused(reason=f"another agent is connected as `{node.name}`")
            session.cut("its agent has connected again")
        try:
            await self._reached(node.name, trust.peer(node, host, hello, self._networks))
        except Broken as broken:
            return Refused(reason=str(broken))
        except Failure as failure:
            return Refused(reason=failure.message)
        return None

    # nodes

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        node: Identity,
        hello: Hello,
        host: str,
    ) -> None:
        """Be the node's connection until it is lost."""
        loop = asyncio.get_running_loop()
        remote = self._node_of(node.name)
        assert remote is not None
        peer = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        deadline = _Deadline(authorities.valid_until_der(peer))

        async def serve(name: str, given: dict[str, Any], _say: Callable[[str], None]) -> Any:
            if name == "renew":
                if self._registry.id_of(node.name) != node.id:
                    raise NodeLost(f"the node `{node.name}` was removed")
                pem = await asyncio.to_thread(self._authority.sign, given["csr"], node)
                deadline.until = authorities.valid_until(pem.encode())
                return pem
            if name == "tree":
                return await asyncio.to_thread(remote.offered.entries, given["tree"])
            return await asyncio.to_thread(remote.offered.piece, **given)

        session = Session(
            reader,
            writer,
            asks=OF_NODE,
            serves=OF_CONTROL,
            serve=serve,
            hear=remote.hear,
            pace=Pace(loop.time()),
        )
        if (other := self._sessions.get(node.name)) is not None:  # both came at the same moment
            other[0].cut("its agent has connected again")
        self._sessions[node.name] = session, hello.run
        session.send(self._welcome(name=node.name))
        there = trust.peer(node, host, hello, self._networks)  # it was checked when the agent came
        remote.attach(session, hello.run, there)
        log.info("the node `%s` is connected from %s", node.name, host)
        ending = self._tasks.start(f"certificate of {node.name}", deadline.pass_(session))
        try:
            await session.run()
        except Lost as lost:
            log.warning("the connection to the node `%s` is lost: %s", node.name, lost)
        finally:
            ending.cancel()
            remote.detach(session)
            if self._sessions.get(node.name, (None,))[0] is session:
                del self._sessions[node.name]

    def _log(self, text: str) -> None:
        """Log what a stranger did, at a limited rate."""
        now = asyncio.get_running_loop().time()
        if self._logged_at and now - self._logged_at < LOG_EACH_S:
            self._unlogged += 1
            return
        more = f" ({self._unlogged} more of this kind were not logged)" if self._unlogged else ""
        log.warning("nodes' port: %s%s", text, more)
        self._logged_at, self._unlogged = now, 0


class _Deadline:
    """The end of a node's certificate: the connection ends with it, unless it was renewed."""

    def __init__(self, until: dt.datetime) -> None:
        self.until = until

    async def pass_(self, session: Session) -> None:
        while (left_s := (self.until - dt.datetime.now(dt.UTC)).total_seconds()) > 0:
            await asyncio.sleep(min(left_s, 3600.0))
        session.cut("the node's certificate has ended")


def bound(connection: socket.socket) -> None:
    """Limit the kernel's send buffer, because a command cannot overtake what is in it."""
    with contextlib.suppress(OSError, AttributeError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _say(writer: asyncio.StreamWriter, message: Any) -> None:
    writer.write(frames.framed(messages.write(message)))
    async with asyncio.timeout(HANDSHAKE_S):
        await writer.drain()


def visitors(public: Public | None) -> dict[str, Any]:
    """Return where visitors come in at a node, as in `Welcome`: at all of its addresses if they do so here."""
    if public is None:
        return {}
    host = public.host if public.is_everywhere else ""
    return {"http": public.http, "https": public.https, "visitors": host}


def _removed(name: str) -> Refused:
    return Refused(reason=f"the node `{name}` was removed, or has joined again", final=True)


def _other_version(version: int) -> Refused:
    return Refused(
        reason=f"the agent speaks version {version} of the protocol, and the control plane {VERSION}: "
        "install the same version of homeport on both machines"
    )
