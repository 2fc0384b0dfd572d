"""Says when an alert fires, and when that is over: pure functions of numbers and the clock.

It fires as soon as its number is beyond its limit, and is over when the number has been within the limit for a whole window.
So something that comes and goes makes one message, and not one each time.
"""

from homeport.contract.dataclass import dataclass

MOST_REQUESTS_AWAY = 10  # with fewer requests in the window, errors and latency say nothing
OK, FIRING = "ok", "firing"
#: Kind -> its limit by default.
LIMITS = {
    "errors": 5.0,
    "latency": 1000.0,
    "starts": 3.0,
    "canary": 1.0,
    "disk": 90.0,
    "certificate": 7.0,
    "machine": 1.0,
}
#: The kinds that are about the whole server.
OF_SERVER = ("disk", "certificate", "machine")
#: The kinds whose values the server's loop holds and changes: no thread may read them.
OF_LOOP = ("canary", "certificate", "machine")
#: The kinds that look back for a time.
WITH_WINDOW = ("errors", "latency", "starts")
CALM_S = 60.0  # for the other kinds
LONGEST_WAIT_S = 600.0  # before a message is sent again
GIVEN_UP_S = 86400.0  # a message that could not be delivered for so long,
GIVEN_UP_TRIES = 10  # and so often: the machine's clock may have jumped


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The worst number of those that an alert watches."""

    value: float
    what: str = ""  # the subject: `shop.price`, `www.example.com`
    why: str = ""  # the cause, where one is known


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How an alert is."""

    state: str = OK
    since: float = 0.0
    good_since: float | None = None  # of one that fires: since when its number is within the limit


def is_bad(kind: str, limit: float, measured: Measured | None) -> bool:
    """Return whether a number is beyond its limit; False if nothing was measured.

    >>> is_bad("errors", 5.0, Measured(value=5.0)), is_bad("certificate", 7.0, Measured(value=6.9))
    (True, True)
    >>> is_bad("latency", 100.0, Measured(value=99.0)), is_bad("starts", 3.0, None)
    (False, False)
    """
    if measured is None:
        return False
    return measured.value < limit if kind == "certificate" else measured.value >= limit


def after(before: State, *, bad: bool, calm_s: float, now: float) -> State:
    """Return the state of an alert after a look; a message is sent if it is another one than before.

    `calm_s` is how long the values must be good until an alert that fires is over.
    """
    if bad:
        if before.state == FIRING:
            return State(state=FIRING, since=before.since)
        return State(state=FIRING, since=now)
    if before.state != FIRING:
        return before
    good_since = before.good_since
    if good_since is None or good_since > now:  # the machine's clock was set back
        good_since = now
    if now - good_since >= calm_s:
        return State(state=OK, since=now)
    return State(state=FIRING, since=before.since, good_since=good_since)


def calm_s(kind: str, window_s: float) -> float:
    """Return how long nothing must be wrong."""
    return max(window_s, CALM_S) if kind in WITH_WINDOW else CALM_S


def describe(kind: str, limit: float, measured: Measured | None) -> str:
    """Return the measured value as text.

    >>> describe("errors", 5.0, Measured(value=12.5, what="shop.price"))
    'shop.price: 12.5 % of the requests failed (limit 5 %)'
    >>> describe("canary", 1.0, Measured(value=1.0, what="shop v2", why="it is slow"))
    'shop v2: the canary was rolled back: it is slow'
    """
    if measured is None:
        return ""
    value, bound = f"{round(measured.value, 1):g}", f"{limit:g}"
    text = {
        "errors": f"{value} % of the requests failed (limit {bound} %)",
        "latency": f"the 99th percentile is {value} ms (limit {bound} ms)",
        "starts": f"{value} containers did not start (limit {bound})",
        "canary": f"the canary was rolled back: {measured.why}",
        "disk": f"{value} % of the disk is used (limit {bound} %)",
        "machine": f"machines that do not answer: {measured.why}",
        "certificate": f"the certificate is valid for {value} more days (limit {bound})",
    }[kind]
    return f"{measured.what}: {text}" if measured.what else text


def wait_s(tries: int) -> float:
    """Return how long to wait before a message is sent again.

    >>> [wait_s(tries) for tries in (1, 2, 3, 20)]
    [5.0, 10.0, 20.0, 600.0]
    """
    return min(5.0 * 2.0 ** min(tries - 1, 20), LONGEST_WAIT_S)


def is_due(next_at: float, now: float) -> bool:
    """Return whether a message is sent again now; so is one that would wait too long, for the clock was set back.

    >>> is_due(5.0, 5.0), is_due(6.0, 5.0), is_due(5.0 + 601.0, 5.0)
    (True, False, True)
    """
    return not now < next_at <= now + LONGEST_WAIT_S


def is_given_up(tries: int, age_s: float) -> bool:
    """Return whether a message that could not be delivered is not sent again.

    >>> is_given_up(10, 86401.0), is_given_up(10, 86400.0), is_given_up(9, 86401.0)
    (True, False, False)
    """
    return age_s > GIVEN_UP_S and tries >= GIVEN_UP_TRIES
