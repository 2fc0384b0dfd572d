"""The agent's end of the connection: joins once, connects, and connects again after each loss.

The agent connects to the control plane and not the other way round, so a node behind NAT needs no open port.
"""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import errno
import logging
import os
import random
import secrets
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Protocol

from homeport import private
from homeport.contract.errors import BadRequest, Failure, NodeLost, Unauthorized
from homeport.contract.traffic import Public
from homeport.link import authority, frames, identity, messages, token
from homeport.link.calls import OF_CONTROL, OF_NODE
from homeport.link.frames import Broken
from homeport.link.listener import HANDSHAKE_S, bound
from homeport.link.messages import VERSION, Greeting, Hello, Join, Joined, Refused, Welcome
from homeport.link.session import Lost, Session
from homeport.node.joined.place import USUAL, Address, Place, Reach
from homeport.node.joined.served import Served

CONNECT_S = 5.0
ANSWER_S = 1.5  # for one of several machines to take a connection
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0
REFUSED_WAIT_S = 5.0
LOOK_S = 3600.0  # between two looks at the certificate's age
LOG_EACH_S = 30.0
MOST_OFF_S = 600.0  # of the clocks; certificates begin an hour early
NOT_NOW = (9, 10)  # OpenSSL: a certificate is not valid yet, or not any more

log = logging.getLogger(__name__)


class Removed(Exception):
    """The control plane does not take this machine back"""


class Door(Protocol):
    """The HAProxy of this machine, as far as its certificate and the control plane's address go."""

    port: int  # where the ingress reaches the containers

    async def renewed(self, pem: bytes) -> None:
        """Show this certificate from now on."""

    async def towards(
        self, host: str, port: int, urls: int, visitors: Public | None = None
    ) -> None:
        """Lead the containers' calls, and visitors, to this address; `urls` is as in `Welcome`."""


class Dialer:
    """Keeps one agent connected."""

    def __init__(
        self, served: Served, place: Place, where: Address, door: "Door", *, reach: str
    ) -> None:
        """`reach` is as in `Hello`."""
        self._served, self._place, self._where = served, place, where
        self._others = place.others()  # where the control plane may be too
        # Took a connection, and did not answer as a control plane does.
        self._doubtful: Address | None = None
        self._door, self._reach = door, reach
        self._run = secrets.token_hex(16)
        self._wait_s = FIRST_WAIT_S
        self._logged: tuple[str, float] = ("", 0.0)

    async def run(self) -> None:
        """Stay connected, and connect again after each loss; raises `Removed` if the control plane has removed this machine."""
        renewing = asyncio.create_task(self._renew())
        try:
            while True:
                why = await self._once()
                if (refused := self._served.refused) is not None and refused.final:
                    raise Removed(refused.reason)
                self._log(why)
                wait_s = REFUSED_WAIT_S if refused is not None else self._wait_s
                self._served.refused = None
                self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - nodes must not come all at once
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing

    async def _once(self) -> str:
        """Connect once; return why the connection was lost."""
        try:
            await self._check_age()
            context = identity.of_node(self._place.ca, self._place.pair)
            async with asyncio.timeout(CONNECT_S + HANDSHAKE_S):
                where = await answering(self._everywhere())
                # If another program has that address by now, the next try is at another one.
                self._doubtful = where
                reader, writer, greeting = await _connected(where, context, identity.CONTROL)
                self._doubtful = None
            try:
                if greeting.version != VERSION:
                    return f"the control plane speaks version {greeting.version} of the protocol, and this agent {VERSION}"
                await self._serve(where, reader, writer)
            finally:
                writer.transport.abort()
        except Lost as lost:
            return str(lost)
        except (OSError, EOFError, TimeoutError, Broken, NodeLost, ssl.SSLError) as error:
            return _in_words(error)
        except Exception as error:
            # A damaged certificate, or a bug of ours: the containers must not end for it.
            log.exception("the connection has failed")
            return f"{type(error).__name__}: {error}"
        return "the connection is closed"

    async def _serve(
        self, where: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        hello = Hello(
            version=VERSION,
            run=self._run,
            host=socket.gethostname(),
            homeport=metadata.version("homeport"),
            port=self._door.port,
            reach=self._reach,
        )
        first = await _exchange(reader, writer, hello)
        if isinstance(first, Refused):
            self._served.refused = first
            raise Broken(first.reason)
        if not isinstance(first, Welcome):
            raise Broken("the control plane does not answer as one")
        session = Session(
            reader,
            writer,
            asks=OF_CONTROL,
            serves=OF_NODE,
            serve=self._served.serve,
            hear=self._served.hear,
        )
        self._wait_s, self._logged = FIRST_WAIT_S, ("", 0.0)
        log.info("connected to %s as the node `%s`", where, first.name)
        await self._note(first)
        own, there = (str(writer.get_extra_info(end)[0]) for end in ("sockname", "peername"))
        await self._turn(there, own, first)
        self._served.attach(session)
        try:
            await session.run()
        finally:
            await self._served.detach()

    async def _turn(self, host: str, own: str, welcome: Welcome) -> None:
        """Let the containers call functions at the address that this agent is connected to, and lead visitors there."""
        if not welcome.calls:
            return
        visitors = None
        if welcome.http:
            at = welcome.visitors or own
            visitors = Public(host=at, http=welcome.http, https=welcome.https)
        try:
            await self._door.towards(host, welcome.calls, welcome.urls, visitors)
        except Failure as failure:
            log.warning("containers of this machine cannot call functions: %s", failure.message)

    def _everywhere(self) -> Sequence[Address]:
        """Return where the control plane may be."""
        every = (self._where, *self._others)
        return [where for where in every if where != self._doubtful] or every

    async def _note(self, welcome: Welcome) -> None:
        """Keep where the control plane may be too."""
        others = tuple(Address(host=host, port=self._where.port) for host in welcome.addresses)
        others = tuple(other for other in others if other != self._where)
        if others != self._others:
            self._others = others
            with contextlib.suppress(OSError):  # a full disk: the next agent hears it again
                await asyncio.to_thread(self._place.note_others, others)

    async def _check_age(self) -> None:
        """Find out whether the certificate has ended, by the clock of the control plane too."""
        pem = authority.certificate_of(self._place.pair.read_bytes())
        until = authority.valid_until(pem)
        if until < dt.datetime.now(dt.UTC):
            # Anybody may answer this; all that the answer can do is to let this machine try again.
            async with asyncio.timeout(CONNECT_S + HANDSHAKE_S):
                greeting = await _greeted(await answering(self._everywhere()))
            if 0 < greeting.now < until.timestamp():
                raise Broken(
                    "by the clock of this machine, its certificate has ended: the clock is wrong"
                )
            self._served.refused = Refused(
                final=True, reason="this machine was away for longer than its certificate is valid"
            )
            raise Broken(self._served.refused.reason)

    async def _renew(self) -> None:
        """Ask for a new certificate, with a new key, when half of the time of the present one has passed.

        At once if the present one is of a version in which it said less.
        """
        while True:
            try:
                pem = authority.certificate_of(self._place.pair.read_bytes())
                is_old = authority.renew_after(pem) < dt.datetime.now(dt.UTC)
                if is_old or not authority.serves(pem):
                    key, csr = authority.request()
                    renewed: str = await self._served.ask("renew", {"csr": csr})
                    pair = key + renewed.encode()
                    await asyncio.to_thread(private.write, self._place.pair, pair)
                    await self._door.renewed(pair)
                    log.info("this node's certificate was renewed")
                await asyncio.sleep(LOOK_S)
            except (Failure, OSError, ValueError) as error:
                log.debug("the certificate is not renewed yet: %s", error)
            except Exception:
                log.exception("the certificate is not renewed")
            else:
                continue
            await asyncio.sleep(min(LOOK_S, REFUSED_WAIT_S))

    def _log(self, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if why != self._logged[0] or now - self._logged[1] > LOG_EACH_S:
            self._logged = why, now
            log.warning("not connected to %s: %s", self._where, why)


async def join(
    place: Place,
    where: Address,
    name: str,
    text: str,
    there: Reach = USUAL,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Make this machine a node; afterwards it has a certificate. Raises a `Failure` if it may not join."""
    identity.check_name(name)
    token_read = token.parse(text)
    request = Join(version=VERSION, name=name, token=text, csr="", labels=dict(labels or {}))
    try:
        async with asyncio.timeout(3 * (CONNECT_S + HANDSHAKE_S)):
            await _join(place, where, request, token_read.fingerprint, there)
    except (OSError, EOFError, TimeoutError, Broken, ssl.SSLError) as error:
        raise Failure(
            f"cannot join {where}: {_in_words(error)}",
            hint="does `homeport up` run there, and does its firewall let this port pass?",
        ) from None


async def _join(
    place: Place, where: Address, request: Join, fingerprint: str, there: Reach
) -> None:
    # Anybody could answer this first connection. Nothing secret is sent on it: it only fetches the CA.
    greeting = await _greeted(where)
    off_s = time.time() - greeting.now if greeting.now else 0.0
    if (ca := authority.pinned(greeting.ca, fingerprint)) is None:
        raise Unauthorized(
            f"{where} is not the homeport that the token is from",
            hint="compare the address with the one that `homeport node token` has printed; somebody may be in between",
        )
    context = await asyncio.to_thread(place.trusting, ca)
    key, csr = await asyncio.to_thread(authority.request)
    try:
        reader, writer, greeting = await _connected(where, context, identity.CONTROL)
    except ssl.SSLError:
        if abs(off_s) < MOST_OFF_S:
            raise
        raise BadRequest(
            f"the clock of this machine is {abs(off_s) / 60:.0f} minutes {'ahead of' if off_s > 0 else 'behind'} "
            f"that of {where}, so the certificate of the control plane is not valid here",
            hint="set the clocks of both machines: `timedatectl set-ntp true`",
        ) from None
    try:
        if greeting.version != VERSION:
            raise BadRequest(
                f"the control plane speaks version {greeting.version} of the protocol, and this homeport {VERSION}",
                hint="install the same version of homeport on both machines",
            )
        answer = await _exchange(reader, writer, dataclasses.replace(request, csr=csr))
    finally:
        writer.transport.abort()
    if isinstance(answer, Refused):
        raise Unauthorized(answer.reason, hint="`homeport node token` makes a new token")
    if not isinstance(answer, Joined):
        raise Broken("the control plane does not answer as one")
    pair = key + answer.certificate.encode()
    await asyncio.to_thread(place.write, request.name, where, there, ca, pair)


async def _greeted(where: Address) -> Greeting:
    """Return the greeting of the peer at an address."""
    _reader, writer, greeting = await _connected(where, identity.of_stranger(), None)
    writer.transport.abort()
    return greeting


async def answering(addresses: Sequence[Address]) -> Address:
    """Return the first address that takes a connection; a standby takes none. `OSError` if none of several does."""
    if len(addresses) == 1:
        return addresses[0]

    async def taken(where: Address) -> Address:
        _, writer = await asyncio.open_connection(where.host, where.port)
        writer.transport.abort()
        return where

    tries = [asyncio.ensure_future(taken(where)) for where in addresses]
    try:
        async with asyncio.timeout(ANSWER_S):
            for answer in asyncio.as_completed(tries):
                with contextlib.suppress(OSError):
                    return await answer
    except TimeoutError:
        pass
    finally:
        for attempt in tries:
            attempt.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
    raise OSError(errno.EHOSTUNREACH, "no control plane answers at any of its addresses")


async def _connected(
    where: Address, context: ssl.SSLContext, name: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Greeting]:
    """Connect, and return both ends and the greeting."""
    reader, writer = await asyncio.open_connection(
        where.host,
        where.port,
        limit=2**16,
        ssl=context,
        server_hostname=name or "",
        ssl_handshake_timeout=HANDSHAKE_S,
        ssl_shutdown_timeout=1.0,
        happy_eyeballs_delay=0.25,
    )
    try:
        bound(writer.get_extra_info("socket"))
        body = await frames.read(reader, frames.FIRST_MAX_BYTES, silent_s=HANDSHAKE_S)
        greeting = messages.read(body)
        if not isinstance(greeting, Greeting):
            raise Broken("it does not greet as a control plane does")
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer, greeting


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: object
) -> object:
    writer.write(frames.framed(messages.write(message)))
    await writer.drain()
    body = await frames.read(reader, frames.FIRST_MAX_BYTES, silent_s=2 * HANDSHAKE_S)
    answer: object = messages.read(body)
    return answer


def _in_words(error: BaseException) -> str:
    """Return why there is no connection; a wrong clock is the usual cause of a certificate that is not valid now."""
    why = frames.in_words(error)
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in NOT_NOW:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M")
        why = f"{error.verify_message}: by the clock of this machine it is {now} UTC"
    elif isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        why = os.strerror(error.errno)  # asyncio says "Connect call failed"
    return why
