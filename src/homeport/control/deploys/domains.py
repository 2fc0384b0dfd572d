"""Custom domains: those that scripts declare, and those that `homeport domain add` attaches to a deployed app.

An attached domain is one more host of the endpoint. `Plans` adds it to every plan of the app's current revision, so it
stays over redeploys, rollbacks and restarts.
"""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable

from homeport.contract import hosts, methods
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.scope import Scope
from homeport.control.certificates.resolving import Pointing, Resolver
from homeport.control.deploys.apps import LiveApp, domain_taken, shared
from homeport.control.deploys.deployer import Deployer
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.plans import LiveEndpoint
from homeport.control.fleet.owner import Owner
from homeport.state.domains import DomainRow
from homeport.state.scope import columns
from homeport.undo import Undo

Step = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A custom domain of an endpoint."""

    domain: str
    url: str
    app: str
    tag: str
    by_command: bool
    dns: str  # `here`, `missing`, `elsewhere`, `unknown`
    problem: str
    certificate: str


class Domains:
    """Changes and lists custom domains."""

    def __init__(
        self,
        parts: Parts,
        deployer: Deployer,
        resolver: Resolver,
        *,
        certificate: Callable[[str], str] = lambda _host: "",
    ) -> None:
        """`certificate` returns the state of a host's certificate; nothing without HTTPS."""
        self._rows = parts.domains
        self._live = parts.live
        self._plans = parts.plans
        self._endpoints = parts.endpoints
        self._settings = parts.settings
        self._deployer = deployer
        self._resolver = resolver
        self._certificate = certificate

    async def all(self, scope: Scope) -> list[Attached]:
        """Return all custom domains of an environment's live apps, and the attached ones of its others."""
        owners: dict[str, tuple[str, str]] = {}
        for app in self._live.of(scope):
            for live in app.endpoints.values():
                for host in live.endpoint.hosts[1:]:
                    owners[host] = (app.name, live.tag)
        for row in self._rows.all():
            if row.scope == scope:
                owners.setdefault(row.domain, (row.app, row.tag))
        lookups = [
            self._attached(host, Owner.app(scope, app), tag)
            for host, (app, tag) in sorted(owners.items())
        ]
        return await asyncio.gather(*lookups)

    async def add(self, domain: str, owner: Owner, tag: str) -> Attached:
        """Attach a domain to a deployed app; `LabelTaken` names the app that has it."""
        domain = _canonical(domain)
        self._plans.check_domain(domain)
        app = self._live.get(owner)
        if app is None:
            raise NotFound(f"the app `{owner.name}` is not deployed", hint="deploy it first")
        tag = endpoint_of(app, tag).tag
        if not self._has(owner, tag, domain):
            new = DomainRow(
                domain=domain,
                **columns(owner.scope),
                app=owner.name,
                tag=tag,
                created_at=time.time(),
            )
            await self._deployer.in_turn("domain", owner, self._added(owner, new))
        return await self._attached(domain, owner, tag)

    async def remove(self, scope: Scope, domain: str) -> None:
        """Detach a domain of an environment; `BadRequest` for one that a script declares."""
        domain = _canonical(domain)
        row = self._rows.get(domain)
        if row is None or row.scope != scope:
            if any(
                domain in live.endpoint.hosts[1:]
                for app in self._live.of(scope)
                for live in app.endpoints.values()
            ):
                raise BadRequest(
                    f"the script declares the domain `{domain}`",
                    hint="remove it from `custom_domains=` there, and deploy again",
                )
            raise NotFound(f"there is no domain `{domain}`")
        owner = Owner.app(scope, row.app)
        await self._deployer.in_turn("domain", owner, self._removed(owner, row))

    def _has(self, owner: Owner, tag: str, domain: str) -> bool:
        """Return whether the endpoint has the domain; `LabelTaken` if another one has it, or some of its hosts."""
        for other in (*self._live.all(), *self._live.claims.values()):
            for endpoint in other.endpoints.values():
                if domain in endpoint.endpoint.hosts:
                    if (other.owner, endpoint.tag) == (owner, tag):
                        return True
                    raise domain_taken(domain, owner.scope, other.scope, other.name, endpoint.tag)
        if (row := self._rows.get(domain)) is not None:
            raise domain_taken(domain, owner.scope, row.scope, row.app, row.tag)
        theirs = self._live.hosts_of_others(owner.scope.workspace, self._rows.all())
        if hosts.overlaps(domain, theirs):
            raise shared(domain)
        return False

    async def _added(self, owner: Owner, new: DomainRow) -> None:
        # Another app may have got the domain while this change waited for its turn.
        if not self._has(owner, new.tag, new.domain):
            await self._changed(
                owner,
                save=lambda: self._rows.add(new),
                unsave=lambda: self._rows.remove(new.domain),
            )

    async def _removed(self, owner: Owner, row: DomainRow) -> None:
        # It may have been removed, and given to another app, while this change waited for its turn.
        if self._rows.get(row.domain) != row:
            raise NotFound(f"there is no domain `{row.domain}`")
        await self._changed(
            owner,
            save=lambda: self._rows.remove(row.domain),
            unsave=lambda: self._rows.add(row),
        )

    async def _changed(self, owner: Owner, save: Step, unsave: Step) -> None:
        """Save a change of an app's domains, and route its endpoints by it; both or none."""
        app = self._live.get(owner)
        async with Undo(f"changing the domains of {owner}") as undo:
            if app is not None:
                undo.push(self._plans.forget, app.revision.id)
            undo.push(unsave)
            await save()
            if app is None:
                return
            self._plans.forget(app.revision.id)
            planned = self._plans.of(app.revision, owner.session_id).endpoints
            for endpoint, live in [*app.endpoints.items()]:
                hosts_now = planned[endpoint].endpoint.hosts
                if hosts_now == live.endpoint.hosts:
                    continue
                fresh = dataclasses.replace(live.endpoint, hosts=hosts_now)
                undo.push(app.endpoints.__setitem__, endpoint, live)
                app.endpoints[endpoint] = dataclasses.replace(live, endpoint=fresh)
                await self._endpoints.route(undo, owner, fresh)

    async def _attached(self, domain: str, owner: Owner, tag: str) -> Attached:
        pointing = await self._resolver.pointing(domain)
        state, problem = verdict(domain, pointing)
        row = self._rows.get(domain)
        return Attached(
            domain=domain,
            url=self._settings.url(domain),
            app=owner.name,
            tag=tag,
            by_command=row is not None
            and (row.scope, row.app, row.tag) == (owner.scope, owner.name, tag),
            dns=state,
            problem=problem,
            certificate=self._certificate(domain),
        )


def verdict(domain: str, pointing: Pointing) -> tuple[str, str]:
    """Return whether a domain's DNS leads here, and what the user has to change; empty if nothing.

    >>> verdict("a.test", Pointing(addresses=("192.0.2.9",), expected=("192.0.2.1",)))[1]
    '`a.test` leads to 192.0.2.9: this server is 192.0.2.1, so it must be behind a proxy, or the record needs a change'
    """
    if pointing.addresses is None:
        return "unknown", f"DNS does not answer for `{domain}`"
    if not pointing.addresses:
        address = pointing.expected[0] if pointing.expected else "<this server's address>"
        kind = "AAAA" if ":" in address else "A"
        return "missing", f"`{domain}` has no DNS record yet: add `{domain}. {kind} {address}`"
    if pointing.is_here:
        return "here", ""
    addresses = ", ".join(pointing.addresses)
    if not pointing.expected:
        return "unknown", (
            f"`{domain}` leads to {addresses}, and this server knows no public address of its own (NAT): "
            "set `public_addresses` to have it checked"
        )
    return "elsewhere", (
        f"`{domain}` leads to {addresses}: this server is {', '.join(pointing.expected)}, so it must be behind a "
        "proxy, or the record needs a change"
    )


def _canonical(domain: str) -> str:
    try:
        return methods.domain(domain)
    except ValueError:
        raise BadRequest(
            f"`{domain[:300]}` is not a domain",
            hint="a domain such as `shop.example.com` or `*.example.com` is needed",
        ) from None


def endpoint_of(app: LiveApp, tag: str) -> LiveEndpoint:
    """Return the app's endpoint of that tag, or its only one."""
    endpoints = [live for live in app.endpoints.values() if live.url]
    if tag:
        endpoints = [live for live in endpoints if live.tag == tag]
    tags = ", ".join(f"`{live.tag}`" for live in app.endpoints.values() if live.url)
    if not endpoints:
        raise NotFound(
            f"the app `{app.name}` has no URL {f'`{tag}`' if tag else ''}".rstrip(),
            hint=f"it has {tags}" if tags else "",
        )
    if len(endpoints) > 1:
        raise BadRequest(
            f"the app `{app.name}` has several URLs",
            hint=f"name one of {tags}: `{app.name}.{endpoints[0].tag}`",
        )
    return endpoints[0]
