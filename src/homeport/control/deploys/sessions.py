"""Serves apps for as long as a command is connected: `homeport serve`, `run` and `app.run()`.

A session is a deploy under a `-dev` name, kept only in memory. Its changes take turns with those of deployed apps
(`changes`), and `deployer` stops it as it stops these. A reload cancels earlier reloads of the session.
"""

import secrets
import time
from functools import partial

from homeport.contract.api import events
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.manifest import Manifest
from homeport.contract.scope import Scope
from homeport.contract.traffic import RequestRecord
from homeport.control.deploys import trial
from homeport.control.deploys.apps import LiveApp
from homeport.control.deploys.changes import Changes
from homeport.control.deploys.mounts import Mounts
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.rollout import Rollout, tell
from homeport.control.deploys.trial import Say
from homeport.control.fleet.owner import Owner
from homeport.state.rows import Revision

BACKLOG = 1000  # events that a session's command may lag behind; then requests are left out


class Sessions:
    """Begins and reloads sessions, and tells their commands of requests."""

    def __init__(self, parts: Parts, rollout: Rollout, mounts: Mounts, changes: Changes) -> None:
        self._environments = parts.environments
        self._live = parts.live
        self._nodes = parts.nodes
        self._ingress = parts.ingress
        self._secrets = parts.secrets
        self._rollout = rollout
        self._mounts = mounts
        self._changes = changes
        self._warned: dict[Owner, set[str]] = {}  # warnings that a session's command has shown

    async def serve(self, scope: Scope, session: str, manifest: Manifest, say: Say) -> LiveApp:
        """Start a session; its containers start while the caller prints the URLs."""
        trial.check(manifest.app_name, manifest, "", "rolling")
        self._environments.find(scope)
        owner = Owner.session(scope, session)
        app = await self._changes.run("serve", owner, self._serve(owner, manifest, None, say))
        self._ingress.hear(self._show)
        return app

    async def reload(self, scope: Scope, session: str, manifest: Manifest) -> LiveApp:
        """Replace a session's version; after a failure the old version serves on."""
        owner = Owner.session(scope, session)
        for change in self._changes.of(owner):
            if change.kind == "reload":  # the newest save counts
                change.end(BadRequest("a later version has taken this one's place"))
        return await self._changes.run("reload", owner, self._reload(owner, manifest))

    def forget(self, owner: Owner) -> None:
        """Forget a session that was stopped; without any session, the ingress reports no requests."""
        self._warned.pop(owner, None)
        if not any(app.ephemeral for app in self._live.all()):
            self._ingress.hear(None)

    async def _reload(self, owner: Owner, manifest: Manifest) -> LiveApp:
        current = self._live.get(owner)
        if current is None:
            raise NotFound("this session has ended")
        trial.check(manifest.app_name, manifest, "", "rolling")

        def say(text: str) -> None:
            tell(current, events.progress(text))

        return await self._serve(owner, manifest, current, say)

    async def _serve(
        self, owner: Owner, manifest: Manifest, current: LiveApp | None, say: Say
    ) -> LiveApp:
        manifest = await self._mounts.resolve(owner.scope, manifest)
        box = self._secrets.of(owner.scope)
        async with box.sealing(manifest) as (sealed, fingerprint):
            warn = partial(self._warn, owner, say)
            trial.check_node(sealed, self._nodes, box, say=say, lacking=warn)
            revision = Revision(
                id=f"rv-{secrets.token_hex(6)}",
                app=manifest.app_name,
                version=0,
                manifest=sealed,
                fingerprint=fingerprint,
                created_at=time.time(),
                scope=owner.scope,
            )
            return await self._rollout.bring(owner, revision, current, strategy="rolling", say=say)

    def _show(self, request: RequestRecord) -> None:
        """Send a request to its session's command; if the command is too slow, count the requests left out."""
        app = self._live.owner_of(request.endpoint)
        if app is None or app.events is None:
            return
        if app.events.qsize() > BACKLOG:
            app.untold += 1
            return
        tag = app.endpoints[request.endpoint].tag
        tell(app, events.Request(tag=tag, request=request, untold=app.untold))
        app.untold = 0

    def _warn(self, owner: Owner, say: Say, text: str) -> None:
        """Show a warning once in a session, also if the session is reloaded."""
        if text not in (shown := self._warned.setdefault(owner, set())):
            shown.add(text)
            say(text)
