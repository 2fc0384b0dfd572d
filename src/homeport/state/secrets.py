"""Seals named secrets and inline secrets of manifests, and opens them for containers; a box for each environment.

The sealed values are in memory too, so the start of a container never waits for the database, and works while
the database does not answer. A change is first written to the database and then made in memory.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager

from homeport.contract import codec, names
from homeport.contract.errors import AlreadyExists, BadRequest, NotFound, SecretMissing
from homeport.contract.manifest import FunctionSpec, Manifest, SecretRef
from homeport.contract.supplies import BuildSecret
from homeport.state.rows import SecretRow
from homeport.state.secret_rows import SecretRows
from homeport.state.vault import Vault

MAX_VALUE = 32768  # characters, as Modal's


class SecretBox:
    """The secrets of one environment, opened by the vault's key."""

    def __init__(self, rows: SecretRows, vault: Vault, key: str = "") -> None:
        """`key` is that of another environment than MAIN: what is sealed with it opens nowhere else, and in no later one of its name."""
        self._rows = rows
        self._vault = vault
        self._key = key
        self._sealed: dict[str, bytes] = {}
        self._creating = asyncio.Lock()
        self._held: list[str] = []  # fingerprints of manifests whose revision is not saved yet

    async def load(self) -> None:
        """Read all sealed secrets; call it before the others."""
        self._sealed = await self._rows.sealed()

    async def create(self, name: str, values: dict[str, str], *, force: bool) -> list[str]:
        """Save a secret and return its keys; `AlreadyExists` if it exists, without `force`."""
        if not names.is_object_name(name):
            raise BadRequest(
                f"`{name}` cannot be the name of a secret",
                hint="letters, digits, `-`, `_` and `.`, at most 64 of them",
            )
        if not values:
            raise BadRequest("a secret needs at least one key", hint="KEY=value")
        for key, value in values.items():
            if not names.is_secret_key(key):
                raise BadRequest(
                    f"`{key}` cannot be the name of an environment variable",
                    hint="letters, digits and `_`, not beginning with a digit",
                )
            if not isinstance(value, str) or len(value) > MAX_VALUE or "\0" in value:
                raise BadRequest(
                    f"the value of `{key}` must be text of at most {MAX_VALUE} characters"
                )
        async with self._creating:
            if not force and name in self._sealed:
                raise AlreadyExists(
                    f"the secret `{name}` exists", hint="add `--force` to replace its values"
                )
            await self._put(name, values, list(values), inline=False)
        return list(values)

    async def list(self) -> list[SecretRow]:
        """Return the named secrets, without values."""
        return await self._rows.named()

    async def delete(self, name: str) -> None:
        """Delete a secret; `NotFound` for an unknown one."""
        if not await self._rows.delete(name):
            raise NotFound(
                f"there is no secret `{name}`", hint="`homeport secret list` shows those there are"
            )
        self._sealed.pop(name, None)

    async def forget_inline(self, fingerprints: Collection[str]) -> None:
        """Remove secrets that came with a manifest, except those of saved revisions and of these."""
        for name in await self._rows.forget_inline({*fingerprints, *self._held}):
            self._sealed.pop(name, None)

    @asynccontextmanager
    async def sealing(self, manifest: Manifest) -> AsyncIterator[tuple[Manifest, str]]:
        """Yield the manifest with its inline values moved into the store, and its fingerprint.

        Manifests with the same fingerprint make the same containers: it covers the inline values and the
        last change of every named secret. The values stay at least until the end of the block, in which the
        caller saves or serves the revision.
        """
        changed = {row.name: row.updated_at for row in await self._rows.named()}
        used = {
            ref.name
            for spec in manifest.functions
            for ref in (*spec.secrets, *spec.build_secrets)
            if ref.name
        }
        text = codec.dumps(manifest) + repr(sorted((n, changed.get(n)) for n in used))
        fingerprint = self._vault.digest(text)
        self._held.append(fingerprint)
        try:
            yield await self._seal(manifest, fingerprint), fingerprint
        finally:
            self._held.remove(fingerprint)

    def check(self, spec: FunctionSpec) -> None:
        """Raise `SecretMissing`, with the command that would create it, if one does not exist."""
        for ref in (*spec.secrets, *spec.build_secrets):
            self._values(ref)

    def environ(self, spec: FunctionSpec) -> dict[str, str]:
        """Return the function's secrets as variables; a later secret wins."""
        return self._merged(spec.secrets)

    def for_build(self, spec: FunctionSpec) -> tuple[BuildSecret, ...]:
        """Return the secrets for the steps of its image, in order."""
        return tuple(
            BuildSecret(
                # One that came with the script has a name of this deploy.
                name="" if "/" in (ref.name or "") else self._bound(ref.name or ""),
                values=self._values(ref),
            )
            for ref in spec.build_secrets
        )

    def _bound(self, name: str) -> str:
        """Return the name that the vault binds a secret's values to, and by which image layers built with it are
        found.
        """
        return f"{self._key}\0{name}" if self._key else name

    def _merged(self, refs: Iterable[SecretRef]) -> dict[str, str]:
        merged: dict[str, str] = {}
        for ref in refs:
            merged.update(self._values(ref))
        return merged

    async def _seal(self, manifest: Manifest, fingerprint: str) -> Manifest:
        functions = []
        for spec in manifest.functions:
            name = f"{fingerprint}/{spec.name}"
            sealed = await self._seal_all(spec.secrets, name)
            for_build = await self._seal_all(spec.build_secrets, f"{name}/build")
            functions.append(dataclasses.replace(spec, secrets=sealed, build_secrets=for_build))
        return dataclasses.replace(manifest, functions=tuple(functions))

    async def _seal_all(self, refs: Iterable[SecretRef], name: str) -> tuple[SecretRef, ...]:
        """Return the references, with their values moved into the store as `name`/0, `name`/1, …."""
        sealed = []
        for position, ref in enumerate(refs):
            if ref.values is not None:
                own = f"{name}/{position}"
                await self._put(own, ref.values, [], inline=True)
                ref = SecretRef(name=own, required_keys=ref.required_keys, where=ref.where)  # noqa: PLW2901
            sealed.append(ref)
        return tuple(sealed)

    async def _put(
        self, name: str, values: dict[str, str], keys: Iterable[str], *, inline: bool
    ) -> None:
        sealed = self._vault.seal(self._bound(name), values)
        await self._rows.put(name, sealed, [*keys], inline=inline)
        self._sealed[name] = sealed

    def _values(self, ref: SecretRef) -> dict[str, str]:
        if ref.values is not None:
            return ref.values
        name = ref.name or ""
        sealed = self._sealed.get(name)
        if sealed is None:
            keys = " ".join(f"{key}=…" for key in ref.required_keys) or "KEY=…"
            raise SecretMissing(
                f"there is no secret `{name}`",
                where=ref.where,
                hint=f"create it with `homeport secret create {name} {keys}`",
            )
        values = self._vault.open(self._bound(name), sealed)
        absent = [key for key in ref.required_keys if key not in values]
        if absent:
            names = ", ".join(f"`{key}`" for key in absent)
            every = " ".join(f"{key}=…" for key in [*values, *absent])
            raise SecretMissing(
                f"the secret `{name}` lacks {names}",
                where=ref.where,
                hint=f"create it again with `homeport secret create {name} {every} --force`",
            )
        return values
