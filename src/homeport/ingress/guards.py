"""Proxy tokens and rate limits, as lines of haproxy.cfg. Only requests to endpoints that have one of them come here.

The map `guards` has an entry for such an endpoint, and the map `tokens` one for each realm of a token:

    guards    endpoint -> REALMS|0 : COUNT : UNIT : RETRY : KEY [: PART : OTHER]      REALMS are separated by dots, the widest first
    tokens    REALM-ID -> HASH : UNTIL : FORMER HASH : FORMER UNTIL : COUNT : UNIT : RETRY

One entry has everything, so one command of the Runtime API changes it, with no request between two states. HASH is the secret's SHA-256, UNTIL is in
seconds since the epoch, COUNT, UNIT (`s` or `m`) and RETRY are a rate, or `0:-:0`. Of the requests to an endpoint with a canary, PART in 1,000 continue
as requests to the endpoint OTHER. That is decided here because requests to other endpoints do not come here, and so pay nothing for it.

A request with a right secret counts for its token; a request that no rule refuses counts for the endpoint too. The
counters' keys are the token's id in the map
and the endpoint's own key, so nothing that a visitor writes (another case, another host, X-Forwarded-For, a field
twice) makes another counter, and a request
with a wrong secret is not counted.
"""

import re

from homeport.contract.rates import PERIODS_S, Rate

SET = "  tcp-request content set-var(txn.{}) {}"
TABLES = {"s": "rates_s", "m": "rates_m"}  # one for each unit of a rate
USED_S = 24 * 3600  # how long a table remembers when a token was used
COUNTERS = 5  # of a request: 0 to 2 are those of rules.py and remote.py
NEVER = "9999999999"
NO_REALM = "1"  # an endpoint of no realm
_TOKEN, _ENDPOINT = 3, 4
#: By these fields, frameworks take one method for another one; a preflight needs no token, so it is no other method.
_OTHER_METHODS = "^(x-http-method|x-http-method-override|x-method-override)$"


def refused(status: int, text: str, condition: str) -> list[str]:
    """Return the rule that refuses the request if none before has; `lua.refuse` gives the answer."""
    return [
        f'  tcp-request content set-var(txn.refused,ifnotexists) "str({status} {text})" if {condition}'
    ]


def rules(*, preflights: bool) -> list[str]:
    """Return the rules that check a token, and count the request."""
    return [
        "  # who asks",
        "  acl protected var(txn.realms) -m found",
        "  acl bearer var(txn.bearer) -m found",
        "  acl pair var(txn.key) -m found",
        "  acl passed var(txn.passed) -m found",
        "  tcp-request content accept unless guarded",
        SET.format("realms", "var(txn.guard),field(1,:) if !{ var(txn.guard) -m beg 0 }"),
        *(_preflights() if preflights else []),
        SET.format("key", "req.hdr(modal-key) if protected"),
        SET.format("secret", "req.hdr(modal-secret) if protected"),
        SET.format("bearer", "http_auth_bearer if protected !pair"),
        SET.format("key", "var(txn.bearer),field(1,.) if bearer"),
        SET.format("secret", "var(txn.bearer),field(2,.) if bearer"),
        "  acl entry var(txn.entry) -m found",
        *(
            SET.format(
                "entry",
                f"var(txn.realms),field({place},.),concat(-,txn.key),map_str(tokens.map) if protected !entry",
            )
            for place in (1, 2, 3)
        ),
        *_secret(),
        *refused(401, "missing credentials for proxy authorization", "protected !pair"),
        *refused(401, "invalid credentials for proxy authorization", "protected !passed"),
        *_limits(),
        *_split(),
    ]


def _preflights() -> list[str]:
    """Let a preflight of CORS through without a token (Fetch, 3.2.2): a browser sends none with it."""
    return [
        "  acl of_origin req.fhdr(origin) -m found",
        "  acl of_method req.fhdr(access-control-request-method) -m found",
        SET.format("preflight", "bool(true) if protected METH_OPTIONS of_origin of_method"),
        "  acl preflight var(txn.preflight) -m found",
        "  tcp-request content unset-var(txn.realms) if preflight",
    ]


def of_preflights() -> list[str]:
    """Return the rule that changes a preflight before the app sees it."""
    return [f"  http-request del-header {_OTHER_METHODS} -m reg if preflight"]


def _secret() -> list[str]:
    right = "{ var(txn.given),secure_memcmp(txn.expected) -m bool }"
    return [
        SET.format("given", "var(txn.secret),sha2(256),hex,lower if entry"),
        SET.format("expected", "var(txn.entry),field(1,:) if entry"),
        SET.format("until", "var(txn.entry),field(2,:) if entry"),
        "  acl expired date,sub(txn.until) ge 0",
        SET.format("passed", f"bool(true) if entry !expired {right}"),
        SET.format("expected", "var(txn.entry),field(3,:) if entry !passed"),
        SET.format("former", "var(txn.entry),field(4,:) if entry !passed"),
        "  acl former_expired date,sub(txn.former) ge 0",
        SET.format("passed", f"bool(true) if entry !passed !expired !former_expired {right}"),
    ]


def _limits() -> list[str]:
    """Refuse a request over a rate. The rules of `counted` count the requests that are not refused."""
    return [
        "  # how often",
        SET.format("count", "var(txn.entry),field(5,:) if passed"),
        *_over("passed", "entry", 6, "key", "count", "too many requests with this token"),
        SET.format(
            "limited", "var(txn.guard),field(5,:) unless { var(txn.guard),field(2,:) -m str 0 }"
        ),
        "  acl rated var(txn.limited) -m found",
        SET.format("rate", "var(txn.guard),field(2,:) if rated"),
        *_over("rated", "guard", 3, "limited", "rate", "too many requests for this endpoint"),
        # A token without a rate counts too: that is how its last use is known.
        *_chosen("passed", "entry", 6, "token", "key"),
        *_chosen("rated", "guard", 3, "endpoint", "limited"),
    ]


def _split() -> list[str]:
    """Lead a part of the requests to the endpoint of another version: all that follows goes by the endpoint."""
    return [
        "  # for which version",
        SET.format("part", "var(txn.guard),field(6,:)"),
        "  tcp-request content accept unless { var(txn.part) -m len gt 0 }",
        # The random number is drawn once: an acl would draw it again at each use.
        SET.format("drawn", "rand(1000),sub(txn.part)"),
        "  acl led var(txn.drawn) -m int lt 0",
        SET.format("main", "var(txn.endpoint) if led"),
        SET.format("endpoint", "var(txn.guard),field(7,:) if led"),
    ]


def _over(condition: str, entry: str, unit: int, key: str, count: str, text: str) -> list[str]:
    """Return the rules that refuse a request over a rate, whose unit is a field of the entry."""
    lines = []
    for name, table in TABLES.items():
        over = (
            f"{condition} {{ var(txn.{entry}),field({unit},:) -m str {name} }} "
            f"{{ var(txn.{key}),table_http_req_rate({table}),sub(txn.{count}) ge 0 }}"
        )
        lines += [
            SET.format("retry_after", f"var(txn.{entry}),field({unit + 1},:) if {over}"),
            *refused(429, text, over),
        ]
    return lines


def _chosen(condition: str, entry: str, unit: int, what: str, key: str) -> list[str]:
    """Return the rules that choose the table in which the request counts."""
    by_s = f"{{ var(txn.{entry}),field({unit},:) -m str s }}"
    return [
        SET.format(f"{what}_s", f"var(txn.{key}) if {condition} {by_s}"),
        SET.format(f"{what}_m", f"var(txn.{key}) if {condition} !{by_s}"),
    ]


def counted() -> list[str]:
    """Return the rules that count a request that no rule has refused. These run for each request, so they are few."""
    return [
        f"  http-request track-sc{counter} var(txn.{what}_{unit}) table {table} "
        f"if {{ var(txn.{what}_{unit}) -m found }}"
        for counter, what in ((_TOKEN, "token"), (_ENDPOINT, "endpoint"))
        for unit, table in TABLES.items()
    ]


def tables() -> list[str]:
    """Return the tables of counters. A visitor cannot fill them: only tokens and endpoints have entries."""
    return [
        line
        for unit, table in TABLES.items()
        for line in (
            f"backend {table}",
            (
                f"  stick-table type string len 64 size 20k expire {USED_S}s "
                f"store http_req_rate({PERIODS_S[unit]}s)"
            ),
        )
    ]


def used(text: str) -> dict[str, float]:
    """Return how many seconds ago each token was used, from the answers to `show table`.

    >>> used("# table: rates_m, type: string, size:1, used:1\\n0x7: key=wk-a use=0 exp=86390000 shard=0\\n")
    {'wk-a': 10.0}
    """
    lines = re.finditer(r"^0x[0-9a-f]+: key=(wk-\S+) use=\d+ exp=(\d+)", text, re.MULTILINE)
    used_s: dict[str, float] = {}
    for line in lines:
        age_s = max(0.0, USED_S - int(line[2]) / 1000)
        used_s[line[1]] = min(age_s, used_s.get(line[1], age_s))
    return used_s


def rate_fields(rate: Rate | None) -> str:
    """Return a rate as three fields of an entry."""
    return "0:-:0" if rate is None else f"{rate.count}:{rate.unit}:{rate.retry_after_s}"
