"""Sends a message to a webhook: a POST of JSON, signed.

The server's owner may name any address. For the alerts of others the host must be one of the internet, by HTTPS: the server
could reach what they cannot, such as the machine itself, its network, and the credentials that a cloud gives the machine. The
address that was checked is the one that is asked, so a name cannot lead elsewhere meanwhile. Redirects are not followed, and
nothing of the answer is passed on but its status.
"""

import asyncio
import functools
import hmac
import ipaddress
import socket
import ssl
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from homeport.contract.errors import BadRequest

PATIENCE_S = 10.0
#: DNS may take as long as the owner of a name likes. The loop's own threads are those on which all of the server waits.
_POOL = ThreadPoolExecutor(8, thread_name_prefix="webhooks")
LONGEST_URL = 2_000
SIGNATURE = "Homeport-Signature"

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Undelivered(Exception):
    """Why a message was not delivered"""


def check(url: str, *, trusted: bool) -> None:
    """Raise `BadRequest` for a URL that is not a webhook's; its host is resolved and checked when a message is sent."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urllib.parse.urlsplit("")
    schemes = ("https", "http") if trusted else ("https",)
    good = host and parts.scheme in schemes and url.isascii() and url.isprintable()
    if not good or " " in url or len(url) > LONGEST_URL or "@" in parts.netloc:
        raise BadRequest(
            "that is not the URL of a webhook",
            hint="it begins with https://, and has no user and no password",
        )


def target(url: str) -> str:
    """Return the part of a URL that is no secret.

    >>> target("https://hooks.example.com:8443/T0/B1/secret?x=1")
    'https://hooks.example.com:8443/…'
    """
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/…"


def signature(secret: str, body: bytes) -> str:
    """Return the value of the field `Homeport-Signature`."""
    return f"sha256={hmac.digest(secret.encode(), body, 'sha256').hex()}"


def is_public(address: str) -> bool:
    """Return whether an address belongs to the internet, and not to a private network.

    >>> [is_public(a) for a in ("93.184.215.14", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1")]
    [True, False, False, False]
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo and parsed.teredo[1])
        if inner:
            return is_public(str(inner))
        if parsed in ipaddress.ip_network("64:ff9b::/96"):  # NAT64: the last 32 bits are an IPv4
            return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


async def resolved(host: str, port: int) -> list[str]:
    """Return the addresses of a host."""
    ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    results = await asyncio.get_running_loop().run_in_executor(_POOL, ask)
    return list(dict.fromkeys(str(result[4][0]) for result in results))


class Webhooks:
    """Sends messages."""

    def __init__(self, resolve: Resolve = resolved, verify: ssl.SSLContext | None = None) -> None:
        """`verify` is what certificates are checked with; by default the machine's certification authorities."""
        self._resolve = resolve
        self._verify = verify

    async def send(self, url: str, body: bytes, secret: str, *, trusted: bool) -> None:
        """Send a message; `Undelivered` if it was not accepted (2xx)."""
        import httpx  # most servers have no alert

        try:
            check(url, trusted=trusted)
            async with asyncio.timeout(PATIENCE_S):
                where, more = await self._where(url, trusted)
                verify = self._verify
                if verify is None:
                    verify = await asyncio.to_thread(ssl.create_default_context)
                client = httpx.AsyncClient(verify=verify, trust_env=False, follow_redirects=False)
                async with client:
                    request = client.build_request("POST", where, content=body, extensions=more)
                    request.headers["Host"] = urllib.parse.urlsplit(url).netloc
                    request.headers["Content-Type"] = "application/json"
                    request.headers["User-Agent"] = "homeport"
                    request.headers[SIGNATURE] = signature(secret, body)
                    response = await client.send(request, stream=True)
                    await response.aclose()
        except TimeoutError:
            raise Undelivered(f"no answer within {PATIENCE_S:g} s") from None
        except httpx.TimeoutException:
            raise Undelivered("no answer in time") from None
        # A `ValueError` is of a name that cannot be one of DNS, or of a certificate.
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, BadRequest) as error:
            raise Undelivered(f"{type(error).__name__}: {error}"[:300]) from None
        if not response.is_success:
            raise Undelivered(f"the answer was {response.status_code}")

    async def _where(self, url: str, trusted: bool) -> tuple[str, dict[str, str]]:
        """Return the URL with the address that is asked, and the name that its certificate must have."""
        if trusted:
            return url, {}
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        addresses = await self._resolve(host, port)
        if not addresses or not all(map(is_public, addresses)):
            raise Undelivered("the host is not one of the internet")
        address = addresses[0]
        netloc = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        return parts._replace(netloc=netloc).geturl(), {"sni_hostname": host}
