"""What serves now: deployed apps and `serve` sessions, with their endpoints."""

import asyncio
import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path

from homeport.contract import api, names
from homeport.contract.errors import LabelTaken, PortTaken, ScriptError
from homeport.contract.manifest import FunctionSpec, WebMethod
from homeport.contract.traffic import Endpoint, PoolKey
from homeport.control.fleet.pools import Pool
from homeport.settings import Settings
from homeport.state.rows import Revision


@dataclass(slots=True, kw_only=True)
class LiveEndpoint:
    """A URL that answers."""

    tag: str
    endpoint: Endpoint
    url: str
    local_url: str = ""
    truncated: bool = False
    stolen: bool = False  # taken from an earlier `serve` session


@dataclass(slots=True, kw_only=True)
class LiveApp:
    """A deployed app, or a `serve` session."""

    owner: str  # `deploy:<name>` or `serve:<session>`
    name: str
    revision: Revision
    app_id: str = ""
    created_at: float = field(default_factory=time.time)
    endpoints: dict[str, LiveEndpoint] = field(default_factory=dict)  # by Endpoint.id
    events: asyncio.Queue[api.SessionEvent] | None = None  # a session's, for its command
    untold: int = 0  # requests that its command was too slow to be told of

    @property
    def ephemeral(self) -> bool:
        """Whether it ends with the command that began it."""
        return self.owner.startswith("serve:")


class Live:
    """Every live app, by owner; also who has which URL and which port."""

    def __init__(self) -> None:
        self._apps: dict[str, LiveApp] = {}
        self.claims: dict[str, LiveApp] = {}  # revisions that are being brought up, by id

    def get(self, owner: str) -> LiveApp | None:
        """The live app of that owner."""
        return self._apps.get(owner)

    def add(self, app: LiveApp) -> None:
        """It serves from now on; an earlier state of the same owner is replaced."""
        self._apps[app.owner] = app

    def put(self, owner: str, app: LiveApp | None) -> None:
        """That owner's state, or None for an owner that serves nothing."""
        if app is None:
            self._apps.pop(owner, None)
        else:
            self._apps[owner] = app

    def remove(self, owner: str) -> LiveApp | None:
        """It serves no more."""
        return self._apps.pop(owner, None)

    def all(self) -> list[LiveApp]:
        """The newest first."""
        return sorted(self._apps.values(), key=lambda app: -app.created_at)

    def owner_of(self, endpoint: str) -> LiveApp | None:
        """Who answers at that URL."""
        return next((app for app in self._apps.values() if endpoint in app.endpoints), None)

    def claim(self, revision: Revision, owner: str, plan: dict[str, LiveEndpoint]) -> None:
        """Keep a revision's URLs and ports from others while it is brought up.

        Raises where a deployed app would lose a URL, or two apps would want one port.
        """
        hosts = _hosts(plan)
        claims = [claim for claim in self.claims.values() if claim.owner != owner]
        for other in (*self._apps.values(), *claims):
            if other.owner == owner:
                continue
            if not (other.ephemeral and owner.startswith("serve:")):
                for host in sorted(hosts & _hosts(other.endpoints)):
                    raise LabelTaken(
                        f"the URL `{host}` belongs to the app `{other.name}`",
                        where=_where(plan, host),
                        hint="choose another `label=` or another app name, "
                        f"or stop it with `homeport app stop {other.name}`",
                    )
            ports = {spec.port for spec in other.revision.manifest.functions} - {None}
            for spec in revision.manifest.functions:
                if spec.port in ports:
                    raise PortTaken(
                        f"port {spec.port} belongs to a `web_server` of the app `{other.name}`",
                        where=spec.where,
                        hint="choose another port for one of them",
                    )
        self.claims[revision.id] = LiveApp(
            owner=owner, name=revision.app, revision=revision, endpoints=dict(plan)
        )


def pools(
    revision: Revision,
    settings: Settings,
    *,
    owner: str,
    tree: Path,
    dev_suffix: str = "",
) -> list[Pool]:
    """A pool for each function of a revision; class parameters make more of them later."""
    urls = {each.tag: each.url for each in plan(revision, settings, dev_suffix=dev_suffix).values()}
    return [
        Pool(
            key=PoolKey(revision.app, spec.name, revision.id),
            function=spec,
            source=str(tree),
            owner=owner,
            parameters={p.name: p.default for p in spec.parameters if p.default is not None},
            urls=urls,
            ephemeral=owner.startswith("serve:"),
        )
        for spec in revision.manifest.functions
    ]


def plan(
    revision: Revision, settings: Settings, *, dev_suffix: str = "", of_version: bool = False
) -> dict[str, LiveEndpoint]:
    """The endpoints that a revision declares, by id; their local ports are still to be chosen.

    With `of_version`, those of this very version, which outlive it: `…-v3`.
    Raises `ScriptError` where two of them want the same URL.
    """
    planned: dict[str, LiveEndpoint] = {}
    for spec in revision.manifest.functions:
        for web in spec.web:
            if of_version and spec.port is not None:
                continue
            live = _endpoint(revision, spec, web, settings, dev_suffix, of_version)
            if (twin := planned.get(live.endpoint.id)) is not None:
                raise ScriptError(
                    f"`{twin.tag}` and `{web.tag}` have the same URL, {live.url}",
                    where=web.where,
                    hint='give one of them another `label="…"`',
                )
            planned[live.endpoint.id] = live
    return planned


def check_domains(revision: Revision, settings: Settings) -> None:
    """Raise for a custom domain that is one of ours: it would take other apps' URLs."""
    for spec in revision.manifest.functions:
        for web in spec.web:
            for domain in web.custom_domains:
                name = domain.lower().removeprefix("*.")
                for ours in (settings.domain, "localhost"):
                    if name == ours or f".{name}".endswith(f".{ours}"):
                        raise ScriptError(
                            f"the domain `{domain}` is below `{ours}`, where every app has its URLs",
                            where=web.where,
                            hint='`label="…"` chooses the first part of the URL',
                        )


def with_port(live: LiveEndpoint, port: int, settings: Settings) -> LiveEndpoint:
    """The endpoint with a local port of its own."""
    return dataclasses.replace(
        live,
        endpoint=dataclasses.replace(live.endpoint, local_port=port),
        local_url=f"http://{settings.local_host}:{port}",
    )


def _endpoint(
    revision: Revision,
    spec: FunctionSpec,
    web: WebMethod,
    settings: Settings,
    dev_suffix: str,
    of_version: bool,
) -> LiveEndpoint:
    label = web.label or names.default_label(revision.app, web.tag)
    domains = () if of_version else web.custom_domains
    if of_version:
        label += f"-v{revision.version}"
    host = names.host_label(settings.workspace, label, dev_suffix)
    port = "" if settings.http_port == 80 else f":{settings.http_port}"
    return LiveEndpoint(
        tag=web.tag,
        endpoint=Endpoint(
            id=host,
            hosts=(f"{host}.{settings.domain}", *(d.lower() for d in domains)),
            pool=PoolKey(revision.app, spec.name, revision.id),
            method=web.attribute if len(spec.web) > 1 else "",
            protected=web.requires_proxy_auth,
            parameters=tuple(p.name for p in spec.parameters),
            timeout_s=spec.timeout_s,
        ),
        url=f"http://{host}.{settings.domain}{port}",
        truncated=not host.startswith(f"{names.slug(settings.workspace)}--{label}"),
    )


def _hosts(endpoints: dict[str, LiveEndpoint]) -> set[str]:
    return {host for live in endpoints.values() for host in live.endpoint.hosts}


def _where(planned: dict[str, LiveEndpoint], host: str) -> str:
    return next((live.tag for live in planned.values() if host in live.endpoint.hosts), "")
