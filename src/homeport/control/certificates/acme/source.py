"""The ACME server of the settings as a source. Its client is imported at the first order."""

import asyncio
import hashlib
import importlib
import shutil
from typing import TYPE_CHECKING

from homeport.contract.roles import Ingress
from homeport.control.certificates import orders
from homeport.control.certificates.dns import configured
from homeport.control.certificates.problems import OrderFailed
from homeport.control.certificates.resolving import Resolver
from homeport.control.certificates.situation import (
    UNLIMITED,
    Decision,
    Kind,
    Limits,
    Policy,
    Situation,
)
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.control.certificates.acme.client import Client

CLIENT = "homeport.control.certificates.acme.client"


class Acme:
    """Orders certificates."""

    at_once = False

    def __init__(self, settings: Settings, ingress: Ingress, resolver: Resolver) -> None:
        self._settings = settings
        self._ingress = ingress
        self._policy = policy(settings)
        self._resolver = resolver
        self._folder = settings.home / "acme"
        self._client: Client | None = None
        self._records = configured.records(settings)

    @property
    def name(self) -> str:
        """Return a text that differs for each ACME server."""
        return f"acme:{hashlib.sha256(self._settings.acme_directory.encode()).hexdigest()[:8]}"

    async def open(self) -> None:
        """Do nothing: the account is made with the first order."""

    async def decide(self, situation: Situation) -> Decision:
        """Return what to do now."""
        return orders.decide(situation, self._policy)

    def covering(self, host: str) -> tuple[str, ...]:
        """Return the names of the certificate that a host needs."""
        return tuple(orders.needed({host: Kind.MAIN}, self._policy))

    def refusal(self) -> str:
        """Return nothing: everything can be ordered."""
        return ""

    async def issue(self, name: str, hosts: tuple[str, ...]) -> bytes:
        """Order a certificate."""
        if not self._settings.email:
            raise OrderFailed(
                "the ACME server needs an e-mail address",
                hint="set `email`; with it you agree to the terms of service of the ACME server",
                everywhere=True,
            )
        for host in hosts:
            if self.kind(host) == "http-01":
                await self._exists(host)
        client = await self._opened()
        return await client.issue(name, hosts, self)

    def forget(self, name: str) -> None:
        """Delete what is kept of an order."""
        shutil.rmtree(self._folder / "orders" / name, ignore_errors=True)

    def kind(self, host: str) -> str:
        """Return how a host is validated."""
        return str(orders.method(host, self._policy))

    async def present(self, host: str, token: str, answer: str) -> None:
        """Answer a challenge: by the ingress, or by a TXT record."""
        if token:
            await self._ingress.challenge(token, answer)
        elif self._records is not None:
            await self._records.add(f"_acme-challenge.{host}", answer)

    async def remove(self, host: str, token: str, answer: str) -> None:
        """Forget the answer of a challenge."""
        if token:
            await self._ingress.challenge(token, None)
        elif self._records is not None:
            await self._records.remove(f"_acme-challenge.{host}", answer)

    async def _exists(self, host: str) -> None:
        """Fail where the CA would fail too, because it counts that."""
        if await self._resolver.addresses(host) == ():
            raise OrderFailed(
                f"{host} has no DNS record with an address",
                hint=f"add an A or AAAA record for {host} that leads to this server",
                hosts=(host,),
            )

    async def _opened(self) -> "Client":
        if self._client is None:
            # In a thread: it takes 0.2 s, in which the loop must serve.
            module = await asyncio.to_thread(importlib.import_module, CLIENT)
            self._client = module.Client(
                self._settings.acme_directory,
                self._settings.email,
                self._folder,
                bundle=self._settings.acme_ca,
            )
        return self._client


def policy(settings: Settings) -> Policy:
    """Return what the settings say about orders."""
    lets_encrypt = settings.acme_directory.startswith("https://acme-v02.api.letsencrypt.org/")
    return Policy(
        domain=settings.domain,
        wildcards=bool(settings.dns),
        limits=Limits() if lets_encrypt else UNLIMITED,
    )
