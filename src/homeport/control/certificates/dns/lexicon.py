"""Sets records by the API of a DNS provider, with dns-lexicon (`pip install homeport[dns]`).

Its credentials are environment variables of its own (`LEXICON_<PROVIDER>_AUTH_TOKEN` and the like), which the server
has from its start.
"""

import asyncio
import importlib.util
from typing import Any

from homeport.contract.errors import BadRequest
from homeport.control.certificates.dns import TTL_S
from homeport.control.certificates.problems import OrderFailed, shown
from homeport.control.certificates.threads import apart


class Lexicon:
    """One provider."""

    def __init__(self, provider: str, *, options: dict[str, Any] | None = None) -> None:
        """`options` are more of lexicon's; tests name a file for its provider `localzone`."""
        if importlib.util.find_spec("lexicon") is None:
            raise BadRequest(
                "`dns = lexicon` needs dns-lexicon, which is not installed",
                hint="install `homeport[dns]`",
            )
        self._provider = provider
        self._options = options or {}
        self._turn = asyncio.Lock()  # some providers change a whole zone at once

    async def add(self, name: str, value: str) -> None:
        """Add a value."""
        await self._do("create", name, value)

    async def remove(self, name: str, value: str) -> None:
        """Remove a value."""
        await self._do("delete", name, value)

    async def _do(self, action: str, name: str, value: str) -> None:
        async with self._turn:
            try:
                await apart(self._call, action, name, value)
            except Exception as error:
                raise OrderFailed(
                    f"`{self._provider}` did not {action} the record {name}: {shown(error) or type(error).__name__}",
                    hint=f"check the variables `LEXICON_{self._provider.upper()}_…` of the server",
                ) from None

    def _call(self, action: str, name: str, value: str) -> None:
        from lexicon.client import Client
        from lexicon.config import ConfigResolver

        config = (
            ConfigResolver()
            .with_env()
            .with_dict(
                {
                    "provider_name": self._provider,
                    "domain": name.removeprefix("_acme-challenge."),
                    "ttl": TTL_S,
                    **self._options,
                }
            )
        )
        with Client(config) as zone:
            if action == "create":
                zone.create_record("TXT", name, value)
            else:
                zone.delete_record(rtype="TXT", name=name, content=value)
