"""Names of hosts, for the limits of a certification authority; pure functions of text.

A name is lower case, without a port, and may begin with `*.`. `contract/hosts` says what it covers.
"""

#: Second labels below a country's code under which domains are sold: `example.co.uk` is one domain.
_SOLD_BELOW = frozenset(
    ("ac", "co", "com", "edu", "go", "gob", "gov", "gv", "ne", "net", "nom", "or", "org")
)


def is_wildcard(name: str) -> bool:
    """Return whether a name stands for all hosts one label below."""
    return name.startswith("*.")


def registered(host: str) -> str:
    """Return the domain that was registered with a registry, for the limits of a certification authority.

    A guess without the list of public suffixes. Where it is wrong, it takes two domains for one, so homeport orders
    more slowly than it might.

    >>> registered("*.apps.example.com"), registered("a.example.co.uk"), registered("localhost")
    ('example.com', 'example.co.uk', 'localhost')
    """
    parts = host.removeprefix("*.").split(".")
    sold = len(parts) > 2 and len(parts[-1]) == 2 and parts[-2] in _SOLD_BELOW
    return ".".join(parts[-3:] if sold else parts[-2:])
