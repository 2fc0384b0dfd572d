"""Medians with their spread, and ratios of pairs. Pure."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """What several runs of one measure gave."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        """`median (least-most)`, or the one value that there is.

        >>> str(Spread(12.34, 9.5, 20.0))
        '12.3 (9.50-20.0)'
        """
        if self.least == self.most:
            return number(self.median)
        return f"{number(self.median)} ({number(self.least)}-{number(self.most)})"


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values))


def ratios(pairs: Sequence[tuple[float, float]]) -> Spread:
    """Of (reference, own) pairs that were measured in turn: each pair's own ratio, own/reference.

    A machine that slows down slows both of a pair, so this is steadier than a ratio of medians.
    """
    return spread(own / reference for reference, own in pairs)


def differences(pairs: Sequence[tuple[float, float]]) -> Spread:
    """Of (reference, own) pairs that were measured in turn: own - reference of each."""
    return spread(own - reference for reference, own in pairs)


def number(value: float) -> str:
    """Three significant digits, and thousands apart.

    >>> [number(v) for v in (12345.6, 123.4, 12.34, 1.234, 0.01234, 0, -4.5)]
    ['12,346', '123', '12.3', '1.23', '0.01', '0', '-4.50']
    """
    if value == 0:
        return "0"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{digits}f}"
