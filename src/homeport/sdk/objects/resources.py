"""Small values that a script declares: `Retries`, `Cron`, `Period`."""

from typing import Any

from homeport.sdk.exception import InvalidError


class Retries:
    """A policy for trying a failed call again. Not for web functions."""

    def __init__(
        self,
        *,
        max_retries: int,
        backoff_coefficient: float = 2.0,
        initial_delay: float = 1.0,  # seconds
        max_delay: float = 60.0,  # seconds
    ) -> None:
        if max_retries < 0:
            raise InvalidError(
                f"Invalid retries number: {max_retries}. Function retries must be non-negative."
            )
        _between("backoff_coefficient", backoff_coefficient, 1, 10)
        _between("initial_delay", initial_delay, 0, 60)
        _between("max_delay", max_delay, 1, 60)
        self.max_retries = max_retries
        self.backoff_coefficient = backoff_coefficient
        self.initial_delay = initial_delay
        self.max_delay = max_delay


class Cron:
    """A schedule, written for cron. Schedules are not there yet."""

    def __init__(self, cron_string: str, timezone: str = "UTC") -> None:
        self.cron_string, self.timezone = cron_string, timezone


class Period:
    """A schedule: the time between two runs. Schedules are not there yet."""

    def __init__(
        self,
        *,
        years: int = 0,
        months: int = 0,
        weeks: int = 0,
        days: int = 0,
        hours: int = 0,
        minutes: int = 0,
        seconds: float = 0.0,
    ) -> None:
        whole: dict[str, Any] = {
            "years": years, "months": months, "weeks": weeks,
            "days": days, "hours": hours, "minutes": minutes,
        }  # fmt: skip
        for name, value in whole.items():
            if not isinstance(value, int):
                raise TypeError(f"`{name}` must be an int, not {type(value).__name__}")
        self.parts = {**whole, "seconds": float(seconds)}


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidError(f"Invalid `{name}`: {value}. It must be between {low} and {high}.")
