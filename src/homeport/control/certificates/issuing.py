"""The local CA as a source: it signs for each host that it permits, before the host's URL answers.

A host that the CA may not sign for stays without a certificate: its endpoint answers by HTTP, and the log says why.
"""

import dataclasses
import logging

from homeport.contract.errors import Failure
from homeport.control.certificates import orders
from homeport.control.certificates.local import RESERVED, Local, permitted
from homeport.control.certificates.problems import OrderFailed
from homeport.control.certificates.situation import UNLIMITED, Decision, Kind, Policy, Situation

log = logging.getLogger(__name__)


class Issuing:
    """Signs certificates, which are removed when their hosts are no longer wanted."""

    at_once = True

    def __init__(self, ca: Local, domain: str) -> None:
        self._ca = ca
        self._domain = domain
        self._policy = Policy(domain=domain, wildcards=True, limits=UNLIMITED, kept_s=0.0)
        self._refused: set[str] = set()

    @property
    def name(self) -> str:
        """Return a text that differs for each CA."""
        return f"local:{self._ca.fingerprint}"

    async def open(self) -> None:
        """Read or make the CA."""
        await self._ca.opened()

    async def decide(self, situation: Situation) -> Decision:
        """Return what to do now."""
        allowed = {h: k for h, k in situation.wanted.items() if permitted(h, self._domain)}
        refused = {h: self._why() for h in situation.wanted if h not in allowed}
        for host in refused.keys() - self._refused:
            log.warning("%s gets no certificate: %s", host, self._why())
        self._refused |= refused.keys()
        decision = orders.decide(dataclasses.replace(situation, wanted=allowed), self._policy)
        return dataclasses.replace(decision, waiting={**decision.waiting, **refused})

    def covering(self, host: str) -> tuple[str, ...]:
        """Return the names of the certificate that a host needs."""
        return tuple(orders.needed({host: Kind.MAIN}, self._policy))

    def refusal(self) -> str:
        """Return nothing: every certificate can be signed again."""
        return ""

    async def issue(self, name: str, hosts: tuple[str, ...]) -> bytes:  # noqa: ARG002 - of every source
        """Sign a certificate."""
        try:
            return await self._ca.issue(hosts)
        except Failure as error:
            raise OrderFailed(error.message, hint=error.hint) from None

    def forget(self, name: str) -> None:
        """Do nothing: nothing is kept."""

    def _why(self) -> str:
        return f"the local CA signs for names below {', '.join((self._domain, *RESERVED))} alone"
