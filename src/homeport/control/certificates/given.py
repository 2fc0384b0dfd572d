"""The certificates that the settings give without an order: of the user's files, or of a local CA."""

import asyncio
import contextlib
from collections.abc import Collection

from homeport.contract.roles import Ingress
from homeport.control.certificates import files, issuing
from homeport.control.certificates.files import Files
from homeport.control.certificates.issuing import Issuing
from homeport.control.certificates.local import Local
from homeport.settings import Settings


class Given:
    """The source of the settings; with `tls` off or acme there is none."""

    def __init__(self, settings: Settings, ingress: Ingress) -> None:
        self._settings = settings
        self._ingress = ingress
        self._files: Files | None = None
        self._local: Issuing | None = None

    async def start(self) -> None:
        """Give the ingress its first certificates, before a request is answered."""
        settings = self._settings
        held = await asyncio.to_thread(self._held)
        if settings.tls == "files":
            self._files = Files(settings.tls_dir, self._ingress, held)
            await self._files.open()
        elif settings.tls == "local":
            ca = Local(settings.local_ca, settings.domain)
            self._local = Issuing(ca, self._ingress, settings.domain, held)
            await self._local.start()
        else:  # what another source has given is not valid for this one
            for name in held:
                if name.startswith((files.PREFIX, issuing.PREFIX)):
                    await self._ingress.remove_certificate(name)

    async def open(self) -> None:
        """Go on, once every endpoint has its route."""
        if self._local is not None:
            await self._local.open()

    async def close(self) -> None:
        """End the loops."""
        for each in (self._files, self._local):
            if each is not None:
                await each.close()

    async def cover(self, hosts: Collection[str]) -> None:
        """See that these hosts have a certificate before they answer, where that takes no order."""
        if self._local is not None:
            await self._local.cover(hosts)

    def _held(self) -> list[str]:
        """Return the names of the certificates in the home."""
        with contextlib.suppress(OSError):
            return sorted(path.stem for path in self._settings.certificates_dir.glob("*.pem"))
        return []
