"""Plans a revision's endpoints once: its URLs and its endpoints for calls, from its manifest and the settings.

Called by `rollout`, `versions` and the API's view. A revision never changes, so its plan is made at the first
call and kept until the revision's files are deleted.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from homeport.contract import calls, hosts, names
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import ScriptError
from homeport.contract.manifest import CallMethod, FunctionSpec, WebMethod
from homeport.contract.scope import Scope
from homeport.contract.traffic import Endpoint, PoolKey
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.settings import Settings
from homeport.state.environments import Environments
from homeport.state.rows import Revision
from homeport.state.tokens import key_of, realm_of

#: Returns the domains that were attached to an endpoint of an app, by its tag.
Attached = Callable[[Scope, str, str], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEndpoint:
    """A URL, or a function's calls, and the endpoint for the ingress.

    The local port of a URL is chosen when the revision is brought up.
    """

    tag: str
    endpoint: Endpoint
    url: str = ""  # empty: it is for calls
    local_url: str = ""
    truncated: bool = False
    stolen: bool = False  # taken from an earlier `serve` session


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The endpoints of one revision, by their ids."""

    endpoints: Mapping[str, LiveEndpoint]  # the app's, while this revision is the current one
    of_version: Mapping[str, LiveEndpoint]  # this version's own, which it keeps later: `…-v3`

    @property
    def urls(self) -> dict[str, str]:
        """Tag -> URL of the app, for containers."""
        return {live.tag: live.url for live in self.endpoints.values() if live.url}


class Plans:
    """The plans that were made so far."""

    def __init__(
        self,
        settings: Settings,
        environments: Environments,
        *,
        own_ports: bool = False,
        attached: Attached = lambda _scope, _app, _tag: (),
    ) -> None:
        """With `own_ports`, versions of a `web_server` have URLs too, because each has its own port.

        Call `forget` when the `attached` domains of an app change.
        """
        self._attached = attached
        self._own_ports = own_ports
        self._settings = settings
        self._environments = environments
        self._plans: dict[str, Plan] = {}  # by the revision's id

    def of(self, revision: Revision, session: str = "") -> Plan:
        """Return a revision's plan; `ScriptError` if two of its endpoints have the same URL.

        The calls of a session's revision are those of the `session`, by its id.
        """
        plan = self._plans.get(revision.id)
        if plan is None:
            key = self._environments.key(revision.scope)
            # First, because an error is to name the URL that the user knows.
            main = self._planned(revision, of_version=False)
            of_version = {} if is_session(revision) else self._planned(revision, of_version=True)
            plan = self._plans[revision.id] = Plan(
                endpoints={**main, **_called(revision, key, session=session)},
                of_version={
                    **of_version,
                    **({} if session else _called(revision, key, version=revision.version)),
                },
            )
        return plan

    def forget_all(self) -> None:
        """Drop all plans: an environment has other URLs now."""
        self._plans.clear()

    def forget(self, revision: str) -> None:
        """Drop a revision's plan, by its id; the next call makes it again."""
        self._plans.pop(revision, None)

    def check_domains(self, revision: Revision) -> None:
        """Raise for a custom domain that would take other apps' URLs, or homeport's own domain."""
        for spec in revision.manifest.functions:
            for web in spec.web:
                for domain in web.custom_domains:
                    self.check_domain(domain, where=web.where)
        self._check_twice(revision)

    def _check_twice(self, revision: Revision) -> None:
        """Raise for a domain of two functions, declared or attached."""
        tag_of_domain: dict[str, str] = {}  # domain -> its endpoint's tag
        for _, web in _methods(revision):
            of_command = (
                ()
                if is_session(revision)
                else self._attached(revision.scope, revision.app, web.tag)
            )
            for domain in dict.fromkeys(map(str.lower, (*web.custom_domains, *of_command))):
                if domain in tag_of_domain:
                    raise ScriptError(
                        f"`{tag_of_domain[domain]}` and `{web.tag}` have the same domain, `{domain}`",
                        where=web.where,
                        hint=f"remove it from one of them; `homeport domain remove {domain}` detaches it if it was "
                        "attached by a command",
                    )
                tag_of_domain[domain] = web.tag

    def check_domain(self, domain: str, *, where: str = "") -> None:
        """Raise for a custom domain below homeport's own domain, and for a wildcard that covers that domain."""
        domain = domain.lower()
        name = domain.removeprefix("*.")
        for ours in (self._settings.domain, "localhost"):
            if domain != ours and hosts.covers([domain], ours):
                raise ScriptError(
                    f"the domain `{domain}` covers `{ours}`, which is homeport's own",
                    where=where,
                    hint="name each domain below it that the app needs",
                )
            if name == ours or f".{name}".endswith(f".{ours}"):
                raise ScriptError(
                    f"the domain `{domain}` is below `{ours}`, where every app has its URLs",
                    where=where,
                    hint='`label="…"` chooses the first part of the URL',
                )

    def with_port(self, live: LiveEndpoint, port: int) -> LiveEndpoint:
        """Return the endpoint with a local port of its own."""
        return dataclasses.replace(
            live,
            endpoint=dataclasses.replace(live.endpoint, local_port=port),
            local_url=f"http://{self._settings.local_host}:{port}",
        )

    def _planned(self, revision: Revision, *, of_version: bool) -> dict[str, LiveEndpoint]:
        planned: dict[str, LiveEndpoint] = {}
        for spec, web in _methods(revision):
            if of_version and spec.ports and not self._own_ports:
                continue  # a port belongs to one version at a time
            live = self._endpoint(revision, spec, web, of_version=of_version)
            if (twin := planned.get(live.endpoint.id)) is not None:
                raise ScriptError(
                    f"`{twin.tag}` and `{web.tag}` have the same URL, {live.url}",
                    where=web.where,
                    hint='give one of them another `label="…"`',
                )
            planned[live.endpoint.id] = live
        return planned

    def _endpoint(
        self, revision: Revision, spec: FunctionSpec, web: WebMethod, *, of_version: bool
    ) -> LiveEndpoint:
        settings = self._settings
        label = web.label or names.default_label(revision.app, web.tag)
        domains: tuple[str, ...] = () if of_version else web.custom_domains
        if not of_version and not is_session(revision):
            domains = (*domains, *self._attached(revision.scope, revision.app, web.tag))
        if of_version:
            label += f"-v{revision.version}"
        suffix = settings.dev_suffix if is_session(revision) else ""
        source = self._environments.source(revision.scope)
        own = key_of(revision.scope, revision.app, web.tag)
        host = names.host_label(source, label, suffix)
        return LiveEndpoint(
            tag=web.tag,
            endpoint=Endpoint(
                id=host,
                hosts=(f"{host}.{settings.domain}", *dict.fromkeys(d.lower() for d in domains)),
                pool=PoolKey(revision.app, spec.name, revision.id),
                tag=web.tag,
                method=web.attribute if spec.has_several else "",
                protected=web.requires_proxy_auth,
                realm=realm_of(revision.scope),
                realms=(key_of(revision.scope, revision.app), own),
                # The URL of an earlier version shares the limit, or it would evade it; a session has no limit.
                limited="" if is_session(revision) else own,
                parameters=tuple(p.name for p in spec.parameters),
                timeout_s=spec.timeout_s,
            ),
            url=settings.url(f"{host}.{settings.domain}"),
            truncated=not host.startswith(f"{source}--{label}"),
        )


def _called(
    revision: Revision, key: str, *, session: str = "", version: int | None = None
) -> dict[str, LiveEndpoint]:
    """Return the endpoints for calls: they have no host and no port, so no visitor can reach them."""
    planned = {}
    for spec in revision.manifest.functions:
        for call in spec.calls:
            own = calls.endpoint_id(revision.app, call.tag, key=key, scope=session, version=version)
            endpoint = _call_endpoint(revision, spec, call, own)
            planned[endpoint.id] = LiveEndpoint(tag=call.tag, endpoint=endpoint)
    return planned


def _call_endpoint(
    revision: Revision, spec: FunctionSpec, call: CallMethod, endpoint_id: str
) -> Endpoint:
    return Endpoint(
        id=endpoint_id,
        hosts=(),
        pool=PoolKey(revision.app, spec.name, revision.id),
        tag=call.tag,
        method=call.attribute if spec.has_several else "",
        parameters=tuple(p.name for p in spec.parameters),
        timeout_s=spec.timeout_s,
        retries=spec.retries.text if spec.retries else "",
    )


def is_session(revision: Revision) -> bool:
    """Whether a `serve` session made the revision, and no deploy."""
    return revision.version == 0


def pools(revision: Revision, plan: Plan, *, owner: Owner, tree: Path) -> list[Pool]:
    """Return a pool for each function of a revision; class parameters make more of them later."""
    return [
        Pool(
            key=PoolKey(revision.app, spec.name, revision.id),
            function=spec,
            source=str(tree),
            owner=owner,
            parameters={p.name: p.default for p in spec.parameters if p.default is not None},
            urls=plan.urls,
            ephemeral=is_session(revision),
        )
        for spec in revision.manifest.functions
    ]


def _methods(revision: Revision) -> Iterator[tuple[FunctionSpec, WebMethod]]:
    for spec in revision.manifest.functions:
        yield from ((spec, web) for web in spec.web)
