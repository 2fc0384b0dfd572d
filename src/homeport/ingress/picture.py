"""The picture: everything that HAProxy must know, in memory: endpoints, pools, their backends, the maps.

Nothing here does I/O. Each method changes the picture; its caller sends the commands to the process.
"""

import dataclasses
import urllib.parse
from collections.abc import Mapping, MutableMapping
from typing import TypeVar

from homeport.contract.errors import NodeLost
from homeport.contract.rates import Rate
from homeport.contract.traffic import Endpoint, Pass, Peer, PoolKey, Split
from homeport.ingress import elsewhere, guards
from homeport.ingress.backends import Backend, Supply
from homeport.ingress.config import SHARED, UNSHARED, Server
from homeport.ingress.guards import NEVER, NO_REALM
from homeport.ingress.maps import Maps, pool_text
from homeport.ingress.runtime import Command
from homeport.undo import Undo

FIRST_BACKENDS = 64
FIRST_UNSHARED = 16
MAX_ALIASES = 4096  # over all pools, because visitors choose how they spell class parameters
TIMEOUT_AFTER_S = 1.0  # HAProxy ends a request this long after the container should have
MAX_TIMEOUT_S = 24 * 24 * 3600.0  # the longest timeout that HAProxy accepts
#: The maps by endpoint id.
OF_ENDPOINT = ("pools", "methods", "guards", "parameters", "timeouts", "retries")

K = TypeVar("K")
V = TypeVar("V")


class Picture:
    """The state with which a new process starts, except its sockets."""

    def __init__(self, maps: Maps) -> None:
        self.maps = maps
        self.endpoints: dict[str, Endpoint] = {}
        self.pools: dict[PoolKey, Backend] = {}
        self.supplies = {
            SHARED: Supply(SHARED, FIRST_BACKENDS),
            UNSHARED: Supply(UNSHARED, FIRST_UNSHARED),
        }
        self.peers: dict[str, Peer] = {}  # the other machines, by name
        self._rates: dict[str, Rate] = {}  # by `Endpoint.limited`
        self._captures: dict[str, str] = {}  # by endpoint
        self._splits: dict[str, Split] = {}  # by endpoint
        self._aliases: dict[str, PoolKey] = {}  # the oldest first
        self._reserved: dict[str, str] = {}  # pool -> its backend in an earlier server

    def load(self) -> None:
        """Start with the maps of an earlier server: its pools keep their backends."""
        self.maps.load()
        self._reserved = dict(self.maps.items("backends"))
        for supply in self.supplies.values():
            supply.leave_out(set(self._reserved.values()))

    def forget_stale(self) -> None:
        """Delete endpoints and pools of an earlier server that this server has not added again."""
        backends_in_use = {pool.backend for pool in self.pools.values() if pool.open}
        for key, backend in self.maps.items("backends"):
            if backend not in backends_in_use:
                self.maps.put("backends", key, None)
        for name in sorted(set(self._reserved.values()) - {p.backend for p in self.pools.values()}):
            self.supplies[name[0]].free.append(name)
        self._reserved.clear()
        self.maps.replace("members", elsewhere.members(self.peers))
        for name in ("hosts", "ports"):
            for key, endpoint in self.maps.items(name):
                if endpoint not in self.endpoints:
                    self.maps.put(name, key, None)
        for name in OF_ENDPOINT:
            for key, _ in self.maps.items(name):
                if key not in self.endpoints:
                    self.maps.put(name, key, None)

    def put_endpoint(self, endpoint: Endpoint, undo: Undo) -> Endpoint | None:
        """Add or replace an endpoint; return the endpoint before."""
        before = self.endpoints.get(endpoint.id)
        undo.push(restore, self.endpoints, endpoint.id, before)
        self.endpoints[endpoint.id] = endpoint
        put, key = self.maps.put, endpoint.id
        timeout_s = min(endpoint.timeout_s + TIMEOUT_AFTER_S, MAX_TIMEOUT_S)
        put("methods", key, self._method(endpoint))
        put("guards", key, self._guard(endpoint))
        put("parameters", key, ",".join(sorted(map(_quoted, endpoint.parameters))) or None)
        put("timeouts", key, f"{max(timeout_s * 1000, 1):.0f}")
        put("retries", key, endpoint.retries or None)
        put("pools", key, pool_text(str(endpoint.pool)))
        for host in endpoint.hosts:
            put("hosts", host, key)
        if endpoint.local_port is not None:
            put("ports", str(endpoint.local_port), key)
        if before is not None:
            for host in set(before.hosts) - set(endpoint.hosts):
                if self.maps.get("hosts", host) == key:  # else it is another endpoint's by now
                    put("hosts", host, None)
            if before.local_port not in (None, endpoint.local_port):
                put("ports", str(before.local_port), None)
        return before

    def remove_endpoint(self, endpoint_id: str, undo: Undo) -> Endpoint | None:
        """Remove an endpoint and return it; None if there was none."""
        endpoint = self.endpoints.pop(endpoint_id, None)
        if endpoint is None:
            return None
        undo.push(restore, self.endpoints, endpoint_id, endpoint)
        undo.push(restore, self._captures, endpoint_id, self._captures.pop(endpoint_id, None))
        undo.push(restore, self._splits, endpoint_id, self._splits.pop(endpoint_id, None))
        for name in ("hosts", "ports"):
            for key, value in self.maps.items(name):
                if value == endpoint_id:
                    self.maps.put(name, key, None)
        for name in OF_ENDPOINT:
            self.maps.put(name, endpoint_id, None)
        return endpoint

    def put_capture(self, endpoint_id: str, order: str | None, undo: Undo) -> None:
        """Set how the requests to an endpoint are captured, for the containers; None: not at all."""
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None:
            return
        undo.push(restore, self._captures, endpoint_id, self._captures.get(endpoint_id))
        restore(self._captures, endpoint_id, order)
        self.maps.put("methods", endpoint_id, self._method(endpoint))

    def put_split(self, endpoint_id: str, split: Split | None, undo: Undo) -> None:
        """Lead a part of the requests to an endpoint to another one; None: no more."""
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None:
            return
        undo.push(restore, self._splits, endpoint_id, self._splits.get(endpoint_id))
        restore(self._splits, endpoint_id, split)
        self.maps.put("guards", endpoint_id, self._guard(endpoint))

    def _method(self, endpoint: Endpoint) -> str | None:
        """Return the entry that tells the container the web method of a request, and how to capture it
        (runner/servers/head.py).
        """
        method, order = _quoted(endpoint.method), self._captures.get(endpoint.id)
        return (f"{method}.{order}" if order else method) or None

    def reclaim(self, pool: PoolKey, kind: str, undo: Undo) -> Backend | None:
        """Add the pool with its backend of an earlier server; None if it had none."""
        text = pool_text(str(pool))
        name = self._reserved.get(text, "")
        if not name.startswith(kind):
            return None
        undo.push(restore, self._reserved, text, self._reserved.pop(text))
        same = {k: None for k, v in self.maps.items("backends") if v == name and k != text}
        for key in same:
            undo.push(restore, self._aliases, key, self._aliases.get(key))
            self._aliases[key] = pool
        return self._add(pool, Backend(name, aliases=same), undo)

    def add_pool(self, pool: PoolKey, kind: str, undo: Undo) -> Backend:
        """Add the pool with a free backend."""
        free = self.supplies[kind].free
        new = Backend(free.pop(0))
        undo.push(free.insert, 0, new.backend)
        return self._add(pool, new, undo)

    def remove_pool(self, pool: PoolKey, undo: Undo) -> None:
        """Remove the pool; its backend goes to the end of the supply."""
        backend = self.pools.pop(pool)
        undo.push(restore, self.pools, pool, backend)
        self.lead_away(pool, backend)
        for key in backend.aliases:
            undo.push(restore, self._aliases, key, self._aliases.pop(key, None))
        free = self.supplies[backend.backend[0]].free
        free.append(backend.backend)
        undo.push(free.remove, backend.backend)

    def server(self, container: str, address: str, slots: int) -> Server:
        """Return the server for a container; `NodeLost` for one of an unknown machine."""
        if (there := elsewhere.parse(address)) is None:
            address = address.replace("unix:", "unix@", 1).replace("abstract:", "abns@", 1)
            return Server(name=container, address=address, slots=slots)
        if (peer := self.peers.get(there.node)) is None:
            raise NodeLost(f"the node `{there.node}` is not connected")
        address = elsewhere.where(peer)
        return Server(name=container, address=address, slots=slots, there=there, peer=peer)

    def put_peer(self, node: str, peer: Peer | None, undo: Undo) -> list[str]:
        """Add, move or remove another machine; return the containers that were removed with it."""
        undo.push(restore, self.peers, node, self.peers.get(node))
        restore(self.peers, node, peer)
        self.maps.replace("members", elsewhere.members(self.peers))
        removed = []
        for key, pool in self.pools.items():
            for name, server in list(pool.servers.items()):
                if server.there is None or server.there.node != node:
                    continue
                undo.push(restore, pool.servers, name, server)
                if peer is None:
                    del pool.servers[name]
                    removed.append(name)
                else:
                    address = elsewhere.where(peer)
                    pool.servers[name] = dataclasses.replace(server, address=address, peer=peer)
            if peer is None and not pool.open:
                self.lead_away(key, pool)
        return removed

    def put_server(self, backend: Backend, server: Server, undo: Undo) -> None:
        """Add or replace a container."""
        undo.push(restore, backend.servers, server.name, backend.servers.get(server.name))
        backend.servers[server.name] = server

    def lead(self, key: PoolKey, pool: Backend) -> None:
        """Send requests to the pool's backend."""
        for spelling in (pool_text(str(key)), *pool.aliases):
            self.maps.put("backends", spelling, pool.backend)

    def lead_away(self, key: PoolKey, pool: Backend) -> None:
        """Let the pool's requests park."""
        for spelling in (pool_text(str(key)), *pool.aliases):
            self.maps.put("backends", spelling, None)

    def add_alias(self, text: str, pool: PoolKey, undo: Undo) -> None:
        """Add another key of a pool; remove the oldest alias if there are too many."""
        key, backend = pool_text(text), self.pools.get(pool)
        if backend is None or key in self._aliases or key == pool_text(str(pool)):
            return
        undo.push(self._forget_alias, key)
        self._aliases[key], backend.aliases[key] = pool, None
        if backend.open:
            self.maps.put("backends", key, backend.backend)
        while len(self._aliases) > MAX_ALIASES:
            self._forget_alias(
                next(iter(self._aliases))
            )  # the next request with this spelling parks

    def put_tokens(self, valid: Mapping[str, Pass]) -> None:
        """Replace the proxy tokens, by their ids."""
        entries = {_token(name): _entry(token) for name, token in valid.items()}
        self.maps.replace("tokens", entries)

    def put_rates(self, rates: Mapping[str, Rate], undo: Undo) -> None:
        """Replace the rate limits of endpoints."""
        undo.push(setattr, self, "_rates", self._rates)
        self._rates = dict(rates)
        for endpoint in self.endpoints.values():
            self.maps.put("guards", endpoint.id, self._guard(endpoint))

    def _guard(self, endpoint: Endpoint) -> str | None:
        """Return the endpoint's entry in the map `guards`; None for an ordinary endpoint, for which there is nothing to do."""
        rate, split = self._rates.get(endpoint.limited), self._splits.get(endpoint.id)
        if not endpoint.protected and rate is None and split is None:
            return None
        realms = (endpoint.realm or NO_REALM, *endpoint.realms)
        realms_in_words = ".".join(realms) if endpoint.protected else "0"
        entry = f"{realms_in_words}:{guards.rate_fields(rate)}:{endpoint.limited or '-'}"
        return entry if split is None else f"{entry}:{split.per_mille}:{split.endpoint}"

    def containers(self) -> list[str]:
        """Return the names of all attached containers."""
        return [name for pool in self.pools.values() for name in pool.servers]

    def first(self) -> list[Command]:
        """Return the commands that a new process gets after its start: its configuration has no states."""
        commands = []
        for pool in self.pools.values():
            for server in pool.servers.values():
                if server.full:
                    commands.append(state(pool, server.name, "maint"))
                elif server.draining and pool.open:
                    commands.append(leave(pool, server.name))
        return commands

    def _add(self, pool: PoolKey, new: Backend, undo: Undo) -> Backend:
        undo.push(restore, self.pools, pool, None)
        self.pools[pool] = new
        return new

    def _forget_alias(self, key: str) -> None:
        pool = self.pools.get(self._aliases.pop(key)) if key in self._aliases else None
        if pool is not None:
            pool.aliases.pop(key, None)
        self.maps.put("backends", key, None)


def restore(entries: MutableMapping[K, V], key: K, value: V | None) -> None:
    """Set a key to its earlier value; None: delete it, because it did not exist."""
    if value is None:
        entries.pop(key, None)
    else:
        entries[key] = value


def state(pool: Backend, server: str, wanted: str) -> Command:
    """Return the command `set server … state …`."""
    return ("set", "server", f"{pool.backend}/{server}", "state", wanted)


def leave(pool: Backend, server: str) -> Command:
    """Return the command by which a server gets no new request, while the pool has another one.

    HAProxy continues to send a session's requests to a server that drains, so the servers of a backend with
    sessions are in maintenance instead.
    """
    return state(pool, server, "maint" if pool.backend.startswith(UNSHARED) else "drain")


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _entry(token: Pass) -> str:
    until = NEVER if token.until is None else f"{token.until:.0f}"
    former = f"{token.former_sha256 or '-'}:{token.former_until:.0f}"
    return f"{token.sha256.lower()}:{until}:{former}:{guards.rate_fields(token.rate)}"


def _token(name: str) -> str:
    """Return a token's key in the map: its realm, as the map `guards` has it, and its id."""
    realm, _, token = name.rpartition("/")
    return f"{realm or NO_REALM}-{token}"
