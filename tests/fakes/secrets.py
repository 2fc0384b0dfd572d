"""Secrets for a fleet that has none."""


class NoSecrets:
    """A secret box with nothing in it."""

    def of(self, _scope) -> "NoSecrets":
        return self

    def environ(self, _spec) -> dict[str, str]:
        return {}
