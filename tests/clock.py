"""A clock that a test sets."""


class Clock:
    """Returns `at`, in seconds."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at
