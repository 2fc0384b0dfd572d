"""The objects that a deploy acts on. `main` makes one `Parts`; the modules that deploy or describe deploys take from it."""

from homeport.contract.dataclass import dataclass
from homeport.contract.roles import Ingress
from homeport.control.deploys.apps import Live
from homeport.control.deploys.endpoints import Endpoints
from homeport.control.deploys.plans import Plans
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.pools import Pools
from homeport.control.fleet.reconciler import Reconciler
from homeport.settings import Settings
from homeport.state.blobs import Blobs
from homeport.state.domains import Domains
from homeport.state.environments import Environments
from homeport.state.scope import Scoped
from homeport.state.secrets import SecretBox
from homeport.state.store import Stores
from homeport.state.volumes import Volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The state, the fleet, and what serves on it."""

    settings: Settings
    store: Stores
    environments: Environments
    secrets: Scoped[SecretBox]
    volumes: Scoped[Volumes]
    domains: Domains  # those that were attached to endpoints
    blobs: Blobs
    pools: Pools
    nodes: Nodes
    ingress: Ingress
    reconciler: Reconciler
    live: Live  # the apps that serve
    plans: Plans  # which endpoints a revision declares
    endpoints: Endpoints  # which owner has which endpoint
