"""Updates of a zone on a name server (RFC 2136), signed with a shared key (TSIG, RFC 8945)."""

import asyncio
import contextlib
import ipaddress

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update

from homeport.control.certificates.dns import TTL_S
from homeport.control.certificates.problems import OrderFailed, shown
from homeport.control.certificates.resolving import Resolver

TIMEOUT_S = 10.0

#: What a server means by refusing, and what the user can do (RFC 2136 2.2, RFC 8945 4.3).
_HINTS = {
    dns.rcode.REFUSED: "allow the key to change TXT records of `_acme-challenge` in the zone",
    dns.rcode.NOTAUTH: "check the key's name, its algorithm and its secret, and both clocks",
    dns.rcode.NOTZONE: "the server must be the primary of the zone",
}


class Rfc2136:
    """One name server, which is the primary of the zones."""

    def __init__(
        self,
        server: str,
        *,
        port: int = 53,
        key_name: str = "",
        secret: str = "",
        algorithm: str = "hmac-sha256",
        zone: str = "",
    ) -> None:
        """`server` is a name or an address; without `zone` the server is asked for it; `secret` is in base64, as `tsig-keygen` and `keymgr` print it."""
        self._server = server
        self._port = port
        self._algorithm = dns.name.from_text(algorithm)
        self._given_zone = dns.name.from_text(zone) if zone else None
        self._resolver = Resolver()
        self._keys = dns.tsigkeyring.from_text({key_name: secret}) if key_name else None

    async def add(self, name: str, value: str) -> None:
        """Add a value; the primary answers with it when this returns."""
        await self._update(name, value, adds=True)

    async def remove(self, name: str, value: str) -> None:
        """Remove a value."""
        await self._update(name, value, adds=False)

    async def _update(self, name: str, value: str, *, adds: bool) -> None:
        record = dns.name.from_text(name)
        zone = await self._zone(record)
        update = dns.update.UpdateMessage(zone, keyring=self._keys, keyalgorithm=self._algorithm)
        text = f'"{value}"'
        if adds:
            update.add(record, TTL_S, "TXT", text)
        else:
            update.delete(record, "TXT", text)
        answer = await self._ask(update)
        if (code := answer.rcode()) != dns.rcode.NOERROR:
            raise OrderFailed(
                f"the name server {self._server} refused to change {name}: {dns.rcode.to_text(code)}",
                hint=_HINTS.get(code, "see the name server's log"),
            )

    async def _zone(self, record: dns.name.Name) -> dns.name.Name:
        """Return the zone that has the record: the server says it in the SOA of its answer."""
        if self._given_zone is not None:
            return self._given_zone
        name = record
        while len(name) > 1:
            answer = await self._ask(dns.message.make_query(name, dns.rdatatype.SOA))
            for rrset in (*answer.answer, *answer.authority):
                if rrset.rdtype == dns.rdatatype.SOA and record.is_subdomain(rrset.name):
                    return rrset.name
            name = name.parent()
        raise OrderFailed(
            f"the name server {self._server} has no zone for {record.to_text(omit_final_dot=True)}",
            hint="`dns_server` must be the primary of the zone",
        )

    async def _address(self) -> str:
        """Return the server's address; `OSError` if its name has none."""
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(self._server))
        if not (addresses := await self._resolver.addresses(self._server)):
            raise OSError(f"DNS knows no address of {self._server}")
        return addresses[0]

    async def _ask(self, message: dns.message.Message) -> dns.message.Message:
        try:
            # TCP: an update must not be lost, and an answer must not be forged.
            address = await self._address()
            return await dns.asyncquery.tcp(message, address, port=self._port, timeout=TIMEOUT_S)
        except (dns.tsig.PeerError, dns.tsig.BadSignature, dns.message.UnknownTSIGKey) as error:
            raise OrderFailed(
                f"the name server {self._server} does not accept the key: {type(error).__name__}",
                hint=_HINTS[dns.rcode.NOTAUTH],
            ) from None
        except (
            dns.exception.DNSException,
            OSError,
            asyncio.IncompleteReadError,
            EOFError,
        ) as error:
            raise OrderFailed(
                f"the name server {self._server} does not answer: {shown(error) or type(error).__name__}",
                hint="is `dns_server` right, and may this machine reach its port over TCP?",
            ) from None
