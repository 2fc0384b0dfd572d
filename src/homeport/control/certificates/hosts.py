"""Names of hosts and what a certificate's names cover; pure functions of text.

A name is lower case, without a port, and may begin with `*.`: a wildcard, which stands for one label (RFC 6125, 6.4.3).
"""

from collections.abc import Collection

#: Second labels below a country's code under which domains are sold: `example.co.uk` is one domain.
_SOLD_BELOW = frozenset(
    ("ac", "co", "com", "edu", "go", "gob", "gov", "gv", "ne", "net", "nom", "or", "org")
)


def is_wildcard(name: str) -> bool:
    """Return whether a name stands for all hosts one label below."""
    return name.startswith("*.")


def covers(name: str, host: str) -> bool:
    """Return whether a certificate for `name` is good for `host`.

    >>> covers("*.a.test", "x.a.test"), covers("*.a.test", "a.test"), covers("*.a.test", "x.y.a.test")
    (True, False, False)
    """
    if name == host:
        return True
    label, _, rest = host.partition(".")
    return is_wildcard(name) and label != "*" and bool(label) and name[2:] == rest


def covered(names: Collection[str], host: str) -> bool:
    """Return whether one of a certificate's names is good for `host`."""
    return any(covers(name, host) for name in names)


def registered(host: str) -> str:
    """Return the domain that somebody has registered, for the limits of a certification authority.

    A guess without the list of public suffixes. Where it is wrong, it takes two domains for one, so homeport orders
    more slowly than it might.

    >>> registered("*.apps.example.com"), registered("a.example.co.uk"), registered("localhost")
    ('example.com', 'example.co.uk', 'localhost')
    """
    parts = host.removeprefix("*.").split(".")
    sold = len(parts) > 2 and len(parts[-1]) == 2 and parts[-2] in _SOLD_BELOW
    return ".".join(parts[-3:] if sold else parts[-2:])
