"""Orders one certificate: account, order, challenges, finalization, download; each step can be done again.

    client = Client(directory_url, email, home / "acme", bundle="")
    pem = await client.issue(name, hosts, solver)

An order that runs is a folder `orders/<name>` in the client's folder, with the key of the certificate and the order's
URL. After a kill at any point the next `issue` of that name finds the order at the CA and continues from its state, so a
crash costs no second order. Requests run in a thread; what waits is on the event loop.
"""

import asyncio
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import requests
from acme import challenges, errors, messages
from acme.client import ClientV2
from cryptography.hazmat.primitives import serialization
from josepy.errors import Error as JoseError
from josepy.jwk import JWKEC

from homeport import private
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Failure
from homeport.control.certificates.acme import keys
from homeport.control.certificates.acme.network import Network, retry_at
from homeport.control.certificates.problems import EVERYWHERE, HINTS, OrderFailed, shown
from homeport.control.certificates.threads import apart

FIRST_POLL_S, LONGEST_POLL_S = 0.05, 5.0
ORDER_S = 300.0  # a whole order; a CA takes seconds
ORDER_KEPT_S = 24 * 3600.0  # how long an order can be gone on with
MAX_PEM_BYTES = 256 * 1024

T = TypeVar("T")
log = logging.getLogger(__name__)


class Solver(Protocol):
    """Answers challenges."""

    def kind(self, host: str) -> str:
        """Return `http-01` or `dns-01` for a host."""

    async def present(self, host: str, token: str, answer: str) -> None:
        """Let the CA find `answer`; return when it can. `host` has no `*.`; `token` is empty for DNS."""

    async def remove(self, host: str, token: str, answer: str) -> None:
        """Forget the answer; also one that was not presented."""


@dataclass(frozen=True, slots=True)
class _Challenge:
    host: str
    token: str
    answer: str


class Client:
    """One account at one CA."""

    def __init__(
        self, directory: str, email: str, folder: Path, *, bundle: str = "", agent: str = "homeport"
    ) -> None:
        self._directory = directory
        self._email = email
        self._folder = folder
        digest = hashlib.sha256(directory.encode()).hexdigest()[:16]
        self._account_file = folder / f"account-{digest}.pem"
        self._orders = folder / "orders"
        self._bundle = bundle
        self._agent = agent
        self._opening: asyncio.Task[ClientV2] | None = None
        self._jwk: JWKEC | None = None

    async def issue(self, name: str, hosts: tuple[str, ...], solver: Solver) -> bytes:
        """Return a new certificate's key and chain in PEM; `OrderFailed` says what to do.

        Until `forget`, the same certificate is returned again for a day: the CA counts each.
        """
        try:
            async with asyncio.timeout(ORDER_S):
                return await self._issue(name, hosts, solver)
        except TimeoutError:
            raise OrderFailed(
                f"{_place(self._directory)} has not ended the order in {ORDER_S:.0f} s",
                hint="homeport continues with it by itself",
            ) from None
        except (requests.RequestException, errors.Error, JoseError, ValueError) as error:
            if isinstance(error, messages.Error) and error.code == "accountDoesNotExist":
                # The CA has a new database: the next order makes an account there.
                self._opening = None
            raise _as_failure(error, self._directory) from None
        except OSError as error:
            raise OrderFailed(f"{error.filename or self._folder}: {error.strerror}") from None

    def forget(self, name: str) -> None:
        """Delete what is kept of an order; the next `issue` makes another."""
        shutil.rmtree(self._orders / name, ignore_errors=True)

    async def _issue(self, name: str, hosts: tuple[str, ...], solver: Solver) -> bytes:
        client = await self._opened()
        key = await asyncio.to_thread(keys.load_or_make, self._orders / name / "key.pem")
        order = await self._resumed(client, name, hosts)
        if order is None:
            order = await apart(client.new_order, keys.request(key, hosts))
            await asyncio.to_thread(self._remember, name, hosts, order)
        order = order.update(csr_pem=keys.request(key, hosts))
        if order.body.status == messages.STATUS_PENDING:
            await self._validate(client, name, order, solver)
        order = await self._finalized(client, order)
        return key + await apart(_download, client, order.body.certificate)

    async def _opened(self) -> ClientV2:
        """Return the client with its account; after a failure the next caller tries again."""
        if self._opening is None or (self._opening.done() and _failed(self._opening)):
            self._opening = asyncio.create_task(apart(self._open))
        return await asyncio.shield(self._opening)

    def _open(self) -> ClientV2:
        key = serialization.load_pem_private_key(keys.load_or_make(self._account_file), None)
        self._jwk = JWKEC(key=key)
        network = Network(self._jwk, bundle=self._bundle, agent=self._agent)
        client = ClientV2(ClientV2.get_directory(self._directory, network), network)
        # The user has agreed to the terms by setting `email`, as the documentation of the setting says.
        registration = messages.NewRegistration.from_data(
            email=self._email, terms_of_service_agreed=True
        )
        try:
            client.new_account(registration)
        except errors.ConflictError as existing:
            # The key has an account: its URL is all that is needed.
            network.account = messages.RegistrationResource(
                body=messages.Registration(), uri=existing.location
            )
        return client

    async def _resumed(
        self, client: ClientV2, name: str, hosts: tuple[str, ...]
    ) -> messages.OrderResource | None:
        """Return the order that a server before this one has begun, if the CA still knows it."""
        try:
            path = self._order_file(name)
            if abs(time.time() - path.stat().st_mtime) > ORDER_KEPT_S:
                return None  # what it would give is of no use any more
            saved = json.loads(await asyncio.to_thread(path.read_bytes))
            if saved["directory"] != self._directory or tuple(saved["hosts"]) != hosts:
                return None
            order = await apart(_order, client, saved["url"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        except errors.Error as error:
            log.info("the order for %s is not known any more: %s", hosts[0], shown(error))
            return None
        if order.body.status in (messages.STATUS_INVALID, messages.STATUS_DEACTIVATED):
            return None
        log.info("continuing with the order for %s, which is %s", hosts[0], order.body.status.name)
        return order

    def _remember(self, name: str, hosts: tuple[str, ...], order: messages.OrderResource) -> None:
        saved = {"directory": self._directory, "hosts": hosts, "url": order.uri}
        private.write(self._order_file(name), json.dumps(saved).encode())

    def _order_file(self, name: str) -> Path:
        return self._orders / name / "order.json"

    async def _validate(
        self, client: ClientV2, name: str, order: messages.OrderResource, solver: Solver
    ) -> None:
        """Answer the challenges of all hosts at once, and remove the answers in every case."""
        presented: list[_Challenge] = []
        try:
            pending = [a for a in order.authorizations if a.body.status == messages.STATUS_PENDING]
            chosen = [(a, *self._challenge(a, solver)) for a in pending]
            presented += [challenge for _, _, challenge in chosen]
            await _all(solver.present(c.host, c.token, c.answer) for c in presented)
            for _, body, _ in chosen:
                if body.status == messages.STATUS_PENDING:
                    await apart(client.answer_challenge, body, body.chall.response(self._jwk))
            await _all(self._validated(client, authorization) for authorization in pending)
        except OrderFailed:
            self.forget(name)  # the CA has given the order up
            raise
        finally:
            for c in presented:
                try:
                    await solver.remove(c.host, c.token, c.answer)
                except (Failure, OrderFailed) as error:
                    log.warning("%s: a challenge's answer stays: %s", c.host, error.message)

    def _challenge(
        self, authorization: messages.AuthorizationResource, solver: Solver
    ) -> tuple[messages.ChallengeBody, _Challenge]:
        host = authorization.body.identifier.value
        kind = solver.kind(f"*.{host}" if authorization.body.wildcard else host)
        for body in authorization.body.challenges:
            if body.chall.typ != kind:
                continue
            answer = body.chall.validation(self._jwk)
            token = body.chall.encode("token") if isinstance(body.chall, challenges.HTTP01) else ""
            return body, _Challenge(host, token, answer)
        raise OrderFailed(
            f"the certification authority offers no {kind} for {shown(host)}",
            hint="set `dns`, so that DNS-01 can be used" if kind == "http-01" else "",
        )

    async def _validated(
        self, client: ClientV2, authorization: messages.AuthorizationResource
    ) -> None:
        def ask() -> tuple[messages.Authorization, requests.Response]:
            updated, response = client.poll(authorization)
            return updated.body, response

        body = await _polled(ask, lambda body: body.status != messages.STATUS_PENDING)
        if body.status == messages.STATUS_VALID:
            return
        host = ("*." if body.wildcard else "") + body.identifier.value
        problem = next((c.error for c in body.challenges if c.error is not None), None)
        if problem is None:
            raise OrderFailed(f"{host}: the validation is {body.status.name}", hosts=(host,))
        raise _problem(problem, f"{host}: ", (host,), validated=True)

    async def _finalized(
        self, client: ClientV2, order: messages.OrderResource
    ) -> messages.OrderResource:
        """Send the certificate's key to the CA, and wait until there is a certificate."""
        running = (messages.STATUS_PENDING, messages.STATUS_PROCESSING)

        def ask() -> tuple[messages.OrderResource, requests.Response]:
            response = _post_as_get(client, order.uri)
            body = messages.Order.from_json(response.json())
            if body.status == messages.STATUS_READY:
                sent = client.begin_finalization(order.update(body=body))
                body = sent.body
            return order.update(body=body), response

        order = await _polled(ask, lambda order: order.body.status not in running)
        if order.body.status == messages.STATUS_VALID:
            return order
        if order.body.error is not None:
            raise _problem(order.body.error, "")
        raise OrderFailed(f"the order is {order.body.status.name}")


async def _polled(
    ask: Callable[[], tuple[T, requests.Response]], is_done: Callable[[T], bool]
) -> T:
    """Ask until it is done: at once, then with longer pauses, never sooner than `Retry-After` says."""
    wait_s = FIRST_POLL_S
    while True:
        value, response = await apart(ask)
        if is_done(value):
            return value
        asked_to = retry_at(response) - time.time()
        await asyncio.sleep(max(wait_s, asked_to))
        wait_s = min(wait_s * 1.5, LONGEST_POLL_S)


def _order(client: ClientV2, url: str) -> messages.OrderResource:
    body = messages.Order.from_json(_post_as_get(client, url).json())
    authorizations = []
    for url_of_authorization in body.authorizations:
        response = _post_as_get(client, url_of_authorization)
        authorization = messages.Authorization.from_json(response.json())
        authorizations.append(
            messages.AuthorizationResource(body=authorization, uri=url_of_authorization)
        )
    return messages.OrderResource(body=body, uri=url, authorizations=authorizations)


def _download(client: ClientV2, url: str) -> bytes:
    text = _post_as_get(client, url).content
    if len(text) > MAX_PEM_BYTES or not text.startswith(b"-----BEGIN CERTIFICATE-----"):
        raise OrderFailed("what the certification authority sent is not a certificate")
    return bytes(text)


def _post_as_get(client: ClientV2, url: str) -> requests.Response:
    return client.net.post(url, None, new_nonce_url=client.directory["newNonce"])


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Await all; raise the first error after all have ended, so that none of them still runs."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _failed(task: "asyncio.Task[Any]") -> bool:
    return task.cancelled() or task.exception() is not None


def _as_failure(error: Exception, directory: str) -> OrderFailed:
    if isinstance(error, messages.Error):
        return _problem(error, "")
    if isinstance(error, requests.exceptions.SSLError):
        return OrderFailed(
            f"the certificate of {_place(directory)} is not trusted: {shown(error)}",
            hint="`acme_ca` names the file with the certificates of a private CA",
            everywhere=True,
        )
    if isinstance(error, requests.RequestException):
        return OrderFailed(
            f"{_place(directory)} does not answer: {shown(error)}",
            hint="homeport tries again by itself; let the server reach the internet",
            everywhere=True,
        )
    retry = float(error.__dict__.get("retry_at", 0.0))
    return OrderFailed(
        f"{_place(directory)} gave an answer that homeport does not understand: {shown(error) or type(error).__name__}",
        hint="is `acme_directory` the URL of an ACME directory?",
        retry_at=retry,
        everywhere=True,
    )


def _problem(
    problem: messages.Error, prefix: str, hosts: tuple[str, ...] = (), *, validated: bool = False
) -> OrderFailed:
    """Return an ACME problem as a sentence and what to do."""
    code = problem.code or ""
    own = [sub for sub in problem.subproblems or () if sub.identifier is not None]
    if own and not hosts:  # of several hosts, these are wrong
        hosts = tuple(sub.identifier.value for sub in own if sub.identifier is not None)
    detail = shown(own[0].detail if own and own[0].detail else problem.detail or problem.typ)
    status = int(problem.__dict__.get("status", 0) or 0)
    return OrderFailed(
        f"{prefix}{detail} ({code or 'no kind'})",
        hint=HINTS.get(code, ""),
        hosts=hosts,
        validated=validated,
        retry_at=float(problem.__dict__.get("retry_at", 0.0)),
        everywhere=not hosts and (code in EVERYWHERE or status >= 500),
    )


def _place(directory: str) -> str:
    return directory.split("/")[2] if directory.count("/") > 1 else directory
