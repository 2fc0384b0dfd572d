"""The options of spawned calls of variants: sealed in the call's row, because they may have secrets' values."""

import dataclasses
import json
from collections.abc import Callable

from homeport.contract import codec, shape
from homeport.contract.errors import BadRequest
from homeport.contract.scope import Scope
from homeport.contract.variants import Options
from homeport.control.deploys.variants import Variants, Wanted
from homeport.state.calls import CallRow
from homeport.state.vault import Vault


class Varied:
    """Makes the variants that spawned calls need, also after a restart or a deploy."""

    def __init__(self, variants: Variants, vault: Vault, key: Callable[[Scope], str]) -> None:
        """`key` returns the key of an environment."""
        self._variants = variants
        self._key = key
        self._vault = vault

    async def take(self, row: CallRow, scope: str, options: Options) -> CallRow:
        """Make the variant for a new call; return the call's row with its options and its endpoint."""
        endpoint = await self._variants.make(self._request(row, options, scope))
        saved = {"options": codec.dumps(options), "scope": scope}
        return dataclasses.replace(
            row, endpoint=endpoint.id, options=self._vault.seal(_name(row), saved)
        )

    async def make(self, row: CallRow) -> None:
        """Make the variant of a call that waits, if it has one and it was removed."""
        if row.options is None:
            return
        saved = self._vault.open(_name(row), row.options)
        try:
            options = codec.loads(Options, saved["options"])
        except (ValueError, TypeError, KeyError):
            raise BadRequest("the call's options are of another version of homeport") from None
        await self._variants.make(self._request(row, options, saved["scope"]))

    def _request(self, row: CallRow, options: Options, session: str) -> Wanted:
        return Wanted(
            app=row.app,
            tag=row.tag,
            options=options,
            within=row.scope,
            key=self._key(row.scope),
            scope=session,
        )


def read(text: bytes, digest: str) -> Options:
    """Return the options in a request; `BadRequest` if they are none, or not those of the digest."""
    try:
        options = shape.read(Options, json.loads(text), "options")
    except ValueError:
        raise BadRequest("the options are not JSON") from None
    if digest and options.digest != digest:
        raise BadRequest("the options do not have this digest: two versions of homeport meet")
    return options


def _name(row: CallRow) -> str:
    return f"call/{row.id}"
