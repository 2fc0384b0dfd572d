"""The changes of TLS in the Ingress role: certificates, and the answers to an ACME server's challenges."""

import asyncio
from collections.abc import Collection

from homeport.contract.errors import StorageError
from homeport.ingress import certificates
from homeport.ingress.certificates import Certificates
from homeport.ingress.publisher import Publisher
from homeport.ingress.runtime import Step
from homeport.undo import Undo


class Tls(Publisher):
    """The part of the role that is about certificates."""

    _certificates: Certificates
    _secure: bool  # whether there is a listener with TLS

    async def certificate(self, name: str, pem: bytes, hosts: Collection[str]) -> None:
        """Answer these hosts with a certificate from now on; a known name is a renewal."""
        from homeport.ingress import pairs  # X.509, which a server without TLS does not need

        pair = await asyncio.to_thread(pairs.read, pem, hosts)
        fresh = certificates.held(name, pair, hosts)

        async def change(undo: Undo) -> None:
            before = self._certificates.get(name)
            if before == fresh and await asyncio.to_thread(self._certificates.has, name, pair):
                return  # as when a server starts, and reads the user's files
            try:
                await asyncio.to_thread(self._certificates.stage, name, pair, undo)
                if before is None:
                    await self._tell_steps(certificates.added(fresh, pair))
                elif before.hosts == fresh.hosts:
                    await self._tell_steps(certificates.renewed(fresh, pair))
                self._certificates.put(fresh, undo)
            except OSError as error:
                raise StorageError(f"the certificate cannot be saved: {error.strerror}") from None
            if before is not None and before.hosts != fresh.hosts:
                await self._supervisor.reload()  # rare, and no command changes a line of the list
            await self._tell_maps()

        await self._whole(f"certificate {name}", change)
        self._certificates.settle(name)

    async def remove_certificate(self, name: str) -> None:
        """Forget a certificate; its hosts get no TLS any more, unless another one has them too."""

        async def change(undo: Undo) -> None:
            held = self._certificates.get(name)
            if held is None:
                return
            try:
                self._certificates.remove(name, undo)
            except OSError as error:
                raise StorageError(f"the certificate cannot be removed: {error.strerror}") from None
            await self._tell_maps()
            await self._tell_steps(certificates.removed(held))

        await self._whole(f"certificate {name}", change)
        self._certificates.settle(name)

    async def challenge(self, token: str, answer: str | None) -> None:
        """Answer a challenge of an ACME server (HTTP-01) on every host; None: forget it."""

        async def change(_undo: Undo) -> None:
            self._maps.put("challenges", token, answer)
            await self._tell_maps()

        await self._whole("challenge", change)

    async def _tell_maps(self) -> None:
        if self._secure:  # else HAProxy has not loaded these maps
            await self._supervisor.tell(self._maps.commands())

    async def _tell_steps(self, steps: list[Step]) -> None:
        if self._secure:
            await self._supervisor.carry_out(steps)
