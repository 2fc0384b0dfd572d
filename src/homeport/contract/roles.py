"""The roles `Node` and `Ingress`: the methods by which the control plane uses the other parts.

`FakeNode` and `FakeIngress` in the tests implement them too; `tests/roles` runs one suite against each
fake and against the real implementation.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from homeport.contract.capacity import Usage
from homeport.contract.container import LogLine, StartOrder
from homeport.contract.image import Environment, Image
from homeport.contract.listing import Change, Listing, Mark
from homeport.contract.programs import Order, Program
from homeport.contract.rates import Rate
from homeport.contract.supplies import Supplies
from homeport.contract.traffic import (
    Detached,
    Endpoint,
    Load,
    Pass,
    Peer,
    PoolKey,
    RequestRecord,
    Split,
)


class Node(Protocol):
    """Starts and stops containers on one machine, which may be another one.

    Only data of `contract` crosses, so that a connection can carry every call. Each method may raise `NodeLost`:
    then the node may have done what it was asked for, or not. `start`, `stop`, `confirm_held` and `forget`
    wait for no answer: they return as soon as the node has been told. Calls take effect in their order.
    """

    @property
    def name(self) -> str:
        """The node's name; no two nodes have the same."""

    def watch(self, changed: Callable[[Change], None], on_line: Callable[[LogLine], None]) -> None:
        """Call `changed` on every change of a container's state and `on_line` for every log line.

        Changes are told in the order of their numbers. Some may be lost with a connection. Both are called
        on the event loop and must not block. Called once, before anything else.
        """

    async def mark(self) -> Mark:
        """Return the mark of the last change: cheap enough to ask every second."""

    async def lives(self) -> bool:
        """Return whether the node's machine answers, though its agent may not; within a second.

        If it does, the node's containers answer requests all the same. Never raises `NodeLost`.
        """

    async def list(self) -> Listing:
        """Return every container that is not gone, and the machine's resources."""

    async def usage(self) -> Mapping[str, Usage]:
        """Return what each container uses, by its id. One without a process is left out.

        Cheap enough to ask every 15 seconds: some milliseconds.
        """

    async def start(self, order: StartOrder, environ: Mapping[str, str]) -> None:
        """Begin to start a container; its states are reported to `changed`, from STARTING on.

        `environ` holds the function's secrets, and never appears in a log or on disk. An order of an earlier
        generation than the node's fails.
        """

    async def stop(self, container: str, *, grace_s: float | None = None) -> None:
        """Send SIGTERM, and SIGKILL after `grace_s` (default: the order's); unknown ids are ignored."""

    async def execute(self, container: str, order: Order, environ: Mapping[str, str]) -> Program:
        """Run a program of the user's in a container; `environ` holds the function's secrets, as for `start`.

        It has no more rights than the container, and ends with it. `NotFound` for an unknown id, `StartError` for a
        container that is not ready.
        """

    async def fence(self, generation: int) -> None:
        """Stop every container that was ordered in an earlier generation, and accept no such order any more.

        Called when a node answers again that had been given up: its containers have been replaced.
        """

    async def confirm_held(self, container: str, held: int) -> None:
        """Tell a container that the ingress keeps `held` of its slots back from now on.

        The runner finishes a response whose work continues (a background task) only then, so that no
        visitor is sent to a slot that is still taken. Unknown ids are ignored.
        """

    async def forget(self, pool: PoolKey) -> None:
        """Release what was kept for the pool's next container, because none will be started."""

    async def rest(self, unused_s: float) -> None:
        """Release what is kept for next containers and was not used for so long, because no app serves.

        A container may be started all the same; it takes longer.
        """

    async def prepare(
        self, image: Image, source: str, supplies: Supplies, say: Callable[[str], None]
    ) -> None:
        """Build the image's layers; `ImageError` names the step that failed.

        `source` is the revision's source tree, for steps that copy files or run a function. `supplies` never
        appear in a log or on disk. `say` is called with each line of progress.
        """

    async def environments(self) -> Collection[Environment]:
        """Return every image layer that was built on the node."""

    async def build_log(self, key: str) -> str | None:
        """Return the last lines that the build of a layer has told, without secrets; None if it has no such layer."""

    async def prune(self, keep: Collection[Image]) -> Collection[Environment]:
        """Delete the layers that none of these images needs; return the deleted ones."""


class Ingress(Protocol):
    """Sends requests to containers."""

    def watch(self, answered: Callable[[str, float], None]) -> None:
        """Call `answered` once for each container that was attached, after its first answer.

        Its arguments are the container, and the milliseconds from the container's getting the request to the
        first byte of the response. The call may be late, and is missing if the answer was missed. It is
        made on the event loop, and must not block. Call `watch` once, before `open`.
        """

    def keep(
        self, lines: Callable[[Sequence[Sequence[str]]], None], seen: Callable[[], Collection[str]]
    ) -> None:
        """Call `lines` with all requests to endpoints that have ended, as contract/recorded.py has them.

        It is called on the event loop with several at once, about a second after their end. `seen` returns the ids of
        the last requests that an earlier server has kept: they are left out. Call `keep` once, before `start`.
        """

    def hear(self, ended: Callable[[RequestRecord], None] | None) -> None:
        """Call `ended` soon after the end of each request to an endpoint; None: make no calls.

        Under heavy load some requests are left out. The call is made on the event loop, and must not block.
        """

    async def open(self) -> None:
        """Open the ports, those of an earlier server included; `IngressError` or `PortTaken` if that fails.

        Endpoints and containers that are added before `start` are used from `start` on.
        """

    async def start(self) -> None:
        """Start answering; take over from an earlier server's ingress without losing a request."""

    async def close(self) -> None:
        """Stop answering, and delete all files."""

    async def peer(self, node: str, there: Peer | None) -> None:
        """Connect to a machine here from now on; None: forget the machine and its containers at once.

        It must be called before a container of that machine is attached. `IngressError` if that fails.
        """

    async def admit(self, host: str, port: int) -> int:
        """Listen for the containers of other machines from now on: they call functions and reach URLs there.

        Only a machine of `peer` may connect, with its certificate. Returns the port: another one if `port` is taken. `BadRequest` if
        this machine has no such address; `IngressError` if the ingress refuses it.
        """

    async def peer_certificate(self, pem: str) -> None:
        """Show this certificate to other machines from now on; `pem` has its private key too."""

    async def route(self, endpoint: Endpoint) -> None:
        """Send the endpoint's requests to its pool; replace an endpoint with the same id between two requests."""

    async def unroute(self, endpoint_id: str) -> None:
        """Forget the endpoint: its hosts and port get 404. An unknown id is ignored."""

    async def attach(
        self, pool: PoolKey, container: str, address: str, slots: int, *, shared: bool = True
    ) -> None:
        """Send the pool's requests to a container, at most `slots` at a time.

        `address` is `abstract:NAME`, `unix:PATH`, `HOST:PORT`, or `peer:NODE/LABEL` on another machine (see `peer`).
        Without `shared`, each connection to the container carries one request, because a user's program may
        leave a body unread (RFC 9112, 9.3).
        """

    async def hold(self, pool: PoolKey, container: str, held: int) -> None:
        """Keep `held` of a container's slots back: no new request gets them; 0 releases them all.

        Returns when the ingress obeys. If every slot is held, requests that are queued look again.
        An unknown container is ignored.
        """

    async def cut(self, pool: PoolKey, container: str, age_s: float) -> None:
        """End the requests in a container that began longer ago than that.

        The container has ended them too; yet while a visitor does not read, the ingress does not see it.
        """

    async def drain(self, pool: PoolKey, container: str) -> None:
        """Send a container no new request; the requests inside continue."""

    async def lose(self, pool: PoolKey, container: str) -> None:
        """Forget a container that has ended: it gets no request, and requests queued for it are routed again."""

    async def detach(self, pool: PoolKey, container: str) -> Detached | None:
        """Forget a container, and return what it did; None while a connection to it is open: ask again."""

    async def drop(self, pool: PoolKey) -> None:
        """Forget a pool that has no container and no endpoint."""

    async def load(self, pools: Collection[PoolKey]) -> dict[PoolKey, Load]:
        """Return the present load of these pools; unknown pools are left out."""

    async def doze(self, pools: Collection[PoolKey]) -> None:
        """Send the activator `awake <pool>` when the next request to each of these pools begins, once; `IngressError` if it cannot.

        The line names the pool without its class parameters.
        The line may be lost when the ingress restarts. Requests to a pool without containers park as before.
        """

    def quantiles_ms(self, endpoint_id: str) -> tuple[int, int] | None:
        """Return the median and the 99th percentile of an endpoint's requests in the last minutes; None without requests."""

    async def alias(self, key: str, pool: PoolKey) -> None:
        """Send requests whose pool reads `key` (parameters as the visitor wrote them) to `pool`."""

    async def tokens(self, valid: Mapping[str, Pass]) -> None:
        """The proxy tokens that are valid from now on, by id. The ingress itself refuses an expired one, and one that asks too often.

        A token of a realm opens only endpoints of the realm; its id is `<realm>/<id>` here. One of several realms has several entries,
        and one rate.
        """

    async def tokens_used(self) -> dict[str, float]:
        """Return how many seconds ago tokens were last used, by id without realm; tokens that were not used lately are left out."""

    async def rates(self, limits: Mapping[str, Rate]) -> None:
        """The rate limits of endpoints from now on, by `Endpoint.limited`: more requests get 429."""

    async def capture(self, endpoint_id: str, order: str | None) -> None:
        """Tell the containers to capture the requests to an endpoint from now on; None: no more.

        `order` is `<token>.<bytes>`, perhaps with `.<share>`, in letters, digits and a dot (runner/servers/captured.py). It is forgotten with the endpoint, and stays
        when the endpoint is routed again. An unknown endpoint is ignored.
        """

    async def split(self, endpoint_id: str, part: Split | None) -> None:
        """Lead a part of the requests to an endpoint to another endpoint from now on, chosen at random; None: no more.

        A request that the other one's pool has no container for, and gets none, is answered by the endpoint's own pool. The split is forgotten
        with the endpoint, and stays when the endpoint is routed again. An unknown endpoint is ignored.
        """

    async def certificate(self, name: str, pem: bytes, hosts: Collection[str]) -> None:
        """Answer these hosts over TLS with a certificate from now on, and after each restart.

        `pem` has the private key, the certificate and its chain; without `hosts` all its names count. A known name is a renewal: open connections continue.
        A name has letters, digits, `.`, `_` and `-`. `BadRequest` for a PEM that is damaged, or not for one of the hosts;
        `StorageError` on a full disk; `IngressError` if the ingress refuses it. After an error nothing has changed.
        """

    async def remove_certificate(self, name: str) -> None:
        """Forget a certificate and delete its key; an unknown name is ignored."""

    async def challenge(self, token: str, answer: str | None) -> None:
        """Answer `/.well-known/acme-challenge/<token>` on the HTTP port, for every host; None: forget the token.

        `ValueError` for a token or an answer with other characters than RFC 8555 has.
        """

    async def free_port(self) -> int:
        """Return a local port that no endpoint has; it is not returned again unless its endpoint is removed."""
