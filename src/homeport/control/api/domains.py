"""The routes of custom domains."""

from homeport.contract.api.domains import Domain, DomainList, NewDomain
from homeport.contract.scope import Scope
from homeport.control.api.routing import route
from homeport.control.deploys.domains import Attached, Domains
from homeport.control.fleet.owner import Owner


class CustomDomains:
    """Attaches domains to endpoints, and checks where they lead."""

    def __init__(self, domains: Domains) -> None:
        self._domains = domains

    @route("GET", "/v1/domains")
    async def every(self, scope: Scope) -> DomainList:
        """List all custom domains of live apps, and the attached ones of others; each is looked up in DNS."""
        return DomainList(
            domains=tuple(_shown(domain) for domain in await self._domains.all(scope))
        )

    @route("POST", "/v1/domains", action="domain add")
    async def add(self, scope: Scope, body: NewDomain) -> Domain:
        """Attach a domain to an endpoint of a deployed app. It stays over redeploys."""
        return _shown(await self._domains.add(body.domain, Owner.app(scope, body.app), body.tag))

    @route("DELETE", "/v1/domains/{domain}", action="domain remove")
    async def remove(self, scope: Scope, domain: str) -> None:
        """Detach a domain that was attached."""
        await self._domains.remove(scope, domain)


def _shown(attached: Attached) -> Domain:
    return Domain(
        domain=attached.domain,
        url=attached.url,
        app=attached.app,
        tag=attached.tag,
        attached=attached.by_command,
        dns=attached.dns,
        problem=attached.problem,
        certificate=attached.certificate,
    )
