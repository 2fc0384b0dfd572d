"""Custom domains of endpoints."""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A custom domain, and whether it leads to this server."""

    domain: str
    url: str
    app: str
    tag: str  # of the endpoint: a function, or `Class.method`
    attached: bool  # by `homeport domain add`; otherwise the script declares it
    dns: str  # `here`, `missing`, `elsewhere` or `unknown`
    problem: str = ""  # what DNS says, and which record is needed; empty: nothing is to be done
    certificate: str = ""  # its state (`Certificate.state`); empty: there is no HTTPS


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainList:
    """Every custom domain, by name."""

    domains: tuple[Domain, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDomain:
    """A domain to attach to an endpoint of a deployed app."""

    domain: str
    app: str
    tag: str = ""  # empty: the app has one URL
