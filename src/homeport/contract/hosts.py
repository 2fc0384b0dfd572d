"""Which hosts a certificate is for: names and wildcards, as browsers compare them (RFC 9525, 6.3)."""

import re
from collections.abc import Collection, Iterable

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


def is_name(text: str) -> bool:
    """Return whether the text is a host in lower case, or a wildcard such as `*.example.com`."""
    return len(text) <= 253 and _NAME.fullmatch(text) is not None


def covers(names: Iterable[str], host: str) -> bool:
    """Return whether one of a certificate's names is the host's.

    A wildcard stands for one label, and only a wildcard covers a wildcard.

    >>> covers(["*.example.com"], "a.example.com"), covers(["*.example.com"], "a.b.example.com")
    (True, False)
    """
    _, _, parent = host.partition(".")
    covered = set(names)
    return host in covered or (parent != "" and f"*.{parent}" in covered)


def overlaps(domain: str, others: Collection[str]) -> bool:
    """Return whether a domain and another one have a host in common, because one is a wildcard that covers the other.

    >>> overlaps("a.example.com", {"*.example.com"}), overlaps("*.example.com", {"a.example.com"})
    (True, True)
    >>> overlaps("a.example.com", {"a.example.com", "b.example.com", "*.com"})
    False
    """
    star, _, parent = domain.partition(".")
    if star != "*":
        return f"*.{parent}" in others
    return any(other != domain and other.partition(".")[2] == parent for other in others)
