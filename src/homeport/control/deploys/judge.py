"""Says whether a canary is worse than the version beside it. PURE: functions of counts, failed starts and the clock.

Both versions answer requests of the same endpoints at the same time, and chance alone chose which request went to which.
So two samples are compared for each endpoint that both have:

errors    Of the requests of the new version, do more fail? Fisher's exact test, one-sided (R. A. Fisher, "The Design of
          Experiments", 1935): the probability that chance alone gives the new version that many of the failed requests.
latency   Do more take longer than a bound, half as long again as the 95th percentile of the old version? The quantile
          test (Johnson, Verrill and Moore, Biometrics 43, 1987): the same test, where "failed" is "slower than the bound".

The samples are looked at again and again as they grow, and each look could be wrong by chance. So there is a look only
when the new version's sample has grown by a quarter, and look number k may be wrong with a probability of ALPHA / (k (k + 1)),
which is ALPHA for all looks together, however long it continues (the union bound; 1/2 + 1/6 + 1/12 + ... = 1). The endpoints
share that probability.

A difference must matter, too: of many requests, a test finds differences that nobody minds.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import field

from homeport.contract import recorded
from homeport.contract.dataclass import dataclass
from homeport.contract.traffic import RequestRecord

LEAST = 5  # requests of the new version, before the first look
GROWTH = 1.25  # of the sample between two looks
ALPHA = 0.005  # for errors, and as much for latency: how often a version as good as the other one is rolled back
LEAST_WORSE = 0.005  # more of the requests must fail, as a share of all
QUANTILE = 0.95
LEAST_TIMED = 20  # requests of the old version, for its quantile
SLOWER, SLOWER_MS = 1.5, 50  # the bound: that many times the quantile, and at least so much more
FAILED_STARTS = 2  # of a function in a row

#: How a request may end early without a fault of the version.
_EXCUSED = (recorded.ENDINGS["C"], recorded.ENDINGS["c"])
#: Statuses by which the ingress says that no container has answered; with others it refuses a request itself.
_UNANSWERED = (500, 502, 503, 504)


@dataclass(slots=True, kw_only=True)
class Counts:
    """The requests of one version to one endpoint."""

    requests: int = 0
    failed: int = 0
    times: Counter[int] = field(
        default_factory=Counter
    )  # milliseconds -> requests, of those that waited for no start

    def add(self, outcome: "Outcome") -> None:
        """Count one request."""
        self.requests += 1
        self.failed += outcome.failed
        if outcome.ms is not None:
            self.times[_rounded(outcome.ms)] += 1

    def quantile(self, share: float = QUANTILE) -> int | None:
        """Return the milliseconds that this share of the requests did not exceed; None without requests."""
        left = share * self.times.total()
        for ms in sorted(self.times):
            left -= self.times[ms]
            if left <= 0:
                return ms
        return None

    def slower(self, bound_ms: float) -> int:
        """Return how many took longer."""
        return sum(count for ms, count in self.times.items() if ms > bound_ms)


@dataclass(slots=True, kw_only=True)
class Pair:
    """The requests to one endpoint, by version."""

    old: Counts = field(default_factory=Counts)
    new: Counts = field(default_factory=Counts)
    looked: int = 0  # looks so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one request went."""

    failed: bool
    ms: int | None  # the app's part, until the first byte; None: it does not count


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Failed starts in a row of one function, by version."""

    old: int
    new: int


def outcome(request: RequestRecord) -> Outcome | None:
    """Return how a request went; None: it says nothing of a version.

    A failure is a 5xx, a timeout, or a container that died. A 4xx is none, and a visitor who left says nothing.
    """
    if request.kind != "visit" or request.ended in _EXCUSED or not request.status:
        return None
    if not request.container and request.status not in _UNANSWERED:
        return None  # the ingress has refused it, whatever the version
    failed = request.status >= 500 or bool(request.ended)
    is_timed = bool(request.container) and not request.cold
    return Outcome(failed=failed, ms=request.parts_ms.get("app", 0) if is_timed else None)


def worse(tag: str, pair: Pair, endpoints: int) -> str:
    """Return why the new version is worse at an endpoint; empty: nothing says so, or it is not time for a look.

    `endpoints` are compared in all. Notes in `pair` that there was a look.
    """
    look = looks(pair.new.requests)
    if look <= pair.looked:
        return ""
    pair.looked = look
    alpha = ALPHA / (look * (look + 1)) / max(endpoints, 1)
    return _fails_more(tag, pair, alpha) or _is_slower(tag, pair, alpha)


def looks(requests: int) -> int:
    """Return how many looks there are until a sample has this size.

    >>> [looks(n) for n in (0, 4, 5, 6, 7, 50, 5000)]
    [0, 0, 1, 1, 2, 11, 31]
    """
    if requests < LEAST:
        return 0
    return 1 + int(math.log(requests / LEAST) / math.log(GROWTH) + 1e-9)


def at_the_end(pairs: Mapping[str, Pair]) -> str:
    """Return why a version is not promoted when its time is over: too few requests for a test, and most of them failed."""
    for tag, pair in pairs.items():
        if 2 * pair.new.failed > pair.new.requests and 2 * pair.old.failed <= pair.old.requests:
            return f"`{tag}`: {_failed(pair)}"
    return ""


def cannot_start(starts: Mapping[str, Starts]) -> str:
    """Return which function's containers do not start, while those of the old version do; empty: none."""
    for name, counts in starts.items():
        if counts.new >= FAILED_STARTS and not counts.old:
            return f"`{name}`: its containers do not start"
    return ""


def fisher(new_hits: int, new: int, old_hits: int, old: int) -> float:
    """Return the probability that chance gives the new sample at least so many of all hits (Fisher, one-sided).

    >>> fisher(5, 5, 0, 45) < 1e-6, fisher(1, 5, 9, 45) > 0.5, fisher(0, 5, 0, 45)
    (True, True, 1.0)
    """
    hits, total = new_hits + old_hits, new + old
    most = min(hits, new)
    if new_hits <= max(0, hits - old):
        return 1.0
    term = math.exp(
        _log_choose(hits, new_hits)
        + _log_choose(total - hits, new - new_hits)
        - _log_choose(total, new)
    )
    probability = 0.0
    for hit in range(new_hits, most + 1):
        probability += term
        term *= (hits - hit) * (new - hit) / ((hit + 1) * (total - hits - new + hit + 1))
        if term < probability * 1e-12:
            break
    return min(probability, 1.0)


def bound_ms(old: Counts) -> float | None:
    """Return what a request may take; None: the old version has answered too few to say."""
    if old.times.total() < LEAST_TIMED or (usual := old.quantile()) is None:
        return None
    return max(SLOWER * usual, usual + SLOWER_MS)


def _fails_more(tag: str, pair: Pair, alpha: float) -> str:
    old, new = pair.old, pair.new
    excess = new.failed / max(new.requests, 1) - old.failed / max(old.requests, 1)
    if excess < LEAST_WORSE or fisher(new.failed, new.requests, old.failed, old.requests) > alpha:
        return ""
    return f"`{tag}`: {_failed(pair)}"


def _failed(pair: Pair) -> str:
    return (
        f"{pair.new.failed} of {pair.new.requests} requests of the new version failed, "
        f"and {pair.old.failed} of {pair.old.requests} of the old one"
    )


def _is_slower(tag: str, pair: Pair, alpha: float) -> str:
    bound, usual = bound_ms(pair.old), pair.new.quantile()
    if bound is None or usual is None or usual <= bound:
        return ""
    new, old = pair.new.times.total(), pair.old.times.total()
    if fisher(pair.new.slower(bound), new, pair.old.slower(bound), old) > alpha:
        return ""
    return (
        f"`{tag}`: the 95th percentile of the new version is {usual} ms, "
        f"and {pair.old.quantile()} ms of the old one"
    )


def _rounded(ms: int) -> int:
    """Return the time with two digits, so that there are few of them."""
    if ms < 100:
        return ms
    scale: int = 10 ** (len(str(ms)) - 2)
    return ms // scale * scale


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
