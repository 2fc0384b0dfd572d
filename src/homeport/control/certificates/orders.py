"""Decides which certificates to order, to renew and to remove now; pure functions of hosts, rows and the clock.

Called by `keeper`, which carries a decision out. The rules:

- A host that is wanted and that no certificate covers gets an order. With DNS-01, all hosts below homeport's
  domain share one wildcard. Otherwise each host has its own certificate, because one host that cannot be reached would
  fail the order of all; only where the CA's weekly limit leaves too few, generated hosts share one.
- A certificate is renewed after two thirds of its lifetime, a little earlier by chance, so that certificates that were
  ordered together are not renewed together.
- A host whose order failed waits: a minute, then twice as long each time, at most 12 hours.
- The limits of the CA are counted here, so that it is never asked for more. Earlier versions and `serve` sessions
  get only a part of them: a deploy of a new app must not wait because of their URLs.
- A certificate that no host needs is kept for a while (`Policy.kept_s`), and not renewed.
- A certificate of another source, such as the CA before, stays until this one has replaced it.
- A time that only a wrong clock can have set is not believed: nothing waits until it, and it counts for no limit.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping

from homeport.contract.hosts import covers
from homeport.control.certificates.hosts import is_wildcard, registered
from homeport.control.certificates.situation import (
    WEEK_S,
    Decision,
    Held,
    Issued,
    Kind,
    Method,
    Order,
    Policy,
    Situation,
    Tried,
)

HOUR_S, DAY_S = 3600.0, 86400.0
FIRST_WAIT_S = 60.0
LONGEST_WAIT_S = 12 * HOUR_S
SPREAD = 0.2  # of a wait: so much longer at most, by chance
LONGEST_ASKED_S = WEEK_S + DAY_S  # no CA asks for a longer pause
AT_ONCE = 4  # orders that run at the same time
RENEWED_AFTER = 2 / 3  # of the lifetime
JITTER = 0.05  # of the lifetime: so much earlier at most


def decide(situation: Situation, policy: Policy) -> Decision:
    """Return what to do now."""
    return _Deciding(situation, policy).decision()


def needed(wanted: Mapping[str, Kind], policy: Policy) -> dict[str, Kind]:
    """Return the names that certificates must have, so that every wanted host is covered.

    >>> needed({"a.b.test": Kind.MAIN, "shop.test": Kind.MAIN}, Policy(domain="b.test", wildcards=True))
    {'shop.test': <Kind.MAIN: 0>, '*.b.test': <Kind.MAIN: 0>, 'b.test': <Kind.MAIN: 0>}
    """
    names: dict[str, Kind] = {}
    star = f"*.{policy.domain}"
    stars = [host for host in wanted if is_wildcard(host)] if policy.wildcards else []
    for host, kind in sorted(wanted.items()):
        if policy.shares and (host == policy.domain or covers([star], host)):
            continue
        if not is_wildcard(host) and covers(stars, host):
            continue
        names[host] = kind
    if policy.shares and any(host == policy.domain or covers([star], host) for host in wanted):
        names[star] = names[policy.domain] = Kind.MAIN
    return names


def method(host: str, policy: Policy) -> Method:
    """Return how a host is validated: by DNS where only DNS can, and below homeport's domain if it is configured."""
    ours = host == policy.domain or host.endswith(f".{policy.domain}")
    return Method.DNS if is_wildcard(host) or (policy.wildcards and ours) else Method.HTTP


def renewed_at(held: Held) -> float:
    """Return when a certificate is renewed: the same time whenever it is asked."""
    lifetime = held.not_after - held.not_before
    digest = hashlib.sha256(f"{held.name} {held.serial}".encode()).digest()
    early = JITTER * int.from_bytes(digest[:4]) / 2**32
    return held.not_before + lifetime * (RENEWED_AFTER - early)


def after_failure(
    before: Tried | None, host: str, now: float, *, validated: bool, not_before: float = 0.0
) -> Tried:
    """Return the record of a host whose order has failed.

    `validated`: the CA has looked for the challenge, and counts the failure. `not_before`: the CA has set a time for
    the next try.
    """
    failures = (before.failures if before else 0) + 1
    wait_s = min(FIRST_WAIT_S * 2.0 ** min(failures - 1, 20), LONGEST_WAIT_S)
    digest = hashlib.sha256(f"{host} {failures}".encode()).digest()
    wait_s *= 1 + SPREAD * int.from_bytes(digest[:4]) / 2**32  # not all hosts at the same moment
    recent = tuple(at for at in (before.failed_at if before else ()) if at > now - HOUR_S)
    return Tried(
        failures=failures,
        failed_at=(*recent, now) if validated else recent,
        next_at=max(now + wait_s, not_before),
        retry_at=not_before,
    )


def believed(at: float, now: float, longest_s: float) -> float:
    """Return a time until which something waits; 0 for one that only a wrong clock can have set.

    >>> believed(150.0, 100.0, 60.0), believed(5000.0, 100.0, 60.0)
    (150.0, 0.0)
    """
    return at if at <= now + longest_s else 0.0


def next_try(tried: Tried, now: float) -> float:
    """Return when a host is ordered again after a failure; 0 for at once."""
    own = believed(tried.next_at, now, LONGEST_WAIT_S * (1 + SPREAD))
    return max(own, believed(tried.retry_at, now, LONGEST_ASKED_S))


def name_of(hosts: Collection[str]) -> str:
    """Return the name of a new certificate: a word for files and commands, the same for the same hosts.

    >>> name_of(["a.test"])
    'host-52dcf5eeb77a59de'
    """
    return "host-" + hashlib.sha256(" ".join(sorted(hosts)).encode()).hexdigest()[:16]


class _Deciding:
    """One decision. An object, because each rule adds to the same lists."""

    def __init__(self, situation: Situation, policy: Policy) -> None:
        self._s = situation
        self._policy = policy
        self._limits = policy.limits
        self._needed = needed(situation.wanted, policy)
        self._look_at: list[float] = []
        self._waiting: dict[str, str] = {}
        self._fresh = {  # registered domain -> times of new certificates
            domain: [i.at for i in situation.issued if _counts(i, domain, situation.now)]
            for domain in {registered(host) for host in self._needed}
        }

    def decision(self) -> Decision:
        orders = self._within_limits([*self._renewals(), *self._missing()])
        useful = {held.name for held in self._s.held if self._is_useful(held)}
        removed, unwanted, again = [], [], []
        for held in self._s.held:
            if held.name in useful:
                if held.unwanted_since is not None:
                    again.append(held.name)
            elif self._is_over(held):
                removed.append(held.name)
            elif held.unwanted_since is None or held.unwanted_since > self._s.now:
                unwanted.append(held.name)
                self._look_at.append(self._s.now + self._policy.kept_s)
            else:
                self._look_at.append(held.unwanted_since + self._policy.kept_s)
        return Decision(
            orders=tuple(orders),
            removed=tuple(removed),
            unwanted=tuple(unwanted),
            wanted_again=tuple(again),
            waiting=self._waiting,
            look_at=min(self._look_at, default=float("inf")),
        )

    def _is_useful(self, held: Held) -> bool:
        """Return whether a wanted host would lose its certificate without this one."""
        if any(host in self._needed for host in held.hosts):
            return True
        other_hosts = [
            h
            for certificate in self._s.held
            if certificate.name != held.name
            for h in certificate.hosts
        ]
        needed_hosts = [host for host in other_hosts if host in self._needed]
        return any(
            covers(held.hosts, host) and not covers(needed_hosts, host) for host in self._s.wanted
        )

    def _is_over(self, held: Held) -> bool:
        """Return whether a certificate that no host needs has been kept long enough."""
        since = self._s.now if held.unwanted_since is None else held.unwanted_since
        return held.name not in self._s.running and self._s.now >= since + self._policy.kept_s

    def _renewals(self) -> Iterator[tuple[Order, Kind]]:
        for held in sorted(self._s.held, key=lambda held: held.not_after):
            hosts = tuple(host for host in held.hosts if host in self._needed)
            if not hosts:
                continue
            # Where this clock is ahead of the CA's, each new certificate seems to be due at once.
            issued = (i.at for i in self._s.issued if set(i.hosts) == set(held.hosts))
            last = max((at for at in issued if at <= self._s.now), default=0.0)
            at = max(renewed_at(held), last + HOUR_S)
            if held.renew_now or held.foreign or self._s.now >= at:
                kind = min(self._needed[host] for host in hosts)
                again = hosts == held.hosts and not held.foreign
                yield Order(name=held.name, hosts=hosts, renewal=again), kind
            else:
                self._look_at.append(at)

    def _missing(self) -> Iterator[tuple[Order, Kind]]:
        have = [
            host
            for held in self._s.held
            for host in held.hosts
            # A certificate that has expired, or is of another source, only serves the hosts with which it is renewed.
            if host in self._needed or not (held.foreign or held.not_after <= self._s.now)
        ]
        lacking = {h: k for h, k in self._needed.items() if not covers(have, h)}
        ours = (self._policy.domain, f"*.{self._policy.domain}")
        if self._policy.shares and any(host in lacking for host in ours):
            for host in ours:
                lacking.pop(host, None)
            yield Order(name=name_of(ours), hosts=ours), Kind.MAIN
        for hosts in self._grouped(lacking):
            if is_wildcard(hosts[0]) and not self._policy.wildcards:
                self._waiting[hosts[0]] = (
                    "a wildcard needs DNS-01: set `dns` (homeport domain --help)"
                )
                continue
            yield Order(name=name_of(hosts), hosts=hosts), min(lacking[host] for host in hosts)

    def _grouped(self, lacking: Mapping[str, Kind]) -> list[tuple[str, ...]]:
        """Return the hosts of each new certificate, the most important ones first."""
        alone = sorted(lacking, key=lambda host: (lacking[host], host))
        ours = [h for h in alone if h.endswith(f".{self._policy.domain}") and self._is_good(h)]
        domain = registered(self._policy.domain)
        left = self._limits.per_domain - len(self._fresh.get(domain, ()))
        if len(ours) <= max(1, left // 2):
            return [(host,) for host in alone]
        groups = []
        for kind in Kind:  # a group of hosts of equal importance
            same = [host for host in ours if lacking[host] is kind]
            size = self._limits.names
            groups += [tuple(same[at : at + size]) for at in range(0, len(same), size)]
        return groups + [(host,) for host in alone if host not in ours]

    def _is_good(self, host: str) -> bool:
        """Return whether no order for this host has failed lately: it may share a certificate."""
        tried = self._s.tried.get(host)
        return tried is None or not tried.failures

    def _last_wait(self, order: Order) -> float:
        """Return how long the hosts of an order had to wait after a failure; 0 if none has failed."""
        tried = self._s.tried
        hosts = [host for host in order.hosts if host in tried]
        return max((next_try(tried[host], self._s.now) for host in hosts), default=0.0)

    def _within_limits(self, candidates: list[tuple[Order, Kind]]) -> Iterator[Order]:
        free = AT_ONCE - len(self._s.running)
        # A certificate that runs out comes before a new URL of an old version. What failed last comes last, so
        # that the same few hosts are not the only ones that are tried after each pause.
        for order, kind in sorted(
            candidates, key=lambda candidate: (candidate[1], self._last_wait(candidate[0]))
        ):
            if order.name in self._s.running:
                continue
            wait_until, why = self._waits(order, kind)
            if wait_until > self._s.now:
                self._look_at.append(wait_until)
                self._waiting.update(dict.fromkeys(order.hosts, why))
            elif free <= 0:
                self._waiting.update(dict.fromkeys(order.hosts, "other orders come first"))
            else:
                free -= 1
                if not order.renewal:
                    for domain in {registered(host) for host in order.hosts}:
                        self._fresh[domain].append(self._s.now)
                yield order

    def _waits(self, order: Order, kind: Kind) -> tuple[float, str]:
        """Return until when an order must wait, and why; a time in the past if it need not."""
        now = self._s.now
        reasons = [
            (believed(self._s.paused_until, now, HOUR_S), "the last order failed for all hosts"),
            (
                believed(self._s.asked_until, now, LONGEST_ASKED_S),
                "the certification authority asked to wait",
            ),
        ]
        for host in order.hosts:
            if (tried := self._s.tried.get(host)) is not None:
                reasons.append((next_try(tried, now), "its last order failed"))
                recent = [at for at in tried.failed_at if now - HOUR_S < at <= now]
                if len(recent) >= self._limits.failures:
                    at = recent[-self._limits.failures] + HOUR_S
                    reasons.append((at, f"{len(recent)} validations failed in an hour"))
        same = sorted(
            i.at
            for i in self._s.issued
            if set(i.hosts) == set(order.hosts) and now - WEEK_S < i.at <= now
        )
        if len(same) >= self._limits.per_set:
            at = same[-self._limits.per_set] + WEEK_S
            reasons.append((at, f"{len(same)} certificates for it were issued in a week"))
        if not order.renewal:
            for domain in {registered(host) for host in order.hosts}:
                fresh = sorted(self._fresh[domain])
                allowed = max(1, self._share(kind))
                if len(fresh) >= allowed:
                    at = fresh[-allowed] + WEEK_S
                    reasons.append(
                        (at, f"`{domain}` has got {len(fresh)} new certificates in a week")
                    )
        return max(reasons)

    def _share(self, kind: Kind) -> int:
        """Return how many new certificates of a domain hosts of this kind may use up."""
        parts = {Kind.MAIN: 1.0, Kind.SESSION: 0.7, Kind.VERSION: 0.4}
        return int(self._limits.per_domain * parts[kind])


def _counts(issued: Issued, domain: str, now: float) -> bool:
    here = any(registered(host) == domain for host in issued.hosts)
    return here and not issued.renewal and now - WEEK_S < issued.at <= now
