"""`modal.gpu`: the older way to name a GPU. Each class gives the string that `gpu=` takes today."""


class _Named(str):
    """`A100(count=2)` is the string `"A100:2"`."""

    __slots__ = ()
    model = ""

    def __new__(  # noqa: PYI034 - no Self in Python 3.10
        cls, *, count: int = 1, size: str | None = None, memory: int | str | None = None
    ) -> "_Named":
        """Return the name; `size` is such as `"80GB"`, `memory` such as 80."""
        gigabytes = str(size or memory or "").upper().removesuffix("GB")
        larger = "-80GB" if cls.model == "A100" and gigabytes == "80" else ""
        return super().__new__(cls, f"{cls.model}{larger}{f':{count}' if count > 1 else ''}")


class T4(_Named):
    """NVIDIA T4."""

    model = "T4"


class L4(_Named):
    """NVIDIA L4."""

    model = "L4"


class A10G(_Named):
    """NVIDIA A10."""

    model = "A10"


class L40S(_Named):
    """NVIDIA L40S."""

    model = "L40S"


class A100(_Named):
    """NVIDIA A100, with 40 or 80 GB."""

    model = "A100"


class H100(_Named):
    """NVIDIA H100."""

    model = "H100"


class Any(_Named):
    """Any model of GPU."""

    model = "any"
