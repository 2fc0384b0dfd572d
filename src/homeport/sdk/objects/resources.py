"""Small values that a script declares: `Retries`, `Cron`, `Period`."""

from typing import Any

from homeport.contract.schedules import Schedule
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
    """A schedule as cron has it: `Cron("0 9 * * 1-5", timezone="Europe/Paris")`.

    The five fields are minute, hour, day of the month, month and day of the week. The function runs on the
    server's machine at these times of that time zone, whatever daylight saving does.
    """

    def __init__(self, cron_string: str, timezone: str = "UTC") -> None:
        for name, value in (("cron_string", cron_string), ("timezone", timezone)):
            if not isinstance(value, str) or not value:
                raise InvalidError(f"`{name}` of a Cron must be text, not {value!r}")
        self.cron_string, self.timezone = cron_string, timezone

    @property
    def spec(self) -> Schedule:
        """The manifest's description of it."""
        return Schedule(cron=" ".join(self.cron_string.split()), timezone=self.timezone)

    def __repr__(self) -> str:
        return self.spec.text


class Period:
    """A schedule: the time between two runs, `Period(hours=6)`. The first run is that long after the deploy."""

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

    @property
    def spec(self) -> Schedule:
        """The manifest's description of it."""
        parts = self.parts
        return Schedule(
            months=int(12 * parts["years"] + parts["months"]),
            days=int(7 * parts["weeks"] + parts["days"]),
            seconds=3600.0 * parts["hours"] + 60.0 * parts["minutes"] + parts["seconds"],
        )

    def __repr__(self) -> str:
        return self.spec.text


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidError(f"Invalid `{name}`: {value}. It must be between {low} and {high}.")
