"""Named secrets, and those that came with a manifest: what a container's environment is made of."""

import dataclasses
from collections.abc import Iterable

from homeport.contract import codec, names
from homeport.contract.errors import AlreadyExists, BadRequest, NotFound, SecretMissing
from homeport.contract.manifest import FunctionSpec, Manifest, SecretRef
from homeport.state.store import SecretRow, Store
from homeport.state.vault import Vault

MAX_VALUE = 32768  # characters, as Modal's


class SecretBox:
    """The store's secrets, opened by the vault's key."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    def create(self, name: str, values: dict[str, str], *, force: bool) -> list[str]:
        """Save a secret; returns its keys. `AlreadyExists` without `force`."""
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
        if not force and self._store.secret(name) is not None:
            raise AlreadyExists(
                f"the secret `{name}` exists", hint="add `--force` to replace its values"
            )
        self._store.put_secret(name, self._vault.seal(name, values), list(values), inline=False)
        return list(values)

    def list(self) -> list[SecretRow]:
        """Every named secret, without values."""
        return self._store.secrets()

    def delete(self, name: str) -> None:
        """`NotFound` where there is none."""
        if not self._store.delete_secret(name):
            raise NotFound(f"there is no secret `{name}`")

    def seal(self, manifest: Manifest) -> tuple[Manifest, str]:
        """The manifest with its inline values moved into the store, and its fingerprint.

        Two manifests with one fingerprint would make the same containers: it covers the inline
        values and the last change of every named secret.
        """
        changed = {row.name: row.updated_at for row in self._store.secrets()}
        used = {
            ref.name
            for spec in manifest.functions
            for ref in (*spec.secrets, *spec.build_secrets)
            if ref.name
        }
        told = codec.dumps(manifest) + repr(sorted((n, changed.get(n)) for n in used))
        fingerprint = self._vault.digest(told)
        functions = tuple(
            dataclasses.replace(
                spec,
                secrets=tuple(
                    self._sealed(ref, f"{fingerprint}/{spec.name}/{position}")
                    for position, ref in enumerate(spec.secrets)
                ),
                build_secrets=tuple(
                    self._sealed(ref, f"{fingerprint}/{spec.name}/build/{position}")
                    for position, ref in enumerate(spec.build_secrets)
                ),
            )
            for spec in manifest.functions
        )
        return dataclasses.replace(manifest, functions=functions), fingerprint

    def check(self, spec: FunctionSpec) -> None:
        """Raise `SecretMissing`, with the command that would create it, if one is not there."""
        for ref in (*spec.secrets, *spec.build_secrets):
            self._values(ref)

    def environ(self, spec: FunctionSpec) -> dict[str, str]:
        """The function's secrets as variables; a later secret wins."""
        return self._merged(spec.secrets)

    def build_environ(self, spec: FunctionSpec) -> dict[str, str]:
        """Those that the steps of its image see while they run."""
        return self._merged(spec.build_secrets)

    def _merged(self, refs: Iterable[SecretRef]) -> dict[str, str]:
        merged: dict[str, str] = {}
        for ref in refs:
            merged.update(self._values(ref))
        return merged

    def _sealed(self, ref: SecretRef, name: str) -> SecretRef:
        if ref.values is None:
            return ref
        self._store.put_secret(name, self._vault.seal(name, ref.values), [], inline=True)
        return SecretRef(name=name, required_keys=ref.required_keys, where=ref.where)

    def _values(self, ref: SecretRef) -> dict[str, str]:
        if ref.values is not None:
            return ref.values
        name = ref.name or ""
        sealed = self._store.secret(name)
        if sealed is None:
            keys = " ".join(f"{key}=…" for key in ref.required_keys) or "KEY=…"
            raise SecretMissing(
                f"there is no secret `{name}`",
                where=ref.where,
                hint=f"create it with `homeport secret create {name} {keys}`",
            )
        values = self._vault.open(name, sealed)
        absent = [key for key in ref.required_keys if key not in values]
        if absent:
            told = ", ".join(f"`{key}`" for key in absent)
            every = " ".join(f"{key}=…" for key in [*values, *absent])
            raise SecretMissing(
                f"the secret `{name}` lacks {told}",
                where=ref.where,
                hint=f"create it anew with `homeport secret create {name} {every} --force`",
            )
        return values
