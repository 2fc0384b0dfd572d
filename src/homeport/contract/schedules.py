"""When a deployed function runs by itself: `modal.Cron` and `modal.Period`, as the manifest has them."""

from homeport.contract.dataclass import dataclass

MAX_TEXT = 200  # characters
MAX_MONTHS, MAX_DAYS, MAX_S = 1200, 36_500, 3.2e9  # a hundred years
LEAST_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A time table for cron, or the time between two runs."""

    cron: str = ""  # minute, hour, day of the month, month, day of the week; empty: it is a period
    timezone: str = "UTC"  # of `cron`, as the IANA names it
    months: int = 0  # of a period: calendar months
    days: int = 0  # of a period: 24 hours each
    seconds: float = 0.0  # of a period

    @property
    def text(self) -> str:
        """The schedule in words, for messages.

        >>> Schedule(cron="0 9 * * 1-5", timezone="Europe/Paris").text
        'Cron("0 9 * * 1-5", timezone="Europe/Paris")'
        >>> Schedule(days=1, seconds=30).text
        'Period(days=1, seconds=30)'
        """
        if self.cron:
            return f'Cron("{self.cron}", timezone="{self.timezone}")'
        parts = (("months", self.months), ("days", self.days), ("seconds", self.seconds))
        return f"Period({', '.join(f'{name}={value:g}' for name, value in parts if value)})"

    def problem(self) -> "str | None":
        """Return why it cannot be a schedule, in words; None if it can, as far as this module knows cron.

        >>> Schedule(cron="0 9 * *").problem()
        'has 4 fields, and cron needs 5: minute, hour, day of the month, month, day of the week'
        """
        if self.cron:
            return self._problem_of_cron()
        if self.months < 0 or self.days < 0 or self.seconds < 0:
            return "has a negative part"
        if not (self.months or self.days) and self.seconds < LEAST_S:
            return f"is shorter than {LEAST_S:g} second"
        if self.months > MAX_MONTHS or self.days > MAX_DAYS or self.seconds > MAX_S:
            return "is longer than a hundred years"
        return None

    def _problem_of_cron(self) -> "str | None":
        if self.months or self.days or self.seconds:
            return "is both a Cron and a Period"
        if max(len(self.cron), len(self.timezone)) > MAX_TEXT:
            return f"has more than {MAX_TEXT} characters"
        count = len(self.cron.split())
        if count != 5:
            return (
                f"has {count} fields, and cron needs 5: "
                "minute, hour, day of the month, month, day of the week"
            )
        return None
