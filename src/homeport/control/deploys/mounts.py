"""Resolves the names of volumes and files in a manifest when it is deployed, and checks the volumes when it is
restored.
"""

import contextlib

from homeport.contract.errors import Failure, ScriptError
from homeport.contract.manifest import FunctionSpec, Manifest, SecretRef, VolumeMount
from homeport.contract.scope import Scope
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.rollout import Rollout


class Mounts:
    """The volumes and the files of manifests."""

    def __init__(self, parts: Parts, rollout: Rollout) -> None:
        self._blobs = parts.blobs
        self._volumes = parts.volumes
        self._nodes = parts.nodes
        self._store = parts.store
        self._pools = parts.pools
        self._rollout = rollout

    async def resolve(self, scope: Scope, manifest: Manifest) -> Manifest:
        """Return the manifest with the volumes that its names mean now, some of them new ones.

        `ScriptError` for a name that the script assigns to another environment; `NotFound` for a file that the
        workspace has not uploaded itself.
        """
        self._blobs.check((*manifest.files, *manifest.build_files), scope.workspace)
        _check_environments(scope, manifest)
        self._check_node(manifest)
        manifest = await self._volumes.of(scope).resolve(manifest)
        self.check(scope, manifest)
        return manifest

    def check(self, scope: Scope, manifest: Manifest) -> None:
        """Raise if the containers of a manifest could not have their volumes."""
        self._check_node(manifest)
        for spec in manifest.functions:
            self._volumes.of(scope).check(spec)

    async def users(self, scope: Scope, key: str) -> list[str]:
        """Return the apps and sessions that have a volume mounted, or will when they are restored."""
        manifests = [revision.manifest for revision in self._rollout.trees.in_use()]
        store = self._store.of(scope)
        for row in await store.apps():
            if row.stopped_at is None and row.version:
                with contextlib.suppress(Failure):  # a revision that cannot be read
                    revision = await store.revision(row.name, row.version)
                    manifests.append(revision.manifest)
        app_names = {m.app_name for m in manifests if any(_mounts(f, key) for f in m.functions)}
        app_names |= {pool.key.app for pool in self._pools if _mounts(pool.function, key)}
        return sorted(app_names)

    def _check_node(self, manifest: Manifest) -> None:
        if any(capacity.has_mounts for capacity in self._nodes.capacities()):
            return
        for spec in manifest.functions:
            for mount in spec.volumes:
                raise ScriptError(
                    f"the volume `{mount.name}` cannot be mounted at `{mount.path}`: containers are not isolated here",
                    where=mount.where,
                    hint="start the server with HOMEPORT_ISOLATION=auto; `homeport doctor` says what it needs",
                )


def _check_environments(scope: Scope, manifest: Manifest) -> None:
    for spec in manifest.functions:
        refs: tuple[SecretRef | VolumeMount, ...] = (
            *(*spec.secrets, *spec.build_secrets),
            *(*spec.volumes, *spec.build_volumes),
        )
        for named in refs:
            kind = "secret" if isinstance(named, SecretRef) else "volume"
            if named.environment not in ("", scope.environment):
                raise ScriptError(
                    f"the {kind} `{named.name}` is of the environment `{named.environment}`, "
                    f"and the app is in `{scope.environment}`",
                    where=named.where,
                    hint=f"`-e {named.environment}` deploys the app there; each environment has its own {kind}s",
                )


def _mounts(function: FunctionSpec, key: str) -> bool:
    return any(mount.key == key for mount in function.volumes)
